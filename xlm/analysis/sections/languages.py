"""Analyses of how languages lie in the space of states: what tells them apart, scatter, cosines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlm.analysis.geometry import (
    anisotropy,
    anisotropy_difference,
    label_separation,
    separability,
    separability_difference,
)
from xlm.analysis.intervals import Estimate
from xlm.analysis.probes import Probed, language_probe, piece_counts, probe
from xlm.analysis.report import Analysis, Table
from xlm.analysis.sections.differences import BesideUntrained, Values, add_differences
from xlm.analysis.sections.material import MODEL, UNTRAINED, Lacks, Material, beside_untrained
from xlm.analysis.states import States
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Tokenizer

MOST_DRAWN = 100
"""Number of sentences of each language in the picture of principal components."""
MOST_PROBED = 500
"""Number of sentences of each language that train and test a probe."""


def languages_told(material: Material) -> Analysis:
    """Return how well a probe recognizes the languages of sentences, raw and centered."""
    parallel = {name: own[:MOST_PROBED] for name, own in material.parallel.items()}
    if len(parallel) < 2 or min(map(len, parallel.values())) < 8:
        raise Lacks("8 lines or more of two languages that say the same: give parallel or pairs")
    found = Analysis("language probe")
    found.notes.append(
        "two sentences a row; even rows train, odd ones test; means of languages are of training "
        "rows"
    )
    doubled = {
        name: [f"{one} {two}" for one, two in zip(own[::2], own[1::2], strict=False)]
        for name, own in parallel.items()
    }
    counted: dict[Tokenizer, Estimate] = {}
    fresh: dict[int, dict[str, Estimate]] = {}
    right: dict[tuple[str, int], dict[str, Values]] = {}
    for name, model in material.named_models():
        pieces = material.vocabulary(model)
        if pieces not in counted:
            counted[pieces] = _piece_probe(material, model, doubled)
        states = {
            language: material.states(name, model, "two lines", lines, language)
            for language, lines in doubled.items()
        }
        for layer in material.chosen_layers(model):
            figures: dict[str, Estimate] = {}
            for measure, center in (("raw", False), ("centered", True)):
                own = {language: by_layer[layer] for language, by_layer in states.items()}
                told = language_probe(own, center=center, seed=material.seed)
                accuracy = told.figures.pop("accuracy")
                if not center:
                    accuracy = accuracy.beside(**{"piece counts": counted[pieces].as_null()})
                figures[f"{measure} accuracy"] = accuracy
                if name != UNTRAINED:
                    right.setdefault((measure, layer), {})[name] = _by_sentence(told, len(states))
                figures.update({f"{measure} {name}": own for name, own in told.figures.items()})
                if name == MODEL and layer == material.chosen_layers(model)[-1]:
                    found.tables.append(confusion_table(f"{measure}, layer {layer}", told))
            if name == UNTRAINED:
                fresh[layer] = figures
            else:
                figures = beside_untrained(figures, fresh.get(layer))
                found.add(figures, layer=layer, of=", ".join(doubled), model=name)
    for (measure, layer), rows in right.items():
        add_differences(
            found, f"{measure} accuracy", rows, material.seed, layer=layer, of=", ".join(doubled)
        )
    return found


def _by_sentence(told: Probed, num_languages: int) -> Values:
    """Return the share of right answers on each sentence, over its translations."""
    return np.asarray(told.right.reshape(num_languages, -1).mean(0))


def confusion_table(title: str, told: Probed) -> Table:
    """Return the counts of a probe's answers: gold labels in rows, the probe's in columns."""
    rows = [
        [label, *(f"{value:.0f}" for value in values)]
        for label, values in zip(told.labels, told.confusion, strict=True)
    ]
    return Table(f"{title}: gold in rows, probe in columns", ["", *told.labels], rows)


def _piece_probe(
    material: Material, model: PretrainedModel, lines: dict[str, list[str]]
) -> Estimate:
    rows, labels = [], []
    for language, own in lines.items():
        rows += material.piece_rows(own, language, model)
        labels += [language] * len(own)
    counts = piece_counts(rows, material.vocabulary(model).vocab_size)
    sides: list[list[int]] = [[], []]
    start = 0
    for own in lines.values():
        for side in (0, 1):
            sides[side] += range(start + side, start + len(own), 2)
        start += len(own)
    train, test = sides
    told = probe(
        counts[train], [labels[at] for at in train], counts[test], [labels[at] for at in test],
        seed=material.seed, shuffled=False,
    )  # fmt: skip
    return told.figures["accuracy"]


def anisotropic(material: Material) -> Analysis:
    """Return how far the sentences of each language point in the same direction, layer by layer."""
    if not material.texts:
        raise Lacks("text of a language: give texts or data")
    found = Analysis("anisotropy")
    for language, lines in material.texts.items():
        fresh: dict[int, dict[str, Estimate]] = {}
        for name, model in material.named_models():
            states = material.states(name, model, "text", lines, language)
            for layer in material.chosen_layers(model):
                figures = anisotropy(states[layer], seed=material.seed)
                if name == UNTRAINED:
                    fresh[layer] = figures
                else:
                    figures = beside_untrained(figures, fresh.get(layer))
                    found.add(figures, layer=layer, of=language, model=name)
        _compare_cosines(found, material, language, lines)
    return found


def _compare_cosines(
    found: Analysis, material: Material, language: str, lines: Sequence[str]
) -> None:
    """Add the model's mean cosine minus that of each other model, layer by layer."""
    own = material.states(MODEL, material.model, "text", lines, language)
    for name, model in material.named_models(fresh=False):
        if name == MODEL:
            continue
        theirs = material.states(name, model, "text", lines, language)
        for layer in material.chosen_layers(material.model):
            if layer < len(theirs):
                value = anisotropy_difference(own[layer], theirs[layer], seed=material.seed)
                found.add(
                    {"mean cosine, difference": value}, layer=layer, of=language,
                    model=f"{MODEL} - {name}",
                )  # fmt: skip


def separated(material: Material) -> Analysis:
    """Return the parts of the scatter of parallel sentences, and the separation by language."""
    parallel = material.parallel
    if len(parallel) < 2 or min(map(len, parallel.values())) < 2:
        raise Lacks("lines of two languages that say the same: give parallel or pairs")
    found = Analysis("separability")
    names = list(parallel)
    labels = [name for name in names for _ in parallel[name]]
    results = BesideUntrained(found)
    for name, model in material.named_models():
        states = _parallel_states(material, name, model)
        for layer in material.chosen_layers(model):
            sides = [own[layer] for own in states]
            figures = separability(sides, seed=material.seed)
            told = label_separation(np.concatenate(sides), labels, seed=material.seed)
            figures.update({f"languages, {measure}": own for measure, own in told.items()})
            results.add(figures, layer=layer, of=", ".join(names), model=name)
            if name == MODEL and layer == material.chosen_layers(model)[-1]:
                found.tables.append(_principal(names, sides, layer))
    _compare_separability(found, material)
    return found


def _parallel_states(material: Material, name: str, model: PretrainedModel) -> list[list[States]]:
    """Return the states of the parallel sentences of each language, by layer."""
    return [
        material.states(name, model, "parallel", lines, language)
        for language, lines in material.parallel.items()
    ]


def _compare_separability(found: Analysis, material: Material) -> None:
    """Add the sentence's share of the model minus that of each other model, layer by layer."""
    own = _parallel_states(material, MODEL, material.model)
    for name, model in material.named_models(fresh=False):
        if name == MODEL:
            continue
        theirs = _parallel_states(material, name, model)
        for layer in material.chosen_layers(material.model):
            if layer < len(theirs[0]):
                value = separability_difference(
                    [side[layer] for side in own], [side[layer] for side in theirs],
                    seed=material.seed,
                )  # fmt: skip
                found.add(
                    {"sentence without language, difference": value}, layer=layer,
                    of=", ".join(material.parallel), model=f"{MODEL} - {name}",
                )  # fmt: skip


def _principal(names: list[str], states: Sequence[States], layer: int) -> Table:
    """Return the coordinates of each language's first sentences on their two principal axes."""
    points = np.stack([own[:MOST_DRAWN] for own in states]).astype(np.float64)
    flat = points.reshape(-1, points.shape[2])
    flat = flat - flat.mean(0)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    turned = flat @ axes[:2].T
    # the sign of an axis is arbitrary: make its largest part positive
    signs = np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(1)])
    places = (turned * signs).reshape(*points.shape[:2], -1)
    rows = [
        [name, str(line), *(f"{value:.4g}" for value in place[:2])]
        for name, own in zip(names, places, strict=True)
        for line, place in enumerate(own)
    ]
    title = f"principal components of parallel sentences, layer {layer}"
    return Table(title, ["language", "line", "first", "second"], rows, "points")
