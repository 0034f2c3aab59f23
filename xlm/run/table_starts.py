"""The first rows of a table, by its settings, from its text and the files that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from xlm import sample
from xlm.analysis.translation_model import translations
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.languages import LanguagePair, Languages
from xlm.model import table_starts
from xlm.model.table_starts import TableStart
from xlm.rng import Random
from xlm.run.language_tables import LanguageTable
from xlm.run.word_vectors import vectors_of
from xlm.text.readers import ReadReport, open_pairs, read_lines
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer


def find_start(
    name: str, settings: LanguageTable, corpora: Corpora, seed: int
) -> TableStart | None:
    """Return the start of a table; None if all of it is drawn.

    One that shares the model's words starts with all of them.

    Raises ConfigError or DataError for files that are missing or do not fit.
    """
    here, there = corpora.tokenizer_of(name), corpora.tokenizer
    if settings.words == "shared":
        if here.digest != there.digest:
            raise ConfigError(
                f"tables.{name}.words is shared, but its text was prepared with another vocabulary "
                "than the model's: prepare it with vocabulary.folder, or set words to own"
            )
        return table_starts.same(here)
    start: TableStart
    match settings.start:
        case "random":
            return None
        case "copy" | "mapped":
            start = table_starts.copy(here, there)
        case "pieces":
            start = table_starts.pieces(here, there)
        case "focus":
            start = table_starts.focus(here, there, vectors_of([name], corpora, seed))
        case "aligned":
            rows = translated_rows(name, settings.pairs, settings.dictionary, corpora)
            found = translations(*rows)
            start = table_starts.aligned(
                here, there, found.new, found.old, found.product, vectors_of([name], corpora, seed)
            )
        case "oracle":
            assert settings.oracle is not None, "LanguageTable asks for it"
            start = table_starts.oracle(here, there, dict(_columns(settings.oracle)))
    return start.shuffled(Random(seed, "shuffled", name), here) if settings.shuffled else start


def translated_rows(
    name: str, pairs: Mapping[str, list[str]], dictionary: str | None, corpora: Corpora
) -> tuple[list[Ids], list[Ids]]:
    """Return aligned rows of ids, of this language and of the model's.

    Raises ConfigError or DataError for files that are missing or do not fit.
    """
    new: list[Ids] = []
    old: list[Ids] = []
    here, there = corpora.tokenizer_of(name), corpora.tokenizer
    if dictionary is not None:
        for one, other in _columns(dictionary):
            new.append(_encoded(here, one, name))
            old.append(_encoded(there, other, None))
    for pair, sources in pairs.items():
        first, second = _pair(pair, name)
        other_name = second if first == name else first
        files = [sample.resolved(source) for source in sources]
        for sides in open_pairs(files, (first, second), ReadReport()):
            one, other = sides if first == name else sides[::-1]
            new.append(_encoded(here, one, name))
            old.append(_encoded(there, other, other_name))
    return new, old


def _pair(pair: str, name: str) -> LanguagePair:
    readings = [reading for reading in LanguagePair.readings(pair) if name in reading]
    if len(readings) != 1:
        raise ConfigError(
            f"pairs.{pair}: expected {name} and a language of the model, such as en-{name}"
        )
    return Languages([*readings[0]]).pair(pair)


def _encoded(tokenizer: Tokenizer, text: str, language: str | None) -> Ids:
    own = tokenizer.in_language(language) if tokenizer.rules else tokenizer
    return np.array(own.encode(own.normalize(text)), dtype=np.int64)


def _columns(path: str) -> Iterator[tuple[str, str]]:
    """Yield the two columns of a file, separated by a tab or else by space."""
    path = sample.resolved(path)
    if not Path(path).is_file():
        raise DataError(f"{path} is not a file: expected lines of two columns")
    for number, line in enumerate(read_lines(path, report=ReadReport()), 1):
        parts = line.split("\t") if "\t" in line else line.split()
        if len(parts) != 2 or not all(parts):
            raise DataError(
                f"{path}:{number}: found {len(parts)} columns, expected two, separated by a tab"
            )
        yield parts[0], parts[1]
