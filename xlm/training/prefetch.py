"""Threads that make batches ahead of the loop and of an evaluation."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, cast

from xlm.batch import Batch
from xlm.data.mixture import Mixture, advance
from xlm.objective import Objective
from xlm.rng import Random
from xlm.training.distributed.processes import Parallel

T = TypeVar("T")


def ahead(makers: Iterable[Callable[[], T]], depth: int = 2) -> Generator[T, None, None]:
    """Yield the result of each function; a thread calls them ``depth`` ahead until it is closed.

    An error of a function is raised in its place.
    """
    made: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(value: T | None, error: BaseException | None, is_last: bool) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                made.put((value, error, is_last), timeout=0.1)
                return

    def run() -> None:
        try:
            for make in makers:
                if closed.is_set():
                    return
                put(make(), None, False)
            put(None, None, True)
        except BaseException as error:  # raised by the reader
            put(None, error, True)

    thread = threading.Thread(target=run, name="xlm-ahead", daemon=True)
    thread.start()
    try:
        while True:
            value, error, is_last = made.get()
            if error is not None:
                raise error
            if is_last:
                return
            yield cast(T, value)
    finally:
        closed.set()
        thread.join()


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch of this rank."""

    objective: str
    stream_id: str
    index: int
    """Its place in the whole step (not in this rank's share): dropout is keyed by it."""
    weight: float
    """Weight of the objective in the update."""
    batch: Batch
    counts: bool = True
    """False for the repetition of another rank's micro-batch, which adds nothing to the update."""


@dataclass(frozen=True)
class Step:
    """This rank's share of one update, and the cursors after it."""

    number: int
    micro_batches: list[MicroBatch]
    cursors: dict[str, int]


class Prefetcher:
    """An iterator over steps ``first``, ``first + 1``, ... collated ``depth`` ahead; to be closed.

    Collation draws from addressed randomness only: torch's generators are never touched here.
    """

    def __init__(
        self,
        mixture: Mixture,
        objectives: Mapping[str, Objective],
        parallel: Parallel,
        *,
        seed: int,
        first: int,
        cursors: Mapping[str, int],
        depth: int = 2,
    ) -> None:
        self._mixture = mixture
        self._objectives = objectives
        self._parallel = parallel
        self._seed = seed
        self._steps: queue.Queue[Step | BaseException] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(first, dict(cursors)), name="xlm-prefetch", daemon=True
        )
        self._thread.start()

    def next(self) -> Step:
        """Return the next step; raise the background thread's error."""
        item = self._steps.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._steps.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _run(self, number: int, cursors: dict[str, int]) -> None:
        try:
            while not self._closed.is_set():
                step = self._collate(number, cursors)
                cursors = step.cursors
                number += 1
                self._put(step)
        except BaseException as error:  # handed to the loop, which raises it
            self._put(error)

    def _put(self, item: Step | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._steps.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _collate(self, number: int, cursors: dict[str, int]) -> Step:
        groups = self._mixture.plan(number, cursors)
        micro_batches = []
        offset = 0
        for group in groups:
            objective = self._objectives[group.objective].at_step(number)
            indexed = list(enumerate(group.micro_batches))
            for (place, (stream, k)), counts in self._parallel.share(indexed):
                batch = objective.collate(
                    stream.examples(k), Random(self._seed, stream.id, k), train=True
                ).of_table(stream.table)
                if self._parallel.device.type == "cuda":
                    batch = batch.pin_memory()
                index = offset + place
                micro_batches.append(
                    MicroBatch(group.objective, stream.id, index, group.weight, batch, counts)
                )
            offset += len(group.micro_batches)
        return Step(number, micro_batches, advance(cursors, groups))
