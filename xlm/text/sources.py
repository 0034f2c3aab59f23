"""The files that a source names, and the settings behind its ``?``.

    corpus/*.jsonl.gz?column=text  --split_settings-->  corpus/*.jsonl.gz, {column: text}
                                   --find_files------>  corpus/a.jsonl.gz, corpus/b.jsonl.gz

A source that exists as it is written is that file, even if its name holds ``?`` or ``*``.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl

from xlm.errors import ConfigError, DataError

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Endings of files that are read compressed."""

_SETTINGS = re.compile(r"\?(?=[A-Za-z_]+=)[^/]*$")
_PATTERN = re.compile(r"[*?\[]")


def split_settings(source: str, known: Iterable[str] = ()) -> tuple[str, dict[str, str]]:
    """Return the path of ``PATH[?key=value&...]`` and its settings.

    Raises ConfigError for a key that is not ``known``.
    """
    found = _SETTINGS.search(source)
    if found is None or os.path.lexists(source):
        return source, {}
    path = source[: found.start()]
    settings = dict(parse_qsl(source[found.start() + 1 :], keep_blank_values=True))
    if strange := sorted(set(settings) - set(known)):
        expected = " or ".join(f"{key}=..." for key in known)
        raise ConfigError(
            f"{source}: found the setting {strange[0]!r} after the '?', expected "
            + (expected or f"none for a file of this kind: name {path} alone")
        )
    return path, settings


def find_files(path: str) -> list[str]:
    """Return the files of a path, a folder or a pattern with ``*``, ``?``, ``[]`` or ``**``.

    They are sorted by name. Of a folder these are all files in and below it; those whose name
    begins with a dot are skipped. A path that does not exist is returned as it is: whoever
    reads it says so.

    Raises DataError for a folder without files or with files of several endings (a README beside
    the text), and for a pattern that nothing fits.
    """
    if os.path.isdir(path):
        return _files_below(path)
    if os.path.lexists(path) or not is_pattern(path):
        return [path]
    names = sorted(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))
    if not names:
        raise DataError(f"no file matches {path}: expected at least one; check the pattern")
    return names


def is_pattern(path: str) -> bool:
    """Return whether a path holds a sign that stands for others."""
    return bool(_PATTERN.search(path))


def _files_below(folder: str) -> list[str]:
    found = sorted(
        os.path.join(parent, name)
        for parent, below, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".") and not _hidden(parent, folder)
    )
    if not found:
        raise DataError(f"{folder} is a folder without files: expected text files in it")
    endings = sorted({ending(name) for name in found})
    if len(endings) > 1:
        named = ", ".join(f"'{kind}'" if kind else "none" for kind in endings[:6])
        raise DataError(
            f"{folder} holds files with different endings ({named}): choose some of them by "
            f"a pattern, such as {folder.rstrip('/')}/*{next(filter(None, endings))}"
        )
    return found


def _hidden(parent: str, folder: str) -> bool:
    inside = Path(os.path.relpath(parent, folder)).parts
    return any(part.startswith(".") and part != "." for part in inside)


def ending(path: str) -> str:
    """Return the ending of a file's name in lower case, without that of its compression."""
    name = Path(path).name.lower()
    for compressed in COMPRESSED:
        name = name.removesuffix(compressed)
    return Path(name).suffix
