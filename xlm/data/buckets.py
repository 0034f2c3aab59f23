"""Rows of similar length padded to few lengths, and their batches in a computed order.

Rows sorted by length are cut into buckets; a bucket has one padded length and one number of rows in
a batch. An epoch permutes the (bucket, batch) slots, and the rows inside each bucket; any batch of
any epoch is computed directly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm.rng import Part, Permutation

MOST_CANDIDATES = 1024
"""Number of distinct lengths above which only multiples of a step are tried as padded lengths."""


def best_lengths(histogram: NDArray[np.int64], num_lengths: int) -> list[int]:
    """Return at most ``num_lengths`` padded lengths with the fewest padded cells in total.

    ``histogram`` is int64 ``[longest + 1]``: the number of rows of each length. Exact (a dynamic
    program over the lengths that occur, O(num_lengths * lengths**2)) up to ``MOST_CANDIDATES``
    lengths; beyond, lengths are rounded up to a common step first.
    """
    longest = int(np.flatnonzero(histogram)[-1]) if histogram.any() else 0
    step = -(-longest // MOST_CANDIDATES) if longest else 1
    rounded = -(-np.arange(len(histogram)) // step)
    counts = np.bincount(rounded, weights=histogram).astype(np.int64)
    levels = np.flatnonzero(counts)
    if not len(levels):
        return []
    lengths = np.minimum(levels * step, longest)
    rows = np.concatenate([[0], np.cumsum(counts[levels])])
    # cells[j]: fewest padded cells of the first j levels, with as many lengths as the round number
    cells = rows * np.concatenate([[0], lengths])
    choices = []
    for _ in range(min(num_lengths, len(lengths)) - 1):
        totals = cells.copy()
        choice = np.zeros(len(cells), dtype=np.int64)
        for j in range(2, len(cells)):
            split = cells[1:j] + (rows[j] - rows[1:j]) * lengths[j - 1]
            best = int(np.argmin(split))
            if split[best] < totals[j]:
                totals[j], choice[j] = split[best], best + 1
        cells = totals
        choices.append(choice)
    return _backtrack(lengths, choices)


def _backtrack(lengths: NDArray[np.int64], choices: list[NDArray[np.int64]]) -> list[int]:
    """Return the chosen lengths, ascending; choice 0 means that one length fewer is as good."""
    chosen = []
    j = len(lengths)
    for choice in reversed(choices):
        if choice[j]:
            chosen.append(int(lengths[j - 1]))
            j = int(choice[j])
    chosen.append(int(lengths[j - 1]))
    return chosen[::-1]


@dataclass(frozen=True)
class Slot:
    """One batch: positions in the sorted order, and the length that its rows are padded to."""

    positions: NDArray[np.int64]
    length: int


class Buckets:
    """Batches of rows sorted by length; ``batch(k, epoch)`` in O(rows of the batch).

    ``histogram`` is int64: the number of rows of each length, special tokens included, in the
    sorted order; ``lengths`` ascending padded lengths, the last at least the longest row. A batch
    holds ``max(1, tokens_per_batch // length)`` rows, at most ``most_rows``; only a bucket's last
    is shorter.
    """

    def __init__(
        self,
        histogram: NDArray[np.int64],
        lengths: list[int],
        *,
        tokens_per_batch: int,
        most_rows: int | None = None,
    ):
        self.lengths = np.array(lengths, dtype=np.int64)
        ends = np.concatenate([[0], np.cumsum(histogram)])[self.lengths + 1]
        self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._sizes = ends - self._starts
        rows = np.maximum(1, tokens_per_batch // np.maximum(self.lengths, 1))
        self.rows = rows if most_rows is None else np.minimum(rows, most_rows)
        """Rows in a batch, by bucket (int64)."""
        self._slots = np.concatenate([[0], np.cumsum(-(-self._sizes // self.rows))])
        self.num_rows = int(self._sizes.sum())
        self.num_slots = int(self._slots[-1])
        self.rows_of_full = self.num_rows / max(float((self._sizes / self.rows).sum()), 1e-9)
        """Mean rows of a batch if all were full."""
        self.num_cells = int((self._sizes * self.lengths).sum())
        """Cells of an epoch, padding included."""

    def in_order(self, k: int) -> Slot:
        """Return batch ``k`` of the one pass in order of length."""
        return self._slot(k, None)

    def shuffled(self, k: int, *address: Part) -> Slot:
        """Return batch ``k >= 0`` of an endless pass, each epoch in an order from ``address``."""
        epoch, place = divmod(k, self.num_slots)
        slot = Permutation(self.num_slots, *address, "order", epoch)(np.array([place]))
        return self._slot(int(slot[0]), (*address, "bucket", epoch))

    def _slot(self, slot: int, address: tuple[Part, ...] | None) -> Slot:
        bucket = int(np.searchsorted(self._slots, slot, side="right")) - 1
        rows, size = int(self.rows[bucket]), int(self._sizes[bucket])
        first = (slot - int(self._slots[bucket])) * rows
        inside = np.arange(first, min(first + rows, size))
        if address is not None:
            inside = Permutation(size, *address, bucket)(inside)
        return Slot(int(self._starts[bucket]) + inside, int(self.lengths[bucket]))
