"""How long modules take to import, and whether they load torch.

    python -m benchmarks.speed.imports --against OLDER_CHECKOUT

Each import is a fresh process, the checkouts in turn; the figure is the median of the processor's
seconds. Verbs over text alone (`xlm bleu`, `xlm prepare`) must not wait for torch.
``--quick`` imports one module once.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.support import record

MODULES = ("xlm", "xlm.bleu", "xlm.prepare", "xlm.pretrain")
CHECK = "import sys, {module}; sys.stdout.write(str('torch' in sys.modules))"


def imported(module: str, checkout: Path) -> tuple[float, bool]:
    """Import a module in a new process; return the seconds, and whether torch was loaded."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(module=module)],
        cwd=checkout, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, done.stdout == "True"


def row(module: str, checkout: Path, against: Path | None, rounds: int) -> dict[str, Any]:
    """Return a line of the table: this checkout, the other one, and the ratio."""
    own: list[float] = []
    other: list[float] = []
    loads_torch = False
    for _ in range(rounds):
        seconds, loads_torch = imported(module, checkout)
        own.append(seconds)
        if against is not None:
            other.append(imported(module, against)[0])
    found = {"module": module, "torch": "yes" if loads_torch else "no", "s": round(median(own), 2)}
    if against is not None:
        found |= {
            "before, s": round(median(other), 2),
            "ratio": round(median(own) / median(other), 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="an older checkout, measured in turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="try it; only printed")
    arguments = parser.parse_args()
    modules, rounds = (MODULES[1:2], 1) if arguments.quick else (MODULES, arguments.rounds)
    against = arguments.against and arguments.against.resolve()
    rows = [row(name, record.ROOT, against, rounds) for name in modules]
    for line in rows:
        print(line)
    if not arguments.quick:
        record.write("imports", {"rows": rows, "rounds": rounds})


if __name__ == "__main__":
    main()
