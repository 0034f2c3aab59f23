"""The gap of TLM: nats beside the translation, beside another sentence, and alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.analysis.models import lines, tiny
from xlm.analysis.alignment import wrong_partners
from xlm.analysis.tlm_gap import (
    DIFFERENCES,
    GapSums,
    gap_differences,
    gap_rows,
    joined_rows,
    read_gap,
    tlm_gap,
)
from xlm.errors import CheckpointError, ConfigError
from xlm.model.score import Scoring, score


def test_nats_are_those_of_the_scored_lines() -> None:
    model, first, second = tiny(), lines("en", 6), lines("hi", 6)
    own = tlm_gap(model, first, second, ("en", "hi"))
    settings = Scoring(language="hi", source_language="en", kind="masked", ends=False, folds=7)
    sizes = [len(model.tokenizer.encode(line)) for line in first]
    partners = [first[at] for at in wrong_partners(sizes)]
    for name, sources in (("true", first), ("wrong", partners), ("alone", None)):
        scored = score(model, second, settings, sources=sources)
        nats = sum(line.nats for line in scored) / sum(line.subwords for line in scored)
        assert own[name].value == pytest.approx(nats, rel=1e-6)
    assert own["gain"].value == pytest.approx(own["alone"].value - own["true"].value)
    assert own["gap"].value == pytest.approx(own["wrong"].value - own["true"].value)
    for name in ("gain", "gap"):
        other = {"gain": "alone", "gap": "wrong"}[name]
        difference = own["accuracy, true"].value - own[f"accuracy, {other}"].value
        assert own[f"accuracy, {name}"].value == pytest.approx(difference)


def test_accuracy_counts_the_likeliest_token() -> None:
    model, line = tiny(), lines("hi", 1)[0]
    ids = np.array(model.tokenizer.encode(line))
    hits = 0
    for fold in range(7):
        row = model.tokenizer.wrap(ids)
        cells = np.arange(1, 1 + len(ids))[fold::7]
        row.tokens[cells] = model.tokenizer.mask_id
        with torch.no_grad():
            hidden = model.encode(model.batch_rows([row], "hi"))
            likeliest = model.transformer.encoder.project(hidden[0, cells]).argmax(-1)
        hits += int((likeliest.numpy() == ids[cells - 1]).sum())
    own = tlm_gap(model, lines("en", 1), [line], ("en", "hi"))
    assert own["accuracy, alone"].value == pytest.approx(hits / len(ids))


def test_pairs_that_do_not_fit_are_left_out() -> None:
    model = tiny()
    long = " ".join(lines("en", 20))
    own = tlm_gap(model, [*lines("en", 4), long], lines("hi", 5), ("en", "hi"))
    assert own["true"].num == 4
    assert (
        own["true"].value
        == tlm_gap(model, lines("en", 4), lines("hi", 4), ("en", "hi"))["true"].value
    )
    nothing = tlm_gap(model, [long], lines("hi", 1), ("en", "hi"))
    assert nothing["gap"].reason == "no pair fits the model's positions"


def test_one_pair_has_no_wrong_partner() -> None:
    own = tlm_gap(tiny(), lines("en", 1), lines("hi", 1), ("en", "hi"))
    for name in ("wrong", "gap", "accuracy, wrong", "accuracy, gap"):
        assert own[name].value is None and own[name].reason == "a single pair has no wrong partner"
    assert own["gain"].value == pytest.approx(own["alone"].value - own["true"].value)


def test_scores_that_overflow_are_refused() -> None:
    model = tiny()
    with torch.no_grad():
        model.transformer.encoder.layers[1].feed_forward.expand.weight.fill_(3e38)
    with pytest.raises(CheckpointError, match=r"scores for pair \d .*their sums overflow"):
        tlm_gap(model, lines("en", 2), lines("hi", 2), ("en", "hi"))


def test_texts_that_are_read_together_have_their_own_sums() -> None:
    model, nobody = tiny(language_embeddings=False), (None, None)
    texts = [("en", "hi", 6), ("hi", "ne", 9)]
    many = [gap_rows(model, lines(a, n), lines(b, n), (a, b)) for a, b, n in texts]
    together = read_gap(model, joined_rows(many), nobody)
    apart = [read_gap(model, own, nobody) for own in many]
    for own, others in zip(together, zip(*apart, strict=True), strict=True):
        np.testing.assert_allclose(own, np.concatenate(others, axis=1), rtol=1e-6)
    assert joined_rows(many).places == [own for rows in many for own in rows.places]


def test_models_are_compared_on_the_pairs_that_both_read() -> None:
    """The first model gains a nat more at every token, however much the sentences vary."""
    model, num = tiny(), 20
    first, second = lines("en", num), lines("hi", num)
    theirs = gap_rows(model, first, second, ("en", "hi"))
    first[3] = " ".join(lines("en", 20))  # too long for the first model
    ours = gap_rows(model, first, second, ("en", "hi"))
    assert ours.numbers == [at for at in theirs.numbers if at != 3] and ours.places[3] == "pair 5"
    counts = np.array([len(ids) for ids in theirs.sentences], dtype=float)
    drawn = np.random.default_rng(0).normal(size=(2, 3, num)) * 9 * counts
    sums = GapSums(*drawn)
    kept = [at for at in range(num) if at != 3]
    better = GapSums(*(own[:, kept].copy() for own in drawn))
    better.nats[0] -= counts[kept]
    own = gap_differences((ours, theirs), (better, sums))
    assert own.keys() == set(DIFFERENCES) and own["gain"].num == num - 1
    for name in ("gain", "gap"):
        for value in (own[name].value, own[name].low, own[name].high):
            assert value == pytest.approx(1)
    for name in ("accuracy, gain", "accuracy, gap"):
        assert (own[name].value, own[name].low, own[name].high) == (0, 0, 0)
    better.hits[0] += counts[kept] * np.arange(num - 1) / num
    assert gap_differences((ours, theirs), (better, sums))["accuracy, gap"].low > 0.1
    nothing = gap_rows(model, first[3:4], second[3:4], ("en", "hi"))
    none = gap_differences((nothing, theirs), (GapSums(*np.zeros((2, 3, 0))), sums))["gain"]
    assert none.reason == "no pair fits the positions of both models"


def test_random_weights_gain_nothing() -> None:
    own = tlm_gap(tiny(), lines("en", 30), lines("hi", 30), ("en", "hi"))
    assert own["gap"].low < 0 < own["gap"].high
    assert own["alone"].value == pytest.approx(np.log(600), abs=1)


def test_a_causal_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot see what follows a mask"):
        tlm_gap(replace(tiny(), extra={"objectives": ["CausalLM"]}), ["a"], ["b"], ("en", "hi"))
