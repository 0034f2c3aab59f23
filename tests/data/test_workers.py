"""The processes of `xlm prepare` end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def children(process: int) -> list[int]:
    """The processes that ``process`` started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parts[1]) == process:
            found.append(int(entry.parent.name))
    return found


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_no_worker_outlives_prepare(number: signal.Signals, status: int, tmp_path: Path) -> None:
    text = (ROOT / "xlm/sample/train.ne.txt").read_text(encoding="utf-8")
    (tmp_path / "ne.txt").write_text(text * 800, encoding="utf-8")
    flags = ["--workers=2", "--vocabulary.size=500", "--vocabulary.num_draws=400"]
    # a shell's background job ignores interrupts, and so would what it starts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "xlm", "prepare", "--folder=d", *flags, "--text.train={ne: ne.txt}"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 120
    while len(found := children(process.pid)) < 3 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert process.poll() is None, "the text is too short to be interrupted"
    time.sleep(0.1)
    if number == signal.SIGINT:  # as a terminal does: to all of them
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    end = time.monotonic() + 20
    while any(map(is_there, found)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [one for one in found if is_there(one)]
    if number == signal.SIGINT:
        assert said.splitlines()[-1] == "xlm prepare: interrupted" and "Traceback" not in said
        assert sorted(path.name for path in tmp_path.iterdir()) == [".d.parts", "ne.txt"]
