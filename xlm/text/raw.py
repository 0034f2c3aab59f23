"""The lines of a file as bytes, unpacked, whether or not its name says that it is compressed."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from typing import Any, cast

from xlm.errors import DataError, clipped, first_line
from xlm.text import containers
from xlm.text.kept_pipes import open_once

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BUFFER = 1 << 18
_WINDOW = zstd.DecompressionParameter.window_log_max
_ANY_WINDOW = {int(_WINDOW): _WINDOW.bounds()[1]}
"""Largest window, to read files of ``zstd --long=31`` too; the default refuses above 128 MiB."""
_MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""
COMPRESSED = tuple(containers.COMPRESSIONS)
"""Endings of files that are read compressed."""


def raw_lines(path: str, max_bytes: int, *, any_encoding: bool = False) -> Iterator[bytes | None]:
    """Yield the lines of a file without their ``\n``; None for one of more than ``max_bytes``.

    A byte order mark at the start of the file is left out. Compression is recognized by the first
    bytes, not by the name. ``any_encoding`` is for files that name their own, as XML does. A pipe
    is read once, unless inside ``kept_pipes``. Raises DataError for a file that is missing, a
    directory, truncated, damaged or an archive, for text in UTF-16, and for text whose lines end
    with carriage returns alone.
    """
    number = 0
    if "\0" in path:
        raise DataError(f"{path!r}: a name cannot contain a NUL character: expected a text file")
    try:
        with contextlib.ExitStack() as stack:
            stream = _open(path, stack)
            start = stream.peek(containers.START)[: containers.START]
            if found := containers.problem(start, any_encoding=any_encoding):
                raise DataError(f"{path} {found}")
            if start.startswith(_MARK):
                stream.read(len(_MARK))
            while line := stream.readline(max_bytes + 1):
                number += 1
                yield _whole_line(stream, line, max_bytes)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
        raise DataError(_describe(path, number, error)) from None


def raw_lines_between(path: str, max_bytes: int, start: int, end: int) -> Iterator[bytes | None]:
    """Yield the lines of an uncompressed file that begin at a byte from ``start`` up to ``end``.

    Ranges that follow each other give every line once: they are ``raw_lines`` in parts. Raises as
    it does; the first range finds out what the file is.
    """
    number = 0
    try:
        with io.BufferedReader(cast(Any, open(path, "rb", buffering=0)), _BUFFER) as stream:
            if start:
                stream.seek(start - 1)
                _skip_line(stream)
            else:
                opening = stream.peek(containers.START)[: containers.START]
                if found := containers.problem(opening):
                    raise DataError(f"{path} {found}")
                if opening.startswith(_MARK):
                    stream.read(len(_MARK))
            begin = stream.tell() if start else 0  # a byte order mark is part of the first line
            while begin < end and (line := stream.readline(max_bytes + 1)):
                number += 1
                yield _whole_line(stream, line, max_bytes)
                begin = stream.tell()
    except OSError as error:
        raise DataError(_describe(path, number, error)) from None


def _whole_line(stream: io.BufferedReader, line: bytes, max_bytes: int) -> bytes | None:
    """Return a line without its end; None, and read what is left of it, if it is too long."""
    if line.endswith(b"\n"):
        return line[:-1]
    if len(line) <= max_bytes:
        return line
    _skip_line(stream)
    return None


def _skip_line(stream: io.BufferedReader) -> None:
    while piece := stream.readline(_BUFFER):
        if piece.endswith(b"\n"):
            return


def _open(path: str, stack: contextlib.ExitStack) -> io.BufferedReader:
    """Return the unpacked bytes of a file; ``stack`` closes everything opened for them."""
    stored = stack.enter_context(io.BufferedReader(cast(Any, open_once(path)), _BUFFER))
    found = containers.compression(start := stored.peek(16)[:16])
    if not found and start and (promised := containers.promised(path)):
        raise DataError(
            f"{path} has the name of a {promised} file, but is not one: rename it, or fetch "
            "it again"
        )
    if not found:
        return stored
    unpacked = stack.enter_context(_unpacked(stored, found))
    stream = stack.enter_context(io.BufferedReader(unpacked, _BUFFER))
    if twice := containers.compression(stream.peek(16)[:16]):
        raise DataError(f"{path} holds {twice} inside of {found}: unpack it once")
    return stream


def _unpacked(stored: io.BufferedReader, kind: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=stored)
    if kind == "bzip2":
        return bz2.BZ2File(stored)
    if kind == "xz":
        return lzma.LZMAFile(stored)
    return zstd.ZstdFile(stored, options=_ANY_WINDOW)


def _describe(path: str, number: int, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: expected a text file"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a directory: expected a text file"
    if isinstance(error, PermissionError):
        return f"{path} may not be read by you: expected a text file"
    after = f"{path}:{number + 1}"
    if isinstance(error, EOFError):
        return f"{after}: the compressed file is truncated: fetch or write it again"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return f"{clipped(path)}:{number + 1}: cannot be read ({reason}): fetch or write it again"
