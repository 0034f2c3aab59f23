"""Lines as a source gives them, and an account of which were kept."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EMPTY = "empty"
INVALID = "invalid UTF-8"
TOO_LONG = "too long"
EMPTY_FILE = "empty file"

MAX_EXAMPLES = 5
"""Dropped lines that are kept as examples, for each reason."""
MAX_EXAMPLE = 200
"""Characters of an example."""
_SPECIAL = re.compile(r"<(?:s|/s|pad|unk|mask|special[0-9])>")


class Line(NamedTuple):
    """One line of a source: its text, or the reason why it has none."""

    text: str
    reason: str
    """Empty when the line is kept."""
    place: str
    """``file:line``."""

    def as_bytes(self) -> bytes:
        """Return the line as part of a digest."""
        return f"{self.reason}\0{self.text}\n".encode()


class Documents:
    """The kept lines with which documents begin, found while lines are read.

    An empty line ends a document, and so does a file if any line was empty.
    """

    def __init__(self) -> None:
        self._starts = array("q")
        self._has_empty_lines, self._ended, self._file = False, True, ""
        self._first_file, self._ended_first = "", False

    def keep(self, number: int, place: str) -> None:
        """Note line ``number`` (from 0) of those that are kept."""
        file = place.rpartition(":")[0]
        if not self._starts:
            self._first_file, self._ended_first = file, self._has_empty_lines
        if self._ended or file != self._file:
            self._starts.append(number)
        self._ended, self._file = False, file

    def end(self) -> None:
        """Note an empty line."""
        self._has_empty_lines = self._ended = True

    def add(self, other: Documents, num_kept: int) -> None:
        """Add what was found in the text behind this one, of which ``num_kept`` lines are kept."""
        if other._starts:
            begins = self._ended or other._ended_first or other._first_file != self._file
            if not self._starts:
                self._first_file = other._first_file
                self._ended_first = self._has_empty_lines or other._ended_first
            own = other._starts if begins else other._starts[1:]
            self._starts.extend(num_kept + start for start in own)
            self._ended, self._file = other._ended, other._file
        else:
            self._ended = self._ended or other._has_empty_lines
        self._has_empty_lines = self._has_empty_lines or other._has_empty_lines

    def to_json(self) -> dict[str, Any]:
        """Return everything but the starts as plain values."""
        return {
            "has_empty_lines": self._has_empty_lines,
            "ended": self._ended,
            "file": self._file,
            "first_file": self._first_file,
            "ended_first": self._ended_first,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], starts: NDArray[np.int64]) -> Documents:
        """Return what ``to_json`` was made of, and all starts (int64)."""
        made = cls()
        made._starts = array("q", starts.astype(np.int64).tobytes())
        for name in made.to_json():
            setattr(made, f"_{name}", found[name])
        return made

    @property
    def all_starts(self) -> NDArray[np.int64]:
        """The first line of each document (int64)."""
        return np.array(self._starts, dtype=np.int64)

    def starts(self, num_lines: int) -> NDArray[np.int64] | None:
        """Return the first line of each document (int64 ``[documents]``), of ``num_lines`` in all.

        None if no line was empty between two documents: the text says nothing about documents.
        """
        starts = self.all_starts
        starts = starts[starts < num_lines]
        return starts if self._has_empty_lines and len(starts) > 1 else None


@dataclass
class ReadReport:
    """Counts of lines read, kept and dropped; the first place of each reason."""

    num_read: int = 0
    """Lines (or pairs of lines) read."""
    num_kept: int = 0
    """Lines (or pairs) passed on."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Lines (or pairs) dropped, by reason."""
    num_spelling_specials: int = 0
    """Kept lines that spell a special token (``</s>``, ``<mask>`` ...): segmented as plain text."""
    first: dict[str, str] = field(default_factory=dict)
    """The ``file:line`` of the first line dropped for each reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """``file:line: text`` of the first dropped lines that have text, by reason."""
    documents: Documents = field(default_factory=Documents, compare=False, repr=False)
    """Borders of documents among the kept lines."""

    def keep(self, place: str, *texts: str) -> None:
        """Count a line or pair that is kept."""
        self.documents.keep(self.num_kept, place)
        self.num_read += 1
        self.num_kept += 1
        if any("<" in text and _SPECIAL.search(text) for text in texts):
            self.num_spelling_specials += 1
            self.first.setdefault("special", place)

    def drop(self, reason: str, place: str, *texts: str) -> None:
        """Count a line or pair that is dropped; its ``texts``, if it has any, are an example."""
        if reason == EMPTY:
            self.documents.end()
        self.num_read += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.first.setdefault(reason, place)
        shown = self.examples.setdefault(reason, []) if texts else []
        if texts and len(shown) < MAX_EXAMPLES:
            shown.append(f"{place}: " + " ||| ".join(text[:MAX_EXAMPLE] for text in texts))

    def add(self, other: ReadReport) -> None:
        """Add the counts of ``other``, and its first places for reasons that have none yet."""
        self.documents.add(other.documents, self.num_kept)
        self.num_read += other.num_read
        self.num_kept += other.num_kept
        self.num_spelling_specials += other.num_spelling_specials
        for reason, number in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + number
        for reason, place in other.first.items():
            self.first.setdefault(reason, place)
        for reason, shown in other.examples.items():
            own = self.examples.setdefault(reason, [])
            own += shown[: MAX_EXAMPLES - len(own)]

    def describe(self) -> str:
        """Return one line for a person: numbers, reasons, and the first place of each."""
        parts = [f"{self.num_read:,} lines read, {self.num_kept:,} kept"]
        for reason, number in self.dropped.items():
            parts.append(f"{number:,} dropped ({reason}; first at {self.first[reason]})")
        if self.num_spelling_specials:
            parts.append(
                f"{self.num_spelling_specials:,} kept as plain text though they spell a special "
                f"token (first at {self.first['special']})"
            )
        return "; ".join(parts)
