"""Muon against torch's own, one by one and in parts, and what orthogonal means to it."""

import numpy as np
import pytest
import torch
from torch import nn

from xlm.training.optimizers.muon import Muon, orthogonalize
from xlm.training.optimizers.step import guarded_step, set_lr

SHAPES = [(32, 32), (96, 32), (32, 80), (32, 32), (7, 5), (1, 9)]
needs_torchs = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="this version of torch has no Muon to compare with"
)


def _matrices(shapes: list[tuple[int, int]]) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(0.1 * torch.randn(shape)) for shape in shapes]


def _set_gradients(step: int, ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> None:
    torch.manual_seed(100 + step)
    for p, other in zip(ours, theirs, strict=True):
        p.grad = torch.randn_like(p)
        other.grad = p.grad.clone()


@needs_torchs
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_updates_are_torchs(decay: float) -> None:
    ours, theirs = _matrices(SHAPES), _matrices(SHAPES)
    optimizer = Muon(ours, weight_decay=decay)
    other = torch.optim.Muon(theirs, weight_decay=decay, momentum=0.95)
    for step in range(20):
        _set_gradients(step, ours, theirs)
        for each in (optimizer, other):
            set_lr(each, 0.02 * (1 + step % 3))
        guarded_step(optimizer, torch.tensor(0.0))
        guarded_step(optimizer, torch.tensor(1.0))
        other.step()
    for p, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


@needs_torchs
@pytest.mark.parametrize("num_parts", [2, 3])
def test_matrices_one_above_the_other_are_torchs_one_by_one(num_parts: int) -> None:
    (whole,) = _matrices([(num_parts * 16, 12)])
    parts = [nn.Parameter(part.clone()) for part in whole.detach().chunk(num_parts)]
    optimizer = Muon([whole], lr=0.02, parts=num_parts)
    other = torch.optim.Muon(parts, lr=0.02, weight_decay=0.0, momentum=0.95)
    for step in range(20):
        _set_gradients(step, [whole], [whole])
        for part, gradient in zip(parts, whole.grad.chunk(num_parts), strict=True):
            part.grad = gradient.clone()
        optimizer.step()
        other.step()
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_without_bf16_the_arithmetic_is_the_parameters(
    dtype: torch.dtype, bound: float, decay: float
) -> None:
    """The algorithm written out in float64, for a tall, a wide and a square matrix."""
    for shape in ((12, 5), (5, 12), (8, 8)):
        torch.manual_seed(0)
        p = nn.Parameter(torch.randn(shape).to(dtype))
        optimizer = Muon([p], lr=0.02, weight_decay=decay, bf16=False)
        expected, average = p.detach().double().numpy().copy(), np.zeros(shape)
        for _ in range(20):
            p.grad = torch.randn_like(p)
            optimizer.step()
            gradient = p.grad.double().numpy()
            average = 0.95 * average + 0.05 * gradient
            x = 0.95 * average + 0.05 * gradient
            x = x / np.linalg.norm(x)
            for _ in range(5):
                gram = x @ x.T
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            size = 0.02 * max(1, shape[0] / shape[1]) ** 0.5
            expected = expected * (1 - 0.02 * decay) - size * x
        np.testing.assert_allclose(p.detach().double().numpy(), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(24, 24), (48, 24), (24, 48)])
def test_singular_values_come_near_1(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    matrices = 100 * left * torch.linspace(0.1, 1, 24) @ right
    found = orthogonalize(matrices.to(dtype)).float()
    values = torch.linalg.svdvals(found)
    assert 0.6 < values.min() and values.max() < 1.3
    # the singular vectors stay
    turned = left.mT @ found @ right.mT
    assert (turned - turned.diagonal(dim1=1, dim2=2).diag_embed()).abs().max() < 0.05
    assert not orthogonalize(torch.zeros(1, *shape)).any()
