"""Which evaluation of a run is reported, and what several seeds say together.

Test figures are measured at every evaluation; which of them is reported is decided by validation
figures alone: those of the languages that choose, or of each target language itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from xlm.errors import ConfigError
from xlm.scores import rises
from xlm.training.journal import METRICS, read_metrics

AT_CHANCE = 0.99
"""A model that gives one answer to so large a share of the rows has collapsed."""

_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Student's t, 97.5 %, for 1 to 20 degrees of freedom; 1.96 beyond."""

Figures = Mapping[str, Mapping[str, float]]
"""By stream id (``task/lang``) and name."""


@dataclass(frozen=True)
class History:
    """What one run measured, by step."""

    valid: dict[int, dict[str, dict[str, float]]]
    test: dict[int, dict[str, dict[str, float]]]
    averaged: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Figures of the averaged weights at the end, by split."""
    seconds: float = 0.0
    """How long the training took."""
    ended: bool = False

    @property
    def reported(self) -> dict[int, dict[str, dict[str, float]]]:
        """Test figures, or those of validation where there are none."""
        return self.test if any(self.test.values()) else self.valid


def read_history(folder: Path) -> History:
    """The evaluations in a run's ``metrics.jsonl``; empty where there is none yet."""
    valid: dict[int, Any] = {}
    test: dict[int, Any] = {}
    averaged: dict[str, Any] = {}
    ended, seconds = False, 0.0
    if not (folder / METRICS).exists():
        return History({}, {})
    for line in read_metrics(folder / METRICS):
        streams = {name: own for name, own in line.items() if isinstance(own, dict)}
        if line["event"] == "valid":
            valid[line["step"]] = streams
        elif line["event"] == "test":
            test[line["step"]] = streams
        elif line["event"] == "end":
            ended, seconds = True, float(line.get("seconds", 0.0))
            averaged = line.get("averaged", {})
    return History(valid, test, averaged, seconds, ended)


@dataclass(frozen=True)
class Mean:
    """Several seeds of one figure."""

    mean: float
    interval: float | None
    """Half of the 95 % interval of the mean, by Student's t; None for a single seed."""
    values: list[float]


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and interval of independent runs."""
    if len(values) < 2:
        return Mean(values[0], None, list(values))
    quantile = _T975[len(values) - 2] if len(values) - 2 < len(_T975) else 1.96
    return Mean(fmean(values), quantile * stdev(values) / math.sqrt(len(values)), list(values))


@dataclass
class Report:
    """Every language under every rule of choosing a checkpoint."""

    rule: str
    """How the cell and the checkpoints were chosen."""
    chosen: str
    """The cell of the grid."""
    choices: dict[str, float]
    """What each cell was chosen by."""
    streams: dict[str, dict[str, Mean]]
    """The figures of the chosen cell, by stream and by rule: ``chosen``, ``target``, ``last`` and,
    where weights were averaged, ``averaged``."""
    others: dict[str, dict[str, float]]
    """Further figures of the chosen checkpoint, means over seeds."""
    collapsed: list[str]
    """Runs that gave nearly all rows one answer, and on which stream."""
    seconds: float = 0.0
    """Training time of all runs together."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def best_step(history: History, streams: Sequence[str], metric: str) -> int:
    """The step of the best mean of ``metric`` over ``streams``; of equal ones the first.

    Raises ConfigError where no evaluation has it.
    """
    sign = -1.0 if rises(metric) else 1.0
    scores = {}
    for step, figures in history.valid.items():
        own = [figures[name][metric] for name in streams if metric in figures.get(name, {})]
        if own and all(isinstance(value, int | float) for value in own):
            scores[step] = sign * fmean(own)
    if not scores:
        raise ConfigError(f"no evaluation has {metric} of {', '.join(streams)}: give another")
    return min(scores, key=lambda step: (scores[step], step))


def summarize(
    histories: Mapping[str, Mapping[int, History]], streams: Sequence[str], metrics: dict[str, str]
) -> Report:
    """The report of all runs, by cell and seed; ``streams`` choose, by their task's metric.

    ``metrics`` names the figure of each task.
    """
    metric = metrics[streams[0].split("/")[0]]
    choices = {}
    for cell, seeds in histories.items():
        own = []
        for history in seeds.values():
            figures = history.valid[best_step(history, streams, metric)]
            own.append(fmean(figures[name][metric] for name in streams))
        choices[cell] = fmean(own)
    sign = -1.0 if rises(metric) else 1.0
    chosen = min(choices, key=lambda cell: sign * choices[cell])
    runs = histories[chosen]
    rule = f"{metric} on the validation text of {', '.join(streams)}"
    report = Report(
        rule=f"best {rule}" + (f", best of {len(choices)} settings" if len(choices) > 1 else ""),
        chosen=chosen,
        choices=choices,
        streams=_rules(runs, streams, metrics),
        others=_others(runs, streams, metric),
        collapsed=[
            f"{cell + ', ' if cell else ''}seed {seed}: {line}"
            for cell, seeds in histories.items()
            for seed, history in seeds.items()
            for line in _collapsed(history, best_step(history, streams, metric))
        ],
        seconds=sum(h.seconds for seeds in histories.values() for h in seeds.values()),
    )
    return report


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
                rules.setdefault(rule, []).append(reported[step][name][metric])
            if history.averaged:
                averaged = history.averaged[split][name][metric]
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


def _collapsed(history: History, step: int) -> list[str]:
    """The streams whose rows nearly all got one answer, though they have several."""
    return [
        f"{name} gives {own['commonest']:.0%} of its rows one answer"
        for name, own in history.valid[step].items()
        if own.get("commonest", 0.0) >= AT_CHANCE
    ]


def render(report: Report) -> str:
    """The report as aligned text: a line a stream, a column a rule."""
    rules = list(dict.fromkeys(rule for own in report.streams.values() for rule in own))
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    lines.append(f"chosen: {report.rule}" + (f" ({report.chosen})" if report.chosen else ""))
    lines += [f"collapsed: {line}" for line in report.collapsed]
    return "\n".join(lines)


def _shown(figure: Mean) -> str:
    if figure.interval is None:
        return f"{figure.mean:.4f}"
    return f"{figure.mean:.4f} ±{figure.interval:.4f}"
