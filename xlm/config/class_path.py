"""Dataclasses that a recipe names by class path, and settings that moved to a subclass."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from typing import Any


class NamedByClassPath:
    """A base of dataclasses that a recipe names by class path, one of our own or of the user's.

    In a recipe such a field is ``{class_path: CLASS, init_args: {...}}``.
    """


def subclasses(cls: type) -> list[type]:
    """Return every class below ``cls``, at any depth, once; each before its own subclasses."""
    found: dict[type, None] = {}
    subclass: type
    for subclass in cls.__subclasses__():
        found |= dict.fromkeys([subclass, *subclasses(subclass)])
    return list(found)


def heir(cls: type, name: str) -> type | None:
    """Return the subclass, of ``cls`` or of a concrete base, with a setting ``name`` of its own.

    A setting that the subclass merely inherits, of the same type, is not its own.
    """
    for base in cls.__mro__:
        if inspect.isabstract(base) or not dataclasses.is_dataclass(base):
            continue
        ours = base.__module__.partition(".")[0]
        for subclass in subclasses(base):
            if issubclass(cls, subclass) or inspect.isabstract(subclass):
                continue
            if name not in _defaults(subclass) or _types(subclass)[name] == _types(base).get(name):
                continue
            if subclass.__module__.startswith(f"{ours}."):
                return subclass
    return None


def _types(cls: type) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(cls)}


def is_moved_default(cls: type, name: str, value: Any) -> bool:
    """Return whether ``cls`` gave the setting ``name`` to a subclass whose default is ``value``.

    A recipe may still contain it, as resolved ones from before the move do: it has no effect.
    """
    if name in _defaults(cls) or (new := heir(cls, name)) is None:
        return False
    default = _defaults(new)[name]
    return type(default) is type(value) and bool(default == value)


def without_moved_defaults(tree: Any) -> Any:
    """Return a recipe's tree without the settings for which ``is_moved_default`` holds."""
    if isinstance(tree, list):
        return [without_moved_defaults(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: without_moved_defaults(below) for key, below in tree.items()}
    settings, cls = tree.get("init_args"), _loaded_class(tree.get("class_path"))
    if isinstance(settings, dict) and cls is not None:
        kept = {k: own for k, own in settings.items() if not is_moved_default(cls, k, own)}
        tree["init_args"] = kept
    return tree


def _loaded_class(path: Any) -> type | None:
    """Return the class that ``path`` names, if its module has been imported."""
    if not isinstance(path, str):
        return None
    module, _, name = path.rpartition(".")
    if module:
        found = getattr(sys.modules.get(module), name, None)
        return found if isinstance(found, type) else None
    return next((cls for cls in subclasses(NamedByClassPath) if cls.__name__ == name), None)


def _defaults(cls: Any) -> dict[str, Any]:
    """Return the default of every setting; MISSING if it has none, or a factory."""
    return {f.name: f.default for f in dataclasses.fields(cls) if f.init}
