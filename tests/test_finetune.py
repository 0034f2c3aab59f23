"""Fine-tuning from end to end: grids and seeds, what a folder holds, interruptions, the report."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.interchange import peers
from xlm import finetune as entry
from xlm.config.cli import read
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError, TrainingError
from xlm.finetune import Finetune, Grid, finetune, main
from xlm.model.asking import NO_HEAD
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import pretrain
from xlm.run import launch
from xlm.run.build import build_learner
from xlm.run.checkpointing import Checkpoints
from xlm.run.config import Run
from xlm.run.reporter import Reporter
from xlm.run.session import Session
from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification
from xlm.tasks.parsing import Parsing
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.training import checkpoint
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.journal import read_metrics
from xlm.training.schedule import Schedule

WORDS = "the cat river window mountains of men house water stone".split()
LABELS = {"cat": "animal", "river": "place", "house": "place", "men": "animal"}
SHAPE = ModelConfig(
    dim=16, num_layers=2, num_heads=2, max_positions=64, dropout=0.1, attention_dropout=0.0
)


def write_rows(path: Path, num: int, seed: int) -> str:
    """The label is that of the first word."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(num):
        first = random.choice(list(LABELS))
        rest = random.choice(WORDS, int(random.integers(1, 7)))
        lines.append(f"{LABELS[first]}\t{' '.join([first, *rest])}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of random weights, and files beside it."""
    folder = tmp_path_factory.mktemp("source")
    tokenizer = learn_sentencepiece(peers.lines(), 500)
    torch.manual_seed(7)
    model = Transformer(
        SHAPE, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    PretrainedModel(model, tokenizer, {"en": 0, "hi": 1}).save_pretrained(folder / "model")
    for name, num, seed in (("train", 48, 1), ("valid", 20, 2), ("test", 24, 3), ("other", 16, 4)):
        write_rows(folder / f"{name}.tsv", num, seed)
    return folder


@pytest.fixture(autouse=True, scope="module")
def no_power_is_cut_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        yield


def classes(source: Path, **changes: Any) -> Classification:
    files = Files(
        train={"en": str(source / "train.tsv")},
        valid={"en": str(source / "valid.tsv"), "hi": str(source / "other.tsv")},
        test={"en": str(source / "test.tsv"), "hi": str(source / "test.tsv")},
    )
    return Classification(**{"files": files, "rows": 8, "length": 32, "num_lengths": 3, **changes})


def recipe(source: Path, place: Path | str, **changes: Any) -> Finetune:
    """12 updates, 4 evaluations."""
    settings: dict[str, Any] = {
        "model": str(source / "model"),
        "folder": str(place),
        "tasks": {"topic": classes(source)},
        "epochs": 2,
        "evaluate_every": 24,
        "schedule": Schedule(kind="linear", peak_lr=5e-3, warmup_steps=0),
        "device": "cpu",
    }
    return Finetune(**{**settings, **changes})


def without_clock(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    clock = {"tokens_per_second", "utilization", "wait", "seconds", "machine"}
    return [{key: own for key, own in line.items() if key not in clock} for line in lines]


def measured(folder: Path, task: Any, split: str) -> dict[str, dict[str, float]]:
    """The figures of a model directory, with a learner of our own making."""
    model = PretrainedModel.open(folder)
    run = Run(
        data="", folder="", objectives={"topic": task}, model=model.transformer.config, device="cpu"
    )
    corpora = Corpora(model.tokenizer, model.languages)
    learner = build_learner(run, corpora)
    body = {f"model.{name}": value for name, value in model.transformer.state_dict().items()}
    learner.load_state_dict({**body, **model.heads})
    streams = {"topic": task.streams("topic", corpora, seed=0, split=split)}
    return evaluate(learner, streams, Parallel(torch.device("cpu")), seed=0)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_model_that_is_left_is_the_one_that_was_chosen(
    average: float, source: Path, tmp_path: Path
) -> None:
    """At a rate that is too high: the best evaluation is not the last."""
    config = recipe(
        source, tmp_path, average=average, seeds=[0, 1], epochs=4, evaluate_every=16,
        schedule=Schedule(kind="constant", peak_lr=1.5e-2, warmup_steps=0), warmup=0.0,
    )  # fmt: skip
    report = finetune(config)
    rules = report.streams["topic/en"]
    assert any(a != b for a, b in zip(rules["chosen"].values, rules["last"].values, strict=True))
    task = classes(source).resolved()
    best_steps = []
    for at, seed in enumerate(config.seeds):
        folder = tmp_path / f"seed-{seed}"
        valid = {
            line["step"]: line["topic/en"]["accuracy"]
            for line in without_clock(folder) if line["event"] == "valid"
        }  # fmt: skip
        best = max(valid.values())
        step = min(step for step, value in valid.items() if value == best)
        best_steps.append(step)
        assert PretrainedModel.open(folder / "model").extra["step"] == step
        found = measured(folder / "model", task, "valid")
        assert found["topic/en"]["accuracy"] == pytest.approx(best)
        found = measured(folder / "model", task, "test")
        for language in ("en", "hi"):
            expected = report.streams[f"topic/{language}"]["chosen"].values[at]
            assert found[f"topic/{language}"]["accuracy"] == pytest.approx(expected)
    assert ("averaged" in rules) == bool(average) and set(best_steps) != {24}


def test_a_model_without_an_output_stays_one(source: Path, tmp_path: Path) -> None:
    bare = dataclasses.replace(PretrainedModel.open(source / "model"), extra={NO_HEAD: True})
    bare.save_pretrained(tmp_path / "bare")
    finetune(recipe(source, tmp_path / "run", model=str(tmp_path / "bare"), epochs=1))
    (folder,) = (tmp_path / "run").glob("seed-*/model")
    with pytest.raises(ConfigError, match="has no output layer"):
        PretrainedModel.open(folder).fill(["a ___"], "en")


def test_what_a_folder_holds(source: Path, tmp_path: Path) -> None:
    config = recipe(source, tmp_path, seeds=[3])
    report = finetune(config)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "report.json", "finetune.yaml", "seed-3/config.yaml", "seed-3/metrics.jsonl",
        "seed-3/origin.json", "seed-3/model/heads.safetensors", "seed-3/model/tasks.yaml",
        "seed-3/model/config.json", "seed-3/model/tokenizer/tokenizer.json",
    } <= names  # fmt: skip
    assert not (tmp_path / "seed-3/checkpoints").exists()
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_json()
    assert read(Finetune, tmp_path / "finetune.yaml") == config
    model = PretrainedModel.open(tmp_path / "seed-3/model")
    assert sorted(model.heads) == ["heads.topic.output.bias", "heads.topic.output.weight"]
    assert model.heads["heads.topic.output.weight"].shape == (2, 16)
    assert "- animal\n" in model.tasks and "Classification" in model.tasks
    assert model.languages == {"en": 0, "hi": 1}
    again = tmp_path / "copy"
    model.save_pretrained(again)
    copy = PretrainedModel.open(again)
    assert copy.tasks == model.tasks
    assert all(torch.equal(copy.heads[name], own) for name, own in model.heads.items())


def test_it_learns_and_transfers(source: Path, tmp_path: Path) -> None:
    task = {"topic": classes(source)}
    config = recipe(source, tmp_path, epochs=12, evaluate_every=0, tasks=task, seeds=[0, 1, 2])
    report = finetune(config)
    assert report.streams["topic/en"]["chosen"].mean == 1.0
    # the same words under another language; seeds differ by a quarter of the rows
    assert report.streams["topic/hi"]["chosen"].mean > 0.75
    assert not report.collapsed and report.seconds > 0
    steps = [
        line["step"] for line in without_clock(tmp_path / "seed-0") if line["event"] == "valid"
    ]
    assert steps == [6 * epoch for epoch in range(1, 13)]


GRID = Grid(learning_rates=[1e-3, 1e-2], batches=[16], epochs=[1, 2])


def test_a_grid_of_settings_and_seeds_in_folders_of_their_own(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = recipe(
        source, tmp_path, grid=GRID, seeds=[0, 1], group_size=2, evaluate_every=0, keep=False,
        choose_on=["en", "hi"], tasks={"topic": classes(source, num_lengths=1)},
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="xlm"):
        report = finetune(config)
    cells = [
        f"lr {lr} batch {batch} epochs {epochs}"
        for lr in ("0.001", "0.01") for batch in (16,) for epochs in (1, 2)
    ]  # fmt: skip
    assert list(report.choices) == cells
    folders = {path.parent for path in tmp_path.rglob("metrics.jsonl")}
    assert folders == {
        tmp_path / cell.replace(" ", "-") / f"seed-{seed}" for cell in cells for seed in (0, 1)
    }
    assert not list(tmp_path.rglob("model")) and not list(tmp_path.rglob("checkpoints"))
    for cell in cells:
        values = []
        for seed in (0, 1):
            folder = tmp_path / cell.replace(" ", "-") / f"seed-{seed}"
            lines = without_clock(folder)
            batch, epochs = (int(cell.split()[at]) for at in (3, 5))
            assert max(line["step"] for line in lines) == epochs * 48 // batch
            valid = [
                (line["topic/en"]["accuracy"] + line["topic/hi"]["accuracy"]) / 2
                for line in lines if line["event"] == "valid"
            ]  # fmt: skip
            values.append(max(valid))
        assert report.choices[cell] == pytest.approx(sum(values) / 2)
    best = max(report.choices.values())
    assert report.chosen == next(cell for cell in cells if report.choices[cell] == best)
    assert report.rule == (
        "best accuracy on the validation text of topic/en, topic/hi, best of 4 settings"
    )
    # again: nothing is trained, all is reported
    caplog.clear()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    with caplog.at_level(logging.INFO, logger="xlm"):
        assert finetune(config).to_json() == report.to_json()
    assert "training" not in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}


def test_another_seed_is_added_to_finished_ones(source: Path, tmp_path: Path) -> None:
    first = finetune(recipe(source, tmp_path, seeds=[0]))
    metrics = (tmp_path / "seed-0/metrics.jsonl").read_bytes()
    both = finetune(recipe(source, tmp_path, seeds=[0, 5]))
    assert (tmp_path / "seed-0/metrics.jsonl").read_bytes() == metrics
    chosen = both.streams["topic/hi"]["chosen"]
    assert chosen.values[0] == first.streams["topic/hi"]["chosen"].mean and len(chosen.values) == 2


class Killed(BaseException):
    """As good as a SIGKILL: nothing catches it."""


def dying(function: Any, at: int) -> Any:
    """The function, of which call number ``at`` dies instead."""
    calls = []

    def called(*arguments: Any, **named: Any) -> Any:
        calls.append(0)
        if len(calls) == at:
            raise Killed
        return function(*arguments, **named)

    return called


PLACES: list[tuple[Any, str, int, int | None]] = [
    (Reporter, "test", 2, None), (checkpoint, "_write_manifest", 3, None),
    (Checkpoints, "leave_model", 1, None), (Reporter, "end", 1, None), (entry, "_clear", 1, None),
    (Session, "evaluate", 6, None), (launch, "train_in", 2, None),
    (Checkpoints, "leave_model", 1, 1), (Reporter, "end", 2, 1), (entry, "_clear", 1, 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    found = {}
    for patience in (None, 1):
        folder = tmp_path_factory.mktemp("whole")
        found[patience] = finetune(interruptible(source, folder, patience)), folder
    return found


def interruptible(source: Path, folder: Path, patience: int | None) -> Finetune:
    schedule = Schedule(kind="constant", peak_lr=2e-2 if patience else 5e-3, warmup_steps=0)
    return recipe(
        source, folder, seeds=[0, 1], average=0.8, patience=patience, schedule=schedule,
        warmup=0.0, epochs=4 if patience else 2, evaluate_every=16 if patience else 24,
    )  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "at", "patience"), PLACES)
def test_killed_anywhere_it_goes_on_as_if_nothing_had_been(
    owner: Any, name: str, at: int, patience: int | None, source: Path, tmp_path: Path,
    undisturbed: dict[Any, Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected, whole = undisturbed[patience]
    config = interruptible(source, tmp_path, patience)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying(getattr(owner, name), at))
        with pytest.raises(Killed):
            finetune(config)
    found = finetune(config)
    assert {**found.to_json(), "seconds": 0} == {**expected.to_json(), "seconds": 0}
    for seed in (0, 1):
        assert not (tmp_path / f"seed-{seed}/checkpoints").exists()
        events = ("train", "valid", "test", "end")
        own, other = (
            [line for line in without_clock(folder / f"seed-{seed}") if line["event"] in events]
            for folder in (tmp_path, whole)
        )
        assert own == other
        for file in ("model.safetensors", "heads.safetensors"):
            path = Path(f"seed-{seed}/model", file)
            assert (tmp_path / path).read_bytes() == (whole / path).read_bytes()


def test_patience_ended_the_runs_of_that_test(undisturbed: dict[Any, Any]) -> None:
    _, folder = undisturbed[1]
    for seed in (0, 1):
        assert max(line["step"] for line in without_clock(folder / f"seed-{seed}")) < 24


def test_a_signal_says_how_to_go_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(source, tmp_path)

    def stopped(self: Session, stop_requested: Any) -> None:
        monkeypatch.undo()
        self.train(lambda: True)

    monkeypatch.setattr(Session, "train", stopped)
    with pytest.raises(TrainingError, match="seed-0: stopped at step 0 of 12; the same command re"):
        finetune(config)
    assert finetune(config).streams["topic/en"]["last"].mean > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": Schedule(kind="linear", peak_lr=1e-3, warmup_steps=0)},
         r"schedule.peak_lr 0.001 \(was 0.005\)"),
        ({"epochs": 3}, r"steps 18 \(was 12\)"),
        ({"random_weights": True}, r"initialize.only nothing \(was all\)"),
        ({"frozen_layers": 1}, r"frozen_layers 1 \(was None\)"),
        ({"choose_on": ["hi"]}, r"stopping.streams \['topic/hi'\] \(was \['topic/en'\]\)"),
        ({"patience": 2}, r"stopping.patience 2 \(was None\)"),
        ({"evaluate_every": 0}, r"evaluate_every 6 \(was 3\)"),
        ({"dropout": 0.0}, r"changes.dropout 0.0 \(was None\)"),
    ],
)  # fmt: skip
def test_a_run_of_another_recipe_is_not_reported_as_this_one(
    changes: dict[str, Any], message: str, source: Path, tmp_path: Path, finished: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    with pytest.raises(ConfigError, match=rf"seed-0 holds a run of another recipe: .*{message}"):
        finetune(recipe(source, folder, **changes))
    finetune(recipe(source, folder, report_every=7))  # which changes nothing


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    finetune(recipe(source, folder))
    return folder


def test_another_model_or_file_under_the_same_name_is_noticed(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "source")
    own = tmp_path / "source"
    config = recipe(own, tmp_path / "run")
    finetune(config)
    text = (own / "test.tsv").read_text()
    (own / "test.tsv").write_text(text + "place\tthe river\n")
    with pytest.raises(ConfigError, match=f"another {own}/test.tsv; give another folder"):
        finetune(config)
    (own / "test.tsv").write_text(text)
    finetune(config)
    model = PretrainedModel.open(own / "model")
    with torch.no_grad():
        model.transformer.encoder.words.weight[20, 0] += 1
    model.save_pretrained(own / "model")
    with pytest.raises(ConfigError, match="another the model; give another folder, or remove"):
        finetune(config)
    (tmp_path / "run/seed-0/origin.json").write_text("{")
    with pytest.raises(ConfigError, match="the source it was trained from cannot be read"):
        finetune(config)


def test_models_that_were_not_kept_are_said_to_be_missing(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(recipe(source, tmp_path, keep=False))
    assert not (tmp_path / "seed-0/model").exists() and not caplog.records
    finetune(recipe(source, tmp_path))
    assert "seed-0: its model was not kept; remove the folder to train it again" in caplog.text


def test_random_weights_are_random_and_of_the_same_shape(source: Path, tmp_path: Path) -> None:
    """At a rate of zero a run leaves what it started from."""
    still = {"schedule": Schedule(kind="constant", peak_lr=0.0, warmup_steps=0), "warmup": 0.0,
             "steps": 1, "seeds": [0, 1]}  # fmt: skip
    finetune(recipe(source, tmp_path / "control", random_weights=True, **still))
    finetune(recipe(source, tmp_path / "plain", **still))
    there = PretrainedModel.open(source / "model").transformer.state_dict()
    models = {
        (kind, seed): PretrainedModel.open(tmp_path / kind / f"seed-{seed}/model")
        for kind in ("control", "plain") for seed in (0, 1)
    }  # fmt: skip
    for name, value in there.items():
        for seed in (0, 1):
            assert torch.equal(models["plain", seed].transformer.state_dict()[name], value)
        one, two = (models["control", seed].transformer.state_dict()[name] for seed in (0, 1))
        assert one.shape == value.shape
        if value.std() > 0:  # not a bias or a normalization
            assert abs(np.corrcoef(one.flatten(), value.flatten())[0, 1]) < 0.3
            assert not torch.equal(one, two)
            assert 0.5 < one.std() / value.std() < 2
    for seed in (0, 1):
        control, plain = models["control", seed], models["plain", seed]
        assert control.tokenizer.digest == plain.tokenizer.digest
        assert control.languages == plain.languages
        assert control.transformer.config == plain.transformer.config


def xlm_r(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.XLMRobertaConfig(
        vocab_size=702, max_position_embeddings=66, type_vocab_size=1, **peers.SIZES
    )
    peers.shake(transformers.XLMRobertaForMaskedLM(config)).save_pretrained(folder)
    return peers.write(folder, sentencepiece__bpe__model=peers.unigram())


def bert(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=700, max_position_embeddings=64, **peers.SIZES)
    peers.shake(transformers.BertForMaskedLM(config)).save_pretrained(folder)
    settings = {"do_lower_case": False}
    return peers.write(folder, vocab__txt=peers.wordpieces(), tokenizer_config__json=settings)


@pytest.mark.parametrize("make", [xlm_r, bert])
def test_from_a_model_of_transformers(make: Any, source: Path, tmp_path: Path) -> None:
    """These make no difference between languages: any may be evaluated."""
    torch.manual_seed(0)
    there = make(tmp_path / "there")
    task = classes(source)
    files = dataclasses.replace(task.files, test={"sw": str(source / "test.tsv")})
    config = recipe(
        source, tmp_path / "run", model=str(there), epochs=6, evaluate_every=0,
        tasks={"topic": dataclasses.replace(task, files=files)},
        schedule=Schedule(kind="linear", peak_lr=1e-3, warmup_steps=0),
    )  # fmt: skip
    report = finetune(config)
    assert report.streams["topic/sw"]["chosen"].mean > 0.55  # chance is a half
    model = PretrainedModel.open(tmp_path / "run/seed-0/model")
    assert not model.has_languages and sorted(model.heads)
    started = PretrainedModel.open(tmp_path / "run/seed-0/model").transformer.config
    assert started.max_positions == 64
    again = finetune(  # and from what was fine-tuned
        recipe(source, tmp_path / "more", model=str(tmp_path / "run/seed-0/model"), steps=1,
               tasks={"other": classes(source)})
    )  # fmt: skip
    assert "other/en" in again.streams


def test_from_a_runs_folder(source: Path, tmp_path: Path, finished: Path) -> None:
    report = finetune(recipe(source, tmp_path, model=str(finished / "seed-0"), steps=1))
    assert report.streams["topic/en"]["chosen"].values


def test_languages_that_the_model_does_not_know(source: Path, tmp_path: Path) -> None:
    task = classes(source)
    files = dataclasses.replace(task.files, test={"sw": str(source / "test.tsv")})
    task = dataclasses.replace(task, files=files)
    with pytest.raises(ConfigError, match="topic/sw: the model does not know the language sw: it"):
        finetune(recipe(source, tmp_path, tasks={"topic": task}))
    task = dataclasses.replace(task, stand_in={"sw": "hi"})
    report = finetune(recipe(source, tmp_path / "named", tasks={"topic": task}))
    plain = finetune(recipe(source, tmp_path / "hindi"))
    same = plain.streams["topic/hi"]["chosen"].mean
    assert report.streams["topic/sw"]["chosen"].mean == same


def other_tasks(folder: Path) -> dict[str, Any]:
    tagged = "the\tDET\ncat\tNOUN\n\nof\tADP\nmen\tNOUN\n\n" * 6
    (folder / "tags.tsv").write_text(tagged)
    rows = [
        "\t".join([str(at), word, "_", "NOUN", "_", "_", str(at - 1), "root" if at == 1 else "dep",
                   "_", "_"])
        for at, word in enumerate(WORDS[:4], 1)
    ]  # fmt: skip
    (folder / "trees.conllu").write_text(("\n".join(rows) + "\n\n") * 8)
    paragraph = {
        "context": "the cat of men",
        "qas": [{"id": "1", "question": "who ?", "answers": [{"text": "cat", "answer_start": 4}]}],
    }
    squad = {"data": [{"title": "one", "paragraphs": [paragraph]}]}
    (folder / "squad.json").write_text(json.dumps(squad))

    def files(name: str) -> Files:
        own = {"en": str(folder / name)}
        return Files(train=own, valid=own)

    return {
        "pos": Tagging(files=files("tags.tsv"), rows=4, length=32, context=8),
        "dep": Parsing(files=files("trees.conllu"), rows=4, length=32, arc_size=8, label_size=4),
        "qa": Answering(files=files("squad.json"), length=40, longest_question=8, stride=8),
    }


def test_several_tasks_at_once(source: Path, tmp_path: Path) -> None:
    tasks = {"topic": classes(source), **other_tasks(tmp_path)}
    report = finetune(
        recipe(source, tmp_path / "run", tasks=tasks, epochs=1, evaluate_every=0, average=0.5)
    )
    assert set(report.streams) == {"topic/en", "topic/hi"}  # those that have test text
    assert report.rule.startswith("best accuracy on the validation text of topic/en")
    files = dataclasses.replace(classes(source).files, test={})
    tasks = {**other_tasks(tmp_path), "topic": classes(source, files=files)}
    report = finetune(recipe(source, tmp_path / "other", tasks=tasks, epochs=10, evaluate_every=0))
    assert report.rule == "best accuracy on the validation text of pos/en"
    means = {name: own["last"].mean for name, own in report.streams.items()}
    assert set(means) == {"pos/en", "dep/en", "qa/en", "topic/en", "topic/hi"}
    assert means["pos/en"] > 0.9 and means["dep/en"] > 0.9
    assert {"uas", "las_all"} <= set(report.others["dep/en"])
    model = PretrainedModel.open(tmp_path / "other/seed-0/model")
    assert {name.split(".")[1] for name in model.heads} == set(tasks)


def test_tasks_among_the_objectives_of_a_pretraining_run(
    source: Path, tmp_path: Path, debug_data: Path
) -> None:
    own = Corpora.open(debug_data)
    files = Files(train={"en": str(source / "train.tsv")}, valid={"en": str(source / "valid.tsv")})
    run = Run(
        data=str(debug_data), folder=str(tmp_path), model=SHAPE, steps=4, group_size=2,
        objectives={
            "mlm": MaskedLM(languages=["en"], rows=4, length=16, evaluation_folds=1),
            "topic": Classification(
                files=files, rows=8, length=32, labels=["animal", "place"], weight=0.5
            ),
        },
        evaluate_every=4, order="together", device="cpu", tensorboard=False,
    )  # fmt: skip
    result = pretrain(run, own)
    assert {"mlm/en", "topic/en"} == set(result.figures)
    assert 0 < result.figures["topic/en"]["accuracy"] <= 1
    assert PretrainedModel.open(tmp_path / "model").heads


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {}}, "tasks is empty: name at least one"),
        ({"seeds": []}, r"seeds must be one or more different numbers: found \[\]"),
        ({"seeds": [1, 1]}, "seeds must be one or more different"),
        ({"seeds": [-1]}, "seed must be in"),
        ({"warmup": 1.0}, r"warmup must be a share in \[0, 1\): found 1.0"),
        ({"epochs": 0.0}, "epochs must be above 0: found 0.0; or give steps"),
        ({"epochs": "two"}, "epochs: expected a number, found 'two'"),
        ({"steps": -1}, "steps must be at least 0: found -1"),
        ({"group_size": 0}, "group_size must be at least 1: found 0"),
        ({"evaluate_every": -1}, "evaluate_every must be at least 0: found -1"),
        ({"steps": 5, "grid": Grid(epochs=[1])}, r"steps is 5 and grid.epochs \[1\]: give one"),
        ({"lowest_lr": 1e-5}, "lowest_lr is 1e-05, but it only applies with halve_on_plateau"),
        ({"folder": ""}, "folder is empty: give one"),
        ({"model": ""}, "model is empty: give one"),
        ({"model": "/no/such"}, "/no/such does not exist: expected a model directory"),
        ({"choose_on": ["sw"]}, "choose_on has sw for topic, whose validation files are of en, hi"),
        ({"metric": "las"}, "stopping.metric 'las' is not a figure of topic/en"),
        ({"frozen_layers": 3}, "frozen_layers is 3, but the encoder has 2 layers"),
        ({"average": 1.0}, r"average must be in \[0, 1\): found 1.0"),
        ({"grid": Grid(batches=[9]), "group_size": 2}, "grid.batches has 9: expected multiples of"),
        ({"patience": 0}, "stopping.patience must be at least 1: found 0"),
        ({"dropout": 2.0}, "dropout"),
    ],
)
def test_settings_that_cannot_be(
    changes: dict[str, Any], message: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message) as error:
        finetune(recipe(source, tmp_path, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": [0.0]}, "grid.learning_rates must be different numbers above 0: found"),
        ({"batches": [8, 8]}, "grid.batches must be different numbers above 0: found 8, 8"),
        ({"epochs": [-1]}, "grid.epochs must be different numbers above 0: found -1"),
        ({"batches": [1.5]}, "batches: expected a list of whole numbers"),
    ],
)
def test_grids_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grid(**changes)


def test_rows_that_are_longer_than_the_model(source: Path, tmp_path: Path) -> None:
    tasks = {"topic": classes(source, length=65)}
    with pytest.raises(
        ConfigError, match="tasks.topic.length is 65, but the model has 64 positions: l"
    ):
        finetune(recipe(source, tmp_path, tasks=tasks))


def test_no_validation_text(source: Path, tmp_path: Path) -> None:
    files = Files(train={"en": str(source / "train.tsv")})
    tasks = {"topic": classes(source, files=files)}
    with pytest.raises(
        ConfigError, match="choose_on has no language for topic, whose validation files are of none"
    ):
        finetune(recipe(source, tmp_path, tasks=tasks))


def test_folders_that_cannot_be_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="^cannot write .*file: File exists; choose"):
        finetune(recipe(source, tmp_path / "file"))
    config = recipe(source, tmp_path / "full", steps=1)
    replace = os.replace

    def full(old: Any, new: Any) -> None:
        if str(new).endswith("report.json"):
            raise OSError(28, "No space left on device")
        replace(old, new)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigError, match=r"cannot write .*report.json: No space left"):
        finetune(config)
    monkeypatch.undo()
    assert finetune(config).streams  # what was trained is not lost


def test_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    task = classes(source)
    path.write_text(
        f"model: {source}/model\nfolder: {tmp_path}/run\ntasks:\n  topic:\n"
        "    class_path: Classification\n    init_args:\n      rows: 8\n      length: 32\n"
        f"      files: {json.dumps(dataclasses.asdict(task.files))}\n"
        "steps: 2\nseeds: [0, 1]\ndevice: cpu\n"
    )
    main(["--config", str(path), "--tasks.topic.rows=4"])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"the model: {source}/model"
    table = next(at for at, line in enumerate(out) if "chosen" in line)
    out = out[table:]
    assert out[0].split() == ["chosen", "target", "last"]
    assert out[1].startswith("topic/en") and "±" in out[1]
    assert out[3].startswith("topic, mean over en, hi")
    assert out[4] == "chosen: best accuracy on the validation text of topic/en"
    assert out[-1] == f"report: {tmp_path}/run/report.json"
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(path), "--choose_on=[xx]"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("xlm finetune: choose_on has xx for topic")
