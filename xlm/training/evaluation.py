"""One pass over held-out streams: figures per stream, alike on every rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from xlm.data.streams import Stream
from xlm.metrics.scores import Scores
from xlm.training.distributed.processes import Parallel
from xlm.training.learner import Learner
from xlm.training.precision import autocast


def evaluate(
    learner: Learner,
    streams: Mapping[str, Sequence[Stream]],
    parallel: Parallel,
    *,
    seed: int,
    precision: str = "fp32",
    most_batches: int | None = None,
) -> dict[str, dict[str, float]]:
    """Return the figures of every stream, by stream id (``objective/lang``).

    ``streams`` maps an objective's name to its held-out streams. The learner is put in evaluation
    mode and back. Masks are fixed by ``seed``. ``most_batches`` ends each pass early: a trial.
    """
    was_training = learner.training
    learner.eval()
    figures = {}
    try:
        with torch.no_grad(), autocast(parallel.device, precision):
            for name, held_out in streams.items():
                for stream in held_out:
                    objective = learner.objectives[name]
                    scores, predictions = _pass(learner, name, stream, parallel, seed, most_batches)
                    figures[stream.id] = {
                        **objective.figures(stream, scores),
                        **(objective.grouped_figures(stream, predictions) if predictions else {}),
                    }
    finally:
        learner.train(was_training)
    return figures


def _pass(
    learner: Learner,
    name: str,
    stream: Stream,
    parallel: Parallel,
    seed: int,
    most_batches: int | None,
) -> tuple[Scores, dict[int, Any]]:
    """Return the sums over one stream and the predictions by row, alike on every rank.

    Every rank runs as many batches; the last may not be counted.
    """
    objective = learner.objectives[name]
    batches = islice(objective.evaluation_batches(stream, seed), most_batches)
    sums = Scores()
    own: dict[int, Any] = {}
    while share := list(islice(batches, parallel.world)):
        parallel.mark()
        batch = share[min(parallel.rank, len(share) - 1)].of_table(stream.table)
        loss = learner(name, batch.to(parallel.device))
        if parallel.rank >= len(share):
            continue  # not times 0, which makes NaN of an infinite loss
        batch_sums = {"targets": float(loss.count), **objective.baseline(stream, batch)}
        sums = sums + batch_sums + {key: float(value) for key, value in loss.scores.items()}
        if loss.outputs is not None:
            own.update(objective.predictions(stream, batch, loss.outputs.cpu()))
    predictions: dict[int, Any] = {}
    for shared in parallel.gather(list(own.items())):
        predictions.update((row, prediction) for row, prediction in shared)
    return parallel.sum_scores(sums), predictions
