"""Ranked lists: nDCG as XGLUE scores web pages, mean reciprocal rank, precision at 1.

One query has n rows: ``gains`` float ``[n]`` give the relevance of each (XGLUE's WPR: levels from 0
up), ``scores`` float ``[n]`` rank them, the greatest first.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.metrics.scores import Scores


def ndcg(
    gains: ArrayLike, scores: ArrayLike, *, cutoff: int | None = None, exponential: bool = False
) -> float:
    """Return the discounted gain of a ranking over the best one's; 0 if nothing is relevant.

    The row at rank r (from 1) counts ``gain / log2(r + 1)``; ``exponential`` takes ``2^gain - 1``
    for the gain, ``cutoff`` the first ranks only. Rows that tie in score share the mean of their
    gains (McSherry and Najork, 2008). With the defaults this is ``ndcg_score`` of scikit-learn,
    which XGLUE's scorer calls. Raises DataError for negative gains, TrainingError for NaN scores.
    """
    gain, score = _checked(gains, scores)
    if cutoff is not None and cutoff < 1:
        raise ConfigError(f"cutoff must be at least 1: found {cutoff}")
    if exponential:
        gain = np.exp2(gain) - 1
    discounts = 1 / np.log2(np.arange(2, len(gain) + 2))
    if cutoff is not None:
        discounts[cutoff:] = 0
    best = float(np.sort(gain)[::-1] @ discounts)
    if best == 0:
        return 0.0
    _, group, sizes = np.unique(-score, return_inverse=True, return_counts=True)
    mean_gains = np.bincount(group, weights=gain) / sizes
    return float(np.repeat(mean_gains, sizes) @ discounts) / best


def reciprocal_rank(gains: ArrayLike, scores: ArrayLike, *, relevant: float = 1.0) -> float:
    """Return 1 / rank of the best row whose gain is at least ``relevant``, or 0 if there is none.

    Ties count against the ranking: irrelevant rows of the same score come first, so that a model
    that scores everything alike gains nothing.
    """
    gain, score = _checked(gains, scores)
    good = gain >= relevant
    if not good.any():
        return 0.0
    return 1.0 / (1 + int(np.count_nonzero(~good & (score >= score[good].max()))))


def rank_scores(
    queries: Sequence[Hashable], gains: ArrayLike, scores: ArrayLike, *, relevant: float = 1.0
) -> Scores:
    """Return the sums that rows ``[n]``, all those of several queries, add to the ranking figures.

    ``queries`` names each row's query: see ``consecutive``. As in XGLUE's scorer, a query with one
    row ranks nothing and is left out; ``single`` counts them. Other sums: ``queries``, ``ndcg``,
    ``mrr``, ``first`` (the first row is relevant). Raises DataError if lengths differ.
    """
    gain, score = _checked(gains, scores)
    if len(queries) != len(gain):
        raise DataError(f"{len(queries)} queries for {len(gain)} rows: expected one for each row")
    rows: dict[Hashable, list[int]] = {}
    for row, query in enumerate(queries):
        rows.setdefault(query, []).append(row)
    sums = {"queries": 0.0, "single": 0.0, "ndcg": 0.0, "mrr": 0.0, "first": 0.0}
    for own in rows.values():
        if len(own) < 2:
            sums["single"] += 1
            continue
        rank = reciprocal_rank(gain[own], score[own], relevant=relevant)
        sums["queries"] += 1
        sums["ndcg"] += ndcg(gain[own], score[own])
        sums["mrr"] += rank
        sums["first"] += rank == 1.0
    return Scores(sums)


def rank_figures(scores: Mapping[str, float]) -> dict[str, float]:
    """Return means over the queries with two rows or more: ``ndcg``, ``mrr``, ``precision_at_1``.

    All are from 0 to 1.
    """
    num = scores["queries"]
    figures = {"ndcg": scores["ndcg"], "mrr": scores["mrr"], "precision_at_1": scores["first"]}
    means = {name: value / num if num else 0.0 for name, value in figures.items()}
    return {**means, "queries": num, "single": scores["single"]}


def consecutive(queries: Sequence[Hashable]) -> list[int]:
    """Return a number for each run of equal neighbors, which XGLUE's scorer takes for one query.

    A query's text that comes back later in a file is another query there.
    """
    numbers: list[int] = []
    for row, query in enumerate(queries):
        same = row > 0 and query == queries[row - 1]
        numbers.append(numbers[-1] + (not same) if numbers else 0)
    return numbers


def _checked(
    gains: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    gain = np.asarray(gains, dtype=np.float64)
    score = np.asarray(scores, dtype=np.float64)
    if gain.ndim != 1 or gain.shape != score.shape:
        raise DataError(f"{score.size} scores for {gain.size} gains: expected one for each row")
    if not (gain >= 0).all():
        raise DataError(f"found a gain of {gain.min():g}: expected 0 or more")
    if np.isnan(score).any():
        raise TrainingError("scores contain NaN: the model diverged; lower its learning rate")
    return gain, score
