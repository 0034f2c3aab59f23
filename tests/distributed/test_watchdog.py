"""torchrun, and what becomes of it: a rank that hangs, dies or is stopped; a launcher that goes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training import tiny
from xlm.training import checkpoint

ROOT = Path(__file__).parents[2]


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*command, "-m", "tests.distributed.misbehaving", str(folder), how],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip


def members(folder: Path) -> list[int]:
    """The processes that were started for a folder and have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_ours = os.fsencode(folder) in entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if is_ours:
            found.append(int(entry.parent.name))
    return found


def wait_until_gone(folder: Path, seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    while (left := members(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return left


def at_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        path = folder / "metrics.jsonl"
        if path.exists() and any(s >= step for s in tiny.journal(folder)):
            return
        time.sleep(0.1)
    raise AssertionError(f"never came to step {step}: {process.poll()}")


@pytest.mark.parametrize("how", ["hang", pytest.param("stop", marks=pytest.mark.slow)])
def test_a_rank_that_does_not_come_is_named_with_all_stacks(how: str, tmp_path: Path) -> None:
    process = start(tmp_path, how)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0 and not wait_until_gone(tmp_path, 40)
    assert "rank 1 of 2 did not come: the others have waited for 4 s (hang_seconds)" in said
    assert "xlm: rank 0: " in said and "its stacks:" in said
    assert (len(re.findall(r"^Thread 0x|^Current thread", said, re.MULTILINE))) >= 2
    if how == "hang":
        assert "xlm: rank 1: " in said and "misbehaving.py" in said  # where it hangs
    else:
        assert "xlm: rank 1: " not in said


def test_a_rank_that_died_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, "die")
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0 and not wait_until_gone(tmp_path, 20)
    assert "xlm pretrain: rank 1 of 2 is gone (" in said
    assert "Traceback" not in said.split("xlm pretrain: rank 1")[0]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_launcher_that_goes_leaves_nothing_but_a_checkpoint(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = start(tmp_path, "slow")
    at_step(tmp_path, 3, process)
    own = members(tmp_path) if number == signal.SIGINT else [process.pid]  # as a terminal does
    for one in own:
        os.kill(one, number)
    process.wait(timeout=60)
    assert not wait_until_gone(tmp_path, 40)
    found = checkpoint.latest(tmp_path / "checkpoints").loaded
    assert found is not None and 3 <= found.step < 200
