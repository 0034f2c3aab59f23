"""SHA-256 of files: no format of arrays or tensors notices a flipped bit by itself."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from xlm.errors import XlmError

SUMS = "SHA256SUMS"
"""Name of a folder's file of SHA-256 sums, which ``sha256sum -c`` reads too."""
DIGEST = "digest"
_PIECE = 1 << 24


def file_digest(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file (hex); ``tick`` is called every 16 MiB."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading from a pipe may block for ever
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size  # memory is only taken as far as it is used
        buffer = memoryview(bytearray(min(max(size, 1), _PIECE)))
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            tick()
    return digest.hexdigest()


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files of ``folder`` by their names."""
    return {name: file_digest(folder / name) for name in sorted(names)}


def check_digest(
    path: Path,
    expected: str,
    error: type[XlmError],
    advice: str,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Raise ``error`` if a file is missing or its SHA-256 is not ``expected``."""
    try:
        found = file_digest(path, tick)
    except OSError as refused:
        raise error(f"{path}: cannot be read ({refused.strerror}): {advice}") from refused
    if found != expected:
        raise error(
            f"{path}: its content is not what was written (SHA-256 {found[:12]}..., expected "
            f"{expected[:12]}...): {advice}"
        )


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the digest of its other keys, so that a changed bit shows."""
    return {**content, DIGEST: _content_digest(content)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Return whether a sealed JSON object is unchanged."""
    return content.get(DIGEST) == _content_digest(content)


def _content_digest(content: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def render_sums(found: Mapping[str, str]) -> str:
    """Return the sums of files by name, a line each, as ``sha256sum`` writes them."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(found.items()))


def read_sums(path: Path, error: type[XlmError]) -> dict[str, str]:
    """Return the sums of a file by name; raise ``error``, with its line, if it is damaged."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as refused:
        raise error(f"{path}: cannot be read ({refused})") from refused
    found = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        parts = name.split("/")
        if len(digest) != 64 or not name.isprintable() or {"..", ".", ""} & set(parts):
            raise error(f"{path}:{number}: expected SHA-256, two spaces and a file of the folder")
        found[name] = digest
    return found
