"""Rows of text, TSV, CSV and JSONL files that a ``datasets:`` source names, by column.

They are cut as the same file is by its path (``cells.py``). The readers of ``datasets`` end lines
at carriage returns too, join lines of TSV between quotes, and take the words "NA" and "null" of CSV
for missing cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlm.errors import DataError, clipped
from xlm.text.cells import MAX_ROW, decoded_lines, json_row, table_cells
from xlm.text.raw import COMPRESSED

KINDS = ("txt", "tsv", "csv", "jsonl", "ndjson")
"""The endings of files that are read here, compressed or not."""


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
            yield from (json_row(text, at) for text, at in _lines(path) if text.strip())
        elif kind in ("tsv", "csv"):
            yield from _table(path, kind)
        else:
            yield from ({"text": text} for text, _ in _lines(path))


def _lines(path: str) -> Iterator[tuple[str, str]]:
    """Yield text and place of each line."""
    for text, _, place in decoded_lines(path, "error"):
        if text is None:
            raise DataError(f"{place}: the line has more than {MAX_ROW:,} bytes: cut it")
        yield text, place


def _table(path: str, kind: str) -> Iterator[dict[str, Any]]:
    names: list[str] = []
    for cells, reason, place in table_cells(path, "error", kind):
        if reason:
            raise DataError(f"{place}: the line has more than {MAX_ROW:,} bytes: cut it")
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
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
