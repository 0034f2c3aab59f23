"""Recipes that ship are found by name, listed and copied, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlm.check import main as check
from xlm.config import recipes
from xlm.config.cli import parse
from xlm.errors import ConfigError
from xlm.recipes import Recipes, copied, listed, main
from xlm.run.config import Run

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_recipe_has_a_name_and_a_line() -> None:
    expected = {path.relative_to(RECIPES).with_suffix("") for path in RECIPES.rglob("*.yaml")}
    assert set(recipes.names()) == {path.as_posix() for path in expected}
    lines = list(listed())
    assert [line.split()[0] for line in lines] == recipes.names()
    assert all(20 < len(line) < 130 and line == line.rstrip() for line in lines)
    assert [line.split()[0] for line in listed("small/mlm")] == [
        "small/mlm", "small/mlm+clm", "small/mlm+tlm"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no recipe's name begins with 'tiny': .*sample"):
        list(listed("tiny"))


@pytest.mark.parametrize("name", ["sample/pretrain", "sample/pretrain.yaml",
                                  "recipes/sample/pretrain.yaml"])  # fmt: skip
def test_a_recipe_is_found_by_its_name(name: str) -> None:
    run = parse(Run, "pretrain", ["--config", name, "--steps=7"])
    assert (run.data, run.steps) == ("runs/sample/data", 7)


def test_a_file_of_the_folder_comes_first(elsewhere: Path) -> None:
    (elsewhere / "sample").mkdir()
    assert recipes.found("sample/pretrain") != "sample/pretrain"
    (elsewhere / "sample/pretrain").write_text("data: mine\nfolder: x\nobjectives: {}\n")
    assert recipes.found("sample/pretrain") == "sample/pretrain"


def test_a_name_that_is_none_has_near_ones() -> None:
    with pytest.raises(ConfigError, match="called 'sample/pretrian'.*did you mean sample/pretrain"):
        parse(Run, "pretrain", ["--config", "sample/pretrian"])
    with pytest.raises(ConfigError, match="other.yaml: No such file"):
        parse(Run, "pretrain", ["--config", "sample/other.yaml"])


def test_a_recipe_is_copied_once(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--copy", "sample/pretrain"])
    assert capsys.readouterr().out == "written: pretrain.yaml\n"
    original = (RECIPES / "sample/pretrain.yaml").read_bytes()
    assert (elsewhere / "pretrain.yaml").read_bytes() == original
    with pytest.raises(ConfigError, match="pretrain.yaml exists already: give another name"):
        copied("sample/pretrain")
    assert copied("sample/pretrain", "mine.yaml").read_bytes() == original
    with pytest.raises(ConfigError, match="there is no file and no recipe called 'nothing/here'"):
        copied("nothing/here")
    with pytest.raises(ConfigError, match="give copy, the name of a recipe"):
        Recipes(to="mine.yaml")


def test_recipes_are_checked_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    check(["sample/pretrain"])
    assert capsys.readouterr().out.endswith("pretrain.yaml: a recipe of xlm pretrain\n")
