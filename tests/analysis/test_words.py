"""Words of a report: MUSE's correlation, coverage, sets of vectors, wrong partners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.analysis.models import lines, tiny
from tests.analysis.reports import NUM, fill, settings, write
from xlm.analysis.alignment import Gold, cosines, link, link_scores, word_links, wrong_partners
from xlm.analysis.states import encode_words, piece_states, table_vectors, word_states
from xlm.analyze import analyze
from xlm.errors import ConfigError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("analyze"))


def figures(report: dict[str, Any], name: str, measure: str) -> dict[str, Any]:
    """Return the figures of a measure by model, in the highest layer."""
    rows = report["analyses"][name]["figures"]
    return {row["model"]: row for row in rows if row["measure"] == measure}


def test_single_words_are_correlated_in_lower_case(root: Path, tmp_path: Path) -> None:
    """As MUSE's program does: in lower case, phrases and words without a vector left out."""
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    pairs = [("Water", "Soil"), ("The", "Of"), ("She", "He"), ("In", "On"), ("A", "One")]
    rows = [f"{a}\t{b}\t{at}" for at, (a, b) in enumerate(pairs)]
    write(tmp_path / "scored.txt", [*rows, "the water\tthe soil\t9"])
    report = analyze(
        settings(
            root, tmp_path / "a", similarity={"en-en": str(tmp_path / "scored.txt")},
            only=["word pairs"], untrained=False,
        )
    )  # fmt: skip
    x, y = (
        table_vectors(tiny(), [pair[side].lower() for pair in pairs], "en")[0] for side in (0, 1)
    )
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    own = figures(report, "word pairs", "Spearman, single words")["model"]
    assert own["value"] == pytest.approx(stats.spearmanr(cosines, range(5))[0])
    assert own["num"] == 5
    assert own["value"] != figures(report, "word pairs", "Spearman")["model"]["value"]
    assert "coverage\t" in (tmp_path / "a/figures.tsv").read_text("utf-8")


def test_coverage_is_a_figure_and_sets_of_vectors_have_names(root: Path, tmp_path: Path) -> None:
    """Word pairs are those that all have; a set with one language of the pair is said."""
    rows = (root / "vectors.vec").read_text("utf-8").splitlines()
    entries = (root / "dictionary.txt").read_text("utf-8").splitlines()
    missing = entries[0].split()[0]
    write(tmp_path / "fewer.vec", [row for row in rows if row.split()[0] != missing])
    whole, fewer = "vectors.vec", str(tmp_path / "fewer.vec")
    sets: dict[str, Any] = {
        "MUSE": {"en": whole, "hi": whole},
        "Concat": {"en": fewer, "hi": whole},
        "half": {"en": whole},
    }
    report = analyze(
        settings(
            root, tmp_path / "a", embeddings=sets, dictionaries={"en-hi": "dictionary.txt"},
            only=["word pairs", "word translation"], layers=[0], untrained=False,
        )
    )  # fmt: skip
    pairs = set(entries)
    usable = len([pair for pair in pairs if pair.split()[0] != missing])
    covered = figures(report, "word pairs", "coverage")
    assert set(covered) == {"model", "MUSE", "Concat"}
    for name, row in covered.items():
        assert (row["value"], row["num"]) == (pytest.approx(usable / len(pairs)), len(pairs))
        assert figures(report, "word pairs", "cosine")[name]["num"] == usable < len(pairs)
    assert set(figures(report, "word translation", "raw nearest P@1")) == {"MUSE", "Concat"}
    for name in ("word pairs", "word translation"):
        notes = report["analyses"][name]["notes"]
        assert "half: there is no .vec file for hi, so en-hi has no figures of it" in notes


def test_vectors_are_one_set_or_several(root: Path, tmp_path: Path) -> None:
    for embeddings, what in (
        ({"en": "vectors.vec", "MUSE": {"hi": "vectors.vec"}}, "en names a file and MUSE a set"),
        ({"model": {"hi": "vectors.vec"}}, "model is the name of a model: choose another"),
    ):
        with pytest.raises(ConfigError, match=what):
            analyze(settings(root, tmp_path / "a", embeddings=embeddings))


def test_wrong_partners_are_linked_by_the_same_method(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="match needs scipy")
    report = analyze(
        settings(
            root, tmp_path / "a", alignments={"en-hi": ["en.txt", "hi.txt", "links.txt"]},
            only=["word alignment"], layers=[2], untrained=False,
        )
    )  # fmt: skip
    model, sides = tiny(), []
    for language in ("en", "hi"):
        words = [encode_words(model.tokenizer, line.split()) for line in lines(language, NUM)]
        sides.append((piece_states(model, [own.ids for own in words], language), words))
    (x, x_words), (y, y_words) = sides
    partners = wrong_partners([len(own.ids) for own in y_words])
    gold = []
    for line in lines("en", NUM):
        links = frozenset({(0, 0)}), frozenset({(0, 0), (len(line.split()) - 1, 0)})
        gold.append(Gold(*links))
    for method in ("argmax", "forward", "match"):
        made, by_words = [], []
        for at, other in enumerate(partners):
            links = link(cosines(x[at][2], y[other][2]), method)
            made.append(word_links(links, x_words[at].word, y_words[other].word))
            (a, a_words), (b, b_words) = (
                word_states(x[at], x_words[at].word), word_states(y[other], y_words[other].word)
            )  # fmt: skip
            by_words.append(word_links(link(cosines(a[2], b[2]), method), a_words, b_words))
        for ending, found in (("", made), (", words", by_words)):
            scores = link_scores(found, gold)
            for score in ("precision", "AER"):
                own = figures(report, "word alignment", f"{method} {score}{ending}")["model"]
                null = own["nulls"]["wrong partners"]
                assert null["value"] == pytest.approx(scores[score].value, abs=1e-9)
                assert null["low"] == pytest.approx(scores[score].low, abs=1e-9)


def test_one_sentence_has_no_wrong_partner(root: Path, tmp_path: Path) -> None:
    for language in ("en", "hi"):
        write(tmp_path / f"{language}.txt", lines(language, 1))
    write(tmp_path / "links.txt", ["0-0"])
    files = [str(tmp_path / name) for name in ("en.txt", "hi.txt", "links.txt")]
    report = analyze(
        settings(
            root, tmp_path / "a", alignments={"en-hi": files}, only=["word alignment"],
            layers=[0], untrained=False,
        )
    )  # fmt: skip
    null = figures(report, "word alignment", "argmax F1")["model"]["nulls"]["wrong partners"]
    assert null == {"value": None, "reason": "there is no other sentence"}
