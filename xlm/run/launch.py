"""One training at a time in a process, and one process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, TrainingError, XlmError, one_line
from xlm.model.pretrained import PretrainedModel
from xlm.run.config import Run, differences
from xlm.run.selection import History, evaluations, to_history
from xlm.run.session import Session
from xlm.training.allocator import freed_memory_kept
from xlm.training.distributed.processes import Parallel
from xlm.training.signals import stop_on_signals

log = logging.getLogger("xlm")

ORIGIN = "origin.json"
"""What a run was made from, in its folder: a digest of the model and of each file."""
MOST_SHOWN = 3
"""Differences that a message lists."""
UNMEASURED = {
    "folder", "model", "report_every", "save_every", "keep_last", "tensorboard", "device",
}  # fmt: skip
"""Fields that do not change what a finished run has measured; its shape is that of its origin."""

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
        with freed_memory_kept() if parallel.device.type == "cpu" else nullcontext():
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
        return _train(run, corpora, parallel)


def _train(run: Run, corpora: Corpora, parallel: Parallel) -> Session:
    session = Session(run, corpora, parallel)
    with session.journal, stop_on_signals() as stop:
        session.train(stop)
    return session


def finish_run(
    run: Run, corpora: Corpora, parallel: Parallel, origin: Mapping[str, str], title: str = ""
) -> History:
    """What ``run`` measured; it is trained, to its end, unless it was already.

    ``origin`` (on rank 0) is what its settings do not show: ``origin_of``. ``title`` is said where
    it is trained. Raises ConfigError where the folder holds a run of other settings or another
    origin, TrainingError where a signal stopped it.
    """
    folder = Path(run.folder)
    parallel.check_group_size(run.group_size)
    with locked(folder) if parallel.is_main else nullcontext():
        _of_main(parallel, lambda: _check_same(folder, run, origin))
        history = to_history(_of_main(parallel, lambda: evaluations(folder)))
        if history.ended:
            return history
        if parallel.is_main:
            log.info("%s", title)
        session = _train(run, corpora, parallel)
        if session.state.step < run.steps and not session.stopped_early:
            raise TrainingError(
                f"{folder}: stopped at step {session.state.step} of {run.steps}; the same command "
                "goes on"
            )
        return to_history(_of_main(parallel, lambda: evaluations(folder)))


def _of_main(parallel: Parallel, function: Callable[[], Any]) -> Any:
    """What a function of rank 0 returns (JSON) or raises, on every rank: it alone reads folders."""
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
        raise ConfigError(reason)
    return value


def origin_of(model: PretrainedModel, files: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) of a model, weights and tokenizer and languages, and of each file there is."""
    digest = hashlib.sha256(f"{model.tokenizer.digest} {model.languages}".encode())
    for name, tensor in sorted({**model.transformer.state_dict(), **model.heads}.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    found = {"the model": digest.hexdigest()}
    for name in files:
        if Path(name).is_file():  # a data set of the hub is none
            with open(name, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _check_same(folder: Path, run: Run, origin: Mapping[str, str]) -> None:
    """Raise ConfigError where the folder holds another run; note the origin of a new one."""
    config, noted = folder / "config.yaml", folder / ORIGIN
    try:
        if not config.exists():
            noted.write_text(json.dumps(dict(origin), indent=1) + "\n", encoding="utf-8")
            return
        changed = differences(config.read_text(encoding="utf-8"), run, UNMEASURED)
        before = json.loads(noted.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigError(
            f"{folder}: what it was trained from cannot be read or written ({reason}); give "
            "another folder, or remove this one"
        ) from error
    changed += [f"another {name}" for name, own in origin.items() if before.get(name, own) != own]
    if changed:
        more = f" and {len(changed) - MOST_SHOWN} more" if len(changed) > MOST_SHOWN else ""
        raise ConfigError(
            f"{folder} holds a run of another recipe: {', '.join(changed[:MOST_SHOWN])}{more}; "
            "give another folder, or remove this one"
        )


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
