"""Noise of infilling: how many words go, in which spans, and where those lie."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from xlm.data.span_noise import SpanNoise, poisson
from xlm.errors import ConfigError
from xlm.rng import Random

END, MASK = 1, 5
NUM = 3000
NOISE = SpanNoise(permute=1.0, share=0.35, mean_length=3.5)


def block_of(sizes: list[int], first: int = 100) -> np.ndarray:
    """Sentences of ``sizes`` words, each a piece of its own, parted by end symbols."""
    ids: list[int] = []
    for size in sizes:
        ids += [*range(first, first + size), END]
        first += size
    return np.array(ids[:-1])


def hide(noise: SpanNoise, block: np.ndarray, *address: int) -> np.ndarray:
    return noise.hidden(block, block != END, END, MASK, Random("test", *address))


def expected_masks(num_hidden: int, mean: float) -> float:
    """The renewal recursion: E_m = (1 + sum over k >= 1 of p_k E_(m - k)) / (1 - p_0)."""
    p = stats.poisson.pmf(np.arange(num_hidden + 1), mean).tolist()
    found = [0.0]
    for m in range(1, num_hidden + 1):
        inner = sum(p[k] * found[m - k] for k in range(1, m + 1))
        found.append((1 + inner) / (1 - p[0]))
    return found[num_hidden]


def test_the_recursion_gives_the_published_means() -> None:
    found = [round(expected_masks(num, 3.5), 3) for num in (7, 21, 175)]
    assert found == [2.502, 6.500, 50.500]


@pytest.mark.parametrize(
    ("sizes", "mean"), [([20], 2.502), ([9, 1, 10], 2.502), ([25, 20, 15], 6.500)]
)
def test_how_many_words_go_and_by_how_many_masks(sizes: list[int], mean: float) -> None:
    block = block_of(sizes)
    num_words = sum(sizes)
    masks = []
    for k in range(NUM):
        found = hide(NOISE, block, k)
        masks.append(int((found == MASK).sum()))
        left = found[found != MASK]
        assert (left != END).sum() == num_words - math.ceil(0.35 * num_words - 1e-9)
        assert (left == END).sum() == len(sizes) - 1
        assert (np.diff(left[left != END]) > 0).all()  # in their order, none twice
    error = np.std(masks) / math.sqrt(NUM)
    assert abs(np.mean(masks) - mean) < 4.5 * error


def test_of_long_blocks() -> None:
    """The number of masks of 500 words: 50.5. Drawn without the block, which takes longer."""
    masks = [len(NOISE.lengths(175, Random("long", k))) for k in range(NUM)]
    assert abs(np.mean(masks) - 50.5) < 4.5 * np.std(masks) / math.sqrt(NUM)
    assert len(NOISE.lengths(0, Random(0))) == 0


def test_lengths_of_spans_are_those_of_a_poisson_distribution() -> None:
    """Of all but the last, drawn while 100 words are far from being hidden; chi-square."""
    drawn = np.concatenate([NOISE.lengths(200, Random("spans", k))[:20] for k in range(5000)])
    borders = 12
    observed = np.bincount(np.minimum(drawn, borders), minlength=borders + 1)
    expected = stats.poisson.pmf(np.arange(borders), 3.5)
    expected = len(drawn) * np.append(expected, 1 - expected.sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    assert poisson(3.5) == pytest.approx(stats.poisson.pmf(np.arange(len(poisson(3.5))), 3.5))
    assert 1 - poisson(100.0).sum() < 1e-12


@pytest.mark.parametrize(("num", "share"), [(180, 0.35), (7, 0.3), (1, 0.01), (4, 1.0)])
def test_the_sum_of_the_spans_is_exact(num: int, share: float) -> None:
    noise = SpanNoise(1.0, share, 3.5)
    for k in range(50):
        found = hide(noise, block_of([num]), k)
        assert (found != MASK).sum() == num - math.ceil(num * share - 1e-9)


def test_every_arrangement_is_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of 2, 1 and 0 words among 3 that stay: 3! orders times C(6, 3) sets of places."""
    monkeypatch.setattr(SpanNoise, "lengths", lambda *_: np.array([2, 1, 0]))
    noise = SpanNoise(0.0, 0.5, 3.5)
    block = block_of([6])
    found = Counter(tuple(hide(noise, block, k).tolist()) for k in range(6000))
    expected: Counter[tuple[int, ...]] = Counter()
    for order in itertools.permutations([2, 1, 0]):
        for places in itertools.combinations(range(6), 3):
            spans = dict(zip(places, order, strict=True))
            row, word = [], 100
            for place in range(6):
                row.append(MASK if place in spans else word)
                word += spans.get(place, 1)
            expected[tuple(row)] += 1
    assert sum(expected.values()) == 120 and found.keys() == expected.keys()
    observed = [found[row] for row in expected]
    assert stats.chisquare(observed, [50 * n for n in expected.values()]).pvalue > 1e-4


def test_a_span_leaves_the_end_symbols_that_it_passes_behind_its_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SpanNoise, "lengths", lambda *_: np.array([3]))
    noise = SpanNoise(0.0, 0.5, 3.5)
    rows = {tuple(hide(noise, block_of([2, 1, 3]), k).tolist()) for k in range(200)}
    assert rows == {
        (MASK, END, END, 103, 104, 105),
        (100, MASK, END, END, 104, 105),
        (100, 101, END, MASK, END, 105),
        (100, 101, END, 102, END, MASK),
    }


def test_pieces_of_a_word_go_together() -> None:
    block = np.array([10, 11, 11, 10, END, 10, 11, 10, 10, 11])
    begins = block == 10
    words = {(10, 11, 11), (10,), (10, 11)}
    for k in range(300):
        left = NOISE.hidden(block, begins, END, MASK, Random(k))
        found: list[list[int]] = []
        for token in left.tolist():
            if token == 11:
                found[-1].append(token)
            elif token not in (END, MASK):
                found.append([token])
        assert len(found) == 5 - 2
        assert {tuple(word) for word in found} <= words
        at = np.flatnonzero(left == 11)
        assert ((left[at - 1] == 10) | (left[at - 1] == 11)).all()


def test_each_order_of_sentences_is_equally_likely() -> None:
    block = block_of([1, 2, 3])
    sentences = [(100,), (101, 102), (103, 104, 105)]
    found: Counter[tuple[int, ...]] = Counter()
    for k in range(6000):
        row = NOISE.permuted(block, END, Random(k)).tolist()
        parts = " ".join(map(str, row)).split(f" {END} ")
        assert sorted(parts) == sorted(" ".join(map(str, own)) for own in sentences)
        found[tuple(row)] += 1
    assert len(found) == 6
    assert stats.chisquare(list(found.values())).pvalue > 1e-4


def test_a_part_of_the_blocks_keeps_its_order() -> None:
    """With probability 1 - permute, and in one of 6 permuted ones of 3 sentences."""
    block, noise = block_of([1, 2, 3]), SpanNoise(0.25, 0.35, 3.5)
    kept = sum(np.array_equal(noise.permuted(block, END, Random(k)), block) for k in range(4000))
    expected = 0.75 + 0.25 / 6
    assert abs(kept / 4000 - expected) < 4.5 * math.sqrt(expected * (1 - expected) / 4000)


def test_without_noise_the_block_is_copied() -> None:
    quiet, block = SpanNoise(0.0, 0.0, 3.5), block_of([3, 1, 4])
    for k in range(20):
        assert np.array_equal(quiet.permuted(block, END, Random(k)), block)
        assert np.array_equal(hide(quiet, block, k), block)


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ((1.1, 0.35, 3.5), r"permute must be in \[0, 1\]: found 1.1"),
        ((1.0, -0.1, 3.5), r"share must be in \[0, 1\]: found -0.1"),
        ((1.0, 0.35, 0.0), "mean_length must be from 1 to 100 words: found 0.0"),
        ((1.0, 0.35, math.nan), "mean_length must be from 1 to 100 words: found nan"),
    ],
)
def test_amounts_that_cannot_be(amounts: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpanNoise(*amounts)
