"""One pass over held-out streams: figures per stream, alike on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.data.streams import Stream
from xlm.metrics.scores import Scores
from xlm.objective import Objective, already
from xlm.training.distributed.processes import Parallel
from xlm.training.learner import Learner
from xlm.training.precision import autocast
from xlm.training.prefetch import ahead


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

    A rank makes only the batches that it runs, ahead of the model. Every rank passes as many
    rounds; in the last there may be none for it. Only predictions wait for the device.
    """
    objective = learner.objectives[name]
    makers = islice(evaluation_makers(objective, stream, seed), most_batches)
    sums, on_device = Scores(), dict[str, Tensor]()
    own: dict[int, Any] = {}
    with closing(ahead(_shares(makers, parallel))) as batches:
        for made in batches:
            parallel.mark()
            if made is None:
                continue
            batch = made.of_table(stream.table)
            loss = learner(name, batch.to(parallel.device))
            sums = sums + {"targets": float(loss.count), **objective.baseline(stream, batch)}
            for key, value in loss.scores.items():
                value = value.double()
                on_device[key] = on_device[key] + value if key in on_device else value
            if loss.outputs is not None:
                own.update(objective.predictions(stream, batch, loss.outputs.cpu()))
    sums = sums + {key: float(value) for key, value in on_device.items()}
    predictions: dict[int, Any] = {}
    for shared in parallel.gather(list(own.items())):
        predictions.update((row, prediction) for row, prediction in shared)
    return parallel.sum_scores(sums), predictions


def evaluation_makers(
    objective: Objective, stream: Stream, seed: int
) -> Iterable[Callable[[], Batch]]:
    """Yield a function for each batch of a pass; of a class that only yields batches, made ones."""
    for cls in type(objective).__mro__:
        if "evaluation_makers" in vars(cls):
            return objective.evaluation_makers(stream, seed)
        if "evaluation_batches" in vars(cls):
            break
    return map(already, objective.evaluation_batches(stream, seed))


def _shares(
    makers: Iterator[Callable[[], Batch]], parallel: Parallel
) -> Iterator[Callable[[], Batch | None]]:
    """Yield this rank's function of each round; if none is left for it, one that makes None."""
    while share := list(islice(makers, parallel.world)):
        yield share[parallel.rank] if parallel.rank < len(share) else lambda: None
