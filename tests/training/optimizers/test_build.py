"""Every kind of optimizer: textbook recurrences, and a skip bit for bit."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from xlm.errors import ConfigError
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.step import guarded_step, set_lr


class StandIn(torch.optim.SGD):
    """Takes apex's place: an optimizer that keeps its step counter in the group, as apex does."""

    def __init__(self, groups, lr, betas, eps, adam_w_mode):
        super().__init__(groups, lr=lr, momentum=0.9)

    def step(self, closure=None):
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
        return super().step(closure)


KINDS = {
    "adam": Optimizer(kind="adam", weight_decay=0.1),
    "adam, not fused": Optimizer(kind="adam", weight_decay=0.1, fused=False),
    "adamw": Optimizer(kind="adamw", weight_decay=0.1),
    "adamw, not fused": Optimizer(kind="adamw", weight_decay=0.1, fused=False),
    "xlm-adam": Optimizer(kind="xlm-adam", weight_decay=0.1),
    "apex-adam": Optimizer(kind="apex-adam", weight_decay=0.1),
    "adafactor": Optimizer(kind="adafactor", weight_decay=0.1),
    "lingvo-adafactor": Optimizer(kind="lingvo-adafactor", weight_decay=0.1, momentum=0.9),
    "lamb": Optimizer(kind="lamb", weight_decay=0.1),
    "muon": Optimizer(kind="muon", weight_decay=0.1),
}
OTHERS = {"apex-adam", "muon", "lingvo-adafactor"}
"""Kinds that are compared with something else than a recurrence."""


@pytest.fixture
def apex(monkeypatch: pytest.MonkeyPatch) -> None:
    package, optimizers = types.ModuleType("apex"), types.ModuleType("apex.optimizers")
    optimizers.FusedAdam = StandIn
    monkeypatch.setitem(sys.modules, "apex", package)
    monkeypatch.setitem(sys.modules, "apex.optimizers", optimizers)


def _parameters(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    torch.manual_seed(3)
    shapes = {"w": (3, 4), "b": (5,), "z": (2,)}
    return {name: nn.Parameter(torch.randn(s, dtype=dtype)) for name, s in shapes.items()}


def _build(kind: str, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """Over parameters of a layer, so that muon has a matrix and others."""
    named = ((f"model.encoder.layers.0.{name}", p) for name, p in parameters.items())
    return build_optimizer(KINDS[kind], named, peak_lr=0.1)


def _gradients(parameters: dict[str, nn.Parameter], step: int) -> None:
    torch.manual_seed(100 + step)
    for p in parameters.values():
        p.grad = torch.randn_like(p)


def _textbook(config: Optimizer, start: np.ndarray, gradients: list, rates: list) -> np.ndarray:
    """Kingma and Ba 2015 (adam: decay in the gradient), Loshchilov and Hutter 2019 (adamw)."""
    if config.kind == "adafactor":
        return _adafactor(config, start, gradients, rates)
    if config.kind == "lamb":
        return _lamb(config, start, gradients, rates)
    p, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    beta1, beta2 = config.betas
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        if config.kind == "adam":
            gradient = gradient + config.weight_decay * p
        else:
            p = p - lr * config.weight_decay * p
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        if config.kind == "xlm-adam":
            size = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            p = p - size * m / (np.sqrt(v) + config.eps)
        else:
            p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + config.eps)
    return p


def _lamb(config: Optimizer, start: np.ndarray, gradients: list, rates: list) -> np.ndarray:
    """You et al. 2020, algorithm 2, with the bias corrections that its text asks for."""
    p, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    beta1, beta2 = config.betas
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        ratio = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + config.eps)
        update = ratio + config.weight_decay * p
        p = p - lr * np.sqrt((p**2).sum()) / np.sqrt((update**2).sum()) * update
    return p


def _adafactor(config: Optimizer, start: np.ndarray, gradients: list, rates: list) -> np.ndarray:
    """Shazeer and Stern 2018, algorithms 4 and 5, with decoupled decay: no momentum."""

    def rms(x: np.ndarray) -> float:
        return float(np.sqrt((x**2).mean()))

    p, v, rows, columns = start.copy(), 0.0, 0.0, 0.0
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        step = max(1e-3, rms(p)) * min(lr, t**-0.5)
        p = p - lr * config.weight_decay * p
        decay = 1 - t**-0.8
        if p.ndim == 1:
            v = decay * v + (1 - decay) * gradient**2
        else:
            rows = decay * rows + (1 - decay) * (gradient**2).mean(1, keepdims=True)
            columns = decay * columns + (1 - decay) * (gradient**2).mean(0, keepdims=True)
            v = rows * columns / rows.mean()
        update = gradient / np.sqrt(v)
        p = p - step * update / max(1.0, rms(update))
    return p


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OTHERS])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_recurrences(kind: str, dtype: torch.dtype, bound: float) -> None:
    parameters = _parameters(dtype)
    start = {n: p.detach().double().numpy().copy() for n, p in parameters.items()}
    gradients: dict[str, list] = {n: [] for n in parameters}
    rates = [0.01 * (1 + step % 5) for step in range(30)]
    optimizer = _build(kind, parameters)
    for step, lr in enumerate(rates):
        _gradients(parameters, step)
        for n, p in parameters.items():
            gradients[n].append(p.grad.double().numpy().copy())
        set_lr(optimizer, lr)
        guarded_step(optimizer, torch.tensor(0.0))
    for n, p in parameters.items():
        expected = _textbook(KINDS[kind], start[n], gradients[n], rates)
        np.testing.assert_allclose(p.detach().double().numpy(), expected, rtol=0, atol=bound)


def test_decay_of_norms_and_biases_can_be_turned_off() -> None:
    for spared in (False, True):
        parameters = _parameters()
        config = Optimizer(weight_decay=0.5, decay_norms_and_biases=not spared)
        optimizer = build_optimizer(config, parameters.items())
        before = {n: p.detach().clone() for n, p in parameters.items()}
        for p in parameters.values():
            p.grad = torch.zeros_like(p)
        set_lr(optimizer, 0.1)
        guarded_step(optimizer, torch.tensor(0.0))
        torch.testing.assert_close(parameters["w"].detach(), before["w"] * 0.95)
        torch.testing.assert_close(parameters["b"].detach(), before["b"] * (1 if spared else 0.95))


def _everything(optimizer: torch.optim.Optimizer) -> list[bytes | int]:
    """Parameters, moments and counters, to the bit."""
    found: list[bytes | int] = []
    for group in optimizer.param_groups:
        found.append(group.get("step", -1))
        for p in group["params"]:
            found.append(p.detach().numpy().tobytes())
            state = optimizer.state[p]
            found.extend(state[key].numpy().tobytes() for key in sorted(state))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_skipped_update_changes_no_bit(kind: str, bad: float, apex: None) -> None:
    parameters, undisturbed = _parameters(), _parameters()
    parameters["w"].data[0, 0] = undisturbed["w"].data[0, 0] = -0.0
    optimizer, other = (_build(kind, p) for p in (parameters, undisturbed))
    for each in (optimizer, other):
        set_lr(each, 0.1)
    for step in range(6):
        _gradients(parameters, step)
        _gradients(undisturbed, step)
        guarded_step(optimizer, torch.tensor(0.0))
        guarded_step(other, torch.tensor(0.0))
        before = _everything(optimizer)
        for p in parameters.values():
            p.grad = torch.full_like(p, bad)
        guarded_step(optimizer, torch.tensor(1.0))
        assert _everything(optimizer) == before
    assert _everything(optimizer) == _everything(other)
    assert before != _everything(_build(kind, _parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_update_may_be_the_skipped_one(kind: str, apex: None) -> None:
    parameters, fresh = _parameters(), _parameters()
    optimizer, other = (_build(kind, p) for p in (parameters, fresh))
    for each in (optimizer, other):
        set_lr(each, 0.1)
    _gradients(parameters, 0)
    parameters["w"].grad[0, 0] = float("inf")
    guarded_step(optimizer, torch.tensor(1.0))
    for each, own in ((optimizer, parameters), (other, fresh)):
        _gradients(own, 1)
        guarded_step(each, torch.tensor(0.0))
    assert _everything(optimizer) == _everything(other)


def test_parameters_without_gradient_stay() -> None:
    for kind in ("adamw", "xlm-adam", "lingvo-adafactor", "lamb", "muon"):
        parameters = _parameters()
        optimizer = _build(kind, parameters)
        set_lr(optimizer, 0.1)
        _gradients(parameters, 0)
        parameters["b"].grad = None
        before = parameters["b"].detach().clone()
        guarded_step(optimizer, torch.tensor(0.0))
        assert torch.equal(parameters["b"], before)
        assert not torch.equal(parameters["w"], _parameters()["w"])


def test_shared_and_frozen_parameters() -> None:
    parameters = _parameters()
    parameters["z"].requires_grad_(False)
    twice = [*parameters.items(), ("tied", parameters["w"])]
    optimizer = build_optimizer(Optimizer(), twice)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    with pytest.raises(ConfigError, match="no parameter is trainable"):
        build_optimizer(Optimizer(), [("z", parameters["z"])])


def test_apex_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apex.optimizers", None)
    with pytest.raises(ConfigError, match="unrelated package") as caught:
        build_optimizer(Optimizer(kind="apex-adam"), _parameters().items())
    assert "\n" not in str(caught.value)
