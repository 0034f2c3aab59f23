"""Run a study from its text to its page: one model after another, each once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlm.config.cli import run_verb
from xlm.reproduce.cells import Cell, planned
from xlm.reproduce.claims import claimed, taking_turns
from xlm.reproduce.config import Reproduce
from xlm.reproduce.page import page
from xlm.reproduce.summary import summarize
from xlm.reproduce.text import StudyText, open_text
from xlm.reproduce.training import Result, finished, folder_of, train
from xlm.storage import write_json, write_whole

log = logging.getLogger("xlm.reproduce")

PAUSE = 60.0
"""Seconds between two pages, whose plots take a second."""


def reproduce(config: Reproduce) -> dict[str, Any]:
    """Run a study in ``config.folder``, or continue it, and return its figures.

    They are in ``STUDY.json`` and ``STUDY.html`` there, which are written anew as models are done.
    Several processes may run one study: each takes a model that no other has. Raises ConfigError,
    DataError, CheckpointError or TrainingError, each in one line.
    """
    folder = Path(config.folder)
    with _heard():
        with taking_turns(folder):
            text = open_text(config)
        plan = planned(config, text)
        done = _newly_finished(config, plan, text, {})
        before = set(done)
        if done:
            log.info("%d of %d models are finished already", len(done), len(plan))
        started = drawn = time.monotonic()
        try:
            while not config.report and (cell := _train_next(config, plan, text, done)) is not None:
                log.info("%s", _progress(plan, done, before, cell, started))
                if time.monotonic() - drawn > PAUSE:
                    _write(config, plan, done)
                    drawn = time.monotonic()
        finally:
            figures = _write(config, plan, done)
        if not config.report and len(done) < len(plan):
            log.info("other processes train %d models", len(plan) - len(done))
        log.info("page: %s", folder / f"{config.study}.html")
    return figures


def _newly_finished(
    config: Reproduce, plan: Sequence[Cell], text: StudyText, done: Mapping[Cell, Result]
) -> dict[Cell, Result]:
    """Return the figures of the finished models that are not in ``done``."""
    looked = {cell: finished(config, cell, text) for cell in plan if cell not in done}
    return {cell: result for cell, result in looked.items() if result is not None}


def _train_next(
    config: Reproduce, plan: Sequence[Cell], text: StudyText, done: dict[Cell, Result]
) -> Cell | None:
    """Train the first model that is neither finished nor another process's, and return it.

    ``done`` gets it, and those that other processes finished. None if there is nothing left to do.
    """
    done |= _newly_finished(config, plan, text, done)
    for cell in plan:
        if cell in done:
            continue
        with claimed(folder_of(config, cell)) as is_mine:
            if is_mine and finished(config, cell, text) is None:
                done[cell] = train(config, cell, text)
                done |= _newly_finished(config, plan, text, done)
                return cell
    done |= _newly_finished(config, plan, text, done)
    return None


def _progress(
    plan: Sequence[Cell],
    done: Mapping[Cell, Result],
    before: Set[Cell],
    cell: Cell,
    started: float,
) -> str:
    """Return a line on the model that was just finished, and the time that the others may take.

    ``before`` are the models that were finished when the clock showed ``started``.
    """
    nats = done[cell]["tests"]["test"]["nats"]
    spent = time.monotonic() - started
    rate = spent / sum(_cost(own, done) for own in done if own not in before)
    remaining = rate * sum(_cost(own, done) for own in plan if own not in done)
    return (
        f"{len(done)} of {len(plan)}: {cell.row}, {cell.sentences:,} sentences, "
        f"shape {cell.shape}, seed {cell.seed}: {nats:.3f} nats a subword of test text; "
        f"{_minutes(spent)} gone, about {_minutes(remaining)} left"
    )


def _cost(cell: Cell, done: Mapping[Cell, Result]) -> float:
    """Return the time that a model took or may take, in processor seconds.

    It is the mean of the finished models of its row, amount of text and shape; before there is one,
    that of all, times the number of languages and the root of the amount of text.
    """
    like: list[float] = [
        own["processor_seconds"]
        for other, own in done.items()
        if (other.row, other.sentences, other.shape) == (cell.row, cell.sentences, cell.shape)
    ]
    if like:
        return max(sum(like) / len(like), 1e-3)

    def size(one: Cell) -> float:
        return len(one.languages) * math.sqrt(one.sentences)

    each: list[float] = [own["processor_seconds"] / size(other) for other, own in done.items()]
    return max(sum(each) / len(each) * size(cell), 1e-3)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _write(config: Reproduce, plan: Sequence[Cell], done: Mapping[Cell, Result]) -> dict[str, Any]:
    figures = summarize(config, plan, done)
    folder = Path(config.folder)
    with taking_turns(folder):
        write_json(folder / f"{config.study}.json", figures)
        write_whole(folder / f"{config.study}.html", page(figures))
    return figures


@contextmanager
def _heard() -> Iterator[None]:
    """Let the study's own lines through while the reports of its runs are silenced."""
    level = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm reproduce``: see ``Reproduce``."""

    def act(config: Reproduce) -> None:
        reproduce(config)

    run_verb(Reproduce, "reproduce", act, arguments, "study")
