"""Analyses of sentences: retrieval, mining, CKA, geometry, and recognition of languages."""

from __future__ import annotations

from typing import Any

import numpy as np

from xlm.analysis import intervals
from xlm.analysis.geometry import anisotropy, label_separation, separability
from xlm.analysis.intervals import Estimate, undefined
from xlm.analysis.kernel_alignment import cka, kernel_alignment
from xlm.analysis.neighbors import centered, hits_within, nearest, own_places, unit
from xlm.analysis.probes import language_probe, piece_counts, probe
from xlm.analysis.report import Analysis, Table
from xlm.analysis.retrieval import (
    Pairs,
    best_layer,
    lexical,
    mine,
    piece_vectors,
    retrieval,
    score_mined,
)
from xlm.analysis.sections.material import MODEL, UNTRAINED, Lacks, Material, beside_untrained
from xlm.analysis.states import States, encode_lines
from xlm.analysis.tlm_gap import tlm_gap
from xlm.errors import ConfigError
from xlm.languages import LanguagePair

EXAMPLES = 20
MOST_DRAWN = 100
"""Number of sentences of each language in the picture of principal components."""
PRINCIPAL = "principal components of parallel sentences"
"""The beginning of the title of the table behind the picture."""
MOST_PROBED = 500
"""Number of sentences of each language that train and test a probe."""


def retrieved(material: Material) -> Analysis:
    """Return the figures of retrieval among the sentences of each pair, layer by layer."""
    if not material.pairs:
        raise Lacks("pairs of sentences: give pairs")
    found = Analysis("retrieval")
    for pair, own in material.pairs.items():
        _note_left_out(found, pair, own)
        by_pieces = lexical(material.pieces, own.first, own.second, material.spoken_pair(pair))
        fresh: dict[int, dict[str, Estimate]] = {}
        for name, model in material.named_models():
            x, y = material.both_sides(name, model, pair)
            for layer in material.chosen_layers(model):
                figures = retrieval(x[layer], y[layer], seed=material.seed)
                if name == UNTRAINED:
                    fresh[layer] = figures
                    continue
                figures = beside_untrained(figures, fresh.get(layer))
                figures = {
                    measure: value.beside(lexical=by_pieces[figure])
                    if (figure := _figure_of(measure)) in by_pieces
                    else value
                    for measure, value in figures.items()
                }
                found.add(figures, layer=layer, of=str(pair), model=name)
            if name != UNTRAINED:
                layer, chosen = best_layer(x, y)
                found.add(
                    {"best layer, centered @1": chosen}, layer=layer, of=str(pair), model=name
                )
        _compare(found, material, pair)
        found.tables.append(_examples(material, pair))
    return found


def _figure_of(measure: str) -> str:
    """Return ``@1`` of ``centered @1``, and ``@1, forth`` of ``centered @1, forth``."""
    scoring, at, rest = measure.partition("@")
    return f"@{rest}" if at else "reciprocal rank" + measure.partition("reciprocal rank")[2]


def _note_left_out(found: Analysis, pair: LanguagePair, own: Pairs) -> None:
    if own.num_repeated or own.num_empty:
        found.notes.append(
            f"{pair}: {len(own.first):,} pairs; {own.num_repeated:,} left out because a side was "
            f"there before, {own.num_empty:,} because a side is empty"
        )


def _row_hits(x: States, y: States) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    one, two = unit(centered(x)), unit(centered(y))
    hits = [hits_within(own_places(*own), 1) for own in ((one, two), (two, one))]
    return np.asarray((hits[0] + hits[1]) / 2)


def _compare(found: Analysis, material: Material, pair: LanguagePair) -> None:
    """Add the model's accuracy minus that of each other model, each in its best layer."""
    hits = {}
    for name, model in material.named_models(fresh=False):
        x, y = material.both_sides(name, model, pair)
        layer, _ = best_layer(x, y)
        hits[name] = _row_hits(x[layer][1::2], y[layer][1::2])
    for name, own in hits.items():
        if name != MODEL:
            difference = intervals.paired(hits[MODEL], own, material.seed)
            found.add(
                {"best layer, centered @1, difference": difference},
                of=str(pair), model=f"{MODEL} - {name}",
            )  # fmt: skip


def _examples(material: Material, pair: LanguagePair) -> Table:
    own = material.pairs[pair]
    x, y = material.both_sides(MODEL, material.model, pair)
    layer, _ = best_layer(x, y)
    ids = nearest(unit(centered(x[layer])), unit(centered(y[layer])), 1).ids[:, 0]
    rows = []
    for at in range(min(EXAMPLES, len(ids))):
        right = "yes" if ids[at] == at else ""
        rows.append([own.first[at], own.second[int(ids[at])], right])
    title = f"{pair}: sentences and what layer {layer} finds, each side centered"
    return Table(title, [pair.first, pair.second, "right"], rows)


def mined(material: Material) -> Analysis:
    """Return the best F1 of mining each pair's sentences, in the layer with the best retrieval."""
    if not material.pairs:
        raise Lacks("pairs of sentences: give pairs")
    found = Analysis("mining")
    for pair, own in material.pairs.items():
        gold = {at: at for at in range(len(own.first))}
        pieces = mine(
            *piece_vectors(material.pieces, own.first, own.second, material.spoken_pair(pair))
        )
        scores = score_mined(pieces, gold)
        null = Estimate(float(scores.f1[scores.best]), num=len(gold)).as_null()
        for name, model in material.named_models(fresh=False):
            x, y = material.both_sides(name, model, pair)
            layer, _ = best_layer(x, y)
            made = mine(x[layer], y[layer])
            scores = score_mined(made, gold)
            at = scores.best
            figures = {
                "best F1": Estimate(float(scores.f1[at]), num=len(gold), nulls={"lexical": null}),
                "precision there": Estimate(float(scores.precision[at]), num=at + 1),
                "recall there": Estimate(float(scores.recall[at]), num=len(gold)),
            }
            found.add(figures, layer=layer, of=str(pair), model=name)
            if name == MODEL:
                rows = [
                    [f"{score:.4f}", own.first[int(i)], own.second[int(j)], "yes" if i == j else ""]
                    for i, j, score in zip(*made, strict=True)
                ]
                columns = ["score", pair.first, pair.second, "right"]
                found.tables.append(Table(f"{pair}: mined pairs, layer {layer}", columns, rows))
    return found


def kernels(material: Material) -> Analysis:
    """Return CKA of the two sides of each pair, and of the model with others on each text."""
    if not material.pairs and not (material.texts and len(material.models) > 1):
        raise Lacks("pairs of sentences, or texts and a model to compare: give pairs, or compare")
    found = Analysis("CKA")
    found.notes.append(
        "nulls by permutation are made of the first 1,000 rows; the centered form gives "
        "independent rows D / (D + n)"
    )
    for pair, own in material.pairs.items():
        rows, _ = encode_lines(material.model, own.second, material.spoken_pair(pair)[1])
        sizes = [len(ids) for ids in rows]
        fresh: dict[int, dict[str, Estimate]] = {}
        for name, model in material.named_models():
            x, y = material.both_sides(name, model, pair)
            for layer in material.chosen_layers(model):
                figures = kernel_alignment(x[layer], y[layer], sizes, seed=material.seed)
                if name == UNTRAINED:
                    fresh[layer] = figures
                else:
                    figures = beside_untrained(figures, fresh.get(layer))
                    found.add(figures, layer=layer, of=str(pair), model=name)
    _between_models(found, material)
    return found


def _between_models(found: Analysis, material: Material) -> None:
    """Add the alignment of the model with every other one, and with its parent, layer by layer."""
    others = {name: own for name, own in material.models.items() if name != MODEL}
    if material.parent is not None:
        others["parent"] = material.parent
    for language, lines in material.texts.items():
        if len(lines) < 4:
            continue
        own = material.states(MODEL, material.model, "text", lines, language)
        for name, model in others.items():
            theirs = material.states(name, model, "text", lines, language)
            for layer in range(min(len(own), len(theirs))):
                value = cka(own[layer], theirs[layer])
                estimate = (
                    undefined("one side does not vary", len(lines))
                    if value is None
                    else Estimate(value, num=len(lines))
                )
                found.add(
                    {"debiased, same text": estimate},
                    layer=layer, of=language, model=f"{MODEL} - {name}",
                )  # fmt: skip


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
    counted = _piece_probe(material, doubled)
    fresh: dict[int, dict[str, Estimate]] = {}
    for name, model in material.named_models():
        states = {
            language: material.states(name, model, "two lines", lines, language)
            for language, lines in doubled.items()
        }
        for layer in material.chosen_layers(model):
            figures: dict[str, Estimate] = {}
            for measure, center in (("raw", False), ("centered", True)):
                own = {language: by_layer[layer] for language, by_layer in states.items()}
                told = language_probe(own, center=center, seed=material.seed).figures
                accuracy = told["accuracy"]
                if not center:
                    accuracy = accuracy.beside(**{"piece counts": counted.as_null()})
                figures[f"{measure} accuracy"] = accuracy
            if name == UNTRAINED:
                fresh[layer] = figures
            else:
                figures = beside_untrained(figures, fresh.get(layer))
                found.add(figures, layer=layer, of=", ".join(doubled), model=name)
    return found


def _piece_probe(material: Material, lines: dict[str, list[str]]) -> Estimate:
    rows, labels = [], []
    for language, own in lines.items():
        rows += material.piece_rows(own, language)
        labels += [language] * len(own)
    counts = piece_counts(rows, material.pieces.vocab_size)
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
    return found


def separated(material: Material) -> Analysis:
    """Return the parts of the scatter of parallel sentences, and the separation by language."""
    parallel = material.parallel
    if len(parallel) < 2 or min(map(len, parallel.values())) < 2:
        raise Lacks("lines of two languages that say the same: give parallel or pairs")
    found = Analysis("separability")
    names = list(parallel)
    labels = [name for name in names for _ in parallel[name]]
    fresh: dict[int, dict[str, Estimate]] = {}
    for name, model in material.named_models():
        states = {
            language: material.states(name, model, "parallel", lines, language)
            for language, lines in parallel.items()
        }
        for layer in material.chosen_layers(model):
            stacked = np.stack([states[language][layer] for language in names])
            figures = separability(stacked, seed=material.seed)
            told = label_separation(np.concatenate(list(stacked)), labels, seed=material.seed)
            figures.update({f"languages, {measure}": own for measure, own in told.items()})
            if name == UNTRAINED:
                fresh[layer] = figures
            else:
                figures = beside_untrained(figures, fresh.get(layer))
                found.add(figures, layer=layer, of=", ".join(names), model=name)
            if name == MODEL and layer == material.chosen_layers(model)[-1]:
                found.tables.append(_principal(names, stacked, layer))
    return found


def _principal(
    names: list[str], states: np.ndarray[Any, np.dtype[np.float32]], layer: int
) -> Table:
    """Return the coordinates of the first sentences ``[k, n, D]`` on their two principal axes."""
    points = states[:, :MOST_DRAWN].astype(np.float64)
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
    return Table(f"{PRINCIPAL}, layer {layer}", ["language", "line", "first", "second"], rows)


def translations_used(material: Material) -> Analysis:
    """Return how much a sentence's translation beside it helps to predict it."""
    if not material.pairs:
        raise Lacks("pairs of sentences: give pairs")
    found = Analysis("TLM gap")
    found.notes.append(
        f"the first {MOST_PROBED} pairs; tokens of the second sentence, a seventh masked at once"
    )
    for pair, own in material.pairs.items():
        fresh: dict[str, Estimate] | None = None
        for name, model in material.named_models():
            spoken = material.spoken(model, pair.first), material.spoken(model, pair.second)
            try:
                figures = tlm_gap(
                    model, own.first[:MOST_PROBED], own.second[:MOST_PROBED], spoken,
                    tokens=material.reading.tokens, seed=material.seed,
                )  # fmt: skip
            except ConfigError as error:
                if name == MODEL or name == UNTRAINED:
                    raise Lacks(str(error)) from error
                found.notes.append(f"{name}: {error}")
                continue
            if name == UNTRAINED:
                fresh = figures
            else:
                found.add(beside_untrained(figures, fresh), of=str(pair), model=name)
    return found
