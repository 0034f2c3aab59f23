"""Rows of which few cells are not 0, such as counts of pieces, and the inner products of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


@dataclass(frozen=True)
class SparseRows:
    """Rows ``[N, width]`` by their cells that are there: row after row, columns ascending."""

    starts: NDArray[np.int64]
    """The place of each row's first cell, and the number of cells, ``[N + 1]``."""
    columns: NDArray[np.int64]
    """The column of each cell, ``[C]``."""
    values: NDArray[np.float32]
    """``[C]``."""
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of each cell, ``[C]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def scaled(self, columns: ArrayLike) -> SparseRows:
        """Return the rows with each column ``[width]`` times its factor."""
        factors = np.asarray(columns, dtype=np.float32)
        return replace(self, values=self.values * factors[self.columns])

    def unit(self) -> SparseRows:
        """Return the rows at length 1, computed in float64; a row of zeros stays."""
        own = self.values.astype(np.float64)
        norms = np.sqrt(np.bincount(self.rows, own * own, len(self)))
        scale = np.where(norms > 0, norms, 1.0)[self.rows]
        return replace(self, values=(own / scale).astype(np.float32))

    def dense(self) -> NDArray[np.float32]:
        """Return all cells, ``[N, width]``."""
        found = np.zeros((len(self), self.width), dtype=np.float32)
        found[self.rows, self.columns] = self.values
        return found

    def transposed(self, rows: slice) -> Tensor:
        """Return all cells of consecutive rows, ``[width, n]``."""
        starts = self.starts[rows.start : rows.stop + 1]
        own = slice(starts[0], starts[-1])
        found = torch.zeros(self.width, len(starts) - 1)
        places = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        found[self.columns[own], places] = torch.from_numpy(self.values[own])
        return found

    def as_tensor(self) -> Tensor:
        """Return the rows as a sparse tensor ``[N, width]``."""
        places = torch.from_numpy(np.stack([self.rows, self.columns]))
        return torch.sparse_coo_tensor(
            places, torch.from_numpy(self.values), (len(self), self.width),
            check_invariants=False, is_coalesced=True,
        )  # fmt: skip


def counted(lines: Sequence[Sequence[int] | NDArray[np.int64]], width: int) -> SparseRows:
    """Return how often each number below ``width`` is in each line, ``[N, width]``."""
    rows = np.repeat(np.arange(len(lines)), [len(own) for own in lines])
    numbers = np.concatenate([np.zeros(0, np.int64), *(np.array(own, np.int64) for own in lines)])
    cells, counts = np.unique(rows * width + numbers, return_counts=True)
    starts = np.searchsorted(cells, np.arange(len(lines) + 1) * width)
    return SparseRows(starts.astype(np.int64), cells % width, counts.astype(np.float32), width)
