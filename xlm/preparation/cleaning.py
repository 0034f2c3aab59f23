"""Training lines that are left out: duplicates, other scripts, unlike lengths, held-out lines.

One pass over the training text decides, before the vocabulary is learned; later passes follow its
decisions. Every line that goes is counted under a reason, with its place and examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from xlm.errors import ConfigError
from xlm.text.duplicates import NearLines, fingerprint
from xlm.text.read_report import Line
from xlm.text.scripts import script_share, scripts_of

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near duplicate"
OTHER_SCRIPT = "another script"
UNLIKE_LENGTHS = "unlike lengths"
EQUAL_SIDES = "equal sides"
HELD_OUT = "held-out text"
REASONS = (
    "", DUPLICATE, NEAR_DUPLICATE, OTHER_SCRIPT, UNLIKE_LENGTHS, EQUAL_SIDES, HELD_OUT,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Training lines and pairs that are left out, each counted; none by default."""

    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Handling of equal (``exact``) or similar (``near``, which needs the extra clean) lines of a
    language, or pairs: only the first of them is kept."""
    similarity: float = 0.8
    """With duplicates ``near``: two lines are duplicates if they share at least this part of their
    character 5-grams (Jaccard)."""
    min_script: float = 0.0
    """Smallest share of a line's letters that must be in the script of its language."""
    scripts: dict[str, list[str]] = field(default_factory=dict)
    """Scripts of a language that differ from its usual one, such as {sr: [Cyrillic, Latin]}."""
    max_length_ratio: float | None = None
    """For pairs: largest ratio of characters between the longer and the shorter side; null: any."""
    equal_sides: Literal["keep", "drop"] = "keep"
    """For pairs: handling of a pair whose sides are the same text."""
    held_out: Literal["count", "drop", "refuse"] = "count"
    """Handling of training lines that occur in held-out text: ``count`` them and warn, ``drop``
    them, or ``refuse`` to continue if more than ``held_out_share`` of a held-out text is in
    training text."""
    held_out_similarity: float | None = None
    """Also find edited copies of held-out lines that share this part of their character 5-grams,
    such as 0.7 (needs the extra clean); null: only lines with the same letters."""
    held_out_share: float = 0.0
    """With held_out ``refuse``: largest share of a held-out text's lines that may be in training
    text."""
    held_out_letters: int = 20
    """Held-out lines with fewer letters are ignored: greetings and titles occur everywhere."""

    def __post_init__(self) -> None:
        for name in ("similarity", "held_out_similarity"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"cleaning.{name} must be in (0, 1]: found {value}")
        for name in ("min_script", "held_out_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"cleaning.{name} must be in [0, 1]: found {getattr(self, name)}")
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise ConfigError(
                f"cleaning.max_length_ratio must be at least 1: found {self.max_length_ratio}"
            )
        if self.held_out_letters < 0:
            raise ConfigError(
                f"cleaning.held_out_letters must be at least 0: found {self.held_out_letters}"
            )

    @property
    def drops(self) -> bool:
        """True if a line may be left out, or the preparation refused."""
        return (
            self.duplicates != "keep"
            or self.min_script > 0
            or self.max_length_ratio is not None
            or self.equal_sides == "drop"
            or self.held_out != "count"
        )

    def scripts_for(self, language: str) -> frozenset[str]:
        """Return the scripts that a language may be written in; ConfigError if none is known."""
        if language in self.scripts:
            return frozenset(script.capitalize() for script in self.scripts[language])
        found = scripts_of(language)
        if found is None:
            raise ConfigError(
                f"cleaning.min_script: the usual script of {language} is unknown: name it, "
                f"such as cleaning.scripts: {{{language}: [Latin]}}"
            )
        return found


class Judge:
    """Decides on the training lines of one source, or the pairs of one pair, in their order."""

    def __init__(
        self,
        cleaning: Cleaning,
        languages: tuple[str, ...],
        is_held_out: Callable[[str, tuple[str, ...]], bool],
    ) -> None:
        """Take ``is_held_out``: True for a place and its texts if they occur in held-out text."""
        self._cleaning = cleaning
        self._is_held_out = is_held_out
        self._seen: set[int] = set()
        self._scripts = [cleaning.scripts_for(own) for own in languages if cleaning.min_script > 0]
        self._near = (
            NearLines(cleaning.similarity, "cleaning.duplicates: near")
            if cleaning.duplicates == "near"
            else None
        )

    def reason(self, place: str, texts: tuple[str, ...]) -> str:
        """Return why a line or a pair is left out; "" if it stays."""
        cleaning = self._cleaning
        for text, scripts in zip(texts, self._scripts, strict=False):
            if script_share(text, scripts) < cleaning.min_script:
                return OTHER_SCRIPT
        if len(texts) == 2:
            if cleaning.equal_sides == "drop" and texts[0] == texts[1]:
                return EQUAL_SIDES
            shorter, longer = sorted(map(len, texts))
            if cleaning.max_length_ratio and longer > cleaning.max_length_ratio * shorter:
                return UNLIKE_LENGTHS
        if self._is_held_out(place, texts) and cleaning.held_out == "drop":
            return HELD_OUT
        return self._duplicate("\n".join(texts))

    def _duplicate(self, text: str) -> str:
        if self._cleaning.duplicates == "keep":
            return ""
        key = fingerprint(text)
        if key in self._seen:
            return DUPLICATE
        self._seen.add(key)
        near = self._near is not None and self._near.find_or_add(text) is not None
        return NEAR_DUPLICATE if near else ""


def follow(lines: Iterable[tuple[Line, ...]], decisions: bytes) -> Iterator[tuple[Line, ...]]:
    """Return lines, or pairs of lines, with the reasons that were decided for those kept so far."""
    decided = iter(decisions)
    for sides in lines:
        if not any(side.reason for side in sides):
            reason = REASONS[next(decided, 0)]
            if reason:
                sides = tuple(Line(side.text, reason, side.place) for side in sides)
        yield sides
