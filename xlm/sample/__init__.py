"""The corpus that ships with the package: English, Hindi and Nepali, aligned sentence by sentence.

``{train,valid}.{en,hi,ne}.txt`` hold one sentence a line; the same line of the three languages says
the same thing. ``documents.tsv`` tells where each document begins and how many lines it has. No
document is in both splits.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from xlm.errors import DataError

LANGUAGES = ("en", "hi", "ne")
SPLITS = ("train", "valid")
PREFIX = "sample:"
"""Beginning of the name of a source that is a file of the corpus."""


def folder() -> Path:
    """The folder that holds the corpus."""
    return Path(str(resources.files(__name__)))


def path(name: str) -> Path:
    """The file of that name, such as ``train.en.txt``.

    Raises DataError, which lists the names, when there is none.
    """
    names = sorted(p.name for p in folder().iterdir() if p.suffix in (".txt", ".tsv", ".md"))
    if name not in names:
        raise DataError(
            f"no file {name!r} in the sample corpus; expected one of {', '.join(names)}"
        )
    return folder() / name


def resolved(source: str) -> str:
    """Return the path of a source that is called ``sample:NAME``, any other one as it is."""
    if source.startswith(PREFIX):
        return str(path(source.removeprefix(PREFIX)))
    return source
