"""Pairs of sentences with gold links between their words."""

from __future__ import annotations

from typing import NamedTuple

from xlm.analysis.alignment import Gold


class AlignedText(NamedTuple):
    """Sentences as words, row by row, and the links of each row."""

    first: list[list[str]]
    second: list[list[str]]
    gold: list[Gold]
