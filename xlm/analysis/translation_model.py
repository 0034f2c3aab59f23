"""IBM model 1 in both directions: which pieces of two languages translate each other.

Brown et al. 1993, section 4.2: each piece of one side is made by one piece of the other side, or by
none, all with equal prior; expectation-maximization gives the probabilities. Products of both
directions leave what both find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm.errors import DataError

Ids = NDArray[np.int64]
ROUNDS = 10
"""Rounds of expectation-maximization."""
MOST_LINKS = 20_000_000
"""Links between pieces of pairs that are held in memory, some 50 bytes each."""
_NONE = -1
"""The source of a piece that no piece made."""


@dataclass(frozen=True)
class Translations:
    """Pairs of pieces that occur together, with the product of both directions' probabilities."""

    new: Ids
    """Ids of the new language, ``[N]``, in ascending order."""
    old: Ids
    """Ids of the known language, ``[N]``."""
    product: NDArray[np.float64]
    """p(new | old) * p(old | new), ``[N]``."""
    num_pairs: int
    """Pairs of sentences that were used."""


def translations(
    new: Sequence[Ids], old: Sequence[Ids], *, rounds: int = ROUNDS, most_links: int = MOST_LINKS
) -> Translations:
    """Return the translations that aligned rows of ids (int64 ``[T]`` each) give.

    Raises DataError unless both sides have the same number of rows, and one pair has pieces.
    """
    if len(new) != len(old):
        raise DataError(
            f"{len(new):,} rows in one language and {len(old):,} in the other: expected the "
            "same number"
        )
    sizes = np.array([len(n) * (len(o) + 2) for n, o in zip(new, old, strict=True)], dtype=np.int64)
    num_pairs = int(np.searchsorted(np.cumsum(sizes), most_links, side="right"))
    new, old = new[:num_pairs], old[:num_pairs]
    forth = _model_1(old, new, rounds)
    back = _model_1(new, old, rounds)
    if not forth or not back:
        raise DataError("no pair has pieces on both sides: expected aligned text")
    found = sorted(forth.keys() & {(o, n) for n, o in back}, key=lambda pair: pair[::-1])
    return Translations(
        np.array([n for _, n in found], dtype=np.int64),
        np.array([o for o, _ in found], dtype=np.int64),
        np.array([forth[o, n] * back[n, o] for o, n in found]),
        num_pairs,
    )


def _model_1(
    sources: Sequence[Ids], targets: Sequence[Ids], rounds: int
) -> dict[tuple[int, int], float]:
    """Return p(target | source) of every pair of ids that occur together."""
    rows = [(s, t) for s, t in zip(sources, targets, strict=True) if len(s) and len(t)]
    if not rows:
        return {}
    # a link for each target piece and each piece, or none, that may have made it
    made_by = [np.append(s, _NONE) for s, _ in rows]
    left = np.concatenate([np.tile(m, len(t)) for m, (_, t) in zip(made_by, rows, strict=True)])
    right = np.concatenate([np.repeat(t, len(m)) for m, (_, t) in zip(made_by, rows, strict=True)])
    links_of = np.concatenate(
        [np.full(len(t), len(m)) for m, (_, t) in zip(made_by, rows, strict=True)]
    )
    starts = np.concatenate([[0], np.cumsum(links_of)[:-1]])
    width = int(right.max()) + 1
    pairs, link = np.unique((left + 1) * width + right, return_inverse=True)
    link = link.ravel()
    of_source, source = np.unique(pairs // width, return_inverse=True)
    probability = np.ones(len(pairs))
    for _ in range(rounds):
        own = probability[link]
        own /= np.repeat(np.add.reduceat(own, starts), links_of)
        counts = np.bincount(link, own, minlength=len(pairs))
        probability = counts / np.bincount(source, counts, minlength=len(of_source))[source]
    return {
        (int(pair // width) - 1, int(pair % width)): float(value)
        for pair, value in zip(pairs, probability, strict=True)
        if pair // width > 0
    }
