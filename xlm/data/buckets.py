"""Rows of similar length padded to few lengths, and their batches in a computed order.

Rows sorted by length are cut into buckets; a bucket has one padded length and one number of rows in
a batch. An epoch permutes the (bucket, batch) slots, and the rows inside each bucket; any batch of
any epoch is computed directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm.rng import BlockedPermutation, Part, Permutation

SCALE = float(1 << 32)
"""Rows that stand for a share of 1 when histograms are added."""
MOST_CANDIDATES = 1024
"""Number of distinct lengths above which only multiples of a step are tried as padded lengths."""

MOST_ORDERS = 32
"""Small buckets whose order is kept, 32 KiB each at most."""


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
    # added[j, i]: cells of the levels from i to j if those, from i + 1 on, are padded to j's length
    added = (rows[:, None] - rows) * np.concatenate([[0], lengths])[:, None]
    below = np.arange(len(cells)) < np.arange(len(cells))[:, None]
    below[:, 0] = False
    choices = []
    for _ in range(min(num_lengths, len(lengths)) - 1):
        splits = np.where(below, cells + added, np.iinfo(np.int64).max)
        best = splits.argmin(axis=1)
        fewest = splits[np.arange(len(cells)), best]
        fewer = fewest < cells
        choices.append(np.where(fewer, best, 0))
        cells = np.where(fewer, fewest, cells)
    return _backtrack(lengths, choices)


def common_lengths(
    weighted: Sequence[tuple[float, NDArray[np.int64]]], num_lengths: int
) -> list[int]:
    """Return ``best_lengths`` for several texts, each with its share of the rows that are drawn.

    Each is (share, histogram); the histogram's own size does not matter.
    """
    longest = max(len(histogram) for _, histogram in weighted)
    total = np.zeros(longest)
    for share, histogram in weighted:
        total[: len(histogram)] += share * histogram / max(int(histogram.sum()), 1)
    # whole numbers, rounded up: a length that occurs in any text stays
    return best_lengths(np.ceil(total * SCALE).astype(np.int64), num_lengths)


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
    is shorter. With ``parts`` above 1 each bucket is cut into so many of equal size.
    """

    def __init__(
        self,
        histogram: NDArray[np.int64],
        lengths: list[int],
        *,
        tokens_per_batch: int,
        most_rows: int | None = None,
        parts: int = 1,
    ):
        self.lengths = np.array(lengths, dtype=np.int64)
        # lengths that several texts share may be above the longest row of this one
        behind = np.minimum(self.lengths + 1, len(histogram))
        ends = np.concatenate([[0], np.cumsum(histogram)])[behind]
        self._whole = np.concatenate([[0], ends]).astype(np.int64)
        if parts > 1:
            sizes = np.diff(self._whole)[:, None]
            cuts = sizes * np.arange(1, parts + 1) // parts
            ends = (self._whole[:-1, None] + cuts).ravel()
            self.lengths = self.lengths.repeat(parts)
        self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._sizes = ends - self._starts
        rows = np.maximum(1, tokens_per_batch // np.maximum(self.lengths, 1))
        self.rows = rows if most_rows is None else np.minimum(rows, most_rows)
        """Rows in a batch, by bucket (int64)."""
        self._slots = np.concatenate([[0], np.cumsum(-(-self._sizes // self.rows))])
        self._order: BlockedPermutation | None = None
        self._orders: dict[tuple[Part, ...], NDArray[np.int64]] = {}
        self.num_rows = int(self._sizes.sum())
        self.num_slots = int(self._slots[-1])
        self.rows_of_full = self.num_rows / max(float((self._sizes / self.rows).sum()), 1e-9)
        """Mean rows of a batch if all were full."""
        self.num_cells = int((self._sizes * self.lengths).sum())
        """Cells of an epoch, padding included."""

    def whole(self) -> Iterator[tuple[int, int]]:
        """Yield the first place of each padded length's rows, and the first behind them."""
        yield from zip(self._whole[:-1].tolist(), self._whole[1:].tolist(), strict=True)

    def in_order(self, k: int) -> Slot:
        """Return batch ``k`` of the one pass in order of length."""
        return self._slot(k, None)

    def shuffled(self, k: int, *address: Part) -> Slot:
        """Return batch ``k >= 0`` of an endless pass, each epoch in an order from ``address``."""
        epoch, place = divmod(k, self.num_slots)
        if self._order is None or self._order.address != (*address, "order"):
            self._order = BlockedPermutation(self.num_slots, *address, "order")
        slot = self._order(epoch, np.array([place]))
        return self._slot(int(slot[0]), (*address, "bucket", epoch))

    def _inside(
        self, size: int, address: tuple[Part, ...], places: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the rows of a bucket of ``size`` at ``places`` (int64) of its order."""
        if size > BlockedPermutation.BLOCK:  # its batches come from all over it
            return Permutation(size, *address)(places)
        if address not in self._orders:
            self._orders[address] = Permutation(size, *address)(np.arange(size))
            for oldest in list(self._orders)[:-MOST_ORDERS]:
                self._orders.pop(oldest, None)
        return self._orders[address][places]

    def _slot(self, slot: int, address: tuple[Part, ...] | None) -> Slot:
        bucket = int(np.searchsorted(self._slots, slot, side="right")) - 1
        rows, size = int(self.rows[bucket]), int(self._sizes[bucket])
        first = (slot - int(self._slots[bucket])) * rows
        inside = np.arange(first, min(first + rows, size))
        if address is not None:
            inside = self._inside(size, (*address, bucket), inside)
        return Slot(int(self._starts[bucket]) + inside, int(self.lengths[bucket]))
