"""A strict reader of YAML: plain words mean what they look like, and no key occurs twice."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml

from xlm.errors import MOST_FOREIGN, ConfigError, clipped, one_line
from xlm.storage import kind_of

MAX_YAML = 1 << 22
"""Largest size in bytes; recipes and the ``config.yaml`` of runs are a thousandth of it."""
LARGE = 1 << 16
"""Number of characters from which a text is large: more than any recipe written by hand."""
MANY_BRACKETS = 1000
"""Number of brackets from which the slower reader is too slow: its time grows with their square."""
MOST_VALUES = 1_000_000
"""Largest number of keys and values of a document, with aliases expanded."""
MOST_SHOWN = 80
"""Largest number of characters of a key in a message."""
TOO_DEEP = "lists or mappings are nested too deep"
MOST_DIGITS = 4000
"""Largest number of digits of a whole number; Python refuses to read 4,301."""


class _Loader(yaml.SafeLoader):
    """A loader of plain scalars as in YAML 1.2: `no` and `10:30` are text, `010` is ten.

    Keys are text. PyYAML's own version 1.1 would make a language called `no` false and a schedule a
    number.
    """

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a list or a mapping stands where a key was expected",
                    problem_mark=key.start_mark,
                )
            if key.value in names:
                raise yaml.MarkedYAMLError(
                    problem=f"{clipped(key.value, MOST_SHOWN)} appears twice",
                    problem_mark=key.start_mark,
                )
            names.add(key.value)
        self.flatten_mapping(node)
        return {str(k.value): self.construct_object(v, deep=deep) for k, v in node.value}

    def construct_int(self, node: Any) -> int:
        """Read a decimal number, with any leading zeros, or a hexadecimal one."""
        text = str(node.value).replace("_", "")
        if len(text) > MOST_DIGITS:
            raise yaml.MarkedYAMLError(
                problem=f"a number of {len(text):,} digits", problem_mark=node.start_mark
            )
        return int(text, 16 if "x" in text else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))"
        r"(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


class _LargeLoader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    """A loader that is ten times as fast, with PyYAML's C library; for large texts only, because
    its messages differ."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes text which either version of YAML would read as something else."""

    yaml_implicit_resolvers = {
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *own]
        for first, own in {
            **dict.fromkeys(yaml.SafeDumper.yaml_implicit_resolvers, []),
            **_Loader.yaml_implicit_resolvers,
        }.items()
    }


def load(text: str) -> Any:
    """Return the value of a YAML document; raise yaml.YAMLError if it is invalid."""
    node = compose(text)
    return None if node is None else value(node)


def dump(value: Any, *, ascii: bool = False) -> str:
    """Return a YAML document that ``load`` and every other reader of YAML understand.

    With ``ascii`` all other characters are escaped.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii)
    return text


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a YAML document, which know their lines; None if it is empty.

    Raises yaml.YAMLError if it is invalid, is nested too deeply, or has aliases that would repeat
    parts of it until they fill the memory.
    """
    try:
        is_large = len(text) > LARGE or text.count("[") + text.count("{") > MANY_BRACKETS
        loader = _LargeLoader if is_large else _Loader
        node: yaml.Node | None = yaml.compose(text, loader)
        if node is not None:
            _check_size(node, {}, set())
    except (RecursionError, MemoryError):
        raise yaml.YAMLError(TOO_DEEP) from None
    except yaml.MarkedYAMLError as error:
        if "maximum nesting" in str(error.problem):  # libyaml's own limit
            raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=error.problem_mark) from None
        raise
    return node


def _check_size(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """Return the number of values in a node, aliases expanded; raise yaml.YAMLError if too many."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(
            problem="an alias stands inside what it names", problem_mark=node.start_mark
        )
    if id(node) in sizes or isinstance(node, yaml.ScalarNode):
        return sizes.get(id(node), 1)
    pairs = isinstance(node, yaml.MappingNode)
    children = [part for pair in node.value for part in pair] if pairs else node.value
    size = 1 + sum(_check_size(child, sizes, above | {id(node)}) for child in children)
    if size > MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"more than {MOST_VALUES:,} values, aliases written out",
            problem_mark=node.start_mark,
        )
    sizes[id(node)] = size
    return size


def value(node: yaml.Node) -> Any:
    """Return a node's value as ``load`` does; raise yaml.YAMLError if it is invalid."""
    try:
        return _Loader("").construct_document(node)
    except (RecursionError, MemoryError):
        raise yaml.YAMLError(TOO_DEEP) from None
    except (ValueError, TypeError, AttributeError, LookupError):
        raise yaml.MarkedYAMLError(
            problem="a value does not fit its tag, such as !!int", problem_mark=node.start_mark
        ) from None


def compose_file(path: str) -> yaml.Node | None:
    """Return the nodes of a file; raise ConfigError, with file and line, if it is not YAML."""
    return compose_text(read_text(path), path)


def read_text(path: str) -> str:
    """Return the text of a YAML file, read as UTF-8 in any locale.

    A pipe, such as ``<(sed ... recipe.yaml)``, is read to its end. Raises ConfigError if the file
    cannot be read, is neither a file nor a pipe, or is too large for a recipe.
    """
    if "\0" in path:
        raise ConfigError(f"{path!r}: a name cannot contain a NUL character: expected a YAML file")
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ConfigError(f"{path}: is {kind_of(mode)}: expected a YAML file")
        with open(path, "rb") as file:
            content = file.read(MAX_YAML + 1)
        if len(content) > MAX_YAML:
            raise ConfigError(f"{path}: larger than {MAX_YAML:,} bytes: expected a YAML file")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a YAML file") from None
    except UnicodeDecodeError as error:
        advice = "; it looks like UTF-16: convert it" if b"\0" in content[:1024] else ""
        raise ConfigError(
            f"{path}: not UTF-8 ({error.reason}){advice}: expected a YAML file"
        ) from None


def compose_text(text: str, path: str) -> yaml.Node | None:
    """Return the nodes of a text that was read from ``path``; see ``compose_file``."""
    try:
        node = compose(text)
        if node is not None:
            value(node)  # for keys that occur twice
        return node
    except yaml.YAMLError as error:
        _refuse(path, error)


def _refuse(path: str, error: yaml.YAMLError) -> NoReturn:
    if isinstance(error, yaml.reader.ReaderError):
        raise ConfigError(
            f"{path}: not valid YAML: the character {chr(error.character)!r} at {error.position:,}"
        ) from None
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error, MOST_FOREIGN)}") from None
    mark = error.problem_mark
    problem = clipped(error.problem or "cannot be read")
    if "\\t" in problem:
        problem += "; indent with spaces, not with tabs"
    if "got '?'" in problem:
        problem += '; put a text that holds a "?" in quotes'
    raise ConfigError(
        f"{path}:{mark.line + 1}: not valid YAML: {problem} (column {mark.column + 1})"
    ) from None
