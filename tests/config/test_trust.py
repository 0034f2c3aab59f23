"""Which classes a file may name; the right values are what was, or was not, imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from xlm.config.cli import parse, read
from xlm.config.trust import Trust, Untrusted
from xlm.errors import ConfigError
from xlm.objectives import MaskedLM
from xlm.run.config import Run
from xlm.tasks import Classification

MODULE = "stranger_of_the_tests"
SOURCE = """
import dataclasses
from pathlib import Path

from xlm.objectives import MaskedLM

Path(__file__).with_name("ran").touch()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mine(MaskedLM):
    pass
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module that leaves a trace when it is imported."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop(MODULE, None)


def recipe(folder: Path, path: str) -> Path:
    own = {"class_path": path, "init_args": {"languages": ["en"]}}
    tree = {"data": "d", "folder": "f", "model": {"preset": "tiny"}, "objectives": {"mine": own}}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder / "config.yaml"


def test_a_file_from_elsewhere_imports_nothing(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code)
    sys.path.insert(0, str(code))  # as in the folder of `python -m xlm.evaluate`
    with pytest.raises(ConfigError) as caught:
        read(Run, recipe(code, f"{MODULE}.Mine"))
    line = str(caught.value)
    assert line.startswith(f"{code / 'config.yaml'}:7: objectives.mine: class_path '{MODULE}.Mine'")
    assert "say --trust FOLDER" in line and f"{MODULE}.py" in line
    assert not (code / "ran").exists() and MODULE not in sys.modules


def test_a_class_of_the_folder_that_is_trusted(code: Path) -> None:
    run = read(Run, recipe(code, f"{MODULE}.Mine"), Trust(str(code)))
    assert type(run.objectives["mine"]).__name__ == "Mine" and (code / "ran").exists()
    # imported now, it may be named by any file
    assert read(Run, code / "config.yaml") == run


def test_a_recipe_is_code(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code)
    run = parse(Run, "pretrain", ["--config", str(recipe(code, f"{MODULE}.Mine"))])
    assert type(run.objectives["mine"]).__name__ == "Mine"


def test_another_folder_is_not_trusted(
    code: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    sys.path.insert(0, str(code))
    with pytest.raises(Untrusted, match=f"there is neither {MODULE}.py nor a folder"):
        Trust(str(elsewhere)).find(f"{MODULE}.Mine")
    (elsewhere / f"{MODULE}.py").write_text("")
    with pytest.raises(Untrusted, match="Python finds another .* before it"):
        Trust(str(elsewhere)).find(f"{MODULE}.Mine")
    assert not (code / "ran").exists()


def test_classes_of_the_library_and_imported_ones_are_found() -> None:
    assert Trust().find("xlm.objectives.MaskedLM") is MaskedLM
    assert Trust().find("xlm.objectives.masked.MaskedLM") is MaskedLM
    assert Trust().find("xlm.tasks.classification.Classification") is Classification
    assert Trust().find("collections.OrderedDict").__name__ == "OrderedDict"


def test_a_module_is_not_asked_for_a_name_that_it_would_import(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = type(sys)("lazy_of_the_tests")
    vars(lazy)["__getattr__"] = lambda name: (code / "ran").touch()
    monkeypatch.setitem(sys.modules, "lazy_of_the_tests", lazy)
    with pytest.raises(Untrusted, match="only classes of"):
        Trust().find("lazy_of_the_tests.Thing")
    with pytest.raises(Untrusted, match="has no such class"):
        Trust(str(code)).find("lazy_of_the_tests.Thing")
    assert not (code / "ran").exists()
