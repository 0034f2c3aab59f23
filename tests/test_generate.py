"""``xlm generate``: lines continued in place, lines from nothing, a terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.model.test_continuation import causal
from xlm.__main__ import run
from xlm.errors import ConfigError
from xlm.generate import Generate, generate_lines
from xlm.model.continuation import Writing, write
from xlm.model.pretrained import PretrainedModel

LINES = ["We went", "", "दो दिन बाद", "\u2028", "a b c"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PretrainedModel]:
    folder = tmp_path_factory.mktemp("writing") / "model"
    own = causal(double=False)
    own.save_pretrained(folder)
    return str(folder), own


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def written(folder: str, **options: Any) -> list[str]:
    return list(generate_lines(Generate(model=folder, **{"language": "en", **options})))


@pytest.mark.parametrize("window", [1, 2, 1000])
def test_every_line_is_continued_in_its_place(
    model: tuple[str, PretrainedModel], file: Path, window: int
) -> None:
    folder, own = model
    settings = Writing(length=6, sample=True, top_k=30)
    there = [at for at, line in enumerate(LINES) if line.strip()]
    expected = write(
        own, [LINES[at] for at in there], "en", settings, seed=2, numbers=[at + 1 for at in there]
    )
    options = {"file": str(file), "length": 6, "top_k": 30, "seed": 2, "window": window}
    texts = written(folder, **options)
    objects = [json.loads(row) for row in written(folder, json=True, **options)]
    assert len(texts) == len(objects) == len(LINES)
    assert [at for at, text in enumerate(texts) if text] == there
    for at, one in zip(there, expected, strict=True):
        assert texts[at] == objects[at]["text"] == one.text != LINES[at]
        assert objects[at]["prompt"] == LINES[at] and objects[at]["num_tokens"] == one.num_tokens
        assert objects[at]["score"] == pytest.approx(one.score, abs=1e-4)


def test_lines_from_nothing_do_not_depend_on_how_many(model: tuple[str, PretrainedModel]) -> None:
    folder, own = model
    texts = written(folder, lines=12, length=5, window=5)
    assert len(set(texts)) > 6 and texts[:4] == written(folder, lines=4, length=5)
    assert texts == [
        one.text for one in write(own, [""] * 12, "en", Writing(length=5, sample=True))
    ]
    assert len(set(written(folder, lines=3, length=5, sample=False))) == 1


def test_a_terminal_sees_a_text_as_it_is_written(
    model: tuple[str, PretrainedModel], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = model

    class Terminal(io.StringIO):
        pieces: list[str] = []

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            self.pieces.append(text)
            return super().write(text)

    expected = written(folder, file=str(file), length=6)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    run("generate", [folder, str(file), "--language=en", "--length=6"])
    assert screen.getvalue().split("\n")[:-1] == expected
    assert len([piece for piece in screen.pieces if piece.strip()]) > 2 * 3


def test_a_file_that_is_written(
    model: tuple[str, PretrainedModel], file: Path, tmp_path: Path
) -> None:
    folder, _ = model
    output = tmp_path / "out"
    run("generate", [folder, str(file), "--language=en", "--beam=2", f"--output={output}"])
    found = output.read_text(encoding="utf-8").split("\n")[:-1]
    assert found == written(folder, file=str(file), beam=2)


def test_what_cannot_be_asked(
    model: tuple[str, PretrainedModel], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, own = model
    for message, given in (
        ("lines is 2, which writes from nothing", {"lines": 2, "file": str(file)}),
        ("lines is -1", {"lines": -1}),
        ("rows is 0", {"rows": 0}),
        ("temperature 2.0 only applies with sample", {"sample": False, "temperature": 2.0}),
        ("sample draws a single text", {"beam": 2, "top_k": 3}),
        ("does not know the language fr", {"lines": 1, "language": "fr"}),
    ):
        with pytest.raises(ConfigError, match=message):
            written(folder, **given)
    PretrainedModel(own.transformer, own.tokenizer, own.languages, {"objectives": ["MaskedLM"]}
                    ).save_pretrained(file.parent / "masked")  # fmt: skip
    with pytest.raises(SystemExit):
        run("generate", [str(file.parent / "masked"), str(file), "--language=en"])
    said = capsys.readouterr().err
    assert said.startswith("xlm generate: the model was trained with MaskedLM, so it never learned")
    assert said.count("\n") == 1
