"""Progress through the analyses of a report: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger("xlm")


class Progress:
    """A bar of ``total`` analyses with the time left, or a line for each that is done."""

    def __init__(self, total: int) -> None:
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(total=total, unit=" analyses", disable=not self._on_terminal)
        self._total, self._num, self._name = total, 0, ""
        self._started = self._before = time.monotonic()

    def begin(self, name: str) -> None:
        """Start the next analysis."""
        self._name, self._before = name, time.monotonic()
        self._bar.set_description(name)

    def end(self) -> None:
        """Count the analysis that was started as done."""
        self._num += 1
        self._bar.update()
        if not self._on_terminal:
            now = time.monotonic()
            left = (now - self._started) / self._num * (self._total - self._num)
            log.info(
                "%s: %.0f s (%d of %d, about %.0f s left)",
                self._name, now - self._before, self._num, self._total, left,
            )  # fmt: skip

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
