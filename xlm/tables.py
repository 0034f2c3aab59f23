"""Tables for a terminal: names aligned to the left, figures to the right."""

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
