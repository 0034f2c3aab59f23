"""Killed at any step, a run goes on as if nothing had been; told to stop, it saves first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.distributed.jobs import PHASES
from tests.distributed.pool import Pool
from tests.training import tiny
from xlm.training import checkpoint

STEPS = 20


def _undisturbed(pool: Pool, folder: Path, world: int, **every: int) -> str:
    digests = pool.run("interrupted", world, folder=str(folder), **every)
    assert digests == [digests[0]] * world
    assert len(tiny.journal(folder)) == STEPS // every["report_every"]
    return str(digests[0])


def _kill(pool: Pool, folder: Path, world: int, at: int, **every: int) -> None:
    """Start the run in ``folder``, or go on with it, and kill it in update ``at``."""
    phase = PHASES[at % len(PHASES)]
    if phase.endswith("save") and at % every["save_every"]:
        phase = "report"
    if phase == "report" and at % every["report_every"]:
        phase = "forward"
    # Only rank 0 saves: a rank that dies elsewhere takes the others with it, as under torchrun.
    killed = 0 if phase == "in the save" else at % world
    statuses, _, errors = pool.attempt(
        "interrupted",
        world,
        folder=str(folder),
        kill_at=at,
        phase=phase,
        killed=killed,
        **every,
    )
    assert statuses[killed] == -9, (at, phase, statuses, errors)


def _check(pool: Pool, folder: Path, other: Path, world: int, digest: str, **every: int) -> None:
    """Finish the run in ``folder``; it must be the undisturbed one in ``other``, bit for bit."""
    assert pool.run("interrupted", world, folder=str(folder), **every) == [digest] * world
    for event in ("train", "valid"):
        assert tiny.journal(folder, event) == tiny.journal(other, event)


@pytest.mark.parametrize(
    ("world", "save_every"), [(1, 1), (1, 3), (2, 1), pytest.param(2, 3, marks=pytest.mark.slow)]
)
def test_killed_in_every_step_of_one_run(
    pool: Pool, tmp_path: Path, world: int, save_every: int
) -> None:
    """Twenty kills, one after the other: each restart goes on from what the last one left."""
    every = {"save_every": save_every, "report_every": 1}
    expected = _undisturbed(pool, tmp_path / "whole", world, **every)
    for at in range(1, STEPS + 1):
        _kill(pool, tmp_path / "cut", world, at, **every)
    _check(pool, tmp_path / "cut", tmp_path / "whole", world, expected, **every)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize(
    "at", [11] + [pytest.param(at, marks=pytest.mark.slow) for at in range(1, STEPS + 1)]
)
def test_killed_once(pool: Pool, tmp_path: Path, world: int, at: int) -> None:
    """Saved between two reports: what was summed until then is in the next one all the same."""
    every = {"save_every": 3, "report_every": 4}
    expected = _undisturbed(pool, tmp_path / "whole", world, **every)
    _kill(pool, tmp_path / "cut", world, at, **every)
    _check(pool, tmp_path / "cut", tmp_path / "whole", world, expected, **every)


@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 1)])
def test_a_signal_to_any_rank_saves_and_stops_all(
    pool: Pool, tmp_path: Path, world: int, rank: int
) -> None:
    settings = {"rank": rank, "steps": 8}
    whole = pool.run("terminated", world, folder=str(tmp_path / "whole"), at=None, **settings)
    stopped = pool.run("terminated", world, folder=str(tmp_path / "cut"), at=3, **settings)
    # told while it reports step 3, when the ranks have begun to exchange the counts of step 4
    assert [result["step"] for result in stopped] == [4] * world
    saved = [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()]
    assert saved == ["step-00000004"]
    resumed = pool.run("terminated", world, folder=str(tmp_path / "cut"), at=None, **settings)
    assert resumed == whole
    assert tiny.journal(tmp_path / "cut") == tiny.journal(tmp_path / "whole")


@pytest.mark.parametrize("settings", [{}, {"sharding": "full", "save_in_background": True}])
def test_batches_that_one_rank_cannot_make_end_the_run_once_the_update_before_is_saved(
    pool: Pool, tmp_path: Path, settings: dict[str, Any]
) -> None:
    every = {"steps": 5, "report_every": 1, "save_every": 2, **settings}
    errors = pool.run("without_batches", 2, folder=str(tmp_path), at=3, **every)
    assert errors[0].startswith("TrainingError: another process could not make its batches of ")
    assert "update 4 " in errors[0]
    assert errors[1] == "XlmError: line 6 is damaged"
    assert checkpoint.load(tmp_path / "checkpoints/step-00000003").step == 3
    assert sorted(tiny.journal(tmp_path)) == [1, 2, 3]
