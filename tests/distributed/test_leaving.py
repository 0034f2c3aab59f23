"""A process that leaves the others takes no thread of theirs into the interpreter's end."""

from __future__ import annotations

from pathlib import Path

from tests.distributed.pool import Pool


def test_nothing_of_the_groups_is_left(pool: Pool, tmp_path: Path) -> None:
    """Threads of gloo that outlive their group free tensors when the interpreter is gone."""
    for found in pool.run("left", 2, folder=str(tmp_path)):
        before, during, after = found["threads"]
        assert after == before < during
        assert found["freed"]
        assert found["error"].startswith("TrainingError: the processes have left their groups")


def test_a_collective_in_flight_holds_nobody(pool: Pool, tmp_path: Path) -> None:
    """torchrun ends the others only when the process that failed has ended."""
    assert pool.run("left_in_flight", 2, folder=str(tmp_path)) == [True, False]
