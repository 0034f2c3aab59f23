"""Dataclasses as YAML, flags and ``--help``: every verb of the command line is one dataclass.

A recipe is exactly the field tree of its dataclass; every field is a flag whose help line is the
string under the field. The last word wins: default, ``--config`` file, flag.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml
from jsonargparse import ArgumentParser, Namespace, set_dumper, set_loader, set_parsing_settings

from xlm import disk
from xlm.config import recipes
from xlm.config.class_path import NamedByClassPath, without_moved_defaults
from xlm.config.console import console
from xlm.config.places import Written
from xlm.config.strict_yaml import dump, load
from xlm.config.trust import Trust
from xlm.config.validation import Checker
from xlm.errors import ConfigError, SaidByMain, XlmError, clipped, one_line

set_parsing_settings(
    docstring_parse_attribute_docstrings=True,
    subclasses_enabled=[NamedByClassPath],
    validate_defaults=False,
)
set_loader("yaml", lambda text: without_moved_defaults(load(text)), (yaml.YAMLError,))
set_dumper("yaml", dump)

Config = TypeVar("Config")


class _Parser(ArgumentParser):
    """A parser that folds jsonargparse's remaining errors, which span lines, into one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        raise ConfigError(re.sub(r"^Parser key ", "", line)) from ex


def parser(cls: type, verb: str, positional: str = "") -> ArgumentParser:
    """Return the parser of the dataclass ``cls``; ``positional`` as in ``parse``."""
    words = "".join(f" [{name.upper()}]" for name in positional.split())
    made = _Parser(prog=f"xlm {verb}{words}", description=cls.__doc__, exit_on_error=False)
    made.add_argument("--config", action="config", help="YAML file with any of the fields below")
    made.add_class_arguments(cls)
    own = list(cls.__dict__.get("__annotations__", ()))
    for group in made._action_groups:  # the help of inherited fields comes last
        group._group_actions.sort(key=lambda action: action.dest.partition(".")[0] not in own)
    return made


def parse(
    cls: type[Config],
    verb: str,
    arguments: Sequence[str],
    positional: str = "",
    trust: Trust | None = None,
) -> Config:
    """Return an instance of the dataclass ``cls`` from flags.

    ``positional`` names the fields, separated by spaces, that take the first bare words. A field of
    texts with the metadata ``repeated`` also takes one flag for each text. ``trust`` decides which
    classes may be named (None: any, as in a recipe). Raises ConfigError, in one line, for a key, a
    type or a value that does not fit.
    """
    return parse_placed(cls, verb, arguments, positional, trust)[0]


def parse_placed(
    cls: type[Config],
    verb: str,
    arguments: Sequence[str],
    positional: str = "",
    trust: Trust | None = None,
) -> tuple[Config, Written]:
    """Return the result of ``parse``, and the places of all keys."""
    trust = trust or Trust.of_recipe()
    given = list(arguments)
    for at, (name, word) in enumerate(zip(positional.split(), arguments, strict=False)):
        if word.startswith("-") and word != "-":
            break
        given[at] = f"--{name}={word}"
    flags = _gathered(cls, list(_flags(verb, given)))
    for at, (name, value) in enumerate(flags):
        if name == "config" and value:
            flags[at] = name, recipes.found(value)
            recipes.check_name(flags[at][1] or "")
    _once(flags)
    checker = Checker(cls, trust)
    _check(checker, flags)
    made = parser(cls, verb, positional)
    # jsonargparse would read files by the locale's encoding, and pipes again
    texts = [(name, checker.texts.get(value or "", value)) for name, value in flags]
    settings = made.parse_args(
        [f"--{name}" if text is None else f"--{name}={text}" for name, text in texts]
    )
    settings = _at_home(settings)
    try:
        config = made.instantiate(settings)
        made_one = cls(**{f.name: config[f.name] for f in dataclasses.fields(cast(Any, cls))})
    except ValueError as error:
        # for `Dataclass | None` jsonargparse says that null does not fit either
        if isinstance(ours := _innermost(error), ConfigError):
            raise checker.located(ours, settings) from None
        raise
    return made_one, checker.written


def _at_home(value: Any) -> Any:
    """Return settings with ``~`` at the start of paths expanded, also of ``datasets:``."""
    if isinstance(value, str):
        prefix = "datasets:" if value.startswith("datasets:~") else ""
        path = value[len(prefix) :]
        return prefix + os.path.expanduser(path) if re.match(r"~[\w-]*(?:/|$)", path) else value
    if isinstance(value, Namespace):
        for name, own in vars(value).items():
            vars(value)[name] = _at_home(own)
        return value
    if isinstance(value, dict):
        return {name: _at_home(own) for name, own in value.items()}
    return [_at_home(own) for own in value] if isinstance(value, list) else value


def _innermost(error: BaseException) -> BaseException:
    """Return the ConfigError that led to ``error``, else ``error``."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def _gathered(cls: type, flags: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """Return the flags, those of a repeated field joined into a list unless it is one already."""
    fields = dataclasses.fields(cast(Any, cls))
    repeated = {field.name for field in fields if field.metadata.get("repeated")}
    items: dict[str, list[str]] = {}
    left: list[tuple[str, str | None]] = []
    for name, value in flags:
        if name in repeated and value is not None and not value.startswith("["):
            items.setdefault(name, []).append(value)
        else:
            left.append((name, value))
    return [*left, *((name, json.dumps(own, ensure_ascii=False)) for name, own in items.items())]


def _once(flags: Sequence[tuple[str, str | None]]) -> None:
    """Raise ConfigError for a flag that is given twice: one of the two would have no effect."""
    values: dict[str, str | None] = {}
    for name, value in flags:
        if name in values and name != "config":
            raise ConfigError(
                f"--{name} is given twice, as {values[name]!r} and {value!r}: give it once"
            )
        values[name] = value


def _check(checker: Checker, flags: Sequence[tuple[str, str | None]]) -> None:
    """Raise ConfigError, with its place, for a key or a value that does not fit."""
    if any(name == "help" or name.endswith(".help") for name, _ in flags):
        for name, value in flags:
            if name.endswith(".help") and value is not None and "." in value:
                with contextlib.suppress(ImportError, AttributeError):  # jsonargparse says so
                    checker.trust.find(value)
        return
    for name, value in flags:
        if name == "config":
            if value is None:
                raise ConfigError("--config: expected a YAML file, found nothing")
            checker.file(value)
    for name, value in flags:
        if name not in ("config", "print_config"):
            checker.flag(name, value)
    if not any(name == "print_config" for name, _ in flags):
        checker.finish()


def _flags(verb: str, arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield every ``--NAME=VALUE`` or ``--NAME VALUE``; raise ConfigError for a stray word."""
    left = deque(arguments)
    while left:
        argument = left.popleft()
        if argument == "-h":
            argument = "--help"
        if not argument.startswith("--") or argument == "--":
            raise ConfigError(
                f"found {argument!r}, expected a flag such as --config=FILE; xlm {verb} "
                "--help lists all"
            )
        name, equals, value = argument[2:].partition("=")
        name = name.removesuffix(".class_path")  # a class is as good as what names it
        if equals:
            yield name, value
        elif name in ("help", "print_config") or not left or left[0].startswith("--"):
            yield name, None
        else:
            yield name, left.popleft()


def read(cls: type[Config], path: Path, trust: Trust | None = None) -> Config:
    """Return an instance of the dataclass ``cls`` from a YAML file.

    ``trust`` decides which classes may be imported (None: those of this library; any class that the
    program has imported may be named).
    """
    return parse(cls, path.name, ["--config", str(path)], trust=trust or Trust())


def to_yaml(config: Any) -> str:
    """Return the field tree of a dataclass as a YAML document that ``read`` accepts."""
    return dump(_plain(config))


def _plain(value: Any) -> Any:
    if isinstance(value, NamedByClassPath):
        cls = type(value)
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": _fields(value)}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
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
    """Parse and act; turn an error that a user can fix into one line and exit status 2."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    given = sys.argv[1:] if arguments is None else arguments
    written = Written()
    try:
        with console():
            config, written = parse_placed(cls, verb, given, positional)
            action(config)
    except XlmError as error:
        if isinstance(error, SaidByMain):
            raise SystemExit(2) from None
        if isinstance(error, ConfigError):
            error = written.locate_later(error)
        sys.stderr.write(f"xlm {verb}: {one_line(error)}\n")
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in disk.ADVICE:
            raise
        where = clipped(str(error.filename or "standard output"))
        sys.stderr.write(f"xlm {verb}: {where}: {error.strerror}; {disk.advice(error)}\n")
        raise SystemExit(2) from None
    except UnicodeEncodeError as error:
        if error.encoding == sys.getfilesystemencoding() == "utf-8":
            raise
        sys.stderr.write(
            f"xlm {verb}: the locale's encoding {error.encoding} lacks characters of "
            f"{clipped(repr(error.object))}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1\n"
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"xlm {verb}: interrupted\n")
        raise SystemExit(130) from None
