"""What a result says of the command that made it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.support import record

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["benchmarks/demo.py", "--only", "demo"], "python -m benchmarks.demo --only demo"),
        (["benchmarks/studies/nepali.py"], "python -m benchmarks.studies.nepali"),
        # of a path, which may name a machine or a person, the last two parts are kept
        (["benchmarks/demo.py", "/else/where/a/b"], "python -m benchmarks.demo a/b"),
    ],
)
def test_a_result_names_the_module_that_ran(
    words: list[str], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python puts the path of a module that it runs with -m first in sys.argv."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / words[0]), *words[1:]])
    path = record.write("some", {"rows": [{"a": "é"}]}, tmp_path)
    text = path.read_text(encoding="utf-8")
    result = json.loads(text)
    assert result["command"] == command and result["rows"] == [{"a": "é"}]
    assert str(ROOT) not in text and result["cores"] >= 1


def test_a_trial_leaves_the_results_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    assert record.write("some", {}, tmp_path / "trial") == tmp_path / "trial/some.json"
    assert not (tmp_path / "results").exists()
    assert record.write("some", {}) == tmp_path / "results/some.json"
