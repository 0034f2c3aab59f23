"""First values of a run's further tables: those of a source, or those of a rule."""

from __future__ import annotations

import logging

import torch
from torch import nn

from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.model.language_tables import OF_VOCABULARY
from xlm.model.pretrained import PretrainedModel
from xlm.model.table_starts import DRAWN, TableStart
from xlm.rng import key
from xlm.run.config import Run
from xlm.run.table_starts import find_start
from xlm.run.word_vectors import map_words
from xlm.training.initialization_report import InitializationReport
from xlm.training.learner import Learner

log = logging.getLogger("xlm")


def start_tables(
    learner: Learner,
    run: Run,
    corpora: Corpora,
    source: PretrainedModel | None,
    report: InitializationReport,
) -> None:
    """Fill the learner's further tables in place, and account for each of their tensors.

    A table that the source has, by name and vocabulary, is taken from there; another starts as its
    settings say. Raises ConfigError for a table without text that the source does not have, or has
    with another vocabulary.
    """
    encoder = learner.model.encoder
    with encoder.symbols_in_rows(learner.model.roles):
        _fill(learner, run, corpora, source, report)
    if encoder.symbols is not None:
        encoder.clear_symbol_rows(learner.model.roles)


def _fill(
    learner: Learner,
    run: Run,
    corpora: Corpora,
    source: PretrainedModel | None,
    report: InitializationReport,
) -> None:
    taken = source.tables if source is not None and _takes(run) else {}
    for name, settings in run.tables.items():
        further = taken.get(name)
        same = further is not None and further.tokenizer.digest == corpora.table_digests[name]
        if further is not None and not same:
            report.notes.append(f"table {name}: the source's has another vocabulary: not taken")
        if source is not None and same:
            _take(learner, source, name, report)
        elif settings.data is None and corpora.tables[name].names("train")["texts"] == []:
            raise ConfigError(
                f"tables.{name} has no data, and {source.source if source else 'no source'} "
                "has no table with that name and vocabulary: give it data"
            )
        else:
            start = find_start(name, settings, corpora, run.seed)
            _start(learner, name, settings.positions, start, run.seed, report)
            if settings.start == "mapped":
                _map(learner, name, corpora, run.seed, report)
    for name in set(source.tables if source is not None else {}) - set(run.tables):
        report.unused[f"{source.source if source else ''}: tables.{name}"] = (
            "tables does not list it"
        )


def _map(
    learner: Learner, name: str, corpora: Corpora, seed: int, report: InitializationReport
) -> None:
    """Replace a table's words by mapped vectors, and count them."""
    encoder = learner.model.encoder
    words = encoder.table(name).words.weight
    mapped = map_words(words, name, encoder.words.weight, corpora, seed)
    counts = report.rows[name]
    for rule in ("kept", DRAWN):
        counts.pop(rule, None)
    left = len(words) - len(mapped) - sum(counts.values())
    report.rows[name] = {**counts, "mapped": len(mapped), **({DRAWN: left} if left else {})}
    report.notes.append(f"table {name}: {len(mapped):,} words are mapped vectors")


def _takes(run: Run) -> bool:
    return run.initialize is not None and run.initialize.only == "all"


@torch.no_grad()
def _take(
    learner: Learner, source: PretrainedModel, name: str, report: InitializationReport
) -> None:
    here = learner.model.encoder.table(name).state_dict()
    there = source.transformer.encoder.table(name).state_dict()
    for part, own in here.items():
        where = f"model.encoder.tables.{name}.{part}"
        if part in there and there[part].shape == own.shape:
            own.copy_(there[part])
            report.copied[where] = f"encoder.tables.{name}.{part}"
        else:
            raise ConfigError(
                f"tables.{name}: {part} is {list(own.shape)} here, but "
                f"{list(there[part].shape) if part in there else 'absent'} in "
                f"{source.source}: set positions as in that model"
            )
    if extra := set(there) - set(here):
        raise ConfigError(
            f"tables.{name}: {source.source} has its own {', '.join(sorted(extra))}: set "
            "positions as in that model"
        )


@torch.no_grad()
def _start(
    learner: Learner,
    name: str,
    positions: str,
    start: TableStart | None,
    seed: int,
    report: InitializationReport,
) -> None:
    encoder = learner.model.encoder
    table = encoder.table(name)
    left = [part for part in table.state_dict() if not part.startswith("adapters.")]
    if start is not None:
        generator = torch.Generator().manual_seed(key(seed, "start", name))
        for part in OF_VOCABULARY:
            if part in left:
                own, there = table.state_dict()[part], encoder.state_dict()[part]
                own.copy_(start.apply(there.cpu(), generator))
                left.remove(part)
        report.rows[name] = start.counts
        if start.warning:
            log.warning("table %s: %s", name, start.warning)
    else:
        report.rows[name] = {DRAWN: len(table.words.weight)}
    rules = ", ".join(f"{number:,} {rule}" for rule, number in report.rows[name].items())
    report.notes.append(f"table {name}: rows by rule: {rules}")
    if positions == "copy" and table.positions is not None and encoder.positions is not None:
        table.positions.weight.copy_(encoder.positions.weight)
        left.remove("positions.weight")
        report.notes.append(f"table {name}: positions are a copy of the model's")
    if table.language is not None:
        assert isinstance(encoder.languages, nn.Embedding)
        table.language.weight.copy_(encoder.languages.weight.mean(0))
        left.remove("language.weight")
        report.notes.append(f"table {name}: its language vector is the mean of the model's")
    for part in left:
        report.left[f"model.encoder.tables.{name}.{part}"] = "a new table, drawn at random"
