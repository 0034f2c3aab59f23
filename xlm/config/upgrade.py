"""Upgrade of the resolved settings of older versions to the words of today.

A recipe written by a person is rejected with the new word, so that its author learns it. The
settings in a run's folder or checkpoint are not edited by people: they are upgraded when they are
read.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args, get_origin

from xlm.config.class_path import heir, is_moved_default, subclasses
from xlm.config.hints import given, hints, renamed


def upgraded(tree: Any, hint: Any) -> Any:
    """Return settings, as read from YAML for the type ``hint``, in the words of today.

    ``code`` became ``original``, and settings that only the original XLM has moved to classes of
    their own: a class with such a setting is replaced by its subclass that has it.
    """
    hint = given(hint)
    if isinstance(tree, str):
        return renamed(tree, hint) or tree
    if not isinstance(tree, dict):
        return tree
    if get_origin(hint) is dict:
        return {key: upgraded(value, get_args(hint)[1]) for key, value in tree.items()}
    if not dataclasses.is_dataclass(hint):
        return tree
    if inspect.isabstract(hint):
        return _upgraded_class(tree, hint)
    known = hints(hint)
    return {key: upgraded(own, known[key]) if key in known else own for key, own in tree.items()}


def _upgraded_class(tree: dict[str, Any], base: Any) -> dict[str, Any]:
    path, settings = tree.get("class_path"), tree.get("init_args")
    cls = next((own for own in subclasses(base) if path in (_dotted(own), own.__name__)), None)
    if cls is None or not isinstance(settings, dict):
        return tree
    for name, value in settings.items():
        if name not in hints(cls) and not is_moved_default(cls, name, value):
            cls = heir(cls, name) or cls
    return {"class_path": _dotted(cls), "init_args": upgraded(settings, cls)}


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
