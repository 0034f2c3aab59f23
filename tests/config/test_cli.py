"""The command line as a user meets it: every field a flag with help, every mistake one line."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.command_line import RECIPE, fails, run
from xlm.config import cli as command
from xlm.config.cli import parse, run_verb
from xlm.errors import SaidByMain
from xlm.evaluate import Evaluate
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.prepare import Prepare
from xlm.run.config import Initialization, ModelConfig, Run
from xlm.tasks.classification import Classification

VERBS = {"prepare": Prepare, "pretrain": Run, "evaluate": Evaluate}
OBJECTIVES = [MaskedLM, CausalLM, CausalTLM, Translation, Classification]


# Help.


def leaves(cls: type, above: str = "") -> Iterator[str]:
    """Every field of a tree of dataclasses, dotted."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = above + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name], name + ".")
        else:
            yield name


def help_of(capsys: pytest.CaptureFixture[str], verb: str, *arguments: str) -> dict[str, str]:
    """The help line of each flag."""
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"xlm.{verb}").main(list(arguments))
    assert caught.value.code == 0
    found = {}
    text = capsys.readouterr().out
    for entry in re.split(r"\n(?=  -)", text):
        flag = re.match(r"  --([\w.]+)", entry)
        if flag:
            found[flag[1]] = entry
    return found


def explanation(entry: str) -> str:
    """The words between a flag and its type."""
    lines = re.split(r"\n\s+|(?<=\S)\s{2,}(?=\S)", entry.strip(), maxsplit=1)
    text = " ".join(lines[1].split()) if len(lines) > 1 else ""
    return re.split(r" ?\((?:required, )?type: ", text)[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_is_a_flag_with_a_help_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = help_of(capsys, verb, "--help")
    for name in leaves(VERBS[verb]):
        assert name in found, f"--{name} is no flag of xlm {verb}"
        words = explanation(found[name])
        assert len(words) > 8 and words[-1] in ".)", f"--{name}: {words!r}"


@pytest.mark.parametrize("cls", OBJECTIVES)
def test_every_field_of_an_objective_has_a_help_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cls: type
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = help_of(capsys, "pretrain", "--objectives.help", cls.__name__)
    for name in leaves(cls):
        words = explanation(found[f"objectives.{name}"])
        assert len(words) > 8, f"--objectives.{name}: {words!r}"
    named = help_of(capsys, "pretrain", f"--objectives.help={cls.__module__}.{cls.__name__}")
    assert named == found


@pytest.mark.parametrize("name, cls", [("model", ModelConfig), ("initialize", Initialization)])
def test_every_field_of_what_may_be_null_has_a_help_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, cls: type
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = help_of(capsys, "pretrain", f"--{name}.help")
    for field in leaves(cls):
        words = explanation(found[f"{name}.{field}"])
        assert len(words) > 8, f"--{name}.{field}: {words!r}"


def test_the_help_of_the_recipe_names_the_objectives(capsys: pytest.CaptureFixture[str]) -> None:
    found = " ".join(help_of(capsys, "pretrain", "-h")["objectives"].split())
    for cls in OBJECTIVES:
        assert cls.__name__ in found


# What is read.


def test_the_last_word_wins_default_file_flag(here: Path) -> None:
    Path("one.yaml").write_text(RECIPE + "steps: 5\nseed: 3\n")
    Path("two.yaml").write_text("steps: 7\nstopping: {patience: 2}\n")
    assert run("--config=one.yaml").steps == 5
    both = run("--config", "one.yaml", "--config=two.yaml", "--schedule.peak_lr", "1e-3")
    assert (both.steps, both.seed, both.group_size) == (7, 3, 8)
    assert (both.stopping.patience, both.schedule.peak_lr) == (2, 1e-3)
    assert run("--config=one.yaml", "--steps=8", "--config=two.yaml", "--seed=4").steps == 7


def test_flags_reach_into_a_recipe_s_objectives_and_model(here: Path) -> None:
    Path("r.yaml").write_text(RECIPE)
    found = run("--config=r.yaml", "--objectives.mlm.mask_rate=0.3", "--model.preset=xlm-15")
    mlm = found.objectives["mlm"]
    assert isinstance(mlm, MaskedLM)
    assert (mlm.mask_rate, mlm.languages, mlm.length) == (0.3, ["en"], 64)
    assert (found.model.dim, found.model.num_layers) == (1024, 12)
    spelt = run("--config=r.yaml", "--objectives.mlm.init_args.sampling.alpha=0.5")
    assert spelt.objectives["mlm"].sampling.alpha == 0.5
    points = run("--config=r.yaml", "--objectives.mlm.weight=[[0, 1], [10, 0.1]]")
    assert points.objectives["mlm"].weight == [[0, 1], [10, 0.1]]
    longer = run("--config=r.yaml", "--objectives.mlm.languages+=no")
    assert longer.objectives["mlm"].languages == ["en", "no"]
    added = run("--config=r.yaml", "--objectives.c=CausalLM", "--objectives.c.languages=[ne]")
    assert list(added.objectives) == ["mlm", "c"] and isinstance(added.objectives["c"], CausalLM)


def test_everything_can_be_given_as_flags(here: Path) -> None:
    found = run(
        "--data=d", "--folder=1", "--model.preset=tiny", "--tensorboard=false",
        "--objectives.mlm.class_path=MaskedLM", "--objectives.mlm.pairs=[en-no]",
    )  # fmt: skip
    assert found.folder == "1" and found.tensorboard is False
    assert found.objectives == {"mlm": MaskedLM(pairs=["en-no"])}
    assert parse(Evaluate, "evaluate", ["runs/x", "--which=latest"], "folder") == Evaluate(
        folder="runs/x", which="latest"
    )


# Mistakes.

MISTAKES = [
    # flags
    ("--stepz=3", "--stepz: no such flag; did you mean --steps?"),
    ("--step=3", "--step: no such flag; did you mean --steps?"),  # no abbreviations
    ("--steps=abc", "--steps: expected a whole number, found 'abc'"),
    ("--steps=1.5", "--steps: expected a whole number, found '1.5'"),
    ("--steps=10:30", "--steps: expected a whole number, found '10:30'"),
    ("--steps=", "--steps: expected a whole number, found nothing"),
    ("--steps", "--steps: expected a whole number, found nothing; write --steps=VALUE"),
    ("--seed=null", "--seed: expected a whole number, found 'null'"),
    ("stray", "found 'stray', expected a flag such as --config=FILE"),
    ("-s", "found '-s', expected a flag"),
    ("--peak_lr=1", "--peak_lr: no such flag; did you mean --schedule.peak_lr?"),
    ("--steps.x=1", "--steps.x: no such flag: nothing is below it"),
    ("--model.dropot=0.1", "--model.dropot: no such flag; did you mean --model.dropout?"),
    ("--model.zzz=0", "--model.zzz: no such flag: expected one of preset, dim, num_layers,"),
    ("--model.dropout=high", "--model.dropout: expected a number or null, found 'high'"),
    ("--model.preset=xlm-16", "unknown model preset 'xlm-16': expected one of xlm-15, xlm-17,"),
    ("--model=tiny", "--model: expected a mapping {key: value, ...} with keys such as preset,"),
    ("--model={preset: tiny, dims: 3}", "--model.dims: no such flag; did you mean --model.dim?"),
    (
        "--order=rotat",
        "expected one of rotate, together, original, found 'rotat'; did you mean rotate?",
    ),
    ("--tensorboard=no", "--tensorboard: expected true or false, found 'no'; write false"),
    ("--optimizer.betas=[0.9]", "--optimizer.betas: expected a list of 2 numbers, found [0.9]"),
    ("--optimizer.betas=[0.9, x]", "expected a list of 2 numbers, found [0.9, 'x']"),
    ("--stopping.streams=mlm/en", "expected a list of texts, found 'mlm/en'; write [mlm/en]"),
    ("--stopping.patience=x", "--stopping.patience: expected a whole number or null, found 'x'"),
    ("--objectives.mlm.mask_rat=1", "did you mean --objectives.mlm.mask_rate?"),
    (
        "--objectives.mlm.mask_rate=lots",
        "--objectives.mlm.mask_rate: expected a number or a list of lists of numbers, found",
    ),
    ("--objectives.mlm.mask_rate=0.9", "mask_rate must be in (0, 0.8]: found 0.9"),
    ("--objectives.mlm.languages=en", "expected a list of texts, found 'en'; write [en]"),
    ("--objectives.mlm.sampling.alpa=1", "did you mean --objectives.mlm.sampling.alpha?"),
    ("--objectives.mln.rows=1", "nothing is called 'mln': there is mlm; did you mean mlm?"),
    ("--objectives.c=CausalML", "--objectives.c: unknown class 'CausalML'; did you mean CausalLM?"),
    ("--objectives.t=Translation", "--objectives.t: Translation needs pairs: give it in init_args"),
    ("--objectives.mlm.weight=0:1,10:0", "write points as [[step, value], ...]"),
    ("--objectives=[a]", "--objectives: expected a mapping {key: value, ...}, found ['a']"),
    ("--group_size=0", "group_size must be at least 1: found 0"),
    ("--config=nowhere.yaml", "nowhere.yaml: No such file or directory: expected a YAML file"),
    ("--config", "--config: expected a YAML file, found nothing"),
    ("--config=.", ".: is a folder: expected a YAML file"),
]


@pytest.mark.parametrize(("flag", "message"), MISTAKES, ids=[flag for flag, _ in MISTAKES])
def test_a_mistake_in_a_flag_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], flag: str, message: str
) -> None:
    Path("r.yaml").write_text(RECIPE)
    assert message in fails(capsys, "pretrain", "--config=r.yaml", flag)


def test_a_flag_and_its_value_may_be_two_words(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("r.yaml").write_text(RECIPE)
    assert "--steps: expected a whole number" in fails(
        capsys, "pretrain", "--config", "r.yaml", "--steps", "many"
    )
    assert "did you mean --steps?" in fails(
        capsys, "pretrain", "--stepz", "3", "--config", "r.yaml"
    )


def test_a_flag_that_is_given_twice_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The first would go unheard; so would a bare word beside the flag of its field."""
    line = fails(capsys, "pretrain", "--seed=1", "--seed", "2")
    assert "--seed is given twice, as '1' and '2': give it once" in line
    line = fails(capsys, "evaluate", "a", "--folder=c")
    assert "--folder is given twice, as 'a' and 'c'" in line


def test_help_shows_the_bare_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("xlm.__main__").run("import", ["--help"])
    assert "usage: xlm import [SOURCE] [FOLDER]" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_one_line(
    root: Path, here: Path, debug_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    config = f"--config={root / 'recipes/debug/mlm.yaml'}"
    for folder in ("file", "file/run"):
        line = fails(capsys, "pretrain", config, f"--data={debug_data}", f"--folder={folder}")
        assert line.startswith(f"folder {folder} cannot be written (")


def test_mistakes_of_the_other_verbs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "folder missing: give it in" in fails(capsys, "evaluate")
    assert "expected one of best, latest, found 'worst'" in fails(
        capsys, "evaluate", "x", "--which=worst"
    )
    assert "--splt: no such flag; did you mean --split?" in fails(
        capsys, "evaluate", "x", "--splt=test"
    )
    assert "expected one of valid, test, found 'vald'; did you mean valid?" in fails(
        capsys, "evaluate", "x", "--split=vald"
    )
    assert "--text.trian: no such flag; did you mean --text.train?" in fails(
        capsys, "prepare", "--folder=x", "--text.trian.en=a"
    )
    Path("p.yaml").write_text("folder: x\nvocabulary: {kind: word}\n")
    assert "p.yaml:2: vocabulary.kind: expected one of unigram, bpe, fastbpe" in fails(
        capsys, "prepare", "--config=p.yaml"
    )


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(config: Evaluate) -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        command.run_verb(Evaluate, "evaluate", act, ["--folder=x"])


# Interruptions.


def test_an_interruption_and_a_full_disk_are_one_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: Run) -> None:
        raise KeyboardInterrupt

    def full(config: Run) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    def ours(config: Run) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    Path("r.yaml").write_text(RECIPE)
    for action, status, line in (
        (interrupted, 130, "xlm pretrain: interrupted\n"),
        (full, 2, "xlm pretrain: metrics.jsonl: No space left on device; free or choose a "
         "disk\n"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            run_verb(Run, "pretrain", action, ["--config=r.yaml"])
        assert caught.value.code == status and capsys.readouterr().err == line
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_verb(Run, "pretrain", ours, ["--config=r.yaml"])

    def not_main(config: Run) -> None:
        raise SaidByMain("keep_best names x")

    with pytest.raises(SystemExit) as caught:
        run_verb(Run, "pretrain", not_main, ["--config=r.yaml"])
    assert caught.value.code == 2 and capsys.readouterr().err == ""  # rank 0 prints it
