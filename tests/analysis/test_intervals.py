"""Intervals against scipy, and their coverage on independent data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xlm.analysis.intervals import (
    Estimate,
    Null,
    correlated,
    correlation,
    in_best_layer,
    mean,
    mean_of,
    mean_of_hits,
    paired,
    paired_correlations,
    ratio,
    resampled_means,
    share,
    undefined,
    wilson,
)
from xlm.metrics.agreement import pearson

stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")


@pytest.mark.parametrize(("hits", "num"), [(0, 5), (5, 5), (3, 17), (480, 1000), (1, 1)])
def test_shares_have_wilsons_interval(hits: int, num: int) -> None:
    expected = stats.binomtest(hits, num).proportion_ci(method="wilson")
    own = share(hits, num)
    assert own.low == pytest.approx(expected.low, abs=1e-12)
    assert own.high == pytest.approx(expected.high, abs=1e-12)
    assert own.value == hits / num


def test_correlations_have_fishers_interval() -> None:
    draw = np.random.default_rng(0)
    for num in (4, 9, 200):
        one = draw.normal(size=num)
        two = one + draw.normal(size=num)
        expected = stats.pearsonr(one, two).confidence_interval()
        own = correlation(pearson(one, two), num)
        assert own.low == pytest.approx(expected.low, abs=1e-12)
        assert own.high == pytest.approx(expected.high, abs=1e-12)
    wider = correlation(0.6, 50, ranks=True)
    error = math.sqrt((1 + 0.18) / 47)
    assert wider.high == pytest.approx(math.tanh(math.atanh(0.6) + 1.959963984540054 * error))


def test_means_have_percentiles_of_resamples() -> None:
    values = np.random.default_rng(0).normal(size=400)
    own = mean(values, 7)
    error = values.std() / math.sqrt(400)
    assert own.value == pytest.approx(values.mean())
    assert own.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert own.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)
    assert own == mean(values, 7) and own != mean(values, 8)


def test_resamples_are_means_of_drawn_rows() -> None:
    drawn = resampled_means(np.arange(5.0)[:, None], "address", num=50)
    assert set(np.round(drawn[:, 0] * 5).astype(int)) <= set(range(21))
    assert drawn.std() == pytest.approx(math.sqrt(2 / 5), rel=0.4)


def test_rows_without_a_hit_have_an_interval() -> None:
    assert mean_of_hits(np.zeros(60), 0) == share(0, 60)
    assert mean_of_hits(np.ones(60), 0) == share(60, 60)
    some = np.array([0.0, 0.5, 1.0] * 20)
    assert mean_of_hits(some, 0) == mean(some, 0)


def test_a_ratio_of_sums_is_resampled_as_one() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 8.0]] * 10)
    own = ratio(rows, lambda means: means[:, 0] / means[:, 1], 0)
    assert own.value == pytest.approx(0.1)
    assert own.low is not None and own.high is not None and own.low < 0.1 < own.high
    nothing = ratio(np.zeros((4, 2)), lambda means: means[:, 0] / means[:, 1], 0)
    assert nothing.value is None and "denominator" in nothing.reason


def test_two_models_are_compared_on_the_same_rows() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    assert paired(noise + 0.1, noise, 0).low == pytest.approx(0.1)  # the noise is shared


def test_what_is_not_defined_has_a_reason_and_no_part_in_a_mean() -> None:
    assert undefined("no rows").as_json() == {
        "value": None, "num": 0, "reason": "no rows", "nulls": {}
    }  # fmt: skip
    assert correlation(None, 9).value is None
    assert mean_of([share(1, 2), undefined("no rows"), share(2, 2)]) == 0.75
    assert mean_of([undefined("no rows")]) is None


def test_figures_leave_their_nulls_or_do_not() -> None:
    own = share(50, 100).beside(
        chance=Null(0.1), untrained=Null(0.45, 0.38, 0.55), permuted=Null(0.4, 0.3, 0.6, p=0.3),
        rows=Null(0.1, 0.0, 0.2, p=0.005), nothing=Null(None),
    )  # fmt: skip
    leaves = {name: own.leaves(name) for name in own.nulls}
    assert leaves == {
        "chance": True, "untrained": False, "permuted": False, "rows": True, "nothing": None
    }  # fmt: skip


def test_intervals_cover_what_they_say() -> None:
    covered = np.zeros(2)
    for seed in range(1000):
        draw = np.random.default_rng(seed)
        own = share(int((draw.random(300) < 0.3).sum()), 300)
        covered[0] += own.low <= 0.3 <= own.high
        own = mean(draw.normal(size=150), seed)
        covered[1] += own.low <= 0 <= own.high
    assert ((covered >= 930) & (covered <= 970)).all(), covered


def test_a_layer_is_chosen_on_even_items_and_told_on_odd_ones() -> None:
    hits = {0: np.array([0.0, 1, 0, 1]), 1: np.array([1.0, 0, 1, 1]), 2: np.array([1.0, 1, 1, 1])}
    layer, own = in_best_layer(hits, lambda at, items: share(hits[at][items].sum(), 2))
    assert layer == 1 and own.value == 0.5  # of equal layers the first
    _, nothing = in_best_layer([3, 2], lambda at, items: undefined("nothing"))
    assert nothing.value is None and "no layer" in nothing.reason


def test_correlations_of_two_models_are_compared_on_the_same_items() -> None:
    draw = np.random.default_rng(2)
    gold = draw.integers(0, 8, size=300).astype(float)  # with ties, as people's scores have
    near, far = gold + 2 * draw.normal(size=300), gold + 9 * draw.normal(size=300)
    for ranks in (False, True):
        own = paired_correlations(near, far, gold, 0, ranks=ranks)
        values = [correlated(side, gold, ranks=ranks).value for side in (near, far)]
        assert own.value == pytest.approx(values[0] - values[1]) and own.num == 300
        assert 0 < own.low < own.value < own.high
        same = paired_correlations(near, near, gold, 0, ranks=ranks)
        assert (same.value, same.low, same.high) == (0, 0, 0)
    assert paired_correlations(near, np.zeros(300), gold).value is None


def test_intervals_of_differences_of_correlations_cover_what_they_say() -> None:
    """Of 300 draws of two models that are as good, 95 % hold 0, give or take 3 deviations."""
    covered = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        gold = draw.normal(size=60)
        both = draw.normal(size=60)  # what the two models have in common
        one, two = (gold + both + draw.normal(size=60) for _ in range(2))
        own = paired_correlations(one, two, gold, seed)
        covered += own.low <= 0 <= own.high
    assert 0.95 * 300 - 12 <= covered <= 0.95 * 300 + 12


def test_differences_of_few_items_have_no_interval() -> None:
    for num, has in ((9, False), (10, True)):
        one, two = np.random.default_rng(0).normal(size=(2, num))
        found = [paired(one, two, 0), paired_correlations(one, two, np.arange(num), 0)]
        assert all((own.low is not None) == has for own in found)


def test_shares_at_the_ends_are_exact() -> None:
    assert share(0, 3).low == 0 and share(3, 3).high == 1
    assert Estimate(0.0, *wilson(0.0, 3), 3, {"commonest": Null(0.0)}).leaves("commonest") is False
