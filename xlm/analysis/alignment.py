"""Word alignment by states, and its scores against gold links.

Pieces are linked by the cosine of their states, with the methods of SimAlign (Jalili Sabet et al.
2020); words are linked if any of their pieces are. Alignment error rate as in Och and Ney (2003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate
from xlm.analysis.neighbors import unit
from xlm.errors import ConfigError, NotInstalled

Method = Literal["argmax", "itermax", "match", "forward", "reverse"]
METHODS: tuple[Method, ...] = get_args(Method)
Links = frozenset[tuple[int, int]]
Matrix = NDArray[np.floating]
HALF_FREE = 0.9
"""Weight, in itermax's second round, of similarities with a piece that is already linked."""


class Gold(NamedTuple):
    """The links of a pair of sentences, with words counted from 0."""

    sure: Links
    possible: Links
    """All links, the sure ones included."""


def cosines(x: NDArray[np.floating], y: NDArray[np.floating]) -> Matrix:
    """Return the cosine of every row of ``[n, D]`` with every row of ``[m, D]``, ``[n, m]``."""
    return unit(x) @ unit(y).T


def link(similar: Matrix, method: Method = "argmax") -> Links:
    """Return links (row, column) by a method from similarities ``[n, m]``.

    argmax: pairs that are each other's best; itermax: a second round among what is left; match: the
    heaviest matching; forward, reverse: the best of each row or of each column. Raises NotInstalled
    if match lacks scipy.
    """
    if 0 in similar.shape:
        return frozenset()
    rows, columns = np.arange(similar.shape[0]), np.arange(similar.shape[1])
    if method == "forward":
        return _links(rows, similar.argmax(1))
    if method == "reverse":
        return _links(similar.argmax(0), columns)
    if method == "match":
        return _links(*_matching(similar))
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}: expected one of {', '.join(METHODS)}")
    first = _mutual(similar)
    if method == "argmax" or min(similar.shape) <= 2:
        return frozenset(zip(*map(np.ndarray.tolist, first.nonzero()), strict=True))
    free_rows = np.flatnonzero(~first.any(1))
    free_columns = np.flatnonzero(~first.any(0))
    if len(free_rows) and len(free_columns):
        weights = np.zeros(similar.shape)
        weights[free_rows], weights[:, free_columns] = HALF_FREE, HALF_FREE
        weights[np.ix_(free_rows, free_columns)] = 1.0
        # similarities from 0 to 1, so that a closed cell is never the best
        first |= _mutual(weights * (similar + 1) / 2) & (weights > 0)
    return frozenset(zip(*map(np.ndarray.tolist, first.nonzero()), strict=True))


def _mutual(similar: Matrix) -> NDArray[np.bool_]:
    """Return the pairs that are the best of their row and of their column, ``[n, m]``."""
    found = np.zeros(similar.shape, dtype=bool)
    best = similar.argmax(1)
    rows = np.arange(len(similar))
    mutual = similar.argmax(0)[best] == rows
    found[rows[mutual], best[mutual]] = True
    return found


def _matching(similar: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise NotInstalled(
            "the method match needs scipy, of the extra analysis: pip install "
            "'xlm-pretrain[analysis]'"
        ) from error
    rows, columns = linear_sum_assignment(similar, maximize=True)
    return rows, columns


def usable_methods() -> tuple[Method, ...]:
    """Return the methods that run with what is installed: all, or all but match."""
    try:
        _matching(np.zeros((1, 1)))
    except NotInstalled:
        return tuple(method for method in METHODS if method != "match")
    return METHODS


def _links(rows: Iterable[int], columns: Iterable[int]) -> Links:
    return frozenset((int(i), int(j)) for i, j in zip(rows, columns, strict=True))


def word_links(pieces: Links, first: NDArray[np.int64], second: NDArray[np.int64]) -> Links:
    """Return the words that linked pieces belong to; arrays give the word of each piece."""
    return frozenset((int(first[i]), int(second[j])) for i, j in pieces)


def diagonal(num_first: int, num_second: int) -> Links:
    """Return links of words at the same relative position, one for each first word."""
    if not num_first or not num_second:
        return frozenset()
    return frozenset((i, i * num_second // num_first) for i in range(num_first))


def wrong_partners(sizes: Sequence[int]) -> list[int]:
    """Return for each sentence another of similar size: the next one in the order of sizes."""
    order = sorted(range(len(sizes)), key=lambda at: sizes[at])
    found = [0] * len(sizes)
    for at, own in enumerate(order):
        found[own] = order[(at + 1) % len(order)]
    return found


def _f1(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 2PR / (P + R) of rows of ``_COLUMNS``, 0 if both are 0, NaN if one is undefined."""
    linked, sure, linked_sure, linked_possible = means.T
    product = linked_possible * linked_sure
    total = linked_possible * sure + linked_sure * linked
    missed = (total == 0) & (linked > 0) & (sure > 0)
    return np.where(missed, 0.0, 2 * product / total)


_COLUMNS = ("linked", "sure", "linked sure", "linked possible")


def link_scores(
    found: Sequence[Links], gold: Sequence[Gold], *, seed: int = 0
) -> dict[str, Estimate]:
    """Return precision, recall, F1 and alignment error rate over a corpus, unrounded.

    P = |A∩P| / |A|, R = |A∩S| / |S|, AER = 1 - (|A∩S| + |A∩P|) / (|A| + |S|); F1 is 0 if P and R
    are; intervals by the bootstrap over sentences.
    """
    return scores_of(link_counts(found, gold), seed=seed)


def link_counts(found: Sequence[Links], gold: Sequence[Gold]) -> NDArray[np.float64]:
    """Return |A|, |S|, |A∩S| and |A∩P| of each sentence, ``[n, 4]``."""
    return np.array(
        [
            (len(own), len(g.sure), len(own & g.sure), len(own & g.possible))
            for own, g in zip(found, gold, strict=True)
        ],
        dtype=np.float64,
    ).reshape(-1, len(_COLUMNS))


def scores_of(counts: NDArray[np.float64], *, seed: int = 0) -> dict[str, Estimate]:
    """Return ``link_scores`` of the counts of ``link_counts``."""
    statistics: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "precision": lambda c: c[:, 3] / c[:, 0],
        "recall": lambda c: c[:, 2] / c[:, 1],
        "F1": _f1,
        "AER": lambda c: 1 - (c[:, 2] + c[:, 3]) / (c[:, 0] + c[:, 1]),
    }
    return {name: intervals.ratio(counts, own, seed) for name, own in statistics.items()}


def f1_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], *, seed: int = 0
) -> Estimate:
    """Return F1 of one model's links minus that of another's; the counts are of ``link_counts``.

    Both are of the same sentences, and each resample of these gives both models' F1.
    """
    width = len(_COLUMNS)
    return intervals.of_enough(
        intervals.ratio(
            np.concatenate([first, second], axis=1),
            lambda means: _f1(means[:, :width]) - _f1(means[:, width:]),
            seed,
        )
    )
