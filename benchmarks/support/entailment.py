"""Entailment from templates: quantifiers, negation, and kinds of things above one another.

    "all tools are wet" -> "some hammers are wet"    entailment
    "no tools are wet"  -> "some hammers are wet"    contradiction
    "all hammers are wet" -> "all tools are wet"     neutral

Labels are computed: a statement is looked up in every small world in which there is something of
each kind. The premise entails what holds in all of its worlds, and contradicts what holds in none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations
from typing import NamedTuple

KINDS = {
    "animals": "dogs cats horses cows goats ducks bears frogs",
    "fruits": "apples plums pears grapes melons lemons figs dates",
    "tools": "hammers saws drills rakes spades pliers files axes",
    "vehicles": "cars trucks buses trains boats carts vans tractors",
    "clothes": "shirts coats hats gloves scarves boots skirts belts",
    "instruments": "drums flutes guitars pianos violins trumpets harps bells",
    "buildings": "houses barns towers castles temples schools huts shops",
    "dishes": "plates bowls cups jugs pots pans trays mugs",
}
"""Each kind, and what belongs to it."""
QUALITIES = (
    "old wet red small cheap broken hidden lost sold painted heavy round famous missing covered "
    "expensive"
).split()
FORMS = (
    "all {} are {}",
    "no {} are {}",
    "some {} are {}",
    "some {} are not {}",
    "not all {} are {}",
)
LABELS = ("contradiction", "entailment", "neutral")


class Statement(NamedTuple):
    """``FORMS[form]`` of a noun and a quality."""

    form: int
    noun: str
    quality: str

    def __str__(self) -> str:
        return FORMS[self.form].format(self.noun, self.quality)


def holds(form: int, members: set[bool]) -> bool:
    """Whether a statement is true of things that have the quality (True), lack it, or both."""
    return (members == {True}, members == {False}, True in members, False in members,
            False in members)[form]  # fmt: skip


@cache
def relation(first: int, second: int, nouns: str) -> str:
    """The label of two forms on one quality; the second noun is the ``same``, ``above``, ``below``.

    A world is the set of what there is: inside both nouns or the wider one alone, with the quality
    or without it. There is something of each kind.
    """
    things = [(inner, has) for inner in (True, False) for has in (True, False)]
    worlds = chain.from_iterable(combinations(things, num) for num in range(1, 5))
    found = set()
    for world in worlds:
        narrow = {has for inner, has in world if inner}
        wide = {has for _, has in world}
        if not narrow:
            continue
        members = {"same": (narrow, narrow), "above": (narrow, wide), "below": (wide, narrow)}
        premise, hypothesis = members[nouns]
        if holds(first, premise):
            found.add(holds(second, hypothesis))
    return {frozenset([True]): "entailment", frozenset([False]): "contradiction"}.get(
        frozenset(found), "neutral"
    )


def label(premise: Statement, hypothesis: Statement) -> str:
    """What the premise says of the hypothesis; nothing where noun or quality have no relation."""
    if premise.quality != hypothesis.quality:
        return "neutral"
    nouns = {
        premise.noun == hypothesis.noun: "same",
        premise.noun in KINDS.get(hypothesis.noun, "").split(): "above",
        hypothesis.noun in KINDS.get(premise.noun, "").split(): "below",
    }
    return relation(premise.form, hypothesis.form, nouns[True]) if True in nouns else "neutral"


def statement(generator: random.Random) -> Statement:
    """A statement on a kind or on something that belongs to one."""
    kind = generator.choice(list(KINDS))
    noun = generator.choice([kind, *KINDS[kind].split()])
    return Statement(generator.randrange(len(FORMS)), noun, generator.choice(QUALITIES))


def pairs(num: int, seed: int = 0) -> list[tuple[str, Statement, Statement]]:
    """``num`` different pairs with their labels, as many of each label as of any other.

    Nouns are related in nine pairs of ten, qualities the same in nine of ten.
    """
    generator = random.Random(seed)
    wanted = dict.fromkeys(LABELS, num // len(LABELS))
    found: dict[tuple[Statement, Statement], str] = {}
    while any(wanted.values()):
        premise, other = statement(generator), statement(generator)
        noun, quality = other.noun, other.quality
        if generator.random() < 0.9:
            noun = generator.choice([*_related(premise.noun)])
        if generator.random() < 0.9:
            quality = premise.quality
        hypothesis = Statement(other.form, noun, quality)
        name = label(premise, hypothesis)
        if premise != hypothesis and wanted[name] and (premise, hypothesis) not in found:
            found[premise, hypothesis] = name
            wanted[name] -= 1
    rows = [(name, *both) for both, name in found.items()]
    generator.shuffle(rows)
    return rows


def _related(noun: str) -> Iterator[str]:
    yield noun
    for kind, members in KINDS.items():
        if noun == kind:
            yield from members.split()
        elif noun in members.split():
            yield kind
