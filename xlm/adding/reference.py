"""The old language, and the translations, that a new one is compared with while it trains."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from xlm.adding.config import AddLanguage
from xlm.adding.old_text import first_text
from xlm.adding.text import DATA
from xlm.analysis import piece_translation
from xlm.analysis.convergence import to_tensors
from xlm.analysis.piece_translation import known_translations
from xlm.analysis.translation_model import translations
from xlm.data.corpora import Corpora
from xlm.model.pretrained import PretrainedModel
from xlm.model.tensor_files import write_tensors
from xlm.objectives.language_model import LanguageModel
from xlm.run.signs import measured
from xlm.run.table_starts import translated_rows

log = logging.getLogger("xlm")

REFERENCE = "reference.safetensors"
TRANSLATIONS = "translations.safetensors"
NO_REFERENCE = (
    "no text of an old language is at hand, so whether the new table is read like one is not "
    "measured: give some as --old_text.LANGUAGE FILE"
)


def reference_file(config: AddLanguage) -> str | None:
    """Return the file of the old language's signs; None if there is none."""
    path = Path(config.folder) / REFERENCE
    return str(path) if path.exists() else None


def translations_file(config: AddLanguage) -> str | None:
    """Return the file of pieces with known translations; None if there is none."""
    path = Path(config.folder) / TRANSLATIONS
    return str(path) if path.exists() else None


def write_translations(config: AddLanguage, model: PretrainedModel) -> None:
    """Find pieces with translations in ``pairs`` and ``dictionary``, unless that is done.

    Without either there is no file. Raises ConfigError or DataError for files that do not fit.
    """
    path = Path(config.folder) / TRANSLATIONS
    if path.exists() or not (config.pairs or config.dictionary is not None):
        return
    new = Corpora.open(Path(config.folder) / DATA)
    own = Corpora(model.tokenizer, model.languages or [config.language])
    corpora = own.with_tables({config.language: new})
    found = translations(*translated_rows(
        config.language, config.pairs, config.dictionary, corpora
    ))  # fmt: skip
    special = model.tokenizer.special_ids
    text = np.array([at for at in range(model.tokenizer.vocab_size) if at not in special])
    write_tensors(path, piece_translation.to_tensors(known_translations(found, text)))


def write_reference(config: AddLanguage, model: PretrainedModel, objective: LanguageModel) -> None:
    """Measure an old language's held-out text by the model, unless that is done, and keep it.

    The text is ``old_text``, or that of the run that ``config.model`` is the folder of; without
    either the model's own record is taken. If it has none, the log says that likeness is not
    measured.
    """
    path = Path(config.folder) / REFERENCE
    if path.exists():
        return
    corpora, language = first_text(config, model)
    if corpora is None:
        if model.signs:
            write_tensors(path, model.signs)
        else:
            log.warning("%s", NO_REFERENCE)
        return
    own = replace(objective, languages=[language])
    (stream,) = own.streams("reference", corpora, seed=config.seed, split="valid")
    name = next(iter(model.heads)).split(".")[1] if model.heads else ""
    write_tensors(path, to_tensors(measured(model, name, own, stream, config.seed)))
