"""Exact nearest neighbors by inner product, in tiles of bounded memory and without an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.analysis.sparse_rows import SparseRows

Vectors = NDArray[np.float32]
Rows = Vectors | SparseRows
TILE_BYTES = 1 << 26
"""Memory of a tile of inner products: 64 MiB."""
BLOCK = 1 << 16
"""Number of rows of y that are read together."""
_COLUMNS = 1 << 14
"""Number of columns of a tile that are merged together."""
_GROUP = 64
"""Number of columns in a group, whose maximum is looked at first."""

Adjust = Callable[[Tensor, slice], Tensor]
"""A function from a tile of inner products ``[t, M]``, and its rows of x, to scores."""


class Nearest(NamedTuple):
    """The nearest rows of y for each row of x, nearest first; the first in y of equal ones."""

    ids: NDArray[np.int64]
    """``[N, k]``."""
    scores: Vectors
    """``[N, k]``."""


class Places(NamedTuple):
    """The rank of row i of y among all rows of y for row i of x."""

    above: NDArray[np.int64]
    """Number of rows of y that score higher, ``[N]``."""
    tied: NDArray[np.int64]
    """Number of rows that score the same, itself included, ``[N]``."""


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Return the rows of ``[N, D]`` at length 1, computed in float64; a row of zeros stays."""
    own = np.asarray(vectors, dtype=np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", own, own))[:, None]
    return np.asarray(own / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def row_cosines(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each row of x ``[N, D]`` with the same row of y, ``[N]``."""
    return np.asarray((unit(x).astype(np.float64) * unit(y)).sum(1))


def centered(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows of ``[N, D]`` minus their mean, in float64."""
    own = np.asarray(vectors, dtype=np.float64)
    return np.asarray(own - own.mean(0))


def tiles(x: Rows, y: Rows) -> Iterator[tuple[slice, Tensor]]:
    """Yield the inner products of consecutive rows of x ``[N, D]`` with all of y ``[M, D]``.

    Both sides are sparse, or none.
    """
    if isinstance(x, SparseRows) and isinstance(y, SparseRows):
        yield from _sparse_tiles(x, y)
        return
    assert not isinstance(x, SparseRows) and not isinstance(y, SparseRows)
    left, right = (
        torch.from_numpy(np.ascontiguousarray(x)),
        torch.from_numpy(np.ascontiguousarray(y)),
    )
    rows = max(1, TILE_BYTES // (4 * max(1, len(y))))
    product = torch.empty(min(rows, len(x)), len(y))
    for start in range(0, len(x), rows):
        own = slice(start, min(start + rows, len(x)))
        tile = product[: own.stop - own.start]
        with torch.autocast("cpu", enabled=False):  # only models may be read in less precision
            torch.mm(left[own], right.T, out=tile)
        yield own, tile


def _sparse_tiles(x: SparseRows, y: SparseRows) -> Iterator[tuple[slice, Tensor]]:
    right = y.as_tensor()
    rows = max(1, TILE_BYTES // (8 * max(1, len(y), x.width)))  # a tile is there in both orders
    for start in range(0, len(x), rows):
        own = slice(start, min(start + rows, len(x)))
        with torch.autocast("cpu", enabled=False):
            yield own, torch.sparse.mm(right, x.transposed(own)).T.contiguous()


def nearest(x: Vectors, y: Vectors, k: int, adjust: Adjust | None = None) -> Nearest:
    """Return the ``k`` rows of y with the largest inner product for each row of x, exactly.

    x float32 ``[N, D]``, y ``[M, D]``; k is at most M. ``adjust`` turns products into other scores.
    """
    k = min(k, len(y))
    ids = np.empty((len(x), k), dtype=np.int64)
    scores = np.empty((len(x), k), dtype=np.float32)
    for rows, tile in tiles(x, y):
        made = tile if adjust is None else adjust(tile, rows)
        best, at = _largest(made, k)
        ids[rows], scores[rows] = at.numpy(), best.numpy()
    return Nearest(ids, scores)


def nearest_both_ways(
    x: Rows, y: Rows, k: int, adjust: Adjust | None = None
) -> tuple[Nearest, Nearest]:
    """Return ``nearest`` of x in y and of y in x, from one pass over their inner products.

    x float32 ``[N, D]``, y ``[M, D]``. ``adjust`` is that of x in y: a pair has one score.
    """
    most = min(k, len(y))
    ids = np.empty((len(x), most), dtype=np.int64)
    scores = np.empty((len(x), most), dtype=np.float32)
    back = torch.empty(len(y), 0), torch.empty(len(y), 0, dtype=torch.int64)
    for rows, tile in tiles(x, y):
        made = tile if adjust is None else adjust(tile, rows)
        best, at = _largest(made, most)
        ids[rows], scores[rows] = at.numpy(), best.numpy()
        back = _merged(*back, made, rows.start, min(k, len(x)))
    return Nearest(ids, scores), Nearest(back[1].numpy(), back[0].numpy())


def _merged(scores: Tensor, ids: Tensor, tile: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """Return the best of each column so far, ``[M, k]``, with the rows of a tile ``[t, M]``.

    Once k rows were seen, only columns with a value above their last one change: few, after the
    first tiles.
    """
    if scores.shape[1] == k:
        columns = (~(tile.amax(0) <= scores[:, -1])).nonzero()[:, 0]  # NaN comes first
    else:
        columns, wider = torch.arange(len(scores)), min(k, scores.shape[1] + len(tile))
        scores = torch.cat([scores, scores.new_empty(len(scores), wider - scores.shape[1])], 1)
        ids = torch.cat([ids, ids.new_empty(len(ids), wider - ids.shape[1])], 1)
    seen = min(start, k)
    for first in range(0, len(columns), _COLUMNS):
        own = columns[first : first + _COLUMNS]
        best, at = _largest(tile.index_select(1, own).T.contiguous(), min(k, len(tile)))
        # stable: earlier rows come first among equal ones
        merged = torch.cat([scores[own, :seen], best], 1).sort(dim=1, descending=True, stable=True)
        order = merged.indices[:, : scores.shape[1]]
        scores[own] = merged.values[:, : scores.shape[1]]
        ids[own] = torch.cat([ids[own, :seen], at + start], 1).gather(1, order)
    return scores, ids


def nearest_in_blocks(x: Vectors, y: Vectors, k: int, block: int = BLOCK) -> Nearest:
    """Return the result of ``nearest`` with at most ``block`` rows of y in memory at a time.

    y may be a mapped file of any size, which is read once for each call. Its rows of zeros score
    -inf, so they come last; scores that are not numbers come first.
    """
    ids = np.zeros((len(x), 0), dtype=np.int64)
    scores = np.zeros((len(x), 0), dtype=np.float32)
    for start in range(0, len(y), block):
        own = np.array(y[start : start + block], dtype=np.float32)
        blank = torch.from_numpy(~own.any(1))
        adjust: Adjust | None = None
        if bool(blank.any()):
            adjust = partial(_without, blank)
        found = nearest(x, own, k, adjust)
        ids = np.concatenate([ids, found.ids + start], axis=1)
        scores = np.concatenate([scores, found.scores], axis=1)
        # stable: the first in y of equal ones
        order = np.argsort(-np.nan_to_num(scores, nan=np.inf), axis=1, kind="stable")[:, :k]
        ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
    return Nearest(ids, scores)


def _without(blank: Tensor, tile: Tensor, rows: slice) -> Tensor:
    """Return a tile in which the columns that are ``blank`` score -inf."""
    return tile.masked_fill_(blank, -torch.inf)


def _largest(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest values of each row and their columns, equal ones by column.

    The k largest are in the k groups of columns with the largest maxima, which are found without a
    selection among all columns. If values tie, all values as large as the last of them are sorted.
    """
    num_columns = tile.shape[1]
    if num_columns <= 4 * _GROUP * (k + 1):
        most = min(k + 1, num_columns)
        values, columns = tile.topk(most, dim=1)
    else:
        whole = num_columns - num_columns % _GROUP
        maxima = tile[:, :whole].reshape(len(tile), -1, _GROUP).amax(2)
        groups = maxima.topk(k + 1, dim=1).indices
        candidates = (groups[:, :, None] * _GROUP + torch.arange(_GROUP)).flatten(1)
        rest = torch.arange(whole, num_columns).expand(len(tile), -1)
        candidates = torch.cat([candidates, rest], 1)
        values, at = tile.gather(1, candidates).topk(k + 1, dim=1)
        columns = candidates.gather(1, at)
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]
    for row in tied.tolist():
        there = (~(tile[row] < values[row, -1])).nonzero()[:, 0]  # NaN is not less
        order = tile[row, there].sort(descending=True, stable=True)
        values[row] = order.values[: values.shape[1]]
        columns[row] = there[order.indices[: values.shape[1]]]
    return values[:, :k], columns[:, :k]


def own_places(x: Rows, y: Rows, adjust: Adjust | None = None) -> Places:
    """Return the rank of row i of y among all rows of y for row i of x, for every i.

    x and y float32 ``[N, D]``; scores as in ``nearest``.
    """
    above, tied = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    for rows, tile in tiles(x, y):
        made = tile if adjust is None else adjust(tile, rows)
        own = made[torch.arange(len(made)), torch.arange(rows.start, rows.stop)][:, None]
        above[rows] = (made > own).sum(1).numpy()
        tied[rows] = (made == own).sum(1).numpy()
    return Places(above, tied)


def hits_within(places: Places, k: int) -> NDArray[np.float64]:
    """Return for each row the chance to be among the first k if ties are broken at random."""
    return np.clip((k - places.above) / places.tied, 0.0, 1.0)


def reciprocal_ranks(places: Places) -> NDArray[np.float64]:
    """Return for each row the mean of 1 / rank over the ranks that its ties allow."""
    most = int((places.above + places.tied).max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 1))])
    return np.asarray((harmonic[places.above + places.tied] - harmonic[places.above]) / places.tied)
