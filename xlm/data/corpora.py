"""All corpora that one tokenizer made of one collection of text: a folder, or in memory.

corpora.json                      format version, tokenizer's digest, languages and their ids, the
                                  SHA-256 of the tokenizer's files and of each header
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
from xlm.digests import check_digest as check_file
from xlm.digests import digests, sealed
from xlm.errors import ConfigError, DataError
from xlm.languages import Languages, match_languages, nearest
from xlm.storage import HEADER, make_folder, read_header, write_json
from xlm.text.rules import as_json
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")

FORMAT_VERSION = 1
DESCRIPTION = "corpora.json"
SPLITS = ("train", "valid", "test")
_RESTORE = (
    "restore it, prepare the text again, or, if you changed it on purpose, "
    "xlm check FOLDER --accept true"
)

Key = tuple[str, str]
"""A split and a language or a pair."""
Found = TypeVar("Found", Corpus, Pairs)


class Corpora:
    """Corpora by split and language, pairs by split and ``en-hi``.

    ``languages`` maps names to ids, or lists names: see ``xlm.languages.Languages``.
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
        self.languages = Languages(languages)
        """Id of each language, by name."""
        self._where = where
        self._folder: Path | None = None
        self._texts: dict[Key, Corpus | None] = dict(texts or {})
        self._pairs: dict[Key, Pairs | None] = dict(pairs or {})
        self._counts: NDArray[np.int64] | None = None
        self._unigrams: dict[str, NDArray[np.float64]] = {}
        self.tables: dict[str, Corpora] = {}
        """Corpora of languages that have a vocabulary of their own, by language."""
        self.kept: dict[Any, Any] = {}
        """Results that tasks made from their files, kept for the next run on the same corpora."""

    @classmethod
    def open(
        cls,
        folder: Path | str,
        tokenizer: Tokenizer | None = None,
        *,
        languages: Mapping[str, int] | None = None,
    ) -> Corpora:
        """Return the corpora in ``folder``; each is mapped on first use.

        Without ``tokenizer`` the one in ``folder/tokenizer`` is loaded. ``languages`` gives the ids
        by name that a model knows, in place of the folder's own. Raises DataError if the folder
        holds no corpora or those of another tokenizer, ConfigError if it holds a language that the
        model does not know.
        """
        folder = Path(folder)
        keys = ("tokenizer", "languages")
        description = read_header(folder / DESCRIPTION, "corpora", keys, FORMAT_VERSION)
        if tokenizer is None:
            tokenizer = load_tokenizer(folder / "tokenizer")
        check_digest(folder, description["tokenizer"], tokenizer)
        _check_rules(folder, description.get("normalization", {}), tokenizer)
        for name, digest in description.get("files", {}).items():
            check_file(folder / name, digest, DataError, _RESTORE)
        corpora = cls(tokenizer, description["languages"], where=str(folder))
        if languages:
            corpora = corpora.renumbered(languages)
        corpora._folder = folder
        for header in sorted(folder.glob(f"*/*/{HEADER}")):
            split, name = header.parent.parent.name, header.parent.name
            if split not in SPLITS or name.startswith("."):
                continue
            if name in corpora.languages:
                corpora._texts[split, name] = None
            elif corpora.languages.is_pair(name):
                corpora._pairs[split, name] = None
            else:
                log.warning(
                    "%s is skipped: %s is neither a language nor a pair of %s",
                    header.parent, name, ", ".join(corpora.languages),
                )  # fmt: skip
        return corpora

    def renumbered(self, languages: Mapping[str, int]) -> Corpora:
        """Return the same corpora with a model's ids of the languages.

        Raises ConfigError naming the languages that have no id there.
        """
        otherwise = f"give other data than {self._where}"
        match_languages(languages, sorted(self.own_languages), otherwise=otherwise)
        same = copy.copy(self)
        same.languages = Languages({**languages, **self._beyond(languages)})
        return same

    def with_tables(self, tables: Mapping[str, Corpora]) -> Corpora:
        """Return the same corpora with those of languages that have a vocabulary of their own.

        Such a language has no row in the model's table of languages; its id lies beyond. Raises
        ConfigError for a language that is here already, DataError if its corpora lack it.
        """
        if twice := sorted(set(tables) & set(self.own_languages)):
            raise ConfigError(
                f"{', '.join(twice)}: {self._where} already has the language, and tables "
                "names it too: give the table another name, or leave one of the two out"
            )
        for name, corpora in tables.items():
            if name not in corpora.languages:
                raise DataError(
                    f"tables.{name}: {corpora._where} has {', '.join(corpora.languages)}, not "
                    f"{name}: prepare its text under that name"
                )
        same = copy.copy(self)
        same.tables = dict(tables)
        own = dict(self.own_languages)
        same.languages = Languages({**own, **same._beyond(own)})
        return same

    def _beyond(self, own: Mapping[str, int]) -> dict[str, int]:
        first = max(own.values(), default=-1) + 1
        return {name: first + at for at, name in enumerate(sorted(self.tables))}

    @property
    def own_languages(self) -> dict[str, int]:
        """Id of each language of the first vocabulary, by name."""
        return {name: at for name, at in self.languages.items() if name not in self.tables}

    def table_of(self, language: str) -> str:
        """Return the table of a language, "" for that of the first vocabulary."""
        return language if language in self.tables else ""

    def of_table(self, table: str) -> Corpora:
        """Return the corpora of a table's vocabulary; these for ""."""
        return self.tables[table] if table else self

    def tokenizer_of(self, language: str) -> Tokenizer:
        """Return the tokenizer that makes the ids of a language."""
        return self.of_table(self.table_of(language)).tokenizer

    @property
    def table_digests(self) -> dict[str, str]:
        """The digest of each further vocabulary, by table."""
        return {name: own.tokenizer.digest for name, own in sorted(self.tables.items())}

    @property
    def folder(self) -> Path | None:
        """The folder that the corpora were opened from; None if they were made in memory."""
        return self._folder

    def text(self, split: str, language: str) -> Corpus:
        """Return the text of ``language``.

        Raises DataError, listing the existing texts, if it is missing.
        """
        if language in self.tables:
            return self.tables[language].text(split, language)
        if (split, language) not in self._texts:
            self._refuse("text", split, language, self._texts)
        return self._get(self._texts, (split, language), Corpus)

    def pairs(self, split: str, pair: str) -> Pairs:
        """Return the pairs of ``en-hi``, or of ``hi-en``: the same with the sides exchanged.

        Raises ConfigError for a name that is no pair of the languages, DataError if ``split`` has
        no such pair.
        """
        both = self.languages.pair(pair)
        if len({self.table_of(language) for language in both}) > 1:
            raise ConfigError(
                f"{pair}: {both.first} and {both.second} have separate vocabularies, and a "
                "row can only use one: give a pair that shares a vocabulary"
            )
        swapped = str(both.reversed)
        if (split, pair) in self._pairs:
            return self._get(self._pairs, (split, pair), Pairs)
        if (split, swapped) in self._pairs:
            return self._get(self._pairs, (split, swapped), Pairs).swapped()
        self._refuse("pairs", split, pair, self._pairs)

    def names(self, split: str) -> dict[str, list[str]]:
        """Return the names in ``split``, under ``texts`` and ``pairs``."""
        further = [key for n, own in self.tables.items() for key in own._texts if key[1] == n]
        parts: dict[str, Iterable[Key]] = {"texts": [*self._texts, *further], "pairs": self._pairs}
        return {
            part: sorted(name for found, name in keys if found == split)
            for part, keys in parts.items()
        }

    def describe(self) -> str:
        """Return a line for each corpus: split, name, kind, sentences and tokens."""
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

    def counts(self, table: str = "") -> NDArray[np.int64]:
        """Return the count of each id in all training text and pairs (int64 ``[V]``, read-only).

        Those of a further ``table`` are its own.
        """
        if table:
            return self.tables[table].counts()
        if self._counts is None:
            counts = np.zeros(self.tokenizer.vocab_size, dtype=np.int64)
            for corpus in self._training():
                counts += corpus.counts
            counts.flags.writeable = False
            self._counts = counts
        return self._counts

    def unigram(self, language: str) -> NDArray[np.float64]:
        """Return each id's nats under the add-one unigram model of ``language``, float64 ``[V]``.

        Fitted on its training text, end symbols included, or, if it has none, on its sides of the
        training pairs. Raises DataError if there is neither.
        """
        if language in self.tables:
            return self.tables[language].unigram(language)
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
            path = self._folder / key[0] / key[1]
            found = kind.open(path, self.tokenizer)
            named = found.language if isinstance(found, Corpus) else "-".join(found.languages)
            if named != key[1]:
                raise DataError(
                    f"{path} holds {named} according to its {HEADER}, expected {key[1]}: the "
                    f"folder was renamed or swapped; {_RESTORE}"
                )
            opened[key] = found
        return found

    def _refuse(self, what: str, split: str, name: str, having: Mapping[Key, object]) -> NoReturn:
        names = sorted(found for place, found in having if place == split)
        near = nearest(name, names)
        raise DataError(
            f"no {what} {name!r} in the {split} split of {self._where}: it has "
            f"{', '.join(names) or 'none'}; prepare it or ask for "
            f"{'one of these' if near is None else f'one of these, such as {near}'}"
        )


def _check_rules(folder: Path, found: Any, tokenizer: Tokenizer) -> None:
    if found != as_json(tokenizer.rules):
        raise DataError(
            f"{folder} was normalized by the rules {found}, but the given tokenizer has "
            f"{as_json(tokenizer.rules)}: prepare the text again with that tokenizer"
        )


def write_header(
    folder: Path | str, tokenizer: Tokenizer, languages: Mapping[str, int] | Iterable[str]
) -> None:
    """Write ``folder``'s ``corpora.json``; the corpora and the tokenizer are written before it.

    Corpora that are added later can be opened too, but swapping one for another is not noticed.
    """
    folder = Path(folder)
    make_folder(folder)
    small = [*folder.glob(f"*/*/{HEADER}"), *folder.glob("tokenizer/*")]
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer.digest,
        "languages": dict(Languages(languages)),
        "files": digests(
            folder, (path.relative_to(folder).as_posix() for path in small if path.is_file())
        ),
    }
    if rules := as_json(tokenizer.rules):
        content["normalization"] = rules
    write_json(folder / DESCRIPTION, sealed(content))
