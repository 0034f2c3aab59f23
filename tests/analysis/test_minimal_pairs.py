"""Minimal pairs: one mask each, equal rows once, likelihoods of causal models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.support.ledger import read
from tests.analysis.models import tiny, tokenizer
from xlm.analysis.minimal_pairs import (
    Judged,
    by_construction,
    construction_of,
    judge,
    masked_pair,
)
from xlm.analysis.readers import MinimalPair, read_minimal_pairs
from xlm.errors import CheckpointError, ConfigError

PAIRS = [
    MinimalPair("agreement", "water the here", "water of here"),
    MinimalPair("agreement", "water the here", "water in here"),
    MinimalPair("agreement", "the extraordinary", "the"),
    MinimalPair("reflexive", "he the", "he of"),
]


def test_the_piece_that_differs_is_masked() -> None:
    own = masked_pair(tokenizer(), PAIRS[0])
    right = tokenizer().encode("water the here .")
    assert own is not None and own.ids.tolist() == [
        tokenizer().mask_id if at == own.at else piece for at, piece in enumerate(right)
    ]
    assert tokenizer().pieces[own.right].endswith("the")
    assert tokenizer().pieces[own.wrong].endswith("of")
    assert masked_pair(tokenizer(), PAIRS[2]) is None
    assert masked_pair(tokenizer(), MinimalPair("", "the same", "the same")) is None


def test_the_likelier_piece_is_chosen_and_equal_rows_are_read_once() -> None:
    model = tiny()
    own = judge(model, PAIRS, "en")
    assert own.num_inputs == 2 and np.isnan(own.credit).tolist() == [False, False, True, False]
    for at in (0, 1, 3):
        pair = masked_pair(model.tokenizer, PAIRS[at])
        batch = model.batch_rows([model.tokenizer.wrap(pair.ids)], "en")
        with torch.no_grad():
            hidden = model.encode(batch)
            scores = model.transformer.encoder.project(hidden[0, 1 + pair.at])
        assert own.credit[at] == float(scores[pair.right] > scores[pair.wrong])


def test_a_causal_model_reads_both_sentences() -> None:
    model = replace(tiny(), extra={"objectives": ["CausalLM"]})
    own = judge(model, PAIRS, "en")
    assert own.num_inputs == 7

    def likelihood(text: str) -> float:
        row = model.tokenizer.wrap(np.array(model.tokenizer.encode(text)))
        with torch.no_grad():
            hidden = model.encode(model.batch_rows([row], "en"), causal=True)
            scores = model.transformer.encoder.project(hidden[0]).log_softmax(-1)
        return sum(float(scores[at, row.tokens[at + 1]]) for at in range(len(row.tokens) - 1))

    expected = [float(likelihood(pair.right) > likelihood(pair.wrong)) for pair in PAIRS]
    assert own.credit.tolist() == expected


def test_a_tie_is_half_and_means_are_over_constructions() -> None:
    credit = np.array([1.0, 0.5, np.nan, 0.0])
    own = by_construction(PAIRS, Judged(credit, 3))
    assert own["agreement"]["coverage"].value == pytest.approx(2 / 3)
    assert own["agreement"]["accuracy"].value == 0.75
    assert own["mean of agreement"]["accuracy"].value == 0.75
    assert own["mean of reflexives"]["accuracy"].value == 0
    assert own["mean of all"]["accuracy"].value == pytest.approx(0.375)
    assert own["agreement"]["accuracy"].nulls["chance"].value == 0.5
    nothing = by_construction(PAIRS[2:3], Judged(np.array([np.nan]), 0))
    assert nothing["agreement"]["accuracy"].value is None
    assert nothing["mean of all"]["accuracy"].reason == "no construction is covered"


def test_means_over_constructions_are_the_papers() -> None:
    """MonoTrans, Table 11, its English model: 86.5 over agreement and 79.2 over reflexives."""
    (table,) = [t for t in read("monotrans-2020").tables if t.number == 11]
    pairs, credit = [], []
    for row in table.rows:
        if row.name == "Macro-average":
            continue
        kind = "reflexive" if row.group == "Reflexive anaphora" else "agreement"
        right = round(10 * float(row.values[0]))
        pairs += [MinimalPair(f"{kind} {row.name}", "a", "b")] * 1000
        credit += [1.0] * right + [0.0] * (1000 - right)
    found = by_construction(pairs, Judged(np.array(credit), 0))
    means = [found[f"mean of {name}"]["accuracy"].value for name in ("agreement", "reflexives")]
    published = [float(row.values[0]) for row in table.rows if row.name == "Macro-average"]
    assert published == [86.5, 79.2]
    assert [round(100 * value, 1) for value in means] == published


def test_a_model_without_an_output_is_refused() -> None:
    with pytest.raises(ConfigError, match="minimal pairs need a language model"):
        judge(replace(tiny(), extra={"no head": True}), PAIRS, "en")
    translator = tiny(num_decoder_layers=1)
    with pytest.raises(ConfigError, match="has a decoder, so it translates"):
        judge(translator, PAIRS, "en")


@pytest.mark.parametrize("objective", ["MaskedLM", "CausalLM"])
def test_scores_that_overflow_are_refused(objective: str) -> None:
    """NaN is not larger than NaN, which is not to say that the model is wrong."""
    model = replace(tiny(), extra={"objectives": [objective]})
    with torch.no_grad():
        model.transformer.encoder.layers[1].feed_forward.expand.weight.fill_(3e38)
    with pytest.raises(CheckpointError, match="scores for .* not finite: .*their sums overflow"):
        judge(model, PAIRS, "en")


class Whole:
    """A vocabulary in which, of the words that differ, only a few are one piece."""

    words = set(
        "is are like likes know knows write writes bring brings interest interests himself herself "
        "themselves".split()
    )
    unk_id, mask_id = -1, -2

    def __init__(self, differing: set[str]):
        self.cut = differing - self.words
        self.ids: dict[str, int] = {}

    def normalize(self, text: str) -> str:
        return text

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        pieces, spans, at = [], [], 0
        for word in text.split():
            parts = [word[:-1], word[-1]] if word in self.cut else [word]
            for part in parts:
                pieces.append(self.ids.setdefault(part, len(self.ids)))
                spans.append((at, at + len(part)))
                at += len(part)
            at += 1
        return pieces, spans


def test_pairs_and_coverage_of_the_paper(shared) -> None:
    """MonoTrans, Table 10: how many pairs its constructions have, and how many are covered."""
    path = shared / "data/probes/syntax/marvin_linzen.tsv.gz"
    if not path.exists():
        pytest.skip("needs Marvin and Linzen's minimal pairs in the folder shared/data/probes")
    pairs = read_minimal_pairs(path)
    differing = set()
    for pair in pairs:
        one, two = pair.right.split(), pair.wrong.split()
        differing |= {w for a, b in zip(one, two, strict=True) if a != b for w in (a, b)}
    vocabulary = Whole(differing)
    made: dict[str, list[int]] = {}
    texts, covered, rows = set(), set(), set()
    for pair in pairs:
        own = masked_pair(vocabulary, pair)  # type: ignore[arg-type]
        counts = made.setdefault(construction_of(pair.construction), [0, 0])
        counts[0] += own is not None
        counts[1] += 1
        one, two = pair.right.split(), pair.wrong.split()
        masked = " ".join(a if a == b else "[mask]" for a, b in zip(one, two, strict=True))
        texts.add(masked)
        if own is not None:
            covered.add(masked)
            rows.add(own.ids.tobytes())
    assert len(pairs) == 152_300 and len(texts) == 90_540
    assert len(rows) == len(covered)  # each different input is read once
    (table,) = [t for t in read("monotrans-2020").tables if t.number == 10]
    expected = sorted((int(row.values[0]), int(row.values[1])) for row in table.rows)
    assert sorted(map(tuple, made.values())) == expected
