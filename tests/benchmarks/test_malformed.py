"""Malformed and unusual inputs: none is a traceback, a hang or lost in silence.

``every_case()`` without steps has more than 3,000 of them, which take some minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.support.malformed import Case, problem
from benchmarks.support.malformed.every import every_case

CASES = list(every_case(recipe_step=37, model_step=3))


def test_there_are_hundreds() -> None:
    assert len(CASES) >= 300 and len({case.name for case in CASES}) > 0.95 * len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:60])
def test_a_case(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert problem(case) == ""


def test_what_is_wrong_is_found() -> None:
    def fails(folder: Path) -> None:
        raise IndexError("of our own")

    assert "a traceback: IndexError" in problem(Case("a", {}, fails))
    assert "was read" in problem(Case("a", {}, lambda folder: 1, refused="x"))
    assert "gave '1', expected '2'" in problem(Case("a", {}, lambda folder: 1, value=2))
