"""Run a study from its text to its page: one model after another, each once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlm.config.cli import run_verb
from xlm.reproduce.cells import Cell, planned
from xlm.reproduce.config import Reproduce
from xlm.reproduce.page import page
from xlm.reproduce.summary import summarize
from xlm.reproduce.text import open_text
from xlm.reproduce.training import Result, finished, train
from xlm.run.folder import locked
from xlm.storage import write_json, write_whole

log = logging.getLogger("xlm.reproduce")

PAUSE = 60.0
"""Seconds between two pages, whose plots take a second."""


def reproduce(config: Reproduce) -> dict[str, Any]:
    """Run a study in ``config.folder``, or continue it, and return its figures.

    They are in ``STUDY.json`` and ``STUDY.html`` there, which are written anew as models are done.
    Raises ConfigError, DataError, CheckpointError or TrainingError, each in one line.
    """
    folder = Path(config.folder)
    with locked(folder), _heard():
        text = open_text(config)
        plan = planned(config, text)
        done: dict[Cell, Result] = {}
        for cell in plan:
            if (result := finished(config, cell, text)) is not None:
                done[cell] = result
        left = [cell for cell in plan if cell not in done]
        if done:
            log.info("%d of %d models are finished already", len(done), len(plan))
        started = drawn = time.monotonic()
        try:
            for number, cell in enumerate([] if config.report else left, 1):
                done[cell] = train(config, cell, text)
                log.info("%s", _progress(done, left, number, started))
                if time.monotonic() - drawn > PAUSE:
                    _write(config, plan, done)
                    drawn = time.monotonic()
        finally:
            figures = _write(config, plan, done)
        log.info("page: %s", folder / f"{config.study}.html")
    return figures


def _progress(
    done: Mapping[Cell, Result], left: Sequence[Cell], number: int, started: float
) -> str:
    """Return a line on the model that was just finished, and the time that the others may take."""
    cell = left[number - 1]
    nats = done[cell]["tests"]["test"]["nats"]
    spent = time.monotonic() - started
    rate = spent / sum(_cost(own, done) for own in left[:number])
    remaining = rate * sum(_cost(own, done) for own in left[number:])
    total = len(done) + len(left) - number
    return (
        f"{len(done)} of {total}: {cell.row}, {cell.sentences:,} sentences, shape {cell.shape}, "
        f"seed {cell.seed}: {nats:.3f} nats a subword of test text; "
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
    """``xlm reproduce``: see ``Reproduce``."""

    def act(config: Reproduce) -> None:
        reproduce(config)

    run_verb(Reproduce, "reproduce", act, arguments, "study")
