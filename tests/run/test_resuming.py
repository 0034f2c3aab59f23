"""Runs that go on: bit for bit whatever the optimizer, and only as the model that they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError
from xlm.objectives.translation import Translation
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer
from xlm.training.journal import METRICS, read_metrics

MT = Translation(pairs=["en-hi", "hi-en"], tokens=8 * 12, length=12, num_lengths=3)
TABLE = "model.encoder.words.weight"


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora()


def translating(**changes: Any) -> dict[str, Any]:
    """A translator with MLM beside it, whose sides have one table of words."""
    model = tiny.model(num_decoder_layers=1, dropout=0.1, shared_words=True)
    objectives = {"mlm": tiny.MLM, "mt": MT}
    return {"objectives": objectives, "model": model, "average": 0.9, "evaluate_every": 3,
            **changes}  # fmt: skip


def weights(result: Any) -> str:
    return tiny.digest(result.learner.state_dict())


@pytest.mark.parametrize("kind", ["adamw", "muon", "lamb"])
def test_a_translator_of_one_table_goes_on_bit_for_bit(
    kind: str, made: Corpora, tmp_path: Path
) -> None:
    optimizer = Optimizer(kind=kind, weight_decay=0.01, max_grad_norm=1.0)  # type: ignore[arg-type]
    settings = translating(optimizer=optimizer)
    whole = pretrain(tiny.recipe(tmp_path / "whole", steps=6, **settings), made)
    pretrain(tiny.recipe(tmp_path / "cut", steps=3, **settings), made)
    resumed = pretrain(tiny.recipe(tmp_path / "cut", steps=6, **settings), made)
    assert weights(resumed) == weights(whole)
    assert resumed.figures == whole.figures and set(whole.figures) > {"mt/en-hi", "mt/hi-en"}
    first = pretrain(tiny.recipe(tmp_path / "first", steps=1, **settings), made)
    assert weights(first) != weights(whole)
    for name in ("model", "averaged", "optimizer"):
        stored = load_file(tmp_path / f"cut/checkpoints/step-00000006/{name}.safetensors")
        tables = [key for key in stored if "words" in key]
        moments = ("step", "exp_avg", "exp_avg_sq")
        expected = [f"{m}/{TABLE}" for m in moments] if name == "optimizer" else [TABLE]
        assert sorted(tables) == sorted(expected)


def test_one_table_does_not_go_on_as_two(made: Corpora, tmp_path: Path) -> None:
    settings = translating(steps=1)
    pretrain(tiny.recipe(tmp_path, **settings), made)
    apart = dataclasses.replace(settings["model"], shared_words=False)
    with pytest.raises(CheckpointError, match="tensors do not fit .*decoder.words.weight"):
        pretrain(tiny.recipe(tmp_path, **{**settings, "model": apart, "steps": 2}), made)


def test_the_best_of_further_figures_stay(made: Corpora, tmp_path: Path) -> None:
    """Over a resume too; the run's own best is that of what stopping watches."""
    keep = ["tlm/en-hi/nats", "mlm/hi/accuracy"]
    settings = {"keep_best": keep, "evaluate_every": 1, "save_every": 1, "keep_last": 1}
    pretrain(tiny.recipe(tmp_path, steps=4, **settings), made)
    result = pretrain(tiny.recipe(tmp_path, steps=9, **settings), made)
    lines = read_metrics(tmp_path / METRICS)
    figures = {line["step"]: line for line in lines if line["event"] == "valid"}
    assert sorted(figures) == list(range(1, 10))
    nats = min(figures, key=lambda step: (figures[step]["tlm/en-hi"]["nats"], step))
    accuracy = max(figures, key=lambda step: (figures[step]["mlm/hi"]["accuracy"], -step))
    best = min(figures, key=lambda step: (figures[step]["score"], step))
    kept = {int(path.name[5:]) for path in (tmp_path / "checkpoints").glob("step-*")}
    assert kept == {nats, accuracy, best, 9}
    assert result.figures == {stream: figures[9][stream] for stream in result.figures}
    with pytest.raises(ConfigError, match="keep_best names mlm/sw/nats: expected some of mlm/en/"):
        pretrain(tiny.recipe(tmp_path / "x", evaluate_every=1, keep_best=["mlm/sw/nats"]), made)
    with pytest.raises(ConfigError, match="keep_best names a/b, but evaluate_every is 0"):
        tiny.recipe(tmp_path / "x", keep_best=["a/b"])


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({}, {"activation": "relu"}, "model.activation relu (was gelu)"),
        ({}, {"num_heads": 4}, "model.num_heads 4 (was 2)"),
        ({}, {"layer_norm_eps": 1e-5}, "model.layer_norm_eps 1e-05 (was 1e-12)"),
        ({}, {"window": 4, "global_every": 2}, "model.window 4 (was None)"),
        (
            {"positions": "rotary"},
            {"positions": "rotary", "rotary_base": 100.0},
            "model.rotary_base 100.0 (was 10000.0)",
        ),
        ({"positions": "rotary"}, {"positions": "sinusoidal"}, "model.positions sinusoidal"),
    ],
)
def test_a_run_goes_on_only_as_the_model_that_it_was(
    before: dict[str, Any], now: dict[str, Any], words: str, made: Corpora, tmp_path: Path
) -> None:
    pretrain(tiny.recipe(tmp_path, steps=1, model=tiny.model(**before)), made)
    with pytest.raises(CheckpointError) as caught:
        pretrain(tiny.recipe(tmp_path, steps=2, model=tiny.model(**now)), made)
    message = str(caught.value)
    assert words in message and "step-00000001" in message and "initialize.partial" in message
    assert "\n" not in message
    resumed = pretrain(tiny.recipe(tmp_path, steps=2, model=tiny.model(**before)), made)
    assert resumed.state.step == 2


def test_dropout_may_change(made: Corpora, tmp_path: Path) -> None:
    pretrain(tiny.recipe(tmp_path, steps=1, model=tiny.model()), made)
    resumed = pretrain(tiny.recipe(tmp_path, steps=2, model=tiny.model(dropout=0.2)), made)
    assert resumed.state.step == 2
