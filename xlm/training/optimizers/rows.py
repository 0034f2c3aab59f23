"""Whole matrices for optimizers whose parameters are rows, some on each process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from xlm.training.pieces import Rows


@dataclass(frozen=True)
class RowsOfRanks:
    """The rows that this process has of each parameter, and exchanges with those of the others.

    Each process of ``group`` has as many rows of a parameter as any other, but for the last ones.
    All methods that exchange are collective, and none waits for the device.
    """

    rows: Mapping[int, Rows]
    """By the ``id`` of the parameter."""
    group: Any

    def of(self, parameter: Tensor) -> Rows:
        """Return which rows of a parameter this process has."""
        return self.rows[id(parameter)]

    def whole(self, own: Tensor, total: int) -> Tensor:
        """Return all ``total`` rows of a tensor from the ``own`` ones of each process."""
        world = dist.get_world_size(self.group)
        size = -(-total // world)
        padded = own.new_zeros(size, *own.shape[1:])
        padded[: len(own)] = own
        gathered = own.new_empty(size * world, *own.shape[1:])
        # As bytes: not every back end knows every type of numbers.
        dist.all_gather_into_tensor(
            gathered.view(torch.uint8), padded.view(torch.uint8), group=self.group
        )
        return gathered[:total]

    def add_(self, sums: Tensor) -> Tensor:
        """Add up ``sums`` over the processes, in place."""
        dist.all_reduce(sums, group=self.group)
        return sums

    def parts(self, parameter: Tensor, num_parts: int) -> list[slice]:
        """Return the own rows, from 0, of each of ``num_parts`` equal parts of a parameter."""
        own = self.of(parameter)
        height = -(-own.total // num_parts)
        ends = [part * height - own.first for part in range(num_parts + 1)]
        ends = [min(max(end, 0), own.num) for end in ends]
        return [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
