"""Lines of normalized text from files and data sets, with an account of dropped lines.

    source -> raw lines -> decode -> normalize -> kept | dropped  (ReadReport counts both)

A source is a string: the path of a text file (plain, ``.gz``, ``.zst``, ``.bz2``, ``.xz``), of a
file with columns (``corpus.jsonl?column=text``, Parquet, tables), of a folder or a pattern of
these, or ``datasets:NAME_OR_PATH?split=train&column=text&config=...`` for anything that Hugging
Face ``datasets`` reads. Everything streams: memory is bounded by ``max_bytes``, however long a line
is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any
from urllib.parse import parse_qsl

from xlm.errors import ConfigError, DataError
from xlm.text import bitext, files
from xlm.text.columns import NAMED_ONLY, Row, open_rows
from xlm.text.normalize import normalize
from xlm.text.raw import raw_lines_between
from xlm.text.read_report import EMPTY, EMPTY_FILE, INVALID, TOO_LONG, Line, ReadReport
from xlm.text.sources import ending, find_files, split_settings

__all__ = [
    "INVALID",
    "MAX_BYTES",
    "TOO_LONG",
    "Line",
    "ReadReport",
    "decode_lines",
    "describe_invalid",
    "keep_lines",
    "keep_pairs",
    "open_lines",
    "open_pairs",
    "parse_dataset",
    "read_lines",
    "scan_lines",
    "scan_pairs",
]

MAX_BYTES = 1 << 20
DATASETS = "datasets:"


def open_lines(
    source: str, report: ReadReport, *, invalid: str = "error", max_bytes: int = MAX_BYTES
) -> Iterator[str]:
    """Return the normalized, non-empty lines of a source, counted in ``report``.

    A source is the path of a text file, of JSON lines, Parquet or a table with ``?column=NAME``, of
    a TMX file with ``?language=NAME``, of a folder or a pattern (their files in the order of their
    names), or ``datasets:NAME``, a data set on the hub or a local folder or file (json, csv,
    parquet, arrow, text); no code that comes with one is ever run. A line ends at ``\\n`` and
    nowhere else; a cell of several lines is as many lines. Lines longer than ``max_bytes`` (UTF-8,
    without the ``\\n``) are dropped, and with ``invalid="drop"`` those that are not valid UTF-8.

    Raises DataError, with file, line and byte, for invalid UTF-8 (``invalid="error"``), for a file
    that is missing, empty, a directory, truncated or damaged; ConfigError for an unknown setting.
    """
    return keep_lines(scan_lines(source, invalid, max_bytes), report)


def read_lines(
    path: str, *, report: ReadReport, invalid: str = "error", max_bytes: int = MAX_BYTES
) -> Iterator[str]:
    """Yield ``open_lines`` of a text file, even if its name looks like another source."""
    return keep_lines(_scan_file(str(path), invalid, max_bytes), report)


def keep_lines(lines: Iterable[Line], report: ReadReport) -> Iterator[str]:
    """Return the text of the lines that have no reason to be dropped, all counted in ``report``."""
    for line in lines:
        if line.reason:
            report.drop(line.reason, line.place, *filter(None, [line.text]))
        else:
            report.keep(line.place, line.text)
            yield line.text


def open_pairs(
    sources: Sequence[str],
    languages: tuple[str, str],
    report: ReadReport,
    *,
    invalid: str = "error",
    max_bytes: int = MAX_BYTES,
) -> Iterator[tuple[str, str]]:
    """Yield aligned lines of two sources, or of one with both sides, in the order of ``languages``.

    A cell of a file or data set is one line. For a data set with one column of translations, name
    the two sides ``column=translation.en`` and ``column=translation.ne``. One source is a TMX file,
    a table of two columns, JSON lines or Parquet with ``?columns=FIRST,SECOND``, or a folder, name
    or pattern of files ``NAME.en`` and ``NAME.ne``; see ``xlm.text.bitext``.

    A pair is dropped, and counted once, when either side is. Raises DataError with both numbers of
    lines, or of files, if they differ; otherwise see ``open_lines``.
    """
    return keep_pairs(scan_pairs(sources, languages, invalid, max_bytes), report)


def scan_pairs(
    sources: Sequence[str], languages: tuple[str, str], invalid: str, max_bytes: int
) -> Iterator[tuple[Line, Line]]:
    """Yield every pair of lines; see ``open_pairs``."""
    if len(sources) == 1:
        yield from _scan_bitext(sources[0], languages, invalid, max_bytes)
        return
    first, second = sources
    left, right = files_of(str(first)), files_of(str(second))
    if len(left) != len(right):
        raise DataError(
            f"{first} has {len(left)} files and {second} has {len(right)}: expected the same "
            "number, aligned in the order of their names"
        )
    for names in zip(left, right, strict=True):
        yield from _aligned(names, invalid, max_bytes)


def _scan_bitext(
    source: str, languages: tuple[str, str], invalid: str, max_bytes: int
) -> Iterator[tuple[Line, Line]]:
    rows = bitext.both_sides(source, languages, invalid)
    if rows is None:
        for names in bitext.moses_files(source, languages):
            yield from _aligned(names, invalid, max_bytes)
        return
    for several in rows:
        yield from _sides(several, max_bytes)


def _aligned(names: Sequence[str], invalid: str, max_bytes: int) -> Iterator[tuple[Line, Line]]:
    left, right = (_scan_part(name, invalid, max_bytes, whole_cells=True) for name in names)
    counts = [0, 0]
    for one, two in zip_longest(left, right):
        counts = [counts[0] + (one is not None), counts[1] + (two is not None)]
        if counts[0] == counts[1]:  # otherwise only to count the rest of the longer side
            yield one, two
    if counts[0] != counts[1]:
        raise DataError(
            f"{names[0]} has {counts[0]:,} lines and {names[1]} has {counts[1]:,}: expected "
            "aligned files with the same number of lines; check where they diverge"
        )


def _sides(rows: Iterable[Row], max_bytes: int) -> Iterator[tuple[Line, Line]]:
    for row in rows:
        if row.reason:
            yield Line("", row.reason, row.place), Line("", row.reason, row.place)
        else:
            first, second = (_cell(cell, row.place, max_bytes) for cell in row.cells)
            yield first, second


def keep_pairs(rows: Iterable[tuple[Line, Line]], report: ReadReport) -> Iterator[tuple[str, str]]:
    """Return the pairs of which neither side is to be dropped, all counted in ``report``."""
    for one, two in rows:
        worst = one if one.reason else two
        if worst.reason:
            texts = (one.text, two.text) if worst.text else ()
            report.drop(worst.reason, worst.place, *texts)
        else:
            report.keep(one.place, one.text, two.text)
            yield one.text, two.text


def scan_lines(source: str, invalid: str, max_bytes: int) -> Iterator[Line]:
    """Yield every line of a source, normalized; see ``open_lines``."""
    parts = files_of(str(source))
    for part in parts:
        yield from scan_file(part, invalid, max_bytes, alone=len(parts) == 1)


def scan_file(
    part: str, invalid: str, max_bytes: int, *, alone: bool = True, whole_cells: bool = False
) -> Iterator[Line]:
    """Yield every line of one of ``files_of`` a source, normalized.

    If it is not ``alone`` it may be empty, which is one line with a reason.
    """
    is_empty = True
    for line in _scan_part(part, invalid, max_bytes, whole_cells, may_be_empty=not alone):
        is_empty = False
        yield line
    if is_empty:
        yield Line("", EMPTY_FILE, part)


def scan_between(path: str, invalid: str, max_bytes: int, start: int, end: int) -> Iterator[Line]:
    """Yield the lines of a plain text file that begin at a byte from ``start`` up to ``end``.

    Their places are numbered from 1 in each range. Errors name the line of the whole file.
    """
    raw = raw_lines_between(path, max_bytes, start, end)
    hint = ", or drop such lines (invalid: drop)"
    for line in _decoded(path, raw, invalid, hint, lambda: count_lines_before(path, start)):
        text = normalize(line.text)
        yield Line(text, line.reason or ("" if text else EMPTY), line.place)


def count_lines_before(path: str, end: int) -> int:
    """Return the number of lines of a file that begin before byte ``end``."""
    number = 0
    with open(path, "rb") as file:
        left = end - 1
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            number += block.count(b"\n")
            left -= len(block)
    return number + (end > 0)


def files_of(source: str) -> list[str]:
    """Return the files of a source, each with the settings of all."""
    if source.startswith(DATASETS):
        return [source]
    path, settings = split_settings(source, ("column", "language"))
    query = "?" + "&".join(f"{key}={value}" for key, value in settings.items()) if settings else ""
    return [name + query for name in find_files(path)]


def _scan_part(
    source: str,
    invalid: str,
    max_bytes: int,
    whole_cells: bool = False,
    may_be_empty: bool = False,
) -> Iterator[Line]:
    if source.startswith(DATASETS):
        name, settings = parse_dataset(source, "column")
        cells = files.dataset_cells(name, **settings)
        return _scan_cells(f"{DATASETS}{name}", cells, max_bytes, whole_cells)
    path, settings = split_settings(source, ("column", "language"))
    kind = ending(path)
    if kind == ".tmx" and set(settings) == {"language"}:
        rows = bitext.one_side(path, settings["language"])
        return _scan_rows(path, rows, max_bytes, True, may_be_empty)
    if set(settings) == {"column"}:
        rows = open_rows(path, [settings["column"]], invalid)
        return _scan_rows(path, rows, max_bytes, whole_cells, may_be_empty)
    if settings or kind in (*NAMED_ONLY, ".tmx"):
        wanted = "language=NAME" if kind == ".tmx" else "column=NAME"
        raise ConfigError(
            f"{source}: found {'&'.join(settings) or 'no setting'}, expected "
            f"{path}?{wanted}, which names the text to read"
        )
    return _scan_file(path, invalid, max_bytes, may_be_empty)


def parse_dataset(source: str, *columns: str) -> tuple[str, dict[str, Any]]:
    """Parse ``datasets:NAME_OR_PATH[?key=value&...]`` into name and settings; see ``files``.

    Keys are split, config, revision and streaming (by default true), and those in ``columns``.
    Raises ConfigError for another key, naming the known ones, or if the name is missing.
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


def _scan_file(
    path: str, invalid: str, max_bytes: int, may_be_empty: bool = False
) -> Iterator[Line]:
    hint = ", or drop such lines (invalid: drop)"
    for line in decode_lines(path, invalid, max_bytes, hint, may_be_empty):
        text = normalize(line.text)
        yield Line(text, line.reason or ("" if text else EMPTY), line.place)


def decode_lines(
    path: str,
    invalid: str = "error",
    max_bytes: int = MAX_BYTES,
    hint: str = "",
    may_be_empty: bool = False,
) -> Iterator[Line]:
    """Yield every line of a file, not normalized; see ``open_lines`` for the errors.

    ``hint`` is the caller's advice besides converting a line that is not UTF-8.
    """
    if invalid not in ("error", "drop"):
        raise ConfigError(f"invalid={invalid!r}: expected 'error' or 'drop'")
    is_empty = True
    for line in _decoded(path, files.raw_lines(path, max_bytes), invalid, hint):
        is_empty = False
        yield line
    if is_empty and not may_be_empty:
        raise DataError(f"{path} is empty: expected lines of text")


def _decoded(
    path: str,
    lines: Iterable[bytes | None],
    invalid: str,
    hint: str,
    num_before: Callable[[], int] = lambda: 0,
) -> Iterator[Line]:
    """Yield lines with their places, numbered from 1; an error counts ``num_before`` more."""
    for number, raw in enumerate(lines, 1):
        place = f"{path}:{number}"
        try:
            yield Line("", TOO_LONG, place) if raw is None else Line(raw.decode("utf-8"), "", place)
        except UnicodeDecodeError as error:
            if invalid == "error":
                place = f"{path}:{number + num_before()}"
                raise DataError(describe_invalid(place, error, hint)) from None
            yield Line("", INVALID, place)


def describe_invalid(place: str, error: UnicodeDecodeError, hint: str = "") -> str:
    """Return one line about a line that is not UTF-8; ``hint`` as in ``decode_lines``."""
    raw = error.object
    advice = f"convert it to UTF-8{hint}"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        advice = "it looks like UTF-16: convert it to UTF-8"
    return (
        f"{place}: byte 0x{raw[error.start]:02x} at offset {error.start} of the line is not valid "
        f"UTF-8 ({error.reason}): {advice}"
    )


def _scan_rows(
    name: str, rows: Iterable[Row], max_bytes: int, whole_cells: bool, may_be_empty: bool
) -> Iterator[Line]:
    """Yield lines of rows of one cell."""
    is_empty = True
    for row in rows:
        is_empty = False
        if row.reason:
            yield Line("", row.reason, row.place)
            continue
        for text in _cell_lines(row.cells[0], whole_cells):
            yield _cell(text, row.place, max_bytes)
    if is_empty and not may_be_empty:
        raise DataError(f"{name} is empty: expected rows of text")


def _cell_lines(cell: str, whole_cells: bool) -> list[str]:
    return [cell] if whole_cells or not cell else cell.split("\n")


def _cell(text: str, place: str, max_bytes: int) -> Line:
    if len(text) > max_bytes or len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        return Line("", TOO_LONG, place)
    text = normalize(text)
    return Line(text, "" if text else EMPTY, place)


def _scan_cells(
    name: str, cells: Iterator[str | None], max_bytes: int, whole_cells: bool
) -> Iterator[Line]:
    """Yield the lines of a column's cells; a cell that holds several lines gives as many."""
    number = 0
    for number, cell in enumerate(cells, 1):
        for text in _cell_lines(cell or "", whole_cells):
            yield _cell(text, f"{name}:{number}", max_bytes)
    if not number:
        raise DataError(f"{name} is empty: expected rows of text")
