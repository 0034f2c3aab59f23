"""Lines of files and of standard input, each in its place, and lines to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO

from xlm.errors import ConfigError, DataError
from xlm.text import containers
from xlm.text.readers import INVALID, MAX_BYTES, TOO_LONG, Line, decode_lines, describe_invalid

STANDARD = "-"
"""The name of standard input among files."""
STDIN = "stdin"
"""The file name in places of standard input."""
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Endings of files that are read compressed."""


def every_line(file: str, invalid: str = "drop") -> Iterator[Line]:
    """Yield every line of a file, compressed or not, or of standard input, unchanged.

    A line of more than ``MAX_BYTES`` has a reason and no text; so has one that is not UTF-8, which
    with ``invalid="error"`` is a DataError. So is a file that cannot be read or has no line.
    """
    if file == STANDARD:
        if sys.stdin is None:
            raise DataError("standard input is closed: feed lines to it, or give a file")
        return stdin_lines(sys.stdin.buffer, invalid)
    return decode_lines(file, invalid)


def stdin_lines(stream: IO[bytes], invalid: str = "drop") -> Iterator[Line]:
    """Yield ``every_line`` of standard input: nothing is read before it is asked for."""
    number = 0
    while raw := stream.readline(MAX_BYTES + 1):
        number += 1
        place = f"{STDIN}:{number}"
        is_whole = raw.endswith(b"\n")
        if number == 1:
            _check_start(raw)
        raw = raw.removesuffix(b"\n")
        if len(raw) > MAX_BYTES:
            while not is_whole and (rest := stream.readline(MAX_BYTES)):
                is_whole = rest.endswith(b"\n")
            yield Line("", TOO_LONG, place)
            continue
        try:
            yield Line(raw.decode("utf-8-sig" if number == 1 else "utf-8"), "", place)
        except UnicodeDecodeError as error:
            if invalid == "error":
                raise DataError(describe_invalid(place, error)) from None
            yield Line("", INVALID, place)
    if not number:
        raise DataError("standard input is empty: expected lines of text, or give a file")


def _check_start(first: bytes) -> None:
    """Raise DataError if the first line shows that standard input is not text in UTF-8."""
    if packed := containers.compression(first):
        raise DataError(f"standard input is {packed}: unpack it first, or give the file's name")
    if found := containers.problem(first):
        raise DataError(f"standard input {found}")


def check_output(output: str, file: str) -> None:
    """Raise ConfigError if ``output`` is ``file`` itself, or named as if it were compressed, a
    folder, or in a folder that does not exist.
    """
    both_there = os.path.exists(output) and os.path.exists(file)
    if file != STANDARD and both_there and os.path.samefile(output, file):
        raise ConfigError(f"output {output} is also the input: give another output")
    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        raise ConfigError(f"output {output}: the folder {folder} does not exist: create it")
    if os.path.isdir(output):
        raise ConfigError(f"output {output} is a directory: give a file")
    if output.endswith(COMPRESSED):
        raise ConfigError(
            f"output {output}: text is written uncompressed: leave out this ending, and "
            "compress the file afterwards"
        )


def to_standard_output(lines: Iterable[str]) -> None:
    """Write each as it comes; a reader that has seen enough, as with ``| head``, is not an error.

    Raises DataError if standard output is closed.
    """
    if sys.stdout is None:
        raise DataError("standard output is closed: open it, or set output to a file")
    try:
        for line in lines:
            sys.stdout.buffer.write(line.encode() + b"\n")
            sys.stdout.buffer.flush()  # a program that feeds lines one by one may wait for it
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
