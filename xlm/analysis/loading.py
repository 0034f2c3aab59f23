"""Texts of a report from files, prepared corpora and the corpus that ships."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from xlm import sample
from xlm.analysis import readers
from xlm.analysis.readers import InContext
from xlm.analysis.retrieval import Pairs, distinct
from xlm.analysis.sections.links import AlignedText
from xlm.analysis.sections.material import EMBEDDINGS, UNTRAINED, Labeled, Material
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.languages import LanguagePair, Languages
from xlm.model.pretrained import PretrainedModel
from xlm.text.normalize import normalize
from xlm.text.readers import decode_lines

FEWEST_ROWS = 4
MOST_TRAINING = 20_000
"""Number of lines of training text for counting overlap."""


def lines_of(path: Path, most: int | None = None) -> list[str]:
    """Return the first nonempty lines of a file, normalized, each text once.

    Raises DataError for fewer than 4.
    """
    found: dict[str, None] = {}
    for text in _lines(path):
        if text:
            found[text] = None
        if len(found) == most:
            break
    if not found:
        raise DataError(f"{path} has no text, only empty lines: expected sentences")
    if len(found) < FEWEST_ROWS:
        raise DataError(
            f"{path}: only {len(found)} different lines have text; expected at least {FEWEST_ROWS}"
        )
    return list(found)


def every_line(path: Path) -> list[str]:
    """Return all lines of a file, normalized, empty ones too: sides of pairs stay aligned."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    for line in decode_lines(str(path)):
        if line.reason:
            raise DataError(f"{line.place}: the line is {line.reason}: expected text")
        yield normalize(line.text)


def pair_of(name: str, languages: Iterable[str]) -> LanguagePair:
    """Return the pair that ``name`` means among ``languages``, else its only reading.

    Raises ConfigError if it has no reading, or several.
    """
    known = Languages(languages) if languages else None
    if known is not None and known.is_pair(name):
        return known.pair(name)
    readings = LanguagePair.readings(name)
    if len(readings) != 1:
        raise ConfigError(
            f"{name!r} is not a pair of two known languages, or can be read in several ways: "
            "expected a name such as en-hi, made of languages in texts or in the model"
        )
    return readings[0]


def pairs_of(paths: Sequence[Path], most: int) -> Pairs:
    """Return the pairs of two files; raise DataError, with the files, if the sides do not fit."""
    first, second = (every_line(path) for path in paths)
    try:
        return distinct(first, second, most)
    except DataError as error:
        raise DataError(f"{paths[0]} and {paths[1]}: {error}") from None


def parallel_of(paths: Mapping[str, Path], most: int) -> dict[str, list[str]]:
    """Return the lines that every language has; raise DataError for files of unequal length."""
    texts = {language: every_line(path) for language, path in paths.items()}
    sizes = {language: len(lines) for language, lines in texts.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{paths[name]} has {num:,} lines" for name, num in sizes.items())
        raise DataError(
            f"{shown}: expected the same number of lines in each; check where the files diverge"
        )
    kept = [at for at, row in enumerate(zip(*texts.values(), strict=True)) if all(row)][:most]
    if len(kept) < FEWEST_ROWS:
        names = ", ".join(map(str, paths.values()))
        raise DataError(
            f"{names}: only {len(kept)} lines have text in all of them; expected at least "
            f"{FEWEST_ROWS}"
        )
    return {language: [lines[at] for at in kept] for language, lines in texts.items()}


def aligned_of(paths: Sequence[Path], first_index: int) -> AlignedText:
    """Return sentences and their links: two files of words between spaces, one of links."""
    sides = [[line.split() for line in every_line(path)] for path in paths[:2]]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{paths[0]} has {len(sides[0]):,} lines and {paths[1]} {len(sides[1]):,}: expected "
            "the same number"
        )
    gold = readers.read_alignments(paths[2], first_index=first_index)
    sizes = [(len(one), len(two)) for one, two in zip(*sides, strict=True)]
    readers.check_alignments(paths[2], gold, sizes)
    return AlignedText(sides[0], sides[1], gold)


def wic_of(paths: Mapping[str, Sequence[Path]]) -> tuple[list[InContext], list[InContext]]:
    """Return the rows of ``train`` and of ``dev``, two files each: data and gold."""
    if set(paths) != {"train", "dev"} or any(len(own) != 2 for own in paths.values()):
        raise ConfigError(
            f"wic has {', '.join(paths) or 'nothing'}: expected train and dev, each with two "
            "files, such as {train: [train.data.txt, train.gold.txt], dev: [...]}"
        )
    return readers.read_wic(*paths["train"]), readers.read_wic(*paths["dev"])


def labeled_of(paths: Mapping[str, Path], most: int) -> Labeled:
    """Return labels and texts of TSV files by language: a label, a tab, a text."""
    if not paths:
        raise ConfigError("probes: a task names no file: expected one for each language")
    texts: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for language, path in paths.items():
        texts[language], labels[language] = [], []
        for number, (place, own) in enumerate(readers.cells(path)):
            if number == 0 and [cell.lower() for cell in own] in (["label", "text"],):
                continue
            if len(own) < 2 or not own[0] or not own[1]:
                raise DataError(f"{place}: expected a label, a tab and a text")
            texts[language].append(own[1])
            labels[language].append(own[0])
            if len(texts[language]) == most:
                break
        if len(texts[language]) < FEWEST_ROWS:
            raise DataError(f"{path}: expected at least {FEWEST_ROWS} labeled lines")
    return Labeled(texts, labels)


def add_embeddings(
    material: Material,
    embeddings: Mapping[str, str | Mapping[str, str]],
    path_of: Callable[[str], Path],
) -> None:
    """Add the vectors of ``{language: file}``, or of such sets by name.

    Raises ConfigError for a mixture of both and for the name of a model, DataError if the vectors
    of a set have different lengths.
    """
    single = {name: own for name, own in embeddings.items() if isinstance(own, str)}
    sets = {name: own for name, own in embeddings.items() if not isinstance(own, str)}
    if single and sets:
        raise ConfigError(
            f"embeddings: {next(iter(single))} names a file and {next(iter(sets))} a set of files: "
            "expected a file for each language, or sets of these by name"
        )
    for name, paths in {EMBEDDINGS: single}.items() if single else sets.items():
        if name in (*material.models, UNTRAINED, "parent"):
            raise ConfigError(f"embeddings: {name} is the name of a model: choose another")
        own = {language: readers.read_vectors(path_of(path)) for language, path in paths.items()}
        widths = {language: len(next(iter(own[language].values()))) for language in own}
        if len(set(widths.values())) > 1:
            shown = ", ".join(f"{paths[key]} has {width} numbers" for key, width in widths.items())
            raise DataError(f"embeddings: {shown} a word: expected vectors of one space")
        material.embeddings[name] = dict(own)
        for language, path in paths.items():
            material.files[f"embeddings.{name}.{language}"] = str(path_of(path))


def prepared_texts(corpora: Corpora, split: str, most: int) -> dict[str, list[str]]:
    """Return the first sentences of each language of prepared text, decoded, each text once."""
    found = {}
    for language in corpora.names(split)["texts"]:
        corpus = corpora.text(split, language)
        lines: dict[str, None] = {}
        for at in range(len(corpus)):
            text = normalize(corpora.tokenizer.decode(corpus.sentence(at).tolist()))
            if text:
                lines[text] = None
            if len(lines) == most:
                break
        found[language] = list(lines)
    return {language: lines for language, lines in found.items() if lines}


def prepared_pairs(corpora: Corpora, split: str, most: int) -> dict[LanguagePair, Pairs]:
    """Return the first different pairs of each pair of languages of prepared text, decoded."""
    found = {}
    for name in corpora.names(split)["pairs"]:
        own = corpora.pairs(split, name)
        rows = np.arange(min(len(own), 4 * most))
        sides = [
            [corpora.tokenizer.decode(side.sentence(int(at)).tolist()) for at in rows]
            for side in own.sides
        ]
        try:
            found[corpora.languages.pair(name)] = distinct(sides[0], sides[1], most)
        except DataError:
            continue  # a pair with almost no text
    return found


def sample_texts(languages: Iterable[str], most: int) -> dict[str, list[str]]:
    """Return the held-out lines of the corpus that ships, which are translations of each other."""
    return {
        language: every_line(sample.path(f"valid.{language}.txt"))[:most]
        for language in sample.LANGUAGES
        if language in languages
    }


def known_to(model: PretrainedModel) -> list[str]:
    """Return the languages that a model tells apart, those with a vocabulary of their own too."""
    return [*(model.known_languages if model.tables else model.languages), *model.tables]


def add_sample(material: Material, most: int) -> None:
    """Add the held-out text of the corpus that ships, in the languages that the model knows.

    Raises ConfigError if it knows none of them.
    """
    model = material.model
    tells = model.has_languages or bool(model.tables)
    known = {*known_to(model), *material.stand_in} if tells else sample.LANGUAGES
    texts = sample_texts(known, most)
    if not texts:
        raise ConfigError(
            f"{model.source} knows none of {', '.join(sample.LANGUAGES)}, the languages of the "
            "corpus that ships: give texts or pairs, or stand_in"
        )
    material.texts, material.parallel = texts, texts
    names = list(texts)
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            own = distinct(texts[first], texts[second], most)
            material.pairs[LanguagePair(first, second)] = own


def fill_up(material: Material) -> None:
    """Take parallel lines from the first pair, and texts from the pairs, if none were given."""
    if material.pairs and not material.parallel:
        pair, own = next(iter(material.pairs.items()))
        material.parallel = {pair.first: own.first, pair.second: own.second}
    for pair, own in material.pairs.items():
        for language, lines in zip(pair, (own.first, own.second), strict=True):
            material.texts.setdefault(language, lines)
    for language, lines in material.parallel.items():
        material.texts.setdefault(language, list(dict.fromkeys(lines)))
