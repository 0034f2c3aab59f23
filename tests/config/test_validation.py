"""Every key and value of a recipe is checked: a mistake is one line with its file and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.command_line import RECIPE, fails, run
from xlm.config.cli import read, to_yaml
from xlm.errors import ConfigError
from xlm.objectives.masked import MaskedLM
from xlm.run.config import Initialization, ModelConfig, Run


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


FILES = [
    # what is put in place of a part of the recipe, or behind it; the message
    (("", "stepz: 3\n"), "r.yaml:8: unknown key 'stepz'; did you mean steps?"),
    (("", "step-s: 3\n"), "r.yaml:8: unknown key 'step-s'; did you mean steps?"),
    (("", "peak_lr: 3\n"), "r.yaml:8: unknown key 'peak_lr'; did you mean --schedule.peak_lr?"),
    (("", "zzz: 3\n"), "unknown key 'zzz': expected one of data, folder, objectives, tables, "),
    (("", "steps: abc\n"), "r.yaml:8: steps: expected a whole number, found 'abc'"),
    (("", "steps: 10:30\n"), "r.yaml:8: steps: expected a whole number, found '10:30'"),
    (("", "steps:\n"), "r.yaml:8: steps: expected a whole number, found nothing"),
    (("", "steps: [1]\n"), "r.yaml:8: steps: expected a whole number, found [1]"),
    (("", "steps: 3\nseed: 1\nsteps: 4\n"), "r.yaml:10: not valid YAML: steps appears twice"),
    (("", "tensorboard: no\n"), "r.yaml:8: tensorboard: expected true or false, found 'no'; write"),
    (("", "\nstopping: {metrc: x}\n"), "r.yaml:9: stopping: unknown key 'metrc'; did you mean"),
    (("", "schedule: {peak_lr: 1:30}\n"), "schedule.peak_lr: expected a number, found '1:30'"),
    (("", "initialize: 12\n"), "initialize: expected a mapping {key: value, ...} with keys such"),
    (("", "initialize: {encoder: 12}\n"), "initialize.encoder: expected text or null, found '12'"),
    (("", "initialize: {encodr: x}\n"), "r.yaml:8: initialize: unknown key 'encodr'; did you mean"),
    (("", "initialize: {}\n"), "initialize has no source: give initialize.encoder"),
    (("data: d", "data: 12"), "r.yaml:1: data: expected text or null, found '12'; put it in"),
    (("data: d", "dta: d"), "r.yaml:1: unknown key 'dta'; did you mean data?"),
    (("data: d", ""), "data missing: give it in the file of --config, or as --data=..."),
    (("data: d\n", "data: [d\n"), "r.yaml:2: not valid YAML: expected ',' or ']'"),
    (("data: d", "\tdata: d"), "r.yaml:1: not valid YAML: found character '\\t' that cannot start"),
    (("{preset: tiny}", "tiny"), "r.yaml:7: model: expected a mapping {key: value, ...} with keys"),
    (("model: {preset: tiny}", ""), "model is missing, and there is no initialize.encoder whose"),
    (("objectives:", "objectivs:"), "r.yaml:3: unknown key 'objectivs'; did you mean objectives?"),
    (("length", "lenght"), "r.yaml:6: objectives.mlm: unknown key 'lenght'; did you mean length?"),
    (("64", "long"), "r.yaml:6: objectives.mlm.length: expected a whole number, found 'long'"),
    (("64", "64, weight: 0:1,9:0"), "objectives.mlm.weight: expected a number or a list of lists"),
    (("64", "64, weight: 10:30"), "found '10:30'; write points as [[step, value], ...]"),
    (("64", "64, masked_side: frst"), "one of both, first, second, found 'frst'; did you mean"),
    (("64", "64, sampling: {shares: {en: a}}"), "r.yaml:6: objectives.mlm.sampling.shares.en: "),
    (("64", "64, languages: [hi]"), "r.yaml:6: not valid YAML: languages appears twice"),
    (("64", "1000"), "objectives.mlm.length is 1000, but the model has 512 positions: raise"),
    (("[en]", "en"), "objectives.mlm.languages: expected a list of texts, found 'en'; write [en]"),
    (("[en]", "[1]"), "objectives.mlm.languages: expected a list of texts, found [1]"),
    (("[en]", "[en], pairs: [en-hi]"), "MaskedLM takes either languages or pairs: found languag"),
    (("init_args", "init_arg"), "r.yaml:6: objectives.mlm: unknown key 'init_arg'; did you mean"),
    (("init_args: {", "weight: 2\n    init_args: {"), "weight stands beside class_path: put it"),
    (("class_path: MaskedLM", "clas: x"), "r.yaml:5: objectives.mlm: no class_path: expected {cl"),
    (("    class_path: MaskedLM\n", ""), "with CLASS one of Answering, BackTranslation, Causal"),
    (("MaskedLM", "MaskedLN"), "r.yaml:5: objectives.mlm: unknown class 'MaskedLN'; did you mean"),
    (("MaskedLM", "Zzz"), "Denoising, Infilling, MaskedLM, NextSentence, OriginalCausalLM, "),
    (("MaskedLM", "Zzy"), "OriginalCausalTLM, OriginalMaskedLM, Parsing, Ranking, Regression, "),
    (("MaskedLM", "my_own.Thing"), "class_path 'my_own.Thing': No module named 'my_own'; is its"),
    (("MaskedLM", "xlm.objectives.masked.MaskedLN"), "has no MaskedLN; did you mean MaskedLM?"),
    (("MaskedLM", "torch.nn.Linear"), "'torch.nn.Linear' is not a subclass of Objective: expected"),
    (("MaskedLM", "xlm.objective.Objective"), "class_path 'xlm.objective.Objective' is abstract"),
    (("MaskedLM\n    init_args: {languages: [en], length: 64}", "Translation"), "needs pairs"),
]  # fmt: skip


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
        (b"data: \xff\n", "r.yaml: not UTF-8 (invalid start byte): expected a YAML file"),
        (b"data: d\n---\ndata: e\n", "r.yaml:2: not valid YAML: but found another document"),
        (
            b"data: !!python/object:os.system x\n",
            "not valid YAML: could not determine a constructor",
        ),
        (b"data: *there\n", "r.yaml:1: not valid YAML: found undefined alias"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    Path("r.yaml").write_bytes(content)
    assert message in fails(capsys, "pretrain", "--config=r.yaml")


def test_the_line_of_a_mistake_in_a_resolved_config_names_it(here: Path) -> None:
    Path("r.yaml").write_text(to_yaml(run_of(RECIPE)).replace("steps: 1000", "steps: many"))
    with pytest.raises(ConfigError, match=r"r\.yaml:\d+: steps: expected a whole number"):
        read(Run, Path("r.yaml"))


def run_of(text: str) -> Run:
    Path("made.yaml").write_text(text)
    return read(Run, Path("made.yaml"))


def test_a_number_of_hundreds_of_digits_is_no_number(tmp_path: Path) -> None:
    """It fits no float, as which it would be used."""
    (tmp_path / "r.yaml").write_text(
        "data: d\nfolder: f\nmodel: {preset: tiny}\nobjectives: {m: {class_path: MaskedLM}}\n"
        f"schedule: {{final_lr: {10**400}}}\n"
    )
    with pytest.raises(ConfigError, match=r"r.yaml:5: schedule.final_lr: expected a number, found"):
        read(Run, tmp_path / "r.yaml")
