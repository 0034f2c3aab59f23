"""The old language that a new one is compared with while its table trains."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from xlm.adding.config import AddLanguage
from xlm.analysis.convergence import measure, to_tensors
from xlm.config import strict_yaml
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.languages import match_languages
from xlm.model.pretrained import PretrainedModel
from xlm.model.tensor_files import write_tensors
from xlm.objectives.language_model import LanguageModel
from xlm.text.readers import ReadReport, open_lines

log = logging.getLogger("xlm")

REFERENCE = "reference.safetensors"
MOST_LINES = 1000
NO_REFERENCE = (
    "no text of an old language is at hand, so whether the new table is read like one is not "
    "measured: give some as --old_text.LANGUAGE FILE"
)


def reference_file(config: AddLanguage) -> str | None:
    """Return the file of the old language's signs; None if there is none."""
    path = Path(config.folder) / REFERENCE
    return str(path) if path.exists() else None


def write_reference(config: AddLanguage, model: PretrainedModel, objective: LanguageModel) -> None:
    """Measure an old language's held-out text by the model, unless that is done, and keep it.

    The text is ``old_text``, or that of the run that ``config.model`` is the folder of; without
    either the log says that likeness is not measured.
    """
    path = Path(config.folder) / REFERENCE
    if path.exists():
        return
    corpora, language = _given(config, model) if config.old_text else _of_run(config, model)
    if corpora is None:
        log.warning("%s", NO_REFERENCE)
        return
    own = replace(objective, languages=[language])
    (stream,) = own.streams("reference", corpora, seed=config.seed, split="valid")
    transformer = model.transformer.float().eval()
    head = own.head(transformer.config)
    if head is not None:
        name = next(iter(model.heads)).split(".")[1]
        own_head = {n.removeprefix(f"heads.{name}."): tensor for n, tensor in model.heads.items()}
        head.load_state_dict(own_head)
        head.eval()
    write_tensors(path, to_tensors(measure(transformer, own, stream, head, seed=config.seed)))


def _given(config: AddLanguage, model: PretrainedModel) -> tuple[Corpora, str]:
    language, source = next(iter(config.old_text.items()))
    known = dict.fromkeys([*model.known_languages, *config.known], 0)
    match_languages(known, [language], where=config.model, otherwise="leave old_text out")
    tokenizer = model.tokenizer
    if tokenizer.rules:
        tokenizer = tokenizer.in_language(language)
    lines = list(zip(open_lines(source, ReadReport()), range(MOST_LINES), strict=False))
    rows = [np.array(tokenizer.encode(tokenizer.normalize(line)), np.int64) for line, _ in lines]
    if not any(len(row) for row in rows):
        raise DataError(f"old_text.{language}: {source} has no usable line: give another file")
    corpus = Corpus.from_sentences(rows, language=language, tokenizer=model.tokenizer)
    names = model.languages or [language]
    return Corpora(model.tokenizer, names, texts={("valid", language): corpus}), language


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
