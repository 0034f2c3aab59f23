"""Train one run from its settings to its result; one training at a time in a process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError, SaidByMain, TrainingError, XlmError
from xlm.freed_memory import freed_memory_kept
from xlm.run.config import Run
from xlm.run.folder import RunFolder
from xlm.run.held_out import Figures
from xlm.run.selection import History, evaluations, to_history
from xlm.run.session import Session, begin
from xlm.run.shares import as_record, realized_shares, share_lines
from xlm.training.allocator import use_expandable_segments
from xlm.training.distributed.processes import Parallel
from xlm.training.learner import Learner
from xlm.training.signals import stop_on_signals
from xlm.training.state import TrainState

log = logging.getLogger("xlm")

_ALONE = threading.Lock()


@dataclass(frozen=True)
class Result:
    """The end of a run."""

    folder: Path
    learner: Learner
    """Model and heads, with the last weights."""
    state: TrainState
    figures: Figures
    """The last evaluation, by stream id (``mlm/ne``); empty if ``evaluate_every`` is 0."""
    stopped_early: bool
    """True if patience was used up."""


@contextmanager
def sole_training(run: Run) -> Iterator[Parallel]:
    """Join the processes of a training; raise ConfigError if this process trains already."""
    if not _ALONE.acquire(blocking=False):
        raise ConfigError(
            "another training is running in this process, and torch's random generators are "
            "shared by all threads: start this one in its own process, or after the other"
        )
    parallel = None
    try:
        parallel = Parallel.start(
            run.device, tf32=run.tf32, deterministic=run.deterministic,
            timeout_seconds=max(1800.0, 2.0 * run.hang_seconds),
        )  # fmt: skip
        if parallel.device.type == "cuda":
            use_expandable_segments()
        with freed_memory_kept() if parallel.device.type == "cpu" else nullcontext():
            yield parallel
    finally:
        if parallel is not None:
            parallel.close()
        _ALONE.release()


def train_run(run: Run, corpora: Corpora, parallel: Parallel) -> Result:
    """Train ``run`` to its end, from its newest checkpoint if it has one."""
    if not str(run.folder):
        raise ConfigError("folder is empty: name the folder that the run is written to")
    with RunFolder(run.folder, parallel).locked() as folder:
        return train_in(folder, folder.resolve(run), corpora)


def train_in(folder: RunFolder, run: Run, corpora: Corpora) -> Result:
    """Train a run whose folder is held.

    Stops early if patience is used up, or if a signal asks for it on some rank. Raises
    CheckpointError if the last state could not be saved.
    """
    session = begin(run, corpora, folder)
    trainer, state, journal = session.trainer, session.trainer.state, session.reporter.journal
    with journal, stop_on_signals() as stop:
        if state.step < trainer.steps and session.watch.stopped:
            journal.say(
                f"stopped at step {state.step} after {state.patience_used} evaluations "
                "without a new best; raise stopping.patience to go on"
            )
            if not folder.has_ended():
                finish(session)
        else:
            if state.step >= trainer.steps:
                journal.say(f"finished already, at step {state.step}: nothing is trained")
            with session.folder.parallel.watched(session.run.hang_seconds):
                try:
                    session.train(stop.is_set)
                    trainer.saver.finish()
                finally:
                    trainer.saver.join()
            # Not after a signal, whose sender waits: the step, unlike ``stop``, is alike on all
            # ranks.
            ended = state.step >= trainer.steps
            if ended and not session.figures and session.run.evaluate_every:
                session.figures = session.measure()  # a run that had ended was started again
            if session.checkpoints.unsaved:
                raise CheckpointError(session.checkpoints.unsaved)
            if ended or session.watch.stopped:
                finish(session)
    learner = trainer.learner if trainer.shards is None else trainer.shards.gathered()
    return Result(folder.path, learner, state, session.figures, stopped_early=session.watch.stopped)


def finish(session: Session) -> None:
    """Compare with the start, leave the best model, and write the last line of the metrics."""
    trainer, reporter, held_out = session.trainer, session.reporter, session.held_out
    if session.checkpoints.before and session.figures:
        reporter.change(session.checkpoints.before, session.figures)
    if line := session.checkpoints.leave_model():
        reporter.journal.say(line)
    values: dict[str, Any] = {"seconds": time.monotonic() - session.started}
    if trainer.averaged is not None and not session.run.evaluate_averaged:
        values["averaged"] = {
            split: held_out.measure(trainer, split, averaged=True)
            for split in held_out.streams
            if held_out.has(split)
        }
    if rows := realized_shares(trainer.mixture, trainer.state):
        values["shares"] = as_record(rows)
        for line in share_lines(rows):
            reporter.journal.say(line)
    reporter.end(values)


def finish_run(
    run: Run, corpora: Corpora, parallel: Parallel, origin: Mapping[str, str], title: str = ""
) -> History:
    """Return the figures of ``run``, which is trained to its end unless it was already.

    ``origin`` (on rank 0; see ``origin_of``) tells apart runs of equal settings. ``title`` is
    logged if the run is trained. Raises ConfigError if the folder holds a run of other settings or
    of another origin, TrainingError if a signal stopped it.
    """
    with RunFolder(run.folder, parallel).locked() as folder:
        run = folder.resolve(run)
        of_main(parallel, lambda: folder.check_same(run, origin))
        history = to_history(of_main(parallel, lambda: evaluations(folder.path)))
        if history.ended:
            return history
        if parallel.is_main:
            log.info("%s", title)
        result = train_in(folder, run, corpora)
        if result.state.step < run.steps and not result.stopped_early:
            raise TrainingError(
                f"{folder.path}: stopped at step {result.state.step} of {run.steps}; the "
                "same command resumes it"
            )
        return to_history(of_main(parallel, lambda: evaluations(folder.path)))


def of_main(parallel: Parallel, function: Callable[[], Any]) -> Any:
    """Return a JSON value of rank 0's function, or raise its error, on every rank."""
    value, failure = None, None
    if parallel.is_main:
        try:
            value = function()
        except XlmError as error:
            failure = error
    value, reason = parallel.broadcast([value, str(failure or "")])
    if failure is not None:
        raise failure
    if reason:
        raise SaidByMain(reason)
    return value
