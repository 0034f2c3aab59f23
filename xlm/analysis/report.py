"""Results of an analysis: figures with labels, tables of examples, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xlm.analysis.intervals import Estimate


@dataclass(frozen=True)
class Figure:
    """One estimate and its labels."""

    measure: str
    """The measure, such as ``centered @1``."""
    estimate: Estimate
    layer: int | None = None
    """The layer of states; None if no layer applies."""
    of: str = ""
    """The text, language, pair or matrix."""
    model: str = ""
    """The name of the model, or of the two models compared."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON, without empty ones."""
        named = {"model": self.model, "of": self.of, "measure": self.measure, "layer": self.layer}
        kept = {name: value for name, value in named.items() if value not in (None, "")}
        return {**kept, **self.estimate.as_json()}


@dataclass(frozen=True)
class Table:
    """Rows of text: sentences with the results for them, pieces, confusion."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: Literal["text", "matrix", "points"] = "text"
    """Rows to read; a matrix, drawn as a heat map, with the names of rows in the first column; or
    points by name, drawn in the plane of the last two columns."""


@dataclass
class Analysis:
    """All results of one analysis."""

    name: str
    """The name, as in ``only``."""
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Notes that a reader must know: rows left out, nulls that were not asked for."""
    is_final: bool = True
    """False if a part was left out for want of a package, so that it is worth another try."""

    def add(
        self,
        estimates: Mapping[str, Estimate],
        *,
        layer: int | None = None,
        of: str = "",
        model: str = "",
    ) -> None:
        """Add the estimates of one layer, each under its measure."""
        self.figures += [Figure(name, own, layer, of, model) for name, own in estimates.items()]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "figures": [own.as_json() for own in self.figures],
            "tables": [
                {
                    "title": t.title,
                    "columns": list(t.columns),
                    "rows": [list(r) for r in t.rows],
                    "kind": t.kind,
                }
                for t in self.tables
            ],
            "notes": list(self.notes),
        }


def matrix_table(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
) -> Table:
    """Return a matrix as a table that is drawn; None is left empty."""
    cells = [
        [name, *("" if value is None else f"{value:.4g}" for value in line)]
        for name, line in zip(rows, values, strict=True)
    ]
    return Table(title, ["", *columns], cells, "matrix")


def leaves_in_words(estimate: Estimate) -> str:
    """Describe in words whether a figure is outside each of its nulls.

    Of two numbers without an interval, only the difference is given.
    """
    if estimate.value is None:
        return ""
    words = []
    for name, null in estimate.nulls.items():
        if null.value is None:
            words.append(f"{name}: {null.reason}")
            continue
        difference = estimate.value - null.value
        left, side = estimate.leaves(name), "above" if difference > 0 else "below"
        if left is None:
            far = f"{abs(difference):.2g} {side}" if difference else "equal to"
            words.append(f"{far} {name} (no interval)")
        else:
            words.append(f"{side if left else 'within'} {name}")
    return ", ".join(words)
