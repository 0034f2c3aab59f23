"""Signals that ask a run to save and stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("xlm")

TOGETHER_SECONDS = 3.0
"""Under torchrun, Ctrl-Cs that come within this time of the first are one."""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Set the event on SIGTERM, SIGINT and SIGUSR1; a second SIGINT ends the program at once.

    Under torchrun, a Ctrl-C comes twice, from the terminal and from torchrun: a second one within
    seconds of the first is the same. Outside the main thread Python allows no handlers, so nothing
    sets the event.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    interrupted: list[float] = []
    together = TOGETHER_SECONDS if "TORCHELASTIC_RUN_ID" in os.environ else 0.0

    def request(number: int, frame: Any) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if interrupted and now > interrupted[0] + together:
                raise KeyboardInterrupt
            interrupted.append(now)
        if stop.is_set():
            return
        stop.set()
        name = signal.Signals(number).name
        log.warning("%s: saving after this update or the next, then stopping", name)

    before = {number: signal.signal(number, request) for number in STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
