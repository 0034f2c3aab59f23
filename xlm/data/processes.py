"""Worker processes that import only what they need, and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from types import ModuleType
from typing import Any


class Processes(ProcessPoolExecutor):
    """Worker processes that do not run the caller's main module again, as spawned ones do.

    So a script needs no ``if __name__ == "__main__"``, a program read from standard input works,
    and only the code that is called is imported (above all no torch). ``set_up`` is called once in
    each with ``arguments``. With ``needs_main`` the main module is imported after all.
    """

    def __init__(
        self,
        num_workers: int,
        set_up: Callable[..., None],
        arguments: tuple[Any, ...] = (),
        *,
        needs_main: bool = False,
    ):
        super().__init__(
            num_workers,
            # Not forked: a fork of a process that runs threads (torch, tokenizers) may deadlock.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(set_up, arguments),
        )
        self._needs_main = needs_main

    def submit(self, task: Any, /, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        """Hand a call to a process; the first call starts them all."""
        # Blocked signals stay blocked in a new process: a Ctrl-C is for this one, which ends them.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        main = sys.modules["__main__"]
        if not self._needs_main:
            sys.modules["__main__"] = ModuleType("__main__")
        try:
            return super().submit(task, *arguments)
        finally:
            sys.modules["__main__"] = main
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _begin(set_up: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, name="xlm-parent", daemon=True).start()
    set_up(*arguments)


def _end_with_parent() -> None:
    """Wait until the process that wants the results has ended for any reason, and end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
