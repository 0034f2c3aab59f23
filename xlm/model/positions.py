"""Positions that are computed rather than learned: rotations of queries and keys, and sinusoids.

Both are functions of ``Batch.positions``, so that whatever a layout says of places holds: the two
sentences of a TLM row, whose positions restart, turn by the same angles. Nothing is stored in a
checkpoint.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """Cosine and sine of each position's angles, ``[B or 1, 1, T, D/2H]`` each."""

    cos: Tensor
    sin: Tensor


def rotation(positions: Tensor, width: int, base: float, dtype: torch.dtype) -> Rotation:
    """Return the rotation of heads of ``width`` at ``positions`` (int64 ``[B, T]``).

    Pair k turns by position / base^(2k / width) (RoFormer, Su et al. 2021, section 3.2.2; base
    10,000 as there). Angles are computed in float32, or in float64 for a float64 model.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    angles = positions.to(wide)[..., None] / _wavelengths(width, base, positions.device, wide)
    return Rotation(angles.cos()[:, None], angles.sin()[:, None])


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn each pair (k, k + width / 2) of the queries or keys ``x`` by its position's angle.

    ``x`` is ``[B, H, T, D/H]``. Products of turned queries with turned keys depend on differences
    of positions alone.
    """
    cos, sin = by.cos.to(x.dtype), by.sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def sinusoids(positions: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return the fixed vectors ``[B, T, D]`` of ``positions`` (int64 ``[B, T]``).

    Sines at even places and cosines at odd ones ("Attention Is All You Need", section 3.5; so
    does the original XLM with ``sinusoidal_embeddings``).
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    angles = positions.to(wide)[..., None] / _wavelengths(dim, 1e4, positions.device, wide)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(dtype)


def _wavelengths(width: int, base: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return base^(2k / width) for each pair k of ``width`` features, ``[width / 2]``."""
    exponents = torch.arange(0, width, 2, device=device, dtype=dtype) / width
    return torch.pow(base, exponents)
