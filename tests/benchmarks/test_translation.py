"""What measurements of translation rest on: text without pairs, nested sizes, scores, tables."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies import supervised, unsupervised_real
from benchmarks.support import tables, toy, translators
from xlm.errors import ConfigError, DataError


def test_no_sentence_of_the_halves_meets_its_translation() -> None:
    pairs = [("a", "A"), ("b", "B"), ("c", "C"), ("a", "A2"), ("d", "B"), ("e", "E")]
    first, second = map(list, zip(*pairs, strict=True))
    one, other = unsupervised_real.halves(first, second)
    # A2 translates a, which is in the first half; B of the second half translates b
    assert one == ["a", "b", "c"] and other == ["E"]
    assert not {(x, y) for x, y in pairs if x in one and y in other}


def test_smaller_sets_of_pairs_are_in_larger_ones(tmp_path: Path) -> None:
    toy.data(tmp_path)
    arguments = Namespace(data=tmp_path / "toy", sizes=[20, 50, 58, 1000])
    assert supervised.sizes(arguments, "en-ne") == [20, 50, 0]  # 58 are nearly all 60
    lines = supervised.aligned(arguments, "en-ne")
    files = {
        name: (tmp_path / f"toy/parallel/en-ne/train.{name}").read_text("utf-8").splitlines()
        for name in ("en", "ne")
    }
    assert lines == supervised.aligned(arguments, "en-ne")
    assert lines["en"] != files["en"]
    both, found = (zip(part["en"], part["ne"], strict=True) for part in (files, lines))
    assert sorted(both) == sorted(found)


def test_scores_are_compared_with_the_first_system() -> None:
    references = [f"the cat number {k} sat on the mat today" for k in range(40)]
    sources = [f"le chat {k}" for k in range(40)]
    systems = {"copy": sources, "right": references, "same": list(sources)}
    found = translators.scored(systems, references, sources, 200)
    assert found["right"]["bleu"]["mean"] == pytest.approx(100)
    assert found["right"]["chrf"]["mean"] == pytest.approx(100)
    assert found["right"]["bleu"]["p"] < 0.05 and found["same"]["bleu"]["p"] == 1
    assert found["copy"]["bleu"]["p"] is None
    assert found["copy"]["copied"] == 1 and found["right"]["copied"] == 0
    assert found["copy"]["length_ratio"] == pytest.approx(3 / 9)


def test_a_start_is_a_run_or_the_shape_of_one(tmp_path: Path) -> None:
    for name in ("clm", "mlm"):
        (tmp_path / name / "model").mkdir(parents=True)
    source_of = translators.source_of
    starts = ["none", "clm", "mlm"]
    assert source_of(tmp_path, "clm", starts) == str(tmp_path / "clm/model")
    assert source_of(tmp_path, "none", starts) == str(tmp_path / "mlm/model")
    with pytest.raises(ConfigError, match="tlm.*pretrain it"):
        source_of(tmp_path, "tlm", [*starts, "tlm"])
    with pytest.raises(ConfigError, match="pretrain it"):
        source_of(tmp_path, "none", ["none"])


def test_translations_of_another_text_are_refused(tmp_path: Path) -> None:
    translators.write(tmp_path / "ui.en-ne.1", ["one", "", "three"])
    again = translators.translated(tmp_path, "ui", "en-ne", ["a", "b", "c"], 1)
    assert again == ["one", "", "three"]  # as they were kept: no model is there
    with pytest.raises(DataError, match="3 lines, the text 2"):
        translators.translated(tmp_path, "ui", "en-ne", ["a", "b"], 1)


def figure(mean: float, p: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "interval": 1.26, "p": p}


def test_the_gain_of_a_start_has_the_interval_of_both() -> None:
    starts = {"none": {"chrf": figure(10.0)}, "mlm": {"chrf": figure(12.5)}}
    row = {"pairs": 500, "starts": starts}
    found = supervised.gain(row, "mlm", "chrf")
    assert found == (500, pytest.approx(2.5), pytest.approx(1.26 * 2**0.5))


def test_tables_of_translation() -> None:
    starts = {
        "none": {"bleu": figure(1.0), "chrf": figure(10.0)},
        "mlm32": {"bleu": figure(2.0, 0.2), "chrf": figure(14.0, 0.001)},
    }
    rows = [{"direction": "en-ne", "pairs": 2000, "domain": "ui", "starts": starts}]
    made = tables.supervised({"rows": rows, "flores_lines": 300})
    line = "| en-ne, 2,000 pairs, in domain | 1.0 ±1.3 | 2.0 ±1.3 | 10.0 ±1.3 | 14.0 ±1.3\\* |"
    assert line in made.splitlines()
    nine = {"one direction": starts, "both directions + BT": starts}
    settings = {"pairs": 2000, "steps": 400}
    made = tables.table3({"rows": nine, "direction": "ne-en", "settings": settings})
    assert "14.0 ±1.3\\* | 34.4 | 37.0 | 38.5 |" in made
    assert "ne-en, 2,000 pairs, 400 updates" in made
    system = {**starts["mlm32"], "copied": 0.25, "empty": 0.0, "length_ratio": 0.9}
    perplexity = {"masked/ne": {"perplexity": 80.4, "unigram_perplexity": 900.2}}
    result = {
        "directions": {"hi-ne": {"copy": system, "mlm": system}},
        "seconds": {"mlm": 61.2},
        "pretrained": {"mlm": perplexity},
    }
    made = tables.unsupervised_real(result)
    assert "| hi-ne, copy | 2.0 ±1.3 | 14.0 ±1.3\\* | 25% | 0% | 0.90 |  |" in made
    assert "| hi-ne, mlm | 2.0 ±1.3 | 14.0 ±1.3\\* | 25% | 0% | 0.90 | 61 |" in made
    assert "masked/ne 80 (unigram 900)" in made
    settings = {"shortest": 4, "longest": 10, "dim": 64, "pretraining_steps": 16000}
    settings |= {"dropout": 0.2, "steps": 3800}
    bleu = {"en-xx": 23.02, "xx-en": 24.75}
    trial = {"settings": settings, "data": {"sentences_a_side": 6408}, "bleu": bleu}
    made = tables.unsupervised_shifted_search({"rows": [trial]})
    assert "| 4 to 10 | 6,408 | 64 | 16,000 | 0.2 | 3,800 | 23.0 | 24.8 |" in made.splitlines()


@pytest.mark.parametrize(
    ("script", "words", "result"),
    [
        ("studies.unsupervised_real", [], "unsupervised_real"),
        ("studies.supervised", ["--directions", "en-ne", "--only", "en-ne/30"], "supervised"),
        ("studies.supervised", ["--table3", "--only", "both directions + BT/clm"], "table3"),
    ],
)
def test_a_measurement_runs_and_resumes(
    run_quick: Callable[..., object], tmp_path: Path, script: str, words: list[str], result: str
) -> None:
    run_quick(script, "--folder", tmp_path, *words)
    before = json.loads((tmp_path / f"{result}.json").read_text(encoding="utf-8"))
    logs = {path: path.read_bytes() for path in tmp_path.glob("seed-0/**/metrics.jsonl")}
    assert logs and not list(tmp_path.glob("seed-0/**/checkpoints"))
    run_quick(script, "--folder", tmp_path, *words)  # finished runs are not run again
    assert {path: path.read_bytes() for path in logs} == logs
    assert json.loads((tmp_path / f"{result}.json").read_text(encoding="utf-8")) == before
