"""The program that breaks everything: each kind of fault, a few trials."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kinds", "least"),
    [("kills", 2), ("save", 2), ("damage", 30), ("hostile", 5), ("malformed", 20)],
)
def test_a_few_trials_of_a_kind(kinds: str, least: int, tmp_path: Path) -> None:
    """In a process of its own: the trials fork it."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--quick", "--only", kinds]
        + ["--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))
    (row,) = result["rows"]
    assert row["right"] == row["trials"] >= least and result["wrong"] == {}


def test_rows_of_other_kinds_stay(tmp_path: Path) -> None:
    from benchmarks.fault_trials.common import Tally
    from benchmarks.faults import merged

    one, other = Tally("one", "x"), Tally("other", "y")
    one.add("a", "")
    other.add("b", "burst")
    (tmp_path / "faults.json").write_text(json.dumps(merged([one, other], tmp_path)))
    again = Tally("other", "y")
    again.add("b", "")
    found = merged([again], tmp_path)
    assert [(row["kind"], row["right"]) for row in found["rows"]] == [("one", 1), ("other", 1)]
    assert found["wrong"] == {}
