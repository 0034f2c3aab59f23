"""``xlm bleu``: the functions' figures, aligned files of every kind, mistakes in one line."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from xlm.__main__ import run
from xlm.bleu import Bleu, report, score_files
from xlm.config.cli import parse
from xlm.errors import ConfigError
from xlm.metrics.translation import corpus_scores, paired_bootstrap

REFERENCES = [
    "The river is wide near our village.",
    "Bring me a glass of cold water.",
    "",
    "We planted seven trees last year, not eight.",
    "The old bridge shakes when a truck passes.",
    "My sister reads a small book every evening.",
]
GOOD = [
    "The river is wide near the village.",
    "Bring me a glass of cold milk.",
    "Nothing.",
    "We planted seven trees last year, not six.",
    "The old bridge shakes when trucks pass.",
    "My sister reads a small book every morning.",
]
POOR = [
    "A river is near the village.",
    "Give me a cold glass.",
    "",
    "Seven trees last year.",
    "The bridge shakes.",
    "My sister reads a book.",
]
SOURCES = [
    "La rivière est large.",
    "Bring  me a glass of cold milk. ",
    "",
    "sept arbres , not six.",
    "le pont",
    "ma soeur",
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four texts in the working directory."""
    monkeypatch.chdir(tmp_path)
    texts = {"ref.txt": REFERENCES, "good.txt": GOOD, "poor.txt": POOR, "source.txt": SOURCES}
    for name, lines in texts.items():
        Path(name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return tmp_path


def asked(*arguments: str) -> Bleu:
    return parse(Bleu, "bleu", arguments, "hypotheses references")


def test_the_figures_are_those_of_the_functions() -> None:
    result = score_files(asked("good.txt", "ref.txt", "--resamples=30", "--seed=4"))
    expected = corpus_scores(GOOD, REFERENCES, num_resamples=30, seed=4)
    for name, own in result["scores"].items():
        found = getattr(expected, name)
        assert own == (found if name == "length_ratio" else vars(found))
    assert result["num_lines"] == 6 and result["rates"] == {"empty": 0}
    assert "systems" not in result and result["notes"] == []
    assert score_files(asked("poor.txt", "ref.txt"))["rates"] == {"empty": 1 / 6}


def test_what_is_printed_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    run("bleu", "good.txt ref.txt --source source.txt --other poor.txt --json out.json".split())
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(Path("out.json").read_text())
    assert out == report(result) + "\n"
    scores = result["scores"]
    for name, shown in (("bleu", "BLEU"), ("chrf", "chrF2"), ("tokenized_bleu", "tokenized BLEU")):
        own = scores[name]
        interval = f"{own['mean']:.2f} ± {own['interval']:.2f}"
        line = re.compile(
            rf"^{shown} +{own['score']:.2f} +{interval}  {re.escape(own['signature'])}$", re.M
        )
        assert line.search(out)
    assert "|bs:1000|seed:12345|" in out and "|tok:13a|" in out
    # one of 6 lines is its source; 7 tokens of it and 2 ("not six.") of another's
    num_tokens = len(" ".join(GOOD).split())
    assert f"copied from the source: 16.7% of the lines, {9 / num_tokens:.1%} of the tokens" in out
    assert "empty: 0.0% of the lines" in out
    assert f"length: {scores['length_ratio']:.3f} of the references' tokens" in out
    (poor,) = [line.split() for line in out.splitlines() if line.startswith("poor.txt")]
    compared = paired_bootstrap({"good": GOOD, "poor": POOR}, REFERENCES)["poor"]
    for at, name in ((1, "BLEU"), (6, "chrF2")):
        own = compared[name]
        shown = [f"{own.score:.2f}", f"{own.mean:.2f}", "±", f"{own.interval:.2f}"]
        assert poor[at : at + 5] == [*shown, f"{own.p_value:.4f}"]


def test_without_resamples_there_are_no_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    run("bleu", ["good.txt", "ref.txt", "--resamples=0"])
    out = capsys.readouterr().out
    assert "±" not in out.replace("mean ± 95 %", "") and "bs:" not in out and "copied" not in out


@pytest.mark.parametrize(
    "flags",
    [
        ["--other", "poor.txt", "--other", "ref.txt"],
        ["--other=poor.txt", "--other=ref.txt"],
        ["--other", "[poor.txt, ref.txt]"],
    ],
)
def test_several_systems(flags: list[str]) -> None:
    config = asked("good.txt", "ref.txt", "--resamples=20", *flags)
    assert config.other == ["poor.txt", "ref.txt"]
    systems = score_files(config)["systems"]
    assert list(systems) == ["good.txt", "poor.txt", "ref.txt"]
    assert systems["good.txt"]["BLEU"]["p_value"] is None
    assert systems["ref.txt"]["chrF2"]["score"] == pytest.approx(100)


def test_a_name_that_is_yaml_for_something_else_is_a_name() -> None:
    assert asked("a", "b", "--other", "no: 'x'", "--other=7", "--other", "ü\\").other == [
        "no: 'x'",
        "7",
        "ü\\",
    ]


@pytest.mark.parametrize("kind", ["gz", "zst", "bom", "crlf", "no last line end"])
def test_files_of_every_kind(kind: str) -> None:
    expected = score_files(asked("good.txt", "ref.txt"))
    raw = Path("good.txt").read_bytes()
    path = Path(f"other.{kind if kind in ('gz', 'zst') else 'txt'}")
    if kind == "gz":
        raw = gzip.compress(raw)
    elif kind == "zst":
        raw = zstd.compress(raw)
    elif kind == "bom":
        raw = b"\xef\xbb\xbf" + raw
    else:
        raw = raw.replace(b"\n", b"\r\n") if kind == "crlf" else raw.rstrip(b"\n")
    path.write_bytes(raw)
    found = score_files(asked(str(path), "ref.txt"))
    assert found["scores"] == expected["scores"]


def test_an_empty_line_keeps_its_place() -> None:
    """Were it dropped, the lines behind it would meet another's reference."""
    result = score_files(asked("ref.txt", "ref.txt"))
    assert result["num_lines"] == 6 and result["rates"]["empty"] == 1 / 6
    assert result["scores"]["bleu"]["score"] == pytest.approx(100)
    assert result["scores"]["tokenized_bleu"]["score"] == pytest.approx(100)


def test_text_that_is_not_plain_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    tokenized = [re.sub(r"([.,])", r" \1", line) for line in GOOD]
    Path("tokenized.txt").write_text("\n".join(tokenized))
    (note,) = score_files(asked("tokenized.txt", "ref.txt"))["notes"]
    assert note.startswith("tokenized.txt looks tokenized")
    (note,) = score_files(asked("good.txt", "tokenized.txt"))["notes"]
    assert note.startswith("tokenized.txt looks tokenized")
    for text, mark in (("a@@ b", "@@"), ("\u2581a b", "\u2581")):
        Path("subwords.txt").write_text("\n".join([text, text, *GOOD[2:]]))
        run("bleu", ["subwords.txt", "ref.txt"])
        assert f"note: subwords.txt: 2 lines hold '{mark}'" in capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that is said with exit status 2."""
    with pytest.raises(SystemExit) as caught:
        run("bleu", arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    assert err.startswith("xlm bleu: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err.removeprefix("xlm bleu: ")


MISTAKES: list[tuple[list[str], str]] = [
    (["good.txt", "short.txt"], "good.txt has 6 lines and short.txt has 5: expected aligned"),
    (["good.txt", "ref.txt", "--other=short.txt"], "short.txt has 5 lines and ref.txt has 6"),
    (["good.txt", "ref.txt", "--source=short.txt"], "short.txt has 5 lines and good.txt has 6"),
    (["good.txt", "nowhere.txt"], "nowhere.txt does not exist: expected a text file"),
    (["good.txt", "ref.txt", "--other=no.gz"], "no.gz does not exist: expected a text file"),
    (["good.txt", "."], ". is a directory: expected a text file"),
    (["latin.txt", "ref.txt"], "latin.txt:2: byte 0xe9 at offset 1 of the line is not valid UTF-8"),
    (["nothing.txt", "nothing.txt"], "nothing.txt is empty: expected lines of text"),
    (["long.txt", "ref.txt"], "long.txt:1: the line is too long (more than 1,048,576 bytes)"),
    (["good.txt"], "references missing: give it in the file of --config, or as --references=..."),
    (["good.txt", "ref.txt", "--other"], "--other: expected a list of texts, found nothing"),
    (["good.txt", "ref.txt", "poor.txt"], "found 'poor.txt', expected a flag"),
    (["good.txt", "ref.txt", "--other=good.txt"], "good.txt is given twice"),
    (["good.txt", "ref.txt", "--other=[a]", "--other=b"], "--other is given twice, as '[a]'"),
    (["good.txt", "ref.txt", "--other=poor.txt", "--resamples=0"], "other needs resamples"),
    (
        ["good.txt", "ref.txt", "--resamples=1"],
        "1 resamples, seed 12345: expected at least 2 resamples",
    ),
    (["good.txt", "ref.txt", "--seed=0"], "1000 resamples, seed 0: expected"),
    (["one.txt", "one.txt"], "a single line cannot be resampled"),
    (["good.txt", "ref.txt", "--tokenize=moses"], "--tokenize: expected one of 13a, intl"),
    (["good.txt", "ref.txt", "--resampels=9"], "did you mean --resamples?"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("short.txt").write_text("\n".join(REFERENCES[1:]))
    Path("latin.txt").write_bytes(b"a\nb\xe9\n" * 3)
    Path("nothing.txt").write_bytes(b"")
    Path("long.txt").write_text("a" * (1 << 20) + "b\n" + "a\n" * 5)
    Path("one.txt").write_text("a\n")
    assert message in fails(capsys, *arguments)


def test_a_file_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("bleu", ["good.txt", "ref.txt", "--json=nowhere/out.json"])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.startswith("xlm bleu: cannot write nowhere/out.json: ")


def test_mistakes_in_python() -> None:
    with pytest.raises(ConfigError, match="a is given twice"):
        Bleu(hypotheses="a", references="b", other=["c", "a"])


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("bleu", ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for words in (
        "[HYPOTHESES] [REFERENCES]",
        "plain text",
        "multi-bleu.perl",
        "95 %",
        "bootstrap",
    ):
        assert words in said


def test_it_runs_as_a_program_and_says_what_sacrebleu_says(files: Path) -> None:
    """sacreBLEU's own command, with its defaults, as another process."""

    def output(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=files, capture_output=True, text=True, check=True
        )
        return done.stdout

    flags = ["-i", "good.txt", "-m", "bleu", "chrf", "--confidence", "-w", "2"]
    theirs: list[dict[str, Any]] = json.load(io.StringIO(output("sacrebleu", "ref.txt", *flags)))
    ours = output("xlm.bleu", "good.txt", "ref.txt").splitlines()
    for one in theirs:
        (line,) = [line for line in ours if line.startswith(f"{one['name']} ")]
        assert f" {one['score']:.2f} " in line
        assert f"{one['confidence_mean']:.2f} ± {one['confidence_var']:.2f}" in line
        for key in ("nrefs", "bs", "seed", "case", "eff", "version"):
            assert f"{key}:{one[key]}" in line


def test_text_without_spaces_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = "我今天早上在河边散步。\n孩子们在学校里学习唱歌。\n雨下了三天三夜。\n"
    (tmp_path / "r").write_text(lines, encoding="utf-8")
    (tmp_path / "h").write_text(lines.replace("里", ""), encoding="utf-8")
    files = {"hypotheses": str(tmp_path / "h"), "references": str(tmp_path / "r"), "resamples": 0}
    found = score_files(Bleu(**files))
    assert (
        "tok:zh" in found["scores"]["bleu"]["signature"] and found["scores"]["bleu"]["score"] > 80
    )
    assert found["notes"] == ["BLEU's words are sacreBLEU's zh, chosen by text without spaces"]
    by_language = score_files(Bleu(**files, language="zh-Hans"))
    assert by_language["scores"] == found["scores"]
    by_words = score_files(Bleu(**files, tokenize="13a"))
    assert by_words["scores"]["bleu"]["score"] < 50
    assert "is written without spaces" in by_words["notes"][0]
