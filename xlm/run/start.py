"""The start of a run: the checkpoint it resumes from, other models' weights, or random ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError
from xlm.interchange.load import checkpoint_shape, load
from xlm.languages import match_languages
from xlm.model.asking import LAYOUT
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.run.config import Run
from xlm.run.layout import layout_of_start, with_layout
from xlm.training import checkpoint
from xlm.training.distributed.processes import Parallel
from xlm.training.initialization import model_languages
from xlm.training.restore import CHECKPOINTS


@dataclass(frozen=True)
class Start:
    """Facts that are known before the parts of a run are built."""

    run: Run
    """The run, its model's shape filled in."""
    corpora: Corpora
    """The data, its languages under the ids that the model knows them by."""
    resumed: checkpoint.Loaded | None
    """The checkpoint that the run resumes from."""
    skipped: tuple[str, ...] = ()
    """A line for each newer checkpoint that cannot be read."""
    encoder: PretrainedModel | None = None
    """Source of the encoder if ``run.initialize`` names one and nothing is resumed."""
    decoder: PretrainedModel | None = None
    """Source of the decoder."""
    kept: tuple[str, ...] = ()
    """Languages of the sources that the data lacks."""


def find_start(run: Run, corpora: Corpora, parallel: Parallel | None = None) -> Start:
    """Return the start of ``run``: its newest sound checkpoint, else ``run.initialize``'s sources.

    Only the first start needs the sources: later ones find shape and languages in the checkpoint,
    whose files the processes of ``parallel`` verify together.
    Raises ConfigError for languages that the checkpoint or source does not know, CheckpointError if
    there are checkpoints and none can be read, unless ``run.restart`` insists.
    """
    found = checkpoint.latest(Path(run.folder) / CHECKPOINTS, parallel)
    if found.loaded is not None:
        return _resumed(run, corpora, found.loaded, found.skipped)
    if found.skipped and not run.restart:
        raise CheckpointError(
            f"{run.folder}: none of its {len(found.skipped)} checkpoints can be read; the "
            f"newest: {found.skipped[0]}; restore one from a copy, or give --restart true to "
            "start again at step 0 (nothing is deleted: existing files are put aside)"
        )
    settings = run.initialize
    if settings is None:
        run = with_layout(run, None)
        changed = dataclasses.replace(run, model=run.changes.applied(run.shape))
        return Start(changed, corpora, None, found.skipped)
    encoder = load(settings.encoder) if settings.encoder is not None else None
    decoder = encoder if settings.decoder == settings.encoder else None
    if decoder is None and settings.decoder is not None:
        decoder = load(settings.decoder)
    run = layout_of_start(run, encoder, decoder)
    if run.model is None:
        run = dataclasses.replace(run, model=_shape(encoder, decoder))
    run = dataclasses.replace(run, model=run.changes.applied(run.shape))
    languages = model_languages(
        settings,
        [source for source in (encoder, decoder) if source is not None],
        corpora.own_languages,
        table=bool(run.shape.language_embeddings),
    )
    return Start(
        run, corpora.renumbered(languages), None, found.skipped, encoder, decoder,
        kept=tuple(name for name in languages if name not in corpora.languages),
    )  # fmt: skip


def _shape(encoder: PretrainedModel | None, decoder: PretrainedModel | None) -> ModelConfig:
    """Return the encoder's shape, with a decoder of the decoder's depth if one is wanted."""
    assert encoder is not None, "Run asks for it"
    num_decoder_layers = 0
    if decoder is not None:
        there = decoder.transformer.config
        num_decoder_layers = there.num_decoder_layers or there.num_layers
    return dataclasses.replace(
        encoder.transformer.config,
        preset=None,
        num_decoder_layers=num_decoder_layers,
        language_embeddings=encoder.has_languages,
    )


def _resumed(
    run: Run, corpora: Corpora, loaded: checkpoint.Loaded, skipped: tuple[str, ...]
) -> Start:
    languages = loaded.state["languages"]
    otherwise = "give the data it was trained on, or another folder"
    match_languages(languages, corpora.own_languages, where=str(loaded.path), otherwise=otherwise)
    run = with_layout(run, loaded.state.get(LAYOUT), str(loaded.path))
    if run.model is None:
        run = dataclasses.replace(run, model=checkpoint_shape(loaded))
    run = dataclasses.replace(run, model=run.changes.applied(run.shape))
    return Start(run, corpora.renumbered(languages), loaded, skipped)
