"""Masks: the cells to predict, and the tokens that the model sees in their place.

XLM section 3.3; docs/fidelity.md, B2: the targets are drawn without replacement with weights that
fall with a token's frequency; 80 % of them are hidden, 10 % kept, 10 % replaced at random.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer


def frequency_weights(
    counts: NDArray[np.int64], exponent: float, tokenizer: Tokenizer
) -> NDArray[np.float64]:
    """Return the weight of each id in the choice of targets: count**-exponent (float64 ``[V]``).

    0 for special tokens and for ids that never occur. ``exponent`` 0.5 is the paper's 1/sqrt(f)
    (section 3.3), 0 draws uniformly. Raises ConfigError for an exponent that is not a number >= 0.
    """
    if not 0 <= exponent < np.inf:
        raise ConfigError(f"the exponent of frequency must be a number >= 0: found {exponent}")
    weights = np.maximum(counts, 1).astype(np.float64) ** -exponent
    weights[np.asarray(counts) == 0] = 0.0
    weights[sorted(tokenizer.special_ids)] = 0.0
    return weights


def end_weight(counts: NDArray[np.int64], exponent: float, end_id: int) -> float:
    """Return the end symbol's weight in the choice of targets, for text in which it may be one.

    0 if it was never counted, as in a vocabulary file, unless the draw is uniform.
    """
    if exponent and not counts[end_id]:
        return 0.0
    return float(max(int(counts[end_id]), 1) ** -exponent)


def choose_targets(scores: NDArray[np.float64], num: int, random: Random) -> NDArray[np.int64]:
    """Draw ``num`` cells without replacement with probability proportional to ``scores``.

    ``scores`` is float64 ``[cells]``, >= 0; a cell with score 0 is never drawn, and if fewer than
    ``num`` are left all of them are. Exact: each cell is given an exponential divided by its score,
    and the ``num`` smallest win, in the order of a sequential draw (Efraimidis and Spirakis 2006).
    Returns ascending cells (int64).
    """
    times = random.exponential(len(scores))
    eligible = np.flatnonzero(scores)
    if num >= len(eligible):
        return eligible
    if num <= 0:
        return eligible[:0]
    times = times[eligible] / scores[eligible]
    return np.sort(eligible[np.argpartition(times, num - 1)[:num]])


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
    """Return a copy of ``tokens`` (int64, any shape) with ``cells`` hidden, kept or replaced.

    ``cells`` are flat. Each independently becomes the mask symbol with probability ``mask``, stays
    with ``keep``, and with ``rand`` becomes an id drawn uniformly from the ordinary ones, or with
    ``from_all`` from the whole vocabulary, as the original does. Raises ConfigError unless the
    three are shares of 1.
    """
    if min(mask, keep, rand) < 0 or abs(mask + keep + rand - 1) > 1e-9:
        raise ConfigError(
            f"mask, keep and rand must be shares that sum to 1: found {mask}, {keep}, {rand}"
        )
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
    """Split ``cells`` at random into ``num_folds`` disjoint sets whose sizes differ by at most 1.

    Each set is ascending (int64). Hiding each in turn predicts every cell exactly once.
    """
    shuffled = cells[np.argsort(random.words(len(cells)), kind="stable")]
    return [np.sort(shuffled[fold::num_folds]) for fold in range(num_folds)]
