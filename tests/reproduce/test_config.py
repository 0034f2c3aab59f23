"""The settings of a study: what cannot work is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from xlm.errors import ConfigError
from xlm.reproduce import Reproduce


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"text": None},
            "text is missing: give a directory that holds LANG/train.txt for ne, hi, en",
        ),
        ({"related": "ne"}, "expected three different languages"),
        ({"sentences": 0}, "sentences must be at least 1: found 0"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, r"seeds must be distinct numbers, each at least 0: found \[1, 1\]"),
        ({"old_seeds": [-1]}, "old_seeds must be distinct numbers, each at least 0"),
        ({"sizes": [3000]}, "sizes has 3000: expected sizes above sentences, which is 3000"),
        ({"tests": {"test": "x"}}, "tests names a text test"),
    ],
)
def test_what_cannot_work_is_refused(changed: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"study": "nepali", "folder": "x", "text": "y", **changed}
    with pytest.raises(ConfigError, match=said):
        Reproduce(**given)


def test_the_rows_are_those_of_the_paper() -> None:
    config = Reproduce(
        study="nepali", folder="x", text="y", target="mai", related="bho", unrelated="fr"
    )
    rows = ["+".join(row) for row in config.rows]
    assert rows == ["mai", "mai+fr", "mai+bho", "mai+fr+bho"]
