"""Names of languages and of pairs, and the one error for unknown ones.

A language is called ``en``, ``zh-Hans`` or ``pt-BR``, a pair ``en-zh-Hans``. Names may hold hyphens
too, so only the known languages tell how to read a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from xlm.errors import ConfigError

CLOSE = 0.6
"""Share of letters that two spellings must have in common for one to be suggested for the other."""


@dataclass(frozen=True)
class LanguagePair:
    """Two languages in one direction; as a string, ``en-zh-Hans``."""

    first: str
    second: str

    @classmethod
    def readings(cls, name: str) -> list[LanguagePair]:
        """Return each pair that ``name`` may mean for any set of languages.

        ``en-zh-Hans`` may be the pair of en and zh-Hans, or of en-zh and Hans; ``en`` is no pair.
        """
        halves = [(name[:at], name[at + 1 :]) for at, sign in enumerate(name) if sign == "-"]
        return [cls(*pair) for pair in halves if all(map(is_language_name, pair))]

    @property
    def reversed(self) -> LanguagePair:
        """The pair in the other direction."""
        return LanguagePair(self.second, self.first)

    def __iter__(self) -> Iterator[str]:
        return iter((self.first, self.second))

    def __str__(self) -> str:
        return f"{self.first}-{self.second}"


class Languages(Mapping[str, int]):
    """The known languages: the id of each by its name, and the pairs that they form.

    A mapping gives the ids; plain names are numbered in alphabetical order, as the original XLM
    numbers them (docs/fidelity.md, A11). Raises ConfigError for an invalid name, for a language
    named like a pair of two others, and for an id that is given twice.
    """

    def __init__(self, languages: Mapping[str, int] | Iterable[str]) -> None:
        if not isinstance(languages, Mapping):
            languages = {name: number for number, name in enumerate(sorted(set(languages)))}
        self._ids: dict[str, int] = dict(languages)
        for name in self._ids:
            if not is_language_name(name):
                raise ConfigError(
                    f"a language cannot be called {name!r}: expected a name such as en or "
                    "zh-Hans, without '/' and '.', and without '-' at either end; rename it"
                )
            for pair in self._readings(name):
                raise ConfigError(
                    f"the language {name} has the same name as the pair of {pair.first} and "
                    f"{pair.second}, which are known too: rename it, such as "
                    f"{name.replace('-', '_')}"
                )
        if len(set(self._ids.values())) != len(self._ids):
            raise ConfigError(f"two languages share an id in {self._ids}: give each its own")

    def __getitem__(self, name: str) -> int:
        return self._ids[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"Languages({self._ids})"

    def __str__(self) -> str:
        return str(self._ids)

    def is_pair(self, name: str) -> bool:
        """Return whether ``name`` is a pair of known languages."""
        return bool(self._readings(name))

    def pair(self, name: str) -> LanguagePair:
        """Return the pair that ``name`` means.

        Raises ConfigError for a name that is no pair of known languages, or that may mean two
        pairs.
        """
        found = self._readings(name)
        if len(found) > 1:
            one, other = (" and ".join(pair) for pair in found[:2])
            raise ConfigError(
                f"{name} can be read as the pair of {one} or as that of {other}: rename one "
                "of these languages"
            )
        if not found:
            spelled = nearest(name, (str(LanguagePair(a, b)) for a in self for b in self if a != b))
            raise ConfigError(
                f"{name!r} is not a pair of known languages ({_listed(self)}): expected two "
                f"of them joined by '-', such as {spelled or 'en-ne for en and ne'}"
            )
        return found[0]

    def _readings(self, name: str) -> list[LanguagePair]:
        return [pair for pair in LanguagePair.readings(name) if self._ids.keys() >= set(pair)]


def is_language_name(name: str) -> bool:
    """Return whether a language may have this name, which also names folders and streams."""
    return bool(name) and not set(name) & set("/.") and "-" not in (name[0], name[-1])


def match_languages(
    known: Mapping[str, int], wanted: Iterable[str], *, where: str = "the model", otherwise: str
) -> dict[str, int]:
    """Return the id of each of the ``wanted`` languages among the ``known`` ones, matched by name.

    Known languages that are not wanted are ignored. Raises ConfigError for unknown ones: the
    message names the place ``where`` they are missing, the known ones, the nearest names, and the
    advice ``otherwise``.
    """
    wanted = list(wanted)
    if missing := [name for name in wanted if name not in known]:
        near = {name: nearest(name, known) for name in missing}
        meant = ", ".join(f"{own} for {name}" for name, own in near.items() if own is not None)
        noun = "language" if len(missing) == 1 else "languages"
        raise ConfigError(
            f"{where} does not know the {noun} {', '.join(missing)}: it knows {_listed(known)}; "
            + (f"did you mean {meant}? Otherwise " if meant else "")
            + otherwise
        )
    return {name: known[name] for name in wanted}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelled most like ``name``, or None if none is close.

    Case is ignored, and ``_`` equals ``-``.
    """
    folded = {_folded(own): own for own in known}
    found = get_close_matches(_folded(name), folded, n=1, cutoff=CLOSE)
    return folded[found[0]] if found else None


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
