"""The tutorial can be walked: every command parses, and all of them run, shortened, in order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.test_docs import VERBS, blocks, commands
from xlm.__main__ import run
from xlm.config.cli import parse

PAGE = "docs/tutorial.md"
SHORT = {
    "describe": ["--measure=false"],
    "pretrain": ["--steps=4", "--evaluate_every=4", "--save_every=4", "--report_every=2",
                 "--schedule.warmup_steps=2", "--tensorboard=false"],
    "finetune": ["--epochs=1", "--evaluate_every=1000"],
    "add-language": ["--steps=4", "--evaluate_every=2", "--schedule.warmup_steps=2",
                     "--guard=null"],
    "analyze": ["--only=[overlap]", "--untrained=false"],
}  # fmt: skip
"""Flags that make a verb's command end in seconds; a recipe's other settings stay."""


def words() -> list[list[str]]:
    return [
        own[1:] for block in blocks(PAGE) if block.language == "sh" for own in commands(block)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the files that the page shows."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE):
        if block.mark.startswith("file: "):
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.code, "utf-8")
    return tmp_path


def test_every_command_can_be_given(folder: Path) -> None:
    seen = [verb for verb, *_ in words()]
    assert {"prepare", "pretrain", "evaluate", "fill", "generate", "search", "finetune",
            "translate", "add-language", "analyze", "export", "recipes"} <= set(seen)  # fmt: skip
    (folder / "runs").mkdir()
    for verb, *arguments in words():
        cls, positional = VERBS[verb]
        parse(cls, verb, arguments, positional)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # on a busy machine
def test_the_path_is_walked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["xlm"])
    for verb, *arguments in words():
        more = SHORT.get(verb, [])
        given = {word.partition("=")[0] for word in more}
        kept = [
            word for at, word in enumerate(arguments)
            if word not in given and (at == 0 or arguments[at - 1] not in given)
        ]  # fmt: skip
        run(verb, [*kept, *more])
    made = {path.name for path in (folder / "runs").iterdir()}
    assert made == {
        "sample", "follows", "translator", "analysis", "for-transformers", "english",
        "english-data", "english-ne",
    }  # fmt: skip
    assert (folder / "english.txt").read_text().count("\n") == 3
    assert (folder / "my-pretrain.yaml").exists()
