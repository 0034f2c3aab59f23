"""Analyses of words: translation by their vectors, and similarity against human scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.analysis.intervals import Estimate, share, undefined
from xlm.analysis.lexicon import (
    Entries,
    Lookup,
    after_map,
    file_lookup,
    found_within,
    halves,
    phrase_vectors,
    rank_candidates,
    similarity,
    usable_entries,
    word_pairs,
    word_translation,
)
from xlm.analysis.neighbors import centered, nearest, row_cosines, unit
from xlm.analysis.readers import Scored
from xlm.analysis.report import Analysis, Table
from xlm.analysis.retrieval import FEWEST_ROWS
from xlm.analysis.sections.differences import (
    Values,
    add_correlation_differences,
    add_differences,
)
from xlm.analysis.sections.material import MODEL, UNTRAINED, Lacks, Material, beside_untrained
from xlm.analysis.sections.sentences import EXAMPLES
from xlm.analysis.states import States, table_vectors
from xlm.errors import DataError
from xlm.languages import LanguagePair
from xlm.model.pretrained import PretrainedModel

COMMON = 20_000
"""Number of words of the target text that are candidates besides the dictionary's."""


def translated(material: Material) -> Analysis:
    """Return the figures of translating words by the table's vectors and by layers.

    A layer reads each word alone. ``.vec`` files are measured too, if both languages have one.
    """
    if not material.dictionaries:
        raise Lacks("a dictionary: give dictionaries")
    found = Analysis("word translation")
    for pair, dictionary in material.dictionaries.items():
        common, split = _common_words(material, pair.second), _Halves.of(dictionary)
        fresh: dict[str, dict[str, Estimate]] = {}
        right: dict[tuple[str, int | None], dict[str, Values]] = {}
        for name, model in material.named_models():
            for place, layer in [("table", None), *_layers_alone(material, model)]:
                look = _lookups(material, name, model, pair, layer)
                entries = usable_entries(dictionary, common, *look)
                figures, found_words = _both_translations(entries, split, material.seed)
                if layer is None:
                    figures = {f"{place}, {measure}": own for measure, own in figures.items()}
                if name == UNTRAINED:
                    fresh[place] = figures
                    continue
                for way, rows in found_words.items():
                    measure = f"{place}, {way}" if layer is None else way
                    right.setdefault((measure, layer), {})[name] = rows
                figures = beside_untrained(figures, fresh.get(place))
                found.add(figures, layer=layer, of=str(pair), model=name)
                if name == MODEL and layer is None:
                    found.tables.append(_found_words(pair, entries))
        for (measure, at), by_model in right.items():
            add_differences(found, measure, by_model, material.seed, layer=at, of=str(pair))
        for name, sides in _file_lookups(material, pair).items():
            entries = usable_entries(dictionary, common, *sides)
            figures, _ = _both_translations(entries, split, material.seed)
            found.add(figures, of=str(pair), model=name)
    found.notes += _files_left_out(material, material.dictionaries)
    return found


def check_dictionaries(material: Material) -> None:
    """Raise DataError for a dictionary without a usable entry in some model or ``.vec`` files."""
    for pair, dictionary in material.dictionaries.items():
        place = material.place(f"dictionaries.{pair}")
        for name, model in material.named_models(fresh=False):
            try:
                usable_entries(dictionary, (), *_lookups(material, name, model, pair, None))
            except DataError as error:
                raise DataError(
                    f"{place}: {error} in {model.source}; give a dictionary of words that its "
                    "pieces spell"
                ) from None
        for name, sides in _file_lookups(material, pair).items():
            try:
                usable_entries(dictionary, (), *sides)
            except DataError as error:
                files = [material.place(f"embeddings.{name}.{language}") for language in pair]
                raise DataError(
                    f"{place}: {error} in {' and '.join(files)}; give .vec files that hold words "
                    "of the dictionary"
                ) from None


def _file_lookups(material: Material, pair: LanguagePair) -> dict[str, tuple[Lookup, Lookup]]:
    """Return the lookups of both languages in each set of ``.vec`` files that has both."""
    return {
        name: (file_lookup(own[pair.first]), file_lookup(own[pair.second]))
        for name, own in material.embeddings.items()
        if set(pair) <= own.keys()
    }


def _files_left_out(material: Material, pairs: Iterable[LanguagePair]) -> list[str]:
    """Return a note on each set of ``.vec`` files that has one language of a pair alone."""
    return [
        f"{name}: there is no .vec file for {pair.first if pair.second in own else pair.second}, "
        f"so {pair} has no figures of it"
        for pair in dict.fromkeys(pairs)
        for name, own in material.embeddings.items()
        if len(set(pair) & own.keys()) == 1 < len(set(pair))
    ]


def _layers_alone(material: Material, model: PretrainedModel) -> list[tuple[str, int]]:
    return [(f"layer {layer}", layer) for layer in material.chosen_layers(model) if layer]


def _common_words(material: Material, language: str) -> list[str]:
    lines = material.train.get(language) or material.texts.get(language, [])
    counts = Counter(word for line in lines for word in line.split())
    return [word for word, _ in counts.most_common(COMMON)]


def _lookups(
    material: Material, name: str, model: PretrainedModel, pair: LanguagePair, layer: int | None
) -> tuple[Lookup, Lookup]:
    def of(language: str, side: str) -> Lookup:
        def look(words: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
            vectors, usable = table_vectors(model, words, material.spoken(model, language))
            if layer is None:
                return vectors, usable
            states = material.states(name, model, f"{side} words of {pair}", words, language)
            return states[layer], usable

        return look

    return of(pair.first, "first"), of(pair.second, "second")


class _Halves(NamedTuple):
    """A dictionary's source words, the same halves of which learn and test a map in every model."""

    words: list[str]
    learned: frozenset[str]

    @classmethod
    def of(cls, dictionary: Mapping[str, Sequence[str]]) -> _Halves:
        """Return the halves of a dictionary, words with a common translation in one of them."""
        words = list(dictionary)
        place = {word: at for at, word in enumerate(dict.fromkeys(chain(*dictionary.values())))}
        learned, _ = halves([[place[word] for word in own] for own in dictionary.values()])
        return cls(words, frozenset(words[at] for at in learned))

    def rows(self, entries: Entries) -> tuple[list[int], list[int]]:
        """Return the rows of the entries that learn a map, and those that test it."""
        sides: tuple[list[int], list[int]] = ([], [])
        for at, word in enumerate(entries.sources):
            sides[word not in self.learned].append(at)
        return sides


def _both_translations(
    entries: Entries, split: _Halves, seed: int
) -> tuple[dict[str, Estimate], dict[str, Values]]:
    """Return the figures before and after a map, and the words that each measure found."""
    ranked = rank_candidates(entries)
    figures = word_translation(entries, seed=seed, ranked=ranked)
    found = found_within(entries, ranked, split.words)
    try:
        mapped = after_map(entries, *split.rows(entries))
    except DataError as error:
        figures["after a map, raw nearest P@1"] = undefined(str(error))
        return {**figures, "coverage": entries.coverage}, found
    ranked = rank_candidates(mapped)
    for measure, value in word_translation(mapped, seed=seed, ranked=ranked).items():
        figures[f"after a map, {measure}"] = value
    for measure, hits in found_within(mapped, ranked, split.words).items():
        found[f"after a map, {measure}"] = hits
    return {**figures, "coverage": entries.coverage}, found


def _found_words(pair: LanguagePair, entries: Entries) -> Table:
    ids = nearest(unit(centered(entries.x)), unit(centered(entries.y)), 3).ids
    rows = []
    for at, word in enumerate(entries.sources[:EXAMPLES]):
        near = ", ".join(entries.candidates[int(i)] for i in ids[at])
        right = "yes" if ids[at, 0] in entries.gold[at] else ""
        rows.append([word, near, right])
    title = f"{pair}: words and the nearest rows of the table, each side centered"
    return Table(title, [pair.first, pair.second, "right"], rows)


def paired(material: Material) -> Analysis:
    """Return how near translated words are, and how cosines agree with human scores."""
    if not material.dictionaries and not material.similarity:
        raise Lacks("a dictionary, or pairs of words with scores: give dictionaries or similarity")
    found = Analysis("word pairs")
    for pair, dictionary in material.dictionaries.items():
        pairs = [(word, other) for word, own in dictionary.items() for other in own]
        looked = _look_up(material, pair, pairs)
        _note_coverage(found, pair, looked)
        _add_paired(found, material, pair, looked, word_pairs)
        _compare_cosines(found, material, pair, looked)
    for pair, scored in material.similarity.items():
        _add_similarity(found, material, pair, scored)
    found.notes += _files_left_out(material, [*material.dictionaries, *material.similarity])
    return found


class _Looked(NamedTuple):
    """The vectors of pairs of words in each model."""

    sides: list[tuple[str, States, States]]
    """The name of each model, before which its random weights are, with both sides ``[N, D]``."""
    usable: NDArray[np.bool_]
    """The pairs that have vectors in all models, so that these are comparable, ``[N]``."""

    @property
    def coverage(self) -> Estimate:
        """The share of pairs that are usable."""
        return share(int(self.usable.sum()), len(self.usable))


def _look_up(material: Material, pair: LanguagePair, pairs: Sequence[tuple[str, str]]) -> _Looked:
    looks = [
        (name, _lookups(material, name, model, pair, None))
        for name, model in material.named_models()
    ]
    looks += _file_lookups(material, pair).items()
    made = [
        (
            name,
            phrase_vectors(one, [first for first, _ in pairs]),
            phrase_vectors(two, [second for _, second in pairs]),
        )
        for name, (one, two) in looks
    ]
    usable = np.all([x[1] & y[1] for _, x, y in made], axis=0)
    return _Looked([(name, x[0], y[0]) for name, x, y in made], usable)


def _note_coverage(found: Analysis, pair: LanguagePair, looked: _Looked) -> None:
    num = int(looked.usable.sum())
    note = f"{pair}: {num:,} of {len(looked.usable):,} pairs have vectors"
    few = f": too few for figures, which need {FEWEST_ROWS}" if num < FEWEST_ROWS else ""
    found.notes.append(note + few)


def _add_similarity(
    found: Analysis, material: Material, pair: LanguagePair, scored: Sequence[Scored]
) -> None:
    """Add the correlations of all pairs, and of single words in lower case as MUSE has them."""
    looked = _look_up(material, pair, [(own.first, own.second) for own in scored])
    _note_coverage(found, pair, looked)
    gold = np.array([own.score for own in scored])[looked.usable].tolist()
    _add_paired(found, material, pair, looked, lambda x, y, seed: similarity(x, y, gold, seed=seed))
    _compare_correlations(found, material, pair, looked, gold)
    single = [own for own in scored if " " not in own.first and " " not in own.second]
    if not single:
        return
    lowered = _look_up(material, pair, [(own.first.lower(), own.second.lower()) for own in single])
    scores = np.array([own.score for own in single])[lowered.usable].tolist()

    def of_words(x: States, y: States, *, seed: int) -> dict[str, Estimate]:
        return {"Spearman": similarity(x, y, scores, seed=seed)["Spearman"]}

    _add_paired(found, material, pair, lowered, of_words, ", single words")


def _cosines(looked: _Looked) -> dict[str, Values]:
    """Return the cosines of the usable pairs in each model."""
    return {
        name: row_cosines(x[looked.usable], y[looked.usable])
        for name, x, y in looked.sides
        if name != UNTRAINED
    }


def _compare_cosines(
    found: Analysis, material: Material, pair: LanguagePair, looked: _Looked
) -> None:
    """Add the model's mean cosine of paired words minus that of each other one."""
    if looked.usable.sum() >= FEWEST_ROWS:
        add_differences(found, "cosine", _cosines(looked), material.seed, of=str(pair))


def _compare_correlations(
    found: Analysis,
    material: Material,
    pair: LanguagePair,
    looked: _Looked,
    gold: Sequence[float],
) -> None:
    """Add the model's correlations with the scores minus those of each other one."""
    if looked.usable.sum() < FEWEST_ROWS:
        return
    cosines = _cosines(looked)
    for measure, ranks in (("Pearson", False), ("Spearman", True)):
        add_correlation_differences(
            found, measure, cosines, gold, material.seed, of=str(pair), ranks=ranks
        )


def _add_paired(
    found: Analysis,
    material: Material,
    pair: LanguagePair,
    looked: _Looked,
    measure: Callable[..., dict[str, Estimate]],
    ending: str = "",
) -> None:
    """Add ``measure`` of the usable pairs and their coverage; coverage alone if they are few."""
    fresh: dict[str, Estimate] | None = None
    for name, x, y in looked.sides:
        figures: dict[str, Estimate] = {}
        if looked.usable.sum() >= FEWEST_ROWS:
            own = measure(x[looked.usable], y[looked.usable], seed=material.seed)
            figures = {f"{name}{ending}": value for name, value in own.items()}
        if name == UNTRAINED:
            fresh = figures
            continue
        figures = {**beside_untrained(figures, fresh), f"coverage{ending}": looked.coverage}
        found.add(figures, of=str(pair), model=name)
