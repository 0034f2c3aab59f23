"""Whether a model of one vocabulary is trained as by the version before there were several.

    git worktree add ../older 3ec6740
    python -m benchmarks.speed.one_table --against ../older

Both versions train the same small model on the sample corpus, each in a process of its own and on
one thread, round by round in turn (A B B A ...). The figure is the processor time of whole updates:
the median of each round, and the median of the rounds' ratios. The weights of the last checkpoint
and all losses must be equal, bit for bit. Nothing is dropped: with dropout this version computes
less of the last layer, is faster for that reason, and draws other numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.support import record
from xlm.prepare import Prepare, Texts, Vocabulary, prepare

GOAL = 0.99
"""The least speed of this version, over that of the one before."""
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0}
SHAPE: dict[str, Any] = {
    "model": {"dim": 256, "num_layers": 6, "num_heads": 4, **PLAIN},
    "rows": 16, "length": 64, "steps": 16,
}  # fmt: skip
QUICK: dict[str, Any] = {
    "model": {"dim": 32, "num_layers": 2, "num_heads": 2, **PLAIN},
    "rows": 4, "length": 16, "steps": 6,
}  # fmt: skip
WORKER = record.ROOT / "benchmarks" / "support" / "timed_training.py"


class Version:
    """A checkout's library in a process that trains whenever it is asked to."""

    def __init__(self, checkout: Path, settings: dict[str, Any]):
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(settings)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=checkout,
        )  # fmt: skip

    def trained(self, folder: Path) -> dict[str, Any]:
        """Train in a folder; return milliseconds of updates and digests."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args}: ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(
    here: Path, against: Path, shape: dict[str, Any], rounds: int, folder: Path
) -> dict[str, Any]:
    """Train in turn; return the times, their ratio, and whether all results are equal."""
    source = {"en": "sample:train.en.txt"}
    text = Texts(train=source, valid={"en": "sample:valid.en.txt"})
    vocabulary = Vocabulary(size=700)
    prepare(Prepare(folder=str(folder / "data"), text=text, vocabulary=vocabulary, workers=1))
    settings = {**shape, "data": str(folder / "data")}
    versions = {"now": Version(here, settings), "before": Version(against, settings)}
    results: list[dict[str, dict[str, Any]]] = []
    for number in range(rounds):
        names = list(versions)[:: 1 if number % 2 == 0 else -1]
        results.append({n: versions[n].trained(folder / f"{n}-{number}") for n in names})
    for version in versions.values():
        version.close()
    times = [{name: median(found["ms"]) for name, found in one.items()} for one in results]
    speed = median(one["before"] / one["now"] for one in times)
    return {
        "rounds": rounds,
        "updates of a round": shape["steps"],
        "ms": round(median(one["now"] for one in times), 1),
        "before, ms": round(median(one["before"] for one in times), 1),
        "speed, over that before": round(speed, 3),
        "goal": f"{GOAL:g}",
        "equal weights": _equal(results, "weights"),
        "equal losses": _equal(results, "losses"),
    }


def _equal(results: list[dict[str, dict[str, Any]]], name: str) -> str:
    return "yes" if len({found[name] for one in results for found in one.values()}) == 1 else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="a checkout of the version before")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one short round; only printed")
    arguments = parser.parse_args()
    if arguments.against is None and not arguments.quick:
        parser.error("--against is missing: give a checkout of the version before")
    against = record.ROOT if arguments.against is None else arguments.against.resolve()
    shape, rounds = (QUICK, 1) if arguments.quick else (SHAPE, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        row = compare(record.ROOT, against, shape, rounds, Path(folder))
    sys.stdout.write(f"{json.dumps(row)}\n")
    if not arguments.quick:
        record.write("one_table", {"rows": [row], "threads": 1})


if __name__ == "__main__":
    main()
