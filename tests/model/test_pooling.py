"""The mean of cells in float64; ``tests/tasks/test_heads.py`` has the other vectors of a row."""

from __future__ import annotations

import pytest
import torch

from xlm.model.pooling import pool


def test_a_mean_in_float64_loses_no_cell() -> None:
    states = torch.tensor([[[7.0], [1e8], [1.0], [-1e8], [9.0], [float("3e38")]]])
    own = pool(states, torch.tensor([5]), "mean", ends=1, double=True)
    assert own.dtype == torch.float64 and own.item() == pytest.approx(1 / 3)
    assert pool(states, torch.tensor([5]), "mean", ends=1).item() != pytest.approx(1 / 3)
