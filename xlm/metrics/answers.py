"""Exact match and F1 of extractive answers, by the official scorers' rules.

``squad1`` is SQuAD v1.1's scorer (XQuAD uses it for every language), ``squad2`` v2.0's, which has
questions without an answer, ``mlqa`` MLQA's, which has rules for its seven languages.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores

Rules = Literal["squad1", "squad2", "mlqa"]

_ASCII_MARKS = frozenset(string.punctuation)
_ENGLISH = re.compile(r"\b(?:a|an|the)\b")
_HAN = re.compile("([\u4e00-\u9fa5])")
_ARTICLES: dict[str, re.Pattern[str] | None] = {
    "en": _ENGLISH,
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "ar": re.compile("ال"),  # anywhere in a word: the official pattern has no effective boundary
    "hi": None,
    "zh": None,
}
MLQA_LANGUAGES = tuple(sorted(_ARTICLES))
"""The languages that MLQA's scorer has rules for."""


def normalize_answer(text: str, rules: Rules = "squad1", language: str = "en") -> str:
    """Return ``text`` as the scorer compares it: tokens with one space between them.

    The text is lowercased and loses its punctuation (ASCII's; for MLQA every character of a Unicode
    category P too) and its articles (English ones in any language; for MLQA those of ``language``);
    whitespace is squeezed. MLQA splits Chinese characters (U+4E00 to U+9FA5) from everything.
    Raises ConfigError for unknown rules and, with ``mlqa``, for a language other than its seven.
    """
    if rules not in get_args(Rules):
        raise ConfigError(f"rules {rules!r}: expected one of {', '.join(get_args(Rules))}")
    if rules == "mlqa" and language not in _ARTICLES:
        raise ConfigError(
            f"MLQA's scorer has no rules for {language!r}: expected one of "
            f"{', '.join(MLQA_LANGUAGES)}; squad1 scores any language"
        )
    every_mark = rules == "mlqa"
    text = "".join(c for c in text.lower() if not _is_mark(c, every_mark))
    articles = _ARTICLES[language] if rules == "mlqa" else _ENGLISH
    if articles is not None:
        text = articles.sub(" ", text)
    if rules == "mlqa" and language == "zh":
        text = _HAN.sub(r" \1 ", text)
    return " ".join(text.split())


def _is_mark(character: str, every_mark: bool) -> bool:
    if character in _ASCII_MARKS:
        return True
    return every_mark and unicodedata.category(character).startswith("P")


def answer_scores(
    prediction: str, golds: Sequence[str], rules: Rules = "squad1", language: str = "en"
) -> Scores:
    """Return one question's sums: ``questions``, ``exact`` and ``f1``, best over the gold answers.

    F1 compares bags of tokens. ``squad2`` leaves out gold answers that normalize to nothing; if
    none is left, the question has no answer, and only an empty prediction is right. It also keeps
    sums by kind of question (``answerable.exact``, ``unanswerable.f1`` ...). The other rules take
    the gold answers as they are. Raises DataError if there is no gold answer, except with
    ``squad2``, for which an empty list means that the question has none.
    """
    found = normalize_answer(prediction, rules, language)
    true = [normalize_answer(gold, rules, language) for gold in golds]
    if rules == "squad2":
        true = [gold for gold in true if gold] or [""]
    elif not true:
        raise DataError(
            "a question has no gold answer: expected at least one; rules squad2 allows such "
            "questions"
        )
    best = {
        "exact": float(found in true),
        "f1": max(_token_f1(found.split(), gold.split(), rules) for gold in true),
    }
    sums = {"questions": 1.0, **best}
    if rules == "squad2":
        kind = "answerable" if golds else "unanswerable"
        sums.update({f"{kind}.{name}": value for name, value in sums.items()})
    return Scores(sums)


def _token_f1(found: list[str], true: list[str], rules: Rules) -> float:
    if rules == "squad2" and not (found and true):
        return float(found == true)
    common = sum((Counter(found) & Counter(true)).values())
    # SQuAD v1.1 and MLQA: no common token is 0, even if both sides are empty
    return 2 * common / (len(found) + len(true)) if common else 0.0


def answer_figures(scores: Mapping[str, float]) -> dict[str, float]:
    """Return exact match and F1 (0 to 1, not percent), for squad2 by kind of question too."""
    figures: dict[str, float] = {}
    for prefix in ("", "answerable.", "unanswerable."):
        num = scores.get(f"{prefix}questions", 0.0)
        if num:
            figures[f"{prefix}exact"] = scores[f"{prefix}exact"] / num
            figures[f"{prefix}f1"] = scores[f"{prefix}f1"] / num
            figures[f"{prefix}questions"] = num
    return figures
