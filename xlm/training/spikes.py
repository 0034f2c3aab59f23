"""Updates that are skipped because their gradient is far larger than those before."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

DECAY = 0.99
"""Weight of the past in the running mean of the norm, once there are as many updates."""
FIRST = 100
"""Updates of which none is skipped: in a warm-up norms change fast."""
MOST_IN_A_ROW = 10
"""Spikes in a row after which their lowest norm is the new mean."""


class Spikes:
    """Find updates whose gradient norm is more than ``factor`` times its recent mean.

    The mean follows every finite norm, a larger one as far as ``factor`` times the mean. Of norms
    that stay high ``MOST_IN_A_ROW`` are spikes: then the lowest of them is the mean. Alike on all
    ranks, as the norm is. Only ``state`` waits for the device.
    """

    def __init__(self, device: torch.device, factor: float) -> None:
        self._device = device
        self._factor = factor
        self._mean: Tensor
        self._count: Tensor
        self._in_a_row: Tensor
        self._lowest: Tensor
        self.load({})

    def __call__(self, norm: Tensor, found_inf: Tensor) -> Tensor:
        """Return 1 if the update is to be skipped, else 0 (float32 scalar).

        ``found_inf`` is 1 if the norm is not finite.
        """
        most = self._mean * self._factor
        finite = 1 - found_inf
        is_spike = (self._count >= FIRST) & (norm > most) & finite.bool()
        value = torch.where(self._count >= FIRST, torch.minimum(norm, most), norm)
        rate = torch.clamp(1 / (self._count + 1), min=1 - DECAY)
        step = torch.where(finite.bool(), value - self._mean, torch.zeros_like(self._mean))
        lowest = torch.where(self._in_a_row > 0, torch.minimum(norm, self._lowest), norm)
        self._lowest = torch.where(is_spike, lowest, self._lowest)
        # an update that is not finite says nothing about the level of the norm
        self._in_a_row = (self._in_a_row + is_spike) * (is_spike | ~finite.bool())
        stays_high = self._in_a_row >= MOST_IN_A_ROW
        self._mean = torch.where(stays_high, self._lowest, self._mean + rate * step)
        self._in_a_row = self._in_a_row * ~stays_high
        self._count = self._count + finite
        return torch.maximum(found_inf, is_spike.float())

    def state(self) -> dict[str, float]:
        """Return the numbers that a checkpoint keeps; wait for the device."""
        return {
            "mean": float(self._mean), "count": float(self._count),
            "in_a_row": float(self._in_a_row), "lowest": float(self._lowest),
        }  # fmt: skip

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from numbers that ``state`` returned; begin anew without them."""

        def number(name: str) -> Tensor:
            return torch.tensor(state.get(name, 0.0), dtype=torch.float32, device=self._device)

        self._mean, self._count = number("mean"), number("count")
        self._in_a_row, self._lowest = number("in_a_row"), number("lowest")
