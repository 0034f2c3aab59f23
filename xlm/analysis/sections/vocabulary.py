"""Analyses that need no states: spectra of matrices, overlap of pieces, indicators of transfer."""

from __future__ import annotations

from collections.abc import Mapping

from xlm.analysis.kernel_alignment import cka
from xlm.analysis.overlap import cutting, overlaps
from xlm.analysis.report import Analysis, Table, matrix_table
from xlm.analysis.retrieval import best_layer
from xlm.analysis.sections.material import MODEL, Lacks, Material
from xlm.analysis.spectra import check_parent, spectra
from xlm.analysis.transfer import (
    FEWEST_LANGUAGES,
    between_languages,
    by_task,
    correlations,
    rank_sources,
)
from xlm.errors import DataError

ARROW = " > "
"""Separator between the languages of the training text and of the test text."""


def matrices(material: Material) -> Analysis:
    """Return the spectra of the model's matrices, and their distances from the parent's."""
    found = Analysis("spectra")
    for name, model in material.named_models(fresh=False):
        parent = material.parent if name == MODEL else None
        fresh = material.fresh.get(name)
        for matrix, figures in spectra(model, parent, fresh).items():
            found.add(figures, of=matrix, model=name)
    if material.parent is None:
        found.notes.append("no parent was given, so there are no distances")
    return found


def check_parent_shape(material: Material) -> None:
    """Raise ConfigError if the parent has other matrices than the model."""
    if material.parent is not None:
        check_parent(material.model, material.parent)


def overlapping(material: Material) -> Analysis:
    """Return the pieces shared by each ordered pair of languages, and how words are cut."""
    train = material.train or material.texts
    if not material.texts:
        raise Lacks("text of a language: give texts or data")
    found = Analysis("overlap")
    if not material.train:
        found.notes.append("there is no training text: each text stands for both sides")
    tokenizer = material.pieces
    table: dict[str, list[float | None]] = {}
    for (one, two), figures in overlaps(tokenizer, train, material.texts).items():
        found.add(figures, of=f"{one}{ARROW}{two}", model=MODEL)
        table.setdefault(one, []).append(figures["p_token"].value)
    for language, lines in material.texts.items():
        found.add(cutting(tokenizer.in_language(language), lines), of=language, model=MODEL)
    names = list(table)
    found.tables.append(
        matrix_table(
            "p_token, %, from row to column", names, list(material.texts), [*table.values()]
        )
    )
    return found


def transferred(material: Material) -> Analysis:
    """Return the correlations of indicators with scores by language, and the sources they rank.

    Besides the given indicators these are overlap, retrieval and CKA with the first language.
    Several tasks of one report are correlated one by one.
    """
    if not material.scores:
        raise Lacks("scores by language: give scores")
    found = Analysis("transfer")
    measured = _between_languages(material)
    indicators = dict(material.indicators)
    for name, own in material.indicators.items():
        if between := between_languages(own):
            measured[name] = between
            continue
        found.notes.append(
            f"{name} has a number for each language, so it ranks no sources: that needs one for "
            "each pair, such as en>hi"
        )
    if material.texts:
        source = next(iter(material.texts))
        for name, values in measured.items():
            of_source = {two: value for (one, two), value in values.items() if one == source}
            if of_source:
                indicators[f"{name} from {source}"] = of_source
    for report, scores in material.scores.items():
        for task, own in by_task(scores).items():
            _add_correlations(
                found, indicators, own, f"{report}, {task}" if task else report, material.seed
            )
    if not found.figures:
        found.notes.append(f"fewer than {FEWEST_LANGUAGES} languages have a score and an indicator")
    ranked = rank_sources(measured, lower=frozenset(material.distances))
    names = [name for name, values in measured.items() if values]
    rows = [
        [target, *(", ".join(own.get(name, ())) for name in names)]
        for target, own in ranked.items()
    ]
    if rows:
        title = "source languages of each target, best first, by each indicator"
        found.tables.append(Table(title, ["target", *names], rows))
    return found


def _add_correlations(
    found: Analysis,
    indicators: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, float],
    task: str,
    seed: int,
) -> None:
    """Add the correlations of each indicator with the scores of one task, or a note instead."""
    for name, numbers in indicators.items():
        try:
            figures = correlations(numbers, scores, seed=seed)
        except DataError as error:
            found.notes.append(f"{name} with {task}: {error}")
            continue
        found.add(figures, of=f"{name}, {task}", model=MODEL)


Indicator = dict[tuple[str, str], float]
"""A number for each source and target."""


def _between_languages(material: Material) -> dict[str, Indicator]:
    """Return overlap for each source and target, and retrieval and CKA for both of each pair.

    Those are of the layer that is best for retrieval.
    """
    found: dict[str, Indicator] = {"p_token": {}, "retrieval": {}, "CKA": {}}
    if material.texts:
        train = material.train or material.texts
        made = overlaps(material.pieces, train, material.texts)
        for (one, two), figures in made.items():
            if one != two and figures["p_token"].value is not None:
                found["p_token"][one, two] = figures["p_token"].value
    for pair in material.pairs:
        x, y = material.both_sides(MODEL, material.model, pair)
        layer, own = best_layer(x, y, material.chosen_layers(material.model))
        values = {"retrieval": own.value, "CKA": cka(x[layer], y[layer])}
        for name, value in values.items():
            if value is not None:
                found[name][pair.first, pair.second] = value
                found[name][pair.second, pair.first] = value
    return found
