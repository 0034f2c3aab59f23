"""Labeled sentences and pairs in the formats that tasks are published in.

    file or data set -> values by column -> rename, normalize -> SentenceRow

One row is one line of a TSV file, one object of a JSONL file (``.jsonl``) or one row of a Hugging
Face data set (``datasets:NAME?split=...``). TSV cells are taken unchanged: quotes mean nothing.
Tagged sentences and trees are read by ``tagged``, questions by ``questions``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlm import strict_json
from xlm.errors import ConfigError, DataError, clipped
from xlm.strict_json import JsonError, is_number
from xlm.text import files
from xlm.text.normalize import normalize
from xlm.text.read_report import EMPTY
from xlm.text.readers import DATASETS, ReadReport, decode_lines, parse_dataset

Column = str | int

OTHER_LANGUAGE = "another language"
UNDECIDED = "no gold label"


@dataclass(frozen=True, slots=True)
class SentenceRow:
    """One example: a label (or a number, as text) of a sentence or a pair, normalized."""

    label: str
    """Empty if labels were not asked for."""
    first: str
    second: str | None
    """None for a single sentence."""
    language: str
    """Empty if neither the file nor the caller names it."""
    place: str
    """``file:line``."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of a row's fields: names of the header, or numbers from 0 in a file without one.

    All names or all numbers. Cells of several columns are joined by a space.
    """

    label: Column
    first: tuple[Column, ...]
    second: tuple[Column, ...] = ()
    language: Column | None = None
    width: int | None = None
    """Number of columns of a file without a header; None: as many as its first line."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Other names for labels."""
    undecided: str | None = None
    """A label that says that annotators did not agree: such rows are dropped, and counted."""
    short_rows: bool = False
    """Let rows lack columns at the end that are not asked for."""

    def __post_init__(self) -> None:
        if len({type(column) for column in self.asked(True)}) != 1 or not self.first:
            raise ConfigError(f"columns {self.asked(True)}: expected all names or all numbers")

    def asked(self, labeled: bool) -> list[Column]:
        """Return the columns that are read."""
        label = [self.label] if labeled else []
        language = [] if self.language is None else [self.language]
        return [*label, *self.first, *self.second, *language]


LAYOUTS: Mapping[str, Columns] = {
    # label, sentence[, sentence], without a header
    "plain": Columns(label=0, first=(1,), width=2),
    "plain-pair": Columns(label=0, first=(1,), second=(2,), width=3),
    # the same with a header that names them
    "label-text": Columns(label="label", first=("text",)),
    "nli": Columns(label="label", first=("premise",), second=("hypothesis",)),
    # XNLI 1.0: xnli.{dev,test}.{tsv,jsonl}; its machine-translated training files
    "xnli": Columns(
        label="gold_label", first=("sentence1",), second=("sentence2",), language="language"
    ),
    "xnli-train": Columns(
        label="label",
        first=("premise",),
        second=("hypo",),
        rename={"contradictory": "contradiction"},
    ),
    # MultiNLI 1.0, .txt and .jsonl: "-" if no three annotators agree
    "mnli": Columns(
        label="gold_label",
        first=("sentence1",),
        second=("sentence2",),
        undecided="-",
        short_rows=True,
    ),
    "mldoc": Columns(label=0, first=(1,), width=2),
    "paws-x": Columns(label="label", first=("sentence1",), second=("sentence2",)),
    # Schuster et al. (2019): intent, slots, utterance, locale, tokens
    "intent": Columns(label=0, first=(2,), language=3, width=5),
    # XGLUE: the last column is the label; a query's rows stand together
    "xglue-nc": Columns(label=2, first=(0,), second=(1,), width=3),
    "xglue-qam": Columns(label=2, first=(0,), second=(1,), width=3),
    "xglue-qadsm": Columns(label=3, first=(0,), second=(1, 2), width=4),
    "xglue-wpr": Columns(label=3, first=(0,), second=(1, 2), width=4),
}
"""The published formats by name."""


def read_rows(
    source: str,
    layout: str | Columns,
    *,
    language: str = "",
    labeled: bool = True,
    report: ReadReport | None = None,
) -> Iterator[SentenceRow]:
    """Yield the rows of a file or a ``datasets:`` source, in order.

    ``layout`` is one of ``LAYOUTS`` or columns of one's own. If it has a column of languages,
    ``language`` keeps the rows of that one (``th`` those of ``th_TH`` too); otherwise it is the
    language of all rows.
    ``labeled=False`` reads files without labels. Empty lines, rows of other languages and undecided
    ones are dropped, and counted in ``report``; an empty sentence stays. Raises ConfigError for an
    unknown layout; DataError, with file and line, for a row of another width than the header (or
    the first), for a missing column, an empty label, malformed JSON, and if no row is left.
    """
    columns = layout if isinstance(layout, Columns) else LAYOUTS.get(layout)
    if columns is None:
        raise ConfigError(f"layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    report = ReadReport() if report is None else report
    asked = columns.asked(labeled)
    languages: set[str] = set()
    kept = 0
    for place, cells in _cells(str(source), columns, asked, report):
        row = _row(columns, cells, place, language, labeled)
        languages.add(row.language)
        if columns.language is not None and not _speaks(row.language, language):
            report.drop(OTHER_LANGUAGE, place)
        elif labeled and cells[columns.label] == columns.undecided:
            report.drop(UNDECIDED, place)
        else:
            report.keep(place, row.first, row.second or "")
            kept += 1
            yield row
    if not kept:
        found = f"rows of {', '.join(sorted(languages))}" if any(languages) else "no row"
        wanted = f" of {language}" if columns.language is not None and language else ""
        raise DataError(f"{source}: found {found}, expected at least one{wanted} with a label")


def _speaks(found: str, wanted: str) -> bool:
    """Return whether a language, or a locale such as ``th_TH``, is the one that is wanted."""
    return wanted in ("", found, found.partition("_")[0])


def _row(
    columns: Columns, cells: Mapping[Column, str], place: str, language: str, labeled: bool
) -> SentenceRow:
    def join(parts: Sequence[Column]) -> str:
        return normalize(" ".join(cells[part] for part in parts))

    label = normalize(cells[columns.label]) if labeled else ""
    if labeled and not label:
        raise DataError(f"{place}: the label is empty: expected one in column {columns.label!r}")
    return SentenceRow(
        label=columns.rename.get(label, label),
        first=join(columns.first),
        second=join(columns.second) if columns.second else None,
        language=language if columns.language is None else normalize(cells[columns.language]),
        place=place,
    )


def _cells(
    source: str, columns: Columns, asked: Sequence[Column], report: ReadReport
) -> Iterator[tuple[str, dict[Column, str]]]:
    """Yield each row's place and the cells that are asked for."""
    if source.startswith(DATASETS):
        name, settings = parse_dataset(source)
        for number, row in enumerate(files.dataset_rows(name, **settings), 1):
            place = f"{DATASETS}{name}:{number}"
            yield place, {column: value_of(row, column, place) for column in asked}
    elif ".jsonl" in Path(source.lower()).suffixes[-2:]:  # perhaps compressed
        for place, text in filled_lines(source, report):
            row = parse_object(text, place)
            yield place, {column: value_of(row, column, place) for column in asked}
    else:
        yield from _tsv_cells(source, columns, asked, report)


def _tsv_cells(
    source: str, columns: Columns, asked: Sequence[Column], report: ReadReport
) -> Iterator[tuple[str, dict[Column, str]]]:
    width = columns.width or 0
    where: dict[Column, int] = {column: column for column in asked if isinstance(column, int)}
    for place, text in filled_lines(source, report):
        cells = text.split("\t")
        if not where:
            where = _header(place, cells, asked)
            width = len(cells)
            continue
        width = width or len(cells)
        least = max(where.values()) + 1 if columns.short_rows else width
        if not max(least, max(where.values()) + 1) <= len(cells) <= width:
            raise DataError(
                f"{place}: found {len(cells)} columns separated by tabs, expected {width}"
            )
        yield place, {column: cells[index] for column, index in where.items()}


def _header(place: str, cells: Sequence[str], asked: Sequence[Column]) -> dict[Column, int]:
    names = [cell.strip() for cell in cells]
    if twice := [str(column) for column in asked if names.count(str(column)) > 1]:
        raise DataError(
            f"{place}: the header has {clipped(twice[0])} twice, so it is ambiguous: rename "
            "one of the two"
        )
    missing = [str(column) for column in asked if column not in names]
    if missing:
        raise DataError(
            f"{place}: found the columns {clipped(', '.join(names))}, expected a header with "
            f"{', '.join(map(str, asked))}: {', '.join(missing)} is missing"
        )
    return {column: names.index(str(column)) for column in asked}


def filled_lines(source: str, report: ReadReport) -> Iterator[tuple[str, str]]:
    """Place and text of a file's lines without their CR; empty ones are counted as dropped.

    Raises DataError for a line that is too long; otherwise as ``readers.open_lines``.
    """
    for line in decode_lines(source):
        if line.reason:
            raise DataError(f"{line.place}: the line is {line.reason}: expected a row of a task")
        text = line.text.removesuffix("\r")
        if text.strip():
            yield line.place, text
        else:
            report.drop(EMPTY, line.place)


def parse_object(text: str, place: str) -> dict[str, Any]:
    """Parse a line of JSONL. Raises DataError if it is not a JSON object."""
    try:
        value = strict_json.parse(text)
    except JsonError as error:
        raise DataError(f"{place}: found no JSON ({error}), expected one object a line") from None
    if not isinstance(value, dict):
        raise DataError(f"{place}: found JSON of {type(value).__name__}, expected an object")
    return value


def value_of(row: Mapping[str, Any], column: Column, place: str) -> str:
    """Return a column's text or number, as text. Raises DataError if it is missing or neither."""
    if isinstance(column, int):
        raise ConfigError(
            f"{place}: column is {column}, but this source names its columns: give a name"
        )
    value = row.get(column)
    if not isinstance(value, str) and not is_number(value):
        found = f"{type(value).__name__} in {column!r}" if column in row else ", ".join(row)
        raise DataError(f"{place}: found {clipped(found)}, expected text in the column {column!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{place}: found {value} in {column!r}, expected a finite number or text")
    return str(value)
