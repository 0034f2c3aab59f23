"""What trials share: a small run, processes that are forked from one that has imported it all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch._dynamo  # noqa: F401  # what the optimizers import when they are first used

from xlm import __main__ as program
from xlm.objectives import MaskedLM
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import ModelConfig, Run, Schedule, Stopping

STEPS = 12
MOST_SECONDS = [math.inf]
"""After so long a kind of fault starts no further trial; set by ``--minutes``."""


@dataclass
class Tally:
    """The trials of one kind."""

    kind: str
    must: str
    """What every trial has to show."""
    num_right: int = 0
    wrong: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    def add(self, name: str, problem: str) -> None:
        """Count a trial; ``problem`` is empty if it was right."""
        if problem:
            self.wrong.append(f"{name}: {problem}"[:300])
        else:
            self.num_right += 1

    @property
    def num(self) -> int:
        """The number of trials so far."""
        return self.num_right + len(self.wrong)

    @property
    def is_over(self) -> bool:
        """Whether no further trial is to be started."""
        return time.monotonic() > self.started + MOST_SECONDS[0]

    def row(self) -> dict[str, object]:
        """Return the line of the table."""
        return {
            "kind": self.kind,
            "must show": self.must,
            "trials": self.num,
            "right": self.num_right,
            "s": round((self.ended or time.monotonic()) - self.started),
        }


def prepared(folder: Path) -> Path:
    """Prepare a little English and Nepali, and pairs of the two."""
    train, valid = (
        {name: f"sample:{split}.{name}.txt" for name in ("en", "ne")}
        for split in ("train", "valid")
    )
    prepare(
        Prepare(
            folder=str(folder), workers=1, vocabulary=Vocabulary(size=500),
            text=Texts(train=train, valid=valid), max_sentences=dict.fromkeys(train, 60),
            pairs=Aligned(train={"en-ne": list(valid.values())}),
        )
    )  # fmt: skip
    return folder


def run_of(data: Path, folder: Path, **changes: object) -> Run:
    """A run of milliseconds an update, with averages, evaluations and a best."""
    settings: dict[str, object] = {
        "objectives": {
            "mlm": MaskedLM(languages=["en", "ne"], rows=2, length=24),
            "tlm": MaskedLM(pairs=["en-ne"], tokens=400, length=200, num_lengths=2),
        },
        "model": ModelConfig(dim=16, num_layers=1, num_heads=2, max_positions=256),
        "schedule": Schedule(kind="constant", peak_lr=3e-3, warmup_steps=0),
        "stopping": Stopping(metric="nats"), "average": 0.9, "evaluate_every": 3, "save_every": 2,
        "keep_last": 1, "report_every": 1, "steps": STEPS, "group_size": 2, "tensorboard": False,
        "device": "cpu", "order": "together",
    }  # fmt: skip
    return Run(data=str(data), folder=str(folder), **{**settings, **changes})  # type: ignore[arg-type]


def digest(folder: Path) -> str:
    """The bits of the last state and of the best model that a finished run has left."""
    found = hashlib.sha256()
    last = max((folder / "checkpoints").glob("step-*"))
    for path in (last / "model.safetensors", last / "optimizer.safetensors"):
        found.update(path.read_bytes())
    found.update((folder / "model/model.safetensors").read_bytes())
    return found.hexdigest()


def forked(function: Callable[[], object], world: int = 1) -> list[int]:
    """Call ``function`` in ``world`` processes, as torchrun would start them; return their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            _be(function, rank, world, port)
        children.append(child)
    return children


def _be(function: Callable[[], object], rank: int, world: int, port: int) -> None:
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if world > 1:
            os.environ |= {
                "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        function()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def statuses(children: list[int], seconds: float = 120.0) -> list[int]:
    """Wait for processes; return their statuses (-9: killed). Those that hang are killed: -99."""
    found, end = {}, time.monotonic() + seconds
    while len(found) < len(children):
        for child in children:
            if child not in found and (done := os.waitpid(child, os.WNOHANG))[0]:
                found[child] = os.waitstatus_to_exitcode(done[1])
        if time.monotonic() > end:
            for child in set(children) - set(found):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                found[child] = -99
        time.sleep(0.01)
    return [found[child] for child in children]


def finish(run: Run, world: int = 1) -> str:
    """Train to the end; return the digest, or what went wrong."""
    found = statuses(forked(lambda: pretrain(run), world))
    return digest(Path(run.folder)) if found == [0] * world else f"statuses {found}"


def called(*words: str, stdin: str = "") -> tuple[int, str, str]:
    """Call ``xlm`` in this process; return status, standard output and standard error.

    An exception that is no exit is status 1, with its class as the error.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _no_more_logging():
        try:
            program.run(words[0], words[1:])
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            return 1, out.getvalue(), f"Traceback: {type(error).__name__}: {error}"
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _no_more_logging() -> Iterator[None]:
    """Keep the library's log out of what is read as its one line of error."""
    import logging

    logger = logging.getLogger("xlm")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def one_line(status: int, said: str, *names: str) -> str:
    """What is wrong with a refusal: it must be status 2 and one line that has every name."""
    if status != 2 or "Traceback" in said:
        return f"status {status}: {said.strip()[-200:]}"
    if len(said.strip().splitlines()) != 1:
        return f"{len(said.strip().splitlines())} lines: {said[:150]}"
    missing = [name for name in names if name not in said]
    return f"does not name {missing}: {said[:200]}" if missing else ""


sys.dont_write_bytecode = True
