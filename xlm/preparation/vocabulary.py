"""The tokenizer of a preparation: taken from somewhere, or learned on its training text."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xlm.errors import ConfigError, DataError
from xlm.preparation.config import Prepare, Vocabulary
from xlm.preparation.reading import Reader
from xlm.text.rules import ANY, Rules, as_json
from xlm.text.tokenizers.language_tokens import with_language_tokens
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer, learn_sentencepiece, sample_lines
from xlm.text.tokenizers.learn_wordpiece import learn_wordpiece
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")


def given_tokenizer(config: Prepare) -> tuple[Prepare, Tokenizer | None]:
    """Return the tokenizer that the settings name; None if one is to be learned.

    The rules of normalization that it comes with are filled into the settings; ConfigError if the
    recipe has others.
    """
    tokenizer = _given_tokenizer(config.vocabulary)
    if tokenizer is None:
        return config, None
    tokenizer = _with_tokens(config, tokenizer)
    if not tokenizer.rules:
        tokenizer.rules = _active(config)
        return config, tokenizer
    wanted = as_json(config.normalization)
    if wanted and wanted != as_json(tokenizer.rules):
        raise ConfigError(
            f"the tokenizer's text was normalized by {as_json(tokenizer.rules)}, but the "
            f"recipe asks for {wanted}: leave normalization out, or learn a vocabulary"
        )
    known = {*config.known, ANY}
    own = {name: rules for name, rules in tokenizer.rules.items() if name in known}
    return dataclasses.replace(config, normalization=own), tokenizer


def _with_tokens(config: Prepare, tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer with the language tokens that the settings ask for.

    A list that does not match the languages of the text is followed, with a warning.
    """
    wanted = config.vocabulary.language_tokens
    names = list(config.known) if wanted is True else wanted or []
    if names and set(names) != set(config.known):
        log.warning(
            "vocabulary.language_tokens gives tokens to %s, but the text is in %s: layouts "
            "with language tokens cannot translate a language that has none",
            ", ".join(sorted(names)),
            ", ".join(sorted(config.known)),
        )
    return with_language_tokens(tokenizer, names)


def _active(config: Prepare) -> dict[str, Rules]:
    return {name: own for name, own in config.normalization.items() if own.active}


def _given_tokenizer(wanted: Vocabulary) -> Tokenizer | None:
    """Return the tokenizer that the settings name; None if one is to be learned."""
    given = {n: getattr(wanted, n) for n in ("folder", "model", "codes", "vocab")}
    if len({name for name, path in given.items() if path is not None} - {"vocab"}) > 1:
        raise ConfigError(
            "vocabulary takes only one of folder, model, or codes with vocab: found "
            f"{', '.join((f'{name} {path}' for name, path in given.items() if path is not None))}"
        )
    if wanted.folder is not None:
        from xlm.interchange.load import open_tokenizer  # imports torch

        return open_tokenizer(wanted.folder)
    if wanted.model is not None:
        from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(
            _bytes(wanted.model),
            begins=wanted.begins,
            num_separators=wanted.num_separators,
            begins_again=wanted.begins_again,
        )
    if wanted.codes is not None or wanted.vocab is not None:
        if wanted.codes is None or wanted.vocab is None:
            raise ConfigError(
                "vocabulary.codes and vocabulary.vocab belong together, but one is missing: "
                "give both"
            )
        from xlm.text.tokenizers.fastbpe import FastBpeTokenizer

        return FastBpeTokenizer(_bytes(wanted.codes), _bytes(wanted.vocab))
    return None


def learn_tokenizer(reader: Reader) -> Tokenizer:
    """Return a tokenizer learned on the training text.

    Raises ConfigError if there is no text, or if it cannot give a vocabulary of that size.
    """
    tokenizer = _with_tokens(reader.config, _learn(reader))
    tokenizer.rules = _active(reader.config)
    return tokenizer


def _learn(reader: Reader) -> Tokenizer:
    config = reader.config
    wanted = config.vocabulary
    sources = _vocabulary_sources(reader)
    if not sources:
        raise ConfigError(
            "there is no training text to learn a vocabulary from: give text.train or "
            "pairs.train, or an existing vocabulary (vocabulary.folder, model, codes)"
        )
    lines = sample_lines(
        sources,
        alpha=wanted.alpha,
        num_draws=wanted.num_draws,
        seed=config.seed,
        counts=_counts(reader, sources),
    )
    log.info("learning a vocabulary of %d (%s)", wanted.size, wanted.kind)
    if wanted.kind == "fastbpe":
        return learn_fastbpe_tokenizer(lines, wanted.size)
    if wanted.kind == "wordpiece":
        return learn_wordpiece(lines, wanted.size)
    return learn_sentencepiece(
        lines, wanted.size, kind=wanted.kind, character_coverage=wanted.character_coverage,
        layout=wanted.layout,
    )  # fmt: skip


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


@dataclass(frozen=True)
class _Lines:
    """Training lines of a language, or of a side of a pair; a call opens them anew."""

    reader: Reader
    name: str
    side: int = 0

    def __call__(self) -> Iterator[str]:
        return self.reader.training_texts(self.name, self.side)


_Sources = dict[str, list[_Lines]]


def _vocabulary_sources(reader: Reader) -> _Sources:
    """Return every language's training text, sides of pairs included."""
    config = reader.config
    if config.vocabulary.per == "pair":
        return _sources_by_pair(reader)
    sources: _Sources = {}
    for language in config.text.train:
        sources[language] = [_Lines(reader, language)]
    for pair in config.pairs.train:
        for side, language in enumerate(config.known.pair(pair)):
            # A language's own text says how it is written; its sides of pairs may repeat it.
            if language not in config.text.train:
                sources.setdefault(language, []).append(_Lines(reader, pair, side))
    return sources


def _sources_by_pair(reader: Reader) -> _Sources:
    """Return both sides of every pair, and the text of languages that no pair has."""
    config = reader.config
    if not config.pairs.train:
        raise ConfigError(
            "vocabulary.per is pair, but pairs.train is empty: give some pairs, or leave per out"
        )
    sources: _Sources = {}
    paired: set[str] = set()
    for pair in config.pairs.train:
        sources[pair] = [_Lines(reader, pair, side) for side in (0, 1)]
        paired |= set(config.known.pair(pair))
    for language in config.text.train:
        if language not in paired:
            sources[language] = [_Lines(reader, language)]
    return sources


def _counts(reader: Reader, sources: _Sources) -> dict[str, int] | None:
    """Return the lines of each language; None if they are not known without reading, or are 0."""
    counts = {}
    for name, opened in sources.items():
        numbers = [reader.num_training(lines.name) for lines in opened]
        if None in numbers:
            return None
        counts[name] = sum(number or 0 for number in numbers)
    return counts if all(counts.values()) else None
