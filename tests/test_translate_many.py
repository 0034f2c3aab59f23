"""Translations through a pivot, and tables of directions to translate and to score."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

import xlm.translate as module
from tests.translators import SENTENCES, translator
from xlm.bleu import Bleu, score_table
from xlm.bleu import main as bleu
from xlm.errors import ConfigError, DataError
from xlm.metrics.language_shares import Trigrams
from xlm.model.generate import Generation
from xlm.text.line_jobs import LineJob
from xlm.text.resuming import Rows
from xlm.translate import Translate, translate, translate_file, translate_table

SHORT = Generation(ratio=0, extra=5)
LINES = [*(line[:24] for line in SENTENCES[:7]), "", "water"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = translator(double=False, dim=16, num_layers=1, num_decoder_layers=1)
    replace(model, extra={"directions": ["en-hi", "hi-en", "hi-ne"]}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("lines").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return tmp_path


def settings(saved: str, **changes: Any) -> Translate:
    given = {"file": "lines", "source": "en", "target": "ne", "generation": SHORT, "chunk": 4}
    return Translate(model=saved, **{**given, **changes})


def two_runs(saved: str) -> bytes:
    translate_file(settings(saved, target="hi", output="between"))
    translate_file(settings(saved, file="between", source="hi", output="twice"))
    return Path("twice").read_bytes()


def test_a_pivot_is_two_runs_byte_for_byte(
    saved: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = two_runs(saved)
    through = settings(saved, pivot="hi", output="through")
    assert list(translate(replace(through, output=None))) == expected.decode().splitlines()
    caplog.clear()
    answers = 0
    plain = module._Job._translated

    def killed(job: LineJob, lines: Iterator[Any], first: int) -> Rows:
        nonlocal answers
        answers += 1
        if answers == 3:
            raise KeyboardInterrupt
        return plain(job, lines, first)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module._Job, "_translated", killed)
        translate_file(through)
    assert Path("through.partial").read_bytes() == b"".join(expected.splitlines(True)[:8])
    translate_file(through)
    assert Path("through").read_bytes() == expected
    assert not [line for line in caplog.messages if "zero-shot" in line]  # both were trained


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pivot": "en"}, "pivot is en, which is also the source"),
        ({"pivot": "ne"}, "pivot is ne, which is also the target"),
        (
            {"table": "t", "source": None, "target": None},
            "file is lines, but table t names the file of every row",
        ),
        ({"table": "t", "file": "-", "target": None}, "source is en, but table t names that"),
    ],
)
def test_settings_that_cannot_be(saved: str, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(saved, **changes)


def table(*rows: str, name: str = "table.tsv") -> str:
    Path(name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return name


def of_table(saved: str, *rows: str) -> Translate:
    return Translate(model=saved, table=table(*rows), generation=SHORT, chunk=4)


ROWS = (
    "# source, target, source file, reference file, output file, tokenization",
    "en\tne\tlines\tlines\tout.en-ne",
    "",
    "ne\ten\tlines\tlines\tout.ne-en\tchar",
)


def test_each_row_is_the_file_of_its_own_run(saved: str, caplog: pytest.LogCaptureFixture) -> None:
    counts = translate_table(of_table(saved, *ROWS))
    assert {name: own.num_lines for name, own in counts.items()} == {
        "out.en-ne": len(LINES), "out.ne-en": len(LINES),
    }  # fmt: skip
    for source, target in (("en", "ne"), ("ne", "en")):
        translate_file(settings(saved, source=source, target=target, output="alone"))
        assert Path(f"out.{source}-{target}").read_bytes() == Path("alone").read_bytes()
    assert [line for line in caplog.messages if "zero-shot" in line] != []
    Path("out.ne-en").unlink()
    before = Path("out.en-ne").stat().st_mtime_ns
    assert list(translate_table(of_table(saved, *ROWS))) == ["out.ne-en"]
    assert Path("out.en-ne").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("en\tne\tlines\tlines", "table.tsv:2: found 4 cells, expected 5 or 6 .*: source, target,"),
        ("en\t\tlines\tlines\tout", "table.tsv:2: the cell target is empty"),
        ("en\tne\tnone\tlines\tout", "table.tsv:2: the source file none does not exist"),
        (
            "en\tne\tlines\tlines\tout.en-ne",
            "table.tsv:2: the output file .* is also that of .*:1: give",
        ),
        ("en\tne\tlines\tlines\tlines", "table.tsv:2: the output file lines is also an input"),
        ("en\tfr\tlines\tlines\tout", "table.tsv:2: target: the model does not know .* fr"),
        ("en\tn.e\tlines\tlines\tout", "table.tsv:2: 'n.e' is not the name of a language"),
    ],
)
def test_a_row_that_cannot_be_is_named_before_anything_is_written(
    saved: str, row: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        translate_table(of_table(saved, ROWS[1], row))
    assert not list(Path().glob("out*"))


def test_a_pivot_goes_with_a_table(saved: str) -> None:
    expected = two_runs(saved)
    translate_table(replace(of_table(saved, ROWS[1]), pivot="hi"))
    assert Path("out.en-ne").read_bytes() == expected
    with pytest.raises(DataError, match="table.tsv:1: pivot is ne, which is also the target"):
        translate_table(replace(of_table(saved, "en\tne\tlines\tlines\tnew"), pivot="ne"))


ENGLISH = ["the river is wide here", "a glass of cold water", "we planted seven trees", "a book"]
HINDI = ["नदी यहाँ चौड़ी है", "ठंडे पानी का गिलास", "हमने सात पेड़ लगाए", "एक किताब"]
FRENCH = ["la rivière est large ici", "un verre d'eau froide", "nous avons planté", "un livre"]
OURS = {
    "fr-en": ["the river is large here", "a glass of water", "", "un livre"],
    "en-hi": ["नदी चौड़ी है", "पानी का गिलास", "हमने पेड़ लगाए", "a book"],
    "hi-fr": ["la rivière est ici", "the water is cold", "nous avons planté", "un livre"],
}


@pytest.fixture
def scored(here: Path) -> str:
    files = {"en": ENGLISH, "hi": HINDI, "fr": FRENCH, **OURS}
    for name, lines in files.items():
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return table(
        *(f"{a}\t{b}\t{a}\t{b}\t{a}-{b}" for a, b in (name.split("-") for name in OURS)),
    )


@pytest.mark.parametrize("chrf_words", [0, 2])
def test_a_row_s_scores_and_signatures_are_sacrebleu_s(scored: str, chrf_words: int) -> None:
    result = score_table(Bleu(table=scored, resamples=0, chrf_words=chrf_words))
    references = {"en": ENGLISH, "hi": HINDI, "fr": FRENCH}
    assert [(row["source"], row["target"]) for row in result["rows"]] == [
        ("fr", "en"), ("en", "hi"), ("hi", "fr"),
    ]  # fmt: skip
    for row in result["rows"]:
        ours, expected = OURS[f"{row['source']}-{row['target']}"], references[row["target"]]
        for name, metric in (("bleu", BLEU()), ("chrf", CHRF(word_order=chrf_words))):
            score = metric.corpus_score(ours, [expected]).score
            assert row[name]["score"] == pytest.approx(score, abs=1e-12)
            assert row[name]["signature"] == str(metric.get_signature())
    first, second, third = result["rows"]
    assert first["empty"] == 0.25 and first["copied_lines"] == 0.25
    assert (first["in_target"], first["wrong_language"]) == (2 / 3, "fr")
    assert (second["in_target"], second["wrong_language"]) == (0.75, "en")
    assert (third["in_target"], third["in_wrong_language"]) == (0.75, 0.25)
    assert result["chrf"] == ("chrF2++" if chrf_words else "chrF2")


def test_means_name_their_rows(scored: str) -> None:
    result = score_table(Bleu(table=scored, resamples=0, center="en"))
    scores = [row["bleu"]["score"] for row in result["rows"]]
    found = {mean["name"]: (mean["rows"], mean["bleu"]) for mean in result["means"]}
    assert found == {
        "into en": (["fr-en"], scores[0]), "out of en": (["en-hi"], scores[1]),
        "elsewhere": (["hi-fr"], scores[2]),
    }  # fmt: skip
    (mean,) = score_table(Bleu(table=scored, resamples=0))["means"]
    assert mean["name"] == "all" and mean["bleu"] == pytest.approx(sum(scores) / 3)


def test_a_baseline_is_set_beside_each_row(scored: str, capsys: pytest.CaptureFixture[str]) -> None:
    bleu(["--table", scored, "--resamples", "50", "--json", "before.json"])
    before = json.loads(Path("before.json").read_text())["rows"]
    better = [*HINDI[:3], "एक"]
    Path("en-hi").write_text("".join(f"{line}\n" for line in better), encoding="utf-8")
    more = table(*Path(scored).read_text().splitlines(), "en\tfr\ten\tfr\tnew")
    Path("new").write_text(Path("fr").read_text())
    capsys.readouterr()
    bleu(["--table", more, "--resamples", "50", "--baseline", "before.json", "--json", "now.json"])
    now = json.loads(Path("now.json").read_text())
    shown = capsys.readouterr().out
    for row, was in zip(now["rows"], before, strict=False):
        for name in ("bleu", "chrf"):
            expected = row[name]["score"] - was[name]["score"]
            assert row["difference"][name] == pytest.approx(expected, abs=1e-12)
    assert now["rows"][0]["difference"]["bleu"] == 0 < now["rows"][1]["difference"]["bleu"]
    assert now["rows"][3]["difference"] == {"bleu": None, "chrf": None}
    assert now["means"][0]["difference"]["bleu"] is None  # a row has no baseline
    assert "ΔBLEU" in shown and "bs:50|seed:12345" in shown and "mean all: fr-en, en-hi" in shown
    line = next(line for line in shown.splitlines() if line.startswith("en-hi"))
    assert f"{now['rows'][1]['difference']['bleu']:+.2f}" in line.split()


@pytest.mark.parametrize(
    ("changes", "row", "message"),
    [
        ({}, "en\thi\ten\thi\tmissing", "table.tsv:4: .*missing"),
        ({}, "en\thi\ten\thi\tshort", "table.tsv:4: short has 1 lines and hi has 4"),
        ({}, "hi\ten\thi\ten\tlines\twords", "table.tsv:4: lines has 9 lines|'words': expected"),
        ({"baseline": "lines.json"}, "", "baseline lines.json holds no rows of a table"),
        ({"hypotheses": "en"}, "", "hypotheses is en, but table table.tsv gives the files"),
    ],
)
def test_tables_that_cannot_be_scored(scored: str, changes: Any, row: str, message: str) -> None:
    Path("short").write_text("a\n")
    Path("lines.json").write_text("{}")
    table(*Path(scored).read_text().splitlines(), row)
    with pytest.raises((DataError, ConfigError), match=message):
        score_table(Bleu(table=scored, resamples=0, **changes))


def test_center_and_baseline_go_with_a_table() -> None:
    with pytest.raises(ConfigError, match="center is en, but it only applies with table"):
        Bleu(hypotheses="a", references="b", center="en")
    with pytest.raises(ConfigError, match="references missing: give it in .* or give a table"):
        Bleu(hypotheses="a")


def test_languages_are_told_apart_by_their_characters() -> None:
    models = Trigrams({"en": ENGLISH, "fr": FRENCH, "hi": HINDI})
    for language, lines in (("en", ENGLISH), ("fr", FRENCH), ("hi", HINDI)):
        assert all(models.likeliest(line) == language for line in lines)
        shares = models.shares([*lines, " "], language)
        assert (shares.in_target, shares.wrong, shares.in_wrong) == (1.0, None, 0.0)
    assert models.shares(["", " "], "en").in_target is None
    assert Trigrams({"en": ENGLISH}).shares(ENGLISH, "en").in_target is None
