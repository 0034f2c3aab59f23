"""How ``xlm prepare`` scales with the number of workers, in parts, on text that is made up.

    python -m benchmarks.speed.preparing [--lines 600000] [--workers 1 2]

Each number of workers prepares the same text in a process of its own, in turn, by a vocabulary that
is there already. Seconds are those of the clock, so the machine must be quiet; the processor's
stand beside them. The goal is 0.75 of the speed of one worker for each.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.speed.memory import prepare, write_text
from benchmarks.support import record

GOAL = 0.75
FEW = 20_000
"""Lines that the vocabulary is learned from."""


def measured(folder: Path, texts: Path, vocabulary: str, workers: int) -> tuple[float, float]:
    """Prepare in a process of its own; return its seconds by the clock and by the processor."""
    arguments = [str(folder), str(texts), vocabulary, str(workers)]
    command = [sys.executable, "-m", "benchmarks.speed.preparing", "--child", json.dumps(arguments)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used


def compare(lines: int, numbers: list[int], rounds: int) -> dict[str, Any]:
    """Return a row for each number of workers."""
    found: dict[int, list[tuple[float, float]]] = {number: [] for number in numbers}
    with tempfile.TemporaryDirectory() as name:
        texts = Path(name, "text")
        texts.mkdir()
        for seed, side in enumerate(("en", "hi")):
            write_text(texts / f"{side}.txt", lines, seed)
        # the pair reads the first text again
        size = sum(path.stat().st_size for path in texts.iterdir())
        size += (texts / "en.txt").stat().st_size
        few = Path(name, "few")
        few.mkdir()
        for side in ("en", "hi"):
            with open(texts / f"{side}.txt") as file:
                (few / f"{side}.txt").write_text("".join(islice(file, FEW)))
        measured(Path(name, "vocabulary"), few, "", 1)
        for number in range(rounds * len(numbers)):
            workers = numbers[number % len(numbers)]
            own = measured(Path(name, f"{number}"), texts, f"{name}/vocabulary", workers)
            found[workers].append(own)
    rows = []
    seconds = {own: statistics.median(each for each, _ in found[own]) for own in numbers}
    for workers in numbers:
        used = statistics.median(each for _, each in found[workers])
        rows.append({
            "workers": workers,
            "s": round(seconds[workers], 1),
            "processor s": round(used, 1),
            "MB/s": round(size / seconds[workers] / 1e6, 2),
            "of the speed of one for each": round(
                seconds[numbers[0]] * numbers[0] / seconds[workers] / workers, 2
            ),
            "goal": GOAL,
        })  # fmt: skip
    return {"megabytes": round(size / 1e6, 1), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=600_000, help="of each of two texts")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="try it on 5,000 lines; only printed")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        folder, texts, vocabulary, workers = json.loads(arguments.child)
        prepare(folder, texts, vocabulary or None, int(workers))
        return
    if arguments.quick:
        arguments.lines, arguments.rounds = 5000, 1
    figures = compare(arguments.lines, arguments.workers, arguments.rounds)
    for row in figures["rows"]:
        sys.stdout.write(f"{row}\n")
    if not arguments.quick:
        record.write("preparing", figures)


if __name__ == "__main__":
    main()
