"""``Prepare``: which text becomes corpora, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from xlm.errors import ConfigError
from xlm.languages import LanguagePair, Languages
from xlm.preparation.cleaning import Cleaning
from xlm.text.rules import ANY, Rules

LEAST_COVERAGE = 0.98
"""SentencePiece takes no less."""
LARGEST = 1 << 31
"""Largest size of a vocabulary: ids are 32 bits wide."""
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The sources of each language's text.

    A source is a file of one sentence a line (plain, .gz, .zst, .bz2, .xz), a folder or pattern of
    files, a file with columns (``corpus.jsonl?column=text``, also .parquet, .tsv, .csv),
    ``datasets:NAME?split=train`` for anything Hugging Face datasets reads, or ``sample:NAME`` for
    the corpus that ships with xlm.
    """

    train: dict[str, str | list[str]] = field(default_factory=dict)
    """Training text: a source per language, or several, read one after the other."""
    valid: dict[str, str | list[str]] = field(default_factory=dict)
    """Held-out text that a run is evaluated on while it trains."""
    test: dict[str, str | list[str]] = field(default_factory=dict)
    """Held-out text for the final evaluation."""

    def sources(self, split: str, language: str) -> list[str]:
        """Return the sources of a language in a split."""
        found = getattr(self, split)[language]
        return [found] if isinstance(found, str) else list(found)


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """The sources of aligned sentences: two a pair, line i with line i, or one with both sides.

    One source is a TMX file, a table of two columns, ``pairs.jsonl?columns=FIRST,SECOND`` (also
    .parquet), or a folder or name of files ``NAME.en`` and ``NAME.ne``, as Moses and OPUS have.
    """

    train: dict[str, list[str]] = field(default_factory=dict)
    """Training pairs, such as {en-ne: [train.en, train.ne]} or {en-ne: [OPUS/Tatoeba]}."""
    valid: dict[str, list[str]] = field(default_factory=dict)
    """Held-out pairs for evaluation while training."""
    test: dict[str, list[str]] = field(default_factory=dict)
    """Held-out pairs for the final evaluation."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The shared subword vocabulary: learned, or taken from elsewhere."""

    kind: Literal["unigram", "bpe", "fastbpe", "wordpiece"] = "unigram"
    """SentencePiece unigram or BPE (with byte fallback), fastBPE codes, or BERT's WordPiece,
    cased, in BERT's layout of rows."""
    size: int = 8000
    """Entries, special symbols included (fastbpe: number of merges)."""
    alpha: float = 0.5
    """Draw sentences with q ~ p**alpha, where p are the languages' shares of sentences (XLM section
    3.1)."""
    per: Literal["language", "pair"] = "language"
    """Texts that alpha weighs. pair: each pair of languages with both sides together (and the text
    of languages without a pair), as MMTE does; language: each language with all its sides
    together."""
    num_draws: int = 1_000_000
    """Number of sentences drawn; if there are fewer, all languages' numbers are scaled down
    alike."""
    character_coverage: float = 1.0
    """For unigram and bpe: share of the text's characters that get their own entry; the rarest
    others are written as bytes. 0.9995 is usual for Chinese and Japanese."""
    language_tokens: bool | list[str] = False
    """Add a special token for each prepared language (true), or for the listed ones, after all
    other entries: layouts of translation need them. Also works with the tokenizer of folder."""
    begins: bool = False
    """For unigram and bpe: begin sentences with <s>, as XLM-R and BERT do, instead of </s>, as XLM
    does."""
    num_separators: int = 1
    """For unigram and bpe: end symbols between the sentences of a merged pair (XLM-R: 2)."""
    begins_again: bool = False
    """For unigram and bpe: also open the second sentence of a merged pair with the begin symbol."""
    folder: str | None = None
    """Use an existing tokenizer instead of learning one: that of prepared text, a model directory,
    a run's folder, or anything else that xlm.load takes."""
    codes: str | None = None
    """Existing fastBPE codes (together with vocab)."""
    vocab: str | None = None
    """Existing fastBPE vocabulary, with `token count` on each line."""
    model: str | None = None
    """Existing SentencePiece model; begins, num_separators and begins_again apply to it."""

    def __post_init__(self) -> None:
        if not 1 <= self.size < LARGEST:
            raise ConfigError(f"size must be from 1 to {LARGEST - 1:,}: found {self.size}")
        if self.num_draws < 1:
            raise ConfigError(f"num_draws must be at least 1: found {self.num_draws}")
        if not 0 <= self.alpha <= 100:
            raise ConfigError(f"alpha must be from 0 to 100: found {self.alpha}")
        if not LEAST_COVERAGE <= self.character_coverage <= 1:
            raise ConfigError(
                f"character_coverage must be from {LEAST_COVERAGE} to 1: found "
                f"{self.character_coverage}"
            )
        if self.num_separators < 1:
            raise ConfigError(f"num_separators must be at least 1: found {self.num_separators}")
        own = {"fastbpe": "XLM's", "wordpiece": "BERT's"}.get(self.kind)
        if own and self.layout != Vocabulary().layout:
            raise ConfigError(
                "begins, num_separators and begins_again only apply to unigram and bpe: leave "
                f"them out ({self.kind} always has {own} symbols)"
            )
        if own and self.character_coverage != 1:
            raise ConfigError(
                f"character_coverage is {self.character_coverage}, but it only applies to "
                f"unigram and bpe, and kind is {self.kind}: leave it out"
            )

    @property
    def layout(self) -> dict[str, int]:
        """The layout of rows that a SentencePiece vocabulary is learned with."""
        return {
            "begins": int(self.begins),
            "num_separators": self.num_separators,
            "begins_again": int(self.begins_again),
        }


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
    """Names of languages, such as [en, zh-Hans]: only needed for an ambiguous pair, such as
    en-zh-Hans, if one of its languages has no text."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    """The shared subword vocabulary."""
    normalization: dict[str, Rules] = field(default_factory=dict)
    """Normalization by language, in addition to the common normal form; "*" stands for all other
    languages. It is saved with the tokenizer, so that a model reads later text in the same way."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    """Rules that leave training lines out, and find held-out text in training text."""
    root: str = "."
    """Folder that relative sources start from."""
    max_sentences: dict[str, int] = field(default_factory=dict)
    """Use only the first training sentences of a language (or pairs of a pair), up to this
    number."""
    max_valid_sentences: int | None = None
    """Use only the first sentences of each validation text, up to this number, since it is read
    often."""
    invalid: Literal["error", "drop"] = "error"
    """Handling of a line that is not UTF-8: stop, or drop and count it."""
    max_bytes: int = 1 << 20
    """Drop and count longer lines."""
    workers: int | None = None
    """Number of tokenizing processes; null: one per core."""
    seed: int = 0
    """The seed of the draw of sentences that the vocabulary is learned on."""
    replace: bool = False
    """Replace an existing preparation."""
    part: str | None = None
    """Make the share k of n, such as 3/16, and end: other processes or machines make the others.
    First the text is read; when a `join` has learned the vocabulary, the same call tokenizes."""
    join: bool = False
    """Do the next step that needs one process, when all parts are there: learn the vocabulary, or
    write the folder."""

    def __post_init__(self) -> None:
        if not any(getattr(part, s) for part in (self.text, self.pairs) for s in SPLITS):
            raise ConfigError(
                "there is nothing to prepare: give text.train or pairs.train at least one source"
            )
        for split in SPLITS:
            for language in getattr(self.text, split):
                if not self.text.sources(split, language):
                    raise ConfigError(f"text.{split}.{language} is empty: expected a source")
            for pair, sources in getattr(self.pairs, split).items():
                if not LanguagePair.readings(pair) or len(sources) not in (1, 2):
                    raise ConfigError(
                        f"pairs.{split}.{pair}: expected two languages such as en-hi, with "
                        f"two sources or one that holds both sides; found {sources}"
                    )
                if any(one == two for one, two in LanguagePair.readings(pair)):
                    raise ConfigError(f"pairs.{split}.{pair}: a pair needs two different languages")
        self._check_languages()
        if strange := sorted(set(self.normalization) - {*self.known, ANY}):
            raise ConfigError(
                f"normalization names {', '.join(strange)}: expected some of "
                f"{', '.join(self.known)}, or {ANY!r} for all others"
            )
        self._check_numbers()
        if self.part is not None:
            if self.join:
                raise ConfigError(f"part is {self.part} and join true: give one of the two")
            self.share  # noqa: B018

    @property
    def share(self) -> tuple[int, int]:
        """The number of this part, from 0, and that of all parts."""
        number, _, total = (self.part or "1/1").partition("/")
        if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
            raise ConfigError(
                f"part must be k/n with k from 1 to n, such as 3/16: found {self.part}"
            )
        return int(number) - 1, int(total)

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
                f"languages has {', '.join(unused)}, for which there is neither text nor a "
                f"pair: expected some of {', '.join(sorted(named))}"
            )

    def _check_numbers(self) -> None:
        trained = [*self.text.train, *self.pairs.train]
        if strange := sorted(set(self.max_sentences) - set(trained)):
            raise ConfigError(
                f"max_sentences names {', '.join(strange)}, but there is training text only "
                f"for {', '.join(trained) or 'nothing'}"
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

    def names(self, split: str) -> list[str]:
        """Return the languages, then the pairs, that a split has sources of."""
        return [*getattr(self.text, split), *getattr(self.pairs, split)]

    def languages_of(self, name: str) -> tuple[str, ...]:
        """Return the one language that text goes under, or the two of a pair."""
        if any(name in getattr(self.text, split) for split in SPLITS):
            return (name,)
        return tuple(self.known.pair(name))

    def _pairs(self) -> list[str]:
        return [pair for split in SPLITS for pair in getattr(self.pairs, split)]

    def limit(self, split: str, name: str) -> int | None:
        """Return the largest number of sentences of a language, or pairs of a pair; None: all."""
        if split == "train":
            return self.max_sentences.get(name)
        return self.max_valid_sentences if split == "valid" else None
