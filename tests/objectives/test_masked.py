"""MLM and TLM: what is predicted, what the model sees, and what it costs."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.objectives.toys import (
    END,
    MASK,
    PAD,
    TOKENIZER,
    corpora,
    corpus,
    model,
    real,
    sentences,
)
from tests.training import tiny
from xlm.batch import IGNORED
from xlm.data.corpora import Corpora
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores
from xlm.objectives.masked import MaskedLM
from xlm.objectives.original import OriginalMaskedLM
from xlm.rng import Random
from xlm.run.build import build_mixture, training_streams
from xlm.training.distributed.processes import Parallel
from xlm.training.prefetch import Prefetcher

CORPORA = corpora()
SEEDS = [0, 1, 2]
MLM = MaskedLM(languages=["en", "ne"], rows=3, length=16)
TLM = MaskedLM(pairs=["en-ne"], tokens=64, length=64, num_lengths=4)


def stream(objective, split="valid", own=CORPORA, at=0, seed=0):
    return objective.streams("o", own, seed=seed, split=split)[at]


def train_batch(objective, k=0, seed=0, own=CORPORA):
    found = stream(objective, "train", own)
    examples = found.examples(k)
    return examples, objective.collate(examples, Random(seed, found.id, k), train=True)


def unmasked(objective, examples):
    """The row as it was: what no mask has touched."""
    return objective._cells(examples, train=True).tokens


# What is predicted in training.


@pytest.mark.parametrize("objective", [MLM, TLM], ids=["mlm", "tlm"])
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5])
def test_the_number_of_targets_is_exact(objective, rate):
    objective = replace(objective, mask_rate=rate)
    for k in range(12):
        _, batch = train_batch(objective, k)
        num_real = int(batch.lengths.sum())
        predict, _ = real(batch)
        assert len(predict) == len(set(predict)) == batch.count == -(-num_real * rate // 1)
        assert len(batch.predict) % 8 == 0
        assert len(batch.predict) - batch.count < 8
        assert (batch.targets[batch.count :] == IGNORED).all()


@pytest.mark.parametrize("objective", [MLM, TLM], ids=["mlm", "tlm"])
def test_targets_are_the_tokens_that_were_there_and_all_else_is_seen(objective):
    for k in range(12):
        examples, batch = train_batch(objective, k)
        before = unmasked(objective, examples).ravel()
        predict, targets = real(batch)
        assert targets == before[predict].tolist()
        rest = np.setdiff1d(np.arange(len(before)), predict)
        assert batch.tokens.flatten()[rest].tolist() == before[rest].tolist()
        at_padding = np.arange(batch.tokens.shape[1]) >= batch.lengths.numpy()[:, None]
        assert not at_padding.ravel()[predict].any()
        assert (batch.tokens.numpy()[at_padding] == PAD).all()
        assert batch.rows.tolist() == examples.rows.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_80_10_10_end_to_end(seed):
    hidden = kept = changed = 0
    drawn = Counter()
    for k in range(900):
        examples, batch = train_batch(MaskedLM(languages=["en"], rows=8, length=32), k, seed)
        predict, targets = real(batch)
        shown = batch.tokens.flatten()[predict].tolist()
        for token, target in zip(shown, targets, strict=True):
            hidden += token == MASK
            kept += token == target
            changed += token not in (MASK, target)
            drawn.update([token] if token not in (MASK, target) else [])
    total, num_ordinary = hidden + kept + changed, 46
    assert total > 30_000
    # A random token is the target itself once in 46, but never where that is an end symbol.
    by_chance = 0.1 / num_ordinary
    expected = np.array([0.8, 0.1 + by_chance, 0.1 - by_chance]) * total
    assert stats.chisquare([hidden, kept, changed], expected).pvalue > 0.001
    assert set(drawn) <= set(range(14, 60))  # no special symbol
    assert len(drawn) == num_ordinary


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_go_by_frequency_end_to_end(seed):
    """At one target a batch its probability is known in closed form: 1/sqrt(count), scaled."""
    objective = MaskedLM(languages=["en"], rows=1, length=16, mask_rate=1 / 16)
    own = Corpora(TOKENIZER, ["en"], texts={("train", "en"): corpus(sentences(40, 10), "en")})
    found = stream(objective, "train", own)
    examples = found.examples(0)
    tokens = unmasked(objective, examples).ravel()
    weights = own.counts()[tokens].astype(float) ** -0.5
    chosen = np.zeros(len(tokens))
    for k in range(4000):
        predict, _ = real(objective.collate(examples, Random(seed, "draw", k), train=True))
        chosen[predict] += 1
    assert chosen.sum() == 4000
    assert stats.chisquare(chosen, weights / weights.sum() * 4000).pvalue > 0.001


def test_the_mask_is_a_function_of_its_address():
    _, one = train_batch(MLM, 5)
    _, same = train_batch(MLM, 5)
    _, other = train_batch(MLM, 5, seed=1)
    assert torch.equal(one.tokens, same.tokens) and torch.equal(one.predict, same.predict)
    assert not torch.equal(one.predict, other.predict)


def test_end_symbols_of_text_may_be_predicted_those_of_a_layout_never():
    def all_targets(objective):
        return Counter(t for k in range(60) for t in real(train_batch(objective, k)[1])[1])

    assert all_targets(MLM)[END] > 0
    assert all_targets(OriginalMaskedLM(languages=["en"], predict_end=False))[END] == 0
    assert all_targets(TLM)[END] == 0
    uniform = MaskedLM(languages=["en"], frequency_exponent=0.0, rows=8, length=32)
    drawn = all_targets(uniform)
    expected = CORPORA.text("train", "en").counts / len(CORPORA.text("train", "en").ids)
    assert drawn[END] / drawn.total() == pytest.approx(expected[END], abs=0.03)


@pytest.mark.parametrize(("side", "segment"), [("first", 0), ("second", 1)])
def test_one_side_alone_is_masked_and_the_rate_is_of_that_side(side, segment):
    objective = MaskedLM(pairs=["en-ne"], tokens=64, masked_side=side)
    for k in range(8):
        examples, batch = train_batch(objective, k)
        predict, _ = real(batch)
        assert set(batch.segments.flatten()[predict].tolist()) == {segment}
        other = batch.segments.numpy() != segment
        assert (batch.tokens.numpy()[other] == unmasked(objective, examples)[other]).all()
        inside = np.arange(batch.tokens.shape[1]) < batch.lengths.numpy()[:, None]
        assert batch.count == np.ceil(0.15 * (inside & ~other).sum())


# Positions, languages, layouts.


@pytest.mark.parametrize("layout", ["tlm", "tlm-run-on", "merged"])
def test_where_the_second_sentence_begins(layout):
    objective = MaskedLM(pairs=["ne-en"], tokens=64, layout=layout)
    examples, batch = train_batch(objective)
    for row, length in enumerate(batch.lengths.tolist()):
        merged = layout == "merged"  # the end symbol between them is the second sentence's (B3)
        first = len(examples.first[row]) + (1 if merged else 2)
        second = len(examples.second[row]) + 2
        assert length == first + second
        restart = range(second) if layout == "tlm" else range(first, first + second)
        assert batch.positions[row, :length].tolist() == [*range(first), *restart]
        assert batch.langs[row, :length].tolist() == [1] * first + [0] * second  # ne, then en
        assert batch.segments[row, :length].tolist() == [0] * first + [1] * second


def test_text_has_one_language_and_positions_of_the_row():
    _, batch = train_batch(MaskedLM(languages=["ne"], rows=3, length=16))
    assert (batch.langs == 1).all() and (batch.segments == 0).all()
    assert batch.positions.tolist() == [list(range(16))] * 3


def test_a_pair_with_an_empty_side_is_the_sentence_alone_but_for_the_layout():
    """TLM of (a, nothing) predicts what MLM of a predicts, from a row with two more end symbols."""
    rows = sentences(6, 3)
    nothing = [row[:0] for row in rows]
    own = Corpora(
        TOKENIZER,
        ["en", "ne"],
        texts={("train", "en"): corpus(rows, "en")},
        pairs={("valid", "en-ne"): Pairs(corpus(rows, "en"), corpus(nothing, "ne"))},
    )
    objective = MaskedLM(pairs=["en-ne"], tokens=1000, num_lengths=1)
    seen: dict[int, list] = {}
    for batch in objective.evaluation_batches(stream(objective, own=own), seed=4):
        for cell, target in zip(*real(batch), strict=True):
            row, at = divmod(cell, batch.tokens.shape[1])
            seen.setdefault(int(batch.rows[row]), []).append((at, target))
        for row, length in enumerate(batch.lengths.tolist()):
            wrapped = TOKENIZER.wrap(rows[int(batch.rows[row])])
            size = len(wrapped.tokens)
            tokens = batch.tokens[row, :size].clone()
            tokens[tokens == MASK] = torch.from_numpy(wrapped.tokens)[tokens == MASK]
            assert tokens.tolist() == wrapped.tokens.tolist()
            assert batch.positions[row, :size].tolist() == wrapped.positions.tolist()
            assert batch.tokens[row, size:length].tolist() == [END, END]
    assert {row: [target for _, target in sorted(found)] for row, found in seen.items()} == {
        row: ids.tolist() for row, ids in enumerate(rows)
    }


# Evaluation.


def cells_of(objective, found, seed=0):
    """(row, position) -> target for every prediction, in order."""
    predictions = []
    for batch in objective.evaluation_batches(found, seed):
        width = batch.tokens.shape[1]
        for cell, target in zip(*real(batch), strict=True):
            assert batch.tokens.flatten()[cell] == MASK
            row, at = divmod(cell, width)
            predictions.append(((int(batch.rows[row]), at), target))
    return predictions


@pytest.mark.parametrize("rate", [0.15, 0.5, 0.3])
def test_the_folds_predict_each_token_of_held_out_text_once_end_symbols_too(rate):
    objective = MaskedLM(languages=["en"], rows=3, length=16, mask_rate=rate)
    found = stream(objective)
    predictions = cells_of(objective, found)
    tokens = CORPORA.text("valid", "en").ids.astype(int).tolist()
    assert len(predictions) == len(tokens) == len(dict(predictions))
    assert [target for _, target in sorted(predictions)] == tokens
    assert END in tokens
    batches = list(objective.evaluation_batches(found, 0))
    assert len(batches) == found.num_batches * round(1 / rate)
    for batch in batches:  # the stated rate
        assert batch.count == pytest.approx(int(batch.lengths.sum()) / round(1 / rate), abs=1)
    kept = OriginalMaskedLM(languages=["en"], rows=3, length=16, mask_rate=rate, predict_end=False)
    assert len(cells_of(kept, stream(kept))) == len(tokens)  # a matter of training alone


def test_held_out_text_is_read_whole_however_training_text_is_cut():
    """The original's streams drop tokens and fill in others; an evaluation must not."""
    objective = OriginalMaskedLM(languages=["en"], rows=3, length=16, stream_layout="original")
    assert cells_of(objective, stream(objective)) == cells_of(MLM, stream(MLM))


def test_the_folds_predict_each_token_of_held_out_pairs_once_but_not_the_layout_s():
    predictions = cells_of(TLM, stream(TLM))
    pairs = CORPORA.pairs("valid", "en-ne")
    expected = Counter(token for side in pairs.sides for token in side.ids.tolist())
    del expected[END]
    assert Counter(target for _, target in predictions) == expected
    assert len(dict(predictions)) == len(predictions)


@pytest.mark.parametrize(("side", "at"), [("first", 0), ("second", 1)])
def test_one_side_can_be_evaluated_alone(side, at):
    objective = MaskedLM(pairs=["en-ne"], tokens=64, evaluation_side=side)
    expected = Counter(CORPORA.pairs("valid", "en-ne").sides[at].ids.tolist())
    del expected[END]
    assert Counter(t for _, t in cells_of(objective, stream(objective))) == expected


def test_evaluation_masks_are_the_same_at_each_call_and_others_for_another_seed():
    first, again = cells_of(MLM, stream(MLM), 3), cells_of(MLM, stream(MLM, seed=9), 3)
    assert first == again  # the run's seed orders training alone
    assert first != cells_of(MLM, stream(MLM), 4)


def test_fewer_folds_are_the_first_ones():
    some = MaskedLM(languages=["en"], rows=3, length=16, evaluation_folds=2)
    all_ = MaskedLM(languages=["en"], rows=3, length=16)
    few = list(some.evaluation_batches(stream(some), 0))
    many = list(all_.evaluation_batches(stream(all_), 0))
    assert len(few) == len(many) // 7 * 2
    for k in range(len(few) // 2):
        for fold in (0, 1):
            assert torch.equal(few[2 * k + fold].predict, many[7 * k + fold].predict)
    examples = stream(some).examples(0)
    shown = some.collate(examples, Random(0, "evaluate", stream(some).id, 0), train=False)
    assert torch.equal(shown.predict, few[0].predict)


def test_a_text_of_fewer_tokens_than_folds_is_predicted_all_the_same():
    own = Corpora(
        TOKENIZER,
        ["en"],
        texts={
            ("train", "en"): corpus([[20, 21, 22]], "en"),
            ("valid", "en"): corpus([[20, 21]], "en"),
        },
    )
    found = stream(MLM_EN := MaskedLM(languages=["en"]), own=own)
    assert sorted(cells_of(MLM_EN, found)) == [((0, 0), 20), ((0, 1), 21), ((0, 2), END)]
    for batch in MLM_EN.evaluation_batches(found, 0):
        assert float(MLM_EN.loss(model(), None, batch).total.detach()) >= 0


# Loss and baseline.


@pytest.mark.parametrize("objective", [MLM, TLM], ids=["mlm", "tlm"])
def test_the_loss_is_the_summed_cross_entropy_of_the_predicted_cells(objective):
    _, batch = train_batch(objective, 1)
    network = model()
    found = objective.loss(network, None, batch)
    hidden = network.encode(batch.tokens, batch.lengths, batch.positions, batch.langs)
    logits = network.predict(hidden, torch.arange(batch.tokens.numel()))
    log_probabilities = logits.log_softmax(-1)
    nats = correct = 0.0
    for cell, target in zip(*real(batch), strict=True):
        nats -= float(log_probabilities[cell, target].detach())
        correct += int(logits[cell].argmax()) == target
    assert float(found.total.detach()) == pytest.approx(nats, rel=1e-12)
    assert found.count == batch.count
    assert float(found.scores["nats"]) == pytest.approx(nats) and found.scores["correct"] == correct
    assert found.total.requires_grad and not found.scores["nats"].requires_grad
    assert objective.loss(network.train(), None, batch).scores == {}


def test_an_update_with_dropout_finishes_the_predicted_cells_alone():
    _, batch = train_batch(MLM, 2)
    for dropout, shape in ((0.0, tuple(batch.tokens.shape)), (0.1, (len(batch.predict),))):
        network, seen = model(dropout=dropout).train(), []
        part = network.encoder.layers[-1].feed_forward
        part.register_forward_hook(lambda _, given, __, seen=seen: seen.append(given[0].shape[:-1]))
        assert MLM.loss(network, None, batch).total.requires_grad
        assert seen == [shape]


def test_the_model_sees_both_ways():
    """A change of the last token changes the loss of the first cell: MLM is not causal."""
    _, batch = train_batch(MLM, 2)
    network = model()

    def hidden(tokens):
        return network.encode(
            tokens, batch.lengths, batch.positions, batch.langs, causal=MLM.causal
        )[0, 0]

    changed = batch.tokens.clone()
    changed[0, -1] = 30 if changed[0, -1] != 30 else 31
    assert not torch.equal(hidden(batch.tokens), hidden(changed))


def test_the_unigram_baseline_by_hand():
    """Add-one on the training ids of the language, end symbols included, at the same cells."""
    found = stream(MLM, at=1)  # ne
    counts = Counter(CORPORA.text("train", "ne").ids.tolist())
    total = sum(counts.values()) + 60
    expected = found_sum = 0.0
    for batch in MLM.evaluation_batches(found, 0):
        found_sum += MLM.baseline(found, batch)["unigram_nats"]
        expected -= sum(np.log((counts[target] + 1) / total) for target in real(batch)[1])
    assert found_sum == pytest.approx(expected, rel=1e-12)


def test_each_side_of_a_pair_has_its_own_unigram_model():
    objective = MaskedLM(pairs=["ne-en"], tokens=64)
    found = stream(objective)
    tables = {}
    for language in ("en", "ne"):
        counts = np.bincount(CORPORA.text("train", language).ids, minlength=60) + 1
        tables[language] = -np.log(counts / counts.sum())
    expected = found_sum = 0.0
    for batch in objective.evaluation_batches(found, 0):
        found_sum += objective.baseline(found, batch)["unigram_nats"]
        for cell, target in zip(*real(batch), strict=True):
            expected += tables[("en", "ne")[int(batch.langs.flatten()[cell])]][target]
    assert found_sum == pytest.approx(expected, rel=1e-12)


def test_without_training_text_there_is_no_baseline():
    own = Corpora(TOKENIZER, ["en"], texts={("valid", "en"): corpus([[20, 21]], "en")})
    found = stream(MaskedLM(languages=["en"]), own=own)
    batch = next(iter(MLM.evaluation_batches(found, 0)))
    assert MLM.baseline(found, batch) == {}


def test_figures_stand_for_all_subwords():
    found = stream(MLM)
    size = CORPORA.text("valid", "en").text_size
    figures = MLM.figures(found, Scores({"nats": 20.0, "targets": 10, "correct": 5}))
    assert figures["word_perplexity"] == pytest.approx(np.exp(2.0 * size.tokens / size.words))


# Settings that cannot be.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "takes either languages or pairs: found languages=\\[\\] and pairs=\\[\\]"),
        ({"languages": ["en"], "pairs": ["en-ne"]}, "list two objectives to train on both"),
        ({"languages": ["en"], "mask_rate": 0.0}, r"mask_rate must be in \(0, 0.8\]: found 0.0"),
        ({"languages": ["en"], "mask_rate": 0.9}, "found 0.9"),
        ({"languages": ["en"], "mask_rate": [[0, 0.3], [9, 0.9]]}, "found 0.9"),
        ({"languages": ["en"], "mask_rate": []}, "mask_rate: expected a number or points"),
        (
            {"languages": ["en"], "evaluation_mask_rate": 0.6},
            r"evaluation_mask_rate must be in \(0, 0.5\]: found 0.6",
        ),
        ({"languages": ["en"], "mask": 0.9}, r"shares that sum to 1: found \(0.9, 0.1, 0.1\)"),
        ({"languages": ["en"], "mask": 1.1, "keep": -0.2}, "shares that sum to 1"),
        (
            {"languages": ["en"], "evaluation_folds": 8},
            "between 1 and 7, since each .*: found 8",
        ),
        ({"languages": ["en"], "evaluation_folds": 0}, "found 0"),
        ({"languages": ["en"], "rows": 0}, "rows must be at least 1: found 0"),
        ({"pairs": ["en-ne"], "layout": "tml"}, "unknown layout 'tml': expected one of"),
        ({"pairs": ["en-ne"], "layout": "xlm"}, "layout 'xlm' does not take a pair"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        MaskedLM(**settings)
    assert "\n" not in str(caught.value)


def test_shares_of_all_kinds_are_accepted():
    MaskedLM(languages=["en"], mask=0.7, keep=0.2, random=0.1)  # the original refuses these
    hidden = MaskedLM(languages=["en"], mask=1.0, keep=0.0, random=0.0)
    _, batch = train_batch(hidden)
    assert set(batch.tokens.flatten()[real(batch)[0]].tolist()) == {MASK}
    kept = MaskedLM(languages=["en"], mask=0.0, keep=1.0, random=0.0)
    examples, batch = train_batch(kept)
    assert batch.tokens.tolist() == unmasked(kept, examples).tolist()


def test_a_language_without_text_names_those_there_are():
    with pytest.raises(DataError, match="no text 'fr' in the train split .* it has en, ne"):
        stream(MaskedLM(languages=["fr"]), "train")
    with pytest.raises(ConfigError, match="'en-fr' is not a pair of known languages .en, ne"):
        stream(MaskedLM(pairs=["en-fr"]), "train")


def test_held_out_text_may_be_missing_of_some_languages():
    own = Corpora(
        TOKENIZER,
        ["en", "ne"],
        texts={
            ("train", "en"): corpus([[20]], "en"),
            ("train", "ne"): corpus([[20]], "ne"),
            ("valid", "ne"): corpus([[20]], "ne"),
        },
    )
    assert [s.id for s in MLM.streams("mlm", own, seed=0, split="valid")] == ["mlm/ne"]
    assert [s.id for s in MLM.streams("mlm", own, seed=0)] == ["mlm/en", "mlm/ne"]


# A rate that changes over the steps.


def test_the_rate_of_a_step_is_on_straight_lines_between_points() -> None:
    objective = MaskedLM(languages=["en"], rows=4, length=16, mask_rate=[[0, 0.3], [100, 0.1]])
    assert [objective.at_step(step).mask_rate for step in (0, 25, 100, 900)] == pytest.approx(
        [0.3, 0.25, 0.1, 0.1]
    )
    fixed = replace(objective, mask_rate=0.4)
    assert fixed.at_step(7) is fixed


@pytest.mark.parametrize(
    ("settings", "rate", "num_folds"),
    [
        ({"mask_rate": 0.3}, 0.3, 3),
        ({"mask_rate": 0.8}, 0.15, 7),
        ({"mask_rate": [[0, 0.3], [9, 0.15]]}, 0.15, 7),
        ({"mask_rate": 0.8, "evaluation_mask_rate": 0.25}, 0.25, 4),
    ],
)
def test_evaluation_is_at_one_rate(settings: dict[str, Any], rate: float, num_folds: int) -> None:
    objective = MaskedLM(languages=["en"], rows=4, length=16, **settings)
    assert (objective.evaluation_rate, objective.num_folds) == (rate, num_folds)


def test_training_masks_follow_the_step() -> None:
    made = tiny.corpora()
    objective = MaskedLM(languages=["en"], rows=8, length=10, mask_rate=[[0, 0.5], [4, 0.1]])
    run = tiny.recipe("", objectives={"mlm": objective}, steps=5, group_size=1)
    mixture = build_mixture(run, training_streams(run, made))
    alone = Parallel(torch.device("cpu"))
    prefetcher = Prefetcher(mixture, run.objectives, alone, seed=0, first=0, cursors={})
    try:
        batches = [prefetcher.next().micro_batches[0].batch for _ in range(5)]
    finally:
        prefetcher.close()
    expected = [math.ceil(rate * 80) for rate in (0.5, 0.4, 0.3, 0.2, 0.1)]
    assert [batch.count for batch in batches] == pytest.approx(expected, abs=1)
