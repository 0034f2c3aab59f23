"""What docs/results.md shows of a paper: its rows that ran here, what did not run, misprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.ledger import (
    RESULTS,
    Ledger,
    Measured,
    Ran,
    Row,
    Study,
    Table,
    digits,
    read,
)
from benchmarks.support.markdown_table import markdown

HEADS = ("row", "published", "ours", "same order?", "how sure", "paper's settings")


@dataclass(frozen=True)
class Pair:
    """A published value beside ours."""

    row: Row
    ran: Ran
    published: float
    ours: Measured


def ledger(name: str, results: Path = RESULTS) -> str:
    """Return everything that the page shows of a paper, as Markdown."""
    paper = read(name)
    parts = [f"*{paper.source}*"]
    parts += [compared(table, study, results) for table in paper.tables for study in table.studies]
    parts += [
        f"{own.about}: [{own.result}](../benchmarks/results/{own.result})." for own in paper.beside
    ]
    parts.append("\n".join(["Not run:", "", *not_run(paper)]))
    if found := misprints(paper):
        parts.append("\n".join(["Misprints and contradictions:", "", *found]))
    return "\n\n".join(parts) + "\n"


def compared(table: Table, study: Study, results: Path = RESULTS) -> str:
    """Return the rows of a table that a study measured, published and ours beside each other."""
    pairs = [
        Pair(row, ran, published, ran.measured(study, results))
        for row in table.rows
        for ran in row.ran
        if ran.study == study.name and (published := table.cell(row, ran.column)) is not None
    ]
    rows = []
    for pair in pairs:
        name = (
            pair.row.title if len(table.columns) == 1 else f"{pair.row.title} ({pair.ran.column})"
        )
        others = [other for other in pairs if other is not pair]
        recipe = f"[{pair.ran.recipe.removeprefix('recipes/')}](../{pair.ran.recipe})"
        printed = f"{pair.published:.{digits(pair.row.values)}f}"
        shown = [printed, _ours(pair.ours), order(pair, others)]
        rows.append([name, *shown, sure(pair, others, study), recipe])
    better = ", less is better" if study.lower_is_better else ""
    link = f"[{study.result}](../benchmarks/results/{study.result})"
    said = f"**{table.label}.** {table.title}. Published: {_unit(table)}. Ours: {study.text}; "
    said += f"{study.unit}{better}; {link}."
    return f"{said}\n\n{markdown(HEADS, rows)}"


def _ours(ours: Measured) -> str:
    num_digits = 1 if abs(ours.mean) >= 10 else 2
    interval = "" if ours.interval is None else f" ±{ours.interval:.{num_digits}f}"
    return f"{ours.mean:.{num_digits}f}{interval}"


def _unit(table: Table) -> str:
    return table.unit if isinstance(table.unit, str) else ", ".join(dict.fromkeys(table.unit))


def order(pair: Pair, others: Sequence[Pair]) -> str:
    """Say of how many other rows ours lies on the side on which the published value does.

    Rows that the paper has at one value are no pair.
    """
    counted = [other for other in others if other.published != pair.published]
    if not counted:
        return "no other row"
    alike = sum(
        (other.published < pair.published) == (other.ours.mean < pair.ours.mean)
        and other.ours.mean != pair.ours.mean
        for other in counted
    )
    return f"{'yes' if alike == len(counted) else 'no'}, {alike} of {len(counted)}"


def sure(pair: Pair, others: Sequence[Pair], study: Study) -> str:
    """Say seeds, interval, from how many other rows it is apart, and the size of the model."""
    seeds = f"{pair.ours.seeds} seed{'s' if pair.ours.seeds > 1 else ''}"
    if pair.ours.interval is None:
        return f"{seeds}, no interval; {study.size}"
    known = [other.ours for other in others if other.ours.interval is not None]
    apart = sum(
        abs(own.mean - pair.ours.mean) > (own.interval or 0) + pair.ours.interval for own in known
    )
    text = f"; apart from {apart} of {len(known)}" if known else ""
    return f"{seeds}, 95 % interval {study.interval}{text}; {study.size}"


def not_run(paper: Ledger) -> list[str]:
    """Return a line a table: all of it, or the rows that nothing here measured."""
    lines = []
    for table in paper.tables:
        if table.describes_data:
            continue
        rows = [row.title for row in table.rows if not row.ran]
        if len(rows) == len(table.rows):
            lines.append(f"- {table.label}: {table.title}.")
        elif rows:
            more = f" and {len(rows) - 4} more" if len(rows) > 5 else ""
            shown = rows[:4] if more else rows
            lines.append(f"- {table.label}, of {len(table.rows)} rows: {'; '.join(shown)}{more}.")
    return lines


def misprints(paper: Ledger) -> list[str]:
    """Return averages that their rows do not give, contradictions, and settings given twice."""
    lines = [
        f"- {table.label}, {row.title}: {row.misprint}."
        for table in paper.tables
        for row in table.rows
        if row.misprint
    ]
    return [*lines, *(f"- {slip[0].upper()}{slip[1:]}." for slip in paper.slips)]
