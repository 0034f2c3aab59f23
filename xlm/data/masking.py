"""Masks: which cells are predicted, and what the model sees in their place.

XLM section 3.3 and algorithms B2: the targets are drawn without replacement with weights that fall
with a token's frequency; of them 80 % are hidden, 10 % kept, 10 % replaced at random.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer


def frequency_weights(
    counts: NDArray[np.int64], exponent: float, tokenizer: Tokenizer
) -> NDArray[np.float64]:
    """The weight of each id in the choice of targets: count**-exponent (float64 ``[V]``).

    0 for special tokens and for ids that never occur. ``exponent`` 0.5 is the paper's 1/sqrt(f)
    (section 3.3), 0 draws uniformly. Raises ConfigError for an exponent that is no number >= 0.
    """
    if not 0 <= exponent < np.inf:
        raise ConfigError(f"the exponent of frequency must be a number >= 0: found {exponent}")
    weights = np.maximum(counts, 1).astype(np.float64) ** -exponent
    weights[np.asarray(counts) == 0] = 0.0
    weights[sorted(tokenizer.special_ids)] = 0.0
    return weights


def choose_targets(scores: NDArray[np.float64], num: int, random: Random) -> NDArray[np.int64]:
    """``num`` cells drawn without replacement with probability proportional to ``scores``.

    ``scores`` is float64 ``[cells]``, >= 0; a cell with score 0 is never drawn, and where fewer
    than ``num`` are left all of them are. Exact: each cell is given an exponential divided by its
    score, and the ``num`` smallest win, in the order of a sequential draw (Efraimidis and Spirakis
    2006). Returns ascending cells (int64).
    """
    times = random.exponential(len(scores))
    eligible = np.flatnonzero(scores)
    if num >= len(eligible):
        return eligible
    if num <= 0:
        return eligible[:0]
    times = times[eligible] / scores[eligible]
    return np.sort(eligible[np.argpartition(times, num - 1)[:num]])


def choose_targets_as_original(
    tokens: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    rate: float,
    random: Random,
) -> NDArray[np.int64]:
    """The targets of training as the original draws them (algorithms B2), ascending cells (int64).

    ``tokens`` int64 ``[B, T]``. With ``weights`` (float64 ``[V]``) exactly ``ceil(rate * T * B)``
    cells are drawn without replacement, by the weights of their tokens; without, each cell for
    itself with probability ``rate``. Padding and first columns take part in either: only then are
    the cells that are not ``allowed`` (bool ``[B, T]``) taken back, so that fewer may be left, or
    none.
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
    """The cells that the original predicts in evaluation (algorithms B8), bool ``[B, T]``.

    Rows of ``lengths`` (int64 ``[B]``, each at least 3), padded to the longest. Each cell for
    itself with probability ``rate``, but neither the first of a row nor anything from its last
    token on; a row without any gets one, drawn uniformly. ``generator`` goes on from batch to
    batch. numpy has frozen the legacy RandomState, stream and samplers, for good: it alone gives
    the original's masks, and nothing else in the library draws from it.
    """
    shortest = int(lengths.min()) if len(lengths) else 3
    if shortest < 3:
        raise ConfigError(
            f"a row of {shortest} tokens: the original's evaluation masks neither the first nor "
            "the last, so each row needs 3; raise length, or take evaluation: whole"
        )
    uniform = generator.rand(int(lengths.max()), len(lengths)).T  # drawn time first
    columns = np.arange(uniform.shape[1])
    inside = (columns > 0) & (columns < lengths[:, None] - 1)
    mask = (uniform <= rate) & inside
    for row in np.flatnonzero(~mask.any(axis=1)):
        mask[row, generator.randint(1, int(lengths[row]) - 1)] = True
    return np.asarray(mask, dtype=np.bool_)


def replace_targets(
    tokens: NDArray[np.int64],
    cells: NDArray[np.int64],
    tokenizer: Tokenizer,
    random: Random,
    *,
    mask: float = 0.8,
    keep: float = 0.1,
    rand: float = 0.1,
    from_all: bool = False,
) -> NDArray[np.int64]:
    """A copy of ``tokens`` (int64, any shape) with its flat ``cells`` hidden, kept or replaced.

    Each cell for itself becomes the mask symbol with probability ``mask``, stays with ``keep``,
    and with ``rand`` becomes an id drawn uniformly from the ordinary ones, or with ``from_all``
    from the whole vocabulary, as the original does. Raises ConfigError unless the three are shares
    of 1.
    """
    if min(mask, keep, rand) < 0 or abs(mask + keep + rand - 1) > 1e-9:
        raise ConfigError(f"mask, keep and rand must be shares of 1: found {mask}, {keep}, {rand}")
    replaced = tokens.copy()
    flat = replaced.reshape(-1)
    uniform = random.uniform(len(cells))
    if from_all:
        drawn = random.integers(len(cells), tokenizer.vocab_size)
    else:
        ordinary = _ordinary_ids(tokenizer.vocab_size, tokenizer.special_ids)
        drawn = ordinary[random.integers(len(cells), len(ordinary))]
    hidden, changed = uniform < mask, uniform >= mask + keep
    if rand == 0:  # mask + keep may round to just below 1
        changed[:] = False
    flat[cells[hidden]] = tokenizer.mask_id
    flat[cells[changed]] = drawn[changed]
    return replaced


@functools.lru_cache(maxsize=4)
def _ordinary_ids(vocab_size: int, special_ids: frozenset[int]) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(vocab_size), sorted(special_ids), assume_unique=True)


def partition_cells(
    cells: NDArray[np.int64], num_folds: int, random: Random
) -> list[NDArray[np.int64]]:
    """``cells`` parted at random into ``num_folds`` disjoint sets whose sizes differ by at most 1.

    Each set is ascending (int64). Hiding each in turn predicts every cell exactly once.
    """
    shuffled = cells[np.argsort(random.words(len(cells)), kind="stable")]
    return [np.sort(shuffled[fold::num_folds]) for fold in range(num_folds)]
