"""Held-out lines that occur in training text, exactly or edited: a leak inflates every figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlm.preparation.cleaning import Cleaning
from xlm.text.duplicates import NearLines, fingerprint, letters

Met = tuple[int, int, str, str, str]
"""Number of a held-out text and of its line, ``exact`` or ``edited``, both places, the line."""

MAX_EXAMPLES = 5
_MAX_TEXT = 160


@dataclass
class HeldOutText:
    """One held-out text and which of its lines were met in training text."""

    name: str
    """Such as ``valid ne``, or ``test en-ne (ne)`` for a side of pairs."""
    num_lines: int = 0
    """Lines with enough letters to be looked for."""
    num_short: int = 0
    """Lines with fewer."""
    exact: set[int] = field(default_factory=set)
    """Numbers of the lines whose letters occur in training text."""
    edited: set[int] = field(default_factory=set)
    """Numbers of the lines near which a training line is, those of ``exact`` apart."""
    examples: list[str] = field(default_factory=list)
    """``held-out place ~ training place: text`` of the first that were met."""

    @property
    def share(self) -> float:
        """Share of the lines that occur in training text, exactly or edited."""
        return len(self.exact | self.edited) / self.num_lines if self.num_lines else 0.0

    def describe(self) -> str:
        """Return one line for a person."""
        edited = len(self.edited - self.exact)
        return (
            f"{self.name}: {len(self.exact | self.edited):,} of {self.num_lines:,} lines "
            f"({self.share:.2%}) stand in training text, {len(self.exact):,} with the same "
            f"letters, {edited:,} edited; first {self.examples[0] if self.examples else 'none'}"
        )


class HeldOutLines:
    """All held-out lines of a preparation; training lines are looked up in them."""

    def __init__(self, cleaning: Cleaning) -> None:
        self.texts: list[HeldOutText] = []
        self.num_found: dict[str, int] = {}
        """Number of lines or pairs of each training source that occur in held-out text."""
        self._min_letters = cleaning.held_out_letters
        self.met: list[Met] = []
        """Each held-out line that was met, the first time that it was, in the order of reading."""
        self._lines: dict[int, list[tuple[int, int, str]]] = {}
        similarity = cleaning.held_out_similarity
        self._near = None
        if similarity is not None:
            self._near = NearLines(similarity, "cleaning.held_out_similarity")
        self._near_keys: list[int] = []

    def add(self, name: str, lines: Iterable[tuple[str, str]]) -> None:
        """Add a held-out text: each line's place and its normalized text."""
        text = HeldOutText(name)
        self.texts.append(text)
        for number, (place, line) in enumerate(lines):
            key = letters(line)
            if len(key) < self._min_letters:
                text.num_short += 1
                continue
            text.num_lines += 1
            known = self._lines.setdefault(fingerprint(key), [])
            if not known and self._near is not None:
                self._near.add(key)
                self._near_keys.append(fingerprint(key))
            known.append((len(self.texts) - 1, number, place))

    def look(self, source: str, place: str, texts: tuple[str, ...]) -> bool:
        """Return whether a training line, or a side of a pair, occurs in held-out text; count it.

        ``source`` is the training source it is counted for.
        """
        found = [self._find(place, text) for text in texts]  # every side, for the counts
        if any(found):
            self.num_found[source] = self.num_found.get(source, 0) + 1
        return any(found)

    def _find(self, place: str, line: str) -> bool:
        key = letters(line)
        if len(key) < self._min_letters and self._near is None:
            return False
        exact = self._lines.get(fingerprint(key))
        if exact is not None:
            self._mark(exact, place, line, "exact")
            return True
        near = self._near.find(key) if self._near is not None else None
        if near is None:
            return False
        self._mark(self._lines[self._near_keys[near]], place, line, "edited")
        return True

    def _mark(self, found: list[tuple[int, int, str]], place: str, line: str, how: str) -> None:
        for text, number, held_out_place in found:
            self._meet((text, number, how, f"{held_out_place} ~ {place}", line[:_MAX_TEXT]))

    def _meet(self, met: Met) -> None:
        at, number, how, places, line = met
        text = self.texts[at]
        marked = text.exact if how == "exact" else text.edited
        if number in marked:
            return
        self.met.append(met)
        if len(text.examples) < MAX_EXAMPLES:
            text.examples.append(f"{places} ({how}): {line}")
        marked.add(number)

    def add_found(self, met: Iterable[Sequence[Any]], num_found: Mapping[str, int]) -> None:
        """Add what was met and counted while other training text was looked up."""
        for at, number, how, places, line in met:
            self._meet((at, number, how, places, line))
        for source, number in num_found.items():
            self.num_found[source] = self.num_found.get(source, 0) + number

    def forget(self) -> None:
        """Forget what was met and counted."""
        self.met.clear()
        self.num_found.clear()
        for text in self.texts:
            text.exact.clear()
            text.edited.clear()
            text.examples.clear()

    def leaks(self) -> Iterator[HeldOutText]:
        """Return the held-out texts with some line that occurs in training text."""
        return (text for text in self.texts if text.exact or text.edited)
