"""List the recipes that ship with the package, or copy one to edit it.

Use as ``xlm recipes`` or ``python -m xlm.recipes``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlm.config import recipes
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import ConfigError, clipped
from xlm.storage import write_whole
from xlm.tables import aligned

__all__ = ["Recipes", "copied", "listed", "main"]

_WIDTH = 90
"""Number of characters of a recipe's line."""


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes that ship with xlm, or copy one. Use one as --config NAME in any folder."""

    study: str = ""
    """List only the recipes whose names begin with this, such as sample."""
    copy: str | None = None
    """The name of a recipe to copy, such as sample/pretrain."""
    to: str | None = None
    """With copy: the file to write (null: the recipe's own file name in the current folder). It
    must not exist."""

    def __post_init__(self) -> None:
        if self.to is not None and self.copy is None:
            raise ConfigError("to names the file that copy writes: give copy, the name of a recipe")


def listed(study: str = "") -> Iterator[str]:
    """Yield a line for each recipe whose name begins with ``study``; ConfigError if none does."""
    rows = [
        (name, clipped(recipes.summary(name), _WIDTH))
        for name in recipes.names()
        if name.startswith(study)
    ]
    if not rows:
        studies = sorted({name.rpartition("/")[0] for name in recipes.names()})
        raise ConfigError(
            f"no recipe's name begins with {study!r}: expected one of {', '.join(studies)}"
        )
    yield from (line.rstrip() for line in aligned(rows, num_names=2))


def copied(name: str, to: str | None = None) -> Path:
    """Copy a recipe and return its new path; raise ConfigError if that exists already."""
    source = recipes.path_of(name)
    target = Path(to).expanduser() if to is not None else Path(source.name)
    if target.is_dir():
        target = target / source.name
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists already: give another name with --to")
    write_whole(target, source.read_text(encoding="utf-8"), error=ConfigError)
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm recipes``: see ``Recipes``."""

    def act(config: Recipes) -> None:
        if config.copy is None:
            say("\n".join(listed(config.study)))
        else:
            say(f"written: {copied(config.copy, config.to)}")

    run_verb(Recipes, "recipes", act, arguments, positional="study")


if __name__ == "__main__":
    main()
