"""Dataclasses as YAML, flags and ``--help``: every verb of the command line is one dataclass.

A recipe is exactly the field tree of its dataclass; every field is a flag whose help line is the
string under the field. The last word wins: default, ``--config`` file, flag.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from xlm.errors import ConfigError, XlmError
from xlm.objective import Objective

set_parsing_settings(
    docstring_parse_attribute_docstrings=True,
    subclasses_enabled=[Objective],
    validate_defaults=False,
)

Config = TypeVar("Config")


class _Parser(ArgumentParser):
    """Folds the library's errors, which span lines, into one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        line = re.sub(r"^Parser key ", "", line)
        raise ConfigError(line + _suggestion(line, self)) from ex


def _suggestion(line: str, parser: ArgumentParser) -> str:
    """A close flag for one that is not known."""
    found = re.search(r"(?:unrecognized arguments: --|[Kk]ey ['\"]|Option ['\"])([\w.]+)", line)
    if not found:
        return ""
    flags = [o.lstrip("-") for action in parser._actions for o in action.option_strings]
    flags += [field for cls in _subclasses(Objective) for field in _field_names(cls)]
    close = difflib.get_close_matches(found.group(1), flags, n=1)
    return f"; did you mean {close[0]!r}?" if close and close[0] != found.group(1) else ""


def _subclasses(cls: type) -> list[type]:
    found: list[type] = []
    subclass: type
    for subclass in cls.__subclasses__():
        found += [subclass, *_subclasses(subclass)]
    return found


def _field_names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def parser(cls: type, verb: str) -> ArgumentParser:
    """The parser of ``cls``, a dataclass, as ``xlm VERB``."""
    made = _Parser(prog=f"xlm {verb}", description=cls.__doc__, exit_on_error=False)
    made.add_argument("--config", action="config", help="YAML file with any of the fields below")
    made.add_class_arguments(cls)
    return made


def parse(cls: type[Config], verb: str, arguments: Sequence[str], positional: str = "") -> Config:
    """An instance of the dataclass ``cls`` from flags; a first bare word is ``--POSITIONAL``.

    Raises ConfigError, in one line, for a key, a type or a value that does not fit.
    """
    given = list(arguments)
    if positional and given and not given[0].startswith("-"):
        given[0] = f"--{positional}={given[0]}"
    made = parser(cls, verb)
    settings = made.parse_args(given)
    config = made.instantiate(settings)
    return cls(**{field: config[field] for field in _field_names(cls)})


def read(cls: type[Config], path: Path) -> Config:
    """An instance of the dataclass ``cls`` from a YAML file."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    return parse(cls, path.name, ["--config", str(path)])


def to_yaml(config: Any) -> str:
    """The field tree of a dataclass as a YAML document that ``read`` takes back."""
    text: str = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Objective):
        cls = type(value)
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": _fields(value)}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def run_verb(
    cls: type[Config],
    verb: str,
    action: Callable[[Config], None],
    arguments: Sequence[str] | None = None,
    positional: str = "",
) -> None:
    """Parse, act, and turn what a user can mend into one line and exit status 2."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        action(parse(cls, verb, sys.argv[1:] if arguments is None else arguments, positional))
    except XlmError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"xlm {verb}: {line}\n")
        raise SystemExit(2) from None
