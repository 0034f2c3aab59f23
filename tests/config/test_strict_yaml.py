"""Plain values in YAML: what looks like a number is one, and text that looks like one is quoted."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.config.command_line import RECIPE, run
from xlm.config import strict_yaml
from xlm.config.cli import parse, read, to_yaml
from xlm.errors import ConfigError
from xlm.evaluate import Evaluate
from xlm.objectives.masked import MaskedLM


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"), ("No", "No"), ("yes", "yes"), ("on", "on"), ("y", "y"),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None),
        ("10:30", "10:30"), ("1:30.5", "1:30.5"), ("2024-01-01", "2024-01-01"),
        ("010", 10), ("-7", -7), ("1_000", 1000), ("0x1F", 31), ("0o17", "0o17"),
        ("1e-3", 1e-3), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-2.5e+3", -2500.0),
        (".inf", float("inf")), ("1e", "1e"), ("e5", "e5"), ("_1", "_1"), (".", "."),
        ("{no: 1, 010: 2, 1e3: 3, null: 4}", {"no": 1, "010": 2, "1e3": 3, "null": 4}),
        ("[no, 'true', 1]", ["no", "true", 1]),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)  # fmt: skip
def test_yaml_means_what_it_looks_like(text: str, expected: object) -> None:
    found = strict_yaml.load(text)
    assert found == expected and type(found) is type(expected)


def test_a_recipe_is_read_by_these_rules_too(here: Path) -> None:
    Path("r.yaml").write_text(RECIPE.replace("[en]", "[no, y]") + "steps: 010\nseed: 0x10\n")
    found = run("--config=r.yaml", "--objectives.mlm.rows=012")
    assert found.objectives["mlm"] == MaskedLM(languages=["no", "y"], length=64, rows=12)
    assert (found.steps, found.seed) == (10, 16)
    flags = run("--config=r.yaml", "--objectives.mlm.languages=[on, no]")
    assert flags.objectives["mlm"].languages == ["on", "no"]


@pytest.mark.parametrize("text", ["no", "10:30", "1e5", "010", "true", "<<", "=", "0o7"])
def test_text_that_looks_like_something_else_is_written_in_quotes(here: Path, text: str) -> None:
    config = Evaluate(folder=text, json=text)
    Path("e.yaml").write_text(to_yaml(config))
    assert read(Evaluate, Path("e.yaml")) == config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", open("printed.yaml", "w"))  # noqa: SIM115
        with pytest.raises(SystemExit):
            parse(Evaluate, "evaluate", [f"--folder={text}", f"--json={text}", "--print_config"])
        sys.stdout.close()
    assert read(Evaluate, Path("printed.yaml")) == config


NESTED = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[" * 100_000, 1, "nest"),
        ("[" * 2_000 + "]" * 2_000, 0, "are nested too deep"),
        ("a: " + "9" * 5000, 1, "a number of 5,000 digits"),
        ("a: 0x" + "f" * 5000, 1, "a number of 5,002 digits"),
        (NESTED, 6, "more than 1,000,000 values, aliases written out"),
        ("a: &a [*a]", 1, "an alias stands inside what it names"),
        ("a: &a {<<: *a}", 1, "an alias stands inside what it names"),
        ("[a, b]: 1", 1, "a list or a mapping stands where a key was expected"),
        ("k" * 999 + ": 1\n" + "k" * 999 + ": 2", 2, "appears twice"),
        ("a: b\0c", 0, "the character"),
        ("a: !!int x", 1, "does not fit its tag"),
        ("a: [b.jsonl?column=c]", 1, r"got '\?'; put a text that holds a \"\?\" in quotes"),
        ("a: !!timestamp x", 1, "does not fit its tag"),
        ("a: !!set [x]", 1, "does not fit its tag"),
        ("a: !!python/object:os.system x", 1, "could not determine a constructor"),
        ("".join(f"k{at}: 1\n" for at in range(30_000)) + "k7: 1", 30001, "k7 appears twice"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_at_once(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    place = f"{path}:{line}: " if line else f"{path}: "
    start = time.monotonic()
    with pytest.raises(ConfigError, match=message) as caught:
        strict_yaml.compose_file(str(path))
    said = str(caught.value)
    if "are nested too deep" in said:  # some releases of libyaml know the line
        said = said.replace(f"{path}:1: ", place)
    assert said.startswith(place) and len(str(caught.value)) < 300 + len(str(path))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("path", ["missing", ".", "/dev/zero", "a\0b"])
def test_what_is_no_file_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="expected a YAML file"):
        strict_yaml.compose_file(str(tmp_path / path))


def test_large_recipes_mean_the_same() -> None:
    text = "".join(f"k{at}: no\nn{at}: 0x1F\nl{at}: [yes, 1e3, ~, 010]\n" for at in range(4_000))
    found = strict_yaml.load(text)
    assert len(text) > strict_yaml.LARGE
    assert (found["k7"], found["n7"], found["l7"]) == ("no", 31, ["yes", 1e3, None, 10])
