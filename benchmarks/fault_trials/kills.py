"""kill -9 at any moment of a run, and inside the save."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.fault_trials.common import Tally, finish, forked, run_of, statuses
from xlm.pretrain import pretrain
from xlm.training import checkpoint


def kills(data: Path, folder: Path, num: int) -> Tally:
    """Kill a rank of 1 or 2 at a random moment, go on, and compare every bit."""
    tally = Tally("kill -9, 1 and 2 processes", "bit for bit the undisturbed run")
    choose = random.Random(1)
    expected, durations = {}, {}
    for world in (1, 2):
        started = time.monotonic()
        expected[world] = finish(run_of(data, folder / f"whole-{world}"), world)
        durations[world] = time.monotonic() - started
    for trial in range(num):
        world = 1 + trial % 2
        if tally.is_over:
            break
        run = run_of(data, folder / f"cut-{trial}")
        children = forked(lambda run=run: pretrain(run), world)  # type: ignore[misc]
        time.sleep(durations[world] * choose.uniform(0.1, 0.95))
        _kill(children[choose.randrange(world)])
        time.sleep(0.05)
        for child in children:  # as torchrun does
            _kill(child)
        statuses(children)
        found = finish(run, world)
        problem = "" if found == expected[world] else found[:80]
        tally.add(f"world {world}, trial {trial}", problem)
        shutil.rmtree(run.folder)
    return tally


def _kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass


CALLS = ("rename", "replace", "fsync", "unlink")
"""The calls of a save after each of which the process may be gone."""


def save_window(data: Path, folder: Path, num: int) -> Tally:
    """Kill between two calls of the save, anywhere in the run; the best must stay."""
    tally = Tally("kill -9 inside a save", "bit for bit, the best model included")
    expected = finish(run_of(data, folder / "saved-whole"))
    total = _num_calls(run_of(data, folder / "counted"))
    places = [round(total * (at + 0.5) / num) for at in range(num)]
    random.Random(4).shuffle(places)
    for place in places:
        if tally.is_over:
            break
        run = run_of(data, folder / f"saved-{place}")
        found = statuses(forked(lambda run=run, at=place: _killed_at(run, at)))  # type: ignore[misc]
        if found != [-9]:
            tally.add(f"call {place}", f"was not killed: {found}")
            continue
        again = finish(run)
        problem = "" if again == expected else again[:80]
        tally.add(f"call {place} of {total}", problem)
        shutil.rmtree(run.folder)
    return tally


def _num_calls(run: Any) -> int:
    """How many calls all the saves of a run make."""
    counter = Path(f"{run.folder}.calls")

    def counted() -> None:
        made = _counting(lambda number: counter.write_text(str(number)))
        pretrain(run)
        del made

    statuses(forked(counted))
    return int(counter.read_text())


def _killed_at(run: Any, place: int) -> None:
    def reached(number: int) -> None:
        if number == place:
            os.kill(os.getpid(), signal.SIGKILL)

    _counting(reached)
    pretrain(run)


def _counting(reached: Any) -> None:
    """Call ``reached`` with the number of each call, from 1, that is made while a save runs."""
    state = {"number": 0, "saving": False}
    save = checkpoint.save

    def saving(*given: Any, **named: Any) -> Any:
        state["saving"] = True  # from the first save on: what follows it belongs to it
        return save(*given, **named)

    checkpoint.save = saving

    def wrap(name: str) -> None:
        call = getattr(os, name)

        def counted(*given: Any, **named: Any) -> Any:
            result = call(*given, **named)
            if state["saving"]:
                state["number"] += 1
                reached(state["number"])
            return result

        setattr(os, name, counted)

    for name in CALLS:
        wrap(name)
