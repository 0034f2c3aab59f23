"""Rows sorted by their length: orders and histograms, computed or mapped from disk.

order.bin, longer.bin                    int64 [rows]: the rows stably sorted by a measure of length
lengths.joint.bin, lengths.longer.bin    int64 [longest + 1]: the number of rows of each length

Lengths are without special tokens. ``joint`` is that of both sides together, ``longer`` that of the
longer one; of a text, which has one side, both are that of the sentence.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from xlm import disk
from xlm.errors import DataError
from xlm.storage import CHUNK, map_array

log = logging.getLogger("xlm")

LONGEST_SORTED = (1 << 16) - 1
"""Longest length that the counting sort distinguishes, which bounds its memory."""
SAID_FROM = 1 << 22
"""Rows from which on it is said that they are sorted anew at each start."""
KEPT, KEPT_FROM = ".orders", 1 << 20
"""Folder of orders that depend on settings, and the rows from which on they are kept there."""

Measure = Literal["joint", "longer"]
ORDERS: dict[Measure, str] = {"joint": "order.bin", "longer": "longer.bin"}
"""File of the rows sorted by each measure of length."""
HISTOGRAMS: dict[Measure, str] = {"joint": "lengths.joint.bin", "longer": "lengths.longer.bin"}


class Side(Protocol):
    """The sentences of one side: a corpus."""

    def __len__(self) -> int: ...

    def lengths(self, start: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """Return the lengths of sentences ``start`` to ``end`` (int64)."""
        ...

    def lengths_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths of some sentences (int64)."""
        ...


class LengthIndex:
    """Orders and histograms of rows by length, each computed or mapped when it is asked for."""

    def __init__(self, sides: Sequence[Side]):
        self._sides = tuple(sides)
        self._orders: dict[str, NDArray[np.int64]] = {}
        self._histograms: dict[str, NDArray[np.int64]] = {}
        self._folder: Path | None = None
        self._longest: dict[str, int] = {}
        self._mapped: set[str] = set()

    @classmethod
    def open(
        cls,
        sides: Sequence[Side],
        folder: Path,
        longest: Mapping[str, Any],
        orders: Collection[Measure] = (),
    ) -> LengthIndex:
        """Return the index whose files are in ``folder``; DataError for one of another size.

        ``longest`` gives the longest length by measure, as the header has it; without it there are
        only ``orders``, or nothing, and the rest is computed.
        """
        index = cls(sides)
        index._folder = folder
        index._longest = {name: int(size) for name, size in longest.items() if name in ORDERS}
        index._mapped = {*orders, *index._longest}
        for measure in index._mapped:
            index.order(measure)  # type: ignore[arg-type]
        return index

    def order(self, measure: Measure) -> NDArray[np.int64]:
        """Return the rows stably sorted by length (int64 ``[rows]``)."""
        if measure not in self._orders:
            num = len(self._sides[0])
            if measure in self._mapped and self._folder is not None:
                found = map_array(self._folder / ORDERS[measure], np.int64, num)
            else:
                if num >= SAID_FROM:
                    log.info(
                        "%s: sorting %d rows by length, as at each start; prepared again, the text "
                        "would hold their order", self._folder or "text in memory", num,
                    )  # fmt: skip
                found = np.empty(num, dtype=np.int64)
                sort_by_length(self._sides, found, measure)
            self._orders[measure] = found
        return self._orders[measure]

    def expect_random_access(self, measure: Measure) -> None:
        """Say that an order will be read in random places: the system reads no more ahead."""
        order = self.order(measure)
        if measure in self._mapped and self._folder is not None and len(order):
            disk.expect_random_access(order.ctypes.data, order.nbytes)

    def histogram(self, measure: Measure) -> NDArray[np.int64]:
        """Return the number of rows of each length (int64 ``[longest + 1]``)."""
        if measure not in self._histograms:
            if measure in self._longest and self._folder is not None:
                size = self._longest[measure] + 1
                found = map_array(self._folder / HISTOGRAMS[measure], np.int64, size)
            else:
                found = length_histogram(self._sides, measure)
            self._histograms[measure] = found
        return self._histograms[measure]

    def by_difference(
        self,
        order: NDArray[np.int64],
        stretches: Sequence[tuple[int, int]],
        sides: Sequence[Side],
    ) -> NDArray[np.int64]:
        """Return ``order`` with each stretch of it sorted by how much longer the first side is.

        That of many rows is kept in a file beside them, which all processes and later starts map;
        if none can be written there, in memory.
        """
        if len(order) < KEPT_FROM or self._folder is None:
            return _sorted_by_difference(order, order.copy(), stretches, sides)
        is_swapped = sides[0] is not self._sides[0]
        address = json.dumps([len(order), is_swapped, stretches])
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        path = self._folder / KEPT / f"{name}.bin"
        try:
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                handle, beside = tempfile.mkstemp(dir=path.parent)
                os.close(handle)
                made = np.memmap(beside, dtype=np.int64, mode="w+", shape=(len(order),))
                _sorted_by_difference(order, made, stretches, sides)
                made.flush()
                os.replace(beside, path)  # several processes may make it at once
            return map_array(path, np.int64, len(order))
        except OSError as refused:
            log.warning(
                "%s: cannot be written (%s): each process keeps an order of %d rows in memory",
                path, refused.strerror, len(order),
            )  # fmt: skip
            return _sorted_by_difference(order, order.copy(), stretches, sides)

    def check(self) -> None:
        """Raise DataError unless each mapped order has each row once, stably sorted by length."""
        for measure in ORDERS:
            if measure in self._mapped and self._folder is not None:
                self._check(measure, self._folder / ORDERS[measure])

    def _check(self, measure: Measure, where: Path) -> None:
        order = self.order(measure)
        seen = np.zeros(len(order), dtype=bool)
        inside = (order >= 0) & (order < len(order))
        seen[order[inside]] = True
        lengths = np.concatenate([*_lengths(self._sides, measure), np.zeros(0, np.int64)])
        ordered = lengths[order] if seen.all() and inside.all() else lengths[:0]
        steps = np.diff(ordered)
        if len(ordered) < len(order) or (steps < 0).any() or (np.diff(order)[steps == 0] < 0).any():
            raise DataError(
                f"{where} does not sort the rows by length: the file is damaged; prepare the "
                "text again"
            )
        if measure in self._longest:
            expected = np.bincount(lengths, minlength=1)
            if not np.array_equal(self.histogram(measure), expected):
                raise DataError(
                    f"{where.parent / HISTOGRAMS[measure]} has other lengths than the text: the "
                    "file is damaged; prepare the text again"
                )


def _sorted_by_difference(
    order: NDArray[np.int64],
    found: NDArray[np.int64],
    stretches: Sequence[tuple[int, int]],
    sides: Sequence[Side],
) -> NDArray[np.int64]:
    """Fill ``found`` with the order, each stretch stably sorted by the difference of the sides."""
    for start, end in stretches:
        own = order[start:end]
        first, second = (side.lengths_of(own) for side in sides)
        found[start:end] = own[np.argsort(first - second, kind="stable")]
    behind = stretches[-1][1] if stretches else 0
    found[behind:] = order[behind:]
    return found


def index_files(measures: Iterable[Measure]) -> list[str]:
    """Return the names of the files of an index."""
    return [name for own in measures for name in (ORDERS[own], HISTOGRAMS[own])]


def write_lengths(
    folder: Path, sides: Sequence[Side], measures: Iterable[Measure]
) -> dict[str, int]:
    """Write the files of ``index_files``; return the longest length by measure."""
    num = len(sides[0])
    longest: dict[str, int] = {}
    for measure in measures:
        counts = length_histogram(sides, measure)
        counts.tofile(folder / HISTOGRAMS[measure])
        longest[measure] = len(counts) - 1
        if not num:
            (folder / ORDERS[measure]).touch()
            continue
        order = np.memmap(folder / ORDERS[measure], dtype=np.int64, mode="w+", shape=(num,))
        sort_by_length(sides, order, measure)
        order.flush()
    return longest


def sort_by_length(
    sides: Sequence[Side], order: NDArray[np.int64], measure: Measure = "joint"
) -> None:
    """Fill ``order`` (int64 ``[rows]``) with the rows, stably sorted by length.

    It is a counting sort in two passes: memory does not grow with the number of rows, so that
    ``order`` may be a mapped file.
    """
    counts = length_histogram(sides, measure)
    next_free = np.cumsum(counts) - counts
    start = 0
    for lengths in _lengths(sides, measure):
        by_length = np.argsort(lengths, kind="stable")
        ordered = lengths[by_length]
        rank_among_equals = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        order[next_free[ordered] + rank_among_equals] = start + by_length
        next_free += np.bincount(ordered, minlength=len(counts))
        start += len(lengths)


def length_histogram(sides: Sequence[Side], measure: Measure) -> NDArray[np.int64]:
    """Return the number of rows of each length (int64 ``[longest + 1]``)."""
    counts = np.zeros(1, dtype=np.int64)
    for lengths in _lengths(sides, measure):
        more = np.bincount(lengths, minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return counts


def _lengths(sides: Sequence[Side], measure: Measure) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(sides[0]), CHUNK):
        end = min(start + CHUNK, len(sides[0]))
        lengths = [side.lengths(start, end) for side in sides]
        joint = np.sum(lengths, axis=0) if measure == "joint" else np.max(lengths, axis=0)
        yield np.minimum(joint, LONGEST_SORTED)
