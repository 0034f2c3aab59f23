"""Means, intervals and paired differences, against scipy on made-up figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.reproduce.conftest import settings
from xlm.reproduce.cells import Cell, planned
from xlm.reproduce.summary import summarize
from xlm.reproduce.text import StudyText

UNITS = ("perplexity", "word_perplexity", "bits_per_character", "bits_per_byte", "accuracy")


def result(nats: float, seed: int) -> dict[str, Any]:
    own = {"nats": nats, **dict.fromkeys(UNITS, nats), "targets": 9.0}
    own |= {"unigram_perplexity": 7.0, "kinds": {"known from hi": {"nats": 2 * nats, "share": 0.5}}}
    return {
        "seed": seed, "peak_lr": 0.1, "best_step": 10, "tokens": {"ne": 5, "hi": 6},
        "processor_seconds": 1.5, "curve": [[2, nats + 1], [4, nats]], "tests": {"test": own},
    }  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path, text: StudyText) -> list[Cell]:
    return planned(settings(tmp_path, seeds=[0, 1, 2, 3]), text)


def test_differences_are_paired_by_seed(tmp_path: Path, plan: list[Cell]) -> None:
    drawn = np.random.default_rng(0).normal(5, 0.1, (2, 4))
    done = {
        cell: result(drawn[0 if cell.row == "ne" else 1, cell.seed], cell.seed)
        for cell in plan
        if cell.row in ("ne", "ne+hi") and cell.sentences == 40
    }
    rows = summarize(settings(tmp_path, seeds=[0, 1, 2, 3]), plan, done)["shapes"]["rotary"]
    assert list(rows) == ["ne", "ne+hi"], "rows without a model are left out"
    found = rows["ne+hi"]["difference"]["test"]
    interval = stats.ttest_rel(drawn[1], drawn[0]).confidence_interval(0.95)
    assert found["mean"] - found["interval"] == pytest.approx(interval.low, abs=1e-4)
    assert found["mean"] + found["interval"] == pytest.approx(interval.high, abs=1e-4)
    assert rows["ne"]["difference"]["test"] is None
    half = stats.t.interval(0.95, 3, loc=0, scale=stats.sem(drawn[0]))[1]
    assert rows["ne"]["tests"]["test"]["nats"]["interval"] == pytest.approx(half, abs=1e-4)
    kind = rows["ne+hi"]["difference_by_kind"]["test"]["known from hi"]
    assert kind["mean"] == pytest.approx(2 * found["mean"])


def test_a_seed_without_its_partner_is_left_out(tmp_path: Path, plan: list[Cell]) -> None:
    done = {
        cell: result(5.0 - cell.seed - (cell.row != "ne"), cell.seed)
        for cell in plan
        if cell.sentences == 40 and (cell.row, cell.seed) in {("ne", 0), ("ne+hi", 0), ("ne+hi", 1)}
    }
    figures = summarize(settings(tmp_path, seeds=[0, 1, 2, 3]), plan, done)
    row = figures["shapes"]["rotary"]["ne+hi"]
    assert row["seeds"] == [0, 1] and row["planned_seeds"] == [0, 1, 2, 3]
    difference = row["difference"]["test"]
    assert difference["values"] == [-1.0] and difference["interval"] is None
    assert (figures["finished"], figures["planned"]) == (3, len(plan))


def test_sizes_have_both_rows(tmp_path: Path, plan: list[Cell]) -> None:
    done = {
        cell: result(6.0 if cell.row == "ne" else 5.5 - cell.sentences / 1000, cell.seed)
        for cell in plan
        if cell.seed == 0 and cell.row in ("ne", "ne+hi")
    }
    sizes = summarize(settings(tmp_path, seeds=[0, 1, 2, 3]), plan, done)["sizes"]
    assert [own["sentences"] for own in sizes] == [40, 60]
    differences = [own["tests"]["test"]["difference"] for own in sizes]
    assert differences == pytest.approx([-0.54, -0.56])
