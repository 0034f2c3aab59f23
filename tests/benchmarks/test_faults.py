"""The program that breaks everything: each kind of fault, a few trials."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


KINDS = (
    {"kills": 2, "save": 2, "damage": 30, "hostile": 5, "malformed": 20},
    {"updates": 2, "nonfinite": 1, "endurance": 1, "far": 2, "preparing": 1},
)
"""The least numbers of trials; kinds of a group are tried in one process."""


@pytest.mark.parametrize("least", KINDS)
def test_a_few_trials_of_each_kind(least: dict[str, int], tmp_path: Path) -> None:
    """In a process of its own: the trials fork it."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--quick", "--only", *least]
        + ["--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))
    assert len(result["rows"]) == len(least) and result["wrong"] == {}
    for row, num in zip(result["rows"], least.values(), strict=True):
        assert row["right"] == row["trials"] >= num, row


def test_a_kind_that_was_not_ended_goes_on(tmp_path: Path) -> None:
    from benchmarks.fault_trials.common import Tally
    from benchmarks.faults import begun, merged

    tally = Tally("updates: all", "x")
    tally.add("a", "")
    tally.add("b", "burst")
    (tmp_path / "faults.json").write_text(json.dumps(merged([tally], tmp_path)))
    assert begun("updates: all", "x", 3, tmp_path).wrong == ["b: burst"]
    assert begun("updates: all", "x", 3, tmp_path).num == 2
    assert begun("updates: all", "x", 2, tmp_path).num == 0
    assert begun("other", "x", 3, tmp_path).num == 0


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
