"""Standard output in practice: a reader that closes it, one already closed, any encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from xlm.errors import DataError


def say(text: str) -> None:
    """Write lines for a person to standard output; raise DataError if it is closed.

    A reader that stops early, as in ``| head``, is no error.
    """
    if sys.stdout is None:
        raise DataError("standard output is closed: open it, or write to a file")
    with _unread():
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


@contextlib.contextmanager
def console() -> Iterator[None]:
    """Flush standard output at the end; a reader that has gone is no error.

    When the interpreter exits it would be a traceback. Characters that the locale's encoding lacks
    are escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        if sys.stdout is not None:
            with _unread():
                sys.stdout.flush()


@contextlib.contextmanager
def _unread() -> Iterator[None]:
    """Send output without a reader to the null device."""
    try:
        yield
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
