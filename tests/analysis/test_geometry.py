"""Closed forms against loops over all pairs, IsoScore against its package."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from xlm.analysis import intervals
from xlm.analysis.geometry import (
    anisotropy,
    anisotropy_difference,
    covariance_spectrum,
    effective_rank,
    isoscore,
    label_separation,
    largest_share,
    mean_cosine,
    scatter,
    scatter_by_sentence,
    sentence_share,
    separability,
    separability_difference,
)
from xlm.analysis.nulls import permutations
from xlm.errors import DataError

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(25, 6)) + [3, 0, 0, 0, 1, 0]


def units(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_mean_cosine_is_that_of_all_pairs() -> None:
    pairs = list(itertools.combinations(units(ROWS), 2))
    assert mean_cosine(ROWS) == pytest.approx(np.mean([a @ b for a, b in pairs]), abs=1e-12)
    of_dimensions = np.array([a * b for a, b in pairs]).sum(0)
    assert largest_share(ROWS) == pytest.approx(
        of_dimensions.max() / of_dimensions.sum(), abs=1e-12
    )
    own = anisotropy(ROWS)["mean cosine"]
    assert own.value == pytest.approx(mean_cosine(ROWS)) and own.low < own.value < own.high


def test_the_interval_of_the_mean_cosine_covers_what_it_says() -> None:
    middle = np.eye(16)[0]
    truth = mean_cosine(np.random.default_rng(0).normal(size=(200_000, 16)) + middle)
    num_covered = 0
    for seed in range(400):
        rows = np.random.default_rng(seed + 1).normal(size=(150, 16)) + middle
        own = anisotropy(rows, seed=seed)["mean cosine"]
        num_covered += own.low <= truth <= own.high
    assert 0.93 <= num_covered / 400 <= 0.97


def test_two_models_are_compared_on_the_same_sentences() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 6)) + np.eye(6)[0]
    y = x + 0.1 * draw.normal(size=(80, 6))
    own = anisotropy_difference(x, y)
    assert own.value == pytest.approx(mean_cosine(x) - mean_cosine(y), abs=1e-12)
    alone = anisotropy(x)["mean cosine"]
    assert own.low < own.value < own.high
    assert own.high - own.low < 0.5 * (alone.high - alone.low)  # the sentences are shared
    same = anisotropy_difference(x, 3 * x)
    assert (same.low, same.value, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_spectrum_that_is_flat_uses_every_dimension() -> None:
    flat = np.concatenate([np.eye(5), -np.eye(5)])
    assert effective_rank(flat) == pytest.approx(5)
    assert isoscore(flat) == pytest.approx(1)
    line = np.outer(np.arange(9.0), [1, 0, 0])
    assert effective_rank(line) == pytest.approx(1)
    assert isoscore(line) == pytest.approx(0, abs=1e-12)
    assert effective_rank(np.ones((4, 3))) is None and isoscore(np.ones((4, 3))) is None


def test_the_spectrum_is_numpys() -> None:
    expected = np.linalg.eigvalsh(np.cov(ROWS.T))[::-1]
    np.testing.assert_allclose(covariance_spectrum(ROWS), expected, atol=1e-12)


def test_isoscore_is_the_packages() -> None:
    package = pytest.importorskip("IsoScore.IsoScore", reason="IsoScore is the reference")
    for seed in range(5):
        draw = np.random.default_rng(seed)
        rows = draw.normal(size=(60, 7)) * draw.random(7)
        assert isoscore(rows) == pytest.approx(float(package.IsoScore(rows)), abs=1e-7)


def test_parts_of_the_scatter_add_up() -> None:
    x = DRAW.normal(size=(3, 8, 4)) + DRAW.normal(size=(3, 1, 4)) + DRAW.normal(size=(1, 8, 4))
    own = scatter(x)
    middle = x.mean((0, 1))
    languages = sum(8 * np.sum((x[k].mean(0) - middle) ** 2) for k in range(3))
    sentences = sum(3 * np.sum((x[:, s].mean(0) - middle) ** 2) for s in range(8))
    rest = sum(
        np.sum((x[k, s] - x[k].mean(0) - x[:, s].mean(0) + middle) ** 2)
        for k in range(3)
        for s in range(8)
    )
    np.testing.assert_allclose(own, (languages, sentences, rest), rtol=1e-10)
    total = np.sum((x - middle) ** 2)
    assert own.total == pytest.approx(total, rel=1e-10)
    assert separability(x)["language"].value == pytest.approx(languages / total)
    np.testing.assert_allclose(scatter_by_sentence(x).sum(0), (sentences, rest), rtol=1e-10)
    assert separability(x)["sentence without language"].value == pytest.approx(
        sentences / (sentences + rest)
    )


def planted_sentences(draw: np.random.Generator, noise: float, num: int = 60) -> Any:
    """Three languages of sentences of variance 1, with noise of its own in each, far apart."""
    sentences = draw.normal(size=(num, 8))
    return np.stack(
        [sentences + noise * draw.normal(size=(num, 8)) + 3 * draw.normal(size=8) for _ in range(3)]
    )


def test_the_interval_of_the_sentences_share_covers_it() -> None:
    """95 % of 400, give or take three deviations and the bias of percentiles."""
    covered = 0
    for seed in range(400):
        x = planted_sentences(np.random.default_rng(seed), noise=0.8)
        own = intervals.ratio(scatter_by_sentence(x), sentence_share, seed)
        covered += own.low <= (3 + 0.64) / (3 + 3 * 0.64) <= own.high
    assert 0.92 * 400 <= covered <= 0.98 * 400


def test_two_models_share_of_the_sentence_is_compared() -> None:
    draw = np.random.default_rng(4)
    near, far = planted_sentences(draw, 0.3), planted_sentences(draw, 0.9)
    own = separability_difference(near, far)
    shares = [separability(side)["sentence without language"].value for side in (near, far)]
    assert own.value == pytest.approx(shares[0] - shares[1]) and own.low > 0
    same = separability_difference(near, near)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    few = separability_difference(near[:, :9], far[:, :9])
    assert few.value is not None and few.low is None
    flat = np.zeros((3, 60, 8)) + np.arange(3)[:, None, None]
    assert separability_difference(near, flat).reason == "all of the scatter is language"


def test_languages_laid_over_each_other() -> None:
    side = DRAW.normal(size=(20, 4))
    own = separability(np.stack([side, side]))
    assert own["language"].value == pytest.approx(0)
    assert own["sentence without language"].value == pytest.approx(1)
    assert own["sentence without language"].nulls["permuted"].value == pytest.approx(0.5, abs=0.05)
    assert own["sentence without language"].nulls["permuted"].p == 1 / 201
    apart = separability(np.stack([side, side + 100]))
    assert apart["language"].value > 0.99
    assert apart["sentence without language"].value == pytest.approx(1)


def test_permuted_sentences_are_scattered_as_others_are() -> None:
    x = [DRAW.normal(size=(9, 4)) + at for at in range(3)]
    own = separability(x, seed=5)
    orders = [permutations(9, 5, "separability", at) for at in (1, 2)]
    parts = [
        scatter(np.stack([x[0], x[1][one], x[2][two]])) for one, two in zip(*orders, strict=True)
    ]
    expected = np.mean([part.sentence / (part.sentence + part.rest) for part in parts])
    found = own["sentence without language"].nulls["permuted"].value
    assert found == pytest.approx(expected, abs=1e-12)
    assert separability(np.stack(x), seed=5) == own


def test_permuting_sentences_takes_little_memory() -> None:
    x = np.zeros((16, 1000, 512), dtype=np.float32)
    x[:] = DRAW.normal(size=(1000, 512))
    tracemalloc.start()
    separability(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1000 * 512 * 8  # all states in float64


def test_states_that_do_not_vary_have_no_shares() -> None:
    assert separability(np.ones((2, 4, 3)))["language"].value is None
    only = np.zeros((2, 4, 3)) + np.array([0.0, 1.0])[:, None, None]
    own = separability(only)["sentence without language"]
    assert own.value is None and own.reason == "all of the scatter is language"
    with pytest.raises(DataError, match="at least 2 languages"):
        scatter(np.ones((1, 4, 3)))


def test_labels_part_rows() -> None:
    labels = ["a"] * 10 + ["b"] * 12
    far = DRAW.normal(size=(22, 3)) + np.array([[9, 0, 0]] * 10 + [[0, 9, 0]] * 12)
    own = label_separation(far, labels)
    middle = far.mean(0)
    parts = [far[:10], far[10:]]
    between = sum(len(p) * np.sum((p.mean(0) - middle) ** 2) for p in parts)
    assert own["between"].value == pytest.approx(between / np.sum((far - middle) ** 2))
    assert own["neighbor"].value == 1 and own["neighbor"].nulls["permuted"].p == 1 / 201
    near = label_separation(DRAW.normal(size=(22, 3)), labels)
    assert near["between"].nulls["permuted"].p > 0.01


def test_the_nearest_other_row_is_found_among_equal_ones() -> None:
    own = label_separation(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), ["a", "a", "b", "b"])
    assert own["neighbor"].value == 1
