"""Read lines, JSON objects and cells of tables from files, each with its place.

``\\n`` alone ends a line, and quotes mean nothing in TSV. Everything streams: memory is bounded by
the longest row, however long the file is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from xlm import strict_json
from xlm.errors import DataError, first_line
from xlm.strict_json import JsonError
from xlm.text.raw import raw_lines
from xlm.text.read_report import INVALID, TOO_LONG

MAX_ROW = 1 << 28
"""Bytes; a row may hold a whole document, of which every line is counted by itself."""


def decoded_lines(path: str, invalid: str) -> Iterator[tuple[str | None, str, str]]:
    """Yield text, reason and place of each line; a line with a reason has no text (None).

    Raises DataError for a line that is not UTF-8 unless ``invalid`` is ``drop``.
    """
    for number, raw in enumerate(raw_lines(path, MAX_ROW), 1):
        place = f"{path}:{number}"
        if raw is None:
            yield None, TOO_LONG, place
            continue
        try:
            yield raw.decode("utf-8"), "", place
        except UnicodeDecodeError as error:
            if invalid == "error":
                raise DataError(
                    f"{place}: byte 0x{raw[error.start]:02x} at offset {error.start} of the line "
                    f"is not valid UTF-8 ({error.reason}): convert it to UTF-8, or drop such lines "
                    "(invalid: drop)"
                ) from None
            yield None, INVALID, place


def json_row(text: str, place: str) -> dict[str, Any]:
    """Return the object of a line of JSON; raise DataError if it holds anything else."""
    try:
        row = strict_json.parse(text)
    except JsonError as error:
        raise DataError(f"{place}: found no JSON ({error}), expected one object a line") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: found JSON of {type(row).__name__}, expected an object")
    return row


def table_cells(path: str, invalid: str, kind: str) -> Iterator[tuple[list[str], str, str]]:
    """Yield cells, reason and place of each row of a ``tsv`` or ``csv``; empty rows have no cells.

    A quoted cell of CSV may hold commas and line ends; its place is the last line of the row. Rows
    of CSV that have a reason come at the end. Raises DataError for CSV that does not parse.
    """
    if kind == "tsv":
        for text, reason, place in decoded_lines(path, invalid):
            yield (text.removesuffix("\r").split("\t") if text else []), reason, place
        return
    lost: list[tuple[str, str]] = []
    reader = csv.reader(_kept(decoded_lines(path, invalid), lost), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise DataError(
                f"{path}:{reader.line_num}: found no CSV ({first_line(error)}): expected "
                "cells separated by commas, quotes closed; name a file of tabs .tsv"
            ) from None
        yield cells, "", f"{path}:{reader.line_num}"
    for reason, place in lost:
        yield [], reason, place


def _kept(
    lines: Iterable[tuple[str | None, str, str]], lost: list[tuple[str, str]]
) -> Iterator[str]:
    for text, reason, place in lines:
        if text is None:
            lost.append((reason, place))
        else:
            yield text + "\n"
