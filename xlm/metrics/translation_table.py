"""Scores of many directions beside each other: rows, means by the center, differences, the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xlm.metrics.language_shares import LanguageShares
from xlm.metrics.translation import TranslationScores, copied_tokens, copy_rate, empty_rate
from xlm.tables import aligned

METRICS = ("bleu", "chrf")


def row_figures(
    scores: TranslationScores,
    sources: Sequence[str],
    hypotheses: Sequence[str],
    shares: LanguageShares,
) -> dict[str, Any]:
    """Return the figures of one direction as JSON holds them."""
    return {
        "num_lines": len(hypotheses),
        **{name: asdict(getattr(scores, name)) for name in METRICS},
        "copied_lines": copy_rate(sources, hypotheses),
        "copied_tokens": copied_tokens(sources, hypotheses),
        "empty": empty_rate(hypotheses),
        "in_target": shares.in_target,
        "wrong_language": shares.wrong,
        "in_wrong_language": shares.in_wrong,
    }


def with_baseline(
    rows: Sequence[dict[str, Any]], baseline: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows with their differences from those of the same direction and references."""
    there = {_key(row): row for row in baseline}
    found = []
    for row in rows:
        other = there.get(_key(row))
        own = {name: None for name in METRICS}
        if other is not None:
            own = {name: row[name]["score"] - other[name]["score"] for name in METRICS}
        found.append({**row, "difference": own})
    return found


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["source"], row["target"], row["references"])


def means(rows: Sequence[Mapping[str, Any]], center: str | None) -> list[dict[str, Any]]:
    """Return means over the rows into the center, out of it and elsewhere, each naming its rows.

    Without a center, over all rows. A group without a row is left out.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {"all": list(rows)}
    if center is not None:
        groups = {f"into {center}": [], f"out of {center}": [], "elsewhere": []}
        for row in rows:
            if row["target"] == center:
                groups[f"into {center}"].append(row)
            elif row["source"] == center:
                groups[f"out of {center}"].append(row)
            else:
                groups["elsewhere"].append(row)
    return [_mean(name, own) for name, own in groups.items() if own]


def _mean(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "rows": [f"{row['source']}-{row['target']}" for row in rows],
        **{
            metric: math.fsum(row[metric]["score"] for row in rows) / len(rows)
            for metric in METRICS
        },
    }
    if "difference" in rows[0]:
        found["difference"] = {}
        for metric in METRICS:
            own = [row["difference"][metric] for row in rows]
            known = [value for value in own if value is not None]
            found["difference"][metric] = math.fsum(known) / len(own) if own == known else None
    return found


def table_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result of ``xlm.bleu.score_table`` as lines for a person."""
    rows, chrf = result["rows"], result["chrf"]
    compared = "difference" in rows[0]
    heads = ["", "lines", "BLEU", "± 95 %", chrf, "± 95 %"]
    heads += ["ΔBLEU", f"Δ{chrf}"] * compared
    cells = [[*heads, "copied", "empty", "in target", "else mostly"]]
    for row in rows:
        cells.append(_cells(row, compared))
    for mean in result["means"]:
        own = [f"mean {mean['name']}", str(len(mean["rows"]))]
        own += [f"{mean['bleu']:.2f}", "", f"{mean['chrf']:.2f}", ""]
        own += [_signed(mean["difference"][metric]) for metric in METRICS] if compared else []
        cells.append([*own, "", "", "", ""])
    said = [line.rstrip() for line in aligned(cells)]
    for mean in result["means"]:
        said.append(f"mean {mean['name']}: {', '.join(mean['rows'])}")
    for metric in METRICS:
        signatures: dict[str, list[str]] = {}
        for row in rows:
            name = f"{row['source']}-{row['target']}"
            signatures.setdefault(row[metric]["signature"], []).append(name)
        for signature, names in signatures.items():
            of = "" if len(signatures) == 1 else f" ({', '.join(names)})"
            said.append(f"{'BLEU' if metric == 'bleu' else chrf}{of}: {signature}")
    return [*said, *(f"note: {note}" for note in result["notes"])]


def _cells(row: Mapping[str, Any], compared: bool) -> list[str]:
    own = [f"{row['source']}-{row['target']}", f"{row['num_lines']:,}"]
    for metric in METRICS:
        interval = row[metric]["interval"]
        own += [f"{row[metric]['score']:.2f}", "" if interval is None else f"{interval:.2f}"]
    own += [_signed(row["difference"][metric]) for metric in METRICS] if compared else []
    own += [f"{row['copied_lines']:.1%}", f"{row['empty']:.1%}"]
    own.append("" if row["in_target"] is None else f"{row['in_target']:.1%}")
    wrong = row["wrong_language"]
    own.append("" if wrong is None else f"{wrong} {row['in_wrong_language']:.1%}")
    return own


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
