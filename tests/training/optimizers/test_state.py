"""An optimizer's state goes through a checkpoint by name, bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from xlm.errors import CheckpointError
from xlm.training.checkpoint import load, save
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.state import flatten_optimizer, restore_optimizer
from xlm.training.optimizers.step import guarded_step, set_lr

KINDS = {
    "adam": Optimizer(kind="adam"),
    "adamw": Optimizer(weight_decay=0.1, decay_norms_and_biases=False),
    "not fused": Optimizer(fused=False),
    "xlm-adam": Optimizer(kind="xlm-adam", weight_decay=0.1),
    "adafactor": Optimizer(kind="adafactor", weight_decay=0.1, decay_norms_and_biases=False),
    "lingvo-adafactor": Optimizer(kind="lingvo-adafactor", smallest_factored=4),
    "lamb": Optimizer(kind="lamb", weight_decay=0.1, decay_norms_and_biases=False),
    "muon": Optimizer(kind="muon", weight_decay=0.1),
}


class Model(nn.Module):
    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        parts = [
            ("one", nn.Linear(3, 4)),
            ("layers", nn.ModuleList([nn.Linear(4, 4)])),
            ("unused", nn.Linear(2, 2)),
        ]
        for name, part in reversed(parts) if reverse else parts:
            self.add_module(name, part)
        self.layers[0].weight.data.normal_()
        self.tied = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](self.one(x)).square().mean()


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(5, 3)).backward()
        set_lr(optimizer, 0.01)
        guarded_step(optimizer, torch.tensor(float(step == 2)))


def _build(config: Optimizer, reverse: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Model(reverse)
    return model, build_optimizer(config, model.named_parameters(), peak_lr=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_training_goes_on_bit_for_bit(tmp_path: Path, kind: str, reverse: bool) -> None:
    model, optimizer = _build(KINDS[kind])
    _train(model, optimizer, range(6))
    tensors, numbers = flatten_optimizer(optimizer, model.named_parameters())
    moments = {"exp_avg/tied", "exp_avg_sq/layers.0.bias"}
    if kind == "adafactor":  # means over rows and columns of a matrix
        moments = {"row_var/tied", "col_var/tied", "variance/layers.0.bias"}
    if kind == "lingvo-adafactor":  # the same, and squares of one that is too small
        moments = {"rows/layers.0.weight", "columns/layers.0.weight", "squares/tied"}
    if kind == "muon":  # no second moment, and no counter, of a matrix
        moments = {"exp_avg/tied", "exp_avg_sq/layers.0.bias", "momentum/layers.0.weight"}
        assert "step/layers.0.weight" not in tensors
    assert moments <= tensors.keys()
    assert not any("unused" in name for name in tensors)
    path = save(tmp_path, 6, {"model": model.state_dict(), "optimizer": tensors}, {"o": numbers})
    _train(model, optimizer, range(6, 12))

    # Parameters in another order: names decide, not places.
    resumed, other = _build(KINDS[kind], reverse)
    loaded = load(path)
    resumed.load_state_dict(loaded.tensors("model"))
    named = list(resumed.named_parameters())
    restore_optimizer(other, named, loaded.tensors("optimizer"), loaded.state["o"])
    again, same_numbers = flatten_optimizer(other, named)
    assert again.keys() == tensors.keys()
    if not reverse:
        assert same_numbers == numbers
    _train(resumed, other, range(6, 12))
    for name, p in model.named_parameters():
        assert torch.equal(p, resumed.get_parameter(name))
    final, _ = flatten_optimizer(optimizer, model.named_parameters())
    for name, tensor in flatten_optimizer(other, named)[0].items():
        assert torch.equal(tensor, final[name]), name


def test_restored_state_is_a_copy() -> None:
    model, optimizer = _build(KINDS["adamw"])
    _train(model, optimizer, range(2))
    tensors, numbers = flatten_optimizer(optimizer, model.named_parameters())
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    second, other = _build(KINDS["adamw"])
    restore_optimizer(other, second.named_parameters(), tensors, numbers)
    _train(second, other, range(2, 5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def test_what_a_group_holds_beside_settings_comes_back() -> None:
    model, optimizer = _build(KINDS["adam"])
    optimizer.param_groups[0]["step"] = 17  # as apex does
    set_lr(optimizer, 0.5)
    tensors, numbers = flatten_optimizer(optimizer, model.named_parameters())
    second, other = _build(KINDS["adam"])
    restore_optimizer(other, second.named_parameters(), tensors, numbers)
    assert other.param_groups[0]["step"] == 17
    assert other.param_groups[0]["lr"] == 0.0  # a setting: the recipe's and the schedule's


def test_another_model() -> None:
    model, optimizer = _build(KINDS["adamw"])
    _train(model, optimizer, range(2))
    tensors, numbers = flatten_optimizer(optimizer, model.named_parameters())
    second, other = _build(KINDS["adamw"])
    del second.unused
    smaller = build_optimizer(KINDS["adamw"], second.named_parameters())
    with pytest.raises(CheckpointError, match=r"unused.bias \(only in the checkpoint\)"):
        restore_optimizer(smaller, second.named_parameters(), tensors, numbers)
    wrong = {**tensors, "exp_avg/tied": torch.zeros(2, 2)}
    with pytest.raises(CheckpointError, match=r"tied is \[2, 2\] in the checkpoint"):
        restore_optimizer(optimizer, model.named_parameters(), wrong, numbers)
    model, optimizer = _build(KINDS["adafactor"])
    _train(model, optimizer, range(2))
    tensors, numbers = flatten_optimizer(optimizer, model.named_parameters())
    wrong = {**tensors, "row_var/tied": torch.zeros(3, 1)}
    with pytest.raises(CheckpointError, match=r"row_var of tied is \[3, 1\] in the checkpoint"):
        restore_optimizer(optimizer, model.named_parameters(), wrong, numbers)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("adamw", "muon"),
        ("muon", "adamw"),
        ("adafactor", "lamb"),
        ("lingvo-adafactor", "adamw"),
        ("adafactor", "lingvo-adafactor"),
    ],
)
def test_another_kind_of_optimizer(writer: str, reader: str) -> None:
    model, optimizer = _build(KINDS[writer])
    _train(model, optimizer, range(2))
    saved = flatten_optimizer(optimizer, model.named_parameters())
    second, other = _build(KINDS[reader])
    with pytest.raises(CheckpointError, match="resume with the optimizer.kind that wrote it"):
        restore_optimizer(other, second.named_parameters(), *saved)


def test_kin_of_adam_read_each_other() -> None:
    model, optimizer = _build(KINDS["adamw"])
    _train(model, optimizer, range(2))
    saved = flatten_optimizer(optimizer, model.named_parameters())
    for kind in ("adam", "not fused", "xlm-adam", "lamb"):
        second, other = _build(KINDS[kind])
        restore_optimizer(other, second.named_parameters(), *saved)
        _train(second, other, range(3, 4))
        assert other.state[second.tied]["step"] == 3
