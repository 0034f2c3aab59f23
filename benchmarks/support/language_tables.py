"""The tables of the studies of language modules: the laboratory, its size, real text, starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.support.markdown_table import Result, markdown
from xlm.run.selection import mean_of

SIGNS = {
    "nats": "nats", "order": "order", "unlikeness": "unlikeness", "twins": "twins, %",
    "frequent twins": "of the {}, %",
}  # fmt: skip
SHARES = ("twins", "frequent twins")
TASK_NAMES = {"pos": "parts of speech", "entailment": "entailment"}


def over_seeds(found: Sequence[Mapping[str, Any]], figure: str, *, share: bool = False) -> str:
    """Return a figure's mean, with its 95 % interval if there are several seeds; "" if it is not.

    Shares are shown in per cent.
    """
    values = [float(one[figure]) for one in found if one.get(figure) is not None]
    if not values:
        return ""
    own, scale, digits = mean_of(values), 100 if share else 1, 1 if share else 2
    shown = f"{scale * own.mean:.{digits}f}"
    return shown if own.interval is None else f"{shown} ±{scale * own.interval:.{digits}f}"


def laboratory(result: Result) -> str:
    """Every table of the laboratory: nats, the signs of the guard, and twins."""
    heads = [head.format(f"{result['frequent']} most frequent") for head in SIGNS.values()]
    rows = [["chance", "", "", "", *(f"{100 * result['chance']['twins']:.1f}" for _ in SHARES), ""]]
    for name, found in result["tables"].items():
        cells = [over_seeds(found, figure, share=figure in SHARES) for figure in SIGNS]
        alarms = ", ".join(dict.fromkeys(alarm for one in found for alarm in one.get("alarms", [])))
        rows.append([_with_seeds(name, found, result), *cells, alarms])
    return markdown(["table", *heads, "alarms"], rows)


def _with_seeds(name: str, found: Sequence[Any], result: Result) -> str:
    """Return a row's name, with its number of seeds if it has fewer than others."""
    most = max(len(own) for own in result["tables"].values())
    return name if len(found) == most else f"{name} ({_seeds(len(found))})"


def _seeds(num: int) -> str:
    return f"{num} seed" if num == 1 else f"{num} seeds"


def laboratory_tasks(result: Result) -> str:
    """What was learned in English, asked in English and in the new language; noise beside none."""
    columns = {
        f"{name}{noise}": f"{shown}{noise}"
        for name, shown in TASK_NAMES.items()
        for noise in ("", ", noise")
    }
    heads = [head for shown in columns.values() for head in (f"{shown}, English", shown)]
    rows = [["commonest answer", *(f"{100 * result['chance'][name.split(',')[0]]:.1f}"
                                   for name in columns for _ in range(2))]]  # fmt: skip
    for name, found in result["tables"].items():
        cells = [
            over_seeds(found, figure, share=True)
            for column in columns
            for figure in (f"{column}, English", column)
        ]
        rows.append([_with_seeds(name, found, result), *cells])
    return markdown(["%", *heads], rows)


def search(result: Result) -> str:
    """Every setting that was tried, and how many twins its table found."""
    heads = ["setting", "nats of English", "gain of English", "nats", "gain", "order", "unlikeness",
             "twins, %", "most frequent, %"]  # fmt: skip
    rows = []
    for row in result["rows"]:
        figures = ["nats of English", "gain of English", "nats", "gain", "order", "unlikeness"]
        cells = [over_seeds([row], figure) for figure in figures]
        shares = [over_seeds([row], figure, share=True) for figure in SHARES]
        rows.append([row["trial"], *cells, *shares])
    return markdown(heads, rows)


def real_text(result: Result) -> str:
    """Bits a byte of tables, of the old vocabulary alone, and of training everything on."""
    own = [row for row in result["rows"] if not row["arm"].startswith("task ")]
    figures = {
        "bits a byte": "bits a byte", "of the old vocabulary": "of the old vocabulary",
        "change of English": "change of English", "gain": "gain", "order": "order",
        "unlikeness": "unlikeness", "translated": "translated", "translated_by_chance": "by chance",
        "alarms": "alarms",
    }  # fmt: skip
    rows = []
    for row in own:
        alarms = "" if row.get("alarms") is None else f"{float(str(row['alarms']).split()[0]):g}"
        rows.append([row["arm"], *(str(row.get(name, "")) for name in figures)][:-1] + [alarms])
    return markdown(["model, and how it reads the language", *figures.values()], rows)


def real_tasks(result: Result) -> str:
    """Tasks that were learned in English, each language beside its commonest answer."""
    rows = []
    for row in result["rows"]:
        task, own = row["arm"].removeprefix("task "), dict(row)
        if task == row["arm"]:
            continue
        for name in (name for name in own if name not in ("arm", "seeds")):
            language, _, start = name.partition(", ")
            if start != "commonest":
                shown = [_percent(own[one]) for one in (name, f"{language}, commonest")]
                table = "" if language == "en" else start or "without pairs"
                rows.append([task, language, table, *shown])
    return markdown(["task", "read in", "table", "score, %", "commonest answer, %"], rows)


def _percent(shown: str) -> str:
    """Return a share and its interval, as they are shown, in per cent."""
    return " ±".join(f"{100 * float(part):.1f}" for part in shown.split(" ±"))


def starts(result: Result) -> str:
    """How each start ends, against random rows, and when it reaches what these end with."""
    heads = list(result["rows"][0])
    return markdown(heads, [[str(row[head]) for head in heads] for row in result["rows"]])


def many_tables(result: Result) -> str:
    """How often the guard fired among many tables, and what the best of three hides."""
    own = result.get("many")
    if not own:
        return "Not measured yet."
    heads = list(own[0])
    return markdown(heads, [[str(row[head]) for head in heads] for row in own])


TABLES = {
    "monotrans_search": (search, "monotrans_search"),
    "monotrans_lab": (laboratory, "monotrans_lab"),
    "monotrans_lab-tasks": (laboratory_tasks, "monotrans_lab"),
    "monotrans_real": (real_text, "monotrans_real"),
    "monotrans_real-tasks": (real_tasks, "monotrans_real"),
    "monotrans_starts": (starts, "monotrans_starts"),
    "monotrans_starts-many": (many_tables, "monotrans_starts"),
}
