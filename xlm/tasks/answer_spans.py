"""Extractive answers: windows over long texts, the best span of them, and the official scorers.

    text of n subwords --windows--> start, end logits each --best_answer--> span --answer_scores-->

``squad1`` is SQuAD v1.1's scorer (XQuAD uses it for every language), ``squad2`` v2.0's, which knows
questions without an answer, ``mlqa`` MLQA's, which knows its seven languages.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.errors import ConfigError, DataError, TrainingError
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
    """``text`` as the scorer compares it: tokens with one space between them.

    Lower case, without punctuation (ASCII's; MLQA: also every character of a Unicode category P),
    without articles (English ones, whatever the language; MLQA: those of ``language``), white space
    squeezed. MLQA parts Chinese characters (U+4E00 to U+9FA5) from everything. Raises ConfigError
    for rules that there are not and, with ``mlqa``, for a language that is none of its seven.
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
    """What one question adds: ``questions``, ``exact`` and ``f1``, the best over the gold answers.

    F1 is of bags of tokens. ``squad2``: gold answers that normalize to nothing are left out; where
    none is left the question has no answer, and only an empty prediction is right; sums of
    both kinds of questions are kept apart too (``answerable.exact``, ``unanswerable.f1`` ...).
    The others take the gold answers as they come. Raises DataError where there is no gold answer
    (``squad2``: an empty list says that the question has none).
    """
    found = normalize_answer(prediction, rules, language)
    true = [normalize_answer(gold, rules, language) for gold in golds]
    if rules == "squad2":
        true = [gold for gold in true if gold] or [""]
    elif not true:
        raise DataError(
            "a question without a gold answer: expected at least one; rules squad2 know such ones"
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
    # SQuAD v1.1 and MLQA: no common token is 0, even where both sides are empty
    return 2 * common / (len(found) + len(true)) if common else 0.0


def answer_figures(scores: Mapping[str, float]) -> dict[str, float]:
    """Exact match and F1, 0 to 1 (official scripts print percent), and for squad2 by kind."""
    figures: dict[str, float] = {}
    for prefix in ("", "answerable.", "unanswerable."):
        num = scores.get(f"{prefix}questions", 0.0)
        if num:
            figures[f"{prefix}exact"] = scores[f"{prefix}exact"] / num
            figures[f"{prefix}f1"] = scores[f"{prefix}f1"] / num
            figures[f"{prefix}questions"] = num
    return figures


class Window(NamedTuple):
    """A stretch of a text's subwords that the model reads at once."""

    first: int
    length: int


def windows(num_subwords: int, room: int, stride: int) -> list[Window]:
    """Stretches of at most ``room`` subwords that begin ``stride`` apart and cover the text.

    The last ends with the text. A text of no subwords has one empty window. Raises ConfigError for
    a stride that is not between 1 and ``room`` (a larger one would skip subwords).
    """
    if not 1 <= stride <= room:
        raise ConfigError(f"stride {stride}: expected 1 to {room}, the room for text in a window")
    stretches = [Window(0, min(room, num_subwords))]
    while stretches[-1].first + stretches[-1].length < num_subwords:
        first = stretches[-1].first + stride
        stretches.append(Window(first, min(room, num_subwords - first)))
    return stretches


def best_windows(stretches: Sequence[Window], num_subwords: int) -> NDArray[np.int64]:
    """For each subword ``[n]`` the window that gives it the most context; -1 where none has it.

    BERT's rule: the smaller of what stands on either side, plus 0.01 of the window's length; the
    earlier window where that is equal.
    """
    best = np.full(num_subwords, -np.inf)
    owner = np.full(num_subwords, -1, dtype=np.int64)
    for index, (first, length) in enumerate(stretches):
        place = np.arange(length)
        context = np.minimum(place, length - 1 - place) + 0.01 * length
        own = slice(first, first + length)
        better = context > best[own]
        best[own] = np.where(better, context, best[own])
        owner[own] = np.where(better, index, owner[own])
    return owner


@dataclass(frozen=True, slots=True)
class Answer:
    """The best span over all windows of one text."""

    score: float
    """Sum of its start and end logits; -inf where no span was possible."""
    first: int
    """The first subword, counted in the text; -1 where no span was possible."""
    last: int
    """The last subword, included."""
    null_score: float
    """The score of having no answer: the least over the windows; -inf where none was given."""

    def is_null(self, threshold: float = 0.0) -> bool:
        """SQuAD v2's rule: no answer where its score leads by more than ``threshold``."""
        return self.first < 0 or self.null_score - self.score > threshold


def best_answer(
    starts: Sequence[ArrayLike],
    ends: Sequence[ArrayLike],
    stretches: Sequence[Window],
    *,
    max_length: int = 30,
    null_scores: Sequence[float] = (),
    most_context: bool = True,
) -> Answer:
    """The span with the greatest start + end logit, of at most ``max_length`` subwords.

    ``starts[w]``, ``ends[w]`` float ``[length]`` are the logits of window w's subwords of the text
    (not those of the question or of special tokens). A span lies in one window; with
    ``most_context`` it begins where that window is the best for its first subword, as in BERT's
    script. ``null_scores`` ``[windows]`` are the logits of having no answer (start + end at the
    first token). Of equal spans the earliest, and the shorter, wins. Raises ConfigError for a
    ``max_length`` below 1, DataError where lengths differ, TrainingError for NaN.
    """
    if max_length < 1:
        raise ConfigError(f"max_length must be at least 1: found {max_length}")
    if not len(starts) == len(ends) == len(stretches) or len(null_scores) not in (
        0,
        len(stretches),
    ):
        raise DataError(
            f"logits of {len(starts)} starts, {len(ends)} ends and {len(null_scores)} nulls for "
            f"{len(stretches)} windows: expected one of each for each window"
        )
    num_subwords = max((first + length for first, length in stretches), default=0)
    owner = best_windows(stretches, num_subwords)
    best = (-np.inf, -1, -1)
    for index, window in enumerate(stretches):
        start, end = _logits(starts[index], window), _logits(ends[index], window)
        if most_context:
            own = owner[window.first : window.first + window.length] == index
            start = np.where(own, start, -np.inf)
        score, first, last = _best_span(start, end, max_length)
        found = (score, window.first + first, window.first + last)
        if first >= 0 and (score, -found[1], -found[2]) > (best[0], -best[1], -best[2]):
            best = found
    null = float(min(null_scores)) if len(null_scores) else float("-inf")
    if np.isnan(null):
        raise TrainingError("the score of no answer is NaN: the model diverged; lower its rate")
    return Answer(float(best[0]), best[1], best[2], null)


def _logits(values: ArrayLike, window: Window) -> NDArray[np.float64]:
    logits = np.asarray(values, dtype=np.float64)
    if logits.shape != (window.length,):
        raise DataError(f"{logits.size} logits for a window of {window.length} subwords")
    if np.isnan(logits).any():
        raise TrainingError("logits of answers hold NaN: the model diverged; lower its rate")
    return logits


def _best_span(
    start: NDArray[np.float64], end: NDArray[np.float64], max_length: int
) -> tuple[float, int, int]:
    """Score, first and last of the best span; -1 where all are -inf."""
    num = len(start)
    most = min(max_length, num)
    sums = np.full((num, most), -np.inf)
    for more in range(most):
        sums[: num - more, more] = start[: num - more] + end[more:]
    if not sums.size or np.isneginf(sums.max()):
        return -np.inf, -1, -1
    first, more = divmod(int(sums.argmax()), most)
    return float(sums[first, more]), first, first + more


def best_threshold(
    leads: ArrayLike, scores: ArrayLike, answerable: Sequence[bool]
) -> tuple[float, float]:
    """The threshold for ``Answer.is_null`` under which the mean score is greatest, and that mean.

    For n questions, all float ``[n]``: ``leads`` are null score - score, ``scores`` what the best
    span scores where it is given (exact or F1), ``answerable`` which questions have an answer; a
    span given to one that has none scores 0, no answer 1. As SQuAD v2's script searches, but
    questions of equal lead stand or fall together. -inf: answer nothing. Raises DataError where
    lengths differ or there is no question.
    """
    lead = np.asarray(leads, dtype=np.float64)
    score = np.asarray(scores, dtype=np.float64)
    has = np.asarray(answerable, dtype=bool)
    if not len(lead) == len(score) == len(has) or not len(lead):
        raise DataError(
            f"{len(lead)} leads, {len(score)} scores for {len(has)} questions: expected one of "
            "each for each question, and at least one"
        )
    order = np.argsort(lead, kind="stable")
    gains = np.where(has, score, -1.0)[order].cumsum()  # of answering the questions so far
    last = np.append(np.diff(lead[order]) != 0, True)
    base = float(np.count_nonzero(~has))
    totals = base + gains[last]
    best = int(totals.argmax())
    if totals[best] <= base:
        return float("-inf"), base / len(lead)
    return float(lead[order][last][best]), float(totals[best]) / len(lead)
