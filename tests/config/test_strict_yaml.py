"""Plain values in YAML: what looks like a number is one, and text that looks like one is quoted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.config.command_line import RECIPE, run
from xlm.config import strict_yaml
from xlm.config.cli import parse, read, to_yaml
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
