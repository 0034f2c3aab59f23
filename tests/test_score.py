"""``xlm score``: rows of numbers in place, sorted, filtered, and what it says of a corpus."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tuned
from tests.interchange import peers
from tests.translators import translator
from xlm.__main__ import run
from xlm.errors import ConfigError, DataError
from xlm.model.asking import OBJECTIVES
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import Scoring
from xlm.score import COLUMNS, Score, histogram, score_file, score_lines

LINES = [line[: 10 + 4 * (at % 6)] for at, line in enumerate(peers.lines()[::80])]
LINES = [*LINES[:3], "", *LINES[3:], "\u2028"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PretrainedModel]:
    folder = tmp_path_factory.mktemp("scoring") / "model"
    own = replace(tuned.body("xlm"), extra={OBJECTIVES: ["CausalLM"]})
    own.save_pretrained(folder)
    return str(folder), own


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def written(folder: str, file: Path, **options: Any) -> list[str]:
    return list(score_lines(Score(model=folder, file=str(file), **{"language": "en", **options})))


@pytest.mark.parametrize("window", [1, 4, 1000])
def test_every_line_has_its_numbers_in_its_place(
    model: tuple[str, PretrainedModel], file: Path, window: int
) -> None:
    folder, own = model
    rows = [dict(zip(COLUMNS, row.split("\t"), strict=True)) for row in written(folder, file)]
    objects = [json.loads(row) for row in written(folder, file, json=True, window=window)]
    expected = own.score(LINES, "en")
    assert len(rows) == len(objects) == len(LINES)
    for at, (row, found, one) in enumerate(zip(rows, objects, expected, strict=True), 1):
        text = " ".join(LINES[at - 1].split())
        assert row["line"] == str(at) and row["text"] == found["text"] == text
        assert found["line"] == at
        for name, value in one._asdict().items():
            assert float(row[name]) == pytest.approx(value, abs=1e-4)
            assert found[name] == pytest.approx(value, abs=1e-4)
        if not text:
            assert row["perplexity"] == "" and found["nats_per_subword"] is None
            continue
        assert float(row["perplexity"]) == pytest.approx(one.perplexity, rel=1e-4)
        assert found["nats_per_subword"] == pytest.approx(one.nats / one.subwords, rel=1e-4)
        assert found["bits_per_byte"] == pytest.approx(one.nats / one.bytes / math.log(2), rel=1e-4)


@pytest.mark.parametrize("output", [False, True])
def test_sorted_and_filtered(
    model: tuple[str, PretrainedModel], file: Path, output: bool, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, own = model
    scored = [one.bits_per_character for one in own.score(LINES, "en")]
    there = [at for at in range(len(LINES)) if LINES[at].strip()]
    middle = len(there) // 2
    median = sum(sorted(scored[at] for at in there)[middle - 1 : middle + 1]) / 2
    order = sorted(there, key=lambda at: scored[at])

    def given(**options: Any) -> list[str]:
        out = str(tmp_path / "out") if output else None
        score_file(Score(model=folder, file=str(file), language="en", output=out,
                         by="bits_per_character", window=4, **options))  # fmt: skip
        printed = capsys.readouterr().out
        text = Path(out).read_text(encoding="utf-8") if out else printed
        assert text.endswith("\n")
        return text[:-1].split("\n")

    rows = given(sort=True)
    assert [int(row.split("\t")[0]) - 1 for row in rows][: len(there)] == order
    assert len(rows) == len(LINES)
    kept = given(keep_below=median)
    assert kept == [LINES[at] for at in there if scored[at] < median]
    assert given(keep_below=median, sort=True) == [LINES[at] for at in order if scored[at] < median]


def test_what_stays_and_what_goes_is_shown(
    model: tuple[str, PretrainedModel], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, own = model
    scored = [one.nats / one.subwords for one in own.score(LINES, "en") if one.subwords]
    third = len(scored) // 3
    bound = sum(sorted(scored)[third - 1 : third + 1]) / 2
    with caplog.at_level("INFO", logger="xlm"):
        run("score", [folder, str(file), "--language=en", f"--keep_below={bound!r}"])
    said = caplog.text
    num = sum(one < bound for one in scored)
    assert f"kept {num:,} lines, nats below {bound:g}:" in said
    assert f"gone {len(scored) - num:,} lines, nats not below {bound:g}:" in said
    assert f"{len(LINES)} lines, " in said and ", 2 empty; all together: nats " in said
    total = sum(one.nats for one in own.score(LINES, "en"))
    subwords = sum(one.subwords for one in own.score(LINES, "en"))
    assert f"all together: nats {total / subwords:.4g}, perplexity" in said


def test_a_histogram_by_hand() -> None:
    sums = {"kept 4": 10.0, "kept 5": 1.0, "gone 7": 5.0, "nats": 3.0}
    assert histogram(sums, "nats", 3.5).split("\n") == [
        "kept 11 lines, nats below 3.5:",
        f"  {'2':>10} to {'2.5':>10} {10:12} {'#' * 40}",
        f"  {'2.5':>10} to {'3':>10} {1:12} ####",
        "gone 5 lines, nats not below 3.5:",
        f"  {'3.5':>10} to {'4':>10} {5:12} {'#' * 20}",
    ]
    assert "        16 to         32" in histogram({"kept 4": 1.0}, "perplexity", 32)


def test_pairs_are_scored_given_the_first_sentence(tmp_path: Path) -> None:
    mt = translator(double=False)
    mt.save_pretrained(tmp_path / "mt")
    lines = ["water is warm\tपानी", "", "a b\tc"]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    options = {"language": "ne", "source_language": "en", "pairs": True}
    found = written(str(tmp_path / "mt"), tmp_path / "pairs.tsv", json=True, **options)
    expected = mt.score(["पानी", "c"], "ne", sources=["water is warm", "a b"], source_language="en")
    nats = [json.loads(row)["nats"] for row in found]
    assert nats == [
        pytest.approx(expected[0].nats, abs=1e-4),
        0,
        pytest.approx(expected[1].nats, abs=1e-4),
    ]
    kept = written(str(tmp_path / "mt"), tmp_path / "pairs.tsv", keep_below=1e9, **options)
    assert kept == [lines[0], lines[2]]
    (tmp_path / "pairs.tsv").write_text("no tab", encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs\.tsv:1: found 1 cells, expected a sentence, a tab"):
        written(str(tmp_path / "mt"), tmp_path / "pairs.tsv", **options)
    with pytest.raises(ConfigError, match="source_language: .* name one of en, hi, ne"):
        written(str(tmp_path / "mt"), tmp_path / "pairs.tsv", language="ne", pairs=True)
    with pytest.raises(ConfigError, match="give the sources too"):
        written(str(tmp_path / "mt"), tmp_path / "pairs.tsv", language="ne")


def test_settings_reach_the_scores(model: tuple[str, PretrainedModel], file: Path) -> None:
    folder, own = model
    for settings in (Scoring(kind="masked"), Scoring(kind="masked", folds=2, ends=True)):
        given = {"kind": settings.kind, "folds": settings.folds, "ends": settings.ends}
        found = [json.loads(row)["nats"] for row in written(folder, file, json=True, **given)]
        expected = own.score(LINES, "en", settings=settings)
        assert found == [pytest.approx(one.nats, abs=1e-4) for one in expected]
    for message, given in (
        ("window is 0", {"window": 0}),
        ("keep_below writes the lines themselves", {"keep_below": 1.0, "json": True}),
        ("folds is 0", {"folds": 0}),
        ("source_language en only applies with pairs", {"source_language": "en"}),
        ("layout tlm only applies with pairs", {"layout": "tlm"}),
        ("is also the input", {"output": str(file)}),
    ):
        with pytest.raises(ConfigError, match=message):
            written(folder, file, **given)


def test_a_text_without_text_has_no_figures(
    model: tuple[str, PretrainedModel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blank.txt").write_text("\n \n", encoding="utf-8")
    with caplog.at_level("INFO", logger="xlm"):
        counts = score_file(
            Score(
                model=model[0], file=str(tmp_path / "blank.txt"), language="en",
                output=str(tmp_path / "out.tsv"),
            )
        )  # fmt: skip
    assert counts.num_empty == 2
    assert caplog.messages[-1].endswith("2 empty; no line has text, so there is nothing to score")
