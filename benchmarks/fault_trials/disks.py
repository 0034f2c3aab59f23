"""Disks that refuse: the run goes on, or ends with one line that names the file."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fault_trials.common import Tally, called, forked, one_line, run_of, statuses
from xlm.pretrain import pretrain
from xlm.training import checkpoint

NUMBERS = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ENAMETOOLONG,
    errno.ESTALE, errno.EACCES, errno.EINVAL,
)  # fmt: skip


def failing(number: int) -> Callable[..., Any]:
    """A call that the file system answers with an error."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def disks(data: Path, folder: Path, num: int) -> Tally:
    """Refuse writes of `xlm prepare`, of checkpoints and of metrics, by every kind of error."""
    tally = Tally("disks that refuse", "goes on and says so, or one line with the file")
    replace = os.replace
    for number in NUMBERS[:num]:
        name = errno.errorcode[number]
        try:
            os.replace = failing(number)  # type: ignore[assignment]
            target = folder / f"prepared-{name}"
            status, _, said = called(
                "prepare", f"--folder={target}", "--workers=1", "--vocabulary.size=500",
                "--text.train={ne: 'sample:valid.ne.txt'}",
            )  # fmt: skip
        finally:
            os.replace = replace
        problem = one_line(status, said, target.name, os.strerror(number))
        tally.add(f"prepare, {name}", problem or ("left" if target.exists() else ""))
        tally.add(f"save, {name}", _saves_refused(data, folder / f"saves-{name}", number))
    tally.add("metrics, a limit on files", _metrics_refused(data, folder / "metrics"))
    return tally


def _saves_refused(data: Path, folder: Path, number: int) -> str:
    """Saves of the first half are refused: the run goes on, and its last state is there."""
    write = checkpoint._write_manifest

    def writing(beside: Path, step: int, *further: Any) -> None:
        if step < 8:
            raise OSError(number, os.strerror(number))
        write(beside, step, *further)

    def act() -> None:
        checkpoint._write_manifest = writing
        pretrain(run_of(data, folder))

    found = statuses(forked(act))
    last = checkpoint.latest(folder / "checkpoints").loaded
    return "" if found == [0] and last is not None and last.step == 12 else f"status {found}"


def _metrics_refused(data: Path, folder: Path) -> str:
    """No file may grow beyond 2 KB but in the save: metrics.jsonl is cut short, the run goes on."""

    def act() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        save = checkpoint.save

        def saving(*given: Any, **named: Any) -> Path:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            try:
                return save(*given, **named)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))

        checkpoint.save = saving
        pretrain(run_of(data, folder))

    found = statuses(forked(act))
    last = checkpoint.latest(folder / "checkpoints").loaded
    if last is None or last.step != 12:
        return f"no last state: {found}"
    return "" if found in ([0], [1], [2]) else f"status {found}"
