"""Analyses against human labels: any labeled texts, senses in context, grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from xlm.analysis.geometry import label_separation
from xlm.analysis.intervals import ODD, Estimate, correlated, in_best_layer
from xlm.analysis.minimal_pairs import Judged, by_construction, judge, rows_by_construction
from xlm.analysis.neighbors import row_cosines
from xlm.analysis.probes import (
    Probed,
    compared,
    pair_states,
    piece_counts,
    probe,
    without_context,
    words_alone,
    words_in_context,
)
from xlm.analysis.readers import InContext, MinimalPair
from xlm.analysis.report import Analysis
from xlm.analysis.sections.differences import (
    BesideUntrained,
    Values,
    add_correlation_differences,
    add_differences,
)
from xlm.analysis.sections.languages import confusion_table
from xlm.analysis.sections.material import (
    MODEL,
    UNTRAINED,
    Labeled,
    Lacks,
    Material,
    beside_untrained,
)
from xlm.analysis.states import States
from xlm.errors import ConfigError, DataError
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Tokenizer

Figures = dict[str, Estimate]


def check_labels(material: Material) -> None:
    """Raise DataError for a task whose training rows have one label."""
    for task, labeled in material.labeled.items():
        first, labels = next(iter(labeled.labels.items()))
        if len(set(labels[::2])) < 2:
            raise DataError(
                f"probes.{task}.{first}: every other line trains, and all of these have the label "
                f"{labels[0]!r}: expected two labels or more"
            )


def check_senses(material: Material) -> None:
    """Raise DataError unless the training rows of WiC have both answers."""
    answers = {row.answer for row in material.wic[0]} if material.wic is not None else {0.0, 1.0}
    if len(answers) < 2:
        shown = ("T" if answers.pop() else "F") if answers else "missing"
        raise DataError(f"wic.train: every answer is {shown}: expected both, T and F")


def labels_told(material: Material) -> Analysis:
    """Return how well a probe of one language's texts reads labels in every language."""
    if not material.labeled:
        raise Lacks("texts with labels: give probes")
    found = Analysis("probes")
    found.notes.append("even rows of the first language train, odd rows of each language test")
    for task, labeled in material.labeled.items():
        made: dict[Tokenizer, dict[str, Probed]] = {}
        results = BesideUntrained(found)
        right: dict[tuple[str, int], dict[str, Values]] = {}
        for name, model in material.named_models():
            pieces = material.vocabulary(model)
            if pieces not in made:
                made[pieces] = _by_pieces(material, model, labeled)
            states = {
                language: material.states(name, model, f"probe {task}", lines, language)
                for language, lines in labeled.texts.items()
            }
            answered: dict[str, dict[int, Probed]] = {language: {} for language in states}
            for layer in material.chosen_layers(model):
                by_layer = {language: own[layer] for language, own in states.items()}
                for language, told in _tested(by_layer, labeled, material).items():
                    of = f"{task}, {language}"
                    figures = {**told.figures, **_separation(by_layer, labeled, language, material)}
                    by_pieces = made[pieces][language].figures["accuracy"].as_null()
                    figures["accuracy"] = figures["accuracy"].beside(**{"piece counts": by_pieces})
                    results.add(figures, layer=layer, of=of, model=name)
                    answered[language][layer] = told
                    if name != UNTRAINED:
                        right.setdefault((language, layer), {})[name] = told.right
                    if name == MODEL and layer == material.chosen_layers(model)[-1]:
                        found.tables.append(confusion_table(f"{of}, layer {layer}", told))
            for language, told_by_layer in answered.items():
                layer, best = in_best_layer(told_by_layer, partial(_accuracy, told_by_layer))
                by_pieces = made[pieces][language].on(ODD).as_null()
                results.add(
                    {"best layer, accuracy": best.beside(**{"piece counts": by_pieces})},
                    layer=layer, of=f"{task}, {language}", model=name, is_chosen=True,
                )  # fmt: skip
        for (language, layer), rows in right.items():
            of = f"{task}, {language}"
            add_differences(found, "accuracy", rows, material.seed, layer=layer, of=of)
    return found


def _accuracy(told: Mapping[int, Probed], layer: int, rows: slice) -> Estimate:
    """Return the accuracy of a layer's probe on some test rows."""
    return told[layer].on(rows)


def _tested(states: dict[str, States], labeled: Labeled, material: Material) -> dict[str, Probed]:
    first = next(iter(states))
    train, train_labels = states[first][::2], labeled.labels[first][::2]
    return {
        language: probe(
            train, train_labels, own[1::2], labeled.labels[language][1::2], seed=material.seed
        )
        for language, own in states.items()
    }


def _separation(
    states: dict[str, States], labeled: Labeled, language: str, material: Material
) -> Figures:
    own = label_separation(states[language], labeled.labels[language], seed=material.seed)
    return {f"labels, {measure}": value for measure, value in own.items()}


def _by_pieces(material: Material, model: PretrainedModel, labeled: Labeled) -> dict[str, Probed]:
    """Return the probe of each language's piece counts."""
    first = next(iter(labeled.texts))
    encoded = {
        language: material.piece_rows(lines, language, model)
        for language, lines in labeled.texts.items()
    }
    size = material.vocabulary(model).vocab_size
    train = encoded[first][::2]
    found = {}
    for language, rows in encoded.items():
        test = rows[1::2]
        counts = piece_counts([*train, *test], size)
        found[language] = probe(
            counts[: len(train)], labeled.labels[first][::2],
            counts[len(train) :], labeled.labels[language][1::2],
            seed=material.seed, shuffled=False,
        )  # fmt: skip
    return found


def senses_told(material: Material) -> Analysis:
    """Return the accuracy of probes for words with one sense in two sentences (WiC)."""
    if material.wic is None:
        raise Lacks("words in context with answers: give wic")
    found = Analysis("WiC")
    train, test = material.wic
    answers = [["same" if row.answer else "other" for row in rows] for rows in (train, test)]
    results = BesideUntrained(found)
    right: dict[tuple[str, int], dict[str, Values]] = {}
    for name, model in material.named_models():
        language, tokens = material.spoken(model, material.english), material.reading.tokens
        inside = _sense_inputs(model, (train, test), language, tokens)
        bare = without_context(train), without_context(test)
        alone = _sense_inputs(model, bare, language, tokens)
        told: dict[str, dict[int, Probed]] = {measure: {} for measure in inside}
        bare_told: dict[str, dict[int, Probed]] = {measure: {} for measure in inside}
        for layer in material.chosen_layers(model):
            figures = {}
            for measure, inputs in inside.items():
                own, free = (
                    probe(
                        made[0][layer], answers[0], made[1][layer], answers[1],
                        seed=material.seed, shuffled=made is inputs,
                    )
                    for made in (inputs, alone[measure])
                )  # fmt: skip
                by_words = free.figures["accuracy"].as_null()
                accuracy = own.figures["accuracy"].beside(**{"context-free": by_words})
                figures[f"{measure}, accuracy"] = accuracy
                told[measure][layer], bare_told[measure][layer] = own, free
                if name != UNTRAINED:
                    right.setdefault((measure, layer), {})[name] = own.right
            results.add(figures, layer=layer, model=name)
        for measure, by_layer in told.items():
            layer, best = in_best_layer(by_layer, partial(_accuracy, by_layer))
            by_words = bare_told[measure][layer].on(ODD).as_null()
            results.add(
                {f"best layer, {measure}, accuracy": best.beside(**{"context-free": by_words})},
                layer=layer, model=name, is_chosen=True,
            )  # fmt: skip
    for (measure, layer), rows in right.items():
        add_differences(found, f"{measure}, accuracy", rows, material.seed, layer=layer)
    return found


def _sense_inputs(
    model: PretrainedModel,
    parts: Sequence[Sequence[InContext]],
    language: str | None,
    tokens: int,
) -> dict[str, list[list[States]]]:
    """Return the inputs of each probe for each of the parts, by layer."""
    pairs = [pair_states(model, rows, language, tokens=tokens) for rows in parts]
    words = [words_in_context(model, rows, language, tokens=tokens) for rows in parts]
    return {
        "first state of the pair": [list(own) for own in pairs],
        "words": [[compared(*layer) for layer in zip(u, v, strict=True)] for u, v in words],
    }


def similar_in_context(material: Material) -> Analysis:
    """Return how well similarities of words in context agree with human ratings (SCWS)."""
    if not material.scws:
        raise Lacks("rated words in context: give scws")
    found = Analysis("SCWS")
    ratings = np.array([row.answer for row in material.scws])
    results = BesideUntrained(found)
    cosines: dict[int, dict[str, Values]] = {}
    for name, model in material.named_models():
        language, tokens = material.spoken(model, material.english), material.reading.tokens
        inside, alone = (
            [
                row_cosines(u, v)
                for u, v in zip(*read(model, material.scws, language, tokens=tokens), strict=True)
            ]
            for read in (words_in_context, words_alone)
        )
        agreement = partial(_agreement, inside, alone, ratings)
        for layer in material.chosen_layers(model):
            results.add({"Spearman": agreement(layer, slice(None))}, layer=layer, model=name)
            if name != UNTRAINED:
                cosines.setdefault(layer, {})[name] = inside[layer]
        layer, best = in_best_layer(material.chosen_layers(model), agreement)
        results.add({"best layer, Spearman": best}, layer=layer, model=name, is_chosen=True)
    for layer, rows in cosines.items():
        add_correlation_differences(
            found, "Spearman", rows, ratings.tolist(), material.seed, layer=layer, ranks=True
        )
    return found


def _agreement(
    inside: Sequence[Values], alone: Sequence[Values], ratings: Values, layer: int, rows: slice
) -> Estimate:
    """Return the correlation of a layer's cosines with ratings, beside that without context."""
    own, free = (
        correlated(cosines[layer][rows], ratings[rows], ranks=True) for cosines in (inside, alone)
    )
    return own.beside(**{"context-free": free.as_null()})


def grammatical(material: Material) -> Analysis:
    """Return how often a model prefers the right sentence of a minimal pair, by construction."""
    if not material.minimal_pairs:
        raise Lacks("minimal pairs: give minimal_pairs")
    found = Analysis("minimal pairs")
    for language, pairs in material.minimal_pairs.items():
        fresh: dict[str, Figures] = {}
        choices: dict[str, Judged] = {}
        for name, model in material.named_models():
            spoken, tokens = material.spoken(model, language), material.reading.tokens
            try:
                judged = judge(model, pairs, spoken, tokens=tokens)
            except ConfigError as error:
                if name == MODEL:
                    raise Lacks(str(error)) from error
                if name != UNTRAINED:
                    found.notes.append(f"{name}: {error}")
                continue
            if name != UNTRAINED:
                choices[name] = judged
            if name == MODEL:
                covered = int((~np.isnan(judged.credit)).sum())
                found.notes.append(
                    f"{language}: {covered:,} of {len(pairs):,} pairs covered, "
                    f"{judged.num_inputs:,} different rows read"
                )
            for construction, figures in by_construction(pairs, judged).items():
                if name == UNTRAINED:
                    fresh[construction] = figures
                    continue
                figures = beside_untrained(figures, fresh.get(construction))
                found.add(figures, of=construction, model=name)
        compare_judged(found, pairs, choices, material.seed)
    return found


def compare_judged(
    found: Analysis, pairs: Sequence[MinimalPair], choices: Mapping[str, Judged], seed: int
) -> None:
    """Add the model's accuracy minus that of each other one, over the pairs that both judged.

    ``choices`` are of the same pairs, by the name of the model. The difference over all pairs
    weighs each of them alike, not each construction.
    """
    groups = {**rows_by_construction(pairs), "all pairs": list(range(len(pairs)))}
    for construction, rows in groups.items():
        credit = {name: own.credit[rows] for name, own in choices.items()}
        add_differences(found, "accuracy", credit, seed, of=construction)
