"""The site's menu has every page of the documents, and what its reference names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import yaml

from xlm.__main__ import VERBS


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


def test_the_reference_is_the_public_names(root: Path) -> None:
    """Each module of the reference has ``__all__``; all it names is there, and nothing else."""
    names = re.findall(r"^::: ([\w.]+)$", (root / "docs/reference.md").read_text(), re.MULTILINE)
    assert len(names) == len(set(names)) > 20
    names.remove("xlm.errors")
    shown, public = {}, {}
    for name in names:
        module, _, last = name.rpartition(".")
        assert last in (listed := importlib.import_module(module).__all__), f"{name} is not public"
        shown[name] = getattr(importlib.import_module(module), last)
        public |= {f"{module}.{own}": module for own in listed if own != "main"}
    verbs = {f"xlm.{name.replace('-', '_')}" for name in VERBS} - {"xlm.import", "xlm.export"}
    assert verbs | {"xlm.convert"} <= set(public.values())
    for name, module in public.items():
        value = getattr(importlib.import_module(module), name.rpartition(".")[2])
        assert value.__doc__ and any(value is own for own in shown.values()), name
