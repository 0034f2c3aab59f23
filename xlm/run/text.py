"""The text of a run: its prepared folder, and those of its further tables."""

from __future__ import annotations

from pathlib import Path

from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.model.model_directory import TABLES, TOKENIZER
from xlm.model.pretrained import PretrainedModel
from xlm.run.config import Run
from xlm.run.language_tables import LanguageTable
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.training import checkpoint
from xlm.training.restore import CHECKPOINTS


def open_corpora(
    run: Run, loaded: checkpoint.Loaded | None = None, data: str | None = None
) -> Corpora:
    """Return the corpora of ``run``, or those of ``data`` in place of its own folder.

    A vocabulary without text is that of the checkpoint ``loaded`` (None: the run's newest), else of
    ``initialize.encoder``. Raises ConfigError, DataError or CheckpointError in one line.
    """
    folder = data or run.data
    languages = loaded.state["languages"] if loaded is not None else None
    without = [name for name, table in run.tables.items() if table.data is None]
    if loaded is None and (folder is None or without):
        loaded = checkpoint.latest(Path(run.folder) / CHECKPOINTS).loaded
    source = None
    if loaded is None and (folder is None or without):
        assert run.initialize is not None and run.initialize.encoder is not None, "Run asks for it"
        source = load(run.initialize.encoder)
    if folder is not None:
        corpora = Corpora.open(folder, languages=languages)
    elif source is not None:
        corpora = Corpora(source.tokenizer, source.languages or source.known_languages)
    else:
        assert loaded is not None
        corpora = Corpora(load_tokenizer(loaded.directory(TOKENIZER)), loaded.state["languages"])
    if not run.tables:
        return corpora
    return corpora.with_tables({name: _of_table(run, name, source, loaded) for name in run.tables})


def corpora_of(model: PretrainedModel) -> Corpora:
    """Return a model's vocabularies and its languages, without text."""
    own = Corpora(model.tokenizer, model.languages or model.known_languages)
    if not model.tables:
        return own
    return own.with_tables(
        {name: Corpora(further.tokenizer, [name]) for name, further in model.tables.items()}
    )


def settings_of(model: PretrainedModel) -> dict[str, LanguageTable]:
    """Return the settings by which a run takes over a model's further tables."""
    found = {}
    for name in model.tables:
        table = model.transformer.encoder.table(name)
        found[name] = LanguageTable(
            positions="shared" if table.positions is None else "copy",
            adapters=None if table.adapters is None else table.adapters.config,
        )
    return found


def _of_table(
    run: Run, name: str, source: PretrainedModel | None, loaded: checkpoint.Loaded | None
) -> Corpora:
    data = run.tables[name].data
    if data is not None:
        return Corpora.open(data)
    if loaded is not None:
        return Corpora(load_tokenizer(loaded.directory(f"{TABLES}/{name}")), [name])
    assert source is not None
    if name not in source.tables:
        raise ConfigError(
            f"tables.{name} has no data, and {source.source} has no table with that name: "
            "give it data"
        )
    return Corpora(source.tables[name].tokenizer, [name])
