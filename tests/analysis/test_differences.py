"""Differences of models on the same rows: a planted one is found, on what both have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.models import lines, tiny
from xlm.analysis.intervals import Estimate, share
from xlm.analysis.lexicon import Lookup
from xlm.analysis.minimal_pairs import Judged
from xlm.analysis.readers import InContext, MinimalPair, Scored
from xlm.analysis.report import Analysis
from xlm.analysis.retrieval import Pairs
from xlm.analysis.sections import in_context, words
from xlm.analysis.sections.in_context import (
    compare_judged,
    labels_told,
    senses_told,
    similar_in_context,
)
from xlm.analysis.sections.languages import languages_told
from xlm.analysis.sections.material import Labeled, Material
from xlm.analysis.sections.sentences import mined, retrieved
from xlm.analysis.states import States
from xlm.languages import LanguagePair

DRAW = np.random.default_rng(0)


def differences(found: Analysis) -> dict[tuple[str, str], Estimate]:
    own = [own for own in found.figures if own.measure.endswith("difference")]
    assert {figure.model for figure in own} == {"model - other"}
    return {(figure.of, figure.measure): figure.estimate for figure in own}


def value_of(found: Analysis, model: str, of: str, measure: str) -> float:
    (own,) = [
        figure.estimate.value
        for figure in found.figures
        if (figure.model, figure.of, figure.measure) == (model, of, measure)
    ]
    assert own is not None
    return own


def material(**fields: object) -> Material:
    """Return the material of two models, of which planted states are read."""
    return Material({"model": tiny(), "other": tiny()}, layers=[0], **fields)  # type: ignore[arg-type]


def noise(size: int) -> States:
    return DRAW.normal(size=(size, 4)).astype(np.float32)


def check_better(found: Analysis, of: str, measure: str, num: int) -> None:
    """The model knows nearly everything and the other one guesses."""
    own = differences(found)[of, f"{measure}, difference"]
    values = [value_of(found, name, of, measure) for name in ("model", "other")]
    assert own.value == pytest.approx(values[0] - values[1]) and own.num == num
    assert own.low is not None and own.low > 0.1


def test_minimal_pairs_are_compared_where_both_models_judged() -> None:
    """The model is right wherever the other one is, and on a tenth of the pairs besides."""
    pairs = [MinimalPair(name, "", "") for name in ("agreement", "reflexive") for _ in range(200)]
    theirs = (DRAW.random(400) < 0.5).astype(float)
    ours = theirs.copy()
    ours[np.flatnonzero(theirs[:200] == 0)[:20]] = 1.0
    ours[5], theirs[9], theirs[300:] = np.nan, np.nan, np.nan
    found = Analysis("minimal pairs")
    compare_judged(found, pairs, {"model": Judged(ours, 1), "other": Judged(theirs, 1)}, 0)
    own = differences(found)
    both = ~np.isnan(ours + theirs)
    for of, rows in (("agreement", range(200)), ("all pairs", range(400))):
        difference = own[of, "accuracy, difference"]
        kept = np.flatnonzero(both[list(rows)])
        assert difference.num == len(kept)
        assert difference.value == pytest.approx(ours[kept].mean() - theirs[kept].mean())
        assert difference.low is not None and difference.low > 0
    same = own["reflexive", "accuracy, difference"]
    assert (same.value, same.low, same.high, same.num) == (0, 0, 0, 100)
    # independent intervals of the two accuracies would not tell them apart
    alone = [share(float(np.nansum(side[:200])), 200) for side in (ours, theirs)]
    assert alone[0].low is not None and alone[1].high is not None
    assert alone[0].low < alone[1].high


def test_a_paired_interval_is_narrower_than_two_independent_ones() -> None:
    pairs = [MinimalPair("agreement", "", "")] * 300
    theirs = (DRAW.random(300) < 0.5).astype(float)
    ours = np.where(DRAW.random(300) < 0.05, 1.0, theirs)
    found = Analysis("minimal pairs")
    compare_judged(found, pairs, {"model": Judged(ours, 1), "other": Judged(theirs, 1)}, 0)
    own = differences(found)["agreement", "accuracy, difference"]
    variance = ours.var() / 300 + theirs.var() / 300
    assert own.low is not None and own.high is not None
    assert own.high - own.low < 0.5 * 2 * 1.96 * variance**0.5


def test_pairs_that_no_model_shares_have_no_difference() -> None:
    pairs = [MinimalPair("agreement", "", "")] * 2
    choices = {
        "model": Judged(np.array([1.0, np.nan]), 1), "other": Judged(np.array([np.nan, 1.0]), 1)
    }  # fmt: skip
    found = Analysis("minimal pairs")
    compare_judged(found, pairs, choices, 0)
    assert all(own.value is None and own.reason for own in differences(found).values())


def test_a_probe_of_planted_labels_is_better_than_one_of_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = lines("en", 24) * 5
    labels = ["up" if at < 0 else "down" for at in DRAW.normal(size=120)]
    shift = 9.0 * np.array([[label == "up"] for label in labels])

    def planted(self: Material, name: str, *_: object) -> list[States]:
        return [noise(120) + shift * (name == "model")]

    monkeypatch.setattr(Material, "states", planted)
    given = Labeled({"en": text}, {"en": labels})
    check_better(labels_told(material(labeled={"task": given})), "task, en", "accuracy", 60)


def test_a_language_probe_is_compared_sentence_by_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def planted(
        self: Material, name: str, model: object, key: str, text: list[str], language: str
    ) -> list[States]:
        return [noise(len(text)) + 9 * (name == "model" and language == "hi")]

    monkeypatch.setattr(Material, "states", planted)
    given = {language: lines(language, 24) * 10 for language in ("en", "hi")}
    found = languages_told(material(parallel=given))
    check_better(found, "en, hi", "raw accuracy", 60)  # 120 rows of two sentences, half of them
    same = differences(found)["en, hi", "centered accuracy, difference"]
    assert same.low is not None and same.high is not None and same.low <= 0 <= same.high


def test_senses_are_compared_on_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [InContext(["a"], 0, ["b"], 0, float(at % 3 == 0)) for at in range(120)]
    read: list[int] = []

    def planted(model: object, own: list[InContext], *_: object, **__: object) -> States:
        read.append(id(model))
        shift = 9.0 * np.array([[row.answer] for row in own]) * (id(model) == read[0])
        return (noise(len(own)) + shift)[None].astype(np.float32)

    monkeypatch.setattr(in_context, "pair_states", planted)
    monkeypatch.setattr(in_context, "words_in_context", lambda *own, **_: (planted(*own),) * 2)
    found = senses_told(material(wic=(rows, rows[:60])))
    for measure in ("first state of the pair, accuracy", "words, accuracy"):
        check_better(found, "", measure, 60)
        best = [own for own in found.figures if own.measure == f"best layer, {measure}"]
        assert [own.model for own in best] == ["model", "other"]
        assert all(own.estimate.num == 30 for own in best)
        assert {"commonest", "context-free"} <= set(best[0].estimate.nulls)


def test_words_are_compared_where_both_models_have_an_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors of translations are equal in the model, and drawn at random in the other one."""
    sources, targets = ([f"{side}{at}" for at in range(40)] for side in "ab")
    both = noise(40)

    def planted(given: Material, name: str, *_: object) -> tuple[Lookup, Lookup]:
        def of(vectors: States, missing: int) -> Lookup:
            def look(asked: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
                numbers = [int(word[1:]) for word in asked]
                return vectors[numbers], np.array([at != missing for at in numbers])

            return look

        if name == "model":
            return of(both, 3), of(both, -1)
        return of(noise(40), -1), of(noise(40), 7)

    monkeypatch.setattr(words, "_lookups", planted)
    given = {word: [other] for word, other in zip(sources, targets, strict=True)}
    found = words.translated(material(dictionaries={LanguagePair("en", "hi"): given}))
    measure = "table, raw nearest P@1"
    own = differences(found)["en-hi", f"{measure}, difference"]
    assert own.num == 38 and own.low is not None and own.low > 0.5
    assert value_of(found, "model", "en-hi", measure) == 1
    guessed = value_of(found, "other", "en-hi", measure)  # of 39, with the one the model lacks
    assert own.value == pytest.approx(1 - guessed, abs=1.5 / 38)
    for wider in ("table, raw CSLS P@10", "table, after a map, raw nearest P@5"):
        own = differences(found)["en-hi", f"{wider}, difference"]
        assert own.low is not None and own.low > 0.3 and own.num < 39


def test_a_map_is_tested_on_the_same_half_in_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that lacks the first word tests its map on the words that the other one does."""

    def planted(given: Material, name: str, *_: object) -> tuple[Lookup, Lookup]:
        def look(asked: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
            lacks = "a0" if name == "model" else ""
            return noise(len(asked)), np.array([word != lacks for word in asked])

        return look, look

    monkeypatch.setattr(words, "_lookups", planted)
    given = {f"a{at}": [f"b{at}"] for at in range(40)}
    found = words.translated(material(dictionaries={LanguagePair("en", "hi"): given}))
    own = differences(found)["en-hi", "table, after a map, raw nearest P@1, difference"]
    assert own.num == 20


def test_ratings_in_context_are_compared_on_the_same_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model's cosines are the ratings, and those of the other one are drawn at random."""
    ratings = DRAW.random(200)
    rows = [InContext(["a"], 0, ["b"], 0, float(own)) for own in ratings]
    read: list[int] = []

    def planted(
        model: object, own: list[InContext], *_: object, **__: object
    ) -> tuple[States, ...]:
        read.append(id(model))
        cosines = ratings if id(model) == read[0] else DRAW.random(200)
        turned = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
        return np.array([[[1.0, 0.0]] * 200]), turned[None]

    monkeypatch.setattr(in_context, "words_in_context", planted)
    monkeypatch.setattr(in_context, "words_alone", planted)
    check_better(similar_in_context(material(scws=rows)), "", "Spearman", 200)


def test_similarities_of_words_are_compared_on_the_same_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = DRAW.random(100)
    turned = np.stack([scores, np.sqrt(1 - scores**2)], axis=1).astype(np.float32)

    def planted(given: Material, name: str, *_: object) -> tuple[Lookup, Lookup]:
        def first(asked: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
            return np.array([[1, 0]] * len(asked), np.float32), np.ones(len(asked), bool)

        def second(asked: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
            own = (
                turned[[int(word[1:]) for word in asked]] if name == "model" else noise(100)[:, :2]
            )
            return own, np.ones(len(asked), bool)

        return first, second

    monkeypatch.setattr(words, "_lookups", planted)
    rows = [Scored(f"a{at}", f"b{at}", float(own)) for at, own in enumerate(scores)]
    found = words.paired(material(similarity={LanguagePair("en", "de"): rows}))
    for measure in ("Pearson", "Spearman"):
        check_better(found, "en-de", measure, 100)


def test_retrieval_and_mining_are_compared_on_the_same_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = noise(80)
    pair = LanguagePair("en", "hi")

    def planted(self: Material, name: str, *_: object) -> tuple[list[States], list[States]]:
        return [both], [both if name == "model" else noise(80)]

    monkeypatch.setattr(Material, "both_sides", planted)
    text = [[f"{word} {at}" for at in range(80)] for word in ("one", "two")]
    given = material(pairs={pair: Pairs(*text)})
    own = differences(retrieved(given))
    for cut in (1, 5, 10):
        found = own["en-hi", f"best layer, centered @{cut}, difference"]
        assert found.num == 40 and found.low is not None and found.low > 0.3
    found = differences(mined(given))["en-hi", "best F1, difference"]
    assert found.value is not None and found.value > 0.8
    assert found.low is not None and found.low > 0.7
