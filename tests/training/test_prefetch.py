"""The thread that plans and collates ahead."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.training import tiny
from xlm.batch import Batch
from xlm.data.streams import Examples
from xlm.errors import DataError
from xlm.objective import Objective
from xlm.objectives.masked import MaskedLM
from xlm.rng import Random
from xlm.run import build as building
from xlm.training.distributed.processes import Parallel
from xlm.training.prefetch import Prefetcher, ahead

ALONE = Parallel(torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class FailingLM(MaskedLM):
    """Stumbles over the sixth micro-batch that it is given."""

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        if len(_CALLS) == 5:
            raise DataError("line 6 is damaged")
        _CALLS.append(1)
        return MaskedLM.collate(self, examples, random, train=train)


_CALLS: list[int] = []


@contextmanager
def prefetching(
    objectives: Mapping[str, Objective] | None = None,
    parallel: Parallel = ALONE,
    **settings: Any,
) -> Iterator[Prefetcher]:
    run = tiny.recipe("", objectives=objectives or {"mlm": tiny.MLM, "tlm": tiny.TLM}, group_size=2)
    made = tiny.corpora(20)
    mixture = building.build_mixture(run, building.training_streams(run, made))
    settings = {"seed": run.seed, "first": 0, "cursors": {}, **settings}
    prefetcher = Prefetcher(mixture, run.objectives, parallel, **settings)
    try:
        yield prefetcher
    finally:
        prefetcher.close()
        assert not [t for t in threading.enumerate() if t.name == "xlm-prefetch"]


def test_steps_come_in_order_with_the_cursors_after_them() -> None:
    with prefetching() as prefetcher:
        steps = [prefetcher.next() for _ in range(4)]
    assert [step.number for step in steps] == [0, 1, 2, 3]
    assert [[m.index for m in step.micro_batches] for step in steps] == [[0, 1, 2, 3]] * 4
    assert [m.objective for m in steps[0].micro_batches] == ["mlm", "mlm", "tlm", "tlm"]
    assert [step.cursors["tlm/en-hi"] for step in steps] == [2, 4, 6, 8]
    texts = [step.cursors.get("mlm/en", 0) + step.cursors.get("mlm/hi", 0) for step in steps]
    assert texts == [2, 4, 6, 8]


def test_it_goes_on_from_any_step() -> None:
    with prefetching() as prefetcher:
        steps = [prefetcher.next() for _ in range(3)]
    with prefetching(first=2, cursors=steps[1].cursors) as prefetcher:
        again = prefetcher.next()
    assert again.cursors == steps[2].cursors
    assert [tiny.batch_digest(m.batch) for m in again.micro_batches] == [
        tiny.batch_digest(m.batch) for m in steps[2].micro_batches
    ]


def test_places_in_the_step_are_those_of_the_whole_step() -> None:
    """Dropout is keyed by them: rank 1 of 2 has the odd ones."""
    with prefetching(parallel=Parallel(torch.device("cpu"), world=2, rank=1)) as prefetcher:
        step = prefetcher.next()
    assert [m.index for m in step.micro_batches] == [1, 3]


def test_an_error_is_raised_at_its_step() -> None:
    _CALLS.clear()
    with prefetching({"mlm": FailingLM(languages=["en"], rows=4, length=8)}) as prefetcher:
        assert [prefetcher.next().number for _ in range(2)] == [0, 1]  # four micro-batches
        with pytest.raises(DataError, match="line 6 is damaged"):
            prefetcher.next()


def test_it_can_be_closed_at_any_time() -> None:
    with prefetching():
        pass  # at once
    with prefetching(depth=1) as prefetcher:
        prefetcher.next()
        time.sleep(0.05)  # the next one lies ready, and one more waits for room
    prefetcher.close()


def test_torch_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with prefetching() as prefetcher:
        for _ in range(3):
            prefetcher.next()
    assert torch.equal(torch.get_rng_state(), before)


def test_step_a_million_is_as_fast_as_step_ten() -> None:
    run = tiny.recipe("", objectives={"mlm": tiny.MLM, "tlm": tiny.TLM})
    made = tiny.corpora()
    mixture = building.build_mixture(run, building.training_streams(run, made))

    def seconds(step: int) -> float:
        cursors = {stream_id: 4 * step for stream_id in mixture.stream_ids}
        best = float("inf")
        for _ in range(9):
            started = time.perf_counter()
            for group in mixture.plan(step, cursors):
                for stream, k in group.micro_batches:
                    run.objectives[group.objective].collate(
                        stream.examples(k), Random(0, stream.id, k), train=True
                    )
            best = min(best, time.perf_counter() - started)
        return best

    seconds(10)
    assert seconds(10**6) < 2 * seconds(10)


def test_results_of_functions_come_in_order_and_errors_in_their_place() -> None:
    def fail() -> int:
        raise DataError("the third")

    made = ahead([lambda: 1, lambda: 2, fail, lambda: 4])
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(DataError, match="the third"):
        next(made)
    assert list(ahead([])) == []
    forever = ahead(lambda at=at: at for at in itertools.count())
    assert next(forever) == 0
    forever.close()
    assert not [t for t in threading.enumerate() if t.name == "xlm-ahead"]
