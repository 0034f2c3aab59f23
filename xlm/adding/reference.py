"""The old language, and the translations, that a new one is compared with while it trains."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from xlm.adding.config import AddLanguage
from xlm.adding.proof import NUM_ROWS
from xlm.adding.text import DATA
from xlm.analysis import piece_translation
from xlm.analysis.convergence import to_tensors
from xlm.analysis.piece_translation import known_translations
from xlm.analysis.translation_model import translations
from xlm.config import strict_yaml
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.languages import match_languages
from xlm.model.pretrained import PretrainedModel
from xlm.model.tensor_files import write_tensors
from xlm.objectives.language_model import LanguageModel
from xlm.run.signs import measured
from xlm.run.table_starts import translated_rows
from xlm.text.readers import ReadReport, open_lines
from xlm.text.tokenizers.tokenizer import Ids

log = logging.getLogger("xlm")

REFERENCE = "reference.safetensors"
TRANSLATIONS = "translations.safetensors"
MOST_LINES = NUM_ROWS
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
    corpora, language = _given(config, model) if config.old_text else _of_run(config, model)
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


def old_rows(config: AddLanguage, model: PretrainedModel) -> dict[str, list[Ids]]:
    """Return rows of old text by language, ids without special tokens, as many as are compared.

    They are those of ``old_text`` and, for other languages, of the run that the model is of.
    """
    rows = {}
    corpora, _ = _of_run(config, model)
    if corpora is not None:
        for language in corpora.names("valid")["texts"]:
            if language in model.known_languages:
                own = corpora.text("valid", language)
                rows[language] = [
                    np.asarray(own.sentence(at), dtype=np.int64)
                    for at in range(min(len(own), MOST_LINES))
                ]
    return {**rows, **{name: _encoded(config, model, name) for name in config.old_text}}


def _encoded(config: AddLanguage, model: PretrainedModel, language: str) -> list[Ids]:
    """Return the first lines of ``old_text`` of a language as ids.

    Raises ConfigError for a language that the model does not know, DataError for an empty text.
    """
    known = dict.fromkeys([*model.known_languages, *config.known, *model.tables], 0)
    match_languages(known, [language], where=config.model, otherwise="leave old_text out")
    own = model if language in config.known else model.reading(language)
    tokenizer, source = own.tokenizer, config.old_text[language]
    if tokenizer.rules:
        tokenizer = tokenizer.in_language(language)
    lines = list(zip(open_lines(source, ReadReport()), range(MOST_LINES), strict=False))
    rows = [np.array(tokenizer.encode(tokenizer.normalize(line)), np.int64) for line, _ in lines]
    if not any(len(row) for row in rows):
        raise DataError(f"old_text.{language}: {source} has no usable line: give another file")
    return rows


def _given(config: AddLanguage, model: PretrainedModel) -> tuple[Corpora | None, str]:
    """Return the first of ``old_text`` that is of the model's own vocabulary, as corpora."""
    for language in config.old_text:
        rows = _encoded(config, model, language)
        if language not in model.tables:
            corpus = Corpus.from_sentences(rows, language=language, tokenizer=model.tokenizer)
            names = model.languages or [language]
            return Corpora(model.tokenizer, names, texts={("valid", language): corpus}), language
    return None, ""


def _of_run(config: AddLanguage, model: PretrainedModel) -> tuple[Corpora | None, str]:
    """Return the text of the run that the model is of, if it is prepared here still."""
    recipe = Path(config.model).expanduser() / "config.yaml"
    try:
        data = strict_yaml.load(recipe.read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError, AttributeError, ConfigError):
        return None, ""
    if not isinstance(data, str) or not (Path(data) / DESCRIPTION).exists():
        return None, ""
    try:
        corpora = Corpora.open(data, languages=model.languages or None)
    except (DataError, ConfigError):
        return None, ""
    languages = [name for name in corpora.names("valid")["texts"] if name in model.known_languages]
    if not languages or corpora.tokenizer.digest != model.tokenizer.digest:
        return None, ""
    return corpora, languages[0]
