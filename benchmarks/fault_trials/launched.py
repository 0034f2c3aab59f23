"""Signals to ranks and to torchrun, a rank that hangs, a rank that dies, orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.fault_trials.common import Tally, forked, run_of, statuses
from benchmarks.support.record import ROOT
from xlm.pretrain import pretrain
from xlm.run.config import write_run
from xlm.training import checkpoint

MANY = 100_000
"""Steps of a run that nobody waits for."""


def signals(data: Path, folder: Path, quick: bool) -> Tally:
    """Send each signal to a rank, and to torchrun: saved, stopped, nothing left."""
    tally = Tally("signals to ranks and to torchrun", "saved, status as documented, nothing left")
    told = [(world, 0, number) for world in (1, 2) for number in STOPPING]
    for world, rank, number in told[:1] if quick else told:
        if tally.is_over:
            break
        run = run_of(data, folder / f"told-{world}-{number}", steps=MANY)
        children = forked(lambda run=run: pretrain(run), world)  # type: ignore[misc]
        problem = _wait_for(Path(run.folder))
        os.kill(children[world - 1 - rank], number)
        found = statuses(children, 60)
        problem = problem or ("" if found == [0] * world else f"statuses {found}")
        tally.add(f"{signal.Signals(number).name}, world {world}", problem or _saved(run.folder))
    for number in [] if quick else [*STOPPING, signal.SIGKILL]:
        if tally.is_over:
            break
        name = f"torchrun-{number}"
        process = launch(data, folder / name)
        problem = _wait_for(folder / name)
        ours = members(folder / name) if number == signal.SIGINT else [process.pid]
        for one in ours:
            os.kill(one, number)
        process.communicate(timeout=90)
        left = wait_until_gone(folder / name, 45)
        problem = problem or (f"left: {left}" if left else _saved(str(folder / name)))
        tally.add(f"torchrun, {signal.Signals(number).name}", problem)
    return tally


STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def ranks(data: Path, folder: Path, quick: bool) -> Tally:
    """Stop or kill a rank under torchrun: it is named within the limit, and nothing is left."""
    tally = Tally("a hung and a dead rank", "named within the limit, nothing left")
    every = {
        "stopped": (signal.SIGSTOP, "rank 1 of 2 did not come: the others have waited for 5 s"),
        "killed": (signal.SIGKILL, "rank 1 of 2 is gone"),
    }
    for name, (number, line) in list(every.items())[: 0 if quick else 2]:
        process = launch(data, folder / name)
        problem = _wait_for(folder / name)
        ranked = {rank: one for one in members(folder / name) if (rank := _rank(one))}
        os.kill(ranked["1"], number)
        started = time.monotonic()
        _, said = process.communicate(timeout=120)
        left = wait_until_gone(folder / name, 45)
        seconds = time.monotonic() - started
        if line not in said:
            problem = problem or f"not named: {said[-200:]}"
        tally.add(name, problem or (f"left: {left}" if left else ""))
        print({"rank": name, "named and ended after, s": round(seconds)})
    return tally


def launch(data: Path, folder: Path) -> subprocess.Popen[str]:
    """Start two ranks of a long run under torchrun."""
    run = run_of(data, folder, steps=MANY, hang_seconds=5, save_every=MANY, evaluate_every=0)
    recipe = folder.with_name(f"{folder.name}-recipe")
    write_run(run, recipe)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["-m", "xlm.pretrain", f"--config={recipe / 'config.yaml'}"]
    return subprocess.Popen(
        [*command, *words, f"--folder={folder}"], stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _rank(process: int) -> str:
    for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
        if entry.startswith(b"RANK="):
            return entry.removeprefix(b"RANK=").decode()
    return ""


def members(folder: Path) -> list[int]:
    """The processes that were started for a run's folder and have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(f"--folder={folder}") in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path, seconds: float) -> list[int]:
    """Wait for them; kill and return those that are left."""
    end = time.monotonic() + seconds
    while (left := members(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return left


def _wait_for(folder: Path, num_lines: int = 3) -> str:
    """Wait until a run has trained a little; return what was wrong if it did not."""
    end = time.monotonic() + 90
    path = folder / "metrics.jsonl"
    while time.monotonic() < end:
        if path.exists() and path.read_bytes().count(b'"train"') >= num_lines:
            return ""
        time.sleep(0.05)
    return "did not start"


def _saved(folder: str | Path) -> str:
    found = checkpoint.latest(Path(folder) / "checkpoints").loaded
    return "" if found is not None and found.step >= 3 else "nothing was saved"
