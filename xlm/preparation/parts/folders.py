"""Folders of parts: each is there whole or not at all, with checksums of its files.

They are not flushed to the disk one by one, which would take longer than making them: a power cut
may leave a damaged one, which its checksums show.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlm import strict_json
from xlm.errors import DataError
from xlm.storage import atomic_directory, is_being_written, read_json

_PIECE = 1 << 20
_PATIENCE = 60.0
"""Seconds to wait for a process of a killed call, which ends on its own."""
_SILENCE = 2.0
"""Seconds to wait without a word."""

log = logging.getLogger("xlm")


@contextmanager
def new_part(folder: Path, name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a folder to fill and the content, to be filled too, of its file ``name``."""
    content: dict[str, Any] = {}
    with atomic_directory(folder, flush=False) as staging:
        yield staging, content
        files = (path for path in staging.iterdir() if not path.name.startswith("."))
        content["files"] = {path.name: checksum(path) for path in sorted(files)}
        (staging / name).write_text(strict_json.dumps(content), encoding="utf-8")


def make_once(folder: Path, make: Callable[[], None]) -> None:
    """Call ``make``, which makes the part ``folder``, unless another process makes it meanwhile.

    One may: a process of the same command that was killed a moment ago ends a moment later.
    """
    start, is_said = time.monotonic(), False
    while is_being_written(folder) and (waited := time.monotonic() - start) < _PATIENCE:
        if waited > _SILENCE and not is_said:
            log.info("another process writes %s: waiting up to %.0f s for it", folder, _PATIENCE)
            is_said = True
        time.sleep(0.02)
    try:
        if not folder.exists():
            make()
    except DataError:
        if not folder.exists():
            raise


def open_part(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of the file ``name`` of a part; DataError if one beside it is damaged."""
    content = read_json(folder / name, error=DataError)
    for file, expected in content["files"].items():
        try:
            found = checksum(folder / file)
        except OSError:
            found = -1
        if found != expected:
            raise DataError(
                f"{folder / file} was damaged, perhaps by a power cut: remove {folder}, and run "
                "the same command again"
            )
    return content


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    found = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            found = zlib.crc32(piece, found)
    return found
