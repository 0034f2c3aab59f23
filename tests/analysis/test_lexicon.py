"""Words against hand-made vectors and a planted map."""

from __future__ import annotations

import numpy as np
import pytest

from xlm.analysis.intervals import Estimate
from xlm.analysis.lexicon import (
    Entries,
    after_map,
    file_lookup,
    halves,
    orthogonal_map,
    phrase_vectors,
    similarity,
    usable_entries,
    word_pairs,
    word_translation,
)
from xlm.errors import DataError

DRAW = np.random.default_rng(0)


def planted(num: int = 2000, width: int = 60, noise: float = 0.05) -> Entries:
    """Vectors of words and, turned and with noise, of their translations."""
    x = DRAW.normal(size=(num, width)).astype(np.float32)
    turn, _ = np.linalg.qr(DRAW.normal(size=(width, width)))
    y = (x @ turn + noise * DRAW.normal(size=x.shape)).astype(np.float32)
    words = [str(at) for at in range(num)]
    return Entries(words, x, words, y, [[at] for at in range(num)], num)


def translation_after_map(entries: Entries) -> dict[str, Estimate]:
    return word_translation(after_map(entries, *halves(entries.gold)))


def test_a_planted_map_is_found() -> None:
    entries = planted()
    before, after = word_translation(entries), translation_after_map(entries)
    for way in ("nearest", "CSLS"):
        assert before[f"raw {way} P@1"].value <= 0.01
        assert after[f"raw {way} P@1"].value == 1
    assert after["raw nearest P@1"].num == 1000
    assert after["raw nearest P@1"].nulls["permuted"].p == 1 / 201
    assert before["raw nearest P@1"].nulls["chance"].value == pytest.approx(1 / 2000)


def test_words_that_share_a_translation_lie_in_one_half() -> None:
    gold = [[0], [1, 2], [3], [2, 4], [4], [5], [0]]
    assert halves(gold) == ([0, 2, 5, 6], [1, 3, 4])


def test_a_map_of_random_vectors_finds_nothing() -> None:
    """Every translation is that of two words: halves by place would find translations again."""
    num = 300
    x = DRAW.normal(size=(num, 20)).astype(np.float32)
    y = DRAW.normal(size=(num // 2, 20)).astype(np.float32)
    words = [str(at) for at in range(num)]
    gold = [[at // 2] for at in range(num)]
    own = translation_after_map(Entries(words, x, words[: num // 2], y, gold, num))
    assert own["raw nearest P@1"].nulls["permuted"].p > 0.01


def test_the_map_is_scipys() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is the reference")
    x, y = DRAW.normal(size=(2, 30, 5))
    np.testing.assert_allclose(orthogonal_map(x, y), linalg.orthogonal_procrustes(x, y)[0])


def test_a_map_of_few_pairs_depends_on_them_alone() -> None:
    """Three pairs leave 37 of 40 dimensions open: these are turned as little as possible."""
    x, y = DRAW.normal(size=(2, 3, 40))
    own = orthogonal_map(x, y)
    np.testing.assert_allclose(own @ own.T, np.eye(40), atol=1e-12)
    scipys = pytest.importorskip("scipy.linalg").orthogonal_procrustes(x, y)[0]
    assert np.linalg.norm(x @ own - y) == pytest.approx(np.linalg.norm(x @ scipys - y))
    assert np.trace(own) > np.trace(scipys)
    np.testing.assert_allclose(orthogonal_map(x + 1e-9, y - 1e-9), own, atol=1e-7)
    np.testing.assert_allclose(orthogonal_map(x, x), np.eye(40), atol=1e-12)


def test_any_translation_counts_and_words_without_vectors_are_said() -> None:
    vectors = {
        "a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1],
        "x": [1, 0.1, 0], "y": [0.9, 0, 0], "z": [0, 0.1, 1], "w": [0, 1, 1],
    }  # fmt: skip
    look = file_lookup({word: np.array(own, np.float32) for word, own in vectors.items()})
    dictionary = {"a": ["z", "y"], "b": ["x"], "c": ["missing"], "d": ["x"]}
    entries = usable_entries(dictionary, ["w", "x"], look, look)
    assert entries.sources == ["a", "b"] and entries.candidates == ["z", "y", "x", "w"]
    assert entries.gold == [[0, 1], [2]]
    assert (entries.coverage.value, entries.coverage.num) == (0.5, 4)
    own = word_translation(entries)
    assert own["raw nearest P@1"].value == 0.5  # y for a; b is nearest to w
    assert own["raw nearest P@5"].value == 1
    assert own["raw nearest P@1"].nulls["chance"].value == pytest.approx((2 / 4 + 1 / 4) / 2)
    with pytest.raises(DataError, match="none of 1 entries is usable: 0 source words"):
        usable_entries({"d": ["x"]}, [], look, look)


def test_csls_by_hand() -> None:
    entries = planted(40, 4, noise=1.0)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (entries.x, entries.y)]
    cosines = unit[0] @ unit[1].T
    scores = 2 * cosines - np.sort(cosines, axis=0)[-10:].mean(0)[None, :]
    expected = (scores.argmax(1) == np.arange(40)).mean()
    assert word_translation(entries)["raw CSLS P@1"].value == pytest.approx(expected)


def test_pairs_of_words_by_hand() -> None:
    x, y = DRAW.normal(size=(2, 30, 4)).astype(np.float32)
    own = word_pairs(x, y)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)]
    assert own["cosine"].value == pytest.approx(np.mean(cosines), abs=1e-6)
    distances = np.linalg.norm(x - y, axis=1)
    assert own["L2"].value == pytest.approx(distances.mean(), abs=1e-6)
    norm = np.linalg.norm(np.concatenate([x, y]), axis=1).mean()
    assert own["L2 / norm"].value == pytest.approx(distances.mean() / norm, abs=1e-6)
    near = word_pairs(x, x + 0.01)
    assert near["cosine"].nulls["permuted"].p == near["L2"].nulls["permuted"].p == 1 / 201
    assert 0.02 < own["L2"].nulls["permuted"].p < 0.98


def test_scores_of_people() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    x, y = DRAW.normal(size=(2, 50, 4)).astype(np.float32)
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    scores = cosines + 0.2 * DRAW.normal(size=50)
    own = similarity(x, y, scores.tolist())
    assert own["Pearson"].value == pytest.approx(stats.pearsonr(cosines, scores)[0], abs=1e-6)
    assert own["Spearman"].value == pytest.approx(stats.spearmanr(cosines, scores)[0], abs=1e-6)
    assert own["Pearson"].nulls["permuted"].p == 1 / 201
    assert similarity(x, y, [1.0] * 50)["Pearson"].value is None


def test_a_phrase_is_the_mean_of_its_words() -> None:
    look = file_lookup({"new": np.ones(2, np.float32), "york": np.zeros(2, np.float32)})
    vectors, there = phrase_vectors(look, ["New York", "new", "new town"])
    np.testing.assert_allclose(vectors[:2], [[0.5, 0.5], [1, 1]])
    assert there.tolist() == [True, True, False]
