"""``xlm fill``: as many lines out as in, each in its place."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests import tuned
from tests.translators import translator
from xlm.__main__ import run
from xlm.errors import ConfigError, DataError
from xlm.fill import Fill, fill_lines
from xlm.model.fill import Candidate
from xlm.model.pretrained import PretrainedModel

LINES = [
    "We packed ___ into boxes",
    "",
    "___",
    "दो दिन <mask> वह ___ गयो",
    " \u2028\t",
    "go <mask>\u00a0home.",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PretrainedModel]:
    """A random masked model of three languages, and where it lies."""
    folder = tmp_path_factory.mktemp("filling") / "model"
    own = tuned.body("xlm")
    own.save_pretrained(folder)
    return str(folder), own


def written(folder: str, file: Path | str, **options: Any) -> list[str]:
    settings = {"language": "en", "top": 3, **options}
    return list(fill_lines(Fill(model=folder, file=str(file), **settings)))


def read(line: str) -> list[list[tuple[str, float]]]:
    """The texts and probabilities of a line of output."""
    cells = [cell.split(" ") for cell in line.split("\t")] if line else []
    parted = [[own.rpartition("=") for own in cell] for cell in cells]
    return [[(text, float(share)) for text, _, share in cell] for cell in parted]


@pytest.mark.parametrize("window", [1, 2, 1000])
def test_every_line_is_filled_in_its_place(
    model: tuple[str, PretrainedModel], window: int, tmp_path: Path
) -> None:
    folder, own = model
    with gzip.open(tmp_path / "lines.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(LINES) + "\n")
    plain = written(folder, tmp_path / "lines.gz", window=window)
    objects = written(folder, tmp_path / "lines.gz", window=window, json=True)
    assert len(plain) == len(objects) == len(LINES)
    asked = [line for line in LINES if "___" in line or "<mask>" in line]
    expected = iter(own.fill(asked, "en", top=3))
    for line, text, found in zip(LINES, plain, map(json.loads, objects), strict=True):
        masks = next(expected) if line in asked else []
        assert found["text"] == " ".join(line.split())
        assert [[Candidate(**one) for one in mask] for mask in found["masks"]] == [
            [
                (one.text, pytest.approx(one.probability, abs=1e-6), one.piece, one.id)
                for one in mask
            ]
            for mask in masks
        ]
        assert read(text) == [
            [(one.text or one.piece, pytest.approx(one.probability, abs=1e-4)) for one in mask]
            for mask in masks
        ]
    assert [len(read(text)) for text in plain] == [1, 0, 1, 2, 0, 1]


def test_standard_input_and_an_output_that_appears_whole(
    model: tuple[str, PretrainedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    folder, _ = model
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(LINES), encoding="utf-8")
    expected = "".join(f"{line}\n" for line in written(folder, lines)).encode()
    for output in ("-", "filled.txt"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.read_bytes())))
        arguments = [folder, "--language=en", "--top=3"]
        if output == "-":
            run("fill", arguments)
            assert capsysbinary.readouterr().out == expected
        else:
            run("fill", [*arguments, f"--output={tmp_path / output}"])
            assert (tmp_path / output).read_bytes() == expected
    lines.write_text("a ___\n\nno mask here", encoding="utf-8")
    with pytest.raises(SystemExit):
        run("fill", [folder, str(lines), "--language=en", f"--output={tmp_path / 'none.txt'}"])
    assert capsysbinary.readouterr().err.startswith(
        b"xlm fill: " + str(lines).encode() + b":3 has no mask"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled.txt", "lines.txt"]


def test_what_cannot_be_asked(model: tuple[str, PretrainedModel], tmp_path: Path) -> None:
    folder, _ = model
    lines = tmp_path / "lines.txt"
    lines.write_text("a ___\n" + "b ___ " * 90, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"lines\.txt:2 has \d+ tokens"):
        written(folder, lines)
    with pytest.raises(ConfigError, match="does not know the language fr"):
        written(folder, lines, language="fr")
    with pytest.raises(ConfigError, match="name one of en, hi, ne"):
        written(folder, lines, language=None)
    with pytest.raises(ConfigError, match="window is 0"):
        written(folder, lines, window=0)
    with pytest.raises(ConfigError, match="output .* is also the input"):
        written(folder, lines, output=str(lines))
    (tmp_path / "nothing.txt").write_text("")
    with pytest.raises(DataError, match=r"nothing\.txt"):
        written(folder, tmp_path / "nothing.txt")
    translator(double=False).save_pretrained(tmp_path / "mt")
    with pytest.raises(ConfigError, match="has a decoder"):
        written(str(tmp_path / "mt"), lines)


def test_words_and_pairs_of_lines(model: tuple[str, PretrainedModel], tmp_path: Path) -> None:
    folder, own = model
    lines = tmp_path / "lines.tsv"
    lines.write_text("a ___ b\tc d\n\n___ x\ty", encoding="utf-8")
    options = {"pairs": True, "translation_language": "ne", "top": 2}
    found = [json.loads(row) for row in written(folder, lines, json=True, words=2, **options)]
    texts, others = ["a ___ b", "___ x"], ["c d", "y"]
    given = {"translations": others, "translation_language": "ne"}
    expected = own.fill_words(texts, "en", 2, pieces=2, **given)
    alone = own.fill_words(texts, "en", 2, pieces=2)
    for at, row in ((0, found[0]), (1, found[2])):
        assert (row["text"], row["translation"]) == (texts[at], others[at])
        for name, words in (("masks", expected[at]), ("alone", alone[at])):
            assert [[one["ids"] for one in mask] for mask in row[name]] == [
                [word.ids for word in mask] for mask in words
            ]
    assert found[1] == {"text": "", "translation": "", "masks": [], "alone": []}
    plain = written(folder, lines, **options)
    assert plain[1] == "" and plain[0].count("(alone: ") == 1
    lines.write_text("a ___", encoding="utf-8")
    with pytest.raises(DataError, match=r"lines\.tsv:1: found 1 cells, expected a sentence with"):
        written(folder, lines, **options)
    with pytest.raises(ConfigError, match="words is 0"):
        written(folder, lines, words=0)
    with pytest.raises(ConfigError, match="translation_language ne only applies with pairs"):
        written(folder, lines, translation_language="ne")
    lines.write_text("a ___\tb", encoding="utf-8")
    with pytest.raises(ConfigError, match="translation_language: .* name one of en, hi, ne"):
        written(folder, lines, pairs=True)
