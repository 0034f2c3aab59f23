"""List the runs below a folder: state, step, best score, last line.

Use as ``runs(Runs(folder="runs"))``, ``xlm runs FOLDER`` or ``python -m xlm.runs``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xlm import disk, strict_json
from xlm.config import strict_yaml
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import ConfigError
from xlm.tables import aligned, span
from xlm.training.journal import METRICS, numbers

__all__ = ["FoundRun", "Runs", "main", "runs"]

INSIDE = ("checkpoints", "tensorboard", "model", "before-restart-")
"""Beginnings of names of folders within a run, in which there are no other runs."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs below a folder: state, step, best score and last line of each."""

    folder: str = "."
    """The folder that is searched, or a run's own."""


@dataclass(frozen=True)
class FoundRun:
    """A run as its folder shows it."""

    path: Path
    state: str
    """``running`` (a process of this machine holds the folder), ``ended``, ``stopped`` (it can go
    on), or ``not begun``."""
    step: int
    """Updates at the last line of the metrics."""
    steps: int | None
    """Updates in all; None if the settings cannot be read."""
    best: str
    """The watched figure at its best, and the step; empty before the first evaluation."""
    last: str
    """The last line of the metrics in words, and its age."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The last line of the metrics."""


def runs(config: Runs) -> list[FoundRun]:
    """Return the runs in and below ``config.folder``, sorted by path.

    Raises ConfigError if the folder does not exist, or holds no run.
    """
    folder = Path(config.folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: expected one with runs in or below it")
    found = [_described(path) for path in sorted(_folders(folder))]
    if not found:
        raise ConfigError(
            f"{folder} holds no run: expected folders with a config.yaml or a {METRICS}, as xlm "
            "pretrain and xlm finetune write them"
        )
    return found


def _folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of runs."""
    for parent, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith((".", *INSIDE))]
        if METRICS in names or ("config.yaml" in names and ".lock" in names):
            yield Path(parent)


def _described(path: Path) -> FoundRun:
    lines, settings = list(_lines(path / METRICS)), _settings(path / "config.yaml")
    last = lines[-1] if lines else {}
    if disk.is_locked(path / ".lock"):
        state = "running"
    elif any(line.get("event") == "end" for line in lines):
        state = "ended"
    else:
        state = "stopped" if lines else "not begun"
    steps = settings.get("steps")
    return FoundRun(
        path,
        state,
        max((line["step"] for line in lines), default=0),
        steps if isinstance(steps, int) else None,
        _best(lines, settings),
        _last(path / METRICS, last),
        last,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal that are whole; a run may be writing the last one."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.splitlines():
        with suppress(ValueError):
            value = strict_json.parse(line)
            if isinstance(value, dict) and isinstance(value.get("step"), int):
                yield value


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = strict_yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ConfigError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _best(lines: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the lowest score, which a rising figure enters with its sign changed."""
    stopping = settings.get("stopping")
    metric = stopping.get("metric", "") if isinstance(stopping, dict) else ""
    scores = [
        (line["score"], line["step"])
        for line in lines
        if line.get("event") == "valid" and isinstance(line.get("score"), int | float)
    ]
    if not scores:
        return ""
    score, step = min(scores)
    return f"{metric} {abs(score):.4g} at {step}".strip()


def _last(path: Path, line: Mapping[str, Any]) -> str:
    if not line:
        return ""
    shown = [str(line.get("event", ""))]
    if isinstance(loss := line.get("loss"), dict):
        shown += [f"{name} {value:.4f}" for name, value in numbers(loss)]
    if isinstance(speed := line.get("tokens_per_second"), int | float):
        shown.append(f"{speed:,.0f} tokens/s")
    if isinstance(line.get("score"), int | float):
        shown.append(f"score {abs(line['score']):.4g}")
    return f"{' '.join(shown)}, {span(time.time() - path.stat().st_mtime)} ago"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm runs``: see ``Runs``."""

    def act(config: Runs) -> None:
        found = runs(config)
        rows = [["run", "state", "step", "best", "last line"]]
        for run in found:
            of = f"/{run.steps}" if run.steps is not None else ""
            name = os.path.relpath(run.path, Path(config.folder).expanduser())
            name = run.path.resolve().name if name == "." else name
            rows.append([name, run.state, f"{run.step}{of}", run.best, run.last])
        for line in aligned(rows, num_names=5):
            say(line.rstrip())

    run_verb(Runs, "runs", act, arguments, positional="folder")


if __name__ == "__main__":
    main()
