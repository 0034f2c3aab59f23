"""Rotary positions in RoFormer's format: its pairs, and its table of sines and cosines."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.model.config import ModelConfig
from xlm.model.positions import angles

BASE = 10_000.0
"""RoFormer's base of wavelengths, which its configuration cannot change."""


def as_halves(tensor: Tensor, num_heads: int) -> Tensor:
    """Reorder rows of queries or keys from pairs of neighbors to our pairs (k, k + width / 2).

    ``tensor`` is ``[D, ...]``, the features of head after head.
    """
    rest = tensor.shape[1:]
    pairs = tensor.reshape(num_heads, -1, 2, *rest)
    return pairs.transpose(1, 2).reshape(tensor.shape)


def as_neighbors(tensor: Tensor, num_heads: int) -> Tensor:
    """Reorder rows of our queries or keys to pairs of neighbors: undo ``as_halves``."""
    rest = tensor.shape[1:]
    halves = tensor.reshape(num_heads, 2, -1, *rest)
    return halves.transpose(1, 2).reshape(tensor.shape)


def sinusoids(config: ModelConfig) -> Tensor:
    """Return the table of all positions, ``[positions, D/H]``: sines, then cosines."""
    return _table(config.max_positions, config.dim // config.num_heads).float()


def check_sinusoids(path: str | Path, name: str, table: Tensor) -> None:
    """Raise CheckpointError if a file's table of sines and cosines is not RoFormer's own."""
    if table.dim() != 2 or table.shape[1] % 2:
        raise CheckpointError(
            f"{path}: {name} has shape {list(table.shape)}, expected one row of even width "
            "per position"
        )
    expected = _table(*table.shape)
    if (table.double() - expected).abs().max() > 1e-2:  # half precision has three digits
        raise CheckpointError(
            f"{path}: {name} does not hold the sines and cosines of base {BASE:g}: expected "
            "rotary positions as in the RoFormer paper"
        )


def _table(num_positions: int, width: int) -> Tensor:
    turns = angles(torch.arange(num_positions), width, BASE, torch.float64)
    return torch.cat([turns.sin(), turns.cos()], dim=-1)
