"""The loss scale against a plain sequential one and against torch's own scaler."""

import pytest
import torch
from torch import nn

from xlm.errors import CheckpointError, ConfigError
from xlm.training.precision import LossScaler, autocast

CPU = torch.device("cpu")


def test_autocast() -> None:
    x = torch.randn(4, 4)
    for precision, dtype in (
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ):
        with autocast(CPU, precision):
            assert (x @ x).dtype == dtype
    with autocast(CPU, "fp32"):
        assert (x.double() @ x.double()).dtype == torch.float64
    with pytest.raises(ConfigError, match="'int8': choose one of fp32, bf16, fp16"):
        autocast(CPU, "int8")


def test_scale_moves_as_written() -> None:
    scaler = LossScaler(CPU, init_scale=2.0**10, growth_interval=3)
    scale, good, skipped = 2.0**10, 0, 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        bad = bool(torch.rand((), generator=generator) < 0.25)
        scaler.update(torch.tensor(float(bad)))
        if bad:
            scale, good, skipped = scale / 2, 0, skipped + 1
        else:
            good += 1
            if good == 3:
                scale, good = scale * 2, 0
        assert scaler.state_dict() == {"scale": scale, "good_updates": good, "skipped": skipped}
    assert skipped > 20
    assert int(scaler.skipped) == skipped


def test_training_as_with_the_scaler_of_torch() -> None:
    runs = []
    for own in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        ours = LossScaler(CPU, growth_interval=4)
        theirs = torch.amp.GradScaler("cpu", growth_interval=4)
        for step in range(12):
            scale = (ours if own else theirs).scale
            x = torch.randn(5, 3) * (float("inf") if step in (3, 7) else 1.0)
            scale(model(x).square().sum()).backward()
            if own:
                found_inf = ours.unscale_(model.parameters())
                assert float(found_inf) == float(step in (3, 7))
                if not found_inf:
                    optimizer.step()
                ours.update(found_inf)
            else:
                theirs.step(optimizer)
                theirs.update()
            optimizer.zero_grad()
        runs.append((ours._scale if own else torch.tensor(theirs.get_scale()), *model.parameters()))
    for mine, reference in zip(*runs, strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unscaling_undoes_the_scale_exactly(dtype: torch.dtype) -> None:
    p, unused = nn.Parameter(torch.randn(7, dtype=dtype)), nn.Parameter(torch.ones(1))
    p.grad = torch.randn(7, dtype=dtype)
    before = p.grad.clone()
    scaler = LossScaler(CPU)
    p.grad = scaler.scale(p.grad)
    assert p.grad.dtype == dtype
    found_inf = torch.zeros(())
    assert scaler.unscale_([p, unused], found_inf) is found_inf
    assert torch.equal(p.grad, before)
    assert found_inf == 0
    p.grad[2] = float("nan")
    scaler.unscale_([p], found_inf)
    assert found_inf == 1


def test_state_is_plain_numbers_and_comes_back() -> None:
    scaler = LossScaler(CPU, growth_interval=10)
    for flag in (0.0, 1.0, 0.0, 0.0):
        scaler.update(torch.tensor(flag))
    state = scaler.state_dict()
    assert state == {"scale": 2.0**15, "good_updates": 2, "skipped": 1}
    assert all(type(value) in (int, float) for value in state.values())
    other = LossScaler(CPU)
    other.load_state_dict(state)
    assert other.state_dict() == state
    with pytest.raises(CheckpointError, match="lacks good_updates, scale, skipped"):
        other.load_state_dict({})
