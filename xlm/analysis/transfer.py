"""Indicators of transfer: correlations of overlap, distance or retrieval with scores by language.

mBERT study, sections 5.1 and 5.2; MMTE, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate
from xlm.analysis.nulls import of_draws, permutations
from xlm.errors import DataError

FEWEST_LANGUAGES = 3
Values = Mapping[str, float]
"""A number for each language, or for each ordered pair ``en>hi``."""


def correlations(indicator: Values, scores: Values, *, seed: int = 0) -> dict[str, Estimate]:
    """Return Pearson's and Spearman's correlation over the languages that both have.

    The null ``permuted`` permutes the languages of the scores; its p is two-sided. Raises DataError
    for fewer than 3 languages in common.
    """
    both = [name for name in indicator if name in scores]
    if len(both) < FEWEST_LANGUAGES:
        raise DataError(
            f"{len(both)} languages have both an indicator "
            f"({', '.join(indicator) or 'none'}) and a score "
            f"({', '.join(scores) or 'none'}): expected at least {FEWEST_LANGUAGES}"
        )
    one = np.array([indicator[name] for name in both])
    two = np.array([scores[name] for name in both])
    found = {}
    for name, ranks in (("Pearson", False), ("Spearman", True)):
        own = intervals.correlated(one, two, ranks=ranks)
        if own.value is not None:
            drawn = [
                intervals.correlated(one, two[order], ranks=ranks).value
                for order in permutations(len(both), seed, "transfer")
            ]
            values = [value for value in drawn if value is not None]
            null = of_draws(own.value, values)
            as_far = sum(abs(value) >= abs(own.value) for value in values)
            p = (1 + as_far) / (len(values) + 1)
            own = own.beside(permuted=intervals.Null(null.value, null.low, null.high, p))
        found[name] = own
    return found


def by_task(scores: Values) -> dict[str, dict[str, float]]:
    """Return the scores of each task by language, of names such as ``nli/hi``; "" is no task."""
    found: dict[str, dict[str, float]] = {}
    for name, value in scores.items():
        task, _, language = name.rpartition("/")
        found.setdefault(task, {})[language] = value
    return found


def between_languages(indicator: Values) -> dict[tuple[str, str], float]:
    """Return the numbers for ordered pairs of languages, source first, of names as ``en>hi``."""
    found = {}
    for name, value in indicator.items():
        source, sign, target = (part.strip() for part in name.partition(">"))
        if sign:
            found[source, target] = value
    return found


def rank_sources(
    indicators: Mapping[str, Mapping[tuple[str, str], float]],
    *,
    lower: frozenset[str] = frozenset(),
) -> dict[str, dict[str, list[str]]]:
    """Return for each target, by each indicator, its source languages from best to worst.

    Indicators map (source, target) to a number; for those in ``lower`` the smallest is best.
    Sources of equal value are ordered by name.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, values in indicators.items():
        sign = 1 if name in lower else -1
        for target in dict.fromkeys(target for _, target in values):
            sources = [one for one, two in values if two == target and one != target]
            order = sorted(sources, key=lambda one: (sign * values[one, target], one))  # noqa: B023
            found.setdefault(target, {})[name] = order
    return found
