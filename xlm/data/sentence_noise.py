"""Noise of denoising auto-encoding: tokens of a sentence are moved, dropped or hidden.

The noise of Lample et al. (2018, section 2.3) as the original XLM makes it (docs/fidelity.md, A4
and B9): on tokens (pieces), not words, in this order. A sentence is given without its surrounding
end symbols, which therefore stay in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Ids


@dataclass(frozen=True)
class SentenceNoise:
    """The amounts of noise; raises ConfigError for an invalid one.

    Every token draws for each kind, even for one that is off: changing one amount leaves the draws
    of the others unchanged.
    """

    shuffle: float
    """Tokens are sorted by position + U[0, shuffle), so that two tokens change places only if fewer
    than ``shuffle`` places apart. 0: no token moves."""
    drop: float
    """Probability of dropping a token; if all tokens would be dropped, a random one stays."""
    blank: float
    """Probability that a remaining token becomes the mask symbol."""

    def __post_init__(self) -> None:
        if self.shuffle != 0 and not 1 < self.shuffle < np.inf:
            raise ConfigError(
                "shuffle must be 0 (off) or above 1, since no token moves at 1 or less: "
                f"found {self.shuffle}"
            )
        for name in ("drop", "blank"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1): found {getattr(self, name)}")

    def apply(self, sentences: Sequence[Ids], mask_id: int, random: Random) -> list[Ids]:
        """Return the sentences with noise (int64 arrays); the given ones are not changed."""
        lengths = np.array([len(ids) for ids in sentences], dtype=np.int64)
        num_tokens = int(lengths.sum())
        for_order, for_drop, for_blank = random.uniform(3 * num_tokens).reshape(3, num_tokens)
        for_last = random.uniform(len(lengths))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        starts = np.cumsum(lengths) - lengths
        tokens = np.concatenate([*sentences, np.zeros(0, dtype=np.int64)], dtype=np.int64)

        positions = np.arange(num_tokens) - starts[rows]
        # The sort is stable, so that scores which rounding made equal keep the bound.
        order = np.lexsort((positions + self.shuffle * for_order, rows))
        tokens = tokens[order]
        kept = for_drop >= self.drop
        num_kept = np.bincount(rows[kept], minlength=len(lengths))
        emptied = np.flatnonzero((num_kept == 0) & (lengths > 0))
        kept[starts[emptied] + (for_last[emptied] * lengths[emptied]).astype(np.int64)] = True
        num_kept[emptied] = 1
        tokens[for_blank < self.blank] = mask_id
        return _split(tokens[kept], num_kept)


def _split(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[Ids]:
    borders = [0, *np.cumsum(lengths).tolist()]
    return [tokens[a:b] for a, b in zip(borders[:-1], borders[1:], strict=True)]
