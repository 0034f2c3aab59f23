"""Analysis of links between the words of sentences that translate each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.analysis.alignment import (
    METHODS,
    Gold,
    Links,
    Method,
    cosines,
    diagonal,
    f1_difference,
    link,
    link_counts,
    scores_of,
    usable_methods,
    word_links,
    wrong_partners,
)
from xlm.analysis.intervals import ODD, Estimate, Null, in_best_layer
from xlm.analysis.report import Analysis
from xlm.analysis.sections.differences import BesideUntrained
from xlm.analysis.sections.links import AlignedText
from xlm.analysis.sections.material import MODEL, UNTRAINED, Lacks, Material
from xlm.analysis.states import States, encode_words, longest, piece_states, word_states
from xlm.languages import LanguagePair
from xlm.model.pretrained import PretrainedModel

BY_WORDS = ", words"
"""The end of the names of scores of links between the mean states of words."""
ALONE = Null(None, reason="there is no other sentence")

CHOSEN: tuple[Method, str] = ("argmax", "")
"""The method, by pieces, whose F1 chooses a layer."""

Counts = dict[tuple[Method, str], NDArray[np.float64]]
"""The ``link_counts`` of each method, by pieces and by words."""


class _Encoded(NamedTuple):
    """Both sides of an aligned text: states of pieces, and the word of each piece."""

    first: list[States]
    first_words: list[NDArray[np.int64]]
    second: list[States]
    second_words: list[NDArray[np.int64]]
    num_cut: int


def aligned(material: Material) -> Analysis:
    """Return the scores of word links by every method, layer by layer."""
    if not material.alignments:
        raise Lacks("sentences with gold links between their words: give alignments")
    found = Analysis("word alignment")
    if usable_methods() != METHODS:
        found.notes.append("match was left out: it needs scipy, of the extra analysis")
        found.is_final = False
    for pair, text in material.alignments.items():
        sizes = [(len(a), len(b)) for a, b in zip(text.first, text.second, strict=True)]
        by_place = link_counts([diagonal(*size) for size in sizes], text.gold)
        nulls = {
            score: own.as_null() for score, own in scores_of(by_place, seed=material.seed).items()
        }
        results = BesideUntrained(found)
        counted: dict[int, dict[str, Counts]] = {}
        for name, model in material.named_models():
            encoded = _encode(material, model, pair, text)
            linked: dict[int, NDArray[np.float64]] = {}
            by_others: dict[int, Counts] = {}
            for layer in material.chosen_layers(model):
                counts = _layer_counts(encoded, layer, text.gold)
                linked[layer] = counts[CHOSEN]
                figures = _scores(counts, material.seed)
                if name != UNTRAINED:
                    counted.setdefault(layer, {})[name] = counts
                    by_others[layer] = _wrong_counts(encoded, layer, text.gold)
                    wrong = _scores(by_others[layer], material.seed)
                    figures = _beside_places(figures, nulls, wrong)
                results.add(figures, layer=layer, of=str(pair), model=name)
            layer, best = in_best_layer(linked, partial(_f1_of, linked, material.seed))
            best = best.beside(
                diagonal=scores_of(by_place[ODD], seed=material.seed)["F1"].as_null()
            )
            results.add(
                {f"best layer, {CHOSEN[0]} F1": best}, layer=layer, of=str(pair), model=name,
                is_chosen=True,
            )  # fmt: skip
            if name != UNTRAINED and encoded.num_cut:
                found.notes.append(
                    f"{name}, {pair}: {encoded.num_cut:,} sentences were cut at {longest(model)} "
                    "pieces, the most that fit its positions; their last words have no links"
                )
        for layer, by_model in counted.items():
            _compare(found, by_model, material.seed, layer, pair)
    return found


def _beside_places(
    figures: Mapping[str, Estimate], by_place: Mapping[str, Null], wrong: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """Return scores beside those of links by position, and of links to another sentence."""
    found = {}
    for measure, own in figures.items():
        score = measure.removesuffix(BY_WORDS).rsplit(" ", 1)[1]
        other = wrong[measure].as_null() if measure in wrong else ALONE
        nulls = {"diagonal": by_place[score], "wrong partners": other}
        found[measure] = own.beside(**nulls)
    return found


def _f1_of(
    counts: Mapping[int, NDArray[np.float64]], seed: int, layer: int, sentences: slice
) -> Estimate:
    return scores_of(counts[layer][sentences], seed=seed)["F1"]


def _compare(
    found: Analysis, counted: Mapping[str, Counts], seed: int, layer: int, pair: LanguagePair
) -> None:
    """Add F1 of the model's links minus that of each other one's, on the same sentences."""
    ours = counted.get(MODEL, {})
    for name, theirs in counted.items():
        if name != MODEL:
            figures = {
                f"{method} F1{kind}, difference": f1_difference(
                    own, theirs[method, kind], seed=seed
                )
                for (method, kind), own in ours.items()
            }
            found.add(figures, layer=layer, of=str(pair), model=f"{MODEL} - {name}")


def _encode(
    material: Material, model: PretrainedModel, pair: LanguagePair, text: AlignedText
) -> _Encoded:
    sides: list[list[States] | list[NDArray[np.int64]]] = []
    num_cut = 0
    for language, sentences in zip(pair, (text.first, text.second), strict=True):
        spoken = material.spoken(model, language)
        reading = model.reading(spoken)
        words = [encode_words(reading.tokenizer.in_language(spoken), own) for own in sentences]
        most = longest(reading)
        num_cut += sum(len(own.ids) > most for own in words)
        states = piece_states(
            reading, [own.ids[:most] for own in words], spoken, tokens=material.reading.tokens
        )
        sides += [states, [own.word[:most] for own in words]]
    return _Encoded(*sides, num_cut)  # type: ignore[arg-type, call-arg]


def _layer_counts(encoded: _Encoded, layer: int, gold: Sequence[Gold]) -> Counts:
    methods = usable_methods()
    links: dict[tuple[Method, str], list[Links]] = {
        (method, kind): [] for kind in ("", BY_WORDS) for method in methods
    }
    for x, words_x, y, words_y in zip(*encoded[:4], strict=True):
        pieces = x[[layer]], y[[layer]]
        means = [
            word_states(own, words) for own, words in zip(pieces, (words_x, words_y), strict=True)
        ]
        for kind, (one, two) in {
            "": ((pieces[0], words_x), (pieces[1], words_y)), BY_WORDS: means
        }.items():  # fmt: skip
            similar = cosines(one[0][0], two[0][0])
            for method in methods:
                links[method, kind].append(word_links(link(similar, method), one[1], two[1]))
    return {by: link_counts(own, gold) for by, own in links.items()}


def _scores(counts: Counts, seed: int) -> dict[str, Estimate]:
    return {
        f"{method} {score}{kind}": estimate
        for (method, kind), own in counts.items()
        for score, estimate in scores_of(own, seed=seed).items()
    }


def _wrong_counts(encoded: _Encoded, layer: int, gold: Sequence[Gold]) -> Counts:
    """Return ``_layer_counts`` of links to another sentence of similar length, none for one."""
    if len(gold) < 2:
        return {}
    partners = wrong_partners([len(words) for words in encoded.second_words])
    others = encoded._replace(
        second=[encoded.second[at] for at in partners],
        second_words=[encoded.second_words[at] for at in partners],
    )
    return _layer_counts(others, layer, gold)
