"""Updates that are skipped because their gradient is far larger than those before."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

DECAY = 0.99
"""Weight of the past in the running mean of the norm, once there are as many updates."""
FIRST = 100
"""Updates of which none is skipped: in a warm-up norms change fast."""


class Spikes:
    """Find updates whose gradient norm is more than ``factor`` times its recent mean.

    The mean follows every finite norm, a larger one as far as ``factor`` times the mean: a norm
    that stays high is soon accepted. Alike on all ranks, as the norm is. Only ``state`` waits for
    the device.
    """

    def __init__(self, device: torch.device, factor: float) -> None:
        self._device = device
        self._factor = factor
        self._mean = torch.zeros((), device=device)
        self._count = torch.zeros((), device=device)

    def __call__(self, norm: Tensor, found_inf: Tensor) -> Tensor:
        """Return 1 if the update is to be skipped, else 0 (float32 scalar).

        ``found_inf`` is 1 if the norm is not finite.
        """
        most = self._mean * self._factor
        is_spike = (self._count >= FIRST) & (norm > most)
        value = torch.where(self._count >= FIRST, torch.minimum(norm, most), norm)
        rate = torch.clamp(1 / (self._count + 1), min=1 - DECAY)
        finite = 1 - found_inf
        step = torch.where(finite.bool(), value - self._mean, torch.zeros_like(self._mean))
        self._mean = self._mean + rate * step
        self._count = self._count + finite
        return torch.maximum(found_inf, is_spike.float())

    def state(self) -> dict[str, float]:
        """Return the numbers that a checkpoint keeps; wait for the device."""
        return {"mean": float(self._mean), "count": float(self._count)}

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from numbers that ``state`` returned; begin anew without them."""
        mean, count = state.get("mean", 0.0), state.get("count", 0.0)
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self._device)
        self._count = torch.tensor(count, dtype=torch.float32, device=self._device)
