"""Orthogonal maps from the vectors of one language onto those of another.

    seed (equal strings, a dictionary, or none) -> map -> dictionary by mutual neighbors -> map ...

Self-learning with symmetric, stochastic dictionaries, and the start without a seed, follow the
paper of Artetxe et al. 2018 ("A robust self-learning method for fully unsupervised cross-lingual
mappings of word embeddings", sections 3.2 and 3.3); its whitening and weighting are left out, so
that the map is orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm.analysis.lexicon import orthogonal_map
from xlm.analysis.neighbors import centered, unit
from xlm.analysis.retrieval import CSLS_NEIGHBORS, neighborhoods
from xlm.errors import DataError
from xlm.rng import Random

Matrix = NDArray[np.float64]
Scores = NDArray[np.floating]
Pairs = NDArray[np.int64]
"""int64 ``[N, 2]``: rows of x and the rows of y that they are to be mapped on."""

_UNSEEDED = 4_000
"""Most frequent rows that a start without a seed compares."""
_FREQUENT = 8_000
"""Most frequent rows among which dictionaries are induced (the paper: 20,000; their similarities
are held at once)."""
_KEEP, _GROWTH = 0.1, 2.0
"""Share of similarities that the first dictionary may use, and its growth when it stalls."""
_STALL, _MOST_ROUNDS = 10, 500
"""Rounds without a gain after which the share grows, and rounds in all."""
_LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class Mapped:
    """A map and how it was found."""

    matrix: Matrix
    """Orthogonal, ``[D, D]``: a normalized row of x multiplied by it is close to its
    translation."""
    similarity: float
    """Mean cosine of the last dictionary's pairs."""
    num_rounds: int
    num_pairs: int
    """Pairs of the last dictionary."""


def normalized(vectors: NDArray[np.floating]) -> Matrix:
    """Return rows of length 1, centered by column, and of length 1 again, ``[N, D]``."""
    return np.asarray(unit(centered(unit(vectors))), dtype=np.float64)


def learn_map(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    seed_pairs: Pairs | None = None,
    *,
    self_learning: bool = True,
    seed: int = 0,
) -> Mapped:
    """Return the map of x ``[N, D]`` onto y ``[M, D]``, whose rows are in order of frequency.

    Without ``seed_pairs`` the start compares how similar each row is to all others of its language.
    Without ``self_learning`` the map is that of the seed alone. Raises DataError for widths that
    differ, and for an empty seed.
    """
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"vectors of {x.shape[1]} and of {y.shape[1]} features: an orthogonal map needs "
            "equal widths; learn both with the same dim"
        )
    if seed_pairs is not None and not len(seed_pairs):
        raise DataError(
            "no row of one language is paired with a row of the other: give a dictionary of "
            "words that occur in both vocabularies, or leave the seed dictionary out"
        )
    own, other = normalized(x), normalized(y)
    pairs = seed_pairs if seed_pairs is not None else _unseeded(own, other)
    matrix = orthogonal_map(own[pairs[:, 0]], other[pairs[:, 1]])
    if not self_learning:
        return Mapped(matrix, _similarity(own, other, pairs, matrix), 0, len(pairs))
    return _refine(own, other, matrix, Random(seed, "mapping"))


def _similarity(x: Matrix, y: Matrix, pairs: Pairs, matrix: Matrix) -> float:
    return float(np.einsum("nd,nd->n", x[pairs[:, 0]] @ matrix, y[pairs[:, 1]]).mean())


def _unseeded(x: Matrix, y: Matrix) -> Pairs:
    """Pair rows whose sorted similarities to their own language are alike (section 3.2)."""
    size = min(_UNSEEDED, len(x), len(y))

    def profile(vectors: Matrix) -> Matrix:
        left, values, _ = np.linalg.svd(vectors[:size], full_matrices=False)
        similar = np.sort((left * values) @ left.T, axis=1)
        return normalized(similar)

    return _mutual(*_similar(profile(x), profile(y)))


def _refine(x: Matrix, y: Matrix, matrix: Matrix, random: Random) -> Mapped:
    x_common, y_common = x[:_FREQUENT], y[:_FREQUENT]
    keep, best, stalled, rounds = _KEEP, -1.0, 0, 0
    found, num_pairs = matrix, 0
    while rounds < _MOST_ROUNDS:
        rounds += 1
        forth, back = _similar(x_common @ matrix, y_common)
        pairs = _mutual(forth, back) if keep >= 1 else _mutual(forth, back, keep, random)
        if not len(pairs):
            break
        matrix = orthogonal_map(x_common[pairs[:, 0]], y_common[pairs[:, 1]])
        similarity = _similarity(x_common, y_common, pairs, matrix)
        if similarity > best + _LEAST_GAIN:
            best, stalled, found, num_pairs = max(best, similarity), 0, matrix, len(pairs)
            continue
        stalled += 1
        if keep >= 1:
            break
        if stalled >= _STALL:
            keep, stalled, matrix = min(1.0, _GROWTH * keep), 0, found
            best = -1.0 if keep >= 1 else best
    return Mapped(found, best, rounds, num_pairs)


def _similar(x: Matrix, y: Matrix) -> tuple[Scores, Scores]:
    """Return CSLS of every row of x with every one of y, and the transpose, for choices of rows."""
    left, right = x.astype(np.float32), y.astype(np.float32)
    of_x, of_y = neighborhoods(left, right, min(CSLS_NEIGHBORS, len(left), len(right)))
    scores = 2.0 * (left @ right.T) - of_x[:, None] - of_y[None]
    return scores, scores.T


def _mutual(forth: Scores, back: Scores, keep: float = 1.0, random: Random | None = None) -> Pairs:
    """Return each row's best in both directions, after a share of the scores was dropped."""

    def best(scores: Scores) -> NDArray[np.int64]:
        if random is None:
            return np.asarray(scores.argmax(1))
        seen = random.uniform(scores.size).reshape(scores.shape) < keep
        return np.asarray(np.where(seen, scores, scores.min() - 1).argmax(1))

    to, fro = best(forth), best(back)
    first = np.stack([np.arange(len(to)), to], axis=1)
    second = np.stack([fro, np.arange(len(fro))], axis=1)
    return np.concatenate([first, second])
