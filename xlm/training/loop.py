"""The one loop: it sums losses, divides once, steps, and knows no language model.

    plan -> count -> forward and backward of each micro-batch -> clip -> step
         -> begin to count the next step -> every n: report, evaluate, save

Losses are sums; this is the only place that divides, once, by the count over all micro-batches and
ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xlm.errors import TrainingError
from xlm.rng import key
from xlm.training.distributed.wrap import no_sync
from xlm.training.optimizers.step import clip_, guarded_step, set_lr
from xlm.training.precision import autocast, outside_autocast, shared_casts
from xlm.training.prefetch import MicroBatch, Prefetcher, Step
from xlm.training.report import STREAM, TrainReport, report_of
from xlm.training.sums import Sums
from xlm.training.trainer import Trainer

LOOK_EVERY = 5
"""Updates between two looks at whether the run is stuck, which wait for nothing."""


@dataclass(frozen=True)
class Verdict:
    """The consequences of an evaluation."""

    stop: bool = False
    """End the run (early stopping)."""
    save: bool = False
    """Save now: this is the best so far."""


def train(
    trainer: Trainer,
    *,
    report: Callable[[TrainReport], None] = lambda report: None,
    evaluate: Callable[[], Verdict] = lambda: Verdict(),
    save: Callable[[], None] = lambda: None,
    stop_requested: Callable[[], bool] = lambda: False,
    keep: Callable[[Step], str] = lambda step: "",
) -> None:
    """Run from ``trainer.state.step`` to ``trainer.steps``, or until told to stop.

    ``report``, ``evaluate`` and ``save`` are called every so many steps and at the last one;
    ``stop_requested`` returns whether this rank was told to stop (by a signal), on which all ranks
    agree before the next step. ``keep`` is given the batches of an update that was skipped when too
    many were in a row, and returns where it put them. An error in the making of a batch is raised
    once the update before it is reported and saved; TrainingError on the other ranks.
    """
    state, saved = trainer.state, trainer.state.step
    prefetcher = _prefetcher(trainer)
    sums = Sums.from_json(state.unreported, trainer.parallel)
    trainer.learner.train()
    try:
        upcoming = _take(trainer, prefetcher, sums, stop_requested)
        while upcoming is not None:
            counts, num_stops, num_errors = _agree(trainer, upcoming)
            if num_stops or (num_errors and state.step > saved):
                _settle(trainer, sums)
                save()
            if num_errors:
                trainer.saver.finish()
            if num_stops:
                break
            step = upcoming.made(num_errors)
            lr = trainer.schedule.lr(state.step) * state.rate
            if trainer.forgetting is not None:
                trainer.forgetting(state.step, trainer.optimizer)
            norm = _update(trainer, step, counts, lr, sums)
            state.step += 1
            state.cursors = step.cursors
            upcoming = _take(trainer, prefetcher, sums, stop_requested)
            if _due(state.step, LOOK_EVERY) and trainer.skipped.looks_stuck():
                _raise_if_stuck(trainer, keep(step))
            last = upcoming is None
            if _due(state.step, trainer.report_every) or last:
                _raise_if_stuck(trainer)
                report(report_of(trainer, sums, lr, norm))
                sums = Sums()
            verdict = Verdict()
            if _due(state.step, trainer.evaluate_every) or (trainer.evaluate_every and last):
                verdict = _beside(sums, evaluate)
            if _due(state.step, trainer.save_every) or verdict.save or verdict.stop or last:
                _settle(trainer, sums)
                save()
                saved = state.step
            if verdict.stop:
                if upcoming is not None:
                    upcoming.summed()  # no exchange may be under way when the processes part
                break
    finally:
        prefetcher.close()


def _prefetcher(trainer: Trainer) -> Prefetcher:
    state = trainer.state
    return Prefetcher(
        trainer.mixture, trainer.learner.objectives, trainer.parallel,
        seed=trainer.seed, first=state.step, cursors=state.cursors,
    )  # fmt: skip


@dataclass(frozen=True)
class _Upcoming:
    """The next step, whose counts the ranks are adding up."""

    step: Step | Exception
    """Or the error in the making of its batches."""
    labels: list[str]
    """Names of the targets that are counted."""
    summed: Callable[[], list[int]]
    """Waits for the sums."""
    num_phases: int
    """Phases of saves when the ranks said whether they were ready."""

    def made(self, num_errors: int) -> Step:
        """Return the step; raise its error, or say that one of ``num_errors`` ranks has one."""
        if isinstance(self.step, Exception):
            raise self.step
        if num_errors:
            raise TrainingError(
                f"another process could not make its batches of update {self.step.number + 1} and "
                "says why: remove the cause and start the run again, which goes on from there"
            )
        return self.step


def _take(
    trainer: Trainer, prefetcher: Prefetcher, sums: Sums, stop_requested: Callable[[], bool]
) -> _Upcoming | None:
    """Take the next step, None after the last, and begin to sum its counts over the ranks.

    Nothing waits for the other ranks or the device, which meanwhile works on the update before.
    The sum also says which ranks were told to stop, which failed to make their batches, and which
    are done with their part of a save.
    """
    if trainer.state.step >= trainer.steps:
        return None
    waiting = time.perf_counter()
    step: Step | Exception
    try:
        step = prefetcher.next()
    except Exception as error:
        step = error
    sums.waited += time.perf_counter() - waiting
    labels = [label for own in trainer.labels.values() for label in own.values()]
    counts = dict.fromkeys(labels, 0)
    tokens = dict.fromkeys(trainer.mixture.stream_ids, 0)
    failed = isinstance(step, Exception)
    for micro_batch in [] if isinstance(step, Exception) else step.micro_batches:
        if micro_batch.counts:
            for label, count in _counts(trainer, micro_batch).items():
                counts[label] += count
            tokens[micro_batch.stream_id] += micro_batch.batch.num_tokens
    flags = [int(trainer.saver.is_ready), int(stop_requested()), int(failed)]
    summed = trainer.parallel.begin_sum([*counts.values(), *tokens.values(), *flags])
    return _Upcoming(step, labels, summed, trainer.saver.num_phases)


def _beside(sums: Sums, evaluate: Callable[[], Verdict]) -> Verdict:
    """Evaluate, and leave the time that it takes out of the next report."""
    paused = time.perf_counter()
    verdict = evaluate()
    sums.started += time.perf_counter() - paused
    return verdict


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _counts(trainer: Trainer, micro_batch: MicroBatch) -> dict[str, int]:
    """Return the number of targets of each part of a micro-batch."""
    batch, labels = micro_batch.batch, trainer.labels[micro_batch.objective]
    return {label: batch.parts[part] if part else batch.count for part, label in labels.items()}


def _agree(trainer: Trainer, upcoming: _Upcoming) -> tuple[dict[str, int], int, int]:
    """Return the targets of each part of each objective over all ranks.

    The numbers of ranks that were told to stop and of those without batches follow. Also adds the
    tokens of each stream to the state, and lets the save under way go on if every rank has done its
    part of it.
    """
    *summed, num_ready, num_stops, num_errors = upcoming.summed()
    saver = trainer.saver
    if num_ready == trainer.parallel.world and saver.num_phases == upcoming.num_phases:
        saver.advance()
    counts = dict(zip(upcoming.labels, summed, strict=False))
    if num_stops or num_errors:
        return counts, num_stops, num_errors
    tokens = trainer.state.tokens
    for stream_id, num in zip(
        trainer.mixture.stream_ids, summed[len(upcoming.labels) :], strict=True
    ):
        tokens[stream_id] = tokens.get(stream_id, 0) + num
    return counts, 0, 0


def _update(trainer: Trainer, step: Step, counts: dict[str, int], lr: float, sums: Sums) -> Tensor:
    """Update from this rank's micro-batches; return the gradient's norm, on the device."""
    micro_batches = _prepared(trainer, step.micro_batches)
    with shared_casts(trainer.parallel.device, trainer.precision):
        for place, micro_batch in enumerate(micro_batches):
            synchronize = place == len(micro_batches) - 1
            _backward(trainer, micro_batch, counts, synchronize, sums)
    if trainer.shards is not None:
        trainer.shards.take_gradients()
    if trainer.scaler is not None:
        trainer.scaler.unscale_(trainer.parameters)
    sum_squares = None if trainer.shards is None else trainer.shards.sum_squares
    norm = clip_(trainer.parameters, trainer.max_grad_norm, sum_squares)
    found_inf = (~norm.isfinite()).float()
    skips = found_inf if trainer.spikes is None else trainer.spikes(norm, found_inf)
    set_lr(trainer.optimizer, lr)
    guarded_step(trainer.optimizer, skips)
    if trainer.scaler is not None:
        trainer.scaler.update(found_inf)
    if trainer.averaged is not None:
        trainer.averaged.update(skips)
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.skipped.add(skips, None if trainer.spikes is None else found_inf)
    return norm


def _prepared(trainer: Trainer, micro_batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """Return the micro-batches after each objective has prepared those of a stream together."""
    found = list(micro_batches)
    if trainer.shards is not None:
        return found  # ranks with other streams would gather the weights at other times
    device, learner = trainer.parallel.device, trainer.learner
    places: dict[tuple[str, str], list[int]] = {}
    for place, each in enumerate(found):
        places.setdefault((each.objective, each.stream_id), []).append(place)
    for (name, _), own in places.items():
        batches = [found[place].batch.to(device) for place in own]
        with autocast(device, trainer.precision):
            prepared = learner.objectives[name].prepared(learner.model, batches)
        for place, batch in zip(own, prepared, strict=True):
            found[place] = replace(found[place], batch=batch)
    return found


def _backward(
    trainer: Trainer,
    micro_batch: MicroBatch,
    counts: dict[str, int],
    synchronize: bool,
    sums: Sums,
) -> None:
    parallel = trainer.parallel
    seed = key(trainer.seed, "dropout", trainer.state.step, micro_batch.index)
    _seed_default_generators(parallel.device, seed)
    batch = micro_batch.batch.to(parallel.device)
    parallel.mark()
    with no_sync(trainer.wrapped, active=not synchronize):
        with autocast(parallel.device, trainer.precision):
            loss = trainer.wrapped(micro_batch.objective, batch)
        labels = trainer.labels[micro_batch.objective]
        totals = {label: loss.parts[p] if p else loss.total for p, label in labels.items()}
        # DDP averages over ranks, so that its mean of these is the gradient of the global mean.
        scaled, *others = (
            total * (micro_batch.weight * parallel.world / max(counts[label], 1))
            for label, total in totals.items()
        )
        for other in others:
            scaled = scaled + other
        if not micro_batch.counts:
            scaled = scaled * 0.0  # a rank without a micro-batch, for which the others wait
        if trainer.scaler is not None:
            scaled = trainer.scaler.scale(scaled)
        parallel.mark()
        with outside_autocast(parallel.device, trainer.precision):
            scaled.backward()
    if micro_batch.counts:
        own = {
            label: (totals[label], count) for label, count in _counts(trainer, micro_batch).items()
        }
        own[STREAM + micro_batch.stream_id] = (loss.total, micro_batch.batch.count)
        needed = trainer.flops(micro_batch.objective, micro_batch.batch)
        sums.add(own, micro_batch.batch.num_tokens, needed)


def _seed_default_generators(device: torch.device, seed: int) -> None:
    """Key torch's own generators, which dropout draws from, like everything random.

    ``torch.manual_seed`` does the same, but also formats a stack trace for devices that are not in
    use: 0.7 ms a call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _settle(trainer: Trainer, sums: Sums) -> None:
    """Complete ``trainer.state`` for a checkpoint: the sums and counters that lie elsewhere."""
    trainer.state.unreported = trainer.parallel.gather(sums.to_json())
    trainer.state.skipped = trainer.skipped.total()
    trainer.state.skipped_in_a_row = trainer.skipped.in_a_row()
    trainer.state.spikes_in_a_row = trainer.skipped.spikes()
    if trainer.spikes is not None:
        trainer.state.norms = trainer.spikes.state()
    if trainer.scaler is not None:
        trainer.state.scaler = trainer.scaler.state_dict()


def _raise_if_stuck(trainer: Trainer, kept: str = "") -> None:
    """Raise TrainingError if too many updates in a row were skipped; wait for the device."""
    objectives, streams = trainer.learner.objectives, trainer.mixture.stream_ids
    of = f"objectives {', '.join(objectives)}; streams {', '.join(streams)}"
    if kept:
        of += f"; the batches of the last one are in {kept}"
    trainer.skipped.raise_if_stuck(trainer.state.step, of)
