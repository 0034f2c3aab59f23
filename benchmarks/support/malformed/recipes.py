"""Recipes: YAML that is none, and every field of every verb at values that cannot be."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.support.malformed import Case
from xlm.bleu import Bleu
from xlm.config.cli import read
from xlm.config.hints import describe, fits, given, hints
from xlm.convert import Export, Import
from xlm.evaluate import Evaluate
from xlm.fill import Fill
from xlm.finetune import Finetune
from xlm.objectives import CausalLM, MaskedLM, Translation
from xlm.predict import Predict
from xlm.prepare import Prepare
from xlm.run.config import Run
from xlm.tasks import Answering, Classification, Tagging
from xlm.translate import Translate

RECIPE = "r.yaml"
MLM = {"class_path": "MaskedLM", "init_args": {"languages": ["en"], "rows": 2, "length": 32}}
TASK = {"class_path": "Classification", "init_args": {"files": {"train": {"en": "a"}}}}
BASES: dict[type, dict[str, Any]] = {
    Run: {"data": "d", "folder": "f", "objectives": {"o": MLM}, "model": {"preset": "tiny"}},
    Prepare: {"folder": "f", "text": {"train": {"en": "en.txt"}}},
    Finetune: {"model": "m", "folder": "f", "tasks": {"o": TASK}},
    Evaluate: {"folder": "f"},
    Predict: {"model": "m", "file": "a"},
    Fill: {"model": "m", "file": "a"},
    Translate: {"model": "m", "file": "a", "source": "en", "target": "ne"},
    Bleu: {"hypotheses": "a", "references": "b"},
    Import: {"source": "a", "folder": "f"},
    Export: {"source": "a", "folder": "f", "format": "xlm"},
}
"""A recipe of each verb that is right."""
STRANGE: tuple[Any, ...] = (-1, float("nan"), float("inf"), 10**30, "words", {"a": 1}, True)
TEXTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", r"r\.yaml: is empty"),
    "comments alone": (b"# a\n", r"r\.yaml: is empty"),
    "a list": (b"- a\n- b\n", r"r\.yaml:1: expected a mapping"),
    "a word": (b"words\n", r"r\.yaml:1: expected a mapping"),
    "two documents": (b"folder: f\n---\nfolder: g\n", r"r\.yaml:2: .*another document"),
    "a tab": (b"folder: f\ntext:\n\ttrain: {}\n", r"r\.yaml:3: .*not with tabs"),
    "a key twice": (b"folder: f\nseed: 1\nseed: 2\n", r"r\.yaml:3: .*seed appears twice"),
    "an unknown key": (b"folder: f\nfoldre: g\n", r"r\.yaml:2: unknown key 'foldre'; did you mean"),
    "a key below": (b"folder: f\nvocabulary:\n  sise: 3\n", r"r\.yaml:3: vocabulary: unknown key"),
    "an open bracket": (b"text: {train: {en: a\n", r"r\.yaml:\d: not valid YAML"),
    "an open quote": (b"folder: 'f\n", r"r\.yaml:\d: not valid YAML"),
    "latin-1": ("folder: caf\xe9\n".encode("latin-1"), r"r\.yaml: not UTF-8"),
    "UTF-16": ("folder: f\n".encode("utf-16"), r"r\.yaml: not UTF-8.*UTF-16"),
    "a NUL": (b"folder: a\0b\n", r"r\.yaml: not valid YAML: the character"),
    "an escaped NUL": (b'folder: "a\\0b"\n', r"r\.yaml:1: folder: .*NUL"),
    "nested lists": (b"folder: " + b"[" * 100_000, r"r\.yaml"),
    "nested and closed": (
        b"folder: " + b"[" * 3000 + b"]" * 3000,
        r"r\.yaml.*nest(ing|ed) (depth|too deep)",
    ),
    "30,000 keys": (b"".join(b"k%d: 1\n" % at for at in range(30_000)), r"r\.yaml:1: unknown key"),
    "30,000 languages": (
        b"folder: f\ntext:\n  train:\n" + b"".join(b"    l%d: 1\n" % at for at in range(30_000)),
        r"r\.yaml:4: text.train.l0: expected text",
    ),
    "5,000 digits": (b"folder: f\nseed: " + b"9" * 5000, r"r\.yaml:2: .*5,000 digits"),
    "an unknown alias": (b"folder: *f\n", r"r\.yaml:1: .*undefined alias"),
    "an alias in itself": (b"text: &a {train: *a}\n", r"r\.yaml:1: .*inside what it names"),
    "aliases of aliases": (
        b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (at + 1, at + 1, b",".join([b"*%c" % at] * 10))
            for at in range(97, 106)
        ),
        r"r\.yaml:\d: .*aliases written out",
    ),
    "code": (b"folder: !!python/object/apply:os.system [ls]\n", r"r\.yaml:1: .*constructor"),
    "a tag that does not fit": (b"seed: !!int x\n", r"r\.yaml:1: .*does not fit its tag"),
    "a long key": (b"folder: f\n" + b"k" * 100_000 + b": 1\n", r"r\.yaml"),
    "a long value": (b"folder: f\nseed: " + b"x" * 100_000, r"r\.yaml:2: seed: expected"),
    "a list as key": (b"[a, b]: 1\n", r"r\.yaml:1: .*where a key was expected"),
}


def cases() -> Iterator[Case]:
    """Recipes of ``xlm prepare`` that are none, and each field of each verb at strange values."""
    for name, (content, refused) in TEXTS.items():
        yield Case(f"recipe, {name}", {RECIPE: content}, _reads(Prepare), refused)
    yield Case("recipe, a pipe without end", {}, _reads_path(Run, "/dev/zero"), "is a device")
    yield Case("recipe, a folder", {}, _reads_path(Run, "."), "is a folder")
    yield Case("recipe, missing", {}, _reads_path(Run, "none.yaml"), "none.yaml: No such file")
    for cls, base in BASES.items():
        for path, hint in _leaves(cls):
            if path == ("initialize", "partial"):  # alone it is refused where the section begins
                continue
            yield from _strange(cls, base, path, hint)
    for objective in (MaskedLM, CausalLM, Translation):
        args = {"pairs": ["en-ne"]} if objective is Translation else {"languages": ["en"]}
        own = {"class_path": objective.__name__, "init_args": args}
        base = BASES[Run] | {"objectives": {"o": own}}
        yield from _of_class(Run, base, "objectives", objective)
    for task in (Classification, Tagging, Answering):
        args = {"class_path": task.__name__, "init_args": {"files": {"train": {"en": "a"}}}}
        yield from _of_class(Finetune, BASES[Finetune] | {"tasks": {"o": args}}, "tasks", task)


def _reads(cls: type) -> Any:
    return _reads_path(cls, RECIPE)


def _reads_path(cls: type, path: str) -> Any:
    return lambda folder: read(cls, Path(path))


def _leaves(cls: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, hint in hints(cls).items():
        below = given(hint)
        if hasattr(below, "__dataclass_fields__") and not typing.cast(Any, below).__subclasses__():
            yield from _leaves(below, (*above, name))
        elif not hasattr(below, "__dataclass_fields__"):
            yield (*above, name), hint


def _of_class(cls: type, base: dict[str, Any], field: str, own: Any) -> Iterator[Case]:
    for path, hint in _leaves(own):
        if path[0] not in ("files", "languages", "pairs"):
            yield from _strange(cls, base, (field, "o", "init_args", *path), hint)


def _strange(cls: type, base: dict[str, Any], path: tuple[str, ...], hint: Any) -> Iterator[Case]:
    """A recipe with one field at a strange value: refused at its line, or right."""
    key = ".".join(part for part in path if part != "init_args")
    for value in STRANGE:
        content = yaml.safe_dump(
            _with(base, path, value), sort_keys=False, default_flow_style=False
        )
        number = _line_of(content, path)
        wrong_type = not fits(value, hint)
        if not wrong_type and not isinstance(value, int | float | str):
            continue
        lines = f"({number}|{number + 1})" if isinstance(value, dict) else str(number)
        refused = rf"^r[.]yaml:{lines}: "
        name = f"{cls.__name__}.{key} = {str(value)[:20]!r} for {describe(hint)}"
        yield Case(name, {RECIPE: content.encode()}, _reads(cls), refused, either=not wrong_type)


def _with(base: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {**base, head: value}
    below = base.get(head)
    return {**base, head: _with(below if isinstance(below, dict) else {}, tuple(rest), value)}


def _line_of(content: str, path: tuple[str, ...]) -> int:
    node: Any = yaml.compose(content, yaml.SafeLoader)
    line = 0
    for part in path:
        key, node = next((k, v) for k, v in node.value if k.value == part)
        line = key.start_mark.line + 1
    return line
