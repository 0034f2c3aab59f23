"""The table of how time and memory grow: ends of each axis, and the power between them."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.support.markdown_table import Result, markdown

PICTURE = "![milliseconds by what grows](../benchmarks/results/growth.png)"


def growth(result: Result) -> str:
    """A row for each axis and what is measured along it, and the plots."""
    lines: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in result["rows"]:
        lines.setdefault((row["axis"], row["of"]), []).append(row)
    rows = []
    for (axis, of), own in lines.items():
        first, last = own[0], own[-1]
        # times below the clock's resolution have no ratio
        rose = max(last["ms"], 0.01) / max(first["ms"], 0.01)
        power = math.log(rose) / math.log(last["value"] / first["value"])
        memory = f"{last['MiB']:,.0f}" if "MiB" in last else ""
        rows.append([
            axis.replace("_", " "), of, f"{first['value']:,}", f"{last['value']:,}",
            f"{first['ms']:,.1f}", f"{last['ms']:,.1f}", f"{power:.2f}", memory,
        ])  # fmt: skip
    heads = ["what grows", "of", "from", "to", "ms", "ms at the end", "power", "MiB at the end"]
    return f"{markdown(heads, rows)}\n\n{PICTURE}"


TABLES: dict[str, tuple[Callable[[Result], str], str]] = {"growth": (growth, "growth")}
