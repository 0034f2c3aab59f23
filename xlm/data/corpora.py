"""Everything that one tokenizer made of one collection of text: a folder, or the same in memory.

corpora.json                      format version, tokenizer's digest, languages and their ids
tokenizer/
{train,valid,test}/en/            a Corpus
{train,valid,test}/en-hi/         Pairs (the two names in alphabetical order)
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus import Corpus, check_digest
from xlm.data.pairs import Pairs
from xlm.errors import DataError
from xlm.storage import HEADER, make_folder, read_header, write_json
from xlm.text import Tokenizer, load_tokenizer

log = logging.getLogger("xlm")

FORMAT_VERSION = 1
DESCRIPTION = "corpora.json"
SPLITS = ("train", "valid", "test")

Key = tuple[str, str]
"""A split and a language or a pair."""
Found = TypeVar("Found", Corpus, Pairs)


class Corpora:
    """Corpora by split and language, pairs by split and ``en-hi``.

    ``languages`` maps names to ids; a plain list of names is numbered in alphabetical order, as the
    original numbers them (algorithms A11).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        languages: Mapping[str, int] | Iterable[str],
        *,
        texts: Mapping[Key, Corpus] | None = None,
        pairs: Mapping[Key, Pairs] | None = None,
        where: str = "these corpora",
    ):
        self.tokenizer = tokenizer
        self.languages = number_languages(languages)
        """The id of each language, by name."""
        self._where = where
        self._folder: Path | None = None
        self._texts: dict[Key, Corpus | None] = dict(texts or {})
        self._pairs: dict[Key, Pairs | None] = dict(pairs or {})
        self._counts: NDArray[np.int64] | None = None
        self._unigrams: dict[str, NDArray[np.float64]] = {}
        self.kept: dict[Any, Any] = {}
        """What tasks made of their files, kept for the next run on the same corpora."""

    @classmethod
    def open(
        cls,
        folder: Path | str,
        tokenizer: Tokenizer | None = None,
        *,
        languages: Mapping[str, int] | None = None,
    ) -> Corpora:
        """The corpora in ``folder``; each is mapped when it is first asked for.

        Without ``tokenizer`` the one in ``folder/tokenizer`` is loaded. ``languages`` gives the ids
        by name that a model knows, in place of the folder's own. Raises DataError where the folder
        holds no corpora, those of another tokenizer, or a language that has no such id.
        """
        folder = Path(folder)
        keys = ("tokenizer", "languages")
        description = read_header(folder / DESCRIPTION, "corpora", keys, FORMAT_VERSION)
        if tokenizer is None:
            tokenizer = load_tokenizer(folder / "tokenizer")
        check_digest(folder, description["tokenizer"], tokenizer)
        strange = sorted(set(description["languages"]) - set(languages or description["languages"]))
        if strange:
            raise DataError(
                f"{folder} holds {', '.join(strange)}, which the model does not know: it knows "
                f"{', '.join(languages or {})}; give other data"
            )
        corpora = cls(tokenizer, languages or description["languages"], where=str(folder))
        corpora._folder = folder
        for header in sorted(folder.glob(f"*/*/{HEADER}")):
            split, name = header.parent.parent.name, header.parent.name
            if split not in SPLITS or name.startswith("."):
                continue
            if name in corpora.languages:
                corpora._texts[split, name] = None
            elif _is_pair(name, corpora.languages):
                corpora._pairs[split, name] = None
            else:
                log.warning(
                    "%s is passed over: %s is neither a language nor a pair of %s",
                    header.parent, name, ", ".join(corpora.languages),
                )  # fmt: skip
        return corpora

    def renumbered(self, languages: Mapping[str, int]) -> Corpora:
        """The same corpora with the ids that a model knows the languages by.

        Raises DataError naming the languages that have none there.
        """
        if strange := sorted(set(self.languages) - set(languages)):
            raise DataError(
                f"{self._where} holds {', '.join(strange)}, which the model does not know: it "
                f"knows {', '.join(languages)}; give other data"
            )
        same = copy.copy(self)
        same.languages = number_languages(languages)
        return same

    def text(self, split: str, language: str) -> Corpus:
        """The text of ``language``; DataError listing what there is where it is missing."""
        if (split, language) not in self._texts:
            self._refuse("text", split, language, self._texts)
        return self._get(self._texts, (split, language), Corpus)

    def pairs(self, split: str, pair: str) -> Pairs:
        """The pairs of ``en-hi``, or of ``hi-en``: the same with the sides exchanged."""
        if (split, pair) in self._pairs:
            return self._get(self._pairs, (split, pair), Pairs)
        swapped = "-".join(reversed(pair.split("-")))
        if (split, swapped) in self._pairs:
            return self._get(self._pairs, (split, swapped), Pairs).swapped()
        self._refuse("pairs", split, pair, self._pairs)

    def names(self, split: str) -> dict[str, list[str]]:
        """What there is of ``split``, under ``texts`` and ``pairs``."""
        parts: dict[str, Iterable[Key]] = {"texts": self._texts, "pairs": self._pairs}
        return {
            part: sorted(name for found, name in keys if found == split)
            for part, keys in parts.items()
        }

    def describe(self) -> str:
        """A line a corpus: split, name, kind, sentences and tokens."""
        lines = []
        for split in SPLITS:
            names = self.names(split)
            for name in names["texts"]:
                size = self.text(split, name).text_size
                lines.append(f"{split} {name}: {size.sentences} sentences, {size.tokens} tokens")
            for name in names["pairs"]:
                pairs = self.pairs(split, name)
                tokens = sum(side.text_size.tokens for side in pairs.sides)
                lines.append(f"{split} {name}: {tokens} tokens in {len(pairs)} pairs")
        return "\n".join(lines)

    def counts(self) -> NDArray[np.int64]:
        """How often each id occurs in all training text and pairs (int64 ``[V]``, read-only)."""
        if self._counts is None:
            counts = np.zeros(self.tokenizer.vocab_size, dtype=np.int64)
            for corpus in self._training():
                counts += corpus.counts
            counts.flags.writeable = False
            self._counts = counts
        return self._counts

    def unigram(self, language: str) -> NDArray[np.float64]:
        """Nats of each id under the add-one unigram model of ``language`` (float64 ``[V]``).

        Fitted on its training text, end symbols included; where there is none, on its sides of the
        training pairs. Raises DataError where there is neither.
        """
        if language not in self._unigrams:
            counts = np.zeros(self.tokenizer.vocab_size, dtype=np.int64)
            if ("train", language) in self._texts:
                counts += self.text("train", language).counts
            else:
                for corpus in self._training():
                    counts += corpus.counts if corpus.language == language else 0
            if not counts.any():
                self._refuse("text", "train", language, self._texts)
            nats = np.log(counts.sum() + len(counts)) - np.log(counts + 1.0)
            nats.flags.writeable = False
            self._unigrams[language] = nats
        return self._unigrams[language]

    def _training(self) -> list[Corpus]:
        texts = [self.text(*key) for key in self._texts if key[0] == "train"]
        pairs = [self.pairs(*key) for key in self._pairs if key[0] == "train"]
        return texts + [side for pair in pairs for side in pair.sides]

    def _get(self, opened: dict[Key, Found | None], key: Key, kind: type[Found]) -> Found:
        found = opened[key]
        if found is None:
            assert self._folder is not None
            found = opened[key] = kind.open(self._folder / key[0] / key[1], self.tokenizer)
        return found

    def _refuse(self, what: str, split: str, name: str, having: Mapping[Key, object]) -> NoReturn:
        names = ", ".join(sorted(found for place, found in having if place == split)) or "none"
        raise DataError(
            f"no {what} {name!r} in the {split} split of {self._where}: it has {names}; "
            "prepare it or ask for one of these"
        )


def _is_pair(name: str, languages: Mapping[str, int]) -> bool:
    parts = name.split("-")
    return len(parts) == 2 and set(parts) <= set(languages)


def number_languages(languages: Mapping[str, int] | Iterable[str]) -> dict[str, int]:
    """The id of each language: as given, or the alphabetical rank of its name.

    Raises DataError for a name that would be mistaken for a pair or a path, and for an id that is
    given twice.
    """
    if isinstance(languages, Mapping):
        numbered = dict(languages)
    else:
        numbered = {name: number for number, name in enumerate(sorted(set(languages)))}
    for name in numbered:
        if not name or set(name) & set("-/."):
            raise DataError(f"a language cannot be called {name!r}: no '-', '/' or '.', not empty")
    if len(set(numbered.values())) != len(numbered):
        raise DataError(f"two languages share an id in {numbered}: give each its own")
    return numbered


def write_header(
    folder: Path | str, tokenizer: Tokenizer, languages: Mapping[str, int] | Iterable[str]
) -> None:
    """Write ``folder``'s ``corpora.json``; the corpora and the tokenizer are written apart."""
    content = {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer.digest,
        "languages": number_languages(languages),
    }
    make_folder(folder)
    write_json(Path(folder) / DESCRIPTION, content)
