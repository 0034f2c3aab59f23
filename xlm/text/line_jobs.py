"""Answer lines a window at a time, every answer in its place: the common part of such verbs.

    every_line --window of them--> answer --> rows, in order --> standard output or a file

Memory is bounded by the window, however long the input. A file that was killed while it grew
resumes (``resuming.py``).
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xlm.errors import ConfigError, DataError
from xlm.text.line_settings import WINDOW, Invalid
from xlm.text.pipes import STANDARD, every_line, to_standard_output
from xlm.text.readers import MAX_BYTES, TOO_LONG, Line
from xlm.text.resuming import Convert, Partial, Rows

log = logging.getLogger("xlm")


@dataclass
class LineCounts:
    """Counts of answered lines; those of an interrupted start are included."""

    num_lines: int = 0
    num_empty: int = 0
    """Lines without text, those that are invalid included."""
    num_invalid: int = 0
    """Lines that are not UTF-8 or too long to be read, which ``invalid: empty`` leaves empty."""
    num_cut: int = 0
    """Lines longer than the model's positions, whose end was not read."""
    sums: dict[str, float] = field(default_factory=dict)
    """Further sums of a verb, by name."""

    def add(self, sums: Mapping[str, float]) -> None:
        """Add further sums."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def describe(self, max_length: int | None, num_new: int, seconds: float) -> str:
        """Return one line for a person; ``num_new`` lines were answered in ``seconds``.

        Lines are cut at ``max_length`` tokens (None: no line ever is).
        """
        invalid = f" ({self.num_invalid:,} of them invalid)" if self.num_invalid else ""
        speed = num_new / max(seconds, 1e-9)
        cut = f", {self.num_cut:,} cut at {max_length} tokens" if max_length is not None else ""
        empty = f"{self.num_empty:,} empty{invalid}"
        return f"{self.num_lines:,} lines, {speed:,.1f} lines/s, {empty}{cut}"


Answer = Callable[[Iterator[Line], int], Rows]
"""A function that reads a window of lines, the first of that number, to the end, and returns its
output: as texts, one a row, or as bytes."""


class LineJob:
    """A pass over the remaining lines of a file or of standard input, and its counts.

    ``answer`` may add to ``counts``; lines and invalid ones are counted here. A line that is not
    UTF-8 or too long raises DataError with its place, or, with ``invalid`` ``"empty"``, is answered
    as an empty one. ``noun`` names an answer, such as ``"translation"``, and ``identity`` holds
    everything that decides it: a file can only be continued with the same. Lines are cut at
    ``max_length`` tokens, as the closing line of the log says. ``source`` replaces the lines of the
    file.
    """

    def __init__(
        self,
        file: str,
        answer: Answer,
        *,
        noun: str,
        output: str | None = None,
        window: int = WINDOW,
        invalid: Invalid = "error",
        identity: Callable[[], Mapping[str, Any]] = dict,
        counts: LineCounts | None = None,
        max_length: int | None = None,
        source: Iterator[Line] | None = None,
    ) -> None:
        self.file, self.answer, self.noun, self.output = file, answer, noun, output
        self.window, self.invalid, self.identity = window, invalid, identity
        self.counts, self.max_length = counts or LineCounts(), max_length
        self.digest = hashlib.sha256()
        """Digest of the lines that were read."""
        self._lines = every_line(file) if source is None else source
        self._at_once = source is None and is_terminal(file)

    def windows(self) -> Iterator[Rows]:
        """Yield the rows of each window; then write the counts into the log."""
        counts, begun, start = self.counts, self.counts.num_lines, time.perf_counter()
        num_lines = 1 if self._at_once else self.window
        with tqdm(unit=" lines", initial=begun, disable=self._hides_progress()) as bar:
            while True:
                first = counts.num_lines + 1
                rows = self.answer(self._take(num_lines), first)
                if counts.num_lines < first:
                    break
                bar.update(counts.num_lines - first + 1)
                yield rows
        num_new, seconds = counts.num_lines - begun, time.perf_counter() - start
        log.info("%s", counts.describe(self.max_length, num_new, seconds))

    def rows(self) -> Iterator[str]:
        """Yield the rows one by one, as windows are done; for answers that are texts."""
        for rows in self.windows():
            assert not isinstance(rows, bytes)
            yield from rows

    def write(
        self,
        convert: Convert | None = None,
        head: bytes = b"",
        last_head: Callable[[], bytes] | None = None,
    ) -> LineCounts:
        """Write or continue ``output``, or write to standard output; return the counts.

        The file appears when all is done, ``convert`` making it of what was written. It begins
        with ``head``, which ``last_head`` replaces at the end (see ``Partial``).
        """
        if self.output is None:
            to_standard_output(self.rows())
            return self.counts
        path = Path(self.output)
        if convert is None and not head and path.exists() and not (path.is_file() or path.is_dir()):
            with path.open("wb") as stream:  # a device or a pipe
                for row in self.rows():
                    stream.write(row.encode() + b"\n")
            return self.counts
        partial = Partial(path, self.identity(), self.noun, head=head)
        with partial:
            partial.resume(self)
            for rows in self.windows():
                partial.add(rows, self)
            partial.finish(convert, last_head() if last_head else None)
        return self.counts

    def skip(self, num_lines: int) -> int:
        """Read lines that are done already; return how many there were."""
        counts = self.counts
        num_read, num_invalid = counts.num_lines, counts.num_invalid
        for _ in self._take(num_lines):
            pass
        found = counts.num_lines - num_read
        counts.num_lines, counts.num_invalid = num_read, num_invalid  # they were counted already
        return found

    def _take(self, num_lines: int) -> Iterator[Line]:
        for line in islice(self._lines, num_lines):
            self.digest.update(line.as_bytes())
            if line.reason:
                if self.invalid == "error":
                    size = f" (more than {MAX_BYTES:,} bytes)" if line.reason == TOO_LONG else ""
                    raise DataError(
                        f"{line.place}: the line is {line.reason}{size}: fix it, or give "
                        "--invalid empty, which leaves an empty line in its place"
                    )
                self.counts.num_invalid += 1
            self.counts.num_lines += 1
            yield line

    def _hides_progress(self) -> bool:
        """Return True if no bar can be shown: no terminal, or the answers are written to it."""
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        return not sys.stderr.isatty() or (self.output is None and on_terminal)


def is_terminal(file: str) -> bool:
    """Return whether the lines are typed at a terminal, so that each is answered at once."""
    return file == STANDARD and sys.stdin is not None and sys.stdin.isatty()


def check_lines(name: str, lines: object) -> None:
    """Raise ConfigError for anything but a list or tuple of strings.

    A string is refused too, as its letters would pass for lines.
    """
    if isinstance(lines, str):
        raise ConfigError(f"{name} is the string {lines[:40]!r}: give a list of strings")
    if not isinstance(lines, Sequence):
        raise ConfigError(
            f"{name} is of type {type(lines).__name__}: give a list of strings, such as "
            f"list({name})"
        )
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise ConfigError(f"{name.removesuffix('s')} {number} is {line!r}: expected a string")
