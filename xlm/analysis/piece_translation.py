"""Translation of pieces: is the old piece that is nearest to a new one its translation?

The figure is P@1 by the cosine of rows of two tables of words, over pieces whose translations are
known, from aligned sentences or a dictionary (``xlm.analysis.translation_model``). It is the one
sign of convergence that looks at words themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.analysis.neighbors import nearest, unit
from xlm.analysis.translation_model import Translations

FEWEST = 0.1
"""Product of both directions' probabilities below which two pieces are no translations."""


@dataclass(frozen=True)
class Known:
    """Pairs of pieces that translate each other."""

    new: NDArray[np.int64]
    """Ids of the new vocabulary, ``[N]``, each once."""
    old: NDArray[np.int64]
    """Ids of the old one, ``[N]``."""
    candidates: NDArray[np.int64]
    """Ids of all pieces of text of the old vocabulary, ``[M]``."""

    @property
    def chance(self) -> float:
        """The share that drawn neighbors would find."""
        return 1.0 / max(len(self.candidates), 1)


def known_translations(
    found: Translations, candidates: NDArray[np.int64], *, fewest: float = FEWEST
) -> Known:
    """Return the likeliest translation of each new piece that has one among ``candidates``."""
    usable = (found.product >= fewest) & np.isin(found.old, candidates)
    order = np.flatnonzero(usable)[np.argsort(-found.product[usable], kind="stable")]
    new, first = np.unique(found.new[order], return_index=True)
    return Known(new, found.old[order][first], candidates)


def precision(new: Tensor, old: Tensor, known: Known) -> float | None:
    """Return the share of new pieces whose nearest old one is the translation; None without any.

    ``new`` and ``old`` are words, ``[V, D]`` each.
    """
    if not len(known.new):
        return None
    sides = [
        unit(words.detach().float().cpu().numpy()[ids])
        for words, ids in ((new, known.new), (old, known.candidates))
    ]
    near = known.candidates[nearest(sides[0], sides[1], 1).ids[:, 0]]
    return float((near == known.old).mean())


def to_tensors(known: Known) -> dict[str, Tensor]:
    """Return what a file of translations holds."""
    return {name: torch.from_numpy(own) for name, own in vars(known).items()}


def from_tensors(tensors: dict[str, Tensor]) -> Known:
    """Return the translations in a file."""
    return Known(*(tensors[name].numpy() for name in ("new", "old", "candidates")))
