"""LAMB against an independent package, in parts, and where it is Adam."""

import numpy as np
import pytest
import torch
from torch import nn

from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.lamb import Lamb
from xlm.training.optimizers.step import guarded_step, set_lr

SHAPES = [(32, 16), (16, 40), (7,), (1, 3)]


def _parameters() -> list[nn.Parameter]:
    """The third is 0, so that its first ratio is 1."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(0.1 * torch.randn(shape)) for shape in SHAPES]
    parameters[2].data.zero_()
    return parameters


@pytest.mark.parametrize(
    ("betas", "decay"),
    [
        # that package follows an older version of the paper, without bias corrections: they cancel
        # in the ratio if nothing decays, and are 1 if nothing is averaged
        ((0.9, 0.999), 0.0),
        ((0.0, 0.0), 0.1),
    ],
)
def test_twenty_updates_of_an_independent_package(betas: tuple[float, float], decay: float) -> None:
    package = pytest.importorskip("pytorch_optimizer", reason="needs an independent LAMB")
    ours, theirs = ([p for p in _parameters() if p.any()] for _ in range(2))
    settings = {"lr": 0.02, "betas": betas, "weight_decay": decay, "eps": 1e-12}
    optimizer = Lamb(ours, **settings)
    other = package.Lamb(theirs, weight_decouple=False, adam_debias=True, **settings)
    for _ in range(20):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimizer.step()
        other.step()
    for p, expected in zip(ours, theirs, strict=True):
        assert not torch.allclose(p, torch.zeros(()))
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_twenty_updates_of_the_algorithm_written_out(
    dtype: torch.dtype, bound: float, decay: float
) -> None:
    """Algorithm 2 of the paper (You et al. 2020) in float64, a parameter of zeros among them."""
    ours = [nn.Parameter(p.detach().to(dtype)) for p in _parameters()]
    optimizer = Lamb(ours, lr=0.02, weight_decay=decay)
    expected = [p.detach().double().numpy().copy() for p in ours]
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in expected]
    for t in range(1, 21):
        for p in ours:
            p.grad = torch.randn_like(p)
        optimizer.step()
        for p, x, (m, v) in zip(ours, expected, moments, strict=True):
            assert p.grad is not None
            gradient = p.grad.double().numpy()
            m[:] = 0.9 * m + 0.1 * gradient
            v[:] = 0.999 * v + 0.001 * gradient**2
            u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * x
            ratio = np.linalg.norm(x) / np.linalg.norm(u) if x.any() else 1.0
            x -= 0.02 * ratio * u
    for p, value in zip(ours, expected, strict=True):
        np.testing.assert_allclose(p.detach().double().numpy(), value, rtol=0, atol=bound)


def test_a_step_is_in_proportion_to_the_size() -> None:
    for p in _parameters():
        before = p.detach().clone()
        optimizer = Lamb([p], lr=0.01)
        p.grad = torch.randn_like(p)
        optimizer.step()
        size = before.norm() if before.any() else p.numel() ** 0.5
        moved = (p.detach() - before).norm() / size
        assert float(moved) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(("name", "num_parts"), [("query_key_value", 3), ("key_value", 2)])
def test_fused_matrices_and_biases_have_a_ratio_for_each_part(name: str, num_parts: int) -> None:
    torch.manual_seed(0)
    scales = torch.arange(1, num_parts + 1).repeat_interleave(4)
    fused = {
        "weight": nn.Parameter(torch.randn(num_parts * 4, 5) * scales[:, None]),
        "bias": nn.Parameter(torch.randn(num_parts * 4) * scales),
    }
    alone = {
        f"{key}.{part}": nn.Parameter(value.clone())
        for key, p in fused.items()
        for part, value in enumerate(p.detach().chunk(num_parts))
    }
    config = Optimizer(kind="lamb", weight_decay=0.1)
    named = [(f"model.encoder.layers.0.attention.{name}.{key}", p) for key, p in fused.items()]
    pair = build_optimizer(config, named), build_optimizer(config, alone.items())
    for _ in range(5):
        for key, p in fused.items():
            p.grad = torch.randn_like(p)
            for part, gradient in enumerate(p.grad.chunk(num_parts)):
                alone[f"{key}.{part}"].grad = gradient.clone()
        for each in pair:
            set_lr(each, 0.1)
            guarded_step(each, torch.tensor(0.0))
    for key, p in fused.items():
        parts = [alone[f"{key}.{part}"] for part in range(num_parts)]
        torch.testing.assert_close(p, torch.cat(parts), rtol=0, atol=1e-6)


def test_norms_and_biases_can_be_left_to_adam() -> None:
    """As the authors' program does: neither decay nor ratio for tensors of one dimension."""
    start = np.array([3.0, -4.0, 12.0])
    gradients = np.array([[1.0, -2.0, 0.5], [0.1, 0.2, -0.3]])
    for spared in (False, True):
        config = Optimizer(kind="lamb", weight_decay=0.1, decay_norms_and_biases=not spared)
        p = nn.Parameter(torch.tensor(start))
        optimizer = build_optimizer(config, [("norm", p)])
        expected, m, v = start.copy(), 0.0, 0.0
        for t, gradient in enumerate(gradients, start=1):
            p.grad = torch.tensor(gradient)
            set_lr(optimizer, 0.1)
            guarded_step(optimizer, torch.tensor(0.0))
            m, v = 0.9 * m + 0.1 * gradient, 0.98 * v + 0.02 * gradient**2
            update = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.98**t)) + 1e-8)
            ratio = 1.0
            if not spared:
                update = update + 0.1 * expected
                ratio = np.linalg.norm(expected) / np.linalg.norm(update)
            expected = expected - 0.1 * ratio * update
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-12)
