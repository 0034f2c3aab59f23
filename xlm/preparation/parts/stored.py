"""Normalized lines on disk, as a piece of a source gave them.

A piece is a folder: for each column ``0.text`` (a line each), ``0.reasons`` (a byte a line: why it
is dropped) and, if the places are not numbered one by one, ``0.places``; ``piece.json``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from xlm.preparation.parts.folders import new_part, open_part
from xlm.storage import map_array
from xlm.text.read_report import Line

PIECE = "piece.json"
Sides = tuple[Line, ...]
"""A line of text, or the two of a pair."""
_MOST_REASONS = 256


class _Column:
    """A column that is being written."""

    def __init__(self, folder: Path, number: int, stack: ExitStack) -> None:
        self._text = stack.enter_context(_opened(folder / f"{number}.text"))
        self._reasons = stack.enter_context(open(folder / f"{number}.reasons", "wb"))
        self._codes = {"": 0}
        self._path = folder / f"{number}.places"
        self._stack = stack
        self._places: IO[str] | None = None
        self._prefix, self._first, self.num_lines = "", 0, 0

    def add(self, line: Line) -> None:
        self._add_place(line.place)
        self._text.write(line.text + "\n")
        code = self._codes.setdefault(line.reason, len(self._codes))
        assert code < _MOST_REASONS
        self._reasons.write(bytes([code]))
        self.num_lines += 1

    def _add_place(self, place: str) -> None:
        prefix, _, number = place.rpartition(":")
        if not self.num_lines:
            self._prefix, self._first = prefix, int(number) if number.isdecimal() else 0
        if self._places is None:
            if place == f"{self._prefix}:{self._first + self.num_lines}":
                return
            self._places = self._stack.enter_context(_opened(self._path))
            for at in range(self.num_lines):
                self._places.write(f"{self._prefix}:{self._first + at}\n")
        self._places.write(place.replace("\n", " ") + "\n")

    def to_json(self) -> dict[str, Any]:
        return {
            "reasons": list(self._codes),
            "prefix": self._prefix,
            "first": self._first,
            "listed": self._places is not None,
        }


def _opened(path: Path) -> IO[str]:
    return open(path, "w", encoding="utf-8", errors="surrogatepass", newline="\n")


def write_piece(folder: Path, rows: Iterable[Sequence[Line]], num_columns: int) -> None:
    """Write rows of ``num_columns`` lines into ``folder``, which appears whole or not at all."""
    with new_part(folder, PIECE) as (staging, content):
        with ExitStack() as stack:
            columns = [_Column(staging, number, stack) for number in range(num_columns)]
            for row in rows:
                for column, line in zip(columns, row, strict=True):
                    column.add(line)
        content["lines"] = columns[0].num_lines
        content["columns"] = [own.to_json() for own in columns]


@dataclass(frozen=True)
class Stretch:
    """A column of a piece that was written."""

    folder: Path
    column: int
    num_lines: int
    reasons: tuple[str, ...]
    """What the codes of reasons stand for; the first is "", of lines that are kept."""
    prefix: str
    first: int
    """Number of the first line, if they are numbered one by one."""
    listed: bool
    """True if places are listed in a file."""

    @classmethod
    def open(cls, folder: Path, column: int) -> Stretch:
        """Return a column of the piece in ``folder``."""
        found = open_part(folder, PIECE)
        own = found["columns"][column]
        return cls(
            folder, column, found["lines"], tuple(own["reasons"]), own["prefix"], own["first"],
            own["listed"],
        )  # fmt: skip

    def codes(self) -> NDArray[np.uint8]:
        """Return the code of each line's reason, 0 for those that are kept (uint8 ``[lines]``)."""
        return map_array(self.folder / f"{self.column}.reasons", np.uint8, self.num_lines)

    def lines(self, start: int, end: int, num_before: int) -> Iterator[Line]:
        """Yield lines ``start`` to ``end``; the file has ``num_before`` before this piece."""
        codes = self.codes()[start:end].tolist()
        with ExitStack() as stack:
            texts = self._read("text", start, end, stack)
            first = self.first + num_before
            places: Iterable[str] = (
                self._read("places", start, end, stack)
                if self.listed
                else (f"{self.prefix}:{number}" for number in range(first + start, first + end))
            )
            for text, code, place in zip(texts, codes, places, strict=True):
                yield Line(text, self.reasons[code], place)

    def texts(self) -> Iterator[str]:
        """Yield the text of every line; empty if it is dropped."""
        with ExitStack() as stack:
            yield from self._read("text", 0, self.num_lines, stack)

    def _read(self, kind: str, start: int, end: int, stack: ExitStack) -> Iterator[str]:
        path = self.folder / f"{self.column}.{kind}"
        file = stack.enter_context(
            open(path, encoding="utf-8", errors="surrogatepass", newline="\n")
        )
        return (line[:-1] for line in itertools.islice(file, start, end))


@dataclass(frozen=True)
class Column:
    """A text, or a side of a pair, in all its pieces, one behind the other."""

    stretches: tuple[Stretch, ...]
    before: tuple[int, ...]
    """Number of lines of the same file before each piece."""

    @property
    def num_lines(self) -> int:
        """Number of lines, dropped ones included."""
        return sum(own.num_lines for own in self.stretches)

    def is_kept(self) -> NDArray[np.bool_]:
        """Return whether each line has no reason to be dropped (bool ``[lines]``)."""
        parts = [own.codes() == 0 for own in self.stretches]
        return np.concatenate([np.zeros(0, dtype=bool), *parts])

    def lines(self, start: int = 0, end: int | None = None) -> Iterator[Line]:
        """Yield lines ``start`` to ``end``, their places numbered as in the whole file."""
        end = self.num_lines if end is None else end
        first = 0
        for own, before in zip(self.stretches, self.before, strict=True):
            low, high = max(start - first, 0), min(end - first, own.num_lines)
            if low < high:
                yield from own.lines(low, high, before)
            first += own.num_lines


@dataclass(frozen=True)
class StoredText:
    """All rows of a language or a pair."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        assert len({own.num_lines for own in self.columns}) == 1

    @property
    def num_rows(self) -> int:
        """Number of rows, dropped ones included."""
        return self.columns[0].num_lines

    def rows(self, start: int = 0, end: int | None = None) -> Iterator[Sides]:
        """Yield rows ``start`` to ``end``."""
        return zip(*(own.lines(start, end) for own in self.columns), strict=True)

    def is_kept(self) -> NDArray[np.bool_]:
        """Return whether no side of a row has a reason to be dropped (bool ``[rows]``)."""
        kept: NDArray[np.bool_] = np.all([own.is_kept() for own in self.columns], axis=0)
        return kept

    def kept_texts(self, side: int) -> Iterator[str]:
        """Yield the text of one side of each row that is kept."""
        texts = itertools.chain.from_iterable(own.texts() for own in self.columns[side].stretches)
        return itertools.compress(texts, self.is_kept().tolist())


def column_of(folders: Sequence[tuple[Path, int]], ranges: Sequence[tuple[str, bool]]) -> Column:
    """Return the column that pieces make up.

    ``folders`` name each piece and its column; ``ranges`` its file, and whether it is a byte range
    of it, whose lines are numbered on from those of the range before.
    """
    stretches = [Stretch.open(folder, column) for folder, column in folders]
    before, counted, file = [], 0, ""
    for own, (name, is_range) in zip(stretches, ranges, strict=True):
        if not is_range or name != file:
            counted = 0
        before.append(counted)
        counted, file = counted + own.num_lines, name
    return Column(tuple(stretches), tuple(before))
