"""The site's menu has every page of the documents, and what its reference names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import yaml


def pages(entry: Any) -> list[str]:
    """Return the pages below an entry of the menu."""
    if isinstance(entry, str):
        return [entry]
    own = entry.values() if isinstance(entry, dict) else entry
    return [page for part in own for page in pages(part)]


def test_every_page_is_in_the_menu(root: Path) -> None:
    settings = yaml.safe_load((root / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = pages(settings["nav"])
    assert len(listed) == len(set(listed))
    assert set(listed) == {path.name for path in (root / "docs").glob("*.md")}


def test_what_the_reference_names_exists(root: Path) -> None:
    names = re.findall(r"^::: ([\w.]+)$", (root / "docs/reference.md").read_text(), re.MULTILINE)
    assert len(names) > 20
    for name in names:
        module, _, last = name.rpartition(".")
        if name == "xlm.errors":
            module, last = name, "XlmError"
        assert getattr(importlib.import_module(module), last).__doc__, name
