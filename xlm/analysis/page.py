"""The report as one HTML file that needs no network, as a TSV, and as about twenty lines."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlm.analysis import figures
from xlm.analysis.definitions import DEFINITIONS, READING, Definition
from xlm.analysis.intervals import Estimate, Null
from xlm.analysis.report import leaves_in_words
from xlm.errors import NotInstalled

MOST_ROWS = 60
"""Largest number of rows of a table on the page; all rows are in the JSON."""
MODEL = "model"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 1em; }
table { border-collapse: collapse; font-size: 13px; }
td, th { border-bottom: 1px solid #ddd; padding: 2px 8px; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.pictures { display: flex; flex-wrap: wrap; gap: 1em; }
.wide { overflow-x: auto; max-width: 100%; }
svg { max-width: 100%; height: auto; } .broad { min-width: 700px; }
pre { white-space: pre-wrap; } h1, pre, dd, p, li { overflow-wrap: anywhere; }
.definition, .note { color: #444; } details { margin: .5em 0; }
nav { display: flex; flex-wrap: wrap; gap: .2em 1em; }
td.of { min-width: 3.5em; } td.nulls { min-width: 16em; }
"""


def write_page(report: Mapping[str, Any], folder: Path) -> str:
    """Return the page of a report (the content of ``analysis.json``); write its pictures as PNG.

    Without matplotlib it has no pictures and says so.
    """
    analyses: Mapping[str, Any] = report["analyses"]
    title = f"Analysis of {report['settings']['model']}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        "<nav>" + "".join(f"<a href='#{_slug(n)}'>{_text(n)}</a>" for n in analyses),
        "<a href='#reading'>how to read this</a></nav>",
        f"<pre>{_text(chr(10).join(summary(report)))}</pre>",
    ]
    try:
        figures.matplotlib()
        pictures: Path | None = folder
    except NotInstalled as error:
        pictures = None
        parts.append(f"<p class='note'>{_text(error)}</p>")
    for name, own in analyses.items():
        parts.append(_section(name, own, pictures))
    parts.append(_missing(report["missing"]))
    parts.append(f"<h2 id='reading'>How to read this</h2><p>{_text(READING)}</p><dl>")
    parts += [
        f"<dt><b>{_text(name)}</b></dt><dd>{_text(own.text)}</dd>"
        for name, own in DEFINITIONS.items()
    ]
    parts.append("</dl></body></html>\n")
    return "\n".join(parts)


def _section(name: str, own: Mapping[str, Any], folder: Path | None) -> str:
    definition = DEFINITIONS[name]
    parts = [
        f"<h2 id='{_slug(name)}'>{_text(name)}</h2>",
        f"<p class='definition'>{_text(definition.text)}</p>",
        *(f"<p class='note'>{_text(note)}</p>" for note in own["notes"]),
    ]
    drawn = []
    for number, picture in enumerate(_pictures(name, own) if folder is not None else ()):
        assert folder is not None
        svg = figures.save(picture, folder / f"{_slug(name)}-{number + 1}.png")
        drawn.append(f"<div class='wide'>{svg}</div>")
    if drawn:
        parts.append(f"<div class='pictures'>{''.join(drawn)}</div>")
    shown = [row for row in own["figures"] if _is_shown(row["measure"], definition)]
    rest = len(own["figures"]) - len(shown)
    parts.append(_figure_table(shown))
    if rest:
        parts.append(f"<p class='note'>{rest:,} further figures are in analysis.json.</p>")
    for table in own["tables"]:
        if table["kind"] != "points":
            parts.append(_table(table))
    return "\n".join(parts)


def _is_shown(measure: str, definition: Definition) -> bool:
    """Return whether a measure, one of its best layer or a difference of it is shown."""
    own = measure.removeprefix("best layer, ").removesuffix(", difference")
    return own in definition.shown


def _pictures(name: str, own: Mapping[str, Any]) -> Iterable[Any]:
    drawn = figures.curves(name, own["figures"], DEFINITIONS[name].shown)
    if drawn is not None:
        yield drawn
    if name == "spectra":
        yield from _spectra(own["figures"])
    for table in own["tables"]:
        if table["kind"] == "matrix":
            values = [
                [float(cell) if cell else math.nan for cell in row[1:]] for row in table["rows"]
            ]
            names = [row[0] for row in table["rows"]]
            if any(value == value for line in values for value in line):
                yield figures.heat_map(table["title"], names, table["columns"][1:], values)
        if table["kind"] == "points":
            points: dict[str, list[tuple[float, float]]] = {}
            for language, _, first, second in table["rows"]:
                points.setdefault(language, []).append((float(first), float(second)))
            yield figures.scatter(table["title"], points)


def _spectra(rows: Sequence[Mapping[str, Any]]) -> Iterable[Any]:
    """Yield a heat map of a figure of the encoder's and the decoder's layers by matrix."""
    for measure in ("stable rank", "d"):
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            side, _, matrix = row["of"].partition(" ")
            number, _, kind = matrix.partition(" ")
            if row["measure"] == measure and row["model"] == MODEL and number.isdigit():
                value = math.nan if row["value"] is None else row["value"]
                found.setdefault(f"{side} {number}", {})[kind] = value
        columns = list(dict.fromkeys(kind for own in found.values() for kind in own))
        if found:
            values = [[own.get(kind, math.nan) for kind in columns] for own in found.values()]
            yield figures.heat_map(measure, list(found), columns, values)


def _figure_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows[:MOST_ROWS]:
        nulls = ", ".join(f"{name} {_null(own)}" for name, own in row["nulls"].items())
        cells = [row.get("model", ""), row.get("of", ""), row["measure"], str(row.get("layer", ""))]
        lines.append(
            "<tr>" + "".join(f"<td class='of'>{_text(cell)}</td>" for cell in cells)
            + f"<td class='number'>{_text(_value(row))}</td><td class='nulls'>{_text(nulls)}</td>"
            + f"<td class='nulls'>{_text(leaves_in_words(estimate_of(row)))}</td></tr>"
        )  # fmt: skip
    heads = ("model", "of", "measure", "layer", "value", "nulls", "in words")
    head = "".join(f"<th>{name}</th>" for name in heads)
    more = _more(len(rows))
    inside = f"<div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>{more}"
    return f"<details><summary>figures and their nulls</summary>{inside}</details>"


def _table(table: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in table["columns"])
    lines = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
        for row in table["rows"][:MOST_ROWS]
    )
    inside = f"<div class='wide'><table><tr>{head}</tr>{lines}</table></div>"
    more = _more(len(table["rows"]))
    return f"<details><summary>{_text(table['title'])}</summary>{inside}{more}</details>"


def _more(num: int) -> str:
    if num <= MOST_ROWS:
        return ""
    return f"<p class='note'>{num - MOST_ROWS:,} further rows are in analysis.json.</p>"


def _missing(missing: Sequence[Mapping[str, str]]) -> str:
    if not missing:
        return ""
    lines = "".join(f"<li>{_text(o['analysis'])}: {_text(o['lacks'])}</li>" for o in missing)
    return f"<h2>What could not run</h2><ul>{lines}</ul>"


def estimate_of(row: Mapping[str, Any]) -> Estimate:
    """Return the estimate of a figure of the JSON."""
    nulls = {name: Null(**own) for name, own in row["nulls"].items()}
    return Estimate(
        row["value"], row.get("low"), row.get("high"), row["num"], nulls, row.get("reason", "")
    )


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return f"none: {row.get('reason', '')}"
    interval = f" [{row['low']:.3g}, {row['high']:.3g}]" if "low" in row else ""
    return f"{row['value']:.4g}{interval}"


def _null(own: Mapping[str, Any]) -> str:
    if own["value"] is None:
        return own.get("reason") or "none"
    band = f" [{own['low']:.3g}, {own['high']:.3g}]" if "low" in own else ""
    p = f", p {own['p']:.3f}" if "p" in own else ""
    return f"{own['value']:.3g}{band}{p}"


def as_tsv(report: Mapping[str, Any]) -> str:
    """Return a line for each figure: names, value, interval, number, and a column for each null."""
    rows = [
        {"analysis": name, **row} for name, own in report["analyses"].items()
        for row in own["figures"]
    ]  # fmt: skip
    nulls = sorted({name for row in rows for name in row["nulls"]})
    names = ["analysis", "model", "of", "measure", "layer", "value", "low", "high", "num", "reason"]
    lines = ["\t".join([*names, *nulls])]
    for row in rows:
        cells = [_cell(row.get(name)) for name in names]
        cells += [_cell(row["nulls"].get(name, {}).get("value")) for name in nulls]
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else " ".join(str(value).split())


MOST_LINES, MOST_TEXTS = 20, 3


def summary(report: Mapping[str, Any]) -> list[str]:
    """Return about twenty lines: the first measure of each analysis, by layer if it has layers.

    Of each analysis up to three texts, fewer if there are many analyses.
    """
    found = [_summary_lines(name, own["figures"]) for name, own in report["analyses"].items()]
    most = MOST_TEXTS
    while most > 1 and sum(min(most, len(own)) for own in found) > MOST_LINES:
        most -= 1
    lines = [line for own in found for line in own[:most]][:MOST_LINES]
    if not report["settings"]["untrained"]:
        lines.append("random weights were not measured (untrained is false): a null is missing")
    if report["missing"]:
        names = ", ".join(own["analysis"] for own in report["missing"])
        lines.append(f"not run, since their input is missing: {names}")
    return lines


def _summary_lines(name: str, figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each text, of the first measure that the model has."""
    rows = [row for row in figures if row.get("model", MODEL) == MODEL]
    for measure in DEFINITIONS[name].shown[:2]:
        own = [row for row in rows if row["measure"] == measure]
        texts = dict.fromkeys(row.get("of", "") for row in own)
        if texts:
            return [
                _summary_line(name, measure, of, [r for r in own if r.get("of", "") == of])
                for of in texts
            ]
    return []


def _summary_line(name: str, measure: str, of: str, points: list[Mapping[str, Any]]) -> str:
    values = " ".join("-" if row["value"] is None else f"{row['value']:.3f}" for row in points)
    places = " by layer" if len(points) > 1 and "layer" in points[0] else ""
    best = max(points, key=lambda row: -math.inf if row["value"] is None else row["value"])
    words = leaves_in_words(estimate_of(best))
    layer = f"layer {best['layer']}: " if "layer" in best and len(points) > 1 else ""
    about = f" {of}" if of else ""
    return f"{name}{about}, {measure}{places}: {values}" + (f" ({layer}{words})" if words else "")


def _text(value: object) -> str:
    return html.escape(str(value))


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")
