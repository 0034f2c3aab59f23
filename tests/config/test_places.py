"""Values out of range, and mistakes that a verb finds later, name file, line and key."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import pytest

from tests.config.command_line import RECIPE, fails, run
from xlm.config.cli import parse, read
from xlm.errors import ConfigError
from xlm.prepare import Prepare
from xlm.run.config import Run

LINES = RECIPE.count("\n")


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ("steps: -1\n", 1, "steps must be "),
        ("schedule:\n  kind: cosine\n  period: 0\n", 3, "schedule.period is 0"),
        ("schedule: {kind: wsd, decay_steps: 0}\n", 1, "schedule.decay_steps is 0"),
        ("schedule: {kind: wsd}\n", 1, "schedule: decay_steps is 0"),
        ("optimizer:\n  lr_scale: 1\n", 2, "optimizer"),
        ("steps: 7\nschedule:\n  peak_lr: .nan\n", 3, "schedule.peak_lr must be "),
    ],
)
def test_a_recipe(here: Path, more: str, line: int, message: str) -> None:
    Path("r.yaml").write_text(RECIPE + more)
    with pytest.raises(ConfigError) as caught:
        read(Run, Path("r.yaml"))
    assert str(caught.value).startswith(f"r.yaml:{LINES + line}: {message}")


def test_the_settings_of_an_objective(here: Path) -> None:
    Path("r.yaml").write_text(RECIPE.replace("length: 64", "length: 64, mask_rate: 2.0"))
    number = next(at for at, row in enumerate(RECIPE.split("\n"), 1) if "length: 64" in row)
    with pytest.raises(ConfigError, match=rf"^r\.yaml:{number}: objectives\.mlm\.mask_rate must "):
        read(Run, Path("r.yaml"))
    # the last word wins, and is the one that is named
    with pytest.raises(ConfigError, match=r"^--objectives\.mlm\.mask_rate must be .* found 3\.0"):
        run("--config=r.yaml", "--objectives.mlm.mask_rate=3")
    run("--config=r.yaml", "--objectives.mlm.mask_rate=0.3")


def test_the_shape_of_a_model(here: Path) -> None:
    Path("r.yaml").write_text(RECIPE.replace("{preset: tiny}", "\n  preset: tiny\n  dim: 31"))
    number = 1 + Path("r.yaml").read_text().split("\n").index("  dim: 31")
    with pytest.raises(ConfigError, match=rf"^r\.yaml:{number}: model\.dim 31 is not divisible"):
        read(Run, Path("r.yaml"))


def test_what_a_verb_finds_later(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("en.txt").write_text("a few words\n" * 20)
    Path("p.yaml").write_text(
        "folder: out\ntext: {train: {en: en.txt}}\nvocabulary:\n  size: 9999\n"
    )
    line = fails(capsys, "prepare", "--config=p.yaml", "--workers=1")
    assert line.startswith("p.yaml:4: vocabulary.size 9999: the text yields at most")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--vocabulary.size=0", "--vocabulary.size must be from 1 to"),
        ("--vocabulary.size=99999999999", "--vocabulary.size must be from 1 to"),
        ("--vocabulary.alpha=-1", "--vocabulary.alpha must be from 0 to 100"),
        ("--vocabulary.alpha=.nan", "--vocabulary.alpha must be from 0 to 100"),
        ("--vocabulary.num_draws=0", "--vocabulary.num_draws must be at least 1"),
        (
            "--vocabulary.character_coverage=0.5",
            "--vocabulary.character_coverage must be from 0.98",
        ),
        ("--max_bytes=0", "--max_bytes must be at least 1"),
        ("--pairs.train={en-en: [a, b]}", "--pairs.train.en-en: a pair needs two"),
    ],
)
def test_flags_of_prepare(flag: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Prepare, "prepare", ["--folder=out", "--text.train={en: en.txt}", flag])
    assert str(caught.value).startswith(message)


def test_coverage_is_for_sentencepiece() -> None:
    flags = ["--vocabulary.kind=fastbpe", "--vocabulary.character_coverage=0.99"]
    with pytest.raises(ConfigError, match="only applies to unigram and bpe, and kind is fastbpe"):
        parse(Prepare, "prepare", ["--folder=out", "--text.train={en: en.txt}", *flags])


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("HOME", "/u/maya")
    Path("p.yaml").write_text(
        "folder: ~/data\ntext:\n  train: {en: ~/en.txt, ne: 'datasets:~/ne?column=a', hi: a~/b}\n"
        "vocabulary: {folder: ~/other/data}\n"
    )
    found = read(Prepare, Path("p.yaml"))
    assert found.folder == "/u/maya/data" and found.vocabulary.folder == "/u/maya/other/data"
    assert found.text.train == {
        "en": "/u/maya/en.txt", "ne": "datasets:/u/maya/ne?column=a", "hi": "a~/b"
    }  # fmt: skip
    assert parse(Prepare, "prepare", ["--config=p.yaml", "--folder=~/x"]).folder == "/u/maya/x"


def test_a_recipe_from_a_pipe(here: Path) -> None:
    os.mkfifo("pipe")
    feeder = threading.Thread(target=lambda: Path("pipe").write_text(RECIPE + "steps: 7\n"))
    feeder.start()
    assert read(Run, Path("pipe")).steps == 7
    feeder.join()


def test_characters_and_numbers_arrive_as_they_are(here: Path) -> None:
    Path("p.yaml").write_text(
        "# नेपाली\nfolder: 'डेटा: [x]'\ntext: {train: {ne: \"a\\tb'c\", no: 'true'}}\n"
        "vocabulary: {alpha: 1e-3}\nseed: 010\n",
        encoding="utf-8",
    )
    found = read(Prepare, Path("p.yaml"))
    assert (found.folder, found.seed) == ("डेटा: [x]", 10)
    assert found.text.train == {"ne": "a\tb'c", "no": "true"}
    assert math.isclose(found.vocabulary.alpha, 1e-3)
