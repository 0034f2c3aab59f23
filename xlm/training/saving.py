"""Write checkpoints, each rank its own part, during the training if wanted.

    begin: a thread of each rank writes its pieces
      -> all are ready, as the counts of an update say: rank 0's thread commits
      -> it is ready, as those of a later update say: the save has ended, well or not

Nothing collective is done by a thread: the ranks exchange what became of a save from the loop, when
each of them is at the same update.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.training.checkpoint import Entries
from xlm.training.distributed.processes import Parallel

log = logging.getLogger("xlm")

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by the name of their file, then by their own."""
_BEAT_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """One save. A function raises CheckpointError if it fails."""

    write: Callable[[], Entries] | None
    """Write this rank's pieces and return their entries; None on all ranks if one writes all."""
    commit: Callable[[Entries], None]
    """Write the rest, given the entries of all pieces; called on rank 0 only."""
    discard: Callable[[], None] = lambda: None
    """Remove what was written; called on rank 0 if some rank has failed."""


class Saver:
    """The saves of a run, one after the other.

    ``begin``, ``advance`` and ``finish`` are collective. If the saver is not in the ``background``,
    a save has ended when ``begin`` returns.
    """

    def __init__(self, parallel: Parallel, *, background: bool = False) -> None:
        self.parallel = parallel
        self.background = background
        self.failure = ""
        """Why the last save has failed; empty if it has not."""
        self._phase: Literal["none", "pieces", "commit"] = "none"
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._entries: Entries = {}
        self._problem = ""
        self._bug: BaseException | None = None
        self.num_phases = 0
        """Phases begun so far, on every rank alike: ``is_ready`` was said of the last one then."""

    @property
    def is_ready(self) -> bool:
        """True if this rank waits for the others; when all do, they call ``advance``."""
        if self._phase == "none":
            return False
        return self._thread is None or not self._thread.is_alive()

    def begin(self, job: Job) -> None:
        """Save; the save before must have ended (``finish``)."""
        assert self._phase == "none", "finish the last save first"
        self._job, self._entries, self._problem = job, {}, ""
        self.num_phases += 1
        if job.write is not None:
            self._phase = "pieces"
            self._start(self._write)
        else:
            self._phase = "commit"
            self._start_commit({})
        if not self.background:
            self.finish()

    def advance(self) -> None:
        """Go on from a phase that all ranks have ended."""
        job, self._thread = self._job, None
        assert job is not None
        self.num_phases += 1
        if self._bug is not None:
            raise self._bug
        if self._phase == "pieces":
            of_ranks = self.parallel.gather([self._problem, self._entries])
            problem = next((problem for problem, _ in of_ranks if problem), "")
            if problem:
                if self.parallel.is_main:
                    job.discard()
                self._end(problem)
                return
            self._phase = "commit"
            self._start_commit({name: own for _, each in of_ranks for name, own in each.items()})
        else:
            self._end(self.parallel.broadcast(self._problem))

    def finish(self) -> None:
        """Wait until the save under way has ended, if there is one."""
        while self._phase != "none":
            self.join()
            self.advance()

    def join(self) -> None:
        """Wait for this rank's thread, whatever the others do: this rank is about to leave."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(_BEAT_SECONDS)
            self.parallel.beat()

    def fail(self, problem: str) -> None:
        """Note a save that was not begun, on every rank."""
        self._end(problem)

    def _end(self, problem: str) -> None:
        self._phase, self._job, self.failure = "none", None, problem
        if problem and self.parallel.is_main:
            log.warning("%s", problem)

    def _start_commit(self, entries: Entries) -> None:
        if self.parallel.is_main:
            self._start(lambda: self._commit(entries))

    def _start(self, function: Callable[[], None]) -> None:
        if not self.background:
            function()
            return
        # Not a daemon: an interpreter that ends waits for the save.
        self._thread = threading.Thread(target=self._guarded, args=[function], name="xlm-save")
        self._thread.start()

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            self._bug = error

    def _write(self) -> None:
        assert self._job is not None and self._job.write is not None
        try:
            self._entries = self._job.write()
        except CheckpointError as error:
            self._problem = str(error)

    def _commit(self, entries: Entries) -> None:
        assert self._job is not None
        try:
            self._job.commit(entries)
        except CheckpointError as error:
            self._problem = str(error)


class Copies:
    """Copies of tensors, taken at once and used later by another thread.

    On CUDA they are page-locked and kept for the next save, so that the device can fill them
    without holding up the processor; on the device, the next update waits for the copy.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def take(self, groups: Groups) -> tuple[dict[str, dict[str, Tensor]], Callable[[], None]]:
        """Return the copies, and a function that waits until they are filled."""
        copies: dict[str, dict[str, Tensor]] = {}
        on_device = False
        for group, named in groups.items():
            own = copies[group] = {}
            for name, tensor in named.items():
                tensor = tensor.detach()
                if tensor.device.type == "cpu":
                    own[name] = tensor.clone(memory_format=torch.contiguous_format)
                    continue
                on_device = True
                own[name] = self._room(group, name, tensor)
                own[name].copy_(tensor, non_blocking=True)
        if not on_device:
            return copies, lambda: None
        filled = torch.cuda.Event()  # type: ignore[no-untyped-call]
        filled.record()
        return copies, filled.synchronize

    def _room(self, group: str, name: str, tensor: Tensor) -> Tensor:
        kept = self._kept.get((group, name))
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._kept[group, name] = kept
        return kept
