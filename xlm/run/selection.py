"""The evaluation of a run that is reported, and the summary of several seeds.

Test figures are measured at every evaluation; validation figures alone decide which of them is
reported: those of the languages that choose, or of each target language itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from xlm.errors import ConfigError
from xlm.metrics.scores import rises
from xlm.strict_json import finite
from xlm.tables import aligned
from xlm.training.journal import METRICS, read_metrics

AT_CHANCE = 0.99
"""A model that gives one answer to so large a share of the rows has collapsed."""

_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Student's t, 97.5 %, for 1 to 20 degrees of freedom."""
_NORMAL = 1.959963984540054
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""Words that journals used for numbers that are not finite before they wrote null."""

RULES = ("chosen", "target", "last", "averaged")
"""The weights that are reported: those best in the languages that choose, best in the language
itself, those of the end, and their average."""

Figures = Mapping[str, Mapping[str, float]]
"""Figures by stream id (``task/lang``) and name."""


@dataclass(frozen=True)
class History:
    """Figures of one run, by step."""

    valid: dict[int, dict[str, dict[str, float]]]
    test: dict[int, dict[str, dict[str, float]]]
    averaged: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Figures of the averaged weights at the end, by split."""
    seconds: float = 0.0
    """Seconds that the training took since it was last resumed."""
    ended: bool = False

    @property
    def reported(self) -> dict[int, dict[str, dict[str, float]]]:
        """Return test figures, or those of validation if there are none."""
        return self.test if any(self.test.values()) else self.valid


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return the lines that a history is made of; none if there is no ``metrics.jsonl`` yet.

    Raises DataError, with its line, for a damaged file.
    """
    if not (folder / METRICS).exists():
        return []
    lines = read_metrics(folder / METRICS)
    return [line for line in lines if line.get("event") in ("valid", "test", "end")]


def to_history(lines: Sequence[Mapping[str, Any]]) -> History:
    """Return the history in those lines."""
    by_step: dict[str, dict[int, Any]] = {"valid": {}, "test": {}}
    averaged: dict[str, Any] = {}
    ended, seconds = False, 0.0
    for line in lines:
        if line["event"] == "end":
            ended, seconds = True, float(line.get("seconds", 0.0))
            averaged = _read(line.get("averaged", {}))
        else:
            streams = {name: own for name, own in line.items() if isinstance(own, Mapping)}
            by_step[line["event"]][line["step"]] = _read(streams)
    return History(by_step["valid"], by_step["test"], averaged, seconds, ended)


def _read(value: Any) -> Any:
    """Return the journal's figures, with nan for those that were not finite."""
    if isinstance(value, Mapping):
        return {name: _read(own) for name, own in value.items()}
    if value is None:
        return math.nan
    return _NUMBERS.get(value, value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Mean:
    """Several seeds of one figure."""

    mean: float
    interval: float | None
    """Half of the 95 % interval of the mean, by Student's t; None for a single seed."""
    values: list[float]


def mean_of(values: Sequence[float]) -> Mean:
    """Return mean and interval of independent runs."""
    if len(values) < 2:
        return Mean(values[0], None, list(values))
    if not all(map(math.isfinite, values)):
        return Mean(math.nan, math.nan, list(values))
    half = student_975(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Mean(fmean(values), half, list(values))


def student_975(freedom: int) -> float:
    """Return Student's t, 97.5 %: of many degrees of freedom by Cornish and Fisher's expansion."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = _NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(freedom**power) for power, term in enumerate(terms, 1))


@dataclass
class FinetuneReport:
    """Every language under every rule of choosing a checkpoint."""

    rule: str
    """Rule by which the cell and the checkpoints were chosen."""
    chosen: str
    """The cell of the grid."""
    choices: dict[str, float]
    """Figure that each cell was chosen by."""
    streams: dict[str, dict[str, Mean]]
    """The figures of the chosen cell, by stream and by rule: ``chosen``, ``target``, ``last`` and,
    if weights were averaged, ``averaged``."""
    others: dict[str, dict[str, float]]
    """Further figures of the chosen checkpoint, means over seeds."""
    collapsed: list[str]
    """Runs that gave nearly all rows one answer, and on which stream."""
    seconds: float = 0.0
    """Training time of all runs together."""
    model: dict[str, Any] = field(default_factory=dict)
    """The facts of the pretrained model; see ``xlm.model.facts.facts_of``."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; None for numbers that are not finite."""
        written: dict[str, Any] = finite(asdict(self))
        return written


def best_step(history: History, streams: Sequence[str], metric: str) -> int:
    """Return the step of the best mean of ``metric`` over ``streams``; of equal ones the first.

    A mean that is not finite is the worst. Raises ConfigError if no evaluation has the figure.
    """
    scores = {step: _badness(figures, streams, metric) for step, figures in history.valid.items()}
    found = {step: score for step, score in scores.items() if score is not None}
    if not found:
        raise ConfigError(
            f"no evaluation has {metric} of {', '.join(streams)}: give another metric"
        )
    return min(found, key=lambda step: (found[step], step))


def _badness(figures: Figures, streams: Sequence[str], metric: str) -> float | None:
    """Return a score, the lower the better; infinite for NaN, None if a stream lacks the figure."""
    own = [figures[name][metric] for name in streams if metric in figures.get(name, {})]
    if not own or len(own) < len(streams):
        return None
    mean = fmean(own)
    return (-mean if rises(metric) else mean) if math.isfinite(mean) else math.inf


def _figure(figures: Figures, stream: str, metric: str) -> float:
    if metric not in figures.get(stream, {}):
        raise ConfigError(
            f"the figures of {stream} have no {metric}: found "
            f"{', '.join(figures.get(stream, {})) or 'none'}; give another metric"
        )
    value: float = figures[stream][metric]
    return value


def summarize(
    histories: Mapping[str, Mapping[int, History]],
    streams: Sequence[str],
    metrics: Mapping[str, str],
) -> FinetuneReport:
    """Return the report of all runs, by cell and seed; ``streams`` choose, by their task's metric.

    ``metrics`` names the figure of each task. A cell is as good as the mean of its seeds; of equal
    ones the first is chosen.
    """
    metric = metrics[streams[0].split("/")[0]]
    choices = {
        cell: fmean(_chosen_figure(history, streams, metric) for history in seeds.values())
        for cell, seeds in histories.items()
    }
    sign = -1.0 if rises(metric) else 1.0

    def badness(cell: str) -> float:
        return sign * choices[cell] if math.isfinite(choices[cell]) else math.inf

    chosen = min(choices, key=badness)
    runs = histories[chosen]
    rule = f"best {metric} on the validation text of {', '.join(streams)}"
    return FinetuneReport(
        rule=rule + (f", best of {len(choices)} settings" if len(choices) > 1 else ""),
        chosen=chosen,
        choices=choices,
        streams=_rules(runs, streams, metrics),
        others=_others(runs, streams, metric),
        collapsed=[
            f"{cell + ', ' if cell else ''}seed {seed}: {line}"
            for cell, seeds in histories.items()
            for seed, history in seeds.items()
            for line in _collapsed(history, streams, metric)
        ],
        seconds=sum(h.seconds for seeds in histories.values() for h in seeds.values()),
    )


def _chosen_figure(history: History, streams: Sequence[str], metric: str) -> float:
    figures = history.valid[best_step(history, streams, metric)]
    return fmean(figures[name][metric] for name in streams)


def _rules(
    runs: Mapping[int, History], chooses: Sequence[str], metrics: Mapping[str, str]
) -> dict[str, dict[str, Mean]]:
    found: dict[str, dict[str, list[float]]] = {}
    for history in runs.values():
        reported = history.reported
        split = "test" if reported is history.test else "valid"
        chosen = best_step(history, chooses, metrics[chooses[0].split("/")[0]])
        for name in reported[max(reported)]:
            metric = metrics[name.split("/")[0]]
            steps = {"chosen": chosen, "last": max(reported)}
            if any(metric in figures.get(name, {}) for figures in history.valid.values()):
                steps["target"] = best_step(history, [name], metric)
            rules = found.setdefault(name, {})
            for rule, step in steps.items():
                rules.setdefault(rule, []).append(_figure(reported[step], name, metric))
            if history.averaged:
                averaged = _figure(history.averaged[split], name, metric)
                rules.setdefault("averaged", []).append(averaged)
    return {
        name: {rule: mean_of(values) for rule, values in rules.items()}
        for name, rules in found.items()
    }


def _others(
    runs: Mapping[int, History], chooses: Sequence[str], metric: str
) -> dict[str, dict[str, float]]:
    sums: dict[str, dict[str, list[float]]] = {}
    for history in runs.values():
        figures = history.reported[best_step(history, chooses, metric)]
        for name, own in figures.items():
            for figure, value in own.items():
                if isinstance(value, int | float):
                    sums.setdefault(name, {}).setdefault(figure, []).append(value)
    return {
        name: {figure: fmean(values) for figure, values in own.items()}
        for name, own in sums.items()
    }


def _collapsed(history: History, streams: Sequence[str], metric: str) -> list[str]:
    """Return notes on streams that give nearly all rows one answer, though it is wrong for many."""
    step = best_step(history, streams, metric)
    lines = [
        f"{name} gives {own['commonest']:.0%} of its rows one answer"
        for name, own in history.valid[step].items()
        if own.get("commonest", 0.0) >= AT_CHANCE and own.get("accuracy", 0.0) < AT_CHANCE
    ]
    if not math.isfinite(_chosen_figure(history, streams, metric)):
        lines.append(f"{metric} was never a finite number")
    return lines


def render(report: FinetuneReport) -> str:
    """Return the report as aligned text: a line a stream, a column a rule."""
    rules = [rule for rule in RULES if any(rule in own for own in report.streams.values())]
    rows = [["", *rules]]
    for name, own in report.streams.items():
        rows.append([name, *(_shown(own[rule]) if rule in own else "" for rule in rules)])
    for task in dict.fromkeys(name.split("/")[0] for name in report.streams):
        names = [name for name in report.streams if name.split("/")[0] == task]
        if len(names) > 1:
            languages = ", ".join(name.split("/")[1] for name in names)
            means = [
                f"{fmean(report.streams[n][rule].mean for n in names):.4f}"
                if all(rule in report.streams[n] for n in names)
                else ""
                for rule in rules
            ]
            rows.append([f"{task}, mean over {languages}", *means])
    lines = aligned(rows)
    lines.append(f"chosen: {report.rule}" + (f" ({report.chosen})" if report.chosen else ""))
    lines += [f"collapsed: {line}" for line in report.collapsed]
    return "\n".join(lines)


def _shown(figure: Mean) -> str:
    if figure.interval is None:
        return f"{figure.mean:.4f}"
    return f"{figure.mean:.4f} ±{figure.interval:.4f}"
