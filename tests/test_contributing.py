"""The answers of the quiz for contributors name what is there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = "docs/contributing.md"


def test_answers_name_files_and_what_is_in_them(root: Path) -> None:
    text = (root / PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([\w/.]+)` \| `(\w+)` \|$", text, re.MULTILINE)
    questions = re.findall(r"^(\d+)\. .*\?$", text, re.MULTILINE)
    assert [number for number, *_ in rows] == questions == [str(at) for at in range(1, 13)]
    for _, file, name in rows:
        defined = re.search(
            rf"^\s*(?:def|class) {name}\b", (root / file).read_text("utf-8"), re.MULTILINE
        )
        assert defined, f"{file} has no {name}"
    for file in re.findall(r"`((?:xlm|benchmarks|tests)/[\w/]+(?:\.py)?/?)`", text):
        if not re.search("NAME|VERB", file):
            assert (root / file).exists(), file
