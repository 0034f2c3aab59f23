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


def test_twenty_updates_of_an_independent_package() -> None:
    timm = pytest.importorskip("timm.optim", reason="needs timm, an independent LAMB")
    ours, theirs = _parameters(), _parameters()
    optimizer = Lamb(ours, lr=0.02, weight_decay=0.01)
    other = timm.Lamb(theirs, lr=0.02, weight_decay=0.01, eps=1e-6, max_grad_norm=None)
    for _ in range(20):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimizer.step()
        other.step()
    for p, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


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
