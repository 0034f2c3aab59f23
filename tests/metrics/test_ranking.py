"""Ranking figures against sums written out, and against every order of the rows that tie."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.metrics.ranking import consecutive, ndcg, rank_figures, rank_scores, reciprocal_rank

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=5)


def discounted(gains):
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def orders(gains, scores):
    """Every order of the rows that the scores allow."""
    for order in itertools.permutations(range(len(gains))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            yield [gains[row] for row in order]


@given(rows)
def test_ndcg_is_the_mean_over_the_orders_of_ties(cells):
    gains, scores = zip(*cells, strict=True)
    assume(any(gains))
    best = max(discounted(order) for order in itertools.permutations(gains))
    means = [discounted(order) / best for order in orders(gains, scores)]
    assert ndcg(gains, scores) == pytest.approx(sum(means) / len(means))


@given(rows)
def test_reciprocal_rank_is_the_worst_over_the_orders_of_ties(cells):
    gains, scores = zip(*cells, strict=True)
    worst = min(
        next((1 / rank for rank, gain in enumerate(order, 1) if gain >= 2), 0.0)
        for order in orders(gains, scores)
    )
    assert reciprocal_rank(gains, scores, relevant=2) == worst


def test_ndcg_by_hand():
    # the example of Wikipedia's article on discounted cumulative gain, its six documents
    gains, scores = [3, 2, 3, 0, 1, 2], [6, 5, 4, 3, 2, 1]
    assert ndcg(gains, scores) == pytest.approx(6.861 / 7.141, abs=1e-4)
    assert ndcg(gains, scores, cutoff=1) == 1
    assert ndcg(gains, scores, cutoff=2) == pytest.approx(
        (3 + 2 / math.log2(3)) / (3 + 3 / math.log2(3))
    )
    two = (3 / 1 + 1 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert ndcg([2, 1], [1, 0], exponential=True) == two == 1
    assert ndcg([1, 2], [1, 0], exponential=True) == pytest.approx(
        (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    )


def test_nothing_relevant_is_zero():
    assert ndcg([0, 0], [1, 2]) == 0
    assert reciprocal_rank([0, 0], [1, 2]) == 0


def test_groups_as_xglue_makes_them():
    queries = ["a", "a", "b", "c", "c", "a", "a"]
    assert consecutive(queries) == [0, 0, 1, 2, 2, 3, 3]
    gains = [1, 0, 4, 0, 2, 0, 0]
    scores = [0.1, 0.9, 0.5, 0.2, 0.8, 0.1, 0.2]
    # b has one row and is left out; the second a has nothing relevant and counts as 0
    figures = rank_figures(rank_scores(consecutive(queries), gains, scores))
    assert figures["queries"] == 3 and figures["single"] == 1
    assert figures["ndcg"] == pytest.approx((1 / math.log2(3) + 1 + 0) / 3)
    assert figures["mrr"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert figures["precision_at_1"] == pytest.approx(1 / 3)


def test_sums_add_over_parts_and_order_of_rows_is_free():
    random = np.random.default_rng(0)
    queries = np.repeat(np.arange(6), 4)
    gains, scores = random.integers(0, 5, 24), random.normal(size=24)
    whole = rank_scores(queries.tolist(), gains, scores)
    parts = [
        rank_scores(queries[part].tolist(), gains[part], scores[part])
        for part in (slice(0, 8), slice(8, 24))
    ]
    assert dict(parts[0] + parts[1]) == pytest.approx(dict(whole))
    order = random.permutation(24)
    mixed = rank_scores(queries[order].tolist(), gains[order], scores[order])
    assert dict(mixed) == pytest.approx(dict(whole))


def test_no_query_has_figures_of_zero():
    assert rank_figures(rank_scores([], [], []))["ndcg"] == 0


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="1 scores for 2 gains"):
        ndcg([1, 2], [1])
    with pytest.raises(DataError, match="a gain of -1"):
        ndcg([1, -1], [1, 2])
    with pytest.raises(DataError, match="1 queries for 2 rows"):
        rank_scores(["a"], [1, 2], [1, 2])
    with pytest.raises(TrainingError, match="NaN"):
        ndcg([1, 2], [1, np.nan])
    with pytest.raises(ConfigError, match="cutoff"):
        ndcg([1], [1], cutoff=0)
