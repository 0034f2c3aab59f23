"""The updates that were skipped for their gradient, counted on the device.

It was not finite, or a spike (``xlm.training.spikes``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlm.errors import TrainingError


class SkippedUpdates:
    """Count skipped updates without waiting for the device; only the methods that say so wait.

    ``limit`` is the number of skipped updates in a row at which a run counts as stuck.
    """

    def __init__(self, device: torch.device, limit: int = 50) -> None:
        self.limit = limit
        self._device = device
        self.load(0, 0)

    def load(self, total: int, in_a_row: int, spikes: int = 0) -> None:
        """Go on from numbers that the methods of the same names returned."""
        self._total = torch.tensor(float(total), device=self._device)
        self._in_a_row = torch.tensor(float(in_a_row), device=self._device)
        self._spikes = torch.tensor(float(spikes), device=self._device)
        self._most_in_a_row, self._most_spikes = self._in_a_row.clone(), self._spikes.clone()
        self._copy = torch.zeros((), pin_memory=self._device.type == "cuda")
        self._copied: Any = None

    def add(self, skips: Tensor, found_inf: Tensor | None = None) -> None:
        """Count one update; ``skips`` (a scalar on the device) is 1 if it was skipped, or 0.

        ``found_inf`` is 1 if the reason is that the gradient was not finite, 0 for a spike; None:
        no update is skipped for a spike.
        """
        self._total += skips
        self._in_a_row = (self._in_a_row + skips) * skips
        is_longer = self._in_a_row > self._most_in_a_row
        self._most_in_a_row = torch.maximum(self._most_in_a_row, self._in_a_row)
        if found_inf is not None:
            self._spikes = (self._spikes + skips - found_inf) * skips
            self._most_spikes = torch.where(is_longer, self._spikes, self._most_spikes)

    def total(self) -> int:
        """Return the number of skipped updates; wait for the device."""
        return int(self._total)

    def in_a_row(self) -> int:
        """Return the number of updates skipped in a row up to the last; wait for the device."""
        return int(self._in_a_row)

    def spikes(self) -> int:
        """Return how many of the updates skipped in a row are spikes; wait for the device."""
        return int(self._spikes)

    def looks_stuck(self) -> bool:
        """Return whether ``limit`` updates in a row were skipped, as of the look before on a GPU.

        Nothing waits for the device: it copies the number while the updates go on.
        """
        if self._device.type != "cuda":
            return bool(self._most_in_a_row >= self.limit)
        if self._copied is not None and not self._copied.query():
            return False
        found = self._copied is not None and bool(self._copy >= self.limit)
        self._copy.copy_(self._most_in_a_row, non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record()
        return found

    def raise_if_stuck(self, step: int, of: str) -> None:
        """Raise TrainingError if ``limit`` updates in a row were skipped since the last call.

        Waits for the device. The message names ``step`` and ``of``, the thing that was trained.
        """
        if self._most_in_a_row >= self.limit:
            num, spikes = int(self._most_in_a_row), int(self._most_spikes)
            found, advice = f"not finite for {num} updates in a row", ""
            if spikes:
                found = (
                    f"of no use for {num} updates in a row, not finite in {num - spikes}, a spike "
                    f"in {spikes}"
                )
                advice = ", or raise skip_spikes"
            raise TrainingError(
                f"step {step}: the gradient was {found} ({of}); lower the learning rate, warm up "
                f"longer, or train in bf16 or fp32{advice}"
            )
        self._most_in_a_row, self._most_spikes = self._in_a_row.clone(), self._spikes.clone()
