"""The tables of the Nepali study: rows and units, findings, amounts of text, kinds of subwords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.support.markdown_table import Result, markdown
from xlm.reproduce.page import PAPER, SHAPES, UNITS, shown, verdict

NEWS = "test"


def nepali(result: Result) -> str:
    """Every row in both shapes: its gain over Nepali alone, the paper's, and the chief units."""
    heads = ["shape", "trained on", "seeds", "nats against Nepali alone", "paper's"]
    rows = []
    for shape, own in result["shapes"].items():
        for row, figures in own.items():
            test = figures["tests"][NEWS]
            seeds = f"{len(figures['seeds'])} of {len(figures['planned_seeds'])}"
            paper = f"{PAPER[row]:+.3f}" if row in PAPER else ""
            cells = [shown(test[unit], spec) for unit, spec in _chief()]
            rows.append([shape, row, seeds, _change(figures["difference"][NEWS]), paper, *cells])
    return markdown([*heads, *(UNITS[unit][0] for unit, _ in _chief())], rows)


def _chief() -> list[tuple[str, str]]:
    return [(unit, UNITS[unit][1]) for unit in ("nats", "perplexity", "bits_per_byte")]


def _change(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    half = "" if found["interval"] is None else f" ± {found['interval']:.3f}"
    return f"{found['mean']:+.3f}{half}"


def headline(result: Result) -> str:
    """One line for each shape: the difference of each row from Nepali alone on news."""
    lines = []
    for shape, own in result["shapes"].items():
        parts = [
            f"{row} {_change(figures['difference'][NEWS])} (paper {PAPER[row]:+.3f})"
            for row, figures in own.items()
            if row in PAPER and figures["difference"][NEWS]
        ]
        if parts:
            described = SHAPES[shape].split(":")[0]
            lines.append(f"- {described}: {', '.join(parts)} nats a subword against ne alone.")
    return "\n".join(lines) or "Not measured yet."


def units(result: Result) -> str:
    """Every row in every unit, on each test text."""
    rows = []
    for shape, own in result["shapes"].items():
        for row, figures in own.items():
            for test, units_of in figures["tests"].items():
                cells = [shown(units_of.get(unit), spec) for unit, (_, spec) in UNITS.items()]
                change = _change(figures["difference"][test])
                rows.append([f"{row}, {shape}", named(test), change, *cells])
    heads = [head for head, _ in UNITS.values()]
    return markdown(["trained on", "test text", "against Nepali alone", *heads], rows)


def found(result: Result) -> str:
    """A sentence on each row's difference from Nepali alone, with its interval and verdict."""
    lines = []
    for shape, own in result["shapes"].items():
        for row, figures in own.items():
            difference = figures["difference"][NEWS]
            if difference is None:
                continue
            seeds = len(difference["values"])
            paper = f"; the paper's perplexities: {PAPER[row]:+.3f}" if row in PAPER else ""
            lines.append(
                f"- `{row}`, {SHAPES[shape].split(':')[0]}: {_change(difference)} nats a subword "
                f"against Nepali alone, {seeds} seed{'s' if seeds > 1 else ''}: "
                f"{verdict(difference)}{paper}."
            )
    if result["finished"] < result["planned"]:
        lines.append(
            f"- {result['finished']} of {result['planned']} models are finished: rows and "
            "intervals will change."
        )
    return "\n".join(lines)


def sizes(result: Result) -> str:
    """Nats by the number of Nepali sentences, alone and with Hindi."""
    heads, rows = ["Nepali sentences"], []
    for own in result["sizes"]:
        cells = [f"{own['sentences']:,}"]
        for nats in own["tests"].values():
            cells += [f"{nats[name]:.3f}" for name in ("alone", "beside")]
            cells.append(f"{nats['difference']:+.3f}")
        rows.append(cells)
    if not rows:
        return "Not measured yet."
    for test in result["sizes"][0]["tests"]:
        heads += [f"{named(test)}: alone", "with Hindi", "difference"]
    return markdown(heads, rows)


def kinds(result: Result) -> str:
    """The difference of each row from Nepali alone by kind of subword, of the rotary shape."""
    own = {row: figures for row, figures in result["shapes"]["rotary"].items() if row != "ne"}
    rows = []
    for test in next(iter(own.values()))["tests"] if own else ():
        names = list(next(iter(own.values()))["kinds"][test])
        for name in names:
            share = next(iter(own.values()))["kinds"][test][name]["share"]
            changes = [_change(figures["difference_by_kind"][test].get(name)) for figures in
                       own.values()]  # fmt: skip
            rows.append([f"{name}, {named(test)}", f"{share:.1%}", *changes])
    return markdown(["kind of subword", "share", *own], rows)


def named(test: str) -> str:
    """Return what a test text of the study is called in tables."""
    return "news" if test == NEWS else test.upper()
