"""Rows of parameters on several processes; exchanges are tested by sharded runs."""

from __future__ import annotations

import pytest
import torch

from xlm.training.distributed.sharding import rows_of
from xlm.training.optimizers.rows import RowsOfRanks


@pytest.mark.parametrize("num_parts", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_the_parts_of_all_processes_are_the_chunks_of_the_whole(world: int, num_parts: int) -> None:
    whole = torch.arange(12)
    found: list[list[int]] = [[] for _ in range(num_parts)]
    for number in range(world):
        rows = rows_of(len(whole), number, world)
        own = whole[rows.first : rows.first + rows.num].clone()
        parts = RowsOfRanks({id(own): rows}, None).parts(own, num_parts)
        assert len(parts) == num_parts
        for part, each in zip(found, parts, strict=True):
            part += own[each].tolist()
    assert found == [chunk.tolist() for chunk in whole.chunk(num_parts)]
