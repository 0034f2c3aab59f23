"""Rows of a table of agreement: what was compared, how far apart it lies, how far it may."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = "exact"

Compared = Iterable[tuple[Any, Any]]
"""What was found and what was expected: arrays, or values that are equal or not."""


class Table:
    """One row per file and family of arrays; ``agrees`` is yes or no."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def exact(self, file: str, what: str, compared: Compared) -> None:
        """Every value is the same."""
        self.close(file, what, compared, 0.0)

    def close(
        self, file: str, what: str, compared: Compared, tolerance: float, *, relative: bool = False
    ) -> None:
        """No value is further away than ``tolerance``, absolute or ``relative`` to the expected."""
        num_values, worst = 0, 0.0
        for found, expected in compared:
            num_values += num_of(expected)
            worst = max(worst, difference(found, expected, relative))
        allowed = f"{tolerance:g}{' relative' if relative else ''}" if tolerance else EXACT
        self._add(file, what, num_values, worst, allowed, num_values > 0 and worst <= tolerance)

    def chance(self, file: str, what: str, deviations: Any, bound: float) -> None:
        """Draws of a random kind: no count is ``bound`` standard deviations away."""
        worst = float(np.abs(deviations).max())
        allowed = f"{bound:g} standard deviations"
        self._add(file, what, np.size(deviations), worst, allowed, worst < bound)

    def _add(
        self, file: str, what: str, values: int, worst: float, tolerance: str,
        agrees: bool,
    ) -> None:  # fmt: skip
        self.rows.append(
            {
                "file": file,
                "compared": what,
                "values": values,
                # JSON has no infinity: arrays of another shape, texts that are not the same
                "worst difference": worst if math.isfinite(worst) else "not equal",
                "tolerance": tolerance,
                "agrees": "yes" if agrees else "no",
            }
        )


def num_of(values: Any) -> int:
    """How many values a comparison is of."""
    if isinstance(values, np.ndarray):
        return int(values.size)
    if isinstance(values, list | tuple):
        return sum(num_of(value) for value in values)
    return len(values) if isinstance(values, dict) else 1


def difference(found: Any, expected: Any, relative: bool = False) -> float:
    """The largest absolute or relative difference; infinite where the two cannot be subtracted."""
    numbers = [_as_numbers(found), _as_numbers(expected)]
    if numbers[0] is None or numbers[1] is None:
        return 0.0 if found == expected else math.inf
    if numbers[0].shape != numbers[1].shape:
        return math.inf
    if not numbers[1].size:
        return 0.0
    apart = np.abs(numbers[0] - numbers[1])
    if relative:
        apart = apart / np.abs(numbers[1])
    worst = float(apart.max())
    return math.inf if math.isnan(worst) else worst


def _as_numbers(value: Any) -> NDArray[np.float64] | None:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return None
    return array.astype(np.float64) if array.dtype.kind in "biuf" else None
