"""Geometry of states: anisotropy, IsoScore, and the parts of their scatter.

Anisotropy is the mean cosine of two sentences (Ethayarajh 2019); IsoScore is that of Rudman et al.
(2022). Separability splits the scatter of k languages × n translated sentences into language,
sentence and rest, which add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate, undefined
from xlm.analysis.neighbors import nearest, unit
from xlm.analysis.nulls import of_draws, permutations
from xlm.errors import DataError

LEAST_LEFT = 1e-12
ALL_LANGUAGE = "all of the scatter is language"
Stacked = NDArray[np.floating] | Sequence[NDArray[np.floating]]
"""States ``[k, n, D]`` of n sentences in k languages, or a list of each language's."""


def mean_cosine(x: ArrayLike) -> float | None:
    """Return the mean cosine of all pairs of different rows of ``[n, D]``.

    None for fewer than 2 rows. In closed form: (‖Σu‖² - n) / (n (n - 1)) over unit rows u.
    """
    rows = _units(x)
    if len(rows) < 2:
        return None
    total = rows.sum(0)
    own = float(np.einsum("nd,nd->", rows, rows))
    return (float(total @ total) - own) / (len(rows) * (len(rows) - 1))


def largest_share(x: ArrayLike) -> float | None:
    """Return the largest share of one dimension in the mean cosine of ``[n, D]``.

    The part of dimension d is (Σu_d)² - Σu_d². None if the mean cosine is 0 or less.
    """
    rows = _units(x)
    parts = rows.sum(0) ** 2 - (rows**2).sum(0)
    total = float(parts.sum())
    return float(parts.max()) / total if total > 0 else None


def effective_rank(x: ArrayLike) -> float | None:
    """Return exp of the entropy of the covariance's spectrum, 1 to D (Roy and Vetterli 2007)."""
    spectrum = covariance_spectrum(x)
    total = spectrum.sum()
    if total <= 0:
        return None
    shares = spectrum[spectrum > 0] / total
    return math.exp(-float((shares * np.log(shares)).sum()))


def isoscore(x: ArrayLike) -> float | None:
    """Return the IsoScore of ``[n, D]``: 1 if all dimensions are used equally, 0 if only one is."""
    spectrum = covariance_spectrum(x)
    size, norm = len(spectrum), float(np.sqrt((spectrum**2).sum()))
    if size < 2 or norm <= 0:
        return None
    defect = np.linalg.norm(math.sqrt(size) * spectrum / norm - 1)
    defect /= math.sqrt(2 * (size - math.sqrt(size)))
    used = (size - defect**2 * (size - math.sqrt(size))) ** 2 / size**2
    return float((size * used - 1) / (size - 1))


def covariance_spectrum(x: ArrayLike) -> NDArray[np.float64]:
    """Return the eigenvalues of the covariance of ``[n, D]``, descending, ``[D]``; none below 0."""
    rows = np.asarray(x, dtype=np.float64)
    rows = rows - rows.mean(0)
    values = np.linalg.eigvalsh(rows.T @ rows / max(1, len(rows) - 1))[::-1]
    return np.asarray(np.maximum(values, 0.0))


def _units(x: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(x, dtype=np.float64)
    norms = np.sqrt((rows**2).sum(1, keepdims=True))
    return np.asarray(rows / np.where(norms > 0, norms, 1.0))


def _influences(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for unit rows ``[n, D]`` values ``[n]`` whose mean is the mean cosine of all pairs.

    A pair has two rows, so the mean over pairs moves with each row by twice the deviation of the
    row's own mean cosine (Hoeffding 1948): resamples of these values are resamples of sentences.
    """
    own = (rows @ rows.sum(0) - (rows**2).sum(1)) / (len(rows) - 1)
    return np.asarray(2 * own - own.mean())


def anisotropy(x: ArrayLike, *, seed: int = 0) -> dict[str, Estimate]:
    """Return the figures of one language's states ``[n, D]`` in one layer.

    The mean cosine has a bootstrap interval over sentences.
    """
    rows = _units(x)
    num = len(rows)
    found = {"mean cosine": undefined("fewer than 2 rows", num)}
    if num > 1:
        found["mean cosine"] = intervals.mean(_influences(rows), seed)
    measures = {
        "largest share of a dimension": (largest_share, "the mean cosine is not above 0"),
        "effective rank": (effective_rank, "the rows do not vary"),
        "IsoScore": (isoscore, "the rows do not vary"),
    }
    for name, (measure, reason) in measures.items():
        value = measure(x)
        found[name] = undefined(reason, num) if value is None else Estimate(value, num=num)
    return found


def anisotropy_difference(x: ArrayLike, y: ArrayLike, *, seed: int = 0) -> Estimate:
    """Return the mean cosine of ``[n, D]`` minus that of ``[n, E]``, by the paired bootstrap.

    Rows i are the same sentence in two models.
    """
    one, two = _units(x), _units(y)
    if len(one) < 2:
        return undefined("fewer than 2 rows", len(one))
    return intervals.paired(_influences(one), _influences(two), seed)


class Scatter(NamedTuple):
    """Parts of the summed squared distance of all states to their mean, which they add up to."""

    language: float
    sentence: float
    rest: float

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.language + self.sentence + self.rest


def scatter(x: Stacked) -> Scatter:
    """Return the parts of the scatter of ``[k, n, D]``: n sentences in k languages each.

    The languages may be a list; one at a time is in memory in float64.
    """
    shapes = [np.shape(own) for own in x]
    if len(shapes) < 2 or len({*shapes}) > 1 or len(shapes[0]) != 2 or shapes[0][0] < 2:
        raise DataError(
            f"states of shapes {shapes}: expected at least 2 languages with at least 2 sentences "
            "each, all of one shape"
        )
    num_languages, num_sentences = len(shapes), shapes[0][0]
    means = np.array([np.mean(own, axis=0, dtype=np.float64) for own in x])
    middle = means.mean(0)
    language = num_sentences * float(((means - middle) ** 2).sum())
    total = sum(float(((np.asarray(own, np.float64) - middle) ** 2).sum()) for own in x)
    sentence = _between_sentences(x, [slice(None)] * num_languages, middle)
    return Scatter(language, sentence, total - language - sentence)


def _between_sentences(
    x: Stacked,
    orders: Sequence[NDArray[np.int64] | slice],
    middle: NDArray[np.float64],
) -> float:
    """Return the sentences' part of the scatter with each language's sentences in an order.

    Neither ``middle``, the mean of all states, nor the sum of all parts depends on the orders.
    """
    sums = -len(orders) * middle + np.zeros(np.shape(x[0]))
    for own, order in zip(x, orders, strict=True):
        sums += np.asarray(own)[order]
    return float((sums**2).sum()) / len(orders)


def separability(x: Stacked, *, seed: int = 0) -> dict[str, Estimate]:
    """Return the shares of the scatter for language, sentence, and sentence without language.

    ``x`` ``[k, n, D]``, or a list of the languages. The null ``permuted`` of the last two permutes
    the sentences of each language but the first. The last has a bootstrap interval over sentences,
    in which the means of the languages stay.
    """
    own = scatter(x)
    num_languages, num_sentences = len(x), len(x[0])
    num = num_languages * num_sentences
    if own.total <= 0:
        return {name: undefined("the states do not vary", num) for name in ("language", "sentence")}
    middle = np.mean([np.mean(side, axis=0, dtype=np.float64) for side in x], axis=0)
    orders = [
        permutations(num_sentences, seed, "separability", at) for at in range(1, num_languages)
    ]
    drawn = [
        _between_sentences(x, [slice(None), *chosen], middle)
        for chosen in zip(*orders, strict=True)
    ]
    found = {"language": Estimate(own.language / own.total, num=num)}
    value = own.sentence / own.total
    null = of_draws(value, [part / own.total for part in drawn])
    found["sentence"] = Estimate(value, num=num, nulls={"permuted": null})
    left = own.sentence + own.rest
    if left <= LEAST_LEFT * own.total:
        found["sentence without language"] = undefined(ALL_LANGUAGE, num)
        return found
    estimate = intervals.ratio(scatter_by_sentence(x), sentence_share, seed)
    null = of_draws(own.sentence / left, [part / left for part in drawn])
    estimate = replace(intervals.of_enough(estimate), num=num)
    found["sentence without language"] = estimate.beside(permuted=null)
    return found


def scatter_by_sentence(x: Stacked) -> NDArray[np.float64]:
    """Return each sentence's part of the scatter of ``[k, n, D]``, and of the rest, ``[n, 2]``.

    The sums are those of ``scatter``.
    """

    def less_mean(own: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(own, np.float64) - np.mean(own, axis=0, dtype=np.float64)

    middle = np.zeros(np.shape(x[0]))
    for own in x:  # one language at a time is in memory in float64
        middle += less_mean(own) / len(x)
    rest = sum(((less_mean(own) - middle) ** 2).sum(1) for own in x)
    return np.stack([len(x) * (middle**2).sum(1), rest], axis=1)


def sentence_share(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return S / (S + rest) of means of the columns of ``scatter_by_sentence``, ``[R, 2]``."""
    return np.asarray(means[:, 0] / means.sum(1))


def separability_difference(x: Stacked, y: Stacked, *, seed: int = 0) -> Estimate:
    """Return the sentence's share without language of one model minus that of another.

    Both are ``[k, n, D]`` of the same sentences, each resample of which gives both shares.
    """
    for own in (scatter(x), scatter(y)):
        if own.sentence + own.rest <= LEAST_LEFT * own.total:
            return undefined(ALL_LANGUAGE, len(x[0]))
    return intervals.of_enough(
        intervals.ratio(
            np.concatenate([scatter_by_sentence(x), scatter_by_sentence(y)], axis=1),
            lambda means: sentence_share(means[:, :2]) - sentence_share(means[:, 2:]),
            seed,
        )
    )


def label_separation(x: ArrayLike, labels: Sequence[str], *, seed: int = 0) -> dict[str, Estimate]:
    """Return how well labels separate the rows of ``[n, D]``, with permuted labels as the null.

    ``between``: the share of the scatter between the means of labels; ``neighbor``: the share of
    rows whose nearest other row, by cosine, has the same label.
    """
    rows = np.asarray(x, dtype=np.float64)
    rows = rows - rows.mean(0)
    _, own = np.unique(np.asarray(labels), return_inverse=True)
    total = float((rows**2).sum())
    if len(rows) < 2 or total <= 0:
        return {name: undefined("the rows do not vary") for name in ("between", "neighbor")}
    closest = _closest(unit(np.asarray(x)))
    counts = np.bincount(own)

    def between(given: NDArray[np.int64]) -> float:
        sums = (given == np.arange(len(counts))[:, None]).astype(np.float64) @ rows
        return float(((sums**2).sum(1) / counts).sum()) / total

    def neighbor(given: NDArray[np.int64]) -> float:
        return float((given[closest] == given).mean())

    value = between(own)
    drawn = [own[order] for order in permutations(len(rows), seed, "labels")]
    found = {
        "between": Estimate(
            value, num=len(rows), nulls={"permuted": of_draws(value, [between(d) for d in drawn])}
        )
    }
    hits = intervals.share(float((own[closest] == own).sum()), len(rows))
    null = of_draws(hits.value, [neighbor(d) for d in drawn])
    found["neighbor"] = hits.beside(permuted=null)
    return found


def _closest(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest other row of each row, the first of equal ones."""
    ids = nearest(rows, rows, 2).ids
    own = np.arange(len(rows))
    return np.where(ids[:, 0] == own, ids[:, 1], ids[:, 0])
