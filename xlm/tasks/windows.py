"""Windows over texts too long for one row: over words for tagging, over subwords for answering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError


class WordWindow(NamedTuple):
    """The words from ``start`` to ``end`` are read; those from ``new`` on are predicted."""

    start: int
    new: int
    end: int


def word_windows(lengths: Sequence[int], room: int, context: int) -> Iterator[WordWindow]:
    """Yield windows of at most ``room`` pieces over words of ``lengths`` pieces each.

    mBERT study, section 5: rows of 128 pieces; if a sentence is longer, the next row repeats the
    last 64 pieces as context. Words are never split, and each is new in exactly one window, in
    order. At most ``context`` pieces before the new ones are read again. A word longer than
    ``room`` has a window to itself, and the caller truncates it. Raises ConfigError unless
    ``0 <= context < room``.
    """
    if not 0 <= context < room:
        raise ConfigError(
            f"windows of {room} pieces with a context of {context}: context must be at least "
            f"0 and below {room}; raise length, or lower context"
        )
    new = 0
    while new < len(lengths):
        start, used = new, 0
        while start > 0 and used + lengths[start - 1] <= context:
            start -= 1
            used += lengths[start]
        if used + lengths[new] > room:
            start, used = new, 0  # a long word goes without context
        end = new
        while end < len(lengths) and used + lengths[end] <= room:
            used += lengths[end]
            end += 1
        end = max(end, new + 1)
        yield WordWindow(start, new, end)
        new = end


class SubwordWindow(NamedTuple):
    """A stretch of a text's subwords that the model reads at once."""

    first: int
    length: int


def subword_windows(num_subwords: int, room: int, stride: int) -> list[SubwordWindow]:
    """Return stretches of at most ``room`` subwords that begin ``stride`` apart and cover the text.

    The last ends with the text. A text of no subwords has one empty window. Raises ConfigError for
    a stride that is not between 1 and ``room`` (a larger one would skip subwords).
    """
    if not 1 <= stride <= room:
        raise ConfigError(f"stride {stride}: expected 1 to {room}, the room for text in a window")
    stretches = [SubwordWindow(0, min(room, num_subwords))]
    while stretches[-1].first + stretches[-1].length < num_subwords:
        first = stretches[-1].first + stride
        stretches.append(SubwordWindow(first, min(room, num_subwords - first)))
    return stretches


def best_windows(stretches: Sequence[SubwordWindow], num_subwords: int) -> NDArray[np.int64]:
    """Return for each subword ``[n]`` the window that gives it the most context; -1 if none has it.

    BERT's rule: the smaller of the contexts on the two sides, plus 0.01 of the window's length; the
    earlier window if that is equal.
    """
    best = np.full(num_subwords, -np.inf)
    owner = np.full(num_subwords, -1, dtype=np.int64)
    for index, (first, length) in enumerate(stretches):
        place = np.arange(length)
        context = np.minimum(place, length - 1 - place) + 0.01 * length
        own = slice(first, first + length)
        better = context > best[own]
        best[own] = np.where(better, context, best[own])
        owner[own] = np.where(better, index, owner[own])
    return owner
