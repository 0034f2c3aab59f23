"""Clipping, and the norm that tells of a gradient that is not finite."""

import numpy as np
import pytest
import torch
from torch import nn

from xlm.training.optimizers.step import clip_


def _parameters(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    """With gradients, but for the last."""
    torch.manual_seed(100)
    shapes = {"w": (3, 4), "b": (5,), "z": (2,)}
    parameters = {n: nn.Parameter(torch.zeros(shape, dtype=dtype)) for n, shape in shapes.items()}
    for name in ("w", "b"):
        parameters[name].grad = torch.randn_like(parameters[name])
    return parameters


@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 2.5, 1e6])
def test_clipping_in_float64(max_norm: float) -> None:
    parameters = _parameters(torch.float64)
    before = np.concatenate([parameters[n].grad.numpy().ravel() for n in ("w", "b")])
    norm = clip_(parameters.values(), max_norm)
    after = np.concatenate([parameters[n].grad.numpy().ravel() for n in ("w", "b")])
    length = np.sqrt((before**2).sum())
    assert norm.dtype == torch.float64
    assert abs(float(norm) - length) < 1e-12
    factor = min(1.0, max_norm / (length + 1e-6)) if max_norm else 1.0
    np.testing.assert_allclose(after, before * factor, rtol=1e-13)


def test_the_norm_tells_of_a_single_bad_gradient() -> None:
    for bad in (float("nan"), float("inf")):
        parameters = _parameters()
        parameters["w"].grad[1, 1] = bad
        assert not clip_(parameters.values(), 5.0).isfinite()
