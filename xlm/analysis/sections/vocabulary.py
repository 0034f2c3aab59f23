"""Analyses that need no states: spectra of matrices, overlap of pieces, indicators of transfer."""

from __future__ import annotations

from xlm.analysis.intervals import Estimate
from xlm.analysis.overlap import cutting, overlaps
from xlm.analysis.report import Analysis, Table
from xlm.analysis.sections.material import MODEL, Lacks, Material
from xlm.analysis.spectra import spectra
from xlm.analysis.transfer import FEWEST_LANGUAGES, correlations, rank_sources
from xlm.errors import DataError

ARROW = " > "
"""Separator between the languages of the training text and of the test text."""


def matrices(material: Material) -> Analysis:
    """Return the spectra of the model's matrices, and their distances from the parent's."""
    found = Analysis("spectra")
    for name, model in material.named_models(fresh=False):
        same = name == MODEL
        parent = material.parent if same else None
        fresh = material.fresh if same else None
        for matrix, figures in spectra(model, parent, fresh).items():
            found.add(figures, of=matrix, model=name)
    if material.parent is None:
        found.notes.append("no parent was given, so there are no distances")
    return found


def overlapping(material: Material) -> Analysis:
    """Return the pieces shared by each ordered pair of languages, and how words are cut."""
    train = material.train or material.texts
    if not material.texts:
        raise Lacks("text of a language: give texts or data")
    found = Analysis("overlap")
    if not material.train:
        found.notes.append("there is no training text: each text stands for both sides")
    tokenizer = material.pieces
    table: dict[str, list[str]] = {}
    for (one, two), figures in overlaps(tokenizer, train, material.texts).items():
        found.add(figures, of=f"{one}{ARROW}{two}", model=MODEL)
        value = figures["p_token"].value
        table.setdefault(one, []).append("" if value is None else f"{value:.1f}")
    for language, lines in material.texts.items():
        found.add(cutting(tokenizer.in_language(language), lines), of=language, model=MODEL)
    rows = [[one, *own] for one, own in table.items()]
    found.tables.append(Table("p_token, %, from row to column", ["", *material.texts], rows))
    return found


def transferred(material: Material) -> Analysis:
    """Return the correlations of indicators with scores by language, and the sources they rank."""
    if not material.scores:
        raise Lacks("scores by language: give scores")
    found = Analysis("transfer")
    indicators = dict(material.indicators)
    shares = _overlap_with_first(material)
    if shares:
        indicators["p_token from the first language"] = shares
    for task, scores in material.scores.items():
        for name, values in indicators.items():
            try:
                figures = correlations(values, scores, seed=material.seed)
            except DataError as error:
                found.notes.append(f"{name} with {task}: {error}")
                continue
            found.add(figures, of=f"{name}, {task}", model=MODEL)
    if not found.figures:
        found.notes.append(f"fewer than {FEWEST_LANGUAGES} languages have a score and an indicator")
    ranked = rank_sources({"p_token": _all_overlaps(material)}) if material.texts else {}
    rows = [[target, ", ".join(own["p_token"])] for target, own in ranked.items()]
    if rows:
        found.tables.append(
            Table("source languages by overlap, best first", ["target", "sources"], rows)
        )
    return found


def _all_overlaps(material: Material) -> dict[tuple[str, str], float]:
    train = material.train or material.texts
    made = overlaps(material.pieces, train, material.texts)
    return {pair: _value(figures["p_token"]) for pair, figures in made.items()}


def _overlap_with_first(material: Material) -> dict[str, float]:
    if not material.texts:
        return {}
    first = next(iter(material.texts))
    return {two: value for (one, two), value in _all_overlaps(material).items() if one == first}


def _value(own: Estimate) -> float:
    return 0.0 if own.value is None else own.value
