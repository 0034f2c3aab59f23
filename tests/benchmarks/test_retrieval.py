"""Retrieval of translations: by hand on tiny cases, and the mean state of a sentence alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import xlm
from benchmarks.support import retrieval, toy


def test_accuracy_counts_rows_whose_nearest_is_their_translation() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    second = torch.tensor([[0.9, 0.1], [0.8, 0.2], [-1.0, -1.0]])
    # forth: rows 0 and 2 of three, and row 1 (0.0, 1.0) is nearest to (0.8, 0.2), its own; back:
    # (0.8, 0.2) is nearest to (1.0, 0.0), another's
    assert retrieval.accuracy(first, second, center=False) == pytest.approx((1 + 2 / 3) / 2)


def test_a_tie_shares_the_hit() -> None:
    same = torch.ones(4, 3)
    assert retrieval.accuracy(same, same, center=False) == pytest.approx(0.25)


def test_a_layer_is_chosen_on_even_rows_and_measured_on_odd_ones() -> None:
    right = torch.eye(4)
    wrong = torch.eye(4)[[2, 3, 0, 1]]  # even rows exchange places, and so do odd ones
    half = torch.eye(4)[[0, 3, 2, 1]]  # even rows are right, odd ones exchanged
    pairs = retrieval.Pairs(["a"] * 4, ["b"] * 4)
    assert retrieval.best_layer([right, right], [wrong, half], pairs) == (1, 0.0)
    assert retrieval.best_layer([right, right], [wrong, right], pairs) == (1, 1.0)


def test_repeated_texts_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo\none\n\nthree\n", encoding="utf-8")
    (tmp_path / "b").write_text("eins\nzwei\nuno\nx\nzwei\n", encoding="utf-8")
    pairs = retrieval.read_pairs(tmp_path / "a", tmp_path / "b", 10)
    assert (pairs.first, pairs.second) == (["one", "two"], ["eins", "zwei"])


def test_states_of_a_line_are_those_of_the_line_alone(tmp_path: Path) -> None:
    model = xlm.load(toy.models(tmp_path) / "mlm")
    lines = toy.text("valid", "en")[:5]
    together = retrieval.sentence_states(model, lines, "en")
    assert len(together) == 3  # the embeddings and two layers
    for at, line in enumerate(lines):
        batch = model.batch([line], "en")
        states = model.transformer.encode_layers(
            batch.tokens, batch.lengths, batch.positions, batch.langs
        )
        for layer, state in zip(together, states, strict=True):
            by_hand = state[0, 1:-1].mean(0)
            torch.testing.assert_close(layer[at], by_hand, atol=1e-5, rtol=1e-4)


def test_pieces_weigh_by_their_rarity(tmp_path: Path) -> None:
    model = xlm.load(toy.models(tmp_path) / "mlm")
    first, second = retrieval.piece_vectors(model.tokenizer, ["a b", "a"], ["a", "a"])
    every = set(model.tokenizer.encode("a"))
    assert all(first[0, at] == 0 for at in every)  # in every line: ln(4 / 4)
    assert float(first[0].sum()) == pytest.approx(
        torch.tensor(4.0).log().item() * len(set(model.tokenizer.encode("a b")) - every), rel=1e-5
    )
    assert second.count_nonzero() == 0
