"""Positions that are computed rather than learned: rotations of queries and keys, and sinusoids.

Both are functions of ``Batch.positions``, so that they follow every layout: the two sentences of a
TLM row, whose positions restart, turn by the same angles. Nothing is stored in a checkpoint.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """Factors of each feature and of its pair's other feature, ``[B or 1, 1, T, D/H]`` each."""

    cos: Tensor
    sin: Tensor
    """Negative in the first half, whose features lose what the second half's gain."""


def rotation(positions: Tensor, width: int, base: float, dtype: torch.dtype) -> Rotation:
    """Return the rotation of heads of ``width`` at ``positions`` (int64 ``[B, T]``).

    Pair k, of features k and k + width / 2, turns by position / base^(2k / width) (RoFormer, Su et
    al. 2021, section 3.2.2; base 10,000 as there). Angles are computed in float32, or in float64
    for a float64 model.
    """
    turns = angles(positions, width, base, dtype)[:, None]
    cos, sin = turns.cos(), turns.sin()
    return Rotation(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn the pairs of the queries or keys ``x`` ``[..., B, H, T, D/H]`` by their positions.

    Products of turned queries with turned keys depend on differences of positions alone.
    """
    first, second = x.chunk(2, dim=-1)
    others = torch.cat([second, first], dim=-1)
    return x * by.cos.to(x.dtype) + others * by.sin.to(x.dtype)


def sinusoids(positions: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return the fixed vectors ``[B, T, D]`` of ``positions`` (int64 ``[B, T]``).

    Sines at even places and cosines at odd ones ("Attention Is All You Need", section 3.5; so
    does the original XLM with ``sinusoidal_embeddings``).
    """
    turns = angles(positions, dim, 1e4, dtype)
    return torch.stack([turns.sin(), turns.cos()], dim=-1).flatten(-2).to(dtype)


def angles(positions: Tensor, width: int, base: float, dtype: torch.dtype) -> Tensor:
    """Return position / base^(2k / width) for each pair k, ``[B, T, width / 2]``, in radians.

    In float64 if ``dtype`` is that, else in float32.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    exponents = torch.arange(0, width, 2, device=positions.device, dtype=wide) / width
    return positions.to(wide)[..., None] / torch.pow(base, exponents)
