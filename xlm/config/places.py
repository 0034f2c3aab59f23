"""The place where each key of a recipe was written, and errors about values that name it.

A value of the right type may still be out of range; the dataclass finds that out when it is built,
or a verb when it uses the value. Neither knows files and lines; they are added here.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, get_args, get_origin

import yaml

from xlm.config.hints import given, hints
from xlm.errors import ConfigError

Path = tuple[str, ...]
"""The keys above a value, from the outermost on, and its own."""

_LEADING = re.compile(r"[a-z_]+(?:\.[\w-]+)*")


@dataclass(frozen=True)
class Place:
    """The place of something written: a key of a file, or a flag."""

    path: Path = ()
    file: str = ""
    """Path of the file; empty for a flag."""

    def below(self, name: str) -> Place:
        """Return the place of a key below this one."""
        return Place((*self.path, name), self.file)

    def refuse(self, node: yaml.Node | None, problem: str) -> NoReturn:
        """Raise the ConfigError that begins with file, line and key, or with the flag."""
        key = ".".join(self.path)
        if not self.file:
            raise ConfigError(f"--{key}: {problem}")
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        raise ConfigError(f"{self.file}{line}: {key + ': ' if key else ''}{problem}")


class Written:
    """The places of all keys; of a key that is written twice (a flag after a file) the last."""

    def __init__(self) -> None:
        self._starts: dict[Path, str] = {}

    def note(self, place: Place, node: yaml.Node | None = None) -> None:
        """Remember the place of a key; ``node`` is the key in a file."""
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        self._starts[place.path] = f"{place.file}{line}: " if place.file else "--"

    def locate(self, error: ConfigError, path: Path, fields: Mapping[str, Any]) -> ConfigError:
        """Return the error of a dataclass at ``path`` with file, line and key in front.

        Its key is the first of ``fields`` that the message names and that was written.
        """
        message = str(error)
        leading = _LEADING.match(message)
        tail = tuple(leading[0].split(".")) if leading else ()
        if len(tail) > 1 and (*path, *tail) in self._starts:
            return self._worded(self._starts[*path, *tail], (*path, *tail), message)
        named = {
            found.start(): name
            for name in fields
            if (*path, name) in self._starts
            and (found := re.search(rf"(?<![\w.])(?:\w+\.)*{name}(?!\w)", message))
        }
        if named:
            own = (*path, named[min(named)])
            return self._worded(self._starts[own], own, message)
        nearest = path
        while nearest and nearest not in self._starts:
            nearest = nearest[:-1]
        return self._worded(self._starts[nearest], nearest, message) if nearest else error

    def locate_later(self, error: ConfigError) -> ConfigError:
        """Return an error of a verb with file and line in front, if it begins with a known key.

        A flag is never matched this way: its name may be a word of any sentence.
        """
        leading = _LEADING.match(str(error))
        if leading is None:
            return error
        tail = tuple(leading[0].split("."))
        fitting = [path for path in self._starts if path[-len(tail) :] == tail]
        if len(fitting) != 1 or self._starts[fitting[0]] == "--":
            return error
        return self._worded(self._starts[fitting[0]], fitting[0], str(error))

    @staticmethod
    def _worded(start: str, path: Path, message: str) -> ConfigError:
        key = ".".join(path)
        for tail in (".".join(path[at:]) for at in range(len(path))):
            if re.match(rf"{re.escape(tail)}(?![\w.])", message):
                return ConfigError(f"{start}{key}{message[len(tail) :]}")
        return ConfigError(f"{start}{key}: {message}")


def locate(
    error: ConfigError,
    cls: type,
    settings: Mapping[str, Any],
    written: Written,
    class_at: Callable[[Path], type | None],
) -> ConfigError:
    """Return the error from building ``cls`` from ``settings``, with the place of its cause.

    The tree is built again, innermost dataclasses first, to find the one that raises; ``class_at``
    gives the class that was chosen at a path, None if none was.
    """
    try:
        _build(cls, settings, (), written, class_at)
    except _Located as found:
        return found.error
    return error


class _Located(Exception):
    """Carrier of a located error out of the tree."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self.error = error


def _build(
    hint: Any,
    value: Any,
    path: Path,
    written: Written,
    class_at: Callable[[Path], type | None],
) -> Any:
    hint = given(hint)
    if not hasattr(value, "items"):
        return value
    if chosen := class_at(path):
        hint, value = chosen, value.get("init_args") or {}
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        items = [(str(name), own) for name, own in value.items()]
        return {n: _build(inner, own, (*path, n), written, class_at) for n, own in items}
    if not dataclasses.is_dataclass(hint):
        return value
    own_hints = hints(hint)
    parts = {
        name: _build(own_hints[name], _get(value, name), (*path, name), written, class_at)
        for name in own_hints
        if _has(value, name)
    }
    try:
        return typing.cast(Any, hint)(**parts)
    except ConfigError as error:
        raise _Located(written.locate(error, path, own_hints)) from None


def _has(value: Any, name: str) -> bool:
    """Return whether a mapping has a key; jsonargparse's own test takes dots for levels."""
    return name in vars(value) if hasattr(value, "__dict__") else name in value


def _get(value: Any, name: str) -> Any:
    return vars(value)[name] if hasattr(value, "__dict__") else value[name]
