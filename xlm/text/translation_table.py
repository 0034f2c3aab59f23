"""Tables of translations to make and to score: a direction and its files a row.

source, target, source file, reference file, output file, and perhaps a tokenization; tabs between
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from xlm.errors import DataError
from xlm.languages import is_language_name
from xlm.text.readers import decode_lines

CELLS = ("source", "target", "source file", "reference file", "output file", "tokenization")


@dataclass(frozen=True)
class TableRow:
    """One direction of a table; paths are relative to the working directory."""

    source: str
    target: str
    source_file: str
    reference_file: str
    output_file: str
    tokenization: str | None
    place: str
    """File and line."""

    @property
    def direction(self) -> str:
        """The direction, such as ``en-hi``."""
        return f"{self.source}-{self.target}"


def read_table(path: str) -> list[TableRow]:
    """Return the rows of a table; empty lines and those that begin with ``#`` are left out.

    Raises DataError, with file and line, for a row of another number of cells, an empty cell, an
    invalid name, a source file that is not there, and an output file that another row has or that
    is read; DataError for a table without a row.
    """
    rows: list[TableRow] = []
    written: dict[str, str] = {}
    for line in decode_lines(path):
        if line.reason:
            raise DataError(f"{line.place}: the line is {line.reason}: expected a row of a table")
        text = line.text.rstrip("\r")
        if not text.strip() or text.startswith("#"):
            continue
        row = _row(text, line.place)
        written_by = written.setdefault(os.path.abspath(row.output_file), row.place)
        if written_by != row.place:
            raise DataError(
                f"{row.place}: the output file {row.output_file} is also that of "
                f"{written_by}: give each row its own"
            )
        rows.append(row)
    if not rows:
        raise DataError(
            f"{path}: the table has no rows: expected {', '.join(CELLS[:5])}, separated by tabs"
        )
    return rows


def _row(text: str, place: str) -> TableRow:
    cells = [cell.strip() for cell in text.split("\t")]
    if not 5 <= len(cells) <= 6:
        raise DataError(
            f"{place}: found {len(cells)} cells, expected 5 or 6 separated by tabs: "
            f"{', '.join(CELLS)}"
        )
    for name, cell in zip(CELLS, cells, strict=False):
        if not cell:
            raise DataError(f"{place}: the cell {name} is empty")
    for name in cells[:2]:
        if not is_language_name(name):
            raise DataError(
                f"{place}: {name!r} is not the name of a language, such as en or zh-Hans"
            )
    source, target, source_file, reference_file, output_file, *rest = cells
    tokenization = rest[0] if rest else None
    row = TableRow(source, target, source_file, reference_file, output_file, tokenization, place)
    if not os.path.exists(row.source_file):
        raise DataError(f"{place}: the source file {row.source_file} does not exist")
    for read in (row.source_file, row.reference_file):
        if os.path.abspath(read) == os.path.abspath(row.output_file):
            raise DataError(f"{place}: the output file {read} is also an input: give another")
    return row
