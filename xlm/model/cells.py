"""Some cells of a batch: their states, or their queries row by row.

Axes: ``B`` rows, ``T`` positions, ``N`` cells, ``M`` cells of the row that has most of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SHARE = 0.5
"""Queries of more cells than this share are not worth their own order."""


def at_cells(x: Tensor, cells: Tensor | None) -> Tensor:
    """Return ``[N, D]``, the flat ``cells`` (int64 ``[N]``) of ``[B, T, D]``; all if None."""
    return x if cells is None else x.flatten(0, 1).index_select(0, cells)


class ByRow(NamedTuple):
    """Cells in rows of equal size; a row of fewer is filled up with position 0."""

    positions: Tensor
    """int64 ``[B, M]``."""
    places: Tensor
    """The place of each cell among these, flat, int64 ``[N]``."""

    def of_rows(self, x: Tensor) -> Tensor:
        """Return ``[B, M, D]``, the cells of ``[B, T, D]``."""
        rows = torch.arange(len(x), device=x.device)[:, None]
        return x[rows, self.positions]


def by_row(cells: Tensor, num_rows: int, length: int) -> ByRow | None:
    """Return flat ``cells`` (int64 ``[N]``, in any order) of ``[B, T]`` by row.

    None if they are most of the cells or none, and on other devices than CPUs, which would have to
    be waited for.
    """
    if cells.device.type != "cpu" or not 0 < len(cells) <= _SHARE * num_rows * length:
        return None
    row = cells // length
    counts = row.bincount(minlength=num_rows)
    most = int(counts.max())
    order = row.argsort(stable=True)
    rank = torch.arange(len(cells)) - (counts.cumsum(0) - counts)[row[order]]
    places = torch.empty_like(cells)
    places[order] = row[order] * most + rank
    positions = torch.zeros(num_rows * most, dtype=torch.int64)
    positions[places] = cells % length
    return ByRow(positions.view(num_rows, most), places)
