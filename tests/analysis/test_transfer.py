"""Correlations against scipy and the mBERT study's figures; order of source languages."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.support.ledger import read
from xlm.analysis.transfer import between_languages, by_task, correlations, rank_sources
from xlm.errors import DataError


def test_distance_to_english_and_parsing_in_the_mbert_study() -> None:
    (table,) = [own for own in read("mbert-transfer-2019").tables if own.number == 6]
    rows = {row.name: dict(zip(table.columns, row.values, strict=True)) for row in table.rows}
    distance = rows.pop("distance to English")
    found = {
        name: correlations(distance, {k: v for k, v in own.items() if v is not None})
        for name, own in rows.items()
    }
    values = {name: round(own["Pearson"].value, 3) for name, own in found.items()}
    assert {-0.885, -0.895} <= set(values.values()), values
    best = next(own for own in found.values() if round(own["Pearson"].value, 3) == -0.885)
    assert best["Pearson"].num == 31 and best["Pearson"].nulls["permuted"].p == 1 / 201


def test_correlations_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    draw = np.random.default_rng(0)
    names = [f"l{at}" for at in range(9)]
    one, two = draw.integers(0, 5, size=(2, 9)).astype(float)
    own = correlations(dict(zip(names, one, strict=True)), dict(zip(names, two, strict=True)))
    assert own["Pearson"].value == pytest.approx(stats.pearsonr(one, two)[0], abs=1e-12)
    assert own["Spearman"].value == pytest.approx(stats.spearmanr(one, two)[0], abs=1e-12)
    assert own["Pearson"].nulls["permuted"].p == pytest.approx(
        stats.permutation_test(
            (one,), lambda x: stats.pearsonr(x, two)[0], permutation_type="pairings",
            n_resamples=2000, rng=np.random.default_rng(0),
        ).pvalue,
        abs=0.1,
    )  # fmt: skip


def test_only_languages_with_both_count() -> None:
    own = correlations({"a": 1, "b": 2, "c": 3, "d": 9}, {"c": 3, "b": 2, "a": 1, "e": 0})
    assert own["Pearson"].value == pytest.approx(1) and own["Pearson"].num == 3
    with pytest.raises(DataError, match="1 languages have both .* expected at least 3"):
        correlations({"a": 1}, {"a": 1, "b": 2})
    assert correlations({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 3})["Pearson"].reason


def test_sources_are_ranked_for_each_target() -> None:
    shares = {("en", "hi"): 3.0, ("ne", "hi"): 70.0, ("hi", "hi"): 100.0, ("en", "ne"): 4.0}
    distances = {("en", "hi"): 0.4, ("ne", "hi"): 0.1, ("en", "ne"): 0.4}
    found = rank_sources({"overlap": shares, "distance": distances}, lower=frozenset({"distance"}))
    assert found["hi"] == {"overlap": ["ne", "en"], "distance": ["ne", "en"]}
    assert found["ne"] == {"overlap": ["en"], "distance": ["en"]}


def test_names_of_tasks_and_pairs() -> None:
    scores = {"nli/en": 0.8, "nli/zh-Hans": 0.6, "pos/en": 0.9}
    assert by_task(scores) == {"nli": {"en": 0.8, "zh-Hans": 0.6}, "pos": {"en": 0.9}}
    assert by_task({"en": 1.0, "hi": 2.0}) == {"": {"en": 1.0, "hi": 2.0}}
    assert between_languages({"en>hi": 0.4, "hi > ne": 0.1}) == {
        ("en", "hi"): 0.4, ("hi", "ne"): 0.1,
    }  # fmt: skip
    assert between_languages({"en": 0.0, "hi": 0.4}) == {}
