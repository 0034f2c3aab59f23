"""Held-out text of the languages that a model has already, and the model's figures on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from xlm import sample
from xlm.adding.config import AddLanguage
from xlm.adding.proof import NUM_ROWS
from xlm.analysis.convergence import MOST_BATCHES
from xlm.config import strict_yaml
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.languages import match_languages
from xlm.model.pretrained import PretrainedModel
from xlm.objectives.language_model import LanguageModel
from xlm.objectives.next_sentence import NextSentence
from xlm.run.signs import head_of
from xlm.text.readers import ReadReport, open_lines
from xlm.text.tokenizers.tokenizer import Ids
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner

MOST_LINES = NUM_ROWS


def first_text(config: AddLanguage, model: PretrainedModel) -> tuple[Corpora | None, str]:
    """Return text of one language of the model's own vocabulary and its name; None without any.

    It is the first of ``old_text``, else that of the run that the model is of. Raises ConfigError
    or DataError for files that do not fit.
    """
    if not config.old_text:
        corpora = _of_run(config, model)
        return corpora, "" if corpora is None else _languages(corpora, model)[0]
    found = {name: given_text(config, model, name) for name in config.old_text}
    own = [name for name in found if name not in model.tables]
    return (found[own[0]], own[0]) if own else (None, "")


def given_text(config: AddLanguage, model: PretrainedModel, language: str) -> Corpora:
    """Return the first lines of ``old_text`` of a language, in the vocabulary that it is read in.

    Raises ConfigError for a language that the model does not know, DataError for an empty text.
    """
    known = dict.fromkeys([*model.known_languages, *config.known, *model.tables], 0)
    match_languages(known, [language], where=config.model, otherwise="leave old_text out")
    own = model if language in config.known else model.reading(language)
    tokenizer, source = own.tokenizer, sample.resolved(config.old_text[language])
    spoken = tokenizer.in_language(language) if tokenizer.rules else tokenizer
    report = ReadReport()
    lines = [line for line, _ in zip(open_lines(source, report), range(MOST_LINES), strict=False)]
    texts = [spoken.normalize(line) for line in lines]
    rows = [np.array(spoken.encode(text), np.int64) for text in texts]
    if not any(len(row) for row in rows):
        raise DataError(f"old_text.{language}: {source} has no usable line: give another file")
    corpus = Corpus.from_sentences(
        rows, language=language, tokenizer=tokenizer,
        bytes=sum(len(text.encode()) for text in texts),
        documents=report.documents.starts(len(rows)),
    )  # fmt: skip
    names = own.languages or [language]
    return Corpora(tokenizer, names, texts={("valid", language): corpus})


def old_texts(config: AddLanguage, model: PretrainedModel) -> dict[str, Corpora]:
    """Return held-out text by old language: ``old_text``, else that of the model's run."""
    corpora = _of_run(config, model)
    of_run = {} if corpora is None else dict.fromkeys(_languages(corpora, model), corpora)
    return {**of_run, **{name: given_text(config, model, name) for name in config.old_text}}


def rows_of(texts: dict[str, Corpora]) -> dict[str, list[Ids]]:
    """Return rows of held-out text by language, as many as are compared, without special tokens."""
    rows = {}
    for language, corpora in texts.items():
        own = corpora.text("valid", language)
        rows[language] = [
            np.asarray(own.sentence(at), dtype=np.int64) for at in range(min(len(own), MOST_LINES))
        ]
    return rows


def figures_of(
    model: PretrainedModel, texts: dict[str, Corpora], objective: LanguageModel, seed: int
) -> dict[str, dict[str, float | None]]:
    """Return nats a piece, bits a byte and the unigram model's nats by old language.

    They are those of the first batches of its held-out text. A figure that the text does not give
    is None; a language without documents is left out if the objective reads documents.
    """
    figures = {}
    name = next(iter(model.heads)).split(".")[1] if model.heads else "lm"
    for language, corpora in texts.items():
        if (
            isinstance(objective, NextSentence)
            and corpora.text("valid", language).documents is None
        ):
            continue
        own = replace(objective, languages=[language])
        reading = model.reading(language)
        learner = Learner(reading.transformer.float(), {name: own}, reading.transformer.config)
        if (head := head_of(model, name, own)) is not None:
            learner.heads[name] = head
        streams = own.streams(name, corpora, seed=seed, split="valid")
        found = evaluate(
            learner, {name: streams}, Parallel(device=torch.device("cpu")), seed=seed,
            most_batches=MOST_BATCHES,
        )[streams[0].id]  # fmt: skip
        perplexity = found.get("unigram_perplexity")
        figures[language] = {
            "nats": found.get("nats"),
            "bits_per_byte": found.get("bits_per_byte"),
            "unigram_nats": None if perplexity is None else float(np.log(perplexity)),
        }
    return figures


def _languages(corpora: Corpora, model: PretrainedModel) -> list[str]:
    return [name for name in corpora.names("valid")["texts"] if name in model.known_languages]


def _of_run(config: AddLanguage, model: PretrainedModel) -> Corpora | None:
    """Return the text of the run that the model is of, if it is prepared here still."""
    recipe = Path(config.model).expanduser() / "config.yaml"
    try:
        data = strict_yaml.load(recipe.read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError, AttributeError, ConfigError):
        return None
    if not isinstance(data, str) or not (Path(data) / DESCRIPTION).exists():
        return None
    try:
        corpora = Corpora.open(data, languages=model.languages or None)
    except (DataError, ConfigError):
        return None
    if not _languages(corpora, model) or corpora.tokenizer.digest != model.tokenizer.digest:
        return None
    return corpora
