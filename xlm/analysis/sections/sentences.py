"""Analyses of pairs of sentences: retrieval, mining, CKA, the gain from a translation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from xlm.analysis.intervals import ODD, Estimate, Null, of_enough, ratio
from xlm.analysis.kernel_alignment import (
    FEWEST_ROWS,
    MOST_PERMUTED,
    cka,
    cka_matrix,
    kernel_alignment,
)
from xlm.analysis.neighbors import centered, nearest, unit
from xlm.analysis.report import Analysis, Table, matrix_table
from xlm.analysis.retrieval import (
    CUTS,
    Mined,
    Pairs,
    best_layer,
    hits_of_rows,
    lexical,
    mine,
    mined_by_row,
    mined_f1,
    mined_f1_difference,
    piece_vectors,
    retrieval,
    score_mined,
)
from xlm.analysis.sections.differences import Values, add_differences
from xlm.analysis.sections.material import MODEL, UNTRAINED, Lacks, Material, beside_untrained
from xlm.analysis.states import States, encode_lines
from xlm.analysis.tlm_gap import (
    GapRows,
    GapSums,
    gap_differences,
    gap_estimates,
    gap_rows,
    read_gap,
)
from xlm.errors import ConfigError
from xlm.languages import LanguagePair
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Tokenizer

EXAMPLES = 20
MOST_GAP = 500
"""Number of pairs that are read beside true and wrong partners."""


def retrieved(material: Material) -> Analysis:
    """Return the figures of retrieval among the sentences of each pair, layer by layer."""
    if not material.pairs:
        raise Lacks("pairs of sentences: give pairs")
    found = Analysis("retrieval")
    best: dict[LanguagePair, float | None] = {}
    for pair, own in material.pairs.items():
        _note_left_out(found, pair, own)
        made: dict[Vocabulary, tuple[dict[str, Null], dict[str, Null]]] = {}
        fresh: dict[int, dict[str, Estimate]] = {}
        by_chance: Null | None = None
        for name, model in material.named_models():
            by_pieces, odd = _both_lexical(material, model, pair, made)
            x, y = material.both_sides(name, model, pair)
            for layer in material.chosen_layers(model):
                figures = retrieval(x[layer], y[layer], seed=material.seed)
                if name == UNTRAINED:
                    fresh[layer] = figures
                    continue
                figures = beside_untrained(figures, fresh.get(layer))
                figures = {
                    measure: value.beside(lexical=by_pieces[_figure_of(measure)])
                    for measure, value in figures.items()
                }
                found.add(figures, layer=layer, of=str(pair), model=name)
            layer, chosen = best_layer(x, y, material.chosen_layers(model))
            if name == UNTRAINED:
                by_chance = chosen.as_null()
                continue
            if by_chance is not None:
                chosen = chosen.beside(untrained=by_chance)
            chosen = chosen.beside(lexical=odd["@1"])
            found.add({"best layer, centered @1": chosen}, layer=layer, of=str(pair), model=name)
            if name == MODEL:
                best[pair] = chosen.value
        _compare(found, material, pair)
        found.tables.append(_examples(material, pair))
    if len(best) > 1:
        found.tables.append(by_languages("centered @1 in each pair's best layer", best))
    return found


Vocabulary = tuple[Tokenizer, tuple[str | None, str | None]]
"""The pieces of a model, and the names by which it knows two languages."""


def _both_lexical(
    material: Material,
    model: PretrainedModel,
    pair: LanguagePair,
    made: dict[Vocabulary, tuple[dict[str, Null], dict[str, Null]]],
) -> tuple[dict[str, Null], dict[str, Null]]:
    """Return ``lexical`` of all sentences and of every other one, made once a vocabulary."""
    at = material.vocabulary(model), material.spoken_pair(model, pair)
    if at not in made:
        own = material.pairs[pair]
        made[at] = (
            lexical(at[0], own.first, own.second, at[1]),
            lexical(at[0], own.first[ODD], own.second[ODD], at[1]),
        )
    return made[at]


def by_languages(title: str, values: Mapping[LanguagePair, float | None]) -> Table:
    """Return a symmetric matrix of languages from a value for each pair."""
    names = list(dict.fromkeys(language for pair in values for language in pair))
    both = {(pair.first, pair.second): value for pair, value in values.items()}
    cells = [[both.get((a, b), both.get((b, a))) for b in names] for a in names]
    return matrix_table(title, names, names, cells)


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


def _compare(found: Analysis, material: Material, pair: LanguagePair) -> None:
    """Add the model's accuracies minus those of each other model, each in its best layer."""
    hits: dict[int, dict[str, Values]] = {cut: {} for cut in CUTS}
    for name, model in material.named_models(fresh=False):
        x, y = material.both_sides(name, model, pair)
        layer, _ = best_layer(x, y, material.chosen_layers(model))
        for cut in CUTS:
            hits[cut][name] = hits_of_rows(x[layer][ODD], y[layer][ODD], cut)
    for cut, rows in hits.items():
        add_differences(found, f"best layer, centered @{cut}", rows, material.seed, of=str(pair))


def _examples(material: Material, pair: LanguagePair) -> Table:
    own = material.pairs[pair]
    x, y = material.both_sides(MODEL, material.model, pair)
    layer, _ = best_layer(x, y, material.chosen_layers(material.model))
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
        made: dict[Vocabulary, Null] = {}
        by_row: dict[str, Values] = {}
        for name, model in material.named_models(fresh=False):
            vocabulary = material.vocabulary(model), material.spoken_pair(model, pair)
            if vocabulary not in made:
                sides = piece_vectors(vocabulary[0], own.first, own.second, vocabulary[1])
                made[vocabulary] = _best_f1(mine(*sides), gold, material.seed)[0].as_null()
            x, y = material.both_sides(name, model, pair)
            layer, _ = best_layer(x, y, material.chosen_layers(model))
            best = mine(x[layer], y[layer])
            scores = score_mined(best, gold)
            at = scores.best
            f1, by_row[name] = _best_f1(best, gold, material.seed)
            figures = {
                "best F1": f1.beside(lexical=made[vocabulary]),
                "precision there": Estimate(float(scores.precision[at]), num=at + 1),
                "recall there": Estimate(float(scores.recall[at]), num=len(gold)),
            }
            found.add(figures, layer=layer, of=str(pair), model=name)
            if name == MODEL:
                rows = [
                    [f"{score:.4f}", own.first[int(i)], own.second[int(j)],
                     "yes" if i == j else "", *(f"{value:.4f}" for value in down_to)]
                    for i, j, score, *down_to in zip(*best, *scores, strict=True)
                ]  # fmt: skip
                columns = ["score", pair.first, pair.second, "right", *scores._fields]
                found.tables.append(Table(f"{pair}: mined pairs, layer {layer}", columns, rows))
        for name, theirs in by_row.items():
            if name != MODEL:
                value = mined_f1_difference(by_row[MODEL], theirs, seed=material.seed)
                found.add({"best F1, difference": value}, of=str(pair), model=f"{MODEL} - {name}")
    return found


def _best_f1(best: Mined, gold: Mapping[int, int], seed: int) -> tuple[Estimate, Values]:
    """Return the best F1, with its interval at this threshold, and ``mined_by_row`` there.

    An F1 of 0 or 1 is that of every resample, and has no interval.
    """
    rows = mined_by_row(best, gold, len(gold), score_mined(best, gold).best)
    f1 = of_enough(ratio(rows, mined_f1, seed))
    return replace(f1, low=None, high=None) if f1.low == f1.high else f1, rows


def kernels(material: Material) -> Analysis:
    """Return CKA of the two sides of each pair, and of the model with others on each text."""
    others = len(material.models) > 1 or material.parent is not None
    if not material.pairs and not (material.texts and others):
        raise Lacks("pairs of sentences, or texts and another model: give pairs, compare or parent")
    found = Analysis("CKA")
    values: dict[int, dict[LanguagePair, float | None]] = {}
    found.notes.append(
        "nulls by permutation are made of the first 1,000 rows; the centered form gives "
        "independent rows D / (D + n)"
    )
    for pair, own in material.pairs.items():
        fresh: dict[int, dict[str, Estimate]] = {}
        for name, model in material.named_models():
            sizes = _sizes(material, model, own.second, pair.second)
            x, y = material.both_sides(name, model, pair)
            for layer in material.chosen_layers(model):
                figures = kernel_alignment(x[layer], y[layer], sizes, seed=material.seed)
                if name == UNTRAINED:
                    fresh[layer] = figures
                else:
                    figures = beside_untrained(figures, fresh.get(layer))
                    found.add(figures, layer=layer, of=str(pair), model=name)
                if name == MODEL:
                    values.setdefault(layer, {})[pair] = figures["debiased"].value
            if name == MODEL:
                title = f"debiased CKA, layers of {pair.first} in rows, of {pair.second} in columns"
                layers = material.chosen_layers(model)
                found.tables.append(
                    _every_layer(title, *({at: side[at] for at in layers} for side in (x, y)))
                )
    _between_models(found, material)
    if len(material.pairs) > 1:
        layer = max(values, key=lambda at: mean_defined(values[at].values()))
        title = f"debiased CKA, layer {layer}, which has the largest mean over pairs"
        found.tables.append(by_languages(title, values[layer]))
    return found


def mean_defined(values: Iterable[float | None]) -> float:
    """Return the mean of the values that are defined, below every other one if none is."""
    own = [value for value in values if value is not None]
    return sum(own) / len(own) if own else -math.inf


def _every_layer(title: str, x: Mapping[int, States], y: Mapping[int, States]) -> Table:
    """Return the debiased CKA of every layer with every layer, of the first rows."""
    rows, columns = ([own[:MOST_PERMUTED] for own in layers.values()] for layers in (x, y))
    values = [
        [None if math.isnan(value) else value for value in line]
        for line in cka_matrix(rows, columns).tolist()
    ]
    return matrix_table(title, list(map(str, x)), list(map(str, y)), values)


def _between_models(found: Analysis, material: Material) -> None:
    """Add the alignment of the model with every other one, and with its parent, layer by layer."""
    others = {name: own for name, own in material.models.items() if name != MODEL}
    if material.parent is not None:
        others["parent"] = material.parent
    if not others:
        return
    layers = material.chosen_layers(material.model)
    for language, lines in material.texts.items():
        if len(lines) < FEWEST_ROWS:
            found.notes.append(
                f"{language}: {len(lines)} lines: models are compared on {FEWEST_ROWS} or more"
            )
            continue
        sizes = _sizes(material, material.model, lines, language)
        own = material.states(MODEL, material.model, "text", lines, language)
        fresh = None
        if MODEL in material.fresh:
            fresh = material.states(UNTRAINED, material.fresh[MODEL], "text", lines, language)
        for name, model in others.items():
            theirs = material.states(name, model, "text", lines, language)
            for layer in layers:
                if layer >= len(theirs):
                    continue
                estimate = kernel_alignment(
                    own[layer], theirs[layer], sizes, seed=material.seed, kinds=("debiased",)
                )["debiased"]
                if fresh is not None:
                    estimate = estimate.beside(untrained=_alone(fresh[layer], theirs[layer]))
                found.add(
                    {"debiased, same text": estimate},
                    layer=layer, of=language, model=f"{MODEL} - {name}",
                )  # fmt: skip
            title = f"debiased CKA on {language}, layers of {MODEL} in rows, of {name} in columns"
            shown = [{at: side[at] for at in layers if at < len(side)} for side in (own, theirs)]
            found.tables.append(_every_layer(title, *shown))


def _sizes(
    material: Material, model: PretrainedModel, lines: Sequence[str], language: str
) -> list[int]:
    """Return the number of pieces in the model of the first lines, which are permuted."""
    rows, _ = encode_lines(model, lines[:MOST_PERMUTED], material.spoken(model, language))
    return [len(ids) for ids in rows]


def _alone(x: States, y: States) -> Null:
    """Return the debiased CKA as a null."""
    value = cka(x, y)
    return Null(value, reason="one side does not vary" if value is None else "")


def translations_used(material: Material) -> Analysis:
    """Return how much a sentence's translation beside it helps to predict it."""
    if not material.pairs:
        raise Lacks("pairs of sentences: give pairs")
    found = Analysis("TLM gap")
    found.notes.append(
        f"the first {MOST_GAP} pairs; tokens of the second sentence, a seventh masked at once"
    )
    for pair, own in material.pairs.items():
        fresh: dict[str, Estimate] | None = None
        read: dict[str, tuple[GapRows, GapSums]] = {}
        for name, model in material.named_models():
            spoken = material.spoken(model, pair.first), material.spoken(model, pair.second)
            try:
                rows = gap_rows(model, own.first[:MOST_GAP], own.second[:MOST_GAP], spoken)
                sums = read_gap(model, rows, spoken, tokens=material.reading.tokens)
            except ConfigError as error:
                if name == MODEL:
                    raise Lacks(str(error)) from error
                if name != UNTRAINED:
                    found.notes.append(f"{name}: {error}")
                continue
            figures = gap_estimates(rows, sums, material.seed)
            if name == UNTRAINED:
                fresh = figures
                continue
            read[name] = rows, sums
            found.add(beside_untrained(figures, fresh), of=str(pair), model=name)
            num, fitting = len(own.first[:MOST_GAP]), len(rows.sentences)
            if fitting < num:
                found.notes.append(
                    f"{name}, {pair}: {num - fitting:,} of {num:,} pairs have a side longer than "
                    "half of the model's positions, and are left out"
                )
        _compare_gaps(found, material, pair, read)
    return found


def _compare_gaps(
    found: Analysis,
    material: Material,
    pair: LanguagePair,
    read: Mapping[str, tuple[GapRows, GapSums]],
) -> None:
    """Add the model's gain and gap minus those of each other one that has the same pieces."""
    for name, (rows, sums) in read.items():
        if name == MODEL or MODEL not in read:
            continue
        if material.vocabulary(material.models[name]) is not material.pieces:
            found.notes.append(
                f"{name}, {pair}: it has other pieces, so nats a token do not compare"
            )
            continue
        own = gap_differences((read[MODEL][0], rows), (read[MODEL][1], sums), material.seed)
        found.add(
            {f"{measure}, difference": value for measure, value in own.items()},
            of=str(pair), model=f"{MODEL} - {name}",
        )  # fmt: skip
