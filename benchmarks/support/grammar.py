"""A small grammar of English agreement, in which the right sentence of a minimal pair is known.

A subject is singular or plural; what stands between it and its verb has nouns of any number, which
the verb must not agree with (attractors). A quarter of the pairs of subject and attractor are in no
training sentence.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from xlm.analysis.readers import MinimalPair
from xlm.rng import Random

NOUNS = [
    ("author", "authors"), ("pilot", "pilots"), ("farmer", "farmers"), ("teacher", "teachers"),
    ("doctor", "doctors"), ("painter", "painters"), ("guard", "guards"), ("driver", "drivers"),
    ("child", "children"), ("woman", "women"), ("neighbor", "neighbors"), ("singer", "singers"),
    ("table", "tables"), ("window", "windows"), ("river", "rivers"), ("garden", "gardens"),
    ("house", "houses"), ("train", "trains"), ("letter", "letters"), ("picture", "pictures"),
]  # fmt: skip
VERBS = [
    ("laughs", "laugh"), ("sleeps", "sleep"), ("waits", "wait"), ("sings", "sing"),
    ("falls", "fall"), ("moves", "move"), ("shines", "shine"), ("smiles", "smile"),
    ("is", "are"), ("was", "were"),
]  # fmt: skip
TRANSITIVE = [("likes", "like"), ("sees", "see"), ("knows", "know"), ("needs", "need")]
PREPOSITIONS = ("near", "behind", "beside", "under")
ENDS = ("today", "again", "here", "slowly", "often")
CONSTRUCTIONS = (
    "simple agreement", "across a prepositional phrase", "across two prepositional phrases",
    "across an object relative clause",
)  # fmt: skip


class Sentence(NamedTuple):
    """A right sentence and the wrong one, whose verb has the other number."""

    pair: MinimalPair
    mirror: MinimalPair
    """The same words, each of the other number."""
    attractors: int
    """Nouns between subject and verb whose number is not the subject's."""
    is_held_out: bool
    """True if a subject and noun meet here that no training sentence has together."""


def _kept_back(subject: int, other: int) -> bool:
    return zlib.crc32(f"{subject} {other}".encode()) % 4 == 0


class Grammar:
    """Sentences drawn at an address: equal seeds give equal sentences."""

    def __init__(self, seed: int, split: str):
        self._random = Random("grammar", split, seed)

    def _choose(self, num: int) -> int:
        return int(self._random.integers(1, num)[0])

    def sentence(self, construction: str) -> Sentence:
        """Return a sentence of a construction."""
        subject, plural = self._choose(len(NOUNS)), self._choose(2)
        num_others = (0, 1, 2, 1)[CONSTRUCTIONS.index(construction)]
        others = [(self._choose(len(NOUNS)), self._choose(2)) for _ in range(num_others)]
        inner = TRANSITIVE[self._choose(len(TRANSITIVE))] if "clause" in construction else None
        places = [PREPOSITIONS[self._choose(len(PREPOSITIONS))] for _ in others if inner is None]
        verb = VERBS[self._choose(len(VERBS))]
        end = ENDS[self._choose(len(ENDS))]

        def spelled(turned: int) -> MinimalPair:
            middle = ""
            for at, (noun, number) in enumerate(others):
                own = NOUNS[noun][number ^ turned]
                if inner is None:
                    middle += f" {places[at]} the {own}"
                else:
                    middle = f" that the {own} {inner[number ^ turned]}"
            right, wrong = (
                f"the {NOUNS[subject][plural ^ turned]}{middle} {verb[form ^ turned]} {end}"
                for form in (plural, 1 - plural)
            )
            return MinimalPair(construction, right, wrong)

        return Sentence(
            spelled(0),
            spelled(1),
            sum(number != plural for _, number in others),
            any(_kept_back(subject, noun) for noun, _ in others),
        )


def training_lines(num: int, seed: int = 0) -> list[str]:
    """Return right sentences of all constructions, none with a pair of nouns that is kept back."""
    grammar, found, at = Grammar(seed, "train"), list[str](), 0
    while len(found) < num:
        own = grammar.sentence(CONSTRUCTIONS[at % len(CONSTRUCTIONS)])
        at += 1
        if not own.is_held_out:
            found.append(f"{own.pair.right} .")
    return found


def minimal_pairs(num: int, seed: int = 0, constructions: Sequence[str] = CONSTRUCTIONS) -> list[
    MinimalPair
]:  # fmt: skip
    """Return ``num`` different pairs of each construction.

    Those with other nouns have a pair of nouns that is kept back, and all of them are of the other
    number. Each stands beside its mirror, so that a taste for one form of a verb gains nothing.
    """
    grammar, found = Grammar(seed, "pairs"), list[MinimalPair]()
    for construction in constructions:
        own: dict[MinimalPair, None] = {}
        while len(own) < num:
            made = grammar.sentence(construction)
            num_others = (0, 1, 2, 1)[CONSTRUCTIONS.index(construction)]
            if made.attractors == num_others and (made.is_held_out or not num_others):
                own[made.pair] = own[made.mirror] = None
        found += list(own)[:num]
    return found
