"""The directions of a translator of many languages, from pairs and a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from xlm.errors import ConfigError
from xlm.languages import LanguagePair

Rule = Literal["m2m", "m2o", "o2m"]


def directed(
    pairs: Sequence[LanguagePair], rule: Rule | None, center: str | None
) -> list[LanguagePair]:
    """Return the directions to train, those of each pair next to each other, in their order.

    Without a rule ``pairs`` are directions; else they are named in either order. ``m2m``: both
    directions of each; ``m2o``: into the ``center``; ``o2m``: out of it. Raises ConfigError for a
    pair that is named in both orders, and for one without the center.
    """
    if rule is None:
        return list(pairs)
    named = set(pairs)
    if twice := [own for own in pairs if own.reversed in named and own.first < own.second]:
        raise ConfigError(
            f"directions is {rule}, and pairs names {', '.join(map(str, twice))} in both orders: "
            "name each pair once, or leave directions out"
        )
    if rule == "m2m":
        return [way for own in pairs for way in (own, own.reversed)]
    if without := [own for own in pairs if center not in tuple(own)]:
        raise ConfigError(
            f"directions is {rule} and center is {center}, which is missing from "
            f"{', '.join(map(str, without))}: leave these pairs out, or set directions to m2m"
        )
    into = [own if own.second == center else own.reversed for own in pairs]
    return into if rule == "m2o" else [own.reversed for own in into]


def check_rule(rule: Rule | None, center: str | None) -> None:
    """Raise ConfigError for a rule without the center that it needs, or a center without use."""
    needs = rule in ("m2o", "o2m")
    if needs and center is None:
        raise ConfigError(f"directions is {rule}, but center is missing: name it, such as en")
    if not needs and center is not None:
        raise ConfigError(
            f"center is {center}, but directions is {rule or 'null'}: expected directions "
            "m2o (into it) or o2m (out of it), or no center"
        )
