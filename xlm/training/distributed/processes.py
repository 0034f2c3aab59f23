"""The processes of a training: torchrun's environment, one device each, gloo for counts.

Tensors of the model travel on the default group (NCCL on GPUs, gloo on CPUs). Counts, metrics and
flags travel as JSON or int64 on a gloo group of their own, so that no step waits for a device.
"""

from __future__ import annotations

import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial, reduce
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from xlm.errors import ConfigError, TrainingError, one_line
from xlm.metrics.scores import Scores
from xlm.training.distributed.devices import device_of_rank, set_numerics
from xlm.training.distributed.watchdog import Watchdog

T = TypeVar("T")

_LEAVING_SECONDS = 10.0
"""Seconds that a process waits for the threads of its groups to end; they take milliseconds."""

_FAILED_EXCHANGE = re.compile(r"gloo|nccl|connection|socket|timed? ?out|store", re.IGNORECASE)
"""Words in the messages of errors caused by another process that does not answer."""

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Parallel:
    """This process among the others. Make it with :meth:`start`, end it with :meth:`close`."""

    device: torch.device
    """The device that this process computes on."""
    world: int = 1
    """Number of processes."""
    rank: int = 0
    """This process, from 0; rank 0 writes files."""
    local_rank: int = 0
    """This process among those of its machine; on GPUs, its device."""
    group: weakref.ref[Any] | None = None
    """The gloo group for counts, which torch holds until :meth:`close`; None for a single process
    without torchrun."""
    owns_default_group: bool = False
    watchdog: Watchdog | None = field(default=None, compare=False, repr=False)
    """Notices ranks that hang or die; None without torchrun's environment."""
    wrapped: weakref.WeakSet[nn.Module] = field(
        default_factory=weakref.WeakSet, compare=False, repr=False
    )
    """The modules that hold the groups (``wrap`` adds them): :meth:`close` takes them away."""

    @classmethod
    def start(
        cls,
        device: str = "auto",
        *,
        tf32: bool = False,
        deterministic: bool = False,
        timeout_seconds: float = 1800.0,
    ) -> Parallel:
        """Join the processes of torchrun's environment; without one this process is alone.

        ``device`` is "cpu", "cuda" or "auto" (cuda if there is one). ``tf32`` allows products of
        float32 at 10 bits on GPUs; ``deterministic`` makes torch refuse or replace operations that
        are not deterministic. A rank that others wait for longer than ``timeout_seconds`` ends
        them; see ``watched`` for a shorter time. Raises ConfigError for a device that is missing or
        an incomplete environment.
        """
        present = [name for name in _VARIABLES if name in os.environ]
        launched = "RANK" in present or "WORLD_SIZE" in present
        if launched and len(present) < len(_VARIABLES):
            missing = ", ".join(sorted(set(_VARIABLES) - set(present)))
            raise ConfigError(
                f"{', '.join(present)} set but {missing} missing: start several processes "
                "with torchrun, or unset them for a single one"
            )
        world, rank, local_rank = (
            int(os.environ[name]) if launched else default
            for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
        )
        at = device_of_rank(device, local_rank)
        set_numerics(tf32=tf32, deterministic=deterministic)
        if not launched:
            return cls(device=at)
        owns = not dist.is_initialized()
        timeout = timedelta(seconds=timeout_seconds)
        if owns:
            on_gpu = at.type == "cuda"
            dist.init_process_group(
                "nccl" if on_gpu else "gloo", timeout=timeout, device_id=at if on_gpu else None
            )
        group = dist.new_group(backend="gloo", timeout=timeout)
        watchdog = Watchdog.start(rank, world)
        return cls(at, world, rank, local_rank, weakref.ref(group), owns, watchdog)

    @property
    def is_wrapped(self) -> bool:
        """True if a model is wrapped for its gradients: there is a group, if only of one."""
        return self.group is not None

    @property
    def is_main(self) -> bool:
        """True for the rank that writes files."""
        return self.rank == 0

    # Messages between the ranks. Everything here is collective: every rank calls it, in the
    # same order, from one thread.

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's JSON value, by rank, on every rank; floats come back exactly."""
        if self.group is None:
            return [value]
        with self._exchanging() as group:
            return self._gather(value, group)

    def _gather(self, value: Any, group: Any) -> list[Any]:
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([text.numel()]), group=group)
        padded = torch.zeros(max(int(size) for size in sizes), dtype=torch.uint8)
        padded[: text.numel()] = text
        texts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(texts, padded, group=group)
        return [
            json.loads(bytes(text[: int(size)].tolist()))
            for text, size in zip(texts, sizes, strict=True)
        ]

    def sum_counts(self, counts: Sequence[int]) -> list[int]:
        """Return the sums over ranks, number by number; every rank gives as many."""
        return self.begin_sum(counts)()

    def begin_sum(self, counts: Sequence[int]) -> Callable[[], list[int]]:
        """Begin ``sum_counts`` and return a function that waits for its result.

        Until that is called this rank does other work, exchanges with the others included.
        """
        if self.group is None:
            return partial(list, counts)
        total = torch.tensor(list(counts), dtype=torch.int64)
        with self._exchanging() as group:
            work = dist.all_reduce(total, group=group, async_op=True)

        def end() -> list[int]:
            with self._exchanging():
                work.wait()
            return [int(number) for number in total.tolist()]

        return end

    def sum_scores(self, scores: Mapping[str, float]) -> Scores:
        """Return the sums by name, added in the order of ranks: equal on all, exactly."""
        return reduce(lambda one, other: one + other, self.gather(dict(scores)), Scores())

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's JSON value."""
        return self.gather(value if self.rank == 0 else None)[0]

    def same_on_all(self, what: str, value: Any) -> None:
        """Raise TrainingError, on all ranks, if some rank's JSON ``value`` is not rank 0's."""
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise TrainingError(
                    f"{what} differs between processes: {_short(other)} on rank {rank}, but "
                    f"{_short(values[0])} on rank 0; start all with the same files and "
                    "settings"
                )

    def mark(self) -> None:
        """Record that this rank comes to a place that every rank passes; see ``watchdog``."""
        if self.watchdog is not None:
            self.watchdog.mark()

    def beat(self) -> None:
        """Record that this rank works while the others may wait for it."""
        if self.watchdog is not None:
            self.watchdog.beat()

    @contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
        """Let a rank keep the others waiting for ``seconds`` at most, while the block lasts.

        A longer wait ends all of them, with the stacks of each and the number of the one that did
        not come. Raises TrainingError, which names the rank, if one has died.
        """
        try:
            with self.watchdog.limited(seconds) if self.watchdog else nullcontext():
                yield
        except RuntimeError as error:
            raise self._explained(error) from error

    @contextmanager
    def _exchanging(self) -> Iterator[Any]:
        """Yield the group for one exchange; raise TrainingError if a rank is gone meanwhile."""
        self.mark()
        try:
            yield self._open_group()
        except RuntimeError as error:
            raise self._explained(error) from error
        self.mark()

    def _explained(self, error: RuntimeError) -> Exception:
        """Return a TrainingError for an exchange that failed; any other error as it is."""
        if not (self.world > 1 and _FAILED_EXCHANGE.search(str(error))):
            return error
        gone = self.watchdog.gone() if self.watchdog is not None else []
        names = " and ".join(map(str, gone)) or "that did not answer"
        return TrainingError(
            f"rank {names} of {self.world} is gone ({one_line(error, most=120)}): its own "
            "message is above; the same command resumes from the last checkpoint"
        )

    def _open_group(self) -> Any:
        group = self.group and self.group()
        if group is None:
            raise TrainingError("the processes have left their groups: start() them again")
        return group

    # The work.

    def share(self, group: Sequence[T]) -> list[tuple[T, bool]]:
        """Return this rank's micro-batches of one group: every ``world``-th, from ``rank`` on.

        Every rank has as many, since gradients are summed by all of them together: a rank for which
        none is left in the last round is given the group's last one again, marked by False.
        """
        own = [(each, True) for each in group[self.rank :: self.world]]
        rounds = -(-len(group) // self.world)
        return own if len(own) == rounds else [*own, (group[-1], False)]

    def idle_share(self, group_size: int) -> float:
        """Return the share of the processes' work that is thrown away: see ``share``."""
        return 1 - group_size / (self.world * -(-group_size // self.world))

    def close(self) -> None:
        """Leave the groups and end their threads; nothing collective works after it.

        A thread of gloo may free the tensors of a collective long after the collective is over, and
        needs the interpreter for it: if that was ending meanwhile, processes that had done all
        their work died of SIGABRT ("terminate called without an active exception"). So nothing of
        a group may outlive this, and a group without a holder joins its threads.
        """
        group: Any = self.group and self.group()
        if self.watchdog is not None:
            self.watchdog.close()
        if group is None or not dist.is_initialized():
            return
        for module in self.wrapped:
            # Before the groups: one that goes with its reducer would wait for its threads while
            # they wait for the interpreter.
            del module.logger, module.reducer, module.process_group
        groups = [group]
        if self.owns_default_group:
            groups.append(dist.group.WORLD)
            dist.destroy_process_group()
        else:
            dist.destroy_process_group(group)
        del group
        # Not in this thread: with a collective in flight that a rank which failed will never join,
        # they do not end, but this process must, for torchrun to end the others.
        leaving = threading.Thread(target=groups.clear, name="xlm-leave", daemon=True)
        leaving.start()
        leaving.join(_LEAVING_SECONDS)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
