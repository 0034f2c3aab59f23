"""Masks as the original draws them (docs/fidelity.md): in training (B2), in evaluation (B8)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xlm.data.masking import choose_targets
from xlm.errors import ConfigError
from xlm.rng import Random


def choose_targets_as_original(
    tokens: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    rate: float,
    random: Random,
) -> NDArray[np.int64]:
    """Draw the targets of training as the original does; return ascending cells (int64).

    ``tokens`` int64 ``[B, T]``. With ``weights`` (float64 ``[V]``) exactly ``ceil(rate * T * B)``
    cells are drawn without replacement, by the weights of their tokens; without, each cell is drawn
    on its own with probability ``rate``. Both also draw padding and first columns; the cells that
    are not ``allowed`` (bool ``[B, T]``) are removed afterwards, so fewer may be left, or none. See
    docs/fidelity.md, B2.
    """
    if weights is None:
        drawn = np.flatnonzero(random.uniform(tokens.size) < rate)
    else:
        num_rows, length = tokens.shape
        drawn = choose_targets(weights[tokens.ravel()], math.ceil(rate * length * num_rows), random)
    return drawn[allowed.ravel()[drawn]]


def original_evaluation_mask(
    lengths: NDArray[np.int64], rate: float, generator: np.random.RandomState
) -> NDArray[np.bool_]:
    """Return the cells that the original predicts in evaluation, bool ``[B, T]``.

    Rows have ``lengths`` (int64 ``[B]``, each at least 3) and are padded to the longest. Each cell
    is drawn on its own with probability ``rate``, except the first of a row and everything from its
    last token on; a row without any gets one, drawn uniformly. ``generator`` continues from batch
    to batch: numpy has frozen the legacy RandomState, stream and samplers, so only it gives the
    original's masks, and nothing else in the library draws from it. Raises ConfigError for a row of
    fewer than 3 tokens. See docs/fidelity.md, B8.
    """
    shortest = int(lengths.min()) if len(lengths) else 3
    if shortest < 3:
        raise ConfigError(
            f"a row has {shortest} tokens: the original's evaluation masks neither the first "
            "token nor the last, so each row needs at least 3; raise length, or set "
            "evaluation to whole"
        )
    uniform = generator.rand(int(lengths.max()), len(lengths)).T  # drawn time first
    columns = np.arange(uniform.shape[1])
    inside = (columns > 0) & (columns < lengths[:, None] - 1)
    mask = (uniform <= rate) & inside
    for row in np.flatnonzero(~mask.any(axis=1)):
        mask[row, generator.randint(1, int(lengths[row]) - 1)] = True
    return np.asarray(mask, dtype=np.bool_)
