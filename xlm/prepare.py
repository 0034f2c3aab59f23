"""Text to corpora: normalize, learn one vocabulary for all languages, binarize.

    sources --read, normalize--> sentences drawn by q ~ p^alpha --> vocabulary
                             \\--> ids on disk, one corpus per language and pair, every split

Use as ``xlm.prepare.prepare(Prepare(...))``, ``xlm prepare`` or ``python -m xlm.prepare``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from xlm import sample
from xlm.config.cli import run_verb
from xlm.data.binarize import binarize, binarize_pairs
from xlm.data.corpora import DESCRIPTION, Corpora, write_header
from xlm.errors import ConfigError, DataError
from xlm.languages import LanguagePair, Languages
from xlm.storage import atomic_directory
from xlm.text.readers import ReadReport, open_lines, open_pairs
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer, learn_sentencepiece, sample_lines
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Where the text of each language lies.

    A source is a file of one sentence a line (plain, .gz, .zst), ``datasets:NAME?split=train`` for
    anything Hugging Face datasets reads, or ``sample:NAME`` for the corpus that ships with xlm.
    """

    train: dict[str, str] = field(default_factory=dict)
    """Training text: a source per language."""
    valid: dict[str, str] = field(default_factory=dict)
    """Held-out text that a run is evaluated on while it trains."""
    test: dict[str, str] = field(default_factory=dict)
    """Held-out text for the end."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Where aligned sentences lie: two sources a pair, line i with line i."""

    train: dict[str, list[str]] = field(default_factory=dict)
    """Training pairs, such as {en-ne: [train.en, train.ne]}."""
    valid: dict[str, list[str]] = field(default_factory=dict)
    """Held-out pairs for evaluation while training."""
    test: dict[str, list[str]] = field(default_factory=dict)
    """Held-out pairs for the end."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The shared subword vocabulary: learnt, or taken from somewhere."""

    kind: Literal["unigram", "bpe", "fastbpe"] = "unigram"
    """SentencePiece unigram or BPE (with byte fallback), or fastBPE codes."""
    size: int = 8000
    """Entries, special symbols included (fastbpe: number of merges)."""
    alpha: float = 0.5
    """Sentences are drawn with q ~ p**alpha of the languages' sentence counts (XLM section 3.1)."""
    num_draws: int = 1_000_000
    """Sentences drawn; with less text every language's share is scaled to what there is."""
    folder: str | None = None
    """Take the tokenizer of prepared text, a model directory, a run's folder, or anything else that
    xlm.load takes, instead of learning one."""
    codes: str | None = None
    """Existing fastBPE codes (with vocab)."""
    vocab: str | None = None
    """Existing fastBPE vocabulary, `token count` a line."""
    model: str | None = None
    """Existing SentencePiece model."""


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Learn a vocabulary and binarize text into a folder of memory-mapped corpora."""

    folder: str
    """The folder to write; it must not hold another preparation (see replace)."""
    text: Texts = field(default_factory=Texts)
    """Text of each language."""
    pairs: Aligned = field(default_factory=Aligned)
    """Aligned sentences of language pairs."""
    languages: list[str] = field(default_factory=list)
    """Languages, such as [en, zh-Hans]: needed only for a pair that may be read in two ways, such
    as en-zh-Hans, if one of its languages has no text of its own."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    """The shared subword vocabulary."""
    root: str = "."
    """Relative sources start here."""
    max_sentences: dict[str, int] = field(default_factory=dict)
    """Use only the first so many training sentences of a language (or pairs of a pair)."""
    max_valid_sentences: int | None = None
    """Use only the first so many sentences of each validation text, which is read often."""
    invalid: Literal["error", "drop"] = "error"
    """What to do with a line that is not UTF-8: stop, or drop and count it."""
    max_bytes: int = 1 << 20
    """Longer lines are dropped, and counted."""
    workers: int | None = None
    """Processes that tokenize; null: one a core."""
    seed: int = 0
    """Keys the draw of sentences that the vocabulary is learnt on."""
    replace: bool = False
    """Replace a preparation that is there already."""

    def __post_init__(self) -> None:
        if not any(getattr(part, s) for part in (self.text, self.pairs) for s in SPLITS):
            raise ConfigError(
                "nothing to prepare: give text.train or pairs.train at least one source"
            )
        for split in SPLITS:
            for pair, sources in getattr(self.pairs, split).items():
                if not LanguagePair.readings(pair) or len(sources) != 2:
                    raise ConfigError(
                        f"pairs.{split}.{pair}: expected LANG-LANG with two sources, found "
                        f"{sources}"
                    )
        self._check_languages()
        self._check_numbers()

    def _check_languages(self) -> None:
        """Raise ConfigError for a pair that cannot be read, and for a language without text."""
        named = {language for split in SPLITS for language in getattr(self.text, split)}
        known = self.known
        for pair in self._pairs():
            try:
                named |= set(known.pair(pair))
            except ConfigError as error:
                raise ConfigError(f"pairs: {error}; list its languages in languages") from None
        if unused := [name for name in self.languages if name not in named]:
            raise ConfigError(
                f"languages has {', '.join(unused)}, of which there is neither text nor a pair: "
                f"expected some of {', '.join(sorted(named))}"
            )

    def _check_numbers(self) -> None:
        trained = [*self.text.train, *self.pairs.train]
        if strange := sorted(set(self.max_sentences) - set(trained)):
            raise ConfigError(
                f"max_sentences names {', '.join(strange)}: training text is of "
                f"{', '.join(trained) or 'nothing'}"
            )
        numbers: dict[str, int | None] = {
            "max_valid_sentences": self.max_valid_sentences,
            "workers": self.workers,
            "max_bytes": self.max_bytes,
            **{f"max_sentences.{name}": most for name, most in self.max_sentences.items()},
        }
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ConfigError(f"{name} must be at least 1: found {number}")

    @property
    def known(self) -> Languages:
        """Every language that is named, numbered in alphabetical order."""
        named = {*self.languages}
        named |= {language for split in SPLITS for language in getattr(self.text, split)}
        for readings in map(LanguagePair.readings, self._pairs()):
            named |= set(readings[0]) if len(readings) == 1 else set()
        return Languages(named)

    def _pairs(self) -> list[str]:
        return [pair for split in SPLITS for pair in getattr(self.pairs, split)]

    def limit(self, split: str, name: str) -> int | None:
        """How many sentences of a language, or pairs of a pair, are used; None: all."""
        if split == "train":
            return self.max_sentences.get(name)
        return self.max_valid_sentences if split == "valid" else None


def prepare(config: Prepare) -> Corpora:
    """Write ``config.folder`` and open it; what was read and dropped is logged.

    The folder appears whole or not at all. Raises ConfigError where it is taken or settings
    contradict each other, DataError for a source that cannot be read.
    """
    folder = Path(config.folder)
    _check_folder(folder, config.replace)
    with atomic_directory(folder, replace=config.replace) as staging:
        tokenizer = _tokenizer(config)
        tokenizer.save(staging / "tokenizer")
        workers = config.workers or len(os.sched_getaffinity(0))
        for split in SPLITS:
            _binarize_split(config, split, staging / split, tokenizer, workers)
        write_header(staging, tokenizer, config.known)
    return Corpora.open(folder)


def _check_folder(folder: Path, replace: bool) -> None:
    """Refuse early what must not be overwritten; an empty folder may be there."""
    if (folder / DESCRIPTION).exists():
        if not replace:
            raise ConfigError(
                f"{folder} holds a preparation already: give another folder, or replace"
            )
    elif folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            raise ConfigError(
                f"{folder} holds something that is no preparation: give another folder"
            ) from None
    elif folder.exists():
        raise ConfigError(f"{folder} is a file: give the name of a folder")


def _binarize_split(
    config: Prepare, split: str, folder: Path, tokenizer: Tokenizer, workers: int
) -> None:
    for language, source in getattr(config.text, split).items():
        lines, report = _lines(config, split, language, source)
        with _progress(f"{split} {language}") as update:
            binarize(
                lines,
                folder / language,
                language,
                tokenizer,
                num_workers=workers,
                progress=update,
            )
        _account(f"{split} {language}", report)
    for pair, sources in getattr(config.pairs, split).items():
        report = ReadReport()
        pairs = _aligned(config, split, pair, sources, report)
        first, second = config.known.pair(pair)
        with _progress(f"{split} {pair}") as update:
            binarize_pairs(
                pairs,
                folder / pair,
                (first, second),
                tokenizer,
                num_workers=workers,
                progress=update,
            )
        _account(f"{split} {pair}", report)


def _account(what: str, report: ReadReport) -> None:
    """Say what was read; what was dropped is a warning, which a script shows by itself."""
    level = logging.WARNING if report.dropped else logging.INFO
    log.log(level, "%s: %s", what, report.describe())


def _aligned(
    config: Prepare, split: str, pair: str, sources: Sequence[str], report: ReadReport
) -> Iterator[tuple[str, str]]:
    first, second = (_resolve(config, source) for source in sources)
    pairs = open_pairs(first, second, report, invalid=config.invalid, max_bytes=config.max_bytes)
    return islice(pairs, config.limit(split, pair))


def _lines(
    config: Prepare, split: str, language: str, source: str
) -> tuple[Iterator[str], ReadReport]:
    report = ReadReport()
    lines = open_lines(
        _resolve(config, source), report, invalid=config.invalid, max_bytes=config.max_bytes
    )
    limit = config.limit(split, language)
    return islice(lines, limit), report


def _resolve(config: Prepare, source: str) -> str:
    """A source with the root put before a relative path, and ``sample:NAME`` made a path."""
    if source.startswith("sample:"):
        return str(sample.path(source.removeprefix("sample:")))
    if source.startswith("datasets:") or Path(source).is_absolute():
        return source
    return str(Path(config.root) / source)


def _tokenizer(config: Prepare) -> Tokenizer:
    """The tokenizer that the vocabulary settings name, or one learnt on the training text."""
    wanted = config.vocabulary
    given = {n: getattr(wanted, n) for n in ("folder", "model", "codes", "vocab")}
    if len({name for name, path in given.items() if path is not None} - {"vocab"}) > 1:
        raise ConfigError(
            "vocabulary takes one of folder, model, or codes with vocab: found "
            + ", ".join(f"{name} {path}" for name, path in given.items() if path is not None)
        )
    if wanted.folder is not None:
        from xlm.interchange.load import open_tokenizer  # imports torch

        return open_tokenizer(wanted.folder)
    if wanted.model is not None:
        from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(_bytes(wanted.model))
    if wanted.codes is not None or wanted.vocab is not None:
        if wanted.codes is None or wanted.vocab is None:
            raise ConfigError("vocabulary.codes and vocabulary.vocab go together: one is missing")
        from xlm.text.tokenizers.fastbpe import FastBpeTokenizer

        return FastBpeTokenizer(_bytes(wanted.codes), _bytes(wanted.vocab))
    sources = _vocabulary_sources(config)
    if not sources:
        raise ConfigError(
            "no training text to learn a vocabulary from: give text.train or pairs.train, or take "
            "a vocabulary that is there (vocabulary.folder, model, codes)"
        )
    lines = sample_lines(
        sources,
        alpha=wanted.alpha,
        num_draws=wanted.num_draws,
        seed=config.seed,
    )
    log.info("learning a vocabulary of %d (%s)", wanted.size, wanted.kind)
    if wanted.kind == "fastbpe":
        return learn_fastbpe_tokenizer(lines, wanted.size)
    return learn_sentencepiece(lines, wanted.size, kind=wanted.kind)


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _vocabulary_sources(config: Prepare) -> dict[str, list[Callable[[], Iterator[str]]]]:
    """Every language's training text, sides of pairs included, as functions that open it anew."""
    sources: dict[str, list[Callable[[], Iterator[str]]]] = {}
    for language, source in config.text.train.items():
        sources[language] = [partial(_training_lines, config, language, source)]
    for pair, sides in config.pairs.train.items():
        for side, language in enumerate(config.known.pair(pair)):
            # A language's own text says how it is written; its sides of pairs may repeat it.
            if language not in config.text.train:
                opened = partial(_training_side, config, pair, sides, side)
                sources.setdefault(language, []).append(opened)
    return sources


def _training_lines(config: Prepare, language: str, source: str) -> Iterator[str]:
    return _lines(config, "train", language, source)[0]


def _training_side(config: Prepare, pair: str, sources: Sequence[str], side: int) -> Iterator[str]:
    return (row[side] for row in _aligned(config, "train", pair, sources, ReadReport()))


class _progress:
    """A tqdm bar over lines; silent where standard error is no terminal."""

    def __init__(self, what: str) -> None:
        self._bar = tqdm(desc=what, unit=" lines", disable=None, leave=False)

    def __enter__(self) -> Callable[[int], object]:
        update: Callable[[int], object] = self._bar.update
        return update

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """``xlm prepare``: see ``Prepare``."""

    def act(config: Prepare) -> None:
        corpora = prepare(config)
        log.info("%s", corpora.describe())

    run_verb(Prepare, "prepare", act, arguments)


if __name__ == "__main__":
    main()
