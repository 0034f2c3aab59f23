"""Cells of named columns of files: JSON lines, Parquet, and tables separated by tabs or commas.

Rows stream: memory is bounded by the longest row, however long the file is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from xlm.errors import ConfigError, DataError, first_line
from xlm.text.cells import decoded_lines, json_row, table_cells
from xlm.text.sources import ending

ENDINGS = (".jsonl", ".ndjson", ".parquet", ".tsv", ".csv")
"""Files that have columns."""
NAMED_ONLY = (".jsonl", ".ndjson", ".parquet")
"""File types without lines of text: a column has to be named."""


class Row(NamedTuple):
    """The cells of one row, or the reason why it has none."""

    cells: tuple[str, ...]
    reason: str
    place: str


def open_rows(
    path: str, columns: Sequence[str], invalid: str, *, only: bool = False
) -> Iterator[Row]:
    """Return the text in ``columns`` of each row of a file, by its ending.

    A column of JSON or Parquet is a name, ``translation.en`` a part of a dictionary; a column of a
    table is its number from 1, or its name in the first line. A cell that is null is empty. With
    ``only`` a table has no other columns than these.

    Raises DataError, with file and line, for a missing column, a cell that is not text, a row that
    does not parse and, unless ``invalid`` is ``drop``, for one that is not UTF-8; ConfigError for a
    file that has no columns.
    """
    kind = ending(path)
    if kind in (".jsonl", ".ndjson"):
        return _json_rows(path, columns, invalid)
    if kind == ".parquet":
        return _parquet_rows(path, columns)
    if kind in (".tsv", ".csv"):
        return _table_rows(path, columns, invalid, kind, only)
    raise ConfigError(
        f"{path} has no columns: expected a file that ends in {', '.join(ENDINGS)} "
        "(compressed or not)"
    )


def _json_rows(path: str, columns: Sequence[str], invalid: str) -> Iterator[Row]:
    for text, reason, place in decoded_lines(path, invalid):
        if text is None:
            yield Row((), reason, place)
            continue
        if not text.strip():
            yield Row(("",) * len(columns), "", place)
            continue
        record = json_row(text, place)
        yield Row(tuple(_descend(record, column, place) for column in columns), "", place)


def _descend(record: Any, column: str, place: str) -> str:
    whole = isinstance(record, dict) and column in record
    cell = record
    for part in [column] if whole else column.split("."):
        if cell is None:
            return ""
        if not isinstance(cell, dict) or part not in cell:
            there = ", ".join(map(str, cell)) if isinstance(cell, dict) else type(cell).__name__
            raise DataError(f"{place}: no column {column!r}: expected one of {there[:200]}")
        cell = cell[part]
    if cell is not None and not isinstance(cell, str):
        raise DataError(f"{place}: column {column!r} holds {type(cell).__name__}, expected text")
    return cell or ""


def _parquet_rows(path: str, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow as arrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            heads = list(dict.fromkeys(c if c in names else c.split(".")[0] for c in columns))
            if missing := [head for head in heads if head not in names]:
                raise DataError(
                    f"{path}: no column {missing[0]!r}: expected one of {', '.join(names)[:200]}"
                )
            for batch in file.iter_batches(batch_size=1 << 10, columns=heads):
                for record in batch.to_pylist():
                    number += 1
                    place = f"{path}:{number}"
                    yield Row(tuple(_descend(record, c, place) for c in columns), "", place)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: expected a Parquet file") from None
    except (OSError, arrow.ArrowException) as error:
        raise DataError(
            f"{path}:{number + 1}: cannot be read ({first_line(error)[:200]}): expected a Parquet "
            "file; fetch or write it again"
        ) from None


def _table_rows(
    path: str, columns: Sequence[str], invalid: str, kind: str, only: bool
) -> Iterator[Row]:
    rows = table_cells(path, invalid, kind.removeprefix("."))
    numbered = all(column.isdecimal() and int(column) > 0 for column in columns)
    if numbered:
        at = [int(column) - 1 for column in columns]
    else:
        header, _, place = next(rows, ([], "", path))
        if missing := [column for column in columns if column not in header]:
            there = ", ".join(header)[:200] or "nothing"
            raise DataError(
                f"{place}: no column {missing[0]!r}: the first line has {there}; give one of its "
                "names, or the number of a column from 1"
            )
        if twice := [column for column in columns if header.count(column) > 1]:
            raise DataError(
                f"{place}: the column {twice[0]!r} appears twice: give the number of one, "
                "counted from 1"
            )
        at = [header.index(column) for column in columns]
    for cells, reason, place in rows:
        if reason:
            yield Row((), reason, place)
            continue
        if cells and (len(cells) != len(at) if only else len(cells) <= max(at)):
            expected = f"{len(at)}" if only else f"at least {max(at) + 1}"
            advice = ", or name two with ?columns=1,2" if only else ""
            raise DataError(
                f"{place}: found {len(cells)} columns, expected {expected}: fix the line{advice}"
            )
        yield Row(tuple(cells[k] for k in at) if cells else ("",) * len(at), "", place)
