"""Averaged weights against the recurrence in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from xlm.errors import CheckpointError, ConfigError
from xlm.training.averaging import AveragedWeights


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2).double()


@pytest.mark.parametrize("warmup", [False, True])
def test_recurrence_with_skips(warmup: bool) -> None:
    model = _model()
    averaged = AveragedWeights(model.named_parameters(), 0.9, warmup=warmup)
    expected = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    updates = 0
    for step in range(40):
        skipped = step % 7 == 3
        if not skipped:
            updates += 1
            decay = min(0.9, updates / (9 + updates)) if warmup else 0.9
            for name, p in model.named_parameters():
                p.data += torch.randn_like(p)
                expected[name] = decay * expected[name] + (1 - decay) * p.detach().numpy()
        averaged.update(torch.tensor(float(skipped)))
    state = averaged.state_dict()
    for name, values in expected.items():
        np.testing.assert_allclose(state[name].numpy(), values, rtol=0, atol=1e-12)


def test_a_skipped_update_moves_nothing() -> None:
    model = _model()
    averaged = AveragedWeights(model.named_parameters(), 0.5)
    model.weight.data += 1
    before = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    averaged.update(torch.tensor(1.0))
    assert all(torch.equal(tensor, before[n]) for n, tensor in averaged.state_dict().items())
    averaged.update()
    assert not torch.equal(averaged.state_dict()["weight"], before["weight"])


def test_swapping_in_and_out_even_through_an_error() -> None:
    model = _model()
    averaged = AveragedWeights(model.named_parameters(), 0.5)
    model.weight.data += 1
    averaged.update()
    own, address = model.weight.detach().clone(), model.weight.data_ptr()
    average = averaged.state_dict()["weight"].clone()
    assert not torch.equal(own, average)
    with pytest.raises(RuntimeError, match="inside"), averaged.swapped_in():
        assert torch.equal(model.weight, average)
        assert model.weight.data_ptr() == address
        raise RuntimeError("inside")
    assert torch.equal(model.weight, own)
    assert torch.equal(averaged.state_dict()["weight"], average)


def test_state_comes_back() -> None:
    model = _model()
    averaged = AveragedWeights(model.named_parameters(), 0.9)
    for _ in range(3):
        model.weight.data += 1
        averaged.update()
    state = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    other = AveragedWeights(_model().named_parameters(), 0.9)
    other.load_state_dict(state)
    assert all(torch.equal(tensor, state[n]) for n, tensor in other.state_dict().items())


def test_a_state_that_does_not_fit() -> None:
    averaged = AveragedWeights(_model().named_parameters(), 0.9)
    state = averaged.state_dict()
    with pytest.raises(CheckpointError, match="weight"):
        averaged.load_state_dict({n: t for n, t in state.items() if n != "weight"})
    with pytest.raises(CheckpointError, match=r"weight is \[1\] in the checkpoint and \[2, 3\]"):
        averaged.load_state_dict({**state, "weight": torch.zeros(1)})


def test_misfits() -> None:
    with pytest.raises(ConfigError, match="1.0: expected a number in"):
        AveragedWeights(_model().named_parameters(), 1.0)
    with pytest.raises(ConfigError, match="no parameter is trainable"):
        AveragedWeights(_model().requires_grad_(False).named_parameters(), 0.5)
