"""The objectives and tasks that a recipe may name, and the summed cross-entropy."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch

import xlm.objectives
import xlm.tasks
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.objective import Objective
from xlm.objectives import MaskedLM, Translation


@pytest.mark.parametrize("package", [xlm.objectives, xlm.tasks])
def test_a_package_exports_every_class_that_a_recipe_may_name(package: ModuleType) -> None:
    names = [each.name for each in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    classes = {
        cls
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Objective) and cls.__module__ == module.__name__
    }
    concrete = {cls.__name__ for cls in classes if not inspect.isabstract(cls)}
    assert sorted(concrete) == package.__all__


def test_sum_cross_entropy_is_a_sum_over_real_targets() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    targets = torch.tensor([2, -100, 0])
    by_hand = -(logits[0].softmax(0)[2].log() + torch.tensor(1 / 3).double().log())
    found = sum_cross_entropy(logits, targets)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-7)
    # smoothed: the target's share is 1 - e + e / V, the others' e / V each
    shares = torch.full((2, 3), 0.1 / 3, dtype=torch.float64)
    shares[0, 2] += 0.9
    shares[1, 0] += 0.9
    smoothed = -(shares * logits[[0, 2]].log_softmax(-1)).sum()
    found = sum_cross_entropy(logits, targets, label_smoothing=0.1)
    assert found.item() == pytest.approx(smoothed.item(), rel=1e-12)


def test_sum_cross_entropy_of_nothing_is_zero_with_a_gradient() -> None:
    for targets in (torch.full((2,), -100), torch.zeros(0, dtype=torch.int64)):
        logits = torch.randn(len(targets), 5, requires_grad=True)
        sum_cross_entropy(logits, targets).backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_sum_cross_entropy_sums_low_precision_in_float32() -> None:
    logits = torch.zeros(4096, 2, dtype=torch.bfloat16)
    found = sum_cross_entropy(logits, torch.zeros(4096, dtype=torch.int64))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(4096 * 0.6931471805599453, rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "compiled", "message"),
    [
        (
            MaskedLM(languages=["en"], length=65),
            False,
            "length is 65, but the model has 64 positions",
        ),
        (Translation(pairs=["en-ne"], length=65), True, "length is 65"),
    ],
)
def test_settings_that_do_not_fit_the_model(
    objective: Objective, compiled: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        objective.check(ModelConfig(preset="tiny", max_positions=64), compiled=compiled)


def test_rows_of_text_have_one_shape_and_an_unknown_model_has_room() -> None:
    MaskedLM(languages=["en"], length=10**6).check(None, compiled=True)
    MaskedLM(pairs=["en-ne"]).check(None, compiled=True)
