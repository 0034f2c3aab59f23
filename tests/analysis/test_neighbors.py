"""Nearest neighbors against a sort of all products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.analysis import neighbors
from xlm.analysis.neighbors import (
    hits_within,
    nearest,
    nearest_both_ways,
    nearest_in_blocks,
    own_places,
    reciprocal_ranks,
    unit,
)


def by_hand(x, y, k):
    product = (torch.from_numpy(x) @ torch.from_numpy(y).T).numpy()
    order = np.argsort(-product, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(product, order, axis=1)


@pytest.mark.parametrize("seed", range(200))
def test_neighbors_are_those_of_a_sort(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(seed)
    num, others, k = draw.integers(1, 40), draw.integers(1, 2500), draw.integers(1, 7)
    x = draw.integers(-3, 4, size=(num, 6)).astype(np.float32)  # small integers: many ties
    y = draw.integers(-3, 4, size=(others, 6)).astype(np.float32)
    if seed % 2:
        x, y = x + draw.normal(size=x.shape).astype(np.float32), np.ascontiguousarray(y) * 1.1
    if seed % 3:
        monkeypatch.setattr(neighbors, "TILE_BYTES", 4 * others * 7)  # several tiles
    order, scores = by_hand(x, y, k)
    own = nearest(x, y, k)
    assert own.ids.shape == (num, min(k, others))
    np.testing.assert_allclose(own.scores, scores, atol=1e-4)
    if not seed % 2:
        assert np.array_equal(own.ids, order)
    forth, back = nearest_both_ways(x, y, k)
    assert np.array_equal(forth.ids, own.ids) and np.array_equal(forth.scores, own.scores)
    order, scores = by_hand(y, x, k)
    assert back.ids.shape == (others, min(k, num))
    np.testing.assert_allclose(back.scores, scores, atol=1e-4)
    if not seed % 2:
        assert np.array_equal(back.ids, order)


def test_both_ways_of_other_scores_and_of_what_is_no_number() -> None:
    draw = np.random.default_rng(0)
    x, y = (draw.normal(size=(num, 5)).astype(np.float32) for num in (30, 700))
    less = torch.from_numpy(draw.normal(size=700).astype(np.float32))
    _, back = nearest_both_ways(x, y, 3, lambda tile, rows: 2 * tile - less)
    scores = 2 * y @ x.T - less.numpy()[:, None]
    assert np.array_equal(back.ids, np.argsort(-scores, axis=1)[:, :3])
    x[4] = np.nan
    for both in nearest_both_ways(x, y, 3), nearest_both_ways(x[:, :3], y[:, :3], 3):
        assert (both[1].ids[:, 0] == 4).all() and np.isnan(both[1].scores[:, 0]).all()


def test_all_rows_may_be_equal() -> None:
    same = np.ones((3000, 2), np.float32)
    assert np.array_equal(nearest(same[:2], same, 3).ids, [[0, 1, 2]] * 2)


def test_places_count_what_scores_higher_and_the_same() -> None:
    x = np.array([[1.0, 0], [0, 1], [1, 1]], np.float32)
    y = np.array([[1.0, 0], [1, 0], [1, 0]], np.float32)
    places = own_places(x, y)
    assert places.above.tolist() == [0, 0, 0] and places.tied.tolist() == [3, 3, 3]
    np.testing.assert_allclose(hits_within(places, 1), 1 / 3)
    np.testing.assert_allclose(hits_within(places, 2), 2 / 3)
    np.testing.assert_allclose(reciprocal_ranks(places), (1 + 1 / 2 + 1 / 3) / 3)
    far = own_places(np.array([[0, 1.0]] * 2, np.float32), np.array([[0, 1], [0, 2.0]], np.float32))
    assert far.above.tolist() == [1, 0]
    assert reciprocal_ranks(far).tolist() == [0.5, 1.0]


def test_rows_of_zeros_stay() -> None:
    np.testing.assert_allclose(unit(np.array([[3.0, 4], [0, 0]])), [[0.6, 0.8], [0, 0]], atol=1e-7)


def test_blocks_of_a_mapped_file_find_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    y = random.integers(-3, 4, (1000, 5)).astype(np.float16)  # of few values, so that many tie
    np.save(tmp_path / "y.npy", y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    x = random.integers(-3, 4, (40, 5)).astype(np.float32)
    for k in (1, 7, 30):
        order = np.argsort(-(x @ y.astype(np.float32).T), axis=1, kind="stable")[:, :k]
        for block in (10, 333, 5000):
            found = nearest_in_blocks(x, mapped, k, block)
            assert found.ids.tolist() == order.tolist()
            assert nearest(x, y.astype(np.float32), k).ids.tolist() == order.tolist()


def test_rows_of_zeros_come_last_and_what_is_no_number_first() -> None:
    y = np.array([[0.0, 0], [-1, 0], [np.nan, 1], [-2, 0], [0, 0]], dtype=np.float32)
    x = np.array([[1.0, 0]], dtype=np.float32)
    for block in (1, 2, 5):
        found = nearest_in_blocks(x, y, 4, block)
        assert found.ids.tolist() == [[2, 1, 3, 0]]
        assert np.isnan(found.scores[0, 0]) and found.scores[0, 1:].tolist() == [-1, -2, -np.inf]


def test_neighbors_are_those_of_faiss() -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is the reference")
    draw = np.random.default_rng(0)
    x, y = (unit(draw.normal(size=(rows, 24))) for rows in (500, 10_000))
    index = faiss.IndexFlatIP(24)
    index.add(y)
    scores, ids = index.search(x, 4)
    own = nearest(x, y, 4)
    np.testing.assert_allclose(own.scores, scores, atol=1e-5)
    assert (own.ids == ids).mean() > 0.999  # but for scores that are equal to rounding
