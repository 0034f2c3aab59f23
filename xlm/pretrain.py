"""Train a model by a recipe.

Use as ``xlm.pretrain.pretrain(Run(...))``, ``xlm pretrain --config RECIPE.yaml``,
``python -m xlm.pretrain`` or ``torchrun --nproc_per_node=8 -m xlm.pretrain``. A run that was killed
goes on from its newest sound checkpoint when it is started again with the same folder.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from xlm.command import run_verb
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.run import Run
from xlm.session import Session
from xlm.training.learner import Learner
from xlm.training.parallel import Parallel
from xlm.training.signals import stop_on_signals
from xlm.training.state import TrainState

log = logging.getLogger("xlm")

_ALONE = threading.Lock()


@dataclass(frozen=True)
class Result:
    """What a run ended with."""

    folder: Path
    learner: Learner
    """Model and heads, with the last weights."""
    state: TrainState
    figures: dict[str, dict[str, float]]
    """The last evaluation, by stream id (``mlm/ne``); empty if ``evaluate_every`` is 0."""
    stopped_early: bool
    """Whether patience was used up."""


def pretrain(run: Run, corpora: Corpora | None = None) -> Result:
    """Train until ``run.steps``, going on from ``run.folder`` if it holds checkpoints.

    ``corpora`` stands for ``run.data`` where they are in memory. Raises ConfigError, DataError,
    CheckpointError or TrainingError, each in one line.
    """
    if not str(run.folder):
        raise ConfigError("folder is empty: name the folder that the run is written to")
    if not _ALONE.acquire(blocking=False):
        raise ConfigError(
            "another pretrain is running in this process, and torch's generators are one for all "
            "threads: start it in a process of its own, or after the other"
        )
    parallel = None
    try:
        parallel = Parallel.start(run.device, tf32=run.tf32, deterministic=run.deterministic)
        parallel.check_group_size(run.group_size)
        corpora = corpora or Corpora.open(run.data)
        with locked(Path(run.folder)) if parallel.is_main else nullcontext():
            session = Session(run, corpora, parallel)
            with session.journal, stop_on_signals() as stop:
                session.train(stop)
        return Result(
            Path(run.folder), session.learner, session.state, session.figures, session.stopped_early
        )
    finally:
        if parallel is not None:
            parallel.close()
        _ALONE.release()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; raises ConfigError where another process does, or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"folder {folder} cannot be written ({error.strerror}); give another"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{folder} is being written by another run: wait for it, or give another folder"
            ) from error
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """``xlm pretrain``: see ``Run``."""

    def act(run: Run) -> None:
        result = pretrain(run)
        if result.state.step < run.steps and not result.stopped_early:
            log.info(
                "stopped at step %d of %d; the same command goes on", result.state.step, run.steps
            )

    run_verb(Run, "pretrain", act, arguments)


if __name__ == "__main__":
    main()
