"""What the studies of many languages make of their figures: means, intervals, differences.

The figures of an arm and a seed are ``{"tasks": {task: {language: value}}}``, and for translators
also ``{"bleu": {direction: value}}``. Differences are paired by the seed of pretraining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.support import downstream
from benchmarks.support.many_languages_lab import ENGLISH
from xlm.run.selection import mean_of

Figures = Mapping[str, Any]


def average(values: Mapping[str, float], languages: Sequence[str] | None = None) -> float:
    """Return the mean over the languages but English, or over those that are given."""
    chosen = languages or [language for language in values if language != ENGLISH]
    return sum(values[language] for language in chosen) / len(chosen)


def of_seed(figures: Figures, languages: Sequence[str] | None = None) -> dict[str, float]:
    """Return the figures that an arm is compared by: each task in English and beside it, BLEU."""
    found = {}
    for task, own in figures["tasks"].items():
        found[f"{task}, {ENGLISH}"] = own[ENGLISH]
        found[f"{task}, x"] = average(own, languages)
    bleu = figures.get("bleu", {})
    for name, inside in (("into", f"-{ENGLISH}"), ("out of", f"{ENGLISH}-")):
        if values := [value for way, value in bleu.items() if inside in way]:
            found[f"BLEU {name} {ENGLISH}"] = sum(values) / len(values)
    return found


def summary(
    arms: Mapping[str, Sequence[Figures]], languages: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return mean, interval and values over seeds, by arm and figure."""
    return means_of(
        {name: [of_seed(own, languages) for own in seeds] for name, seeds in arms.items()}
    )


def means_of(arms: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return mean, interval and values over seeds, by arm and figure, of figures by seed."""
    return {
        name: {key: asdict(mean_of([one[key] for one in seeds])) for key in seeds[0]}
        for name, seeds in arms.items()
    }


def differences(means: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return how far the first arm of each pair is above the second, seed by seed.

    ``order``: whether the interval of the difference leaves out 0; None for a single seed.
    """
    found: dict[str, Any] = {}
    for first, second in pairs:
        if not {first, second} <= set(means):
            continue
        rows = {}
        for key in means[first]:
            sides = [means[arm].get(key, {"values": []})["values"] for arm in (first, second)]
            if len(sides[0]) == len(sides[1]):
                own = downstream.paired(*sides)
                own["order"] = (
                    None if own["interval"] is None else abs(own["mean"]) > own["interval"]
                )
                rows[key] = own
        found[f"{first} - {second}"] = rows
    return found
