"""A table as Markdown has it, and the results that tables are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Result = dict[str, Any]
"""What a script of this folder has written."""


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is aligned to the left, the others to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
