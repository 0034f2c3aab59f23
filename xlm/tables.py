"""Tables for a terminal, names aligned to the left and figures to the right; spans of time."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], num_names: int = 1) -> list[str]:
    """Return a line for each row of cells, every column as wide as its widest cell.

    The first ``num_names`` columns are aligned to the left, the others to the right. All rows have
    the same number of cells.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < num_names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def span(seconds: float) -> str:
    """Return a span of time in its largest unit that is at least 1, rounded down."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"
