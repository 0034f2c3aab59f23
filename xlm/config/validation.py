"""Recipes as people write them: YAML read strictly, every key and value checked in its place.

jsonargparse checks too, but its messages span lines and do not give the place of a mistake in a
file; so its input is checked here first, key by key, against the field tree of a dataclass.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import sys
import types
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from xlm.config import strict_yaml
from xlm.config.class_path import heir, is_moved_default, subclasses
from xlm.config.hints import (
    MOST_SHOWN,
    describe,
    fits,
    given,
    hints,
    literals,
    renamed,
)
from xlm.config.places import Place, Written, locate
from xlm.config.trust import Trust, Untrusted
from xlm.errors import ConfigError

MOST_LISTED = 16


class Checker:
    """A check of settings for the dataclass ``cls``, files first, then flags.

    A field whose type is an abstract dataclass takes ``{class_path: NAME, init_args: {...}}``: the
    name of a subclass that is imported, or a dotted path that ``trust`` must allow.
    """

    def __init__(self, cls: type, trust: Trust | None = None):
        self.cls = cls
        self.trust = trust or Trust()
        self._classes: dict[tuple[str, ...], type] = {}
        self._given: dict[tuple[str, ...], set[str]] = defaultdict(set)
        self._places: dict[tuple[str, ...], tuple[Place, yaml.Node | None]] = {}
        self.written = Written()
        self.texts: dict[str, str] = {}
        """The content of every file in ASCII, by its path: a pipe can be read only once."""

    def file(self, path: str | Path) -> None:
        """Raise ConfigError, with file and line, for an error in the YAML file ``path``."""
        self._file(str(path), self.cls, ())

    def flag(self, name: str, text: str | None) -> None:
        """Raise ConfigError unless ``--NAME=TEXT`` (no text: nothing follows) is a field."""
        place, hint = Place(), self.cls
        for part in name.removesuffix("+").split("."):
            if _is_open(hint):
                hint = self._known_class(place)
                if part == "init_args":
                    continue
            hint = self._descend(hint, part, place)
            place = place.below(part)
        if name.endswith("+") or (text is not None and fits(text, hint)):
            return
        if text is None:
            place.refuse(None, f"expected {describe(hint)}, found nothing; write --{name}=VALUE")
        below = given(hint)
        if dataclasses.is_dataclass(below) and not _is_open(below) and _is_file(text):
            self._file(text, below, place.path)
            return
        try:
            node = strict_yaml.compose(text)
        except yaml.YAMLError:
            node = yaml.ScalarNode("tag:yaml.org,2002:str", text)
        self._check(node or yaml.ScalarNode("tag:yaml.org,2002:null", ""), hint, place)

    def located(self, error: ConfigError, settings: Any) -> ConfigError:
        """Return the error from ``settings``, checked here before, with the place of its cause."""
        return locate(error, self.cls, settings, self.written, self._classes.get)

    def finish(self) -> None:
        """Raise ConfigError if a field without a default was never given."""
        for path, cls in [((), self.cls), *self._classes.items()]:
            needed = [
                f.name
                for f in dataclasses.fields(cls)
                if f.init
                and f.default is dataclasses.MISSING
                and f.default_factory is dataclasses.MISSING
            ]
            missing = [name for name in needed if name not in self._given[path]]
            if not missing:
                continue
            flags = " ".join(f"--{'.'.join((*path, name))}=..." for name in missing)
            what = ", ".join(missing)
            if path:
                place, node = self._places[path]
                place.refuse(node, f"{cls.__name__} needs {what}: give it in init_args or {flags}")
            raise ConfigError(f"{what} missing: give it in the file of --config, or as {flags}")

    def _file(self, path: str, hint: Any, below: tuple[str, ...]) -> None:
        place = Place(below, path)
        node = strict_yaml.compose_file(path)
        if node is None:
            place.refuse(None, f"is empty: expected {_keys(hint)}")
        self._check(node, hint, place)
        self.texts[path] = strict_yaml.dump(_value(node), ascii=True)

    def _check(self, node: yaml.Node, hint: Any, place: Place) -> None:
        if given(hint) is not hint:
            if _value(node) is None:
                return
            hint = given(hint)
        if _is_open(hint):
            self._check_class(node, hint, place)
        elif dataclasses.is_dataclass(hint):
            self._check_fields(node, hint, place)
        elif get_origin(hint) is dict and isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = place.below(str(key.value))
                self.written.note(below, key)
                self._check(value, get_args(hint)[1], below)
        elif "\0" in str(value := _value(node)):
            place.refuse(
                node, "found a NUL character, which no text or name may contain: remove it"
            )
        elif not fits(value, hint):
            found = _show(node, value)
            place.refuse(node, f"expected {describe(hint)}, found {found}{_advice(node, hint)}")

    def _check_fields(self, node: yaml.Node, cls: Any, place: Place) -> None:
        if not isinstance(node, yaml.MappingNode):
            found = _show(node, _value(node))
            place.refuse(node, f"expected {_keys(cls)}, found {found}")
        for key, value in node.value:
            name = str(key.value)
            if name != "<<" and not _is_settled(cls, name, value, place.below(name)):
                hint = self._descend(cls, name, place, key)
                self._check(value, hint, place.below(name))

    def _check_class(self, node: yaml.Node, base: Any, place: Place) -> None:
        if isinstance(node, yaml.ScalarNode):
            self._choose(node, base, place)
            return
        if not isinstance(node, yaml.MappingNode):
            place.refuse(node, f"{_expected_class(base)}, found {_show(node, _value(node))}")
        parts = {str(key.value): (key, value) for key, value in node.value}
        if "class_path" in parts:
            self._choose(parts["class_path"][1], base, place)
        elif place.path not in self._classes:
            place.refuse(node, f"no class_path: {_expected_class(base)}")
        cls = self._classes[place.path]
        for name, (key, _) in parts.items():
            if name in hints(cls):
                place.refuse(key, f"{name} stands beside class_path: put it under init_args")
            if name not in ("class_path", "init_args"):
                close = _close(name, ("class_path", "init_args"))
                place.refuse(key, f"unknown key {name!r}{close or ':'} {_expected_class(base)}")
        if "init_args" in parts:
            self._check_fields(parts["init_args"][1], cls, place)

    def _choose(self, node: yaml.Node, base: Any, place: Place) -> None:
        self._classes[place.path] = _resolve(str(node.value), base, place, node, self.trust)
        self._places[place.path] = place, node if place.file else None

    def _known_class(self, place: Place) -> type:
        if place.path not in self._classes:
            *above, name = place.path
            siblings = [path[-1] for path in self._classes if list(path[:-1]) == above]
            there = f"there is {', '.join(siblings)}" if siblings else "there is none"
            place.refuse(
                None,
                f"nothing is called {name!r}: {there}{_close(name, siblings)} "
                f"(--{'.'.join(place.path)}=CLASS adds one)",
            )
        return self._classes[place.path]

    def _descend(self, hint: Any, name: str, place: Place, key: yaml.Node | None = None) -> Any:
        """Return the type of ``name`` below a dataclass or mapping, or raise ConfigError."""
        if get_origin(hint) is dict:
            self.written.note(place.below(name), key)
            return get_args(hint)[1]
        hint = given(hint)
        known = hints(hint) if dataclasses.is_dataclass(hint) else {}
        if name in known:
            self._given[place.path].add(name)
            self.written.note(place.below(name), key)
            return known[name]
        if place.file:
            close = _close(name, known) or self._elsewhere(name)
            expected = f": expected one of {_listed(known)}"
            place.refuse(key, f"unknown key {name!r}{close or expected}")
        prefix = "".join(part + "." for part in place.path)
        close = _close(name, known, "--" + prefix) or self._elsewhere(name)
        expected = f": expected one of {_listed(known)}" if known else ": nothing is below it"
        place.below(name).refuse(None, f"no such flag{close or expected}")

    def _elsewhere(self, name: str) -> str:
        """Return advice that names a field of this name elsewhere in the tree."""
        roots = [((), self.cls), *self._classes.items()]
        paths = [".".join(path) for root, cls in roots for path in _paths(cls, root)]
        found = [path for path in paths if path.rpartition(".")[2] == name.rpartition(".")[2]]
        return f"; did you mean --{found[0]}?" if found else _close(name, paths, "--")


def _resolve(name: str, base: Any, place: Place, node: yaml.Node | None, trust: Trust) -> type:
    """Return the concrete subclass of ``base`` called ``name``, or at that dotted path."""
    classes = {cls.__name__: cls for cls in subclasses(base) if not inspect.isabstract(cls)}
    if name in classes:
        return classes[name]
    if "." not in name:
        close = _close(name, classes)
        place.refuse(node, f"unknown class {name!r}{close or ':'} {_expected_class(base)}")
    module, _, attribute = name.rpartition(".")
    try:
        found = trust.find(name)
    except Untrusted as refusal:
        place.refuse(node, f"class_path {name!r}: {refusal}")
    except ImportError as error:
        place.refuse(node, f"class_path {name!r}: {error}; is its folder on PYTHONPATH?")
    except AttributeError:
        having = vars(sys.modules[module])
        there = [own for own, value in having.items() if _is(value, base)]
        close = _close(attribute, there) or f": expected {' or '.join(there) or 'another module'}"
        place.refuse(node, f"class_path {name!r}: {module} has no {attribute}{close}")
    if not _is(found, base):
        place.refuse(
            node,
            f"class_path {name!r} is not a subclass of {base.__name__}: {_expected_class(base)}",
        )
    if inspect.isabstract(found):
        place.refuse(node, f"class_path {name!r} is abstract: {_expected_class(base)}")
    return typing.cast(type, found)


def _is_file(text: str) -> bool:
    """Return whether a text is the path of a file or a pipe; one with a NUL is not."""
    return "\0" not in text and os.path.exists(text) and not os.path.isdir(text)


def _is(value: Any, base: Any) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _is_settled(cls: Any, name: str, node: yaml.Node, place: Place) -> bool:
    """Return whether a key is a setting that ``cls`` gave to a subclass, at its default.

    Such a key needs no action. Raises ConfigError, naming the subclass, for another value, which
    this class does not support.
    """
    value, own = _value(node), hints(cls)
    if is_moved_default(cls, name, value):
        return True
    new = heir(cls, name)
    if new is None or (name in own and fits(value, own[name])):
        return False
    hint = hints(new)[name]
    word = renamed(str(value), hint) if isinstance(value, str) else ""
    if not fits(word or value, hint):
        return False
    means = f" (now {word!r})" if word else ""
    place.refuse(
        node,
        f"found {_show(node, value)}{means}, which is a setting of {new.__name__}: write "
        f"class_path: {new.__name__}",
    )


def _expected_class(base: type) -> str:
    ours = base.__module__.partition(".")[0]
    names = sorted(
        cls.__name__
        for cls in subclasses(base)
        if not inspect.isabstract(cls) and cls.__module__.startswith(f"{ours}.")
    )
    return (
        f"expected {{class_path: CLASS, init_args: {{...}}}} with CLASS one of {', '.join(names)} "
        "or the dotted path of your own"
    )


def _is_open(hint: Any) -> bool:
    """Return whether any subclass is allowed here."""
    return dataclasses.is_dataclass(hint) and inspect.isabstract(hint)


def _paths(cls: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, hint in hints(cls).items():
        yield (*above, name)
        below = given(hint)
        if dataclasses.is_dataclass(below) and not _is_open(below):
            yield from _paths(below, (*above, name))


def _close(name: str, known: Sequence[str] | Mapping[str, Any], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _keys(cls: Any) -> str:
    return f"a mapping {{key: value, ...}} with keys such as {', '.join(list(hints(cls))[:4])}"


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = list(names)[:MOST_LISTED]
    more = " (--help explains all)" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


def _advice(node: yaml.Node, hint: Any) -> str:
    """Return advice on a common slip."""
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    kinds = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if text and str in kinds:
        return f"; put it in quotes: '{text}'"
    if ":" in text and list[list[float]] in kinds:
        return "; write points as [[step, value], ...]"
    if text and list[str] in kinds:
        return f"; write [{text}]"
    if bool in kinds and text.lower() in ("yes", "no", "on", "off"):
        return f"; write {'true' if text.lower() in ('yes', 'on') else 'false'}"
    if word := renamed(text, hint):
        return f"; write {word!r}"
    return _close(text, literals(hint))


def _value(node: yaml.Node) -> Any:
    return strict_yaml.value(node)


def _show(node: yaml.Node, value: Any) -> str:
    """Return the written value, cut if it is long."""
    if isinstance(node, yaml.ScalarNode):
        text = repr(node.value) if node.value else "nothing"
    else:
        text = str(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."
