"""Runs that start from other models: shape, languages, vocabulary, figures before and after."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import xlm
from tests.training import tiny
from xlm.convert import Export, export_model
from xlm.data.corpora import Corpora
from xlm.digests import SUMS
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.evaluate import Evaluate, evaluate_run
from xlm.model.tensor_files import read_tensors, write_tensors
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import Result, pretrain
from xlm.run.config import Initialization, ModelConfig, Run, Schedule, Translation, read_run
from xlm.run.folder import RunFolder
from xlm.run.session import Session, begin
from xlm.training import checkpoint, loop
from xlm.training.distributed.processes import Parallel
from xlm.training.journal import read_metrics

VOCABULARY = Vocabulary(size=500)
MODEL = ModelConfig(dim=16, num_layers=1, num_heads=2, max_positions=64)


def text(folder: Path, *languages: str, **settings: Any) -> str:
    """Prepared sample text."""
    texts = {
        split: {name: f"sample:{split}.{name}.txt" for name in languages}
        for split in ("train", "valid")
    }
    settings = {"vocabulary": VOCABULARY, "workers": 1, "max_valid_sentences": 20, **settings}
    prepare(Prepare(folder=str(folder), text=Texts(**texts), **settings))
    return str(folder)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A causal model of English and Hindi, whose ids are not alphabetical among all three."""
    folder = tmp_path_factory.mktemp("old")
    data = text(folder / "data", "en", "hi")
    return pretrain(recipe(folder / "run", data, ["en", "hi"]))


@pytest.fixture(scope="module")
def more(old: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Text of all three languages and then some, by the old model's vocabulary."""
    folder = tmp_path_factory.mktemp("more") / "data"
    return text(folder, "en", "hi", "ne", vocabulary=Vocabulary(folder=str(old.folder)))


def recipe(folder: Path, data: str, languages: list[str], **changes: Any) -> Run:
    own = {k: changes.pop(k) for k in ("evaluate",) if k in changes}
    settings: dict[str, Any] = {
        "data": data,
        "folder": str(folder),
        "objectives": {"clm": CausalLM(languages=languages, rows=4, length=32, **own)},
        "model": MODEL,
        "steps": 6,
        "group_size": 1,
        "schedule": Schedule(kind="constant", peak_lr=1e-2, warmup_steps=0),
        "evaluate_every": 3,
        "save_every": 3,
        "tensorboard": False,
        "device": "cpu",
    }
    return Run(**{**settings, **changes})


def events(folder: Path | str, event: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(Path(folder) / "metrics.jsonl") if line["event"] == event]


# Going on with new text.


def test_old_languages_are_measured_before_and_after(
    old: Result, more: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first update they are worth what the old run says; the table is recorded."""
    start = Initialization(encoder=str(old.folder), new_languages="mean")
    run = recipe(
        tmp_path / "new", more, ["ne"], evaluate=["en", "hi", "ne"], model=None, initialize=start
    )
    with caplog.at_level(logging.INFO, "xlm"):
        result = pretrain(run)
    best = evaluate_run(Evaluate(folder=str(old.folder)))["figures"]
    [before] = events(run.folder, "before")
    for name in ("clm/en", "clm/hi"):
        assert before[name]["nats"] == pytest.approx(best[name]["nats"], rel=1e-6)
    [change] = events(run.folder, "change")
    assert change["before"]["clm/en"] == before["clm/en"] and change["after"] == result.figures
    assert set(result.figures) == {"clm/en", "clm/hi", "clm/ne"}
    assert result.figures["clm/ne"]["nats"] < before["clm/ne"]["nats"]
    table = [line for line in caplog.messages if line.startswith("  clm/en ") and "->" in line]
    was, now = (f"{one['clm/en']['perplexity']:.4g}" for one in (before, result.figures))
    assert len(table) == 1 and f"perplexity {was} -> {now}" in table[0]
    [record] = events(run.folder, "initialized")
    assert not record["left"] and not record["unused"]
    assert "encoder: new languages ne: the mean of the others" in record["notes"]


def test_a_language_that_the_source_lacks_is_named(old: Result, more: str, tmp_path: Path) -> None:
    start = Initialization(encoder=str(old.folder))
    run = recipe(tmp_path / "new", more, ["en"], initialize=start)
    with pytest.raises(
        ConfigError, match="does not know the language ne: it knows en, hi; .*prepare"
    ):
        pretrain(run)
    assert not (tmp_path / "new" / "config.yaml").exists()


def test_languages_that_only_the_source_has_are_kept(
    old: Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids are the source's, at the start, after an interruption and in an evaluation."""
    source = shutil.copytree(old.folder, tmp_path / "source")
    data = text(tmp_path / "hi", "hi", vocabulary=Vocabulary(folder=str(source)))
    assert Corpora.open(data).languages == {"hi": 0}
    run = recipe(
        tmp_path / "new", data, ["hi"], model=None, initialize=Initialization(encoder=str(source)),
        steps=3,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "xlm"):
        first = pretrain(run)
    assert "languages kept that the data has not: en" in caplog.messages
    rows = xlm.load(source).transformer.state_dict()["encoder.languages.weight"]
    kept = first.learner.model.state_dict()["encoder.languages.weight"]
    assert torch.equal(kept[0], rows[0]) and not torch.equal(kept[1], rows[1])
    shutil.rmtree(source)  # only the first start needs it
    resolved = read_run(run.folder)
    assert resolved.model == dataclasses.replace(MODEL, language_embeddings=True)
    second = pretrain(dataclasses.replace(run, steps=6))
    assert second.state.step == 6
    loaded = checkpoint.load(Path(run.folder) / "checkpoints" / "step-00000006")
    assert loaded.state["languages"] == {"en": 0, "hi": 1}
    assert evaluate_run(Evaluate(folder=run.folder, which="latest"))["figures"] == second.figures
    assert xlm.load(Path(run.folder) / "model").languages == {"en": 0, "hi": 1}
    whole = pretrain(recipe(tmp_path / "whole", data, ["hi"], model=None, initialize=Initialization(
        encoder=str(old.folder)), steps=6))  # fmt: skip
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(value, second.learner.state_dict()[name]), name
    assert len(events(run.folder, "before")) == 1 and len(events(run.folder, "change")) == 2
    [*_, last] = events(run.folder, "change")
    assert last["before"] == events(tmp_path / "whole", "change")[0]["before"]


def test_held_out_languages_that_are_not_there_are_named(old: Result, tmp_path: Path) -> None:
    data = read_run(old.folder).data
    run = recipe(tmp_path / "new", data, ["en"], evaluate=["en", "ne"])
    with pytest.raises(DataError, match="evaluate names ne, .* held-out text exists for en, hi"):
        pretrain(run)
    with pytest.raises(ConfigError, match=r"evaluate must be a list: found 'en', give \[en\]"):
        MaskedLM(languages=["en"], evaluate="en")  # type: ignore[arg-type]
    masked = MaskedLM(languages=["en"], evaluate=["hi"], rows=4, length=32)
    corpora = Corpora.open(data)
    assert [s.id for s in masked.streams("m", corpora, seed=0)] == ["m/en"]
    assert [s.id for s in masked.streams("m", corpora, seed=0, split="valid")] == ["m/hi"]


# Vocabulary and shape.


def test_a_vocabulary_of_its_own_is_refused_or_extended(
    old: Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pieces that the old vocabulary has start where they were."""
    data = text(tmp_path / "data", "en", "hi", vocabulary=Vocabulary(size=600))
    start = Initialization(encoder=str(old.folder))
    run = recipe(tmp_path / "new", data, ["en", "hi"], model=None, initialize=start, steps=2)
    with pytest.raises(
        ConfigError, match="a different vocabulary from the data: 600 pieces here, 500"
    ):
        pretrain(run)
    extended = dataclasses.replace(start, vocabulary="extend")
    with caplog.at_level(logging.INFO, "xlm"):
        pretrain(dataclasses.replace(run, initialize=extended))
    assert "encoder: vocabulary of 600 pieces: " in caplog.text
    [before] = events(run.folder, "before")
    fresh = evaluate_fresh(recipe(tmp_path / "fresh", data, ["en", "hi"]))
    for name, own in fresh.items():
        assert before[name]["nats"] < own["nats"] - 0.3, "the old pieces are worth something"


def evaluate_fresh(run: Run) -> dict[str, dict[str, float]]:
    parallel = Parallel(torch.device("cpu"))
    session = begin(run, Corpora.open(run.data), RunFolder(run.folder, parallel))
    session.reporter.journal.close()
    return session.measure()


def test_a_translation_model_from_one_source(old: Result, tmp_path: Path, root: Path) -> None:
    """Its shape is the source's, with as many layers on either side."""
    pairs = {"en-hi": ["sample:train.en.txt", "sample:train.en.txt"]}
    data = tmp_path / "data"
    prepare(
        Prepare(
            folder=str(data),
            pairs=Aligned(train=pairs, valid=pairs),
            workers=1,
            vocabulary=Vocabulary(folder=str(old.folder / "model")),
            max_sentences={"en-hi": 60},
            max_valid_sentences=10,
        )  # fmt: skip
    )
    start = Initialization(encoder=str(old.folder), decoder=str(old.folder))
    objectives = {"mt": Translation(pairs=["en-hi"], tokens=512, length=60, num_lengths=3)}
    run = Run(
        data=str(data), folder=str(tmp_path / "new"), objectives=objectives, initialize=start,
        steps=2, group_size=1, evaluate_every=1, tensorboard=False, device="cpu",
    )  # fmt: skip
    result = pretrain(run)
    assert read_run(run.folder).shape.num_decoder_layers == 1
    [record] = events(run.folder, "initialized")
    assert all("cross_attention" in name for name in record["left"])
    assert not record["unused"]
    assert math.isfinite(result.figures["mt/en-hi"]["nats"])


def test_the_shape_must_come_from_somewhere(old: Result, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model is missing, and there is no initialize.encoder"):
        recipe(tmp_path, "d", ["en"], model=None)
    decoder = Initialization(decoder=str(old.folder))
    with pytest.raises(ConfigError, match="model is missing, and there is no initialize.encoder"):
        recipe(tmp_path, "d", ["en"], model=None, initialize=decoder)
    with pytest.raises(ConfigError, match="initialize has no source"):
        recipe(tmp_path, "d", ["en"], initialize=Initialization())
    run = recipe(tmp_path, "d", ["en"], model=None, initialize=Initialization(encoder="x"))
    with pytest.raises(
        ConfigError, match="that of initialize.encoder, which has not been read yet"
    ):
        print(run.shape)


def test_rows_that_the_source_s_positions_do_not_hold(old: Result, tmp_path: Path) -> None:
    objective = CausalLM(languages=["en"], rows=4, length=65)
    run = recipe(
        tmp_path / "new", read_run(old.folder).data, ["en"], model=None,
        initialize=Initialization(encoder=str(old.folder)),
    )  # fmt: skip
    run = dataclasses.replace(run, objectives={"clm": objective})
    with pytest.raises(ConfigError, match="length is 65, but the model has 64 positions"):
        pretrain(run)


# What a run leaves.


def test_no_model_directory_after_an_interruption(
    old: Result, more: str, tmp_path: Path, monkeypatch: Any
) -> None:
    run = recipe(tmp_path / "run", more, ["en"], steps=6)

    def stopped_after_one_step(self: Session, stop_requested: Any) -> None:
        whole(self, lambda: self.trainer.state.step >= 1)

    whole = Session.train
    monkeypatch.setattr(Session, "train", stopped_after_one_step)
    stopped = pretrain(dataclasses.replace(run, report_every=1))
    assert stopped.state.step < 6 and not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    assert pretrain(run).state.step == 6
    assert xlm.load(tmp_path / "run" / "model").languages == {"en": 0, "hi": 1, "ne": 2}
    shutil.rmtree(tmp_path / "run" / "model")
    pretrain(run)  # finished already
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    step = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["extra"]["step"]
    assert step == json.loads((tmp_path / "run/checkpoints/best.json").read_text())["step"]


def test_languages_that_a_checkpoint_does_not_know(old: Result, more: str) -> None:
    run = dataclasses.replace(read_run(old.folder), data=more, steps=9)
    with pytest.raises(
        ConfigError, match="not know the language ne: it knows en, hi; .*give the data"
    ):
        pretrain(run)


# Where there are checkpoints, and none of them can be read.


def damage_all(folder: Path) -> int:
    """Cut the weights of every checkpoint by a byte; return how many there were."""
    files = list(folder.glob("checkpoints/step-*/model.safetensors"))
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    return len(files)


def test_no_sound_checkpoint_is_not_step_0(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tiny.corpora(40)
    run = tiny.recipe(tmp_path / "run", steps=6, save_every=2, evaluate_every=2)
    whole = pretrain(run, made)
    metrics = (run.folder / Path("metrics.jsonl")).read_bytes()
    assert damage_all(Path(run.folder)) == 2
    with pytest.raises(CheckpointError) as caught:
        pretrain(run, made)
    line = str(caught.value)
    assert "none of its 2 checkpoints can be read; the newest: " in line
    assert "step-00000006/model.safetensors: has " in line and "--restart true" in line
    assert (run.folder / Path("metrics.jsonl")).read_bytes() == metrics

    again = pretrain(dataclasses.replace(run, restart=True), made)
    assert tiny.digest(dict(again.learner.named_parameters())) == tiny.digest(
        dict(whole.learner.named_parameters())
    )
    aside = Path(run.folder) / "before-restart-1"
    assert (aside / "metrics.jsonl").read_bytes() == metrics
    assert len(list(aside.glob("checkpoints/step-*"))) == 2
    assert f"restart at step 0 are now in {aside}" in caplog.text
    # with a sound one it says nothing, whatever the recipe insists on
    assert pretrain(dataclasses.replace(run, steps=8, restart=True), made).state.step == 8
    assert not (Path(run.folder) / "before-restart-2").exists()


def test_metrics_of_saved_steps_are_never_cut_to_nothing(tmp_path: Path) -> None:
    """The checkpoints lie on a disk that is not there today."""
    made = tiny.corpora(40)
    run = tiny.recipe(tmp_path / "run", steps=4, save_every=2)
    pretrain(run, made)
    metrics = (tmp_path / "run/metrics.jsonl").read_bytes()
    (tmp_path / "run/checkpoints").rename(tmp_path / "elsewhere")
    pretrain(run, made)
    assert (tmp_path / "run/before-restart-1/metrics.jsonl").read_bytes() == metrics


# Weights that are not finite.


def test_weights_that_are_not_finite_replace_no_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From step 5 on a weight is NaN, so that each update is skipped; steps 1 to 4 were good."""
    made = tiny.corpora(40)
    run = tiny.recipe(tmp_path, steps=8, save_every=1, keep_last=2, report_every=50)
    update = loop._update

    def broken(trainer: loop.Trainer, *rest: Any) -> torch.Tensor:
        if trainer.state.step == 4:
            with torch.no_grad():
                trainer.learner.model.encoder.words.weight[0, 0] = math.nan
        return update(trainer, *rest)

    monkeypatch.setattr(loop, "_update", broken)
    with pytest.raises(
        CheckpointError, match="step 8 is not saved: its model holds the tensor model."
    ):
        pretrain(run, made)
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("step-*")) == [
        "step-00000003", "step-00000004",
    ]  # fmt: skip
    assert "holds NaN (not finite are 1 of" in caplog.text


def test_nothing_is_pruned_while_updates_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.corpora(40)
    run = tiny.recipe(tmp_path, steps=6, save_every=1, keep_last=1)
    clip = loop.clip_

    def clipped(*arguments: Any) -> torch.Tensor:
        norm = clip(*arguments)
        return norm * math.nan if (tmp_path / "checkpoints/step-00000002").exists() else norm

    monkeypatch.setattr(loop, "clip_", clipped)
    assert pretrain(run, made).state.skipped == 4
    steps = sorted(int(p.name[5:]) for p in (tmp_path / "checkpoints").glob("step-*"))
    assert steps == [2, 3, 4, 5, 6]


def test_a_model_with_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    run = Run(
        data=text(tmp_path / "data", "en"), folder=str(tmp_path / "run"), model=MODEL, steps=1,
        objectives={"mlm": MaskedLM(languages=["en"], rows=2, length=16)}, group_size=1,
    )  # fmt: skip
    pretrain(run)
    for name in ("model", "averaged"):
        shutil.copytree(tmp_path / "run/model", tmp_path / name)
    file = tmp_path / "model/model.safetensors"
    tensors = read_tensors(file)
    tensors["encoder.layers.0.feed_forward.contract.weight"][1, 1] = math.nan
    write_tensors(file, tensors)
    with pytest.raises(CheckpointError, match=r"not what was written .*; the tensor .* holds NaN"):
        xlm.load(tmp_path / "model")
    (tmp_path / "model" / SUMS).unlink()  # as of a model that was written without sums
    named = r"tensor encoder.layers.0.feed_forward.contract.weight holds NaN \(not finite are 1 of"
    with pytest.raises(CheckpointError, match=named):
        xlm.load(tmp_path / "model")
    with pytest.raises(CheckpointError, match=named):
        export_model(
            Export(source=str(tmp_path / "model"), folder=str(tmp_path / "o"), format="xlm")
        )
    assert not (tmp_path / "o").exists()
    loaded = checkpoint.latest(tmp_path / "run/checkpoints").loaded
    assert loaded is not None
    state = loaded.tensors("model")
    state["model.encoder.words.weight"][0, 0] = math.inf
    again = {"model": state}
    others = {"directories": {"tokenizer": loaded.directory("tokenizer")}}
    texts = {"config.yaml": loaded.text("config.yaml")}
    checkpoint.save(loaded.path.parent, 1, again, loaded.state, texts, **others)
    with pytest.raises(
        CheckpointError, match="the tensor model.encoder.words.weight holds infinity"
    ):
        evaluate_run(Evaluate(folder=str(tmp_path / "run"), device="cpu"))
