"""The tables of the five papers as published, and what this repository measured beside their rows.

``benchmarks/ledger/PAPER.yaml`` holds a paper's tables. A row that ran here points to its figure in
``benchmarks/results`` and to the recipe that states the paper's settings; the figure itself stands
in the result alone. ``benchmarks.support.ledger_tables`` puts both beside each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "benchmarks" / "ledger"
RESULTS = ROOT / "benchmarks" / "results"
PAPERS = (
    "xlm-2019",
    "mbert-transfer-2019",
    "monotrans-2020",
    "mmte-2020",
    "mt-continued-pretraining-2024",
)
"""The files of the ledger, in the order of the papers."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class Average:
    """A column of averages: ``over`` the named columns, all of them, or columns not printed."""

    name: str
    over: tuple[str, ...] | None


@dataclass(frozen=True)
class Study:
    """How rows of a table were measured here; their figures are in one result.

    ``unit`` is that of our figures after they were multiplied by ``scale``. ``interval`` says over
    what the intervals of the result are taken.
    """

    name: str
    result: str
    unit: str
    scale: float
    lower_is_better: bool
    size: str
    text: str
    interval: str


@dataclass(frozen=True)
class Measured:
    """A figure of ours: its mean, half of its 95 % interval if there is one, and its seeds."""

    mean: float
    interval: float | None
    seeds: int


@dataclass(frozen=True)
class Ran:
    """A published cell that was measured here, the place of our figure, and the paper's recipe.

    ``at`` leads through the result: keys, and a mapping for the one element of a list that has
    these values.
    """

    study: str
    column: str
    at: tuple[Any, ...]
    recipe: str

    def measured(self, study: Study, results: Path = RESULTS) -> Measured:
        """Read our figure. Raises ValueError if the result does not have it."""
        path = results / study.result
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        for step in self.at:
            found = _inside(found, step, f"{path.name}: {list(self.at)}")
        if isinstance(found, Mapping):
            interval = found["interval"]
            seeds = len(found.get("values") or [None])
            half = None if interval is None else study.scale * interval
            return Measured(study.scale * found["mean"], half, seeds)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ValueError(f"{path.name}: {list(self.at)} is {found!r}, expected a number")
        return Measured(study.scale * found, None, 1)


def _inside(found: Any, step: Any, where: str) -> Any:
    if isinstance(step, Mapping):
        fitting = [own for own in found if all(own.get(k) == v for k, v in step.items())]
        if len(fitting) != 1:
            raise ValueError(f"{where}: {len(fitting)} elements have {dict(step)}, expected one")
        return fitting[0]
    if not isinstance(found, Mapping) or step not in found:
        raise ValueError(f"{where}: there is no {step!r}; correct the path in the ledger")
    return found[step]


@dataclass(frozen=True)
class Row:
    """A row as published; ``recomputed`` are the averages that its own cells give.

    ``mean_of`` names the group whose rows this one is the mean of, column by column; then
    ``recomputed_values`` are the means. ``misprint`` says how a published average differs.
    """

    name: str
    values: tuple[float | None, ...]
    group: str = ""
    averages: tuple[float | None, ...] = ()
    recomputed: tuple[float | None, ...] = ()
    mean_of: str = ""
    recomputed_values: tuple[float, ...] = ()
    misprint: str = ""
    note: str = ""
    ran: tuple[Ran, ...] = ()

    @property
    def title(self) -> str:
        """Return the name with its group."""
        return f"{self.group}: {self.name}" if self.group else self.name


@dataclass(frozen=True)
class Table:
    """A table of a paper: ``number`` in the paper, a title in our words, columns, rows.

    ``unit`` is one for all columns or one a column. ``experiments`` are this project's ids of the
    experiments that the table belongs to; a table that describes data has nothing to run.
    """

    number: int | str
    title: str
    section: str
    experiments: tuple[str, ...]
    unit: str | tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    averages: tuple[Average, ...] = ()
    studies: tuple[Study, ...] = ()
    note: str = ""
    describes_data: bool = False

    @property
    def label(self) -> str:
        """Return the table's or figure's number as it is spoken of."""
        return f"Table {self.number}" if isinstance(self.number, int) else self.number

    def cell(self, row: Row, column: str) -> float | None:
        """Return a published value of a row by the name of its column or of its average."""
        names = [average.name for average in self.averages]
        if column in names:
            return row.averages[names.index(column)]
        return row.values[self.columns.index(column)]

    def average(self, row: Row, average: Average) -> float | None:
        """Return the mean of a row's own cells, without those that are not given."""
        if average.over is None:
            return None
        cells = [self.cell(row, column) for column in average.over]
        given = [cell for cell in cells if cell is not None]
        return sum(given) / len(given) if given else None

    def column_means(self, row: Row) -> list[float]:
        """Return the means of the rows of the group that ``row`` is the mean of, a column each."""
        group = [own for own in self.rows if own.group == row.mean_of and not own.mean_of]
        cells = [[own.values[i] for own in group] for i in range(len(self.columns))]
        return [sum(cell for cell in own if cell is not None) / len(own) for own in cells]


@dataclass(frozen=True)
class Beside:
    """A result for a statement of the paper that none of its tables has."""

    about: str
    result: str
    recipe: str


@dataclass(frozen=True)
class Ledger:
    """A paper: its name here, its authors and title, its tables.

    ``slips`` are settings that the paper gives in two ways.
    """

    paper: str
    source: str
    tables: tuple[Table, ...]
    beside: tuple[Beside, ...] = ()
    slips: tuple[str, ...] = ()


def read(name: str, folder: Path = LEDGER) -> Ledger:
    """Read and check a paper's file. Raises ValueError if a part is wrong, and says which."""
    path = folder / f"{name}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    tables = tuple(
        _table(own, f"{path.name}, table {own.get('number')}") for own in raw.get("tables", ())
    )
    beside = tuple(_built(Beside, own, path.name) for own in raw.get("beside", ()))
    return _built(Ledger, {**raw, "tables": tables, "beside": beside}, path.name)


def _table(raw: Mapping[str, Any], where: str) -> Table:
    columns = tuple(raw.get("columns", ()))
    averages = tuple(
        _built(Average, {**own, "over": columns} if own.get("over") == "all" else own, where)
        for own in raw.get("averages", ())
    )
    rows = []
    for own in raw.get("rows", ()):
        place = f"{where}, row {own.get('name')}"
        ran = tuple(_built(Ran, one, place) for one in own.get("ran", ()))
        rows.append(_built(Row, {**own, "ran": ran}, place))
    studies = tuple(_built(Study, own, where) for own in raw.get("studies", ()))
    parts = {"rows": tuple(rows), "averages": averages, "studies": studies}
    table = _built(Table, {**raw, **parts}, where)
    _check(table, where)
    return table


def _built(cls: type[Part], raw: Mapping[str, Any], where: str) -> Part:
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(raw) - set(known)):
        raise ValueError(f"{where}: {unknown} unknown, expected some of {list(known)}")
    needed = [name for name, field in known.items() if field.default is MISSING]
    if missing := [name for name in needed if name not in raw]:
        raise ValueError(f"{where}: {missing} missing; add them")
    return cls(**{key: tuple(own) if isinstance(own, list) else own for key, own in raw.items()})


def _check(table: Table, where: str) -> None:
    known = {study.name for study in table.studies}
    columns = {*table.columns, *(average.name for average in table.averages)}
    if isinstance(table.unit, tuple) and len(table.unit) != len(table.columns):
        raise ValueError(f"{where}: {len(table.unit)} units, expected {len(table.columns)}")
    for row in table.rows:
        place = f"{where}, row {row.name}"
        _numbers(row.values, len(table.columns), f"{place}: values")
        if row.averages:
            _numbers(row.averages, len(table.averages), f"{place}: averages")
            _numbers(row.recomputed, len(table.averages), f"{place}: recomputed")
            means = [table.average(row, average) for average in table.averages]
            _means(row, row.averages, row.recomputed, means, place)
        if row.mean_of:
            _numbers(row.recomputed_values, len(table.columns), f"{place}: recomputed_values")
            _means(row, row.values, row.recomputed_values, table.column_means(row), place)
        for ran in row.ran:
            if ran.study not in known or ran.column not in columns:
                raise ValueError(f"{place}: {ran.study!r}, {ran.column!r} is no study or no column")
            if table.cell(row, ran.column) is None:
                raise ValueError(f"{place}: nothing is published in column {ran.column!r}")


def _numbers(values: Sequence[Any], expected: int, where: str) -> None:
    if len(values) != expected:
        raise ValueError(f"{where}: {len(values)} found, expected {expected}")
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{where}: {value!r} found, expected a number or null")


def _means(
    row: Row,
    published: Sequence[float | None],
    recomputed: Sequence[float | None],
    means: Sequence[float | None],
    where: str,
) -> None:
    num_digits = digits(row.values)
    for stated, noted, own in zip(published, recomputed, means, strict=True):
        if stated is None or own is None:
            continue
        if noted is None or abs(noted - own) > 0.0006:
            raise ValueError(f"{where}: {noted} noted as recomputed, the cells give {own:.3f}")
        if not row.misprint and not within_rounding(stated, own, num_digits):
            raise ValueError(
                f"{where}: {stated} published, the cells give {own:.3f}; correct the cells, or say "
                "in misprint how they differ"
            )


def digits(values: Sequence[float | None]) -> int:
    """Return how many digits behind the point the most precise of the values shows."""
    shown = [str(value).partition(".")[2] for value in values if value is not None]
    return max((len(own) for own in shown), default=0)


def within_rounding(published: float, own: float, num_digits: int) -> bool:
    """Return whether two means of cells with so many digits can differ by rounding alone.

    The cells are off by half a unit at most, and so is the published mean: together by one.
    """
    return abs(published - own) <= 10.0**-num_digits + 1e-9
