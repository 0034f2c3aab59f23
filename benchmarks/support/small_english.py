"""A small English of drawn sentences, whose tags and names are known.

    "the old drills near Anna cover many plates"

Some words are nouns in one place and verbs in another ("drills"), so that a tagger has to look at
a word's neighbors. Statements of ``entailment`` have the same nouns and qualities.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from benchmarks.support.entailment import KINDS, QUALITIES

NOUNS = [*KINDS, *(noun for members in KINDS.values() for noun in members.split())]
DETERMINERS = "the these many few".split()
VERBS = "find carry follow cover paint sell hide lift".split()
VERBS_ONE = "finds carries follows covers paints sells hides lifts".split()
BOTH = "drills saws hammers rakes files trains boats bowls ducks bears pots boots".split()
"""Nouns that are verbs after a person's name."""
PREPOSITIONS = "near behind under beside".split()
PEOPLE = (
    "Anna Bela Carl Dora Emil Fanny Georg Hilda Ivan Jonas Karin Lukas Maria Nora Otto Paula"
).split()
PLACES = (
    "Arlen Brona Calva Dorin Elsta Forli Ganda Hulme Istra Jarva Kolm Lunda Merin Norda Olsen Padra"
).split()


class Word(NamedTuple):
    """A word, its part of speech, and its label as a name."""

    text: str
    tag: str
    entity: str = "O"


NAMES = frozenset([*PEOPLE, *PLACES])


class Speaker:
    """Draws sentences; ``part`` 0 or 1 has every second name alone."""

    def __init__(self, seed: str, part: int | None = None):
        self._random = random.Random(seed)
        half = slice(None) if part is None else slice(part, None, 2)
        self._people, self._places = PEOPLE[half], PLACES[half]

    def sentence(self) -> list[Word]:
        """Draw a sentence: somebody does something, some things do, or things have a quality."""
        choose = self._random.choice
        kind = self._random.randrange(3)
        if kind == 0:
            verb = choose(BOTH if self._random.random() < 0.5 else VERBS_ONE)
            words = [self._person(), Word(verb, "VERB"), *self._things()]
        elif kind == 1:
            words = [*self._things(), Word(choose(VERBS), "VERB"), *self._things()]
        else:
            words = [*self._things(), Word("are", "AUX"), Word(choose(QUALITIES), "ADJ")]
        return words + self._somewhere() if self._random.random() < 0.6 else words

    def _person(self) -> Word:
        return Word(self._random.choice(self._people), "PROPN", "B-PER")

    def _things(self) -> list[Word]:
        words = [Word(self._random.choice(DETERMINERS), "DET")]
        if self._random.random() < 0.3:
            words.append(Word(self._random.choice(QUALITIES), "ADJ"))
        return [*words, Word(self._random.choice(NOUNS), "NOUN")]

    def _somewhere(self) -> list[Word]:
        which = self._random.random()
        if which < 0.4:
            return [
                Word("in", "ADP"), Word(self._random.choice(self._places), "PROPN", "B-LOC")
            ]  # fmt: skip
        near = Word(self._random.choice(PREPOSITIONS), "ADP")
        return [near, *([self._person()] if which < 0.6 else self._things())]
