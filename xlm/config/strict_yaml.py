"""YAML read strictly: plain words mean what they look like, and no key is there twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from xlm.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Plain scalars as in YAML 1.2: `no` is text, `10:30` no number, `010` ten; keys are text.

    Version 1.1, PyYAML's own, would make a language called `no` false and a schedule a number.
    """

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        for at, (key, _) in enumerate(node.value):
            if key.value in names[:at]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} is there twice", problem_mark=key.start_mark
                )
        self.flatten_mapping(node)
        return {str(k.value): self.construct_object(v, deep=deep) for k, v in node.value}

    def construct_int(self, node: Any) -> int:
        """Decimal, whatever zeros it starts with, or hexadecimal."""
        text = str(node.value).replace("_", "")
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


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what either version of YAML would take for something else than text."""

    yaml_implicit_resolvers = {
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *own]
        for first, own in {
            **dict.fromkeys(yaml.SafeDumper.yaml_implicit_resolvers, []),
            **_Loader.yaml_implicit_resolvers,
        }.items()
    }


def load(text: str) -> Any:
    """The value of a YAML document; raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def dump(value: Any) -> str:
    """A YAML document that ``load`` takes back, and so does every other reader of YAML."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def compose(text: str) -> yaml.Node | None:
    """The nodes of a YAML document, which know their lines; None where it is empty."""
    node: yaml.Node | None = yaml.compose(text, _Loader)
    return node


def value(node: yaml.Node) -> Any:
    """What ``load`` would make of a node."""
    return _Loader("").construct_document(node)


def compose_file(path: str) -> yaml.Node | None:
    """The nodes of a file; raises ConfigError, with file and line, where it is no YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        load(text)  # for keys that are there twice
        return compose(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no UTF-8 ({error.reason}): expected a YAML file") from None
    except yaml.YAMLError as error:
        _refuse(path, error)


def _refuse(path: str, error: yaml.YAMLError) -> NoReturn:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        raise ConfigError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    mark = error.problem_mark
    problem = error.problem or "cannot be read"
    if "\\t" in problem:
        problem += "; indent with spaces, not with tabs"
    raise ConfigError(
        f"{path}:{mark.line + 1}: no valid YAML: {problem} (column {mark.column + 1})"
    ) from None
