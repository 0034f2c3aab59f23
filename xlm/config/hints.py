"""Type hints of settings: checks of values, and the expected type in words."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from xlm.errors import ConfigError

MOST_SHOWN = 60

_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    types.NoneType: "null",
}


def given(hint: Any) -> Any:
    """Return the dataclass of ``Dataclass | None``, or any other type unchanged."""
    inner = [one for one in get_args(hint) if one is not types.NoneType]
    union = get_origin(hint) in (typing.Union, types.UnionType)
    return inner[0] if union and len(inner) == 1 and dataclasses.is_dataclass(inner[0]) else hint


def hints(cls: Any) -> dict[str, Any]:
    """Return the type of every field."""
    found = typing.get_type_hints(cls)
    return {field.name: found[field.name] for field in dataclasses.fields(cls) if field.init}


def fits(value: Any, hint: Any) -> bool:
    """Return whether a YAML value has this type; jsonargparse judges types that YAML lacks."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(item, inner[0]) for item in value)
    if origin is tuple:
        same = isinstance(value, list) and len(value) == len(inner)
        return same and all(fits(item, one) for item, one in zip(value, inner, strict=True))
    if origin is dict:
        return isinstance(value, dict) and all(fits(v, inner[1]) for v in value.values())
    if hint is float:
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            return False  # of hundreds of digits
        return isinstance(value, int | float) and not isinstance(value, bool)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, typing.cast(type, hint))
    return type(value) is hint if hint in _WORDS else True


def check_types(instance: Any) -> None:
    """Raise ConfigError if a field of a dataclass made in Python has another type.

    Numbers are checked as in a recipe; a path is accepted for text, a tuple for a list.
    """
    try:
        known = hints(type(instance))
    except NameError:  # a user's class whose types are imported for the type checker alone
        return
    for name, hint in known.items():
        value = getattr(instance, name)
        if not fits(_as_written(value), hint):
            raise ConfigError(
                f"{name}: expected {describe(hint)}, found {value!r:.{MOST_SHOWN}} "
                f"({type(value).__name__})"
            )


def _as_written(value: Any) -> Any:
    """Return a value of Python as YAML would have it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_as_written(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


def describe(hint: Any) -> str:
    """Return the type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(one) for one in inner)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is list:
        return f"a list of {_plural(inner[0])}"
    if origin is tuple:
        return f"a list of {len(inner)} {_plural(inner[0])}"
    if origin is dict:
        return "a mapping {key: value, ...}"
    if dataclasses.is_dataclass(hint):
        return f"{getattr(hint, '__name__', hint)}, a mapping {{key: value, ...}}"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))


def _plural(hint: Any) -> str:
    if get_origin(hint) is list:
        return f"lists of {_plural(get_args(hint)[0])}"
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(hint) or describe(hint)


def literals(hint: Any) -> list[str]:
    """Return the words that a type allows, including those of each ``Literal`` in a union."""
    kinds = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [str(one) for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]


def renamed(text: str, hint: Any) -> str:
    """Return the present word, ``original...``, for a value ``code`` or ``code-...``; else ""."""
    word = text.replace("code", "original", 1)
    return word if word != text and word in literals(hint) else ""
