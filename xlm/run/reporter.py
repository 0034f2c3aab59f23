"""Say and record how a run goes: its start, updates, evaluations and end."""

from __future__ import annotations

import itertools
import logging
import resource
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from xlm.data.mixture import render_table
from xlm.run import unigram
from xlm.run.config import Run
from xlm.run.held_out import Figures, HeldOut
from xlm.run.stopping import Outcome
from xlm.run.translation_checks import translation_warnings
from xlm.tables import span
from xlm.training.distributed.processes import Parallel
from xlm.training.initialization_report import InitializationReport, as_record
from xlm.training.journal import Journal, short
from xlm.training.report import TrainReport
from xlm.training.trainer import Trainer

log = logging.getLogger("xlm")


def warn(parallel: Parallel, lines: Iterable[str]) -> None:
    """Log a warning a line, on rank 0 alone."""
    if parallel.is_main:
        for line in lines:
            log.warning("%s", line)


class Reporter:
    """Write a run's events to its journal, and lines for the person who watches."""

    def __init__(self, journal: Journal, trainer: Trainer, ceiling: float) -> None:
        """Take ``ceiling``, the operations a second (FLOP/s) that one rank's device can reach."""
        self.journal = journal
        self.trainer = trainer
        self.ceiling = ceiling
        self._last_step = trainer.state.step
        self._now, self._busy = time.perf_counter(), time.thread_time()
        self.has_warned = False
        """True once the log has said that the run does not learn."""

    @property
    def step(self) -> int:
        """The run's present step."""
        return self.trainer.state.step

    def start(
        self, precision: str, held_out: HeldOut, initialized: InitializationReport | None
    ) -> None:
        """Describe the run: its size, mixture, dropped rows, and its initial weights."""
        trainer, journal = self.trainer, self.journal
        num = sum(parameter.numel() for parameter in trainer.learner.parameters())
        journal.say(
            f"{num / 1e6:.2f} M parameters; {trainer.parallel.world} process(es) on "
            f"{trainer.parallel.device.type}, {precision}; steps {self.step} to {trainer.steps}"
        )
        if idle := trainer.parallel.idle_share(trainer.mixture.group_size):
            world, size = trainer.parallel.world, trainer.mixture.group_size
            journal.say(
                f"{idle:.0%} of the processes' work is idle: {world} share groups of {size} "
                f"micro-batches; a group_size that is a multiple of {world} uses all"
            )
        journal.say(render_table(trainer.mixture.table(trainer.steps)))
        both = (("train", trainer.mixture.streams), ("valid", held_out.streams["valid"]))
        for split, streams in both:
            for stream in itertools.chain(*streams.values()):
                if stream.num_dropped:
                    journal.say(
                        f"{stream.id}, {split}: {stream.num_dropped:,} rows {stream.why_dropped} "
                        f"and left out ({stream.num_rows:,} stay)"
                    )
        journal.record("start", self.step, {"parameters": num})
        if initialized is not None:
            for line in initialized.lines():
                journal.say(line)
            journal.record("initialized", self.step, as_record(initialized))

    def train(self, report: TrainReport) -> None:
        """Record the updates since the last report: losses, rate, speed."""
        parallel = self.trainer.parallel
        seconds = max(report.seconds, 1e-9)
        tokens_per_second = report.tokens / seconds
        utilization = report.flops / seconds / (self.ceiling * parallel.world)
        values: dict[str, Any] = {
            "loss": report.losses,
            "lr": report.lr,
            "grad_norm": report.grad_norm,
            "tokens_per_second": tokens_per_second,
            "utilization": utilization,
            "wait": report.wait,
            "skipped": report.skipped,
        }
        if report.stream_losses:
            values["stream_loss"] = report.stream_losses
        values["machine"] = self._machine(report)
        if report.scale is not None:
            values["scale"] = report.scale
        if parallel.device.type == "cuda":
            values["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.journal.record("train", report.step, values)
        self.journal.advance(report.step, **report.losses)
        losses = "  ".join(f"{name} {value:.4f}" for name, value in report.losses.items())
        self.journal.say(
            f"step {report.step:>7}  {losses}  lr {report.lr:.2e}  |g| {report.grad_norm:.2f}  "
            f"{tokens_per_second:,.0f} tokens/s  {utilization:.0%} of the matmul ceiling"
            + (f"  {report.skipped} skipped" if report.skipped else "")
            + f"  {span(values['machine']['seconds_left'])} left"
        )

    def _machine(self, report: TrainReport) -> dict[str, float]:
        """Return what the machine did since the last report.

        The time left takes the updates to come to be as fast, and leaves out evaluations;
        ``host`` is the processor time of the loop's thread, as a share of the time.
        """
        now, busy = time.perf_counter(), time.thread_time()
        num_updates = max(report.step - self._last_step, 1)
        parallel, trainer = self.trainer.parallel, self.trainer
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found = {
            "host": (busy - self._busy) / max(now - self._now, 1e-9),
            "idle": parallel.idle_share(trainer.mixture.group_size),
            "resident_gib": peak,
            "seconds_left": (trainer.steps - report.step) * report.seconds / num_updates,
        }
        self._last_step, self._now, self._busy = report.step, now, busy
        return found

    def before(self, figures: Figures) -> None:
        """Record the figures of weights from elsewhere before their first update."""
        self.journal.record("before", self.step, figures)
        self.journal.say("before the first update:")
        for stream_id, own in figures.items():
            self.journal.say(f"  {stream_id:20} " + short(own))

    def evaluation(self, figures: Figures, outcome: Outcome, run: Run) -> None:
        """Record held-out figures, and how the watched score compares with the best.

        Warns, once, if the run has learned nothing by now.
        """
        state, journal = self.trainer.state, self.journal
        values = {**figures, "score": outcome.score, "streams": outcome.streams}
        journal.record("valid", state.step, values)
        for stream_id, own in figures.items():
            journal.say(f"  {stream_id:20} " + short(own) + unigram.shown(own))
        compared = ""
        if outcome.better:
            compared = " (best)"
        elif not outcome.counted:
            compared = " (not counted yet)"
        elif state.best is not None:
            compared = f" (best {abs(state.best):.4g} at step {state.best_step})"
        journal.say(
            f"  {run.stopping.metric} averaged over {', '.join(outcome.streams)}: "
            f"{abs(outcome.score):.4g}{compared}"
        )
        for name in outcome.improved:
            journal.say(f"  {name}: {state.bests[name]['value']:.4g} (best)")
        warn(self.trainer.parallel, translation_warnings(figures))
        stuck = unigram.warning(run, state.step, figures)
        if stuck and not self.has_warned:
            self.has_warned = True
            warn(self.trainer.parallel, [stuck])

    def test(self, figures: Figures) -> None:
        """Record the figures of the test split."""
        self.journal.record("test", self.step, figures)
        for stream_id, own in figures.items():
            self.journal.say(f"  test {stream_id:15} " + short(own))

    def end(self, values: Mapping[str, Any]) -> None:
        """Record the end of the run: by this line a finished run is known."""
        self.journal.record("end", self.step, values)

    def change(self, before: Figures, after: Figures) -> None:
        """Record the figures of each held-out stream at the start and at the end."""
        self.journal.record("change", self.step, {"before": before, "after": after})
        self.journal.say("before -> after, on held-out text:")
        for stream_id, own in after.items():
            self.journal.say(f"  {stream_id:20} " + short(own, before.get(stream_id)))
