"""Break everything on purpose, hundreds of times, and count what is noticed, kept and named.

    python -m benchmarks.faults

Each trial starts from a sound run or file and ends right or wrong; those that end wrong are listed.
``--only KIND`` runs some kinds, whose rows on file are replaced; ``--quick`` a few trials of each.
The kind ``updates`` is recorded after each run, and goes on from its row if that is not complete.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fault_trials import chains
from benchmarks.fault_trials.common import MOST_SECONDS, Tally, finish, prepared, run_of
from benchmarks.fault_trials.damage import damaged
from benchmarks.fault_trials.disks import disks
from benchmarks.fault_trials.endurance import endurance, far, nonfinite
from benchmarks.fault_trials.inputs import hostile, malformed
from benchmarks.fault_trials.kills import kills, save_window
from benchmarks.fault_trials.launched import ranks, signals
from benchmarks.fault_trials.layouts import background, memory, pieces, transitions
from benchmarks.fault_trials.preparing import preparing
from benchmarks.fault_trials.verifying import verifying
from benchmarks.support import record


def merged(tallies: list[Tally], folder: Path) -> dict[str, Any]:
    """Return the figures of this run, and those on file of kinds that it left out."""
    path = folder / "faults.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = {row["kind"].split(":")[0]: row for row in before.get("rows", ())}
    rows |= {tally.kind.split(":")[0]: tally.row() for tally in tallies}
    wrong = {**before.get("wrong", {}), **{tally.kind: tally.wrong for tally in tallies}}
    return {"rows": list(rows.values()), "wrong": {k: own for k, own in wrong.items() if own}}


def begun(kind: str, must: str, num: int, folder: Path) -> Tally:
    """Return the tally of a kind as it is on file, if it has fewer than ``num`` trials."""
    path, tally = folder / "faults.json", Tally(kind, must)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    row = next((row for row in before.get("rows", ()) if row["kind"] == kind), None)
    if row is not None and row["trials"] < num:
        tally.num_right, tally.wrong = row["right"], before["wrong"].get(kind, [])
        tally.started -= row["s"]
    return tally


def updates(data: Path, at: Path, quick: bool, folder: Path) -> Tally:
    """Run the kind that is long, and keep what it has after each run."""
    if quick:
        return chains.chains(data, at, 2, Tally(chains.KIND, chains.MUST), lambda tally: None)
    num = 100
    tally = begun(chains.KIND, chains.MUST, num, folder)

    def keep(tally: Tally) -> None:
        record.write("faults", merged([tally], folder), folder)

    return chains.chains(data, at, num, tally, keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="these kinds alone, such as kills or damage")
    parser.add_argument("--minutes", type=float, help="start no trial of a kind after so long")
    parser.add_argument("--folder", type=Path, help="write the JSON here (default: results)")
    parser.add_argument("--quick", action="store_true", help="a few trials of each kind")
    arguments = parser.parse_args()
    quick = arguments.quick
    if arguments.minutes:
        MOST_SECONDS[0] = 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data, run = prepared(place / "data"), place / "run"
        assert len(finish(run_of(data, run))) == 64, "the sound run"
        every: dict[str, Callable[[Path], Tally]] = {
            "kills": lambda at: kills(data, at, 2 if quick else 60),
            "updates": lambda at: updates(data, at, quick, arguments.folder or record.RESULTS),
            "save": lambda at: save_window(data, at, 2 if quick else 30),
            "layouts": lambda at: transitions(data, at, quick),
            "pieces": lambda at: pieces(data, at, 12 if quick else 100),
            "background": lambda at: background(data, at, 2 if quick else 50),
            "memory": lambda at: memory(at, quick),
            "nonfinite": lambda at: nonfinite(data, at, quick),
            "endurance": lambda at: endurance(data, at, quick),
            "far": lambda at: far(at, 10**6 if quick else 10**8),
            "preparing": lambda at: preparing(at, 1, 1) if quick else preparing(at, 30),
            "damage": lambda at: damaged(data, run, at, 30 if quick else 300),
            "disks": lambda at: disks(data, at, 1 if quick else 99),
            "signals": lambda at: signals(data, at, quick),
            "ranks": lambda at: ranks(data, at, quick),
            "hostile": lambda at: hostile(run, at, quick),
            "verifying": lambda at: verifying(data, at, 10**6 if quick else 10**9),
            "malformed": lambda at: malformed(data, run, at, 20 if quick else 400),
        }
        tallies = []
        for kind in arguments.only or every:
            (place / kind).mkdir()
            tally = every[kind](place / kind)
            tally.ended = time.monotonic()
            print(tally.row())
            for line in tally.wrong:
                print(f"  wrong: {line}")
            tallies.append(tally)
    if not quick or arguments.folder:
        record.write(
            "faults", merged(tallies, arguments.folder or record.RESULTS), arguments.folder
        )
    sys.exit(any(tally.wrong for tally in tallies))


if __name__ == "__main__":
    main()
