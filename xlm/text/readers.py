"""Lines of normalized text from files and data sets, with an account of what was dropped.

    source -> raw lines -> decode -> normalize -> kept | dropped  (ReadReport counts both)

A source is a string: the path of a text file (plain, ``.gz``, ``.zst``, ``.bz2``, ``.xz``), or
``datasets:NAME_OR_PATH?split=train&column=text&config=...`` for anything that Hugging Face
``datasets`` reads. Everything streams: memory is bounded by ``max_bytes``, however long a line is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from xlm.errors import ConfigError, DataError
from xlm.text import files
from xlm.text.normalize import normalize

MAX_BYTES = 1 << 20
DATASETS = "datasets:"

EMPTY = "empty"
INVALID = "invalid UTF-8"
TOO_LONG = "too long"
_SPECIAL = re.compile(r"<(?:s|/s|pad|unk|mask|special[0-9])>")


@dataclass
class ReadReport:
    """What was read, kept and dropped; the first place of each reason."""

    num_read: int = 0
    """Lines (or pairs of lines) read."""
    num_kept: int = 0
    """Lines (or pairs) passed on."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Lines (or pairs) dropped, by reason."""
    num_spelling_specials: int = 0
    """Kept lines that spell a special token (``</s>``, ``<mask>`` ...): segmented as plain text."""
    first: dict[str, str] = field(default_factory=dict)
    """``file:line`` where each reason was met first."""

    def keep(self, place: str, *texts: str) -> None:
        """Count a line or pair that is kept."""
        self.num_read += 1
        self.num_kept += 1
        if any("<" in text and _SPECIAL.search(text) for text in texts):
            self.num_spelling_specials += 1
            self.first.setdefault("special", place)

    def drop(self, reason: str, place: str) -> None:
        """Count a line or pair that is dropped."""
        self.num_read += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.first.setdefault(reason, place)

    def add(self, other: ReadReport) -> None:
        """Add the counts of ``other``; its first places are taken where there is none yet."""
        self.num_read += other.num_read
        self.num_kept += other.num_kept
        self.num_spelling_specials += other.num_spelling_specials
        for reason, number in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + number
        self.first = {**other.first, **self.first}

    def describe(self) -> str:
        """One line for a person: numbers, reasons, and where each was met first."""
        parts = [f"{self.num_read:,} lines read, {self.num_kept:,} kept"]
        for reason, number in self.dropped.items():
            parts.append(f"{number:,} dropped ({reason}; first at {self.first[reason]})")
        if self.num_spelling_specials:
            parts.append(
                f"{self.num_spelling_specials:,} kept as plain text though they spell a special "
                f"token (first at {self.first['special']})"
            )
        return "; ".join(parts)


class Line(NamedTuple):
    """One line of a source: its text, or the reason why it has none."""

    text: str
    reason: str
    """Empty when the line is kept."""
    place: str
    """``file:line``."""


def open_lines(
    source: str, report: ReadReport, *, invalid: str = "error", max_bytes: int = MAX_BYTES
) -> Iterator[str]:
    """Return the normalized, non-empty lines of a source, counted in ``report``.

    A source is the path of a text file or ``datasets:NAME``, a data set on the hub or a local
    folder or file (json, csv, parquet, arrow, text); no code that comes with one is ever run. A
    line ends at ``\\n`` and nowhere else. Lines longer than ``max_bytes`` (UTF-8, without the
    ``\\n``) are dropped, and with ``invalid="drop"`` those that are not valid UTF-8.

    Raises DataError, with file, line and byte, for invalid UTF-8 (``invalid="error"``), for a file
    that is missing, empty, a directory, truncated or damaged; ConfigError for an unknown setting.
    """
    return _keep(_scan(source, invalid, max_bytes), report)


def read_lines(
    path: str, *, report: ReadReport, invalid: str = "error", max_bytes: int = MAX_BYTES
) -> Iterator[str]:
    """``open_lines`` of a text file, whatever its name looks like."""
    return _keep(_scan_file(str(path), invalid, max_bytes), report)


def _keep(lines: Iterable[Line], report: ReadReport) -> Iterator[str]:
    for line in lines:
        if line.reason:
            report.drop(line.reason, line.place)
        else:
            report.keep(line.place, line.text)
            yield line.text


def open_pairs(
    first: str,
    second: str,
    report: ReadReport,
    *,
    invalid: str = "error",
    max_bytes: int = MAX_BYTES,
) -> Iterator[tuple[str, str]]:
    """Aligned lines of two sources (a cell of a data set is one line here); see ``open_lines``.

    A pair is dropped, and counted once, when either side is. For a data set with one column of
    translations, name the two sides ``column=translation.en`` and ``column=translation.ne``.
    Raises DataError with both numbers of lines where they differ.
    """
    left = _scan(first, invalid, max_bytes, whole_cells=True)
    right = _scan(second, invalid, max_bytes, whole_cells=True)
    counts = [0, 0]
    for one, two in zip_longest(left, right):
        counts = [counts[0] + (one is not None), counts[1] + (two is not None)]
        if counts[0] != counts[1]:
            continue  # only to count what is left of the longer side
        worst = one if one.reason else two
        if worst.reason:
            report.drop(worst.reason, worst.place)
        else:
            report.keep(one.place, one.text, two.text)
            yield one.text, two.text
    if counts[0] != counts[1]:
        raise DataError(
            f"{first} has {counts[0]:,} lines and {second} has {counts[1]:,}: expected aligned "
            "files with the same number of lines; check where they went apart"
        )


def _scan(source: str, invalid: str, max_bytes: int, whole_cells: bool = False) -> Iterator[Line]:
    source = str(source)
    if not source.startswith(DATASETS):
        return _scan_file(source, invalid, max_bytes)
    name, settings = parse_dataset(source, "column")
    cells = files.dataset_cells(name, **settings)
    return _scan_cells(f"{DATASETS}{name}", cells, max_bytes, whole_cells)


def parse_dataset(source: str, *columns: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of ``datasets:NAME_OR_PATH[?key=value&...]``; see ``files``.

    Keys are split, config, revision and streaming (by default true), and those in ``columns``.
    Raises ConfigError for another key, naming those there are, or where there is no name.
    """
    name, _, query = source.removeprefix(DATASETS).partition("?")
    settings: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    known = ("split", *columns, "config", "revision", "streaming")
    unknown = sorted(set(settings) - set(known))
    if unknown or not name:
        found = f"setting {unknown[0]!r}" if unknown else "no name"
        raise ConfigError(
            f"{source}: found {found}, expected datasets:NAME_OR_PATH[?key=value&...] with keys "
            + ", ".join(known)
        )
    streaming = settings.get("streaming", "true").lower() not in ("false", "no", "0")
    return name, {**settings, "streaming": streaming}


def _scan_file(path: str, invalid: str, max_bytes: int) -> Iterator[Line]:
    for line in decode_lines(path, invalid, max_bytes, hint=", or drop such lines (invalid: drop)"):
        text = normalize(line.text)
        yield Line(text, line.reason or ("" if text else EMPTY), line.place)


def decode_lines(
    path: str, invalid: str = "error", max_bytes: int = MAX_BYTES, hint: str = ""
) -> Iterator[Line]:
    """Every line of a file as it is, not normalized; see ``open_lines`` for what is raised.

    ``hint`` is what a caller offers beside converting a line that is no UTF-8.
    """
    if invalid not in ("error", "drop"):
        raise ConfigError(f"invalid={invalid!r}: expected 'error' or 'drop'")
    number = 0
    for number, raw in enumerate(files.raw_lines(path, max_bytes), 1):
        place = f"{path}:{number}"
        try:
            yield Line("", TOO_LONG, place) if raw is None else Line(raw.decode("utf-8"), "", place)
        except UnicodeDecodeError as error:
            if invalid == "error":
                raise DataError(describe_invalid(place, error, hint)) from None
            yield Line("", INVALID, place)
    if not number:
        raise DataError(f"{path} is empty: expected lines of text")


def describe_invalid(place: str, error: UnicodeDecodeError, hint: str = "") -> str:
    """One line for a person about a line that is no UTF-8; ``hint`` as in ``decode_lines``."""
    raw = error.object
    advice = f"convert it to UTF-8{hint}"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        advice = "it looks like UTF-16: convert it to UTF-8"
    return (
        f"{place}: byte 0x{raw[error.start]:02x} at offset {error.start} of the line is no valid "
        f"UTF-8 ({error.reason}): {advice}"
    )


def _scan_cells(
    name: str, cells: Iterator[str | None], max_bytes: int, whole_cells: bool
) -> Iterator[Line]:
    """Lines of the cells of a column; a cell that holds several lines is as many lines."""
    number = 0
    for number, cell in enumerate(cells, 1):
        place = f"{name}:{number}"
        lines = [cell or ""] if whole_cells or not cell else cell.split("\n")
        for text in lines:
            if len(text) > max_bytes or len(text.encode("utf-8", "surrogatepass")) > max_bytes:
                yield Line("", TOO_LONG, place)
                continue
            text = normalize(text)
            yield Line(text, "" if text else EMPTY, place)
    if not number:
        raise DataError(f"{name} is empty: expected rows of text")
