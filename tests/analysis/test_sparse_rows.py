"""Sparse rows against dense ones."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from xlm.analysis import neighbors
from xlm.analysis.neighbors import hits_within, nearest_both_ways, own_places, tiles, unit
from xlm.analysis.retrieval import mine
from xlm.analysis.sparse_rows import SparseRows, counted


def drawn(num: int, seed: int) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 50, size=size).tolist() for size in draw.integers(0, 9, size=num)]


def test_numbers_are_counted_line_by_line() -> None:
    lines = [[3, 0, 3], [], [1], []]
    own = counted(lines, 4)
    assert own.dense().tolist() == [[1, 0, 0, 2], [0] * 4, [0, 1, 0, 0], [0] * 4]
    assert counted([], 4).dense().shape == (0, 4) and len(counted([[]], 4)) == 1
    assert own.scaled([2.0, 3, 4, 0.5]).dense()[0].tolist() == [2, 0, 0, 1]


@pytest.mark.parametrize("bytes_of_a_tile", [1, 8 * 50 * 7, 1 << 26])
def test_products_are_those_of_dense_rows(
    monkeypatch: pytest.MonkeyPatch, bytes_of_a_tile: int
) -> None:
    monkeypatch.setattr(neighbors, "TILE_BYTES", bytes_of_a_tile)
    x, y = counted(drawn(40, 0), 50), counted(drawn(30, 1), 50)
    one, two = x.unit(), y.unit()
    np.testing.assert_allclose(one.dense(), unit(x.dense()), atol=1e-7)
    found = np.concatenate([tile.numpy() for _, tile in tiles(one, two)])
    np.testing.assert_allclose(found, one.dense() @ two.dense().T, atol=1e-6)
    for own, dense in zip(
        nearest_both_ways(x, y, 3), nearest_both_ways(x.dense(), y.dense(), 3), strict=True
    ):
        assert np.array_equal(own.ids, dense.ids)  # counts: sums are exact
    same = own_places(x, x), own_places(x.dense(), x.dense())
    np.testing.assert_array_equal(*(hits_within(own, 2) for own in same))


def test_pairs_are_mined_from_sparse_rows() -> None:
    lines = [[at, at + 1, 50] for at in range(0, 40, 2)]
    own = mine(counted(lines, 51), counted(lines[::-1], 51))
    assert {(int(i), int(j)) for i, j in zip(own.first, own.second, strict=True)} == {
        (at, 19 - at) for at in range(20)
    }


def test_memory_is_that_of_the_cells_that_are_there() -> None:
    lines = [[at % 9000, at % 7000, 5] for at in range(20_000)]
    tracemalloc.start()
    own = counted(lines, 9000).unit()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(own, SparseRows) and peak < 20 << 20  # dense: 687 MiB
