"""The list of the models of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xlm.analysis.study import StudyModel, read_study
from xlm.errors import DataError


def entry(arm: str, seed: int, parent: str | None, **more: Any) -> dict[str, Any]:
    return {
        "arm": arm, "seed": seed, "parent": parent, "directions": [], "updates": 10,
        "folder": f"{arm}-{seed}", **more,
    }  # fmt: skip


def test_models_and_their_parents(tmp_path: Path) -> None:
    entries = [
        entry("base", 0, None), entry("base", 1, None), entry("m2m", 1, "base"),
        entry("o2m", 0, "elsewhere/model"),
        entry("o2m", 0, "m2m", updates=20, folder="later"),
    ]  # fmt: skip
    path = tmp_path / "models.json"
    path.write_text(json.dumps(entries))
    expected = [
        StudyModel("base, seed 0", tmp_path / "base-0", None),
        StudyModel("base, seed 1", tmp_path / "base-1", None),
        StudyModel("m2m, seed 1", tmp_path / "m2m-1", tmp_path / "base-1"),
        StudyModel("o2m, seed 0, 10 updates", tmp_path / "o2m-0", tmp_path / "elsewhere/model"),
        StudyModel("o2m, seed 0, 20 updates", tmp_path / "later", tmp_path / "m2m-1"),
    ]
    assert read_study(path) == read_study(tmp_path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "found no JSON"),
        ("{}", "expected a list of models"),
        ("[]", "expected a list of models"),
        (
            '[{"arm": "a", "seed": "0", "folder": "f"}]',
            "model 1 is .*expected arm, seed and folder",
        ),
        (json.dumps([entry("a", 0, None)] * 2), "'a, seed 0, 10 updates' is listed twice"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "models.json"
    path.write_text(content)
    with pytest.raises(DataError, match=f"models.json: .*{message}"):
        read_study(path)
