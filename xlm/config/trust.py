"""Trust in YAML files: the classes that a file may name depend on who wrote it.

a recipe (``--config``, flags)    any class; the current folder is searched too: a recipe is code
a file of a run or of a model     classes of ``xlm.objectives`` and ``xlm.tasks``, those that the
                                  program has imported, and those of a folder that the user trusts
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm.errors import ConfigError

_OWN = re.compile(r"xlm\.(objectives|tasks)(\.[a-z_]+)*\.[A-Z][A-Za-z0-9]*")


class Untrusted(ConfigError):
    """Raised for a class that a file may not name; the message is the reason, without the file."""


@dataclass(frozen=True)
class Trust:
    """The rule for importing class paths; the default is that of a file from elsewhere."""

    folder: str | None = None
    """The folder whose modules may be imported in addition to those imported already."""
    anything: bool = False
    """True for a recipe: every module that Python finds may be imported."""

    @classmethod
    def of_recipe(cls) -> Trust:
        """Return the trust in a recipe: modules of the current folder are found as well."""
        return cls(folder=os.getcwd(), anything=True)

    def find(self, path: str) -> Any:
        """Return the object at the dotted path ``path``, whose module is imported if it may be.

        Raises Untrusted if it may not be imported, ImportError if there is no such module,
        AttributeError if the module has no such name.
        """
        module, _, name = path.rpartition(".")
        # Not `getattr` alone: a module may import others when it is asked for a name.
        if module in sys.modules and name in vars(sys.modules[module]):
            return vars(sys.modules[module])[name]
        if not self.anything and not is_own(path):
            self._refuse_foreign(module)
        top = module.partition(".")[0]
        if self.folder is not None and top not in sys.modules and not is_own(path):
            self._make_visible(top)
        return getattr(importlib.import_module(module), name)

    def _refuse_foreign(self, module: str) -> None:
        """Raise Untrusted unless ``module`` lies in the trusted folder."""
        top = module.partition(".")[0]
        if self.folder is None:
            raise Untrusted(
                "only classes of xlm.objectives and xlm.tasks are imported for a file that came "
                "with a run or a model: read the code, and if you trust it say --trust FOLDER (the "
                f"folder that holds {top}.py), or import it first in Python"
            )
        if top in sys.modules:
            raise Untrusted(f"{top} is imported already, and has no such class")
        if not any((Path(self.folder) / found).exists() for found in (f"{top}.py", top)):
            raise Untrusted(f"trust {self.folder}: there is neither {top}.py nor a folder {top}")
        there = importlib.util.find_spec(top)
        inside = os.path.realpath(self.folder)
        if there is not None and os.path.realpath(_place(there)) != inside:
            raise Untrusted(
                f"trust {self.folder}: Python finds another {top} before it, in {_place(there)}; "
                "rename one of the two"
            )

    def _make_visible(self, top: str) -> None:
        """Let Python find the module ``top`` in the folder, after everything installed."""
        assert self.folder is not None
        if importlib.util.find_spec(top) is None and self.folder not in sys.path:
            sys.path.append(self.folder)


def is_own(path: Any) -> bool:
    """Return whether ``path`` has the form of a class of this library's objectives or tasks."""
    return isinstance(path, str) and _OWN.fullmatch(path) is not None


def _place(spec: Any) -> str:
    """Return the folder that holds a module or a package, or "" if it is not a folder."""
    first = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return os.path.dirname(str(first or ""))
