"""Probes: planted labels, training means, words in their contexts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.analysis.models import lines, tiny
from xlm.analysis.intervals import correlated
from xlm.analysis.neighbors import row_cosines
from xlm.analysis.probes import (
    compared,
    language_probe,
    pair_states,
    piece_counts,
    probe,
    words_alone,
    words_in_context,
)
from xlm.analysis.readers import InContext
from xlm.analysis.states import encode_words
from xlm.errors import DataError

pytest.importorskip("sklearn", reason="probes need scikit-learn")
DRAW = np.random.default_rng(0)


def test_labels_that_are_there_are_read_and_others_are_not() -> None:
    x = DRAW.normal(size=(200, 5))
    labels = ["up" if row[2] > 0 else "down" for row in x]
    own = probe(x[:100], labels[:100], x[100:], labels[100:])
    accuracy = own.figures["accuracy"]
    assert accuracy.value > 0.9 and accuracy.leaves("shuffled") and accuracy.leaves("commonest")
    gold = np.array(labels[100:])
    assert own.confusion.sum() == 100 and own.confusion.trace() == round(accuracy.value * 100)
    assert own.confusion.sum(1).tolist() == [(gold == "down").sum(), (gold == "up").sum()]
    drawn = DRAW.choice(["a", "b"], size=200)
    chance = probe(x[:100], drawn[:100], x[100:], drawn[100:])
    assert 0.3 < chance.figures["accuracy"].value < 0.7


def test_a_label_without_rows_has_no_f1() -> None:
    x = np.concatenate([DRAW.normal(size=(20, 2)) + 9, DRAW.normal(size=(20, 2)) - 9])
    own = probe(x, ["a"] * 20 + ["b"] * 20, x[:20], ["a"] * 20)
    assert own.figures["F1 a"].value == 1 and own.figures["F1 b"].value is None
    assert own.figures["accuracy"].nulls["commonest"].value == 1
    with pytest.raises(DataError, match="have the label 'a'"):
        probe(x, ["a"] * 40, x, ["a"] * 40)


def test_languages_are_told_by_their_means_until_these_are_taken_away() -> None:
    same = DRAW.normal(size=(300, 6))
    states = {"en": same, "hi": same + 5, "ne": same - 5}
    assert language_probe(states, center=False).figures["accuracy"].value == 1
    centered = language_probe(states, center=True).figures["accuracy"]
    assert centered.value == pytest.approx(1 / 3, abs=0.1)


def test_pieces_are_counted() -> None:
    own = piece_counts([np.array([3, 3, 5]), np.array([5])], 9)
    assert own.tolist() == [[2, 1], [0, 1]]


def in_context(num: int = 6) -> list[InContext]:
    words = [line.split() for line in lines("en", 2 * num)]
    return [
        InContext(one, at % len(one), two, 0, 1.0)
        for at, (one, two) in enumerate(zip(words[::2], words[1::2], strict=True))
    ]


def test_words_stand_in_their_contexts() -> None:
    model, rows = tiny(), in_context()
    first, second = words_in_context(model, rows, "en", tokens=120)
    assert first.shape == (3, 6, 16)
    for row, own in enumerate(rows):
        pieces = encode_words(model.tokenizer, own.first)
        batch = model.batch([" ".join(own.first)], "en")
        with torch.no_grad():
            states = torch.cat(
                model.transformer.encode_layers(
                    batch.tokens, batch.lengths, batch.positions, batch.langs
                )
            )
        cells = 1 + np.flatnonzero(pieces.word == own.first_at)
        np.testing.assert_allclose(first[:, row], states[:, cells].mean(1), atol=1e-5)
    alone, _ = words_alone(model, rows, "en")
    assert not np.allclose(alone[2], first[2], atol=1e-3)


def test_a_long_context_is_cut_around_its_word() -> None:
    words = (lines("en", 12)[0].split() * 30)[:300]
    rows = [InContext(words, at, ["a"], 0, 0.0) for at in (0, 150, 299)]
    model = tiny(max_positions=64)
    own, _ = words_in_context(model, rows, "en")
    assert np.isfinite(own).all() and (np.abs(own).max(2) > 0).all()


def test_pairs_are_read_together() -> None:
    model, rows = tiny(), in_context()
    own = pair_states(model, rows, "en", tokens=200)
    batch = model.batch([" ".join(rows[2].first)], "en", [" ".join(rows[2].second)], "en")
    with torch.no_grad():
        states = model.transformer.encode_layers(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
        )
    np.testing.assert_allclose(own[2, 2], states[2][0, 0], atol=1e-5)
    assert pair_states(tiny(max_positions=32), rows, "en").shape == own.shape


def test_comparisons_of_words() -> None:
    u, v = np.array([[1.0, 2]], np.float32), np.array([[3.0, -1]], np.float32)
    assert compared(u, v).tolist() == [[1, 2, 3, -1, 2, 3, 3, -2]]
    rows = DRAW.normal(size=(40, 3)).astype(np.float32)
    others = rows + DRAW.normal(size=(40, 3)).astype(np.float32)
    cosines = (rows * others).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)
    own = correlated(row_cosines(rows, others), np.exp(cosines), ranks=True)
    assert own.value == pytest.approx(1)
