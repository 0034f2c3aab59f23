"""A run described before it trains: passes over the text, padding, memory, time of updates.

Nothing is written, and no weights of other models are read but their shape.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator

import torch

from xlm.data.corpora import Corpora
from xlm.data.mixture import Mixture
from xlm.data.streams import Stream
from xlm.rng import Random
from xlm.run.build import build_mixture, build_trainer, training_streams, without_auto
from xlm.run.config import Run
from xlm.run.launch import sole_training
from xlm.run.start import find_start
from xlm.tables import aligned
from xlm.training.loop import train
from xlm.training.report import TrainReport
from xlm.training.trainer import Trainer

LOOKS = 8
"""Micro-batches of a stream that its padding is measured on."""
UPDATES = 3
"""Updates of each objective that are timed, after one that is not."""
MOST_SECONDS = 60.0
"""Timing ends with the update in which this is reached."""


def describe_run(run: Run, corpora: Corpora, *, measure: bool = True) -> list[str]:
    """Return lines about the training of ``run`` on ``corpora``, which is not begun.

    With ``measure`` a few updates of a model with random weights are trained and thrown away.
    Raises ConfigError or DataError if the run could not start.
    """
    start = find_start(run, corpora)
    run, corpora = start.run, start.corpora
    mixture = build_mixture(run, training_streams(run, corpora))
    lines = [*_table(run, mixture), ""]
    with sole_training(run) as parallel:
        run = without_auto(run, parallel.device)
        trainer = build_trainer(run, corpora, mixture, parallel)
        lines += _memory(trainer)
        if measure:
            lines += _time(run, trainer)
    return lines


def _table(run: Run, mixture: Mixture) -> Iterator[str]:
    cells = [("objective", "stream", "sentences", "tokens", "probability", "epochs", "padding")]
    for row in mixture.table(run.steps):
        stream = next(s for s in mixture.streams[row.objective] if s.name == row.stream)
        probability = f"{row.probability:.4f}"
        if abs(row.probability_at_end - row.probability) > 5e-5:
            probability += f" -> {row.probability_at_end:.4f}"
        cells.append(
            (
                row.objective,
                row.stream,
                f"{row.sentences:,}",
                f"{row.tokens:,}",
                probability,
                f"{row.epochs:.2f}",
                f"{padding(run, row.objective, stream):.1%}",
            )
        )
    yield from aligned(cells, num_names=2)


def padding(run: Run, objective: str, stream: Stream) -> float:
    """Return the share of padding among the cells of a stream's first micro-batches."""
    cells = tokens = 0
    for number in range(min(LOOKS, int(stream.batches_per_epoch))):
        random = Random(run.seed, "describe", stream.id, number)
        batch = run.objectives[objective].collate(stream.examples(number), random, train=True)
        for part in (batch, batch.source):
            if part is not None:
                cells += part.tokens.numel()
                tokens += int(part.lengths.sum())
    return 1 - tokens / cells if cells else 0.0


def _memory(trainer: Trainer) -> Iterator[str]:
    named = {id(p): p for p in trainer.learner.parameters()}.values()
    num = sum(p.numel() for p in named)
    trained = sum(p.numel() for p in named if p.requires_grad)
    size = sum(p.numel() * p.element_size() for p in named)
    state = 3 * sum(p.numel() * p.element_size() for p in named if p.requires_grad)
    yield (
        f"{num:,} parameters ({trained:,} trained): {_mebibytes(size)} of weights, and "
        f"{_mebibytes(state)} for gradients and two moments of the optimizer"
    )


def _time(run: Run, trainer: Trainer) -> Iterator[str]:
    """Time a few updates: each objective has its turns."""
    reports: list[TrainReport] = []
    began = time.monotonic()
    trainer.steps = 1 + UPDATES * len(run.objectives)
    trainer.report_every, trainer.evaluate_every, trainer.save_every = 1, 0, 0
    train(
        trainer,
        report=reports.append,
        stop_requested=lambda: time.monotonic() - began > MOST_SECONDS,
    )
    timed = reports[1:] or reports
    seconds = sum(report.seconds for report in timed) / len(timed)
    tokens = sum(report.tokens for report in timed) / len(timed)
    yield (
        f"{_mebibytes(_peak(trainer))} at the peak of a measured update on "
        f"{trainer.parallel.device.type}"
    )
    yield (
        f"{seconds:.3g} s an update ({len(timed)} measured, {run.precision}), "
        f"{tokens:,.0f} tokens each, {tokens / seconds:,.0f} tokens/s; {run.steps:,} updates take "
        f"{duration(seconds * run.steps)}, evaluations and checkpoints apart"
    )


def _peak(trainer: Trainer) -> int:
    """Return bytes: of the process on a CPU, allocated on a GPU."""
    if trainer.parallel.device.type == "cuda":
        return torch.cuda.max_memory_allocated(trainer.parallel.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.2f} GiB"


def duration(seconds: float) -> str:
    """Return a time as ``2 h 5 min``, ``3 min 20 s`` or ``12 s``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
