"""Starts of a new language's table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm import sample
from xlm.analysis.translation_model import translations
from xlm.errors import ConfigError
from xlm.model.table_starts import (
    FEWEST_ANCHORS,
    aligned,
    copy,
    equal_pieces,
    focus,
    oracle,
    pieces,
    sparsemax,
)
from xlm.model.vocabulary import extend_vocabulary
from xlm.rng import Random
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "focus.json").read_text("utf-8"))
"""Written by tests/golden/make_focus.py, which says how."""


class Listed(Tokenizer):
    """A tokenizer of listed pieces after five symbols; it encodes text that is a list of them."""

    def __init__(self, *pieces: str, first: int = 0):
        self.pieces = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", *pieces]
        self.vocab_size = len(self.pieces)
        self.end_id, self.pad_id, self.unk_id, self.mask_id = 1, 2, 3, 4
        self.special_ids = frozenset(range(5))

    @property
    def begin_id(self) -> int:
        return 0

    @property
    def digest(self) -> str:
        return "|".join(self.pieces)

    def encode(self, text: str) -> list[int]:
        return [self.pieces.index(word) for word in text.split()]

    def decode(self, ids) -> str:
        return " ".join(self.pieces[at] for at in ids)

    def save(self, folder) -> None:
        raise NotImplementedError


def learned(language: str) -> SentencePieceTokenizer:
    lines = sample.path(f"train.{language}.txt").read_text(encoding="utf-8").splitlines()
    return learn_sentencepiece(lines, 500)


@pytest.fixture(scope="module")
def english() -> SentencePieceTokenizer:
    return learned("en")


@pytest.fixture(scope="module")
def nepali() -> SentencePieceTokenizer:
    return learned("ne")


def projected(row: np.ndarray) -> np.ndarray:
    """Return the nearest point of the simplex, its threshold found by halving."""
    low, high = row.min() - 1.0, row.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(row - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(row - (low + high) / 2, 0)


def test_sparsemax_is_the_projection_onto_the_simplex():
    scores = np.random.RandomState(0).standard_normal((40, 17)) * np.linspace(0.01, 3, 40)[:, None]
    found = sparsemax(scores)
    np.testing.assert_allclose(found, [projected(row) for row in scores], atol=1e-12)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found[-1] > 0).sum() < 6 and (found[0] > 0).all()


def test_focus_has_the_rows_of_the_package():
    table = torch.tensor(GOLDEN["table"])
    known = [f"▁k{at}" for at in range(len(table))]
    new = [f"▁n{at}" for at in range(len(GOLDEN["rows"]))]
    here, there = Listed(*known, *new), Listed(*known)
    vectors = np.concatenate([np.zeros((5, 8)), np.array(GOLDEN["vectors"])])
    start = focus(here, there, vectors)
    assert start.counts == {"symbol": 5, "kept": len(known), "mixed": len(new)}
    padded = torch.cat([torch.zeros(5, 4), table])
    rows = start.apply(padded)
    assert torch.equal(rows[5 : 5 + len(known)], table)
    torch.testing.assert_close(
        rows[5 + len(known) :], torch.tensor(GOLDEN["rows"]), rtol=0, atol=1e-6
    )
    assert start.num_anchors == len(known)
    assert f"only {len(known)} pieces" in start.warning and str(FEWEST_ANCHORS) in start.warning


def test_rare_pieces_are_drawn_by_column_and_equal_ones_kept():
    known = [f"▁k{at}" for at in range(4)]
    here, there = Listed("▁k2", *(f"▁n{at}" for at in range(6_000))), Listed(*known)
    table = torch.tensor([[9.0, 9.0]] * 5 + [[1.0, 0.0], [2.0, 0.0], [3.0, 5.0], [6.0, 5.0]])
    for start in (copy(here, there), focus(here, there, np.zeros((here.vocab_size, 3)))):
        assert start.counts == {"symbol": 5, "kept": 1, "drawn": 6_000}
        rows = start.apply(table, torch.Generator().manual_seed(1))
        assert torch.equal(rows[5], table[7]) and torch.equal(rows[:5], table[:5])
        drawn, text = rows[6:], table[5:]
        torch.testing.assert_close(drawn.mean(0), text.mean(0), rtol=0, atol=0.12)
        torch.testing.assert_close(drawn.std(0), text.std(0, correction=0), rtol=0.05, atol=0)
        again = start.apply(table, torch.Generator().manual_seed(1))
        assert torch.equal(rows, again)
        bias = start.apply(table[:, 1], torch.Generator().manual_seed(1))
        assert bias.shape == (here.vocab_size,) and bias[5] == 5.0


def test_pieces_is_the_rule_of_extended_vocabularies(nepali, english):
    table = torch.randn(english.vocab_size, 6, generator=torch.Generator().manual_seed(2))
    start = pieces(nepali, english)
    torch.testing.assert_close(start.apply(table), extend_vocabulary(nepali, english).apply(table))
    assert sum(start.counts.values()) == nepali.vocab_size and start.counts["mixed"] > 100


def test_equal_pieces_of_real_vocabularies(nepali, english):
    found = equal_pieces(nepali, english)
    assert found and all(nepali.pieces[a] == english.pieces[b] for a, b in found.items())
    assert "▁" in {nepali.pieces[at] for at in found}
    assert not set(found) & nepali.special_ids


def test_equal_pieces_of_two_ways_to_mark_words():
    wordpiece = Listed("the", "##s", "##ing", "s")
    sentencepiece = Listed("▁the", "s", "▁s", "ing")
    named = {
        wordpiece.pieces[a]: sentencepiece.pieces[b]
        for a, b in equal_pieces(wordpiece, sentencepiece).items()
    }
    assert named == {"the": "▁the", "##s": "s", "s": "▁s", "##ing": "ing"}


def shifted(random: np.random.RandomState, num_words: int, lines: int) -> tuple[list, list]:
    """Return lines of ids with Zipf's law, and the same with every id moved and the order kept."""
    shares = 1 / np.arange(1, num_words + 1)
    drawn = [
        5 + random.choice(num_words, random.randint(4, 12), p=shares / shares.sum())
        for _ in range(lines)
    ]
    return [(line - 5 + 7) % num_words + 5 for line in drawn], drawn


def test_aligned_finds_the_truth_of_shifted_pairs_before_any_update():
    num_words = 60
    new, old = shifted(np.random.RandomState(3), num_words, 600)
    here = Listed(*(f"▁n{at}" for at in range(num_words)))
    there = Listed(*(f"▁o{at}" for at in range(num_words)))
    found = translations(new, old)
    assert found.num_pairs == 600
    vectors = np.zeros((here.vocab_size, 3))
    start = aligned(here, there, found.new, found.old, found.product, vectors)
    table = torch.randn(there.vocab_size, 16, generator=torch.Generator().manual_seed(4))
    rows = torch.nn.functional.normalize(start.apply(table)[5:], dim=1)
    best = (rows @ torch.nn.functional.normalize(table[5:], dim=1).T).argmax(1)
    truth = (torch.arange(num_words) - 7) % num_words
    assert (best == truth).float().mean() >= 0.9
    null = start.shuffled(Random(0, "null"), here).apply(table)[5:]
    best = (torch.nn.functional.normalize(null, dim=1) @ table[5:].T).argmax(1)
    assert (best == truth).float().mean() <= 0.1


def test_pieces_without_translations_follow_those_that_have_them():
    here, there = Listed("▁a", "▁b", "▁c"), Listed("▁x", "▁y")
    vectors = np.array([[0.0] * 2] * 5 + [[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])
    start = aligned(
        here, there, np.array([6, 5, 5]), np.array([6, 5, 6]), np.array([0.5, 0.9, 0.001]), vectors
    )
    assert start.rules[5:] == ("translated", "translated", "mixed")
    table = torch.tensor([[0.0]] * 5 + [[10.0], [20.0]])
    assert start.apply(table)[5] == 10 and start.apply(table)[6] == 20
    # sparsemax of cosines 0.99995 and 0.0099995: 0.995 and 0.005
    assert float(start.apply(table)[7]) == pytest.approx(10.05, abs=1e-3)
    assert start.num_anchors == 2


def test_an_oracle_gives_the_rows_that_are_listed():
    here, there = Listed("▁a", "▁b"), Listed("▁x", "▁y")
    start = oracle(here, there, {"▁a": "▁y"})
    table = torch.arange(7.0)[:, None]
    assert start.apply(table)[5] == 6 and start.rules[5:] == ("given", "drawn")
    with pytest.raises(ConfigError, match="the old vocabulary has no piece '▁z'"):
        oracle(here, there, {"▁a": "▁z"})


def test_shuffled_keeps_symbols_and_permutes_all_other_rows():
    here = there = Listed(*(f"▁k{at}" for at in range(50)))
    table = torch.arange(55.0)[:, None]
    rows = copy(here, there).shuffled(Random(1, "null"), here).apply(table)[:, 0]
    assert rows[:5].tolist() == [0, 1, 2, 3, 4]
    assert sorted(rows[5:].tolist()) == list(range(5, 55)) and rows.tolist() != list(range(55))
