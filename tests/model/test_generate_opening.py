"""Searches whose rows open with one or two given ids, against decoding whole prefixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.model.test_generate import END, LENGTHS, Plain, one_row, rows_of, tiny
from xlm.model.generate import Generation, generate

OPENINGS = {1: [20], 2: [END, 20]}


def greedy(following, begin, limit):
    """Return the words behind the opening ids, and the sum of their log-probabilities."""
    words, total = [], 0.0
    while True:
        logs = following([*begin, *words])
        word = int(logs.argmax())
        total += float(logs[word])
        if word == END or len(words) + 2 == limit:
            return words, total
        words.append(word)


def beam_search(following, begin, limit, settings):
    """The rule of docs/fidelity.md, B9, in loops over lists; ``limit`` counts one opening id."""
    width, beams, closed = settings.beam, [([], 0.0)], []
    while True:
        candidates = [
            (total + float(log), words, word)
            for words, total in beams
            for word, log in enumerate(following([*begin, *words]))
        ]
        candidates = sorted(candidates, key=lambda found: -found[0])[: 2 * width]
        num = len(beams[0][0]) + 1  # words, the next one included
        if len(closed) >= width:
            best = candidates[0][0] / (limit - 1) ** settings.length_penalty
            if closed[width - 1][0] >= best:
                return closed
        beams = []
        for total, words, word in candidates:
            if word == END or num + 1 == limit:
                closed.append((total / num**settings.length_penalty, words))
            else:
                beams.append(([*words, word], total))
            if len(beams) == width:
                break
        closed = sorted(closed, key=lambda found: -found[0])[:width]
        if num + 1 == limit:
            return closed


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("fields", [{}, {"positions": "rotary", "norm": "pre"}])
def test_greedy_is_that_of_whole_prefixes(num, fields):
    model, source = tiny(**fields), rows_of(LENGTHS)
    begin = torch.tensor(OPENINGS[num]).expand(len(LENGTHS), -1)
    generated = generate(
        model, source, torch.full((len(LENGTHS),), 2), end_id=END, begin=begin,
        settings=Generation(ratio=1.0, extra=6),
    )  # fmt: skip
    assert generated.num_opening == num
    for row, length in enumerate(LENGTHS):
        words, total = greedy(Plain(model, one_row(source, row), 2), OPENINGS[num], length + 6)
        assert generated.texts(row) == [words]
        assert generated.tokens[row, 0, :num].tolist() == OPENINGS[num]
        assert int(generated.lengths[row, 0]) == num + len(words) + 1
        expected = total / (len(words) + 1)  # the opening ids are no part of the length
        assert float(generated.scores[row, 0]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("penalty", [0.0, 1.3])
@pytest.mark.parametrize("num", [1, 2])
def test_a_beam_search_is_that_of_whole_prefixes(num, penalty):
    model, source = tiny(seed=1), rows_of(LENGTHS, seed=1)
    settings = Generation(beam=3, length_penalty=penalty, ratio=1.0, extra=6)
    begin = torch.tensor(OPENINGS[num]).expand(len(LENGTHS), -1)
    generated = generate(
        model, source, torch.full((len(LENGTHS),), 1), end_id=END, settings=settings, begin=begin
    )
    for row, length in enumerate(LENGTHS):
        following = Plain(model, one_row(source, row), 1)
        expected = beam_search(following, OPENINGS[num], length + 6, settings)
        assert generated.texts(row) == [words for _, words in expected]
        scores = [score for score, _ in expected]
        np.testing.assert_allclose(generated.scores[row], scores, atol=1e-10)


@pytest.mark.parametrize("beam", [1, 3])
def test_an_end_symbol_as_the_opening_is_the_default(beam):
    model, source = tiny(seed=2), rows_of(LENGTHS)
    langs, settings = torch.ones(len(LENGTHS), dtype=torch.int64), Generation(beam=beam)
    plain = generate(model, source, langs, end_id=END, settings=settings)
    begin = torch.full((len(LENGTHS), 1), END)
    given = generate(model, source, langs, end_id=END, settings=settings, begin=begin)
    assert torch.equal(plain.tokens, given.tokens) and torch.equal(plain.scores, given.scores)
