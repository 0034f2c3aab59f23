"""The original XLM's Adam: its own parameters, its recurrence, and arithmetic written out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.step import guarded_step, set_lr
from xlm.training.optimizers.xlm_adam import XlmAdam
from xlm.training.schedule import Schedule

GOLDEN = Path(__file__).parents[2] / "golden" / "optim.npz"
NAMES = ("w", "b", "z")


def _parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(3)
    return {n: nn.Parameter(torch.randn(s)) for n, s in {"w": (3, 4), "b": (5,), "z": (2,)}.items()}


def _gradients(parameters: dict[str, nn.Parameter], step: int) -> None:
    torch.manual_seed(100 + step)
    for p in parameters.values():
        p.grad = torch.randn_like(p)


def _golden_strings() -> dict[str, str]:
    with np.load(GOLDEN) as golden:
        return json.loads(str(golden["strings"]))


@pytest.mark.parametrize("name", _golden_strings())
def test_updates_of_the_original(name: str) -> None:
    given = dict(s.split("=") for s in _golden_strings()[name].split(",")[1:])
    with np.load(GOLDEN) as file:
        golden = {key: file[key] for key in file.files}
    parameters = {n: nn.Parameter(torch.tensor(golden[f"init.{n}"])) for n in NAMES}
    config = Optimizer(
        kind="xlm-adam",
        betas=(float(given.get("beta1", 0.9)), float(given.get("beta2", 0.999))),
        eps=float(given.get("eps", 1e-8)),
        weight_decay=float(given["weight_decay"]),
    )
    optimizer = build_optimizer(config, parameters.items())
    for k in range(20):
        for n, p in parameters.items():
            p.grad = torch.tensor(golden[f"grads.{n}"][k])
        set_lr(optimizer, float(golden[f"{name}.lr_used"][k]))
        guarded_step(optimizer, torch.tensor(0.0))
        for n, p in parameters.items():
            np.testing.assert_allclose(
                p.detach().numpy(), golden[f"{name}.{n}"][k], rtol=0, atol=2e-6
            )


RATES = {
    "inverse-sqrt": {"kind": "inverse-sqrt", "peak_lr": 6e-3, "warmup_steps": 10},
    "cosine": {"kind": "cosine", "peak_lr": 1e-2, "warmup_steps": 10, "period": 20},
}


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("rates", RATES)
def test_the_authors_adam_in_float64(rates: str, decay: float) -> None:
    """50 updates by hand (docs/fidelity.md, B7): decay first, eps beside the uncorrected root."""
    schedule, config = Schedule(**RATES[rates]), Optimizer(kind="xlm-adam", weight_decay=decay)
    parameters = _parameters()
    optimizer = build_optimizer(config, parameters.items())
    expected = {n: p.detach().double().numpy().copy() for n, p in parameters.items()}
    m = {n: np.zeros_like(p) for n, p in expected.items()}
    v = {n: np.zeros_like(p) for n, p in expected.items()}
    for t in range(1, 51):
        lr = schedule.lr(t - 1)
        _gradients(parameters, t)
        for n, p in expected.items():
            g = parameters[n].grad.double().numpy()
            if n == "z":
                g = np.zeros_like(g)  # decay alone moves it
                parameters[n].grad = torch.zeros_like(parameters[n])
            p -= lr * decay * p
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.98 * v[n] + 0.02 * g * g
            p -= lr * np.sqrt(1 - 0.98**t) / (1 - 0.9**t) * m[n] / (np.sqrt(v[n]) + 1e-8)
        set_lr(optimizer, lr)
        guarded_step(optimizer, torch.tensor(0.0))
    for n, p in parameters.items():
        np.testing.assert_allclose(p.detach().numpy(), expected[n], rtol=0, atol=1e-6)
    assert (decay > 0) == (not np.array_equal(expected["z"], _parameters()["z"].detach().double()))


def test_eps_lies_outside_the_bias_correction() -> None:
    """With a gradient as small as eps the first update is not AdamW's (docs/fidelity.md, B7)."""
    moved = {}
    for kind in ("xlm-adam", "adamw"):
        parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = build_optimizer(Optimizer(kind=kind, fused=False), [("p", parameter)])
        parameter.grad = torch.full((1,), 1e-8, dtype=torch.float64)
        set_lr(optimizer, 1.0)
        guarded_step(optimizer, torch.tensor(0.0))
        moved[kind] = -parameter.item()
    root = np.sqrt(0.02)  # of 1 - beta2; m is a tenth of the gradient, v a fiftieth of its square
    assert moved["xlm-adam"] == pytest.approx(root / 0.1 * 1e-9 / (root * 1e-8 + 1e-8), abs=1e-12)
    assert moved["adamw"] == pytest.approx(1e-8 / (1e-8 + 1e-8), abs=1e-12)


def test_xlm_adam_takes_a_closure() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = XlmAdam([p], lr=0.1)

    def closure() -> Tensor:
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2.0
    torch.testing.assert_close(p.detach(), torch.full((2,), 0.9))


class WrittenOut:
    """The same, one operation after the other, and a counter for each parameter."""

    def __init__(self, parameters: list[nn.Parameter], betas: tuple[float, float], eps: float):
        self.parameters, self.betas, self.eps = parameters, betas, eps
        self.steps = [0] * len(parameters)
        self.moments = [[torch.zeros_like(p), torch.zeros_like(p)] for p in parameters]

    @torch.no_grad()
    def step(self, lr: float, decay: float) -> None:
        beta1, beta2 = self.betas
        for place, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            self.steps[place] += 1
            first, second = self.moments[place]
            first.mul_(beta1).add_(p.grad, alpha=1 - beta1)
            second.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            t = self.steps[place]
            size = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
            p.mul_(1 - lr * decay).addcdiv_(first, second.sqrt() + self.eps, value=-size)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_torchs_kernel_without_its_corrections(eps: float, decay: float) -> None:
    """Within 5e-7, with parameters that are not in every update, skipped ones, and a resume."""
    shapes = [(300, 70), (64,), (5, 3), (129, 1)]
    torch.manual_seed(0)
    ours = [nn.Parameter(0.1 * torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    betas = (0.9, 0.98)
    written_out = WrittenOut(theirs, betas, eps)
    optimizer = XlmAdam(ours, betas=betas, eps=eps, weight_decay=decay)
    for step in range(60):
        if step == 30:
            state = optimizer.state_dict()
            optimizer = XlmAdam(ours, betas=betas, eps=eps, weight_decay=decay)
            optimizer.load_state_dict(state)
        skipped, lr = step % 7 == 3, 1e-3 * (1 + step % 5)
        for place, (p, other) in enumerate(zip(ours, theirs, strict=True)):
            absent = place and step % (place + 1) == 0
            p.grad = None if absent else 1e-3 * torch.randn_like(p)
            other.grad = None if absent else p.grad.clone()
        set_lr(optimizer, lr)
        guarded_step(optimizer, torch.tensor(float(skipped)))
        if not skipped:
            written_out.step(lr, decay)
    assert len(set(written_out.steps)) == len(shapes)
    for place, (p, other) in enumerate(zip(ours, theirs, strict=True)):
        assert optimizer.state[p]["step"] == written_out.steps[place]
        torch.testing.assert_close(p, other, rtol=0, atol=5e-7)
        for name, moment in zip(("exp_avg", "exp_avg_sq"), written_out.moments[place], strict=True):
            torch.testing.assert_close(optimizer.state[p][name], moment, rtol=1e-5, atol=1e-9)


def test_parameters_with_equal_counters_share_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    kernel = torch._fused_adamw_

    def counted(parameters: list[Tensor], *arguments: object, **settings: object) -> None:
        calls.append(len(parameters))
        kernel(parameters, *arguments, **settings)

    monkeypatch.setattr(torch, "_fused_adamw_", counted)
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(4)]
    optimizer = XlmAdam(parameters)
    for present in (4, 4, 2, 4):
        for place, p in enumerate(parameters):
            p.grad = torch.ones_like(p) if place < present else None
        guarded_step(optimizer, torch.tensor(0.0))
    assert calls == [4, 4, 2, 2, 2]
