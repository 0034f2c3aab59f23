"""Several processes in one study: one prepares and writes at a time, one trains each model."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from xlm.errors import ConfigError
from xlm.storage import make_folder, refusing

TURN, CLAIM = ".turn", ".claimed"


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block, and keep the others out.

    Raises ConfigError if the folder cannot be written.
    """
    with _opened(folder, TURN) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Yield whether no other process has the folder, and hold it if so.

    A claim ends with its process, however that ends. Raises ConfigError if the folder cannot be
    written.
    """
    with _opened(folder, CLAIM) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[IO[str]]:
    make_folder(folder, error=ConfigError)
    with refusing(folder, ConfigError, place="folder"):
        file = (folder / name).open("w")
    with file:
        yield file
