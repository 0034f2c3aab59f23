"""The command line as a user meets it: every field a flag with help, every mistake one line."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xlm.config import cli as command
from xlm.config import strict_yaml
from xlm.config.cli import parse, read, run_verb, to_yaml
from xlm.errors import ConfigError
from xlm.evaluate import Evaluate
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.prepare import Prepare
from xlm.run.config import Initialization, ModelConfig, Run
from xlm.tasks.classification import Classification

VERBS = {"prepare": Prepare, "pretrain": Run, "evaluate": Evaluate}
OBJECTIVES = [MaskedLM, CausalLM, CausalTLM, Translation, Classification]
RECIPE = """\
data: d
folder: f
objectives:
  mlm:
    class_path: MaskedLM
    init_args: {languages: [en], length: 64}
model: {preset: tiny}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], verb: str, *arguments: str) -> str:
    """The one line that a verb says when it exits with 2."""
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"xlm.{verb}").main(list(arguments))
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    prefix = f"xlm {verb}: "
    assert err.startswith(prefix) and err.endswith("\n") and err.count("\n") == 1, err
    return err[len(prefix) : -1]


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


def run(*arguments: str) -> Run:
    return parse(Run, "pretrain", arguments)


def test_what_may_be_null(here: Path) -> None:
    Path("r.yaml").write_text(RECIPE + "initialize: null\n")
    assert run("--config=r.yaml").initialize is None
    given = run(
        "--config=r.yaml", "--model=null", "--initialize.encoder=x", "--initialize.only=all"
    )
    assert given.model is None and given.initialize == Initialization(encoder="x")
    Path("s.yaml").write_text(RECIPE + "initialize: {encoder: x, partial: true}\n")
    given = run("--config=s.yaml", "--initialize.encoder=y", "--model.dim=64")
    assert given.initialize == Initialization(encoder="y", partial=True)
    assert given.shape.dim == 64 and given.shape.num_layers == 4
    assert run("--config=s.yaml", "--initialize=null").initialize is None
    Path("t.yaml").write_text(to_yaml(given))
    assert run("--config=t.yaml") == given


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"steps": "5"}, "steps: expected a whole number, found '5' (str)"),
        ({"steps": 5.0}, "steps: expected a whole number, found 5.0 (float)"),
        ({"seed": None}, "seed: expected a whole number, found None (NoneType)"),
        ({"average": "x"}, "average: expected a number, found 'x' (str)"),
        ({"order": "turn"}, "order: expected one of rotate, together"),
        ({"tensorboard": 1}, "tensorboard: expected true or false, found 1 (int)"),
        ({"objectives": [1]}, "objectives: expected a mapping"),
        ({"objectives": {"mlm": "MaskedLM"}}, "objectives: expected a mapping"),
        ({"model": {"preset": "tiny"}}, "model: expected ModelConfig, a mapping"),
        ({"schedule": 0.1}, "schedule: expected Schedule"),
        ({"initialize": "runs/x"}, "initialize: expected Initialization, a mapping"),
    ],
)
def test_another_type_in_python_is_one_line(changes: dict[str, Any], expected: str) -> None:
    settings: dict[str, Any] = {
        "data": "d", "folder": Path("f"), "objectives": {"mlm": MaskedLM(languages=["en"])},
        "model": ModelConfig(preset="tiny"), "average": 0,
    }  # fmt: skip
    assert Run(**settings).steps == 1000
    with pytest.raises(ConfigError) as caught:
        Run(**{**settings, **changes})
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)


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
    ("stray", "found 'stray' where a flag was expected, such as --config=FILE"),
    ("-s", "found '-s' where a flag was expected"),
    ("--peak_lr=1", "--peak_lr: no such flag; did you mean --schedule.peak_lr?"),
    ("--steps.x=1", "--steps.x: no such flag: nothing is below it"),
    ("--model.dropot=0.1", "--model.dropot: no such flag; did you mean --model.dropout?"),
    ("--model.zzz=0", "--model.zzz: no such flag: expected one of preset, dim, num_layers,"),
    ("--model.dropout=high", "--model.dropout: expected a number, found 'high'"),
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
    ("--objectives.mlm.mask_rate=lots", "--objectives.mlm.mask_rate: expected a number, found"),
    ("--objectives.mlm.mask_rate=0.9", "mask_rate must be in (0, 0.5]: found 0.9"),
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
    ("--config=.", ".: Is a directory: expected a YAML file"),
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


FILES = [
    # what is put in place of a part of the recipe, or behind it; the message
    (("", "stepz: 3\n"), "r.yaml:8: unknown key 'stepz'; did you mean steps?"),
    (("", "step-s: 3\n"), "r.yaml:8: unknown key 'step-s'; did you mean steps?"),
    (("", "peak_lr: 3\n"), "r.yaml:8: unknown key 'peak_lr'; did you mean --schedule.peak_lr?"),
    (("", "zzz: 3\n"), "unknown key 'zzz': expected one of data, folder, objectives, model, "),
    (("", "steps: abc\n"), "r.yaml:8: steps: expected a whole number, found 'abc'"),
    (("", "steps: 10:30\n"), "r.yaml:8: steps: expected a whole number, found '10:30'"),
    (("", "steps:\n"), "r.yaml:8: steps: expected a whole number, found nothing"),
    (("", "steps: [1]\n"), "r.yaml:8: steps: expected a whole number, found [1]"),
    (("", "steps: 3\nseed: 1\nsteps: 4\n"), "r.yaml:10: no valid YAML: steps is there twice"),
    (("", "tensorboard: no\n"), "r.yaml:8: tensorboard: expected true or false, found 'no'; write"),
    (("", "\nstopping: {metrc: x}\n"), "r.yaml:9: stopping: unknown key 'metrc'; did you mean"),
    (("", "schedule: {peak_lr: 1:30}\n"), "schedule.peak_lr: expected a number, found '1:30'"),
    (("", "initialize: 12\n"), "initialize: expected a mapping {key: value, ...} with keys such"),
    (("", "initialize: {encoder: 12}\n"), "initialize.encoder: expected text or null, found '12'"),
    (("", "initialize: {encodr: x}\n"), "r.yaml:8: initialize: unknown key 'encodr'; did you mean"),
    (("", "initialize: {}\n"), "initialize names no source: give initialize.encoder"),
    (("data: d", "data: 12"), "r.yaml:1: data: expected text, found '12'; put it in quotes: '12'"),
    (("data: d", "dta: d"), "r.yaml:1: unknown key 'dta'; did you mean data?"),
    (("data: d", ""), "data missing: give it in the file of --config, or as --data=..."),
    (("data: d\n", "data: [d\n"), "r.yaml:2: no valid YAML: expected ',' or ']'"),
    (("data: d", "\tdata: d"), "r.yaml:1: no valid YAML: found character '\\t' that cannot start"),
    (("{preset: tiny}", "tiny"), "r.yaml:7: model: expected a mapping {key: value, ...} with keys"),
    (("model: {preset: tiny}", ""), "model missing, and there is no initialize.encoder whose"),
    (("objectives:", "objectivs:"), "r.yaml:3: unknown key 'objectivs'; did you mean objectives?"),
    (("length", "lenght"), "r.yaml:6: objectives.mlm: unknown key 'lenght'; did you mean length?"),
    (("64", "long"), "r.yaml:6: objectives.mlm.length: expected a whole number, found 'long'"),
    (("64", "64, weight: 0:1,9:0"), "objectives.mlm.weight: expected a number or a list of lists"),
    (("64", "64, weight: 10:30"), "found '10:30'; write points as [[step, value], ...]"),
    (("64", "64, masked_side: frst"), "one of both, first, second, found 'frst'; did you mean"),
    (("64", "64, sampling: {shares: {en: a}}"), "r.yaml:6: objectives.mlm.sampling.shares.en: "),
    (("64", "64, languages: [hi]"), "r.yaml:6: no valid YAML: languages is there twice"),
    (("64", "1000"), "objectives.mlm.length is 1000, the model has 512 positions: raise"),
    (("[en]", "en"), "objectives.mlm.languages: expected a list of texts, found 'en'; write [en]"),
    (("[en]", "[1]"), "objectives.mlm.languages: expected a list of texts, found [1]"),
    (("[en]", "[en], pairs: [en-hi]"), "MaskedLM takes either languages or pairs: found languag"),
    (("init_args", "init_arg"), "r.yaml:6: objectives.mlm: unknown key 'init_arg'; did you mean"),
    (("init_args: {", "weight: 2\n    init_args: {"), "weight stands beside class_path: put it"),
    (("class_path: MaskedLM", "clas: x"), "r.yaml:5: objectives.mlm: no class_path: expected {cl"),
    (("    class_path: MaskedLM\n", ""), "with CLASS one of Answering, BackTranslation, Causal"),
    (("MaskedLM", "MaskedLN"), "r.yaml:5: objectives.mlm: unknown class 'MaskedLN'; did you mean"),
    (("MaskedLM", "Zzz"), "CausalTLM, Classification, Denoising, MaskedLM, Parsing, "),
    (("MaskedLM", "my_own.Thing"), "class_path 'my_own.Thing': No module named 'my_own'; is its"),
    (("MaskedLM", "xlm.objectives.masked.MaskedLN"), "has no MaskedLN; did you mean MaskedLM?"),
    (("MaskedLM", "torch.nn.Linear"), "class_path 'torch.nn.Linear' is no Objective: expected {"),
    (("MaskedLM", "xlm.objective.Objective"), "class_path 'xlm.objective.Objective' is abstract"),
    (("MaskedLM\n    init_args: {languages: [en], length: 64}", "Translation"), "needs pairs"),
]  # fmt: skip


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


@pytest.mark.parametrize(("change", "message"), FILES, ids=[message[:50] for _, message in FILES])
def test_a_mistake_in_a_recipe_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], message: str
) -> None:
    old, new = change
    assert old in RECIPE
    Path("r.yaml").write_text(RECIPE.replace(old, new, 1) if old else RECIPE + new)
    assert message in fails(capsys, "pretrain", "--config=r.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "r.yaml: is empty: expected a mapping {key: value, ...} with keys such as data,"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "r.yaml:1: expected a mapping {key: value, ...} with keys such as data,"),
        (b"just text", "found 'just text'"),
        (b"data: \xff\n", "r.yaml: no UTF-8 (invalid start byte): expected a YAML file"),
        (b"data: d\n---\ndata: e\n", "r.yaml:2: no valid YAML: but found another document"),
        (
            b"data: !!python/object:os.system x\n",
            "no valid YAML: could not determine a constructor",
        ),
        (b"data: *there\n", "r.yaml:1: no valid YAML: found undefined alias"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    Path("r.yaml").write_bytes(content)
    assert message in fails(capsys, "pretrain", "--config=r.yaml")


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


def test_the_line_of_a_mistake_in_a_resolved_config_names_it(here: Path) -> None:
    Path("r.yaml").write_text(to_yaml(run_of(RECIPE)).replace("steps: 1000", "steps: many"))
    with pytest.raises(ConfigError, match=r"r\.yaml:\d+: steps: expected a whole number"):
        read(Run, Path("r.yaml"))


def run_of(text: str) -> Run:
    Path("made.yaml").write_text(text)
    return read(Run, Path("made.yaml"))


# As a program.


def program(root: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_console_script_lists_its_verbs(root: Path, tmp_path: Path) -> None:
    names = list(importlib.import_module("xlm.__main__").VERBS)
    assert {*VERBS, "import", "export"} <= set(names)
    for arguments in ([], ["--help"], ["-h"]):
        done = program(root, "xlm", *arguments, cwd=tmp_path)
        assert done.returncode == 0 and not done.stderr
        assert all(verb in done.stdout for verb in names)
    done = program(root, "xlm", "pretrian", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"xlm: unknown verb 'pretrian': expected one of {', '.join(names)}; did you mean "
        "pretrain?\n"
    )


def test_a_mistake_in_a_program_is_one_line_without_traceback(root: Path, tmp_path: Path) -> None:
    for name in ("xlm.pretrain", "xlm"):
        arguments = ["pretrain"] if name == "xlm" else []
        done = program(root, name, *arguments, "--stepz=3", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "xlm pretrain: --stepz: no such flag; did you mean --steps?\n"


def test_a_recipe_is_trained_and_evaluated_from_the_shell(
    root: Path, tmp_path: Path, debug_data: Path
) -> None:
    config = root / "recipes/debug/mlm.yaml"
    here = [f"--data={debug_data}", "--folder=run", "--evaluate_every=100", "--save_every=100"]
    done = program(
        root, "xlm.pretrain", "--config", str(config), "--steps", "200", *here, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "step     200  mlm" in done.stderr and "probability" in done.stderr
    assert (tmp_path / "run/config.yaml").is_file()
    measured = program(root, "xlm", "evaluate", "run", "--json=figures.json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert "run step-00000200, valid text" in measured.stdout
    assert re.search(r"mlm/en: perplexity [\d.]+, unigram model [\d.]+ on the same \d+ cells",
                     measured.stdout)  # fmt: skip
    assert (tmp_path / "figures.json").is_file()


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
        (full, 2, "xlm pretrain: metrics.jsonl: No space left on device; give another file or "
         "folder\n"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            run_verb(Run, "pretrain", action, ["--config=r.yaml"])
        assert caught.value.code == status and capsys.readouterr().err == line
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_verb(Run, "pretrain", ours, ["--config=r.yaml"])
