"""The recipes that ship with the package, found by name from any folder.

sample/pretrain, sample/pretrain.yaml, recipes/sample/pretrain.yaml    all the same recipe
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from xlm.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "recipe_files"
_SUFFIX, _PREFIX = ".yaml", "recipes/"


def names() -> list[str]:
    """Return the names of all recipes, such as ``sample/pretrain``, in alphabetical order."""
    return sorted(
        (Path(folder) / file).relative_to(FOLDER).as_posix().removesuffix(_SUFFIX)
        for folder, _, files in os.walk(FOLDER)
        for file in files
        if file.endswith(_SUFFIX)
    )


def path_of(name: str) -> Path:
    """Return the file of a recipe; raise ConfigError, with the nearest names, if there is none."""
    plain = _plain(name)
    known = names()
    if plain in known:
        return FOLDER / f"{plain}{_SUFFIX}"
    close = difflib.get_close_matches(plain, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise ConfigError(
        f"there is no file and no recipe called {name!r}: expected a YAML file, or a name "
        f"such as sample/pretrain (xlm recipes lists all){hint}"
    )


def found(path: str) -> str:
    """Return ``path`` if it exists, else the recipe of that name, else ``path``."""
    if (os.path.exists(path) and not os.path.isdir(path)) or "\0" in path:
        return path
    if _plain(path) in names():
        return str(path_of(path))
    return path


def check_name(path: str) -> None:
    """Raise ConfigError for a name without an ending that is neither a file nor a recipe."""
    if not os.path.exists(path) and not Path(path).suffix and not path.startswith("/"):
        path_of(path)


def _plain(name: str) -> str:
    return os.path.normpath(name).removeprefix(_PREFIX).removesuffix(_SUFFIX)


def summary(name: str) -> str:
    """Return the first sentence of a recipe's comment."""
    lines = []
    for line in path_of(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return re.split(r"(?<!et al)\. ", " ".join(lines))[0].removesuffix(".")
