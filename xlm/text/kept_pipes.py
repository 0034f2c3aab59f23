"""Pipes that are read again: their content is kept on the disk while ``kept_pipes`` lasts.

``xlm prepare`` reads its text several times, to draw sentences for the vocabulary and to binarize.
A named pipe, ``/dev/stdin`` and ``<(zcat ...)`` give their bytes once.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from typing import IO

_BLOCK = 1 << 18
_kept: dict[tuple[int, int], _Pipe] | None = None
"""Pipes by their device and number; None: nothing is kept."""


class _Pipe:
    """An open pipe, and a file without a name that holds all that came out of it so far."""

    def __init__(self, path: str):
        self.source: IO[bytes] = open(path, "rb", buffering=0)
        self.copy: IO[bytes] = tempfile.TemporaryFile()
        self.num_bytes = 0
        self.ended = False

    def read(self, start: int, most: int) -> bytes:
        """Return up to ``most`` bytes from ``start`` on, from the copy or fresh from the pipe."""
        if start == self.num_bytes and not self.ended:
            fresh = self.source.read(_BLOCK)
            self.ended = not fresh
            self.copy.seek(self.num_bytes)
            self.copy.write(fresh)
            self.num_bytes += len(fresh)
        self.copy.seek(start)
        return self.copy.read(most)

    def close(self) -> None:
        self.source.close()
        self.copy.close()


class _Reading(io.RawIOBase):
    """One reading of a pipe, from its start."""

    def __init__(self, pipe: _Pipe):
        self._pipe, self._at = pipe, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        found = self._pipe.read(self._at, len(buffer))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


@contextlib.contextmanager
def kept_pipes() -> Iterator[None]:
    """Keep the content of pipes until the block ends; inside another such block do nothing."""
    global _kept
    if _kept is not None:
        yield
        return
    _kept = {}
    try:
        yield
    finally:
        for pipe in _kept.values():
            pipe.close()
        _kept = None


def open_once(path: str) -> io.RawIOBase:
    """Open a file without a buffer; a pipe from its start on, if it is kept."""
    found = os.stat(path)
    if _kept is None or not stat.S_ISFIFO(found.st_mode):
        return open(path, "rb", buffering=0)
    place = (found.st_dev, found.st_ino)
    if place not in _kept:
        _kept[place] = _Pipe(path)
    return _Reading(_kept[place])
