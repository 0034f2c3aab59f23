"""The report of the updates since the last one: means, counts and speed, over all ranks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from torch import Tensor

from xlm.training.sums import Sums
from xlm.training.trainer import Trainer

STREAM = "stream/"
"""Opens the names of the sums of a stream, which are beside those of the objectives."""


@dataclass
class TrainReport:
    """Sums over all ranks since the last report."""

    step: int
    seconds: float
    lr: float
    losses: dict[str, float]
    """Mean loss per objective, over its targets; of several parts each mean, and their sum."""
    tokens: int
    """Real tokens."""
    flops: float
    """Arithmetic needed (see ``xlm.training.speed``)."""
    counts: dict[str, int]
    grad_norm: float
    skipped: int
    scale: float | None
    wait: float
    """Share of the time spent waiting for batches."""
    stream_losses: dict[str, float] = field(default_factory=dict)
    """Mean loss by stream (objective and language), over its targets."""


def report_of(trainer: Trainer, sums: Sums, lr: float, norm: Tensor) -> TrainReport:
    """Return the report of all ranks, collectively; nothing else in the loop waits for the device.

    ``sums`` are those since the last report, ``norm`` is the gradient's of the last update.
    """
    seconds = time.perf_counter() - sums.started
    objectives = trainer.labels
    labels = [label for own in objectives.values() for label in own.values()]
    streams = {STREAM + stream_id: stream_id for stream_id in trainer.mixture.stream_ids}
    names = [*labels, *streams]
    totals = {name: float(sums.totals[name]) if name in sums.totals else 0.0 for name in names}
    added = trainer.parallel.sum_scores(
        {
            **{f"total/{name}": totals[name] for name in names},
            **{f"count/{name}": float(sums.counts[name]) for name in names},
            "tokens": float(sums.tokens),
            "flops": sums.flops,
        }
    )
    counts = {name: int(added[f"count/{name}"]) for name in names}
    return TrainReport(
        step=trainer.state.step,
        seconds=seconds,
        lr=lr,
        losses=_with_sums(
            {n: added[f"total/{n}"] / counts[n] for n in labels if counts[n]}, objectives
        ),
        tokens=int(added["tokens"]),
        flops=added["flops"],
        counts={name: counts[name] for name in labels},
        grad_norm=float(norm),
        skipped=trainer.skipped.total(),
        scale=None if trainer.scaler is None else float(trainer.scaler.state_dict()["scale"]),
        wait=sums.waited / seconds,
        stream_losses={
            stream_id: added[f"total/{name}"] / counts[name]
            for name, stream_id in streams.items()
            if counts[name]
        },
    )


def _with_sums(means: dict[str, float], objectives: dict[str, dict[str, str]]) -> dict[str, float]:
    """Return the losses of all objectives: for one of several parts the sum of its means first."""
    losses: dict[str, float] = {}
    for name, labels in objectives.items():
        own = {label: means[label] for label in labels.values() if label in means}
        losses |= {name: sum(own.values())} if own and name not in own else {}
        losses |= own
    return losses
