"""Fine-tuned models opened: which task, what is refused, and what no file can make happen."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tuned
from xlm.__main__ import run
from xlm.convert import Export, export_model
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.finetuned import open_finetuned, with_task
from xlm.interchange.parity import TOLERANCE
from xlm.model.pretrained import PretrainedModel


@pytest.mark.parametrize("name", tuned.TASKS)
def test_a_saved_task_comes_back_field_by_field_and_bit_by_bit(name: str, tmp_path: Path) -> None:
    model = tuned.tuned(name)
    model.save_pretrained(tmp_path)
    found = open_finetuned(tmp_path)
    assert (found.name, found.task) == (name, tuned.TASKS[name])
    state = found.head.state_dict()
    assert state and not found.head.training
    assert {f"heads.{name}.{own}" for own in state} == set(model.heads)
    assert all(torch.equal(model.heads[f"heads.{name}.{own}"], state[own]) for own in state)


def test_features_come_back_with_their_lstm(tmp_path: Path) -> None:
    """An LSTM keeps its weights twice: those that it computes with must be the saved ones."""
    task = tuned.with_readout("topic", features=True)
    model = tuned.tuned(tasks={"topic": task})
    found = with_task(model, "here")
    fresh = task.head(model.transformer.config)
    assert fresh is not None
    own = {name.removeprefix("heads.topic."): value for name, value in model.heads.items()}
    fresh.load_state_dict(own)
    batch = model.batch(["a small house", "water"], "en")
    with torch.no_grad():
        expected = fresh.eval()(model.transformer, batch)
        assert torch.equal(found.head(model.transformer, batch), expected)


def test_one_of_several_tasks_is_named() -> None:
    model = tuned.tuned("nli", "names")
    assert with_task(model, "here", "names").name == "names"
    with pytest.raises(ConfigError, match="^here has the tasks nli, names: choose one by"):
        with_task(model, "here")
    with pytest.raises(ConfigError, match="^here has no task 'pos': it has nli, names$"):
        with_task(model, "here", "pos")
    bare = replace(model, heads={}, tasks="")
    with pytest.raises(ConfigError, match="^here has no task head: expected a fine-tuned"):
        with_task(bare, "here")


def test_no_random_number_is_drawn() -> None:
    model = tuned.tuned("trees")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with_task(model, "here")
    assert torch.equal(torch.rand(2), expected)


def test_the_folder_of_a_run_without_checkpoints(tmp_path: Path) -> None:
    """As xlm finetune leaves it: only the model is kept."""
    tuned.tuned("nli").save_pretrained(tmp_path / "seed-0" / "model")
    (tmp_path / "seed-0" / "config.yaml").write_text("steps: 1\n")
    assert open_finetuned(tmp_path / "seed-0").name == "nli"


HOSTILE = {
    "xlm_hostile.Task": "'xlm_hostile.Task': only classes of xlm.objectives and xlm.tasks are",
    "xlm.tasks.xlm_hostile.Task.run": "only classes of xlm.objectives and xlm.tasks are imported",
    "os.system": "'os.system' is not a subclass of Task",
    "xlm.tasks.classification.os.system": "only classes of xlm.objectives and xlm.tasks are",
    "xlm.tasks.Nothing": "has no Nothing",
    "xlm.tasks..task.Task": "only classes of xlm.objectives and xlm.tasks are imported",
    "xlm.tasks.nothing.Nothing": "nothing",
    "xlm.tasks.classification.Nothing": "has no Nothing",
    "xlm.tasks.heads.Readout": "is not a subclass of Task",
    "xlm.tasks.task.Task": "is abstract",
    "xlm.tasks.classification.Sentences": "Sentences",
}


@pytest.mark.parametrize("path", HOSTILE)
def test_no_class_of_a_stranger_is_imported(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xlm_hostile.py").write_text("raise SystemExit('code of a stranger ran')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = tuned.tuned("nli")
    own = "xlm.tasks.classification.Classification"
    hostile = replace(model, tasks=model.tasks.replace(own, path))
    assert hostile.tasks != model.tasks
    with pytest.raises((ConfigError, CheckpointError), match=HOSTILE[path]) as caught:
        with_task(hostile, "here")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("here")
    assert "xlm_hostile" not in sys.modules


DAMAGED = {
    "no yaml": (lambda text: "objectives: [", "is not valid YAML"),
    "python object": (lambda text: "!!python/object/apply:os.system ['true']", "is not valid YAML"),
    "a list": (lambda text: "[1, 2]", "has no objectives"),
    "empty": (lambda text: "", "has no objectives"),
    "no settings": (lambda text: "objectives: {nli: }", "expected {class_path"),
    "a text": (lambda text: "objectives: {nli: nli}", "unknown class 'nli'"),
    "another name": (lambda text: text.replace("  nli:", "  mli:"), "no task head"),
    "an unknown field": (lambda text: text.replace("_words", "_word"), "did you mean"),
    "another type": (lambda text: text.replace("rows: 4", "rows: four"), "expected a whole number"),
    "another value": (lambda text: text.replace("rows: 4", "rows: 0"), "rows must be at least 1"),
    "a class inside": (
        lambda text: text.replace("  kind: linear", "  class_path: os.system"), "class_path"
    ),
    "other labels": (lambda text: text.replace("      - neutral\n", ""), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_settings_are_one_line(name: str) -> None:
    change, expected = DAMAGED[name]
    model = tuned.tuned("nli")
    damaged = replace(model, tasks=change(model.tasks))
    assert damaged.tasks != model.tasks
    with pytest.raises((ConfigError, CheckpointError), match=expected) as caught:
        with_task(damaged, "here")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("here")


def test_a_head_that_lacks_a_tensor() -> None:
    model = tuned.tuned("nli")
    kept = {name: value for name, value in model.heads.items() if not name.endswith("bias")}
    with pytest.raises(CheckpointError, match="the head of nli does not fit its settings .*bias"):
        with_task(replace(model, heads=kept), "here")


def test_transformers_without_a_head_we_know(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from xlm.interchange.transformers.bert import write_transformers_bert

    write_transformers_bert(tuned.body("bert"), tmp_path)
    with pytest.raises(ConfigError, match=r"architecture \['BertForMaskedLM'\], expected seq"):
        open_finetuned(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "architectures": None}))
    with pytest.raises(ConfigError, match="architecture None"):
        open_finetuned(tmp_path)
    assert transformers


# Export with a head.


def few_lines() -> list[str]:
    return list(tuned.peers.lines()[:20])


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of ours with two tasks; tokenizers are compared on few lines."""
    pytest.importorskip("transformers")
    monkeypatch.setattr("xlm.interchange.tokenizer_parity._sample_lines", few_lines)
    tuned.tuned("nli", "names").save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


@pytest.mark.parametrize("shape", tuned.SHAPES)
@pytest.mark.parametrize("name", ["nli", "likeness", "names", "quiz"])
def test_the_verb_writes_the_only_head_and_measures_it(
    shape: Any, name: str, exported: Path, tmp_path: Path
) -> None:
    task = tuned.with_readout(name, kind=tuned.kind_of(shape, name))
    tuned.tuned(shape=shape, tasks={"own": task}).save_pretrained(tmp_path / "one")
    config = Export(source=str(tmp_path / "one"), folder=str(tmp_path / "out"), format=shape)
    result = export_model(config)
    parity = json.loads((tmp_path / "out" / "parity.json").read_text())
    end = {"names": "ForTokenClassification", "quiz": "ForQuestionAnswering"}
    assert end.get(name, "ForSequenceClassification") in parity["peer"]
    assert parity["agrees"] and 0 < parity["logits"] <= 1e-5 < TOLERANCE
    assert parity["cells"] > 100 and not parity["notes"]
    assert any("parity with" in line for line in result.describe())
    assert f"lost: the output onto the vocabulary: {parity['peer'].split()[0]} has none" in (
        result.describe()
    )


def test_which_task_the_verb_takes(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wanted(*options: str) -> str:
        folder = tmp_path / "-".join(["out", *options]).replace("=", "")
        run("export", [str(exported), str(folder), "--format=xlm", *options])
        return str(json.loads((folder / "config.json").read_text())["architectures"][0])

    assert wanted("--task=names") == "XLMForTokenClassification"
    assert wanted("--task=nli") == "XLMForSequenceClassification"
    assert wanted("--task=") == "XLMWithLMHeadModel"
    for options, expected in (
        ((), "has the tasks nli, names: choose by task"),
        (("--task=pos",), "has no task 'pos': it has nli, names"),
        (("--task=nli", "--causal=true"), "causal is True, but the task nli was fine-tuned with"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            wanted(*options)
        assert caught.value.code == 2
        assert expected in capsys.readouterr().err


def test_heads_of_other_classes_stay_behind(exported: Path, tmp_path: Path) -> None:
    """A pretraining objective of one's own with a head: the language model goes, as before."""
    model = PretrainedModel.open(exported)
    own = "xlm.tasks.classification.Classification"
    tasks = model.tasks.replace(own, "mine.Objective").replace(".tagging.Tagging", ".Mine")
    replace(model, tasks=tasks).save_pretrained(tmp_path / "mine")
    out = tmp_path / "out"
    export_model(Export(source=str(tmp_path / "mine"), folder=str(out), format="xlm", parity=False))
    assert json.loads((out / "config.json").read_text())["architectures"] == ["XLMWithLMHeadModel"]
    named = Export(
        source=str(tmp_path / "mine"), folder=str(tmp_path / "n"), format="xlm", task="nli"
    )
    with pytest.raises(ConfigError, match="only classes of xlm.objectives and xlm.tasks"):
        export_model(named)
    assert not (tmp_path / "n").exists()
