"""Shares of lines by language, which add-one models of character trigrams recognize.

A model a language is fitted on text of it; a line is in the language under which it is likeliest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BORDER = "\0"


@dataclass(frozen=True)
class LanguageShares:
    """The languages of the lines that hold text."""

    in_target: float | None
    """Share in the language asked for; None if no line holds text, or only one language
    is known."""
    wrong: str | None
    """The commonest other language; None if there is none."""
    in_wrong: float
    """Share of the lines in ``wrong``."""


class Trigrams:
    """Models of character trigrams of several languages."""

    def __init__(self, texts: Mapping[str, Iterable[str]]) -> None:
        self._counts = {
            language: Counter(own for line in lines for own in _trigrams(line))
            for language, lines in texts.items()
        }
        num_kinds = len(set().union(*self._counts.values())) + 1
        self._totals = {
            language: math.log(own.total() + num_kinds) for language, own in self._counts.items()
        }

    def likeliest(self, line: str) -> str:
        """Return the language of a line; the first of those that are equally likely."""
        found = Counter(_trigrams(line))

        def nats(language: str) -> float:
            counts, total = self._counts[language], self._totals[language]
            return sum(num * (total - math.log(counts[own] + 1)) for own, num in found.items())

        return min(self._counts, key=nats)

    def shares(self, lines: Sequence[str], target: str) -> LanguageShares:
        """Return the share of the lines with text that are in ``target``, and in a wrong one."""
        spoken = [line for line in lines if line.split()]
        if not spoken or len(self._counts) < 2:
            return LanguageShares(None, None, 0.0)
        found = Counter(map(self.likeliest, spoken))
        right = found.pop(target, 0)
        wrong, num = found.most_common(1)[0] if found else (None, 0)
        return LanguageShares(right / len(spoken), wrong, num / len(spoken))


def _trigrams(line: str) -> Iterable[str]:
    text = f"{BORDER}{' '.join(line.split())}{BORDER}"
    return (text[at : at + 3] for at in range(len(text) - 2))
