"""Frozen parts keep every bit, heads have a rate of their own, plateaus halve it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.pretrain import Result, pretrain
from xlm.run import build as building
from xlm.run.config import Run, Stopping
from xlm.tasks.heads import Readout
from xlm.training.distributed.processes import Parallel
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.state import flatten_optimizer, restore_optimizer
from xlm.training.optimizers.step import set_lr
from xlm.training.schedule import Schedule

FEATURES = dataclasses.replace(tiny.NLI, readout=Readout(features=True, lstm_size=4, dropout=0.0))
EMBEDDED = ("words.", "positions.", "languages.", "segments.", "embedding_norm.")
UNUSED = ("model.encoder.output",)
"""Classification does not predict words."""


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora(20)


def recipe(folder: Path, **changes: Any) -> Run:
    optimizer = Optimizer(weight_decay=0.1, max_grad_norm=1.0)
    settings: dict[str, Any] = {
        "objectives": {"nli": tiny.NLI}, "steps": 3, "group_size": 1, "optimizer": optimizer,
        "model": tiny.model(num_segments=2, embedding_noise=0.1, dropout=0.1),
    }  # fmt: skip
    return tiny.recipe(folder, **{**settings, **changes})


def moved(run: Run, made: Corpora, result: Result) -> dict[str, bool]:
    """Of each parameter, whether a bit of it is another one than at the start."""
    start = building.build_learner(run, made).state_dict()
    now = result.learner.state_dict()
    return {name: not torch.equal(start[name], tensor) for name, tensor in now.items()}


@pytest.mark.parametrize("kind", ["adamw", "lingvo-adafactor"])
@pytest.mark.parametrize("num_layers", [None, 0, 1, 2])
def test_the_bottom_layers_keep_every_bit(
    made: Corpora, tmp_path: Path, num_layers: int | None, kind: Any
) -> None:
    optimizer = Optimizer(kind=kind, weight_decay=0.1, max_grad_norm=1.0)
    run = recipe(tmp_path, frozen_layers=num_layers, optimizer=optimizer, average=0.9)
    result = pretrain(run, made)
    layers = [f"layers.{layer}." for layer in range(num_layers or 0)]
    frozen = () if num_layers is None else (*EMBEDDED, *layers)
    found = moved(run, made, result)
    for name, changed in found.items():
        stays = name.startswith(tuple(f"model.encoder.{part}" for part in frozen))
        assert changed == (not stays and not name.startswith(UNUSED)), name
    assert sum(found.values()) < len(found) and found["heads.nli.output.weight"]
    trained = {n for n, p in result.learner.named_parameters() if p.requires_grad}
    assert trained == {name for name, changed in found.items() if changed}


def test_feature_based_training_leaves_the_encoder(made: Corpora, tmp_path: Path) -> None:
    run = recipe(tmp_path, objectives={"nli": FEATURES})
    found = moved(run, made, pretrain(run, made))
    assert {name for name, changed in found.items() if changed} == {
        name for name in found if name.startswith("heads.")
    }
    assert {"heads.nli.reader.mix", "heads.nli.reader.scale"} <= set(found)


def test_what_cannot_be_frozen(made: Corpora, tmp_path: Path) -> None:
    learner = building.build_learner(recipe(tmp_path), made)
    with pytest.raises(ConfigError, match="frozen_layers is 3, but the encoder has 2 layers"):
        building.freeze(learner, 3)
    building.freeze(learner, None)
    assert all(parameter.requires_grad for parameter in learner.parameters())
    with pytest.raises(ConfigError, match="frozen_layers must be at least 0: found -1"):
        recipe(tmp_path, frozen_layers=-1)
    with pytest.raises(ConfigError, match="frozen_layers is 3, but the encoder has 2 layers"):
        pretrain(recipe(tmp_path, frozen_layers=3), made)


@pytest.mark.parametrize("kind", ["adamw", "adafactor"])
def test_a_run_with_frozen_layers_goes_on_bit_for_bit(
    made: Corpora, tmp_path: Path, kind: Any
) -> None:
    optimizer = Optimizer(kind=kind, head_rate=3.0, weight_decay=0.1, max_grad_norm=1.0)
    settings = {"frozen_layers": 1, "optimizer": optimizer, "average": 0.9}
    whole = pretrain(recipe(tmp_path / "whole", steps=6, **settings), made)
    pretrain(recipe(tmp_path / "parts", steps=3, **settings), made)
    parts = pretrain(recipe(tmp_path / "parts", steps=6, **settings), made)
    assert tiny.digest(whole.learner.state_dict()) == tiny.digest(parts.learner.state_dict())
    assert tiny.journal(tmp_path / "whole") == tiny.journal(tmp_path / "parts")


# The rate of heads.


def largest_step(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> float:
    return max(
        float((after[name] - before[name]).abs().max()) for name in after if name.startswith(part)
    )


@pytest.mark.parametrize("rate", [0.0, 0.5, 10.0])
def test_heads_have_a_rate_of_their_own(made: Corpora, tmp_path: Path, rate: float) -> None:
    """Adam's first update is as long as the learning rate, whatever the gradient."""
    optimizer = Optimizer(kind="adam", head_rate=rate, max_grad_norm=0.0)
    run = recipe(tmp_path, steps=1, optimizer=optimizer)
    start = building.build_learner(run, made).state_dict()
    after = pretrain(run, made).learner.state_dict()
    assert largest_step(start, after, "model.") == pytest.approx(5e-3, rel=1e-3)
    assert largest_step(start, after, "heads.") == pytest.approx(5e-3 * rate, rel=1e-3)


def test_the_rate_of_heads_is_the_recipe_s_when_a_run_goes_on(
    made: Corpora, tmp_path: Path
) -> None:
    learner = building.build_learner(recipe(tmp_path), made)
    named = list(learner.named_parameters())
    tensors, numbers = flatten_optimizer(build_optimizer(Optimizer(head_rate=2.0), named), named)
    other = build_optimizer(Optimizer(head_rate=7.0), named)
    restore_optimizer(other, named, tensors, numbers)
    assert [group["rate"] for group in other.param_groups] == [1.0, 7.0]


# Plateaus.


def scores(monkeypatch: pytest.MonkeyPatch, *found: float) -> None:
    """Evaluations that find these, one after the other; the trial of one batch finds 0."""
    left = iter(found)

    def measured(*_: Any, most_batches: int | None, **__: Any) -> dict[str, dict[str, float]]:
        return {"nli/en": {"accuracy": 0.0 if most_batches is not None else next(left)}}

    monkeypatch.setattr("xlm.run.held_out.evaluate", measured)


def rates(folder: Path) -> list[float]:
    return [line["lr"] / 5e-3 for line in tiny.journal(folder).values()]


HALVING = Stopping(metric="accuracy", streams=["nli/en"], halve=True, lowest_lr=0.2 * 5e-3)


def test_a_plateau_halves_the_rate_until_it_is_too_low(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mBERT study, section 5: at each evaluation that is no better; equal is no better."""
    scores(monkeypatch, 0.3, 0.3, 0.5, 0.4, 0.5, 0.9)
    run = recipe(tmp_path, steps=20, evaluate_every=1, stopping=HALVING)
    result = pretrain(run, made)
    assert rates(tmp_path) == pytest.approx([1, 1, 0.5, 0.5, 0.25])
    assert result.stopped_early and result.state.rate == 0.125
    assert (result.state.step, result.state.best, result.state.best_step) == (5, -0.5, 3)


def test_the_halved_rate_is_kept_when_a_run_goes_on(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, 0.3, 0.2)
    pretrain(recipe(tmp_path, steps=2, evaluate_every=1, stopping=HALVING), made)
    scores(monkeypatch, 0.4, 0.1, 0.1, 0.1)
    result = pretrain(recipe(tmp_path, steps=9, evaluate_every=1, stopping=HALVING), made)
    assert rates(tmp_path) == pytest.approx([1, 1, 0.5, 0.5, 0.25])
    assert result.stopped_early and result.state.step == 5


def test_without_halving_the_rate_stays(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, *[0.3] * 6)
    with pytest.raises(
        ConfigError, match="lowest_lr is 0.001, but it only applies with stopping.halve"
    ):
        dataclasses.replace(HALVING, halve=False)  # a bound that nobody would look at
    stopping = dataclasses.replace(HALVING, halve=False, lowest_lr=0.0)
    result = pretrain(recipe(tmp_path, steps=6, evaluate_every=1, stopping=stopping), made)
    assert rates(tmp_path) == pytest.approx([1] * 6) and not result.stopped_early


# Muon.


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_muon_has_the_run_s_rates_and_precision(made: Corpora, precision: str) -> None:
    schedule = Schedule(kind="linear", peak_lr=4e-3, warmup_steps=2)
    optimizer = Optimizer(kind="muon", matrix_lr=0.03)
    run = tiny.recipe("", optimizer=optimizer, schedule=schedule, precision=precision)
    mixture = building.build_mixture(run, building.training_streams(run, made))
    trainer = building.build_trainer(run, made, mixture, Parallel(torch.device("cpu")))
    set_lr(trainer.optimizer, trainer.schedule.lr(2))
    groups = trainer.optimizer.param_groups
    rates = {group["parts"]: group["lr"] for group in groups}
    assert rates == pytest.approx({0: 4e-3, 1: 0.03, 3: 0.03})
    assert {group["bf16"] for group in groups} == {precision == "bf16"}
