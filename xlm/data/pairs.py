"""Aligned sentences: two corpora of equal length and an index.

first/, second/  the corpora
order.bin        int64 [pairs]: the pairs stably sorted by joint length, special tokens apart
header.json      format version, languages, tokenizer's digest, what was dropped, the SHA-256 of the
                 order, of both headers and of itself
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus import CHECKED_AT_OPENING, Corpus, check_digest
from xlm.digests import digests, sealed
from xlm.errors import DataError
from xlm.storage import CHUNK, HEADER, map_array, read_header, write_json
from xlm.text.tokenizers.tokenizer import Tokenizer

FORMAT_VERSION = 1
SIDES = ("first", "second")
LONGEST_SORTED = (1 << 16) - 1
"""Longest length that the counting sort distinguishes, which bounds its memory."""

Measure = Literal["joint", "longer"]


class Pairs:
    """Aligned sentences: row i is sentence i of the first corpus and of the second.

    Raises DataError if the two have different numbers of sentences or tokenizers.
    """

    def __init__(
        self,
        first: Corpus,
        second: Corpus,
        *,
        order: NDArray[np.int64] | None = None,
        dropped: Mapping[str, int] | None = None,
    ):
        self.sides: tuple[Corpus, ...] = (first, second)
        if len(first) != len(second):
            raise DataError(
                f"{len(first)} sentences in {first.language} and {len(second)} in "
                f"{second.language}: expected the same number, aligned line by line"
            )
        if first.tokenizer_digest != second.tokenizer_digest:
            raise DataError(
                f"{first.language} was made by tokenizer {first.tokenizer_digest[:12]}, "
                f"{second.language} by {second.tokenizer_digest[:12]}: prepare both with one "
                "tokenizer"
            )
        self.dropped = dict(dropped or {})
        self._orders: dict[str, NDArray[np.int64]] = {} if order is None else {"joint": order}

    @classmethod
    def open(cls, path: Path | str, tokenizer: Tokenizer | None = None) -> Pairs:
        """Map the pairs in folder ``path``. Raises DataError as ``Corpus.open`` does."""
        path = Path(path)
        keys = ("languages", "tokenizer", "rows", "dropped")
        header = read_header(path / HEADER, "pairs", keys, FORMAT_VERSION)
        if tokenizer is not None:
            check_digest(path, header["tokenizer"], tokenizer)
        first, second = (Corpus.open(path / side, tokenizer) for side in SIDES)
        num = header["rows"]
        for side, corpus in zip(SIDES, (first, second), strict=True):
            if len(corpus) != num:
                raise DataError(
                    f"{path / side} has {len(corpus)} sentences, but {path / HEADER} says "
                    f"{num}: prepare it again"
                )
        if [first.language, second.language] != list(header["languages"]):
            raise DataError(
                f"{path} has {first.language} and {second.language}, but {path / HEADER} "
                f"says {' and '.join(map(str, header['languages']))}: prepare it again"
            )
        order = map_array(path / "order.bin", np.int64, num)
        pairs = cls(first, second, order=order, dropped=header["dropped"])
        if first.text_size.tokens + second.text_size.tokens <= CHECKED_AT_OPENING:
            pairs.check_order(path / "order.bin")
        return pairs

    def check_order(self, where: Path) -> None:
        """Raise DataError unless the joint order has each row once, stably sorted by length."""
        order = self.order()
        seen = np.zeros(len(order), dtype=bool)
        inside = (order >= 0) & (order < len(order))
        seen[order[inside]] = True
        lengths = np.concatenate([*_lengths(self.sides, "joint"), np.zeros(0, np.int64)])
        ordered = lengths[order] if seen.all() and inside.all() else lengths[:0]
        steps = np.diff(ordered)
        if len(ordered) < len(order) or (steps < 0).any() or (np.diff(order)[steps == 0] < 0).any():
            raise DataError(
                f"{where} does not sort the rows by length: the file is damaged; prepare the "
                "text again"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.sides[0])

    @property
    def languages(self) -> tuple[str, ...]:
        """Language of each side."""
        return tuple(side.language for side in self.sides)

    def swapped(self) -> Pairs:
        """Return the same rows with the sides exchanged."""
        first, second = self.sides
        swapped = Pairs(second, first, dropped=self.dropped)
        swapped._orders = self._orders  # no measure of length depends on the order of the sides
        return swapped

    def order(self, measure: Measure = "joint") -> NDArray[np.int64]:
        """Return the rows (int64 ``[pairs]``) stably sorted by length.

        The order ``joint`` of opened pairs is mapped from disk.
        """
        if measure not in self._orders:
            order = np.empty(len(self), dtype=np.int64)
            sort_by_length(self.sides, order, measure)
            self._orders[measure] = order
        return self._orders[measure]

    def histogram(self, measure: Measure = "joint") -> NDArray[np.int64]:
        """Return the number of rows of each length (int64), special tokens apart."""
        return length_histogram(self.sides, measure)


def write_index(
    folder: Path, tokenizer: Tokenizer, *, dropped: Mapping[str, int] | None = None
) -> None:
    """Write ``order.bin`` and the header beside corpora that already exist in ``folder``."""
    sides = [Corpus.open(folder / side) for side in SIDES]
    num = len(sides[0])
    if num:
        order = np.memmap(folder / "order.bin", dtype=np.int64, mode="w+", shape=(num,))
        sort_by_length(sides, order)
        order.flush()
    else:
        (folder / "order.bin").touch()
    header = {
        "format_version": FORMAT_VERSION,
        "languages": [side.language for side in sides],
        "tokenizer": tokenizer.digest,
        "rows": num,
        "dropped": dict(dropped or {}),
        "files": digests(folder, ["order.bin", *(f"{side}/{HEADER}" for side in SIDES)]),
    }
    write_json(folder / HEADER, sealed(header))


def sort_by_length(
    sides: Sequence[Corpus], order: NDArray[np.int64], measure: Measure = "joint"
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


def length_histogram(sides: Sequence[Corpus], measure: Measure) -> NDArray[np.int64]:
    """Return the number of rows of each length (int64 ``[longest + 1]``)."""
    counts = np.zeros(1, dtype=np.int64)
    for lengths in _lengths(sides, measure):
        more = np.bincount(lengths, minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return counts


def _lengths(sides: Sequence[Corpus], measure: Measure) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(sides[0]), CHUNK):
        end = min(start + CHUNK, len(sides[0]))
        lengths = [side.lengths(start, end) for side in sides]
        joint = np.sum(lengths, axis=0) if measure == "joint" else np.max(lengths, axis=0)
        yield np.minimum(joint, LONGEST_SORTED)
