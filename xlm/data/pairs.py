"""Aligned sentences: two corpora of equal length and an index.

first/, second/  the corpora
order.bin        int64 [pairs]: the pairs stably sorted by joint length, special tokens apart
longer.bin       int64 [pairs]: the same by the length of the longer side
lengths.joint.bin, lengths.longer.bin
                 int64 [longest + 1]: the number of pairs of each length
header.json      format version, languages, tokenizer's digest, what was dropped, the SHA-256 of the
                 orders, of both headers and of itself

Older folders have ``order.bin`` alone; what they lack is computed when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus import CHECKED_AT_OPENING, Corpus, check_digest
from xlm.data.lengths import ORDERS, LengthIndex, Measure, index_files, write_lengths
from xlm.digests import digests, sealed
from xlm.errors import DataError
from xlm.storage import HEADER, read_header, write_json
from xlm.text.tokenizers.tokenizer import Tokenizer

FORMAT_VERSION = 1
SIDES = ("first", "second")


class Pairs:
    """Aligned sentences: row i is sentence i of the first corpus and of the second.

    Raises DataError if the two have different numbers of sentences or tokenizers.
    """

    def __init__(
        self,
        first: Corpus,
        second: Corpus,
        *,
        dropped: Mapping[str, int] | None = None,
        index: LengthIndex | None = None,
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
        self.index = LengthIndex(self.sides) if index is None else index
        """Orders and numbers of the rows by length."""

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
        index = LengthIndex.open((first, second), path, header.get("longest", {}), {"joint"})
        pairs = cls(first, second, dropped=header["dropped"], index=index)
        if first.text_size.tokens + second.text_size.tokens <= CHECKED_AT_OPENING:
            index.check()
        return pairs

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
        # no measure of length depends on the order of the sides
        return Pairs(second, first, dropped=self.dropped, index=self.index)

    def order(self, measure: Measure = "joint") -> NDArray[np.int64]:
        """Return the rows (int64 ``[pairs]``) stably sorted by length.

        Of opened pairs it is mapped from disk, unless an older version wrote them.
        """
        return self.index.order(measure)

    def histogram(self, measure: Measure = "joint") -> NDArray[np.int64]:
        """Return the number of rows of each length (int64), special tokens apart."""
        return self.index.histogram(measure)


def write_index(
    folder: Path, tokenizer: Tokenizer, *, dropped: Mapping[str, int] | None = None
) -> None:
    """Write ``order.bin`` and the header beside corpora that already exist in ``folder``."""
    sides = [Corpus.open(folder / side) for side in SIDES]
    longest = write_lengths(folder, sides, (*ORDERS,))
    header = {
        "format_version": FORMAT_VERSION,
        "languages": [side.language for side in sides],
        "tokenizer": tokenizer.digest,
        "rows": len(sides[0]),
        "dropped": dict(dropped or {}),
        "longest": longest,
        "files": digests(folder, [*index_files(ORDERS), *(f"{side}/{HEADER}" for side in SIDES)]),
    }
    write_json(folder / HEADER, sealed(header))
