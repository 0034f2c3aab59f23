"""Rows of text, TSV, CSV and JSONL files that a ``datasets:`` source names, by column.

They are cut as the same file is by its path: ``\\n`` alone ends a line, and quotes mean nothing in
TSV. The readers of ``datasets`` end lines at carriage returns too, join lines of TSV between
quotes, and take the words "NA" and "null" of CSV for missing cells.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlm import strict_json
from xlm.errors import DataError, clipped
from xlm.strict_json import JsonError
from xlm.text.raw import COMPRESSED, raw_lines

KINDS = ("txt", "tsv", "csv", "jsonl", "ndjson")
"""The endings of files that are read here, compressed or not."""
MAX_ROW = 1 << 28
"""Bytes; a row may hold a whole document."""


def kind_of(path: str) -> str:
    """Return the ending of a file's name in lower case, without that of its compression."""
    name = Path(path.lower())
    if name.suffix in COMPRESSED:
        name = name.with_suffix("")
    return name.suffix.removeprefix(".")


def local_rows(paths: list[str], kind: str) -> Iterator[dict[str, Any]]:
    """Return the rows of files of one kind of ``KINDS``, one file after the other.

    A file of text has the column ``text``. Raises DataError, with file and line, for a row of
    another width than the header, a header that has a name twice, JSON that is not an object, and
    text that is not UTF-8.
    """
    for path in paths:
        if kind in ("jsonl", "ndjson"):
            yield from _objects(path)
        elif kind in ("tsv", "csv"):
            yield from _table(path, kind)
        else:
            yield from ({"text": text} for _, text in _lines(path))


def _lines(path: str) -> Iterator[tuple[str, str]]:
    """Place and text of each line."""
    for number, raw in enumerate(raw_lines(path, MAX_ROW), 1):
        place = f"{path}:{number}"
        if raw is None:
            raise DataError(f"{place}: the line has more than {MAX_ROW:,} bytes: cut it")
        try:
            yield place, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{place}: byte 0x{raw[error.start]:02x} at offset {error.start} of the line is no "
                f"valid UTF-8 ({error.reason}): convert it to UTF-8"
            ) from None


def _objects(path: str) -> Iterator[dict[str, Any]]:
    for place, text in _lines(path):
        if not text.strip():
            continue
        try:
            row = strict_json.parse(text)
        except JsonError as error:
            raise DataError(
                f"{place}: found no JSON ({error}), expected one object a line"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{place}: found JSON of {type(row).__name__}, expected an object")
        yield row


def _table(path: str, kind: str) -> Iterator[dict[str, Any]]:
    names: list[str] = []
    for place, cells in _tab_cells(path) if kind == "tsv" else _comma_cells(path):
        if not names:
            names = [cell.strip() for cell in cells]
            if twice := [name for name in names if names.count(name) > 1]:
                raise DataError(f"{place}: the header has {clipped(twice[0])!r} twice: rename one")
        elif len(cells) != len(names):
            raise DataError(
                f"{place}: found {len(cells)} columns, expected {len(names)} as in the header"
            )
        else:
            yield dict(zip(names, cells, strict=True))


def _tab_cells(path: str) -> Iterator[tuple[str, list[str]]]:
    for place, text in _lines(path):
        if text.strip():
            yield place, text.removesuffix("\r").split("\t")


def _comma_cells(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield cells of CSV, in which a quoted cell may hold commas and line ends."""
    reader = csv.reader((f"{text}\n" for _, text in _lines(path)), strict=True)
    number = 1
    try:
        for cells in reader:
            if cells:
                yield f"{path}:{number}", cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{number}: found no CSV ({error}), expected cells parted by commas, quotes "
            "closed; name a file of tabs .tsv"
        ) from None
