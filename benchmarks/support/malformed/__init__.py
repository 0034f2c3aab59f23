"""Hundreds of malformed and unusual inputs, and what the program has to make of each.

A case writes files into an empty folder and calls the library. Right is what was expected: the
value that a reader gives, or one short line that names the file (and the line, if it has any).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from xlm.errors import XlmError

MOST_SECONDS = 20
"""For one case; a reader that hangs is stopped."""
LONGEST = 1200
"""Characters of a message, whatever the file holds."""


@dataclass(frozen=True)
class Case:
    """Files, a call, and what has to come of it."""

    name: str
    files: Mapping[str, bytes]
    call: Callable[[Path], Any]
    """Given the folder with the files."""
    refused: str = ""
    """A pattern that the message has; empty: it is read."""
    value: Any = None
    """What the call returns if it is read; None: anything."""
    either: bool = False
    """Whether reading it is right too."""
    make: Callable[[Path], None] | None = field(default=None)
    """Makes what is no file: a pipe, a link, a folder."""


def problem(case: Case) -> str:
    """Return what is wrong about how the program takes a case; empty if nothing is."""
    with tempfile.TemporaryDirectory() as name, _inside(name):
        for path, content in case.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(content)
        if case.make is not None:
            case.make(Path())
        try:
            with _limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = case.call(Path())
        except XlmError as error:
            return _judged(case, str(error))
        except _TooLong:
            return f"not done after {MOST_SECONDS} seconds"
        except BaseException as error:
            return f"a traceback: {type(error).__name__}: {str(error)[:200]}"
    if case.refused and not case.either:
        return f"was read, expected a refusal: {case.refused}; it gave {str(found)[:100]}"
    if case.value is not None and found != case.value:
        return f"gave {str(found)[:200]!r}, expected {str(case.value)[:200]!r}"
    return ""


def _judged(case: Case, message: str) -> str:
    if not case.refused:
        return f"was refused: {message[:200]}"
    if "\n" in message or len(message) > LONGEST:
        return f"says more than a line: {len(message):,} characters"
    if not re.search(case.refused, message):
        return f"says {message[:300]!r}, expected {case.refused!r}"
    return ""


class _TooLong(BaseException):
    """A case that does not end; no ``except OSError`` takes it for something else."""


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
