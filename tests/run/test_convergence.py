"""The signs of convergence by closed form, and what the guard names."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.training import tiny
from xlm.analysis.convergence import (
    Signs,
    States,
    _beginnings,
    _permuted_words,
    drawn_directions,
    from_tensors,
    measure,
    to_tensors,
    unlikeness,
)
from xlm.batch import IGNORED, Batch
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.objectives.masked import MaskedLM
from xlm.rng import Random
from xlm.run.convergence import Guard, judge

REFERENCE = Signs(2.0, 1.0, 1.5, States(np.zeros((1, 2)), np.eye(2)[None]))
SOUND = {"nats": 3.0, "gain": 1.2, "order": 0.8, "unlikeness": 0.1}


def test_the_distance_of_two_normals_is_that_of_the_closed_form() -> None:
    """Of commuting covariances: |m1 - m2|^2 + the sum of (sqrt(a) - sqrt(b))^2, over tr C1."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    one = States(np.zeros((1, 3)), (turn * a @ turn.T)[None])
    other = States(np.full((1, 3), 2.0), (turn * b @ turn.T)[None])
    (found,) = unlikeness(other, one)
    assert found == pytest.approx((12 + ((a**0.5 - b**0.5) ** 2).sum()) / a.sum())
    assert unlikeness(one, one) == pytest.approx([0.0], abs=1e-12)


def test_signs_of_a_model() -> None:
    made = tiny.corpora(40)
    objective = MaskedLM(languages=["en"], rows=4, length=12)
    (stream,) = objective.streams("lm", made, seed=0, split="valid")
    torch.manual_seed(0)
    model = Transformer(tiny.model(), vocab_size=tiny.VOCAB_SIZE, num_languages=2, pad_id=2).eval()
    signs = measure(model, objective, stream)
    assert signs.gain is not None and signs.gain < 0 and abs(signs.order) > 0
    assert signs.states.mean.shape == (3, 16)  # all directions of a narrow model
    np.testing.assert_allclose(unlikeness(signs.states, signs.states), 0.0, atol=1e-9)
    again = from_tensors(to_tensors(signs))
    assert again.word_order == signs.word_order and signs.word_order is not None
    assert again.order == signs.order and (again.states.covariance == signs.states.covariance).all()
    with torch.no_grad():
        model.encoder.positions.weight.zero_()  # type: ignore[union-attr]
    assert measure(model, objective, stream).order == pytest.approx(0.0, abs=1e-6)
    directions = drawn_directions(100)
    torch.testing.assert_close(directions.T @ directions, torch.eye(64))


def test_words_are_permuted_whole() -> None:
    """Positions of a row in which words moved, against moving the words themselves."""
    words = [[1], [2, 3, 4], [5, 6], [7], [8, 9]]
    row = [piece for word in words for piece in word]
    begins = np.zeros((2, len(row) + 1), dtype=bool)
    begins[:, np.cumsum([0, *map(len, words[:-1])])] = True
    positions = torch.arange(len(row) + 1).repeat(2, 1)
    batch = SimpleNamespace(positions=positions, lengths=torch.tensor([len(row), 4]))
    found = set()
    for seed in range(400):
        moved = _permuted_words(batch, begins, Random(seed, "x"))  # type: ignore[arg-type]
        assert moved[0, -1] == len(row) and moved[1, 4:].tolist() == positions[1, 4:].tolist()
        text = [piece for _, piece in sorted(zip(moved[0].tolist(), row, strict=False))]
        left = [tuple(word) for word in words]
        while text:  # the text is these words, each whole and once
            (first,) = (word for word in left if tuple(text[: len(word)]) == word)
            left.remove(first)
            text = text[len(first) :]
        assert not left
        found.add(tuple(moved[0, :-1].tolist()))
    assert len(found) > 110  # of 5! orders


def test_masked_pieces_belong_to_the_words_that_they_hide() -> None:

    class Pieces:
        pieces = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "\u2581a", "b", "\u2581c")
        special_ids, vocab_size = frozenset(range(5)), 8

    batch = Batch(
        tokens=torch.tensor([[0, 5, 4, 7, 6, 1]]), positions=torch.arange(6)[None],
        langs=torch.zeros(1, 6).long(), segments=torch.zeros(1, 6).long(),
        lengths=torch.tensor([6]), rows=torch.tensor([0]),
        predict=torch.tensor([2, 3, 0]), targets=torch.tensor([6, 7, IGNORED]),
    )  # fmt: skip
    begins = _beginnings(batch, Pieces(), causal=False)  # type: ignore[arg-type]
    assert begins.tolist() == [[True, True, False, True, False, True]]


def test_words_tell_where_pieces_do_not() -> None:
    """Where words have several pieces, shuffled words leave half of the cost of pieces' order."""
    known = dataclasses.replace(REFERENCE, word_order=1.0)
    shuffled = {**SOUND, "order": REFERENCE.order * 0.6, "word_order": 0.05}
    (line,) = judge({100: shuffled}, 100, Guard(), known)
    assert line == "no order: permuted words cost 0.05 nats, in the old language 1.00"
    assert judge({100: shuffled}, 100, Guard(), REFERENCE) == []  # an older record
    assert judge({100: {**shuffled, "word_order": 0.5}}, 100, Guard(), known) == []
    assert judge({100: {**shuffled, "word_order": 0.5}}, 100, Guard(least_word_order=0.6), known)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, []),
        ({"gain": 0.2}, ["not learnt"]),
        ({"gain": float("nan")}, ["not learnt"]),
        ({"order": 0.1}, ["no order"]),
        ({"unlikeness": 0.4}, ["unlike"]),
        ({"nats": float("inf"), "gain": -1.0}, ["diverged", "not learnt"]),
    ],
)
def test_the_guard_names_what_went_wrong(changed: dict[str, float], named: list[str]) -> None:
    valid = {40: {**SOUND, "gain": -1.0}, 50: SOUND, 100: {**SOUND, **changed}}
    fired = judge(valid, 100, Guard(), REFERENCE)
    assert [line.split(":")[0] for line in fired] == named


def test_half_of_the_updates_is_looked_at_too() -> None:
    """A rate that is far too high is worse than a unigram model until it has come down."""
    valid = {25: SOUND, 50: {**SOUND, "gain": -0.1}, 75: {**SOUND, "gain": -0.1}, 100: SOUND}
    (line,) = judge(valid, 100, Guard(), REFERENCE)
    assert line == (
        "not learnt: 0.10 nats above a unigram model, expected 0.00 or more below it, at step 50, "
        "half of the updates"
    )
    assert judge({**valid, 50: SOUND}, 100, Guard(), REFERENCE) == []
    assert judge(valid, 100, Guard(least_gain_at_half=0.5), None)[0].startswith(
        "not learnt: 0.10 nats above a unigram model, expected 0.50 or more below it"
    )
    (alone,) = judge({100: {**SOUND, "gain": -0.2}}, 100, Guard(), None)
    assert alone == "not learnt: 0.20 nats above a unigram model, expected 0.30 or more below it"
    assert judge({100: SOUND}, 100, Guard(), REFERENCE) == []  # the only evaluation is the end


def test_rising_nats_and_early_evaluations() -> None:
    rising = {at: {**SOUND, "nats": 2.0 + at} for at in range(1, 5)}
    assert judge(rising, 100, Guard(), None)[0].startswith("diverged: 3.00 then 4.00")
    early = {10: {"nats": 9.0, "gain": -3.0}}  # before half of the updates only divergence counts
    assert judge(early, 100, Guard(), REFERENCE) == []
    with pytest.raises(ConfigError, match="guard.most_unlike must be 0 or more"):
        Guard(most_unlike=-1.0)
