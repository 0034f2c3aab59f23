"""kill -9 at any moment of ``xlm prepare`` in parts with two workers, and the same call again."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

from benchmarks.fault_trials.common import Tally, forked, statuses
from benchmarks.speed.memory import write_text
from xlm.preparation.parts import pieces, stages
from xlm.preparation.parts.work import Work, encode, read_piece
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare

LINES, PIECE_BYTES = 3000, 20_000


def preparing(folder: Path, num: int, workers: int = 2) -> Tally:
    """Kill a preparation, repeat it, and compare every file with those of one left alone."""
    tally = Tally(
        f"kill -9 of xlm prepare: {workers} workers",
        "the same bytes by the same command, at most one part a worker made again",
    )
    for seed, side in enumerate(("en", "hi")):
        write_text(folder / f"{side}.txt", LINES, seed)
    started = time.monotonic()
    problem = _finished(folder, "whole", workers)
    duration = time.monotonic() - started
    expected = "" if problem else _digest(folder / "whole")
    choose = random.Random(7)
    for trial in range(num):
        if tally.is_over:
            break
        at = duration * choose.uniform(0.1, 0.95)
        (child,) = forked(lambda: _prepare(folder, "cut", workers))
        time.sleep(at)
        os.kill(child, signal.SIGKILL)
        statuses([child])
        begun = _parts_begun(folder, "cut")
        if not (folder / "cut" / "data").exists():  # else it was just done
            problem = problem or _finished(folder, "cut", workers)
        if not problem and _digest(folder / "cut") != expected:
            problem = "not the bytes of the whole"
        if not problem and len(again := begun & _parts_begun(folder, "cut")) > workers:
            problem = f"made again: {sorted(again)}"
        tally.add(f"trial {trial}, after {at:.1f} of {duration:.1f} s", problem)
        problem = ""
        shutil.rmtree(folder / "cut", ignore_errors=True)
    return tally


def _finished(folder: Path, name: str, workers: int) -> str:
    found = statuses(forked(lambda: _prepare(folder, name, workers)), 600)
    return "" if found == [0] else f"statuses {found}"


def _parts_begun(folder: Path, name: str) -> set[str]:
    """Return the parts that were begun since the last call."""
    noted = folder / f"{name}.begun"
    found = set(noted.read_text(encoding="utf-8").splitlines()) if noted.exists() else set()
    noted.unlink(missing_ok=True)
    return found


def _note(work: Work, part: str) -> None:
    parts = work.folder.parent
    with parts.with_name(f"{parts.name}.begun").open("a", encoding="utf-8") as noted:
        noted.write(f"{part}\n")


def _read(work: Work, number: int) -> None:
    _note(work, f"lines {number}")
    read_piece(work, number)


def _encode(work: Work, number: int) -> None:
    _note(work, f"ids {number}")
    encode(work, number)


def _prepare(folder: Path, name: str, workers: int) -> None:
    pieces.PIECE_BYTES, stages.IN_PARTS_FROM = PIECE_BYTES, 1
    stages.read_piece, stages.encode = _read, _encode  # type: ignore[attr-defined]
    (folder / name).mkdir(exist_ok=True)
    texts = [str(folder / f"{side}.txt") for side in ("en", "hi")]
    prepare(
        Prepare(
            # of one name, whatever files may hold it
            folder=str(folder / name / "data"), text=Texts(train={"en": texts[0]}),
            pairs=Aligned(train={"en-hi": texts}), workers=workers,
            vocabulary=Vocabulary(kind="fastbpe", size=400, num_draws=2000),
        )
    )  # fmt: skip


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    return found.hexdigest()
