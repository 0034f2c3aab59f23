"""The updates that were skipped because their gradient was not finite, counted on the device."""

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

    def load(self, total: int, in_a_row: int) -> None:
        """Go on from numbers that :meth:`total` and :meth:`in_a_row` returned."""
        self._total = torch.tensor(float(total), device=self._device)
        self._in_a_row = torch.tensor(float(in_a_row), device=self._device)
        self._most_in_a_row = self._in_a_row.clone()
        self._copy = torch.zeros((), pin_memory=self._device.type == "cuda")
        self._copied: Any = None

    def add(self, found_inf: Tensor) -> None:
        """Count one update; ``found_inf`` (a scalar on the device) is 1 if it was skipped, or 0."""
        self._total += found_inf
        self._in_a_row = (self._in_a_row + found_inf) * found_inf
        self._most_in_a_row = torch.maximum(self._most_in_a_row, self._in_a_row)

    def total(self) -> int:
        """Return the number of skipped updates; wait for the device."""
        return int(self._total)

    def in_a_row(self) -> int:
        """Return the number of updates skipped in a row up to the last; wait for the device."""
        return int(self._in_a_row)

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
            raise TrainingError(
                f"step {step}: the gradient was not finite for {int(self._most_in_a_row)} updates "
                f"in a row ({of}); lower the learning rate, warm up longer, or train in bf16 or "
                "fp32"
            )
        self._most_in_a_row = self._in_a_row.clone()
