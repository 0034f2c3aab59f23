"""Reports of odd models, names, texts and installations."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.models import lines, tiny
from tests.analysis.reports import NUM, SMALL, fill, settings, write
from xlm.analysis.geometry import mean_cosine
from xlm.analysis.kernel_alignment import cka
from xlm.analysis.nulls import untrained
from xlm.analysis.retrieval import distinct, lexical, retrieval
from xlm.analysis.states import sentence_states
from xlm.analyze import analyze
from xlm.errors import ConfigError, DataError
from xlm.model.transformer import Transformer
from xlm.run.folder import locked
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

pytest.importorskip("sklearn", reason="probes need scikit-learn, of the extra analysis")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("analyze"))


def test_each_pair_of_languages_has_a_cell(root: Path, tmp_path: Path) -> None:
    names = ("en", "hi", "ne")
    pairs = {
        f"{a}-{b}": [f"{a}.txt", f"{b}.txt"] for at, a in enumerate(names) for b in names[at + 1 :]
    }
    long = " ".join(lines("en", 30))
    write(tmp_path / "en.txt", [long, *lines("en", NUM)[1:]])
    pairs["en-hi"][0] = str(tmp_path / "en.txt")
    config = settings(
        root, tmp_path / "a", pairs=pairs, scores={"task": "scores.tsv"}, untrained=False,
        only=["retrieval", "CKA", "transfer", "TLM gap"],
    )  # fmt: skip
    found = analyze(config)["analyses"]
    for name, title in (("retrieval", "best layer"), ("CKA", "largest mean over pairs")):
        (table,) = [
            own
            for own in found[name]["tables"]
            if title in own["title"] and own["kind"] == "matrix"
        ]
        cells = [row[1:] for row in table["rows"]]
        assert table["columns"] == ["", *names]
        for i in range(3):
            assert cells[i][i] == "" and all(cells[i][j] == cells[j][i] for j in range(3))
    # hi and ne alone have a score and a figure with en
    assert any(
        "retrieval from en with task: 2 languages" in own for own in found["transfer"]["notes"]
    )
    (cut,) = [own for own in found["retrieval"]["notes"] if "cut" in own]
    assert cut == (
        "model: 1 of 24 lines (pairs en-hi, en) were cut at 254 pieces, the most that fit its "
        "positions"
    )
    (left_out,) = [own for own in found["TLM gap"]["notes"] if "left out" in own]
    assert left_out.startswith("model, en-hi: 1 of 24 pairs have a side longer than half")


def test_what_is_not_installed_is_said(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is made; when the packages are there the same command makes up for it."""
    config = settings(
        root, tmp_path / "a", only=["anisotropy", "language probe", "word alignment"],
        alignments={"en-hi": ["en.txt", "hi.txt", "links.txt"]}, untrained=False, layers=[0, 1],
    )  # fmt: skip
    with monkeypatch.context() as without:
        for name in ("matplotlib", "sklearn.exceptions", "scipy.optimize"):
            without.setitem(sys.modules, name, None)
        report = analyze(config)
    page = (tmp_path / "a/report.html").read_text("utf-8")
    assert "pictures need matplotlib" in page and "<svg" not in page
    assert [own["analysis"] for own in report["missing"]] == ["language probe"]
    assert "match was left out" in report["analyses"]["word alignment"]["notes"][0]
    again = analyze(config)
    assert list(again["analyses"]) == ["word alignment", "language probe", "anisotropy"]
    assert again["analyses"]["word alignment"]["notes"] == []
    assert "<svg" in (tmp_path / "a/report.html").read_text("utf-8")


def test_a_folder_that_is_written_is_refused(root: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "a"), pytest.raises(ConfigError, match="is being written by another"):
        analyze(settings(root, tmp_path / "a", **SMALL))


def test_a_damaged_part_is_made_again(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = analyze(settings(root, tmp_path / "a", **SMALL))
    part = tmp_path / "a/parts/overlap.json"
    whole = part.read_bytes()
    part.write_bytes(whole[:50])
    assert analyze(settings(root, tmp_path / "a", **SMALL)) == first
    assert part.read_bytes() == whole
    assert "this analysis is made again" in caplog.text


def test_labels_that_are_all_the_same_are_named(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "labeled.tsv", [f"odd\t{line}" for line in lines("en", 8)])
    write(tmp_path / "gold.txt", ["T"] * 8)
    files = {"parity": {"en": str(tmp_path / "labeled.tsv")}}
    with pytest.raises(DataError, match=r"probes.parity.en: every other line .*label 'odd'"):
        analyze(settings(root, tmp_path / "a", probes=files, only=["probes"]))
    wic = {name: ["wic.txt", str(tmp_path / "gold.txt")] for name in ("train", "dev")}
    with pytest.raises(DataError, match=r"wic.train: every answer is T: expected both"):
        analyze(settings(root, tmp_path / "b", wic=wic, only=["WiC"], texts={}))


def test_both_sides_may_be_of_one_language(root: Path, tmp_path: Path) -> None:
    """Paraphrases, or English in two dialects: the sides are read apart."""
    write(tmp_path / "words.txt", [" ".join(line.split()[:2]) for line in lines("en", NUM)])
    config = settings(
        root, tmp_path / "a", pairs={"en-en": ["en.txt", "hi.txt"]}, texts={}, parallel={},
        only=["retrieval", "word translation"], untrained=False,
        dictionaries={"en-en": str(tmp_path / "words.txt")},
    )  # fmt: skip
    found = analyze(config)["analyses"]
    x, y = (sentence_states(tiny(), lines(side, NUM), "en")[2] for side in ("en", "hi"))
    (own,) = [
        row for row in found["retrieval"]["figures"]
        if (row["measure"], row.get("layer")) == ("raw reciprocal rank", 2)
    ]  # fmt: skip
    assert own["value"] == pytest.approx(retrieval(x, y)["raw reciprocal rank"].value)
    assert own["value"] < 1
    assert found["word translation"]["figures"]


def test_models_of_alike_names_have_their_own_states(root: Path, tmp_path: Path) -> None:
    tiny(num_layers=1).save_pretrained(tmp_path / "flat")
    compare = {"a b": str(tmp_path / "flat"), "a_b": str(root / "model")}
    report = analyze(settings(root, tmp_path / "a", compare=compare, **SMALL))
    found = {
        row["model"]: row["value"] for row in report["analyses"]["anisotropy"]["figures"]
        if (row["measure"], row["layer"], row["of"]) == ("mean cosine", 1, "en")
    }  # fmt: skip
    assert found["a_b"] == found["model"] != found["a b"]


def test_models_are_compared_beside_nulls_in_the_layers_that_were_asked_for(
    root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "ne.txt", [*lines("ne", 3), *lines("ne", 3)])
    report = analyze(
        settings(
            root, tmp_path / "a", compare={"other": str(root / "other")}, texts={"en": "en.txt"},
            pairs={}, parallel={"ne": str(tmp_path / "ne.txt")}, layers=[2], only=["CKA"],
        )
    )  # fmt: skip
    (row,) = report["analyses"]["CKA"]["figures"]
    assert (row["model"], row["of"], row["layer"]) == ("model - other", "en", 2)
    assert set(row["nulls"]) == {"untrained", "permuted", "length"}
    assert row["nulls"]["permuted"]["high"] < row["value"] == pytest.approx(1)
    x, y = (
        sentence_states(own, lines("en", NUM), "en")[2] for own in (untrained(tiny(), 0), tiny())
    )
    assert row["nulls"]["untrained"]["value"] == pytest.approx(cka(x, y))
    (table,) = report["analyses"]["CKA"]["tables"]
    assert table["columns"] == ["", "2"]
    assert "ne: 3 lines: models are compared on 4 or more" in report["analyses"]["CKA"]["notes"]


def test_compared_models_have_nulls_of_their_own(root: Path, tmp_path: Path) -> None:
    """Of their shape and of their pieces; models of one shape share theirs."""
    flat = tiny(num_layers=1)
    flat.save_pretrained(tmp_path / "flat")
    pieces = learn_fastbpe_tokenizer(lines("en", NUM) + lines("hi", NUM), 200)
    transformer = Transformer(
        flat.transformer.config, vocab_size=pieces.vocab_size, num_languages=3,
        pad_id=pieces.pad_id,
    )  # fmt: skip
    words = replace(flat, tokenizer=pieces, transformer=transformer.eval())
    words.save_pretrained(tmp_path / "words")
    compare = {"flat": str(tmp_path / "flat"), "words": str(tmp_path / "words"),
               "other": str(root / "other")}  # fmt: skip
    config = settings(
        root, tmp_path / "a", compare=compare, layers=[1], parallel={},
        only=["retrieval", "mining", "word pairs", "anisotropy", "TLM gap"],
        dictionaries={"en-hi": "dictionary.txt"},
    )  # fmt: skip
    found = analyze(config)["analyses"]

    def nulls(name: str, measure: str, null: str) -> dict[str, float]:
        rows = [
            row for row in found[name]["figures"]
            if row["measure"] == measure and row.get("of") in ("en", "en-hi")
        ]  # fmt: skip
        return {row["model"]: row["nulls"][null]["value"] for row in rows}

    cosines = nulls("anisotropy", "mean cosine", "untrained")
    for name, own in (("model", tiny()), ("other", tiny()), ("flat", flat), ("words", words)):
        (states,) = sentence_states(untrained(own, 0), lines("en", NUM), "en")[1:2]
        assert cosines[name] == pytest.approx(mean_cosine(states)), name
    pairs = distinct(lines("en", NUM), lines("hi", NUM))
    hits = nulls("retrieval", "raw reciprocal rank", "lexical")
    for name, own in (("model", tiny()), ("flat", flat), ("words", words)):
        by_pieces = lexical(own.tokenizer, pairs.first, pairs.second)["reciprocal rank"]
        assert hits[name] == pytest.approx(by_pieces.value), name
    assert hits["words"] != hits["model"] == hits["flat"]
    mined = nulls("mining", "best F1", "lexical")
    assert mined["flat"] == mined["model"] and mined.keys() == hits.keys()
    norms = nulls("word pairs", "cosine", "untrained")
    assert norms["model"] == norms["other"] != norms["words"]
    gap = found["TLM gap"]
    compared = {row["model"] for row in gap["figures"] if row["measure"] == "gain, difference"}
    assert compared == {"model - flat", "model - other"}  # nats of other pieces are of other tokens
    assert "words, en-hi: it has other pieces, so nats a token do not compare" in gap["notes"]


def test_a_compared_model_without_an_output_stops_no_other(root: Path, tmp_path: Path) -> None:
    replace(tiny(num_layers=1), extra={"no head": True}).save_pretrained(tmp_path / "bare")
    config = settings(
        root, tmp_path / "a", compare={"bare": str(tmp_path / "bare")},
        only=["minimal pairs", "TLM gap"], minimal_pairs={"en": "pairs.tsv"},
    )  # fmt: skip
    report = analyze(config)
    assert report["missing"] == []
    for own in report["analyses"].values():
        assert {row["model"] for row in own["figures"]} == {"model"}
        assert all("untrained" in row["nulls"] for row in own["figures"] if row["value"] == 0.5)
        assert sum(note.startswith("bare: ") for note in own["notes"]) == 1


def test_a_stand_in_speaks_for_a_language(root: Path, tmp_path: Path) -> None:
    given = {"texts": {"de": "en.txt"}, "pairs": {}, "parallel": {}, "stand_in": {"de": "en"}}
    report = analyze(settings(root, tmp_path / "a", **SMALL, **given))
    (row, *_) = report["analyses"]["anisotropy"]["figures"]
    assert row["of"] == "de"


def test_tasks_of_a_report_are_correlated_one_by_one(root: Path, tmp_path: Path) -> None:
    """Of nli/en and pos/en each task has its own correlation, and indicators rank sources."""
    streams = {
        f"{task}/{language}": {"chosen": {"mean": score}}
        for task, scores in {"nli": (0.8, 0.6, 0.5), "pos": (0.5, 0.6, 0.9)}.items()
        for language, score in zip(("en", "hi", "ne"), scores, strict=True)
    }
    (tmp_path / "report.json").write_text(json.dumps({"streams": streams}), encoding="utf-8")
    write(tmp_path / "far.tsv", ["en>hi\t0.4", "ne>hi\t0.1", "hi>ne\t0.2", "en>ne\t0.5"])
    indicators = {"distance": "distance.tsv", "far": str(tmp_path / "far.tsv")}
    config = settings(
        root, tmp_path / "a", scores={"xtreme": str(tmp_path / "report.json")},
        indicators=indicators, distances=["far"], only=["transfer"], untrained=False,
    )  # fmt: skip
    found = analyze(config)["analyses"]["transfer"]
    values = {row["of"]: row["value"] for row in found["figures"] if row["measure"] == "Pearson"}
    distance = (0, 0.4, 0.5)
    assert values["distance, xtreme, nli"] == pytest.approx(
        np.corrcoef(distance, (0.8, 0.6, 0.5))[0, 1]
    )
    assert values["distance, xtreme, pos"] == pytest.approx(
        np.corrcoef(distance, (0.5, 0.6, 0.9))[0, 1]
    )
    (ranked,) = found["tables"]
    at = ranked["columns"].index("far")
    assert {row[0]: row[at] for row in ranked["rows"]} == {"hi": "ne, en", "ne": "hi, en", "en": ""}
    assert "distance has a number for each language, so it ranks no sources" in found["notes"][0]
    with pytest.raises(ConfigError, match="distances names 'near': expected some of indicators"):
        settings(root, tmp_path / "a", distances=["near"])


@pytest.mark.parametrize(("gold", "told"), [(["T"] * 4 + ["F"] * 4, 1), (["T", "F"] * 4, 0.5)])
def test_senses_are_told_without_their_contexts_too(
    root: Path, tmp_path: Path, gold: list[str], told: float
) -> None:
    """Rows of two words, of which the word alone has the answer, or nothing has it."""
    write(tmp_path / "gold.txt", gold)
    files = {name: ["wic.txt", str(tmp_path / "gold.txt")] for name in ("train", "dev")}
    config = settings(root, tmp_path / "a", wic=files, only=["WiC"], untrained=False)
    rows = analyze(config)["analyses"]["WiC"]["figures"]
    by_layer = [row for row in rows if "best" not in row["measure"]]
    assert {row["nulls"]["context-free"]["value"] for row in by_layer if row["layer"]} == {told}
    assert len(by_layer) == 6
    best = [row for row in rows if "best" in row["measure"]]
    assert [row["num"] for row in best] == [4, 4]
