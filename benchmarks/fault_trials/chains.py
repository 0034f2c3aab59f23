"""kill -9 at random updates of runs that go on: MLM, TLM and CLM, dropout, DDP and FSDP2."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fault_trials.common import Tally, forked, run_of, statuses
from benchmarks.fault_trials.layouts import Layout, bits, losses
from xlm import storage
from xlm.objectives import CausalLM, MaskedLM
from xlm.pretrain import pretrain
from xlm.run.config import ModelConfig
from xlm.training import checkpoint

KIND = "kill -9 at random updates: MLM, TLM, CLM, dropout; 1 and 2 processes, DDP and FSDP2"
MUST = "bit for bit the undisturbed run"
STEPS, KILLS = 40, 5
"""Updates of a run, and how often it is killed."""
LAYOUTS: tuple[Layout, ...] = ((1, "none"), (2, "none"), (2, "full"))


def settings() -> dict[str, Any]:
    """Return what differs from the run that other trials share."""
    return {
        "objectives": {
            "mlm": MaskedLM(languages=["en", "ne"], rows=2, length=24),
            "tlm": MaskedLM(pairs=["en-ne"], tokens=400, length=200, num_lengths=2),
            "clm": CausalLM(languages=["en", "ne"], rows=2, length=24),
        },
        "model": ModelConfig(
            dim=16, num_layers=1, num_heads=2, max_positions=256, dropout=0.1,
            attention_dropout=0.1,
        ),
        "steps": STEPS, "evaluate_every": 10,
    }  # fmt: skip


def chains(
    data: Path, folder: Path, num: int, tally: Tally, keep: Callable[[Tally], None]
) -> Tally:
    """Add trials to ``tally`` until there are ``num``; ``keep`` it after each run.

    A trial is a kill. The kills of a run are right if it ends with the bits and the losses of one
    that was left alone.
    """
    whole: dict[Layout, tuple[Path, str]] = {}
    while tally.num < num and not tally.is_over:
        # By the number of trials: a program that goes on does not repeat those on record.
        choose, layout = random.Random(tally.num), LAYOUTS[tally.num // KILLS % len(LAYOUTS)]
        if layout not in whole:
            at = folder / f"whole-{layout[0]}-{layout[1]}"
            whole[layout] = at, _finished(data, at, layout)
        expected, problem = whole[layout]
        cut = folder / "cut"
        targets = sorted(choose.sample(range(1, STEPS - 1), min(KILLS, num - tally.num)))
        for target in targets:
            problem = problem or _killed(data, cut, layout, target, choose)
        problem = problem or _finished(data, cut, layout)
        if not problem and bits(cut) != bits(expected):
            problem = "not the bits of the undisturbed run"
        if not problem and losses(cut) != losses(expected):
            problem = "not its losses"
        for target in targets:
            tally.add(f"{layout}, killed in update {target} of {targets}", problem)
        shutil.rmtree(cut, ignore_errors=True)
        keep(tally)
    return tally


def _killed(data: Path, folder: Path, layout: Layout, target: int, choose: random.Random) -> str:
    """Train until ``target`` updates are reported, kill a random rank, and then the others."""
    children = _started(data, folder, layout)
    end = time.monotonic() + 120
    while _num_updates(folder) < target and time.monotonic() < end:
        if any(os.waitid(os.P_PID, own, os.WEXITED | os.WNOHANG | os.WNOWAIT) for own in children):
            break
        time.sleep(0.003)
    reached = _num_updates(folder) >= target
    time.sleep(choose.uniform(0, 0.03))
    for child in choose.sample(children, len(children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    found = statuses(children)
    return "" if reached else f"did not come to update {target}: statuses {found}"


def _finished(data: Path, folder: Path, layout: Layout) -> str:
    """Train, or go on, to the end; return what went wrong."""
    found = statuses(_started(data, folder, layout), 600)
    return "" if found == [0] * layout[0] else f"statuses {found}"


def _started(data: Path, folder: Path, layout: Layout) -> list[int]:
    """Start or go on with the run of a layout; return the ids of its processes."""
    run = run_of(data, folder, sharding=layout[1], **settings())

    def train() -> None:
        storage.sync = checkpoint.sync = lambda path: None  # type: ignore[attr-defined]  # no power is cut
        pretrain(run)

    return forked(train, layout[0])


def _num_updates(folder: Path) -> int:
    """Return the last update in the journal of a run; 0 if there is none."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return 0
    lines = [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line]
    steps = [line["step"] for line in map(json.loads, lines) if line["event"] == "train"]
    return max(steps, default=0)
