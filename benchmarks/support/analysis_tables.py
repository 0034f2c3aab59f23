"""The tables of the reports of real models: a row a figure and text, a column a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.support.markdown_table import Result, markdown
from xlm.analysis.page import estimate_of

ENCODER = "MiniLM (English)"
OVERLAP = "overlap: "
LEFT_OUT = (OVERLAP, "anisotropy: effective rank")
"""The beginnings of figures without nulls, which are in the JSON."""
DIFFERENCE = ", difference"
Row = Mapping[str, Any]


def small_models(result: Result) -> str:
    """The figures of the small models, and the first one's minus those of each other."""
    return by_model([row for row in result["rows"] if not row["model"].startswith(ENCODER)])


def encoder(result: Result) -> str:
    """The figures of the sentence encoder."""
    return by_model([row for row in result["rows"] if row["model"].startswith(ENCODER)])


def overlap(result: Result) -> str:
    """The pieces that the held-out text of each language shares with the training text of each."""
    found: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        if row["figure"].startswith(OVERLAP) and row["text"] == "held-out pairs":
            if row["model"].startswith(ENCODER):
                continue
            measure = row["figure"].removeprefix(OVERLAP)
            one, _, two = row["of"].partition(" > ")
            head = f"{measure} from {one}, %" if two else measure
            found.setdefault(two or one, {})[head] = _number(row["value"])
    heads = list(dict.fromkeys(head for own in found.values() for head in own))
    cells = [[language, *(own.get(head, "") for head in heads)] for language, own in found.items()]
    return markdown(["held-out text", *heads], cells)


def by_model(rows: Iterable[Row]) -> str:
    """Return the figures beside their nulls; bold ones are above every null."""
    groups: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        if not row["figure"].startswith(LEFT_OUT):
            figure = row["figure"].removesuffix(DIFFERENCE)
            groups.setdefault((figure, row["text"], row["of"]), {})[row["model"]] = row
    names = list(dict.fromkeys(name for own in groups.values() for name in own))
    models = [name for name in names if " - " not in name]
    differences = [name for name in names if " - " in name]
    cells = []
    for (figure, text, of), own in groups.items():
        cells.append([
            figure, text, of, *(_value(own.get(name)) for name in models),
            *_nulls([own[name] for name in models if name in own]),
            *(_value(own.get(name)) for name in differences),
        ])  # fmt: skip
    heads = ["figure", "text", "of", *models, "untrained", "other nulls", *differences]
    return markdown(heads, cells)


def _value(row: Row | None) -> str:
    if row is None:
        return ""
    shown = _number(row["value"])
    if row.get("low") is not None:
        shown += f" [{_number(row['low'])}, {_number(row['high'])}]"
    if row.get("layer") is not None:
        shown += f" ({row['layer']})"
    return f"**{shown}**" if is_above(row) else shown


def is_above(row: Row) -> bool:
    """Return whether a figure is above all its nulls; not if one of them cannot be told apart."""
    estimate = estimate_of(row)
    defined = {name: null.value for name, null in estimate.nulls.items() if null.value is not None}
    return bool(defined) and all(
        estimate.leaves(name) and estimate.value is not None and estimate.value > value
        for name, value in defined.items()
    )


def _nulls(rows: Iterable[Row]) -> tuple[str, str]:
    """Return the values of random weights, and those of every other null, by name."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for name, null in row["nulls"].items():
            if null.get("value") is not None:
                found.setdefault(name, []).append(_number(null["value"]))
    shown = {name: " / ".join(dict.fromkeys(values)) for name, values in found.items()}
    fresh = shown.pop("untrained", "")
    return fresh, ", ".join(f"{name} {values}" for name, values in shown.items())


def _number(value: float) -> str:
    shown = f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return "0.000" if shown == "-0.000" else shown
