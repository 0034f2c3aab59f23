"""Agreement with the truth: of classes by confusion counts, of numbers by correlation.

Confusion counts are sums that add. Correlations are not: predictions must be gathered first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.errors import DataError
from xlm.metrics.scores import Scores

_PREFIX = "confusion."


def confusion_scores(gold: Sequence[int], predicted: Sequence[int]) -> Scores:
    """Return the number of times that class i was predicted as j, as sums ``confusion.i.j``.

    Classes count from 0. Raises DataError if the two differ in length.
    """
    if len(gold) != len(predicted):
        raise DataError(
            f"{len(predicted)} predictions for {len(gold)} rows: expected one for each row"
        )
    pairs = Counter(zip(map(int, gold), map(int, predicted), strict=True))
    return Scores({f"{_PREFIX}{i}.{j}": float(num) for (i, j), num in pairs.items()})


def confusion_matrix(scores: Mapping[str, float], num_classes: int) -> NDArray[np.float64]:
    """Return the sums as ``[classes, classes]``: rows are gold, columns predicted.

    Raises DataError for a class outside ``num_classes``.
    """
    matrix = np.zeros((num_classes, num_classes))
    for name, value in scores.items():
        if not name.startswith(_PREFIX):
            continue
        i, j = map(int, name.removeprefix(_PREFIX).split("."))
        if not (0 <= i < num_classes and 0 <= j < num_classes):
            raise DataError(f"{name}: expected classes from 0 to {num_classes - 1}")
        matrix[i, j] = value
    return matrix


def class_figures(scores: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Return figures of classes from ``confusion_scores``.

    These are accuracy, macro F1, Matthews' coefficient, F1 of each label, and ``commonest``, the
    share of the commonest prediction: near 1, the model collapsed.

    A label that neither occurs nor is predicted has no F1 and is left out of the macro F1; other
    ratios without a denominator are 0. Matthews' coefficient is Gorodkin's for any number of
    classes, -1 to 1, 0 if all rows or all predictions are of one class; the others, 0 to 1. Empty
    without rows.
    """
    matrix = confusion_matrix(scores, len(labels))
    total = matrix.sum()
    if not total:
        return {}
    right, true, found = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    each = {
        label: float(2 * right[k] / (true[k] + found[k]))
        for k, label in enumerate(labels)
        if true[k] + found[k]
    }
    figures = {
        "accuracy": float(right.sum() / total),
        "macro_f1": sum(each.values()) / len(each),
        "matthews": _matthews(matrix),
        "commonest": float(found.max() / total),
        "rows": float(total),
    }
    return {**figures, **{f"f1.{label}": value for label, value in each.items()}}


def _matthews(matrix: NDArray[np.float64]) -> float:
    total, right = float(matrix.sum()), float(np.trace(matrix))
    true, found = matrix.sum(1), matrix.sum(0)
    spread = (total**2 - float(true @ true)) * (total**2 - float(found @ found))
    return (right * total - float(true @ found)) / math.sqrt(spread) if spread else 0.0


def pearson(gold: ArrayLike, predicted: ArrayLike) -> float:
    """Return the correlation of two arrays ``[n]``, -1 to 1; 0 if one of them is constant.

    Raises DataError if they differ in length or are shorter than 2.
    """
    one, two = _numbers(gold, predicted)
    # in units of the largest deviation, so that no square overflows or vanishes
    one, two = _centered(one), _centered(two)
    norm = math.sqrt(float(one @ one)) * math.sqrt(float(two @ two))
    return max(-1.0, min(1.0, float(one @ two) / norm)) if norm else 0.0


def spearman(gold: ArrayLike, predicted: ArrayLike) -> float:
    """Return the correlation of ranks, with mean ranks for ties; otherwise as ``pearson``."""
    one, two = _numbers(gold, predicted)
    return pearson(_ranks(one), _ranks(two))


def _centered(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.min() == values.max():
        return np.zeros_like(values)  # the mean of equal numbers need not be that number
    values = values - values.mean()
    return values / float(np.abs(values).max())


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    middle: NDArray[np.float64] = last - (sizes - 1) / 2
    return middle[group]


def _numbers(
    gold: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one = np.asarray(gold, dtype=np.float64)
    two = np.asarray(predicted, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape or len(one) < 2:
        raise DataError(
            f"{two.size} predictions for {one.size} rows: expected at least 2 rows, and a "
            "prediction for each"
        )
    return one, two
