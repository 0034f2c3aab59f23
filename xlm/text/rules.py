"""Rules of normalization by language, on top of the one normal form that every text has.

    normal form --punctuation--> --Indic signs--> --words--> --lowercase, accents--> normal form

All are off unless a recipe asks for them. They are kept with the tokenizer, so that everything that
later reads text with a model applies the same ones.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from xlm.errors import ConfigError, DataError
from xlm.text.normalize import normalize
from xlm.text.words import INDIC_LANGUAGES, base_language, missing_package, word_splitter

Indic = Literal["keep", "canonical", "indic-nlp"]
Words = Literal["none", "auto", "moses", "indic", "rjieba", "pythainlp", "fugashi"]

ANY = "*"
"""Stands for every language that has no rules of its own."""

_JOINER = "[\u200c\u200d]"
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
_JOINERS = re.compile(f"{_JOINER}+")
_VOWEL_SIGNS = "\u093a\u093b\u093e-\u094c\u094e\u094f\u0955-\u0957\u0962\u0963"
_LATE_NUKTA = re.compile(f"([{_VOWEL_SIGNS}\u0901-\u0903]+)(\u093c+)")
_NUKTAS = re.compile("\u093c{2,}")
_BAR = re.compile("(?<=[\u0900-\u0963\u0966-\u097f])( ?)[|](?= |$)")


_MARKS = (
    (0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F),
)  # fmt: skip
"""The blocks of combining marks that belong to no script."""
_ACCENTS = {code: None for first, last in _MARKS for code in range(first, last + 1)}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Normalization of one language's text beyond the normal form; nothing by default."""

    punctuation: bool = False
    """Replace quotes, dashes and ellipses by plain ones, by sacremoses (needs the extra words)."""
    indic: Indic = "keep"
    """``canonical``: keep joiners only next to a virama and one at a time, put a nukta before the
    vowel sign, and turn ``|`` at the end of a sentence into a danda; no letter or vowel sign is
    lost. ``indic-nlp``: that library's normalizer (the extra indic), which deletes all joiners and
    reads ``:`` as visarga."""
    words: Words = "none"
    """Separate words and punctuation by spaces: ``auto`` by language (rjieba for zh, pythainlp for
    th, fugashi for ja, indic for Indic languages, else moses), or one of them."""
    lowercase: bool = False
    """Lowercase the text, as XLM's models of 15 languages do."""
    strip_accents: bool = False
    """Remove accents of Latin, Greek and Cyrillic letters, as those models do; signs of other
    scripts, such as Devanagari vowel signs, which the original deletes, are kept."""

    def __post_init__(self) -> None:
        choices = {"indic": get_args(Indic), "words": get_args(Words)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}: expected one of {', '.join(known)}"
                )

    @property
    def active(self) -> bool:
        """True if any rule is asked for."""
        return self != Rules()


RulesByLanguage = Mapping[str, Rules]
"""The rules of each language; ``*`` for those that are not named."""


def rules_of(rules: RulesByLanguage, language: str | None) -> Rules:
    """Return the rules of ``language``; those of ``*`` if it has none of its own or is not known.

    Raises ConfigError if the language is not known and languages differ: nobody can tell which
    rules were meant.
    """
    if language and language in rules:
        return rules[language]
    if not language and len(set(rules.values()) | {rules.get(ANY, Rules())}) > 1:
        raise ConfigError(
            f"the model's text was normalized by language ({', '.join(sorted(rules))}): name the "
            "language of the text"
        )
    return rules.get(ANY, Rules())


def normalize_by(rules: RulesByLanguage, text: str, language: str | None) -> str:
    """Return ``text`` in the normal form, with the rules of ``language``; see ``rules_of``."""
    text = normalize(text)
    return text if not rules else apply_rules(rules_of(rules, language), text, language or "")


def apply_rules(rules: Rules, text: str, language: str) -> str:
    """Return normalized ``text`` with the rules of a language applied.

    Applying the same rules again changes nothing, words aside: a splitter reads its own output as
    text. Raises ConfigError for a package that is not installed, with the extra that has it, and
    for a language that a package does not know.
    """
    if not rules.active:
        return text
    if rules.punctuation:
        text = punctuation_normalizer(base_language(language))(text)
    if rules.indic == "canonical":
        text = canonical_indic(text)
    elif rules.indic == "indic-nlp":
        text = indic_normalizer(base_language(language))(text)
    if rules.words != "none":
        text = word_splitter(rules.words, language)(normalize(text))
    if rules.lowercase:
        text = unicodedata.normalize("NFC", text.lower())
    if rules.strip_accents:
        text = strip_accents(text)
    return normalize(text)


def strip_accents(text: str) -> str:
    """Return ``text`` without the accents of Latin, Greek and Cyrillic letters.

    Combining marks of the Unicode blocks for diacritics go (U+0300 to U+036F and their extensions).
    Marks that belong to a script stay, regardless of their category: vowel signs and viramas of
    Indic scripts, harakat, Thai vowels and tones, the voicing marks of kana.
    """
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", decomposed.translate(_ACCENTS))


def canonical_indic(text: str) -> str:
    """Return Indic text with one spelling for sequences that look the same; see ``Rules.indic``.

    Joiners stay where Unicode gives them a meaning in these scripts: after a virama (a half form,
    or no ligature) and before one (Unicode standard, chapter 12). No letter or sign is lost.
    """
    if "\u093c" in text:
        text = _LATE_NUKTA.sub(r"\2\1", text)
        text = _NUKTAS.sub("\u093c", text)
    text = _JOINERS.sub(_meaningful_joiner, text)
    return _BAR.sub("\\1\u0964", text)


def _meaningful_joiner(found: re.Match[str]) -> str:
    text, start, end = found.string, found.start(), found.end()
    before = text[start - 1] if start else ""
    after = text[end] if end < len(text) else ""
    is_indic = "\u0900" <= (before or after) <= "\u0dff"
    if not is_indic:
        return found.group()  # Persian, emoji: not this rule's affair
    return found.group()[0] if before in _VIRAMA or (after and after in _VIRAMA) else ""


@lru_cache(maxsize=64)
def punctuation_normalizer(language: str) -> Callable[[str], str]:
    """Return sacremoses's normalizer of punctuation; English rules for languages without any."""
    try:
        from sacremoses import MosesPunctNormalizer
    except ImportError:
        raise missing_package("punctuation: true", "sacremoses", "words") from None
    normalizer = MosesPunctNormalizer(language or "en")
    return lambda text: str(normalizer.normalize(text))


@lru_cache(maxsize=64)
def indic_normalizer(language: str) -> Callable[[str], str]:
    """Return indic-nlp-library's normalizer of a language."""
    if language not in INDIC_LANGUAGES:
        raise ConfigError(
            f"indic-nlp normalizes {', '.join(sorted(INDIC_LANGUAGES))}: found the language "
            f"{language!r}; use indic: canonical or keep for it"
        )
    try:
        from indicnlp.normalize.indic_normalize import IndicNormalizerFactory
    except ImportError:
        raise missing_package("indic: indic-nlp", "indic-nlp-library", "indic") from None
    normalizer = IndicNormalizerFactory().get_normalizer(language)
    return lambda text: str(normalizer.normalize(text))


def as_json(rules: RulesByLanguage) -> dict[str, dict[str, Any]]:
    """Return the rules that differ from the default, by language and name."""
    return {
        language: {
            name: value for name, value in dataclasses.asdict(own).items()
            if value != getattr(Rules(), name)
        }
        for language, own in sorted(rules.items())
        if own.active
    }  # fmt: skip


def from_json(content: Any, where: str) -> dict[str, Rules]:
    """Return the rules that ``as_json`` wrote; raise DataError naming ``where`` if invalid."""
    try:
        return {str(language): Rules(**own) for language, own in dict(content).items()}
    except (TypeError, ValueError, ConfigError) as error:
        raise DataError(
            f"{where}: this version does not know its normalization ({error})"
        ) from None
