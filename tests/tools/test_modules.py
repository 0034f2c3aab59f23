"""The list of modules: made from docstrings, and current."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def modules() -> ModuleType:
    """The script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("modules", ROOT / "tools/modules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_is_current(modules: ModuleType) -> None:
    page = modules.PAGE.read_text(encoding="utf-8")
    assert modules.rebuilt(page, ROOT / "xlm") == page, "run python tools/modules.py"


def test_every_module_and_every_room_has_a_docstring(modules: ModuleType) -> None:
    assert not [str(path) for path in (ROOT / "xlm").rglob("*.py") if not modules.summary(path)]


def test_a_row_is_the_first_paragraph_of_a_docstring(modules: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "thing"
    (package / "room" / "empty").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "verb.py").write_text('"""Do it."""\n')
    (package / "room" / "__init__.py").write_text('"""The idea."""\n')
    (package / "room" / "b.py").write_text('"""Split ``a|b``\nat bars.\n\nMore.\n"""\n')
    (package / "room" / "a.py").write_text("x = 1\n")
    (package / "room" / "empty" / "__init__.py").touch()
    old = f"before\n{modules.BEGIN}\nold\n{modules.END}\nafter\n"
    assert modules.rebuilt(old, package) == (
        f"before\n{modules.BEGIN}\n\n"
        "| `thing/` | |\n| --- | --- |\n| `thing/verb.py` | Do it. |\n\n"
        "| `thing/room/` | The idea. |\n| --- | --- |\n"
        "| `a.py` |  |\n| `b.py` | Split `a\\|b` at bars. |\n\n"
        f"{modules.END}\nafter\n"
    )
    with pytest.raises(ValueError, match="add them"):
        modules.rebuilt("nothing", package)
