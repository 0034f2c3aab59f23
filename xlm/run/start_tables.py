"""First values of a run's further tables: those of a source, or those of a rule."""

from __future__ import annotations

import torch

from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.model.language_tables import OneLanguage
from xlm.model.pretrained import PretrainedModel
from xlm.run.config import Run
from xlm.training.initialization_report import InitializationReport
from xlm.training.learner import Learner


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
                f"tables.{name} has no data, and {source.source if source else 'no source'} has no "
                "table of that name and vocabulary: give it data"
            )
        else:
            _start(learner, name, settings.positions, report)
    for name in set(source.tables if source is not None else {}) - set(run.tables):
        report.unused[f"{source.source if source else ''}: tables.{name}"] = (
            "tables does not list it"
        )
    if learner.model.encoder.symbols is not None:
        learner.model.encoder.clear_symbol_rows(learner.model.roles)


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
                f"tables.{name}: {part} is {list(own.shape)} here, "
                f"{list(there[part].shape) if part in there else 'absent'} in {source.source}: set "
                "its positions as they are there"
            )
    if extra := set(there) - set(here):
        raise ConfigError(
            f"tables.{name}: {source.source} has {', '.join(sorted(extra))} of its own: set its "
            "positions as they are there"
        )


@torch.no_grad()
def _start(learner: Learner, name: str, positions: str, report: InitializationReport) -> None:
    encoder = learner.model.encoder
    table = encoder.table(name)
    left = [part for part in table.state_dict()]
    if positions == "copy" and table.positions is not None and encoder.positions is not None:
        table.positions.weight.copy_(encoder.positions.weight)
        left.remove("positions.weight")
        report.notes.append(f"table {name}: positions are a copy of the model's")
    if table.language is not None:
        assert not isinstance(encoder.languages, OneLanguage | None)
        table.language.weight.copy_(encoder.languages.weight.mean(0))
        left.remove("language.weight")
        report.notes.append(f"table {name}: its language vector is the mean of the model's")
    for part in left:
        report.left[f"model.encoder.tables.{name}.{part}"] = "a new table, drawn at random"
