"""One training at a time in a process, and one process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.run import Run
from xlm.session import Session
from xlm.training.parallel import Parallel
from xlm.training.signals import stop_on_signals

_ALONE = threading.Lock()


@contextmanager
def sole_training(run: Run) -> Iterator[Parallel]:
    """This process among the others, for the one training that it does at a time."""
    if not _ALONE.acquire(blocking=False):
        raise ConfigError(
            "another training is running in this process, and torch's generators are one for all "
            "threads: start it in a process of its own, or after the other"
        )
    parallel = None
    try:
        parallel = Parallel.start(run.device, tf32=run.tf32, deterministic=run.deterministic)
        yield parallel
    finally:
        if parallel is not None:
            parallel.close()
        _ALONE.release()


def train_run(run: Run, corpora: Corpora, parallel: Parallel) -> Session:
    """Train ``run`` to its end, from its newest checkpoint if it has one; returns its session."""
    if not str(run.folder):
        raise ConfigError("folder is empty: name the folder that the run is written to")
    parallel.check_group_size(run.group_size)
    with locked(Path(run.folder)) if parallel.is_main else nullcontext():
        session = Session(run, corpora, parallel)
        with session.journal, stop_on_signals() as stop:
            session.train(stop)
    return session


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
