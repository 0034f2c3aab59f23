"""What training costs on one GPU: cases in the order of their worth, as many as fit a budget.

    python -m benchmarks.speed.gpu --budget 540 --out DIR
    python -m benchmarks.speed.gpu --budget 200 --out DIR        the cases that are left
    python -m benchmarks.speed.gpu --budget 150 --out DIR --cases tlm small resume

Each case is a process of its own with a limit; its figures are lines of ``results.jsonl``, written
as soon as they are known, so that a run which is cut off loses one case. A case whose expected time
is more than is left is passed over, and so is one that the folder has already. ``table.md`` and
``gpu-PRESET.json`` come last. ``--quick`` tries every case with a tiny model, on any machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.support import record
from benchmarks.support.gpu_cases import CASES
from benchmarks.support.gpu_place import Place
from benchmarks.support.gpu_tables import gpu

RESULTS = "results.jsonl"
SPARE = 1.5
"""Times its expected seconds that a case may take."""


def run_case(name: str, place: Place) -> None:
    """Run a case here; append each of its lines as soon as it is known."""
    with open(place.out / RESULTS, "a", encoding="utf-8") as lines:
        started = time.perf_counter()
        for figures in CASES[name][1](place):
            lines.write(json.dumps({"case": name, **figures}) + "\n")
            lines.flush()
        seconds = round(time.perf_counter() - started, 1)
        lines.write(json.dumps({"case": name, "done": True, "seconds": seconds}) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    path = out / RESULTS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def within(budget: float, arguments: argparse.Namespace, place: Place) -> None:
    """Run the cases that fit into so many seconds, one after the other."""
    until = time.monotonic() + budget
    done = {line["case"] for line in read(place.out) if line.get("done")}
    for name in arguments.cases or CASES:
        left = until - time.monotonic()
        expected = 0 if arguments.quick else CASES[name][0]
        if name in done or left < expected:
            why = "is done" if name in done else f"{left:.0f} s are left of {expected} s"
            sys.stdout.write(f"{name}: passed over, {why}\n")
            continue
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        if arguments.quick:
            run_case(name, place)
        elif failure := in_a_process(name, min(left, SPARE * expected), arguments):
            sys.stdout.write(f"{name}: {failure}\n")


def in_a_process(name: str, limit: float, arguments: argparse.Namespace) -> str:
    """Run a case for at most so many seconds; return why it has not ended well, else ""."""
    words = ["--case", name, "--out", str(arguments.out), "--preset", arguments.preset,
             "--vocab", str(arguments.vocab), "--device", arguments.device]  # fmt: skip
    words += ["--quick"] if arguments.quick else []
    command = [sys.executable, "-m", "benchmarks.speed.gpu", *words]
    try:
        status = subprocess.run(command, timeout=limit, cwd=record.ROOT).returncode
    except subprocess.TimeoutExpired:
        return "took too long"
    return f"ended with {status}" if status else ""


def write_tables(out: Path, preset: str) -> None:
    """Write the lines as tables, and as the JSON that the documents show."""
    lines = [line for line in read(out) if not line.get("done")]
    rows = [line for line in lines if "tokens_per_second" in line]
    others = [line for line in lines if "tokens_per_second" not in line]
    result = {"preset": preset, "rows": rows, "lines": others}
    (out / "table.md").write_text(gpu(result) + "\n")
    record.write(f"gpu-{preset}", result, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=500, help="seconds in all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="some, in this order")
    parser.add_argument("--case", choices=CASES, help="one case, in this process")
    parser.add_argument("--preset", default="xlm-15")
    parser.add_argument("--vocab", type=int, default=95000)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="try every case in seconds")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    place = Place.made(
        arguments.device, arguments.preset, arguments.vocab, arguments.quick, arguments.out
    )
    if arguments.case:
        run_case(arguments.case, place)
        return
    within(arguments.budget, arguments, place)
    write_tables(arguments.out, "quick" if arguments.quick else arguments.preset)


if __name__ == "__main__":
    main()
