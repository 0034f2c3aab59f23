"""Describe prepared text, a model or a recipe in a few lines, with the cost of a training.

Use as ``describe(Describe(path=...))``, ``xlm describe PATH`` or ``python -m xlm.describe``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xlm.config import recipes, strict_yaml
from xlm.config.cli import read, run_verb
from xlm.config.console import say
from xlm.config.trust import Trust
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.data.verification import is_corpora, lacks_description
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.language_modules import SHARED_WORDS, WORDS, is_module, read_module
from xlm.preparation.config import SPLITS, Prepare
from xlm.preparation.reading import scan
from xlm.preparation.report import REPORT, read_report
from xlm.preparation.statistics import corpora_figures, vocabulary_overlap
from xlm.run.config import Run, read_run
from xlm.run.description import describe_run
from xlm.run.shares import describe_shares
from xlm.run.text import open_corpora
from xlm.tables import aligned
from xlm.training.restore import CHECKPOINTS

__all__ = ["Describe", "describe", "main"]


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Describe prepared text, a model or a recipe in a few lines, with the cost of a training."""

    path: str
    """A folder of prepared text, a model (anything that xlm.load takes), a run, a language module,
    or a recipe."""
    measure: bool = True
    """For a recipe of xlm pretrain: measure time and memory on a few updates, then discard them."""
    trust: str | None = None
    """The folder of your own objectives that a run names."""


def describe(config: Describe) -> list[str]:
    """Return the lines that describe ``config.path``.

    Raises ConfigError, DataError or CheckpointError, in one line, if it cannot be described.
    """
    path, trust = Path(recipes.found(config.path)).expanduser(), Trust(config.trust)
    if is_corpora(path):
        return list(_text(path))
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return list(_recipe(path, trust, config.measure))
    if path.is_file() and path.suffix not in (".pth", ".pt"):
        raise ConfigError(
            f"{path} is neither a recipe (.yaml) nor a model (.pth, .pt): expected prepared "
            "text, a run, a checkpoint, a model or a recipe"
        )
    if lacks_description(path):
        raise DataError(
            f"{path} looks like prepared text, but its {DESCRIPTION} is missing: restore that file "
            "from a copy, or prepare the text again"
        )
    if is_module(path):
        module = read_module(path)
        size = module.tokenizer.vocab_size
        return [*_table(module.language, size, module.description), _body(module.description)]
    if (path / CHECKPOINTS).is_dir():
        return [*_run(path, read_run(path, trust)), "", *_model(config.path)]
    return list(_model(config.path))


def _run(path: Path, run: Run) -> list[str]:
    """Describe the draws of a run, which takes its prepared text."""
    folders = [run.data, *(table.data for table in run.tables.values())]
    absent = [d for d in folders if d is not None and not is_corpora(Path(d).expanduser())]
    if not absent:
        return describe_shares(path, run)
    from_where = "" if os.path.isabs(absent[0]) else f", relative to {Path.cwd()},"
    return [
        f"{path}: its prepared text {absent[0]}{from_where} is not there, so shares of languages "
        "are left out; to see them, call xlm describe in the folder that the run was started from"
    ]


def _text(path: Path) -> Iterator[str]:
    corpora = Corpora.open(path)
    texts = corpora_figures(corpora)
    rows = [("text", "sentences", "subwords", "a word", "unknown", "as bytes", "median", "longest")]
    for text in texts:
        side = "" if text["name"] == text["language"] else f" ({text['language']})"
        rows.append(
            (
                f"{text['split']} {text['name']}{side}",
                f"{text['sentences']:,}",
                f"{text['tokens']:,}",
                _figure(text["fertility"], ".2f"),
                _figure(text["unknown_rate"], ".3%"),
                _figure(text["byte_rate"], ".3%"),
                str(text["percentiles"].get("50", "-")),
                str(text["longest"]),
            )
        )
    num_languages = len(corpora.languages)
    yield f"{path}: a vocabulary of {corpora.tokenizer.vocab_size:,}, {num_languages} languages"
    yield from aligned(rows)
    overlap = vocabulary_overlap(corpora)
    names = overlap["languages"]
    if len(names) > 1:
        yield "share of a row's training subwords that the column's text has too:"
        shares = zip(names, overlap["shares"], strict=True)
        yield from aligned(
            [("", *names), *((name, *(_figure(s, ".1%") for s in own)) for name, own in shares)]
        )
    if (path / REPORT).exists():
        try:
            yield from _report(read_report(path))
        except DataError as error:
            yield f"the report of its preparation cannot be read: {error}"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _report(report: Mapping[str, Any]) -> Iterator[str]:
    for name, own in report.get("read", {}).items():
        for reason, number in own["dropped"].items():
            yield f"{name}: {number:,} of {own['read']:,} lines dropped ({reason})"
    for text in report.get("held_out", ()):
        if text["share"]:
            yield (
                f"{text['name']}: {text['share']:.2%} of its lines stand in training text "
                f"({text['exact']:,} exact, {text['edited']:,} edited)"
            )


def _recipe(path: Path, trust: Trust, measure: bool) -> Iterator[str]:
    node = strict_yaml.compose_file(str(path))
    keys = {key.value for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    if "tasks" in keys:
        raise ConfigError(
            f"{path} is a recipe of xlm finetune: expected one of xlm pretrain or xlm "
            "prepare; xlm finetune itself reads its tasks' files first and says what it "
            "trains"
        )
    if keys & {"text", "pairs"}:
        yield from _sources(read(Prepare, path, trust))
        return
    run = read(Run, path, trust)
    for data in (run.data, *(table.data for table in run.tables.values())):
        if data is not None and not is_corpora(Path(data).expanduser()):
            raise ConfigError(
                f"{path}: its data, {data}, is not prepared: run xlm prepare first, or "
                "describe the recipe of xlm prepare"
            )
    yield from describe_run(run, open_corpora(run), measure=measure)


def _sources(config: Prepare) -> Iterator[str]:
    """Count the lines of every source by reading it."""
    rows: list[tuple[str, ...]] = [("text", "lines", "usable", "words", "characters")]
    for split in SPLITS:
        for name in config.names(split):
            num = usable = words = characters = 0
            for sides in scan(config, split, name):
                num += 1
                if not any(side.reason for side in sides):
                    usable += 1
                    words += sum(len(side.text.split()) for side in sides)
                    characters += sum(len(side.text) for side in sides)
            figures = (f"{figure:,}" for figure in (num, usable, words, characters))
            rows.append((f"{split} {name}", *figures))
    yield from aligned(rows)
    wanted, given = config.vocabulary, config.vocabulary.folder or config.vocabulary.model
    learned = f"one of {wanted.size:,} ({wanted.kind}) learned on this text"
    yield f"vocabulary: {given or wanted.codes or learned}; written to {config.folder}"


def _model(source: str) -> Iterator[str]:
    model = load(source)
    shape = model.transformer.config
    num = sum(parameter.numel() for parameter in model.transformer.parameters())
    languages = ", ".join(model.known_languages) or "none told apart"
    yield f"{source}: {num:,} parameters, {4 * num / 2**20:,.1f} MiB in float32"
    yield (
        f"width {shape.dim}, layers {shape.num_layers}, heads {shape.num_heads}, "
        f"{shape.max_positions} positions; vocabulary {model.tokenizer.vocab_size:,}"
    )
    yield f"languages: {languages}"
    for name, further in model.tables.items():
        yield from _table(name, further.tokenizer.vocab_size, further.description)


def _table(language: str, vocab_size: int, described: Mapping[str, Any]) -> Iterator[str]:
    """Describe a language with a vocabulary of its own, by its table.json."""
    own = f"a vocabulary of its own of {vocab_size:,}"
    parts = ["the model's words" if described.get(WORDS) == SHARED_WORDS else own]
    if described.get("own_positions"):
        parts.append("positions of its own")
    if adapters := described.get("adapters"):
        parts.append(f"adapters of {adapters['size']} ({adapters['place']})")
    nats, unigram = described.get("nats"), described.get("unigram_nats")
    if nats is not None:
        beside = "" if unigram is None else f" (unigram model: {unigram:.3f})"
        parts.append(f"{nats:.3f} nats a piece{beside}")
    yield f"{language}: {', '.join(parts)}"
    for line in described.get("fired") or ():
        yield f"{language} did not converge: {line}"


def _body(described: Mapping[str, Any]) -> str:
    shape = described["shape"]
    return (
        f"for the body {str(described.get('body'))[:12]}: width {shape.get('dim')}, layers "
        f"{shape.get('num_layers')}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm describe``: see ``Describe``."""

    def act(config: Describe) -> None:
        say("\n".join(describe(config)))

    run_verb(Describe, "describe", act, arguments, positional="path")


if __name__ == "__main__":
    main()
