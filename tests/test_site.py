"""The site's menu has every page, its reference every public name, and its links lead to files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
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


@pytest.fixture(scope="module")
def hook(root: Path) -> ModuleType:
    """tools/site.py, which is no part of the package."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_hook", root / "tools/site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_of_the_site_leads_to_one_of_its_files(root: Path, hook: ModuleType) -> None:
    pages = [path.relative_to(root) for path in (root / "docs").glob("*.md")]
    added = hook.outside(pages)
    assert {Path("CHANGELOG.md"), Path("recipes/xnli"), Path("recipes/xnli/xlm.yaml")} <= set(added)
    own = [path.relative_to(root) for path in (root / "docs").iterdir()]
    places = {hook.place_of(path) for path in (*own, *added)}
    num_links = 0
    for page in (*pages, *filter(hook.is_page, added)):
        text = hook.rewritten(hook.text_of(page), root / page)
        folder = os.path.dirname(hook.place_of(page))
        for link in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text):
            num_links += 1
            assert os.path.normpath(os.path.join(folder, link)) in places, f"{page}: {link}"
    assert num_links > 300


def test_links_out_of_the_pages_are_rewritten(root: Path, hook: ModuleType) -> None:
    page = root / "docs/training.md"
    assert hook.rewritten("[a](../recipes/xnli/xlm.yaml)", page) == (
        "[a](repository/recipes/xnli/xlm.yaml)"
    )
    assert hook.rewritten("[a](../README.md#two-commands)", page) == "[a](index.md)"
    assert hook.rewritten("[a](data.md#documents)", page) == "[a](data.md#documents)"
    for same in ("[a](https://a.b/c.md)", "[a](#updates)", "[a](../no/such/file)"):
        assert hook.rewritten(same, page) == same
    benchmarks = root / "benchmarks/README.md"
    assert hook.rewritten("[a](../docs/training.md)", benchmarks) == "[a](../../training.md)"
