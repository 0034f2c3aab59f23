"""A thread in every rank that notices a rank that hangs or died, and a launcher that is gone.

    main thread --marks, beats--> watchdog --each second--> store of the launcher <-- other ranks

A mark is passed by every rank, in the same order: entering an exchange, a forward or a backward
pass. So the rank with the fewest marks is the one that did not come. A beat shows that a rank works
while the others wait, as when it saves.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import PrefixStore, TCPStore

STARTING_SECONDS = 1800.0
"""The limit outside of training, when one rank may read or write for long."""
GRACE_SECONDS = 3.0
"""Time that the ranks have to write their stacks before the first of them ends."""
_starts = itertools.count()


@dataclass
class _Seen:
    """The state of a rank as this one saw it last."""

    marks: int
    beats: int
    pulse: int
    changed: float
    """Time by the observing rank's clock when marks or beats last changed."""
    alive: float
    """Time by the observing rank's clock when the pulse last changed."""


class Watchdog:
    """Watch this rank and the others; see the module. ``start`` makes one, ``close`` ends it."""

    def __init__(self, rank: int, world: int, store: Any, launcher: int | None) -> None:
        self.rank, self.world, self.limit = rank, world, STARTING_SECONDS
        self._store, self._launcher = store, launcher
        self._marks = self._beats = self._pulse = 0
        now = time.monotonic()
        self._seen = {other: _Seen(0, 0, 0, now, now) for other in range(world)}
        self._orphaned_at = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xlm-watchdog", daemon=True)
        self._thread.start()

    @classmethod
    def start(cls, rank: int, world: int) -> Watchdog | None:
        """Return the watchdog of a rank that was launched; None if it has no store."""
        prefix = f"xlm/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_starts)}"
        try:
            store: Any = PrefixStore(
                prefix,
                TCPStore(
                    os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                    timeout=timedelta(seconds=10),
                ),
            )  # fmt: skip
        except (RuntimeError, ValueError):  # another way to meet than by address and port
            store = None
        by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        return cls(rank, world, store, os.getppid() if by_torchrun else None)

    def mark(self) -> None:
        """Record that this rank comes to a place that every rank passes."""
        self._marks += 1

    def beat(self) -> None:
        """Record that this rank works while others may wait for it."""
        self._beats += 1

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Let a rank keep the others waiting for so many seconds at most, while the block lasts."""
        self.mark()
        before, self.limit = self.limit, seconds
        try:
            yield
        finally:
            self.limit = before
            self.mark()

    def gone(self, seconds: float = 4.0) -> list[int]:
        """Return the ranks that have ended or do not answer; wait ``seconds`` for their answers."""
        if self._store is None:
            return []
        asked = time.monotonic()
        while time.monotonic() < asked + seconds:
            time.sleep(0.2)
        return [rank for rank, seen in sorted(self._seen.items()) if seen.alive < asked]

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closed.wait(min(1.0, self.limit / 4)):
            self._check_launcher()
            with suppress(RuntimeError, ValueError):  # the store goes with its launcher
                if self._store is not None and self.world > 1:
                    self._exchange()
                    self._check_ranks()

    def _check_launcher(self) -> None:
        """Let this rank save and stop if its launcher is gone, and end it if it cannot."""
        if self._launcher is None or os.getppid() == self._launcher:
            return
        if not self._orphaned_at:
            self._orphaned_at = time.monotonic()
            sys.stderr.write(f"xlm: rank {self.rank}: torchrun is gone: saving, then stopping\n")
            os.kill(os.getpid(), signal.SIGTERM)
        elif time.monotonic() > self._orphaned_at + min(self.limit, 60.0):
            self._end(f"rank {self.rank} could not stop after torchrun was gone")

    def _exchange(self) -> None:
        self._pulse += 1
        own = [self._marks, self._beats, self._pulse]
        self._store.set(str(self.rank), json.dumps(own))
        now = time.monotonic()
        for rank in range(self.world):
            if not self._store.check([str(rank)]):
                continue
            marks, beats, pulse = json.loads(self._store.get(str(rank)))
            seen = self._seen[rank]
            if (marks, beats) != (seen.marks, seen.beats):
                seen.marks, seen.beats, seen.changed = marks, beats, now
            if pulse != seen.pulse:
                seen.pulse, seen.alive = pulse, now

    def _check_ranks(self) -> None:
        if self._store.check(["alarm"]):
            self._end(self._store.get("alarm").decode())
        late = time.monotonic() - self.limit
        fewest = min(seen.marks for seen in self._seen.values())
        last = [rank for rank, seen in self._seen.items() if seen.marks == fewest]
        if self._seen[self.rank].changed > late:
            return
        if any(self._seen[rank].changed > late for rank in last):
            return
        if len(last) == self.world:
            line = f"no rank has gone on for {self.limit:g} s: they wait for each other"
        else:
            names = " and ".join(map(str, sorted(last)))
            line = (
                f"rank {names} of {self.world} did not come: the others have waited for "
                f"{self.limit:g} s (hang_seconds)"
            )
        self._store.set("alarm", line)
        self._end(line)

    def _end(self, line: str) -> None:
        """Write this rank's stacks, let the others write theirs, and end the process."""
        sys.stderr.write(f"xlm: rank {self.rank}: {line}; its stacks:\n")
        sys.stderr.flush()
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        time.sleep(GRACE_SECONDS)
        os._exit(2)
