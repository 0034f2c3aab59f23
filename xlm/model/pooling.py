"""One vector of the states of a row: the first, the mean or the maximum of its cells."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["first", "max", "mean"]


def pool(
    states: Tensor, lengths: Tensor, pooling: Pooling, *, ends: int = 0, double: bool = False
) -> Tensor:
    """Return ``[B, W]`` of states ``[B, T, W]``; padding is never looked at.

    ``lengths`` int64 ``[B]``. ``ends`` cells at either end of a row, such as the special tokens
    that open and close a sentence, have no part in the mean and the maximum; the mean of no cell is
    0. ``double``: the mean is summed, and returned, in float64.
    """
    if pooling == "first":
        return states[:, 0]
    places = torch.arange(states.shape[1], device=states.device)
    real = places < lengths[:, None]
    if ends:
        real = (places >= ends) & (places < lengths[:, None] - ends)
        lengths = real.sum(1).clamp(min=1)
    cells = real[:, :, None]
    if pooling == "max":
        return states.masked_fill(~cells, float("-inf")).amax(1)
    if double:
        return (real.double()[:, None] @ states.double())[:, 0] / lengths[:, None]
    return (states * cells).sum(1) / lengths[:, None].to(states.dtype)
