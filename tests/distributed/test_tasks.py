"""Figures of tasks are those of all rows, on however many processes they were predicted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.pool import Pool
from tests.tasks import toys


def test_figures_of_tasks_are_alike_on_one_process_and_two(pool: Pool, tmp_path: Path) -> None:
    """Windows of one sentence, and pages of one query, are predicted on both of them."""
    toys.write_several(tmp_path)
    (one,) = pool.run("tasks_evaluated", 1, folder=str(tmp_path))
    first, second = pool.run("tasks_evaluated", 2, folder=str(tmp_path))
    assert first == second and first.keys() == one.keys()
    for stream, figures in one.items():
        assert first[stream] == pytest.approx(figures, rel=1e-12), stream
    tags = toys.several(tmp_path)["tags"]
    rows = toys.stream(tags, toys.corpora(), "valid").items
    assert len({row.example for row in rows}) < len(rows) / 3
    assert set(one) == {"classes/en", "numbers/en", "pages/en", "tags/en"}
    chosen = {"classes": "macro_f1", "numbers": "spearman", "pages": "ndcg", "tags": "f1"}
    assert all(0 < abs(one[f"{name}/en"][metric]) < 1 for name, metric in chosen.items())
