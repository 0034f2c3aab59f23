"""Long texts in several rows: what is new in each, and what is context.

mBERT study, section 5: rows of 128 pieces; where a sentence is longer, the next row repeats the
last 64 pieces as context, so that every word is predicted exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xlm.errors import ConfigError


class Window(NamedTuple):
    """Units ``start`` to ``end`` are read, those from ``new`` on are predicted."""

    start: int
    new: int
    end: int


def windows(lengths: Sequence[int], room: int, context: int) -> Iterator[Window]:
    """Windows of at most ``room`` pieces over units (words) of ``lengths`` pieces each.

    Whole units only: each is new in exactly one window, in order. At most ``context`` pieces before
    the new ones are read again. A unit longer than ``room`` has a window to itself, and its end is
    for the caller to cut off. Raises ConfigError unless ``0 <= context < room``.
    """
    if not 0 <= context < room:
        raise ConfigError(f"windows of {room} pieces with {context} of context: expected fewer")
    new = 0
    while new < len(lengths):
        start, used = new, 0
        while start > 0 and used + lengths[start - 1] <= context:
            start -= 1
            used += lengths[start]
        if used + lengths[new] > room:
            start, used = new, 0  # a long unit goes without context
        end = new
        while end < len(lengths) and used + lengths[end] <= room:
            used += lengths[end]
            end += 1
        end = max(end, new + 1)
        yield Window(start, new, end)
        new = end
