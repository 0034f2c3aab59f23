"""``xlm translate``: every line in its place, through pipes, and after a kill."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import xlm
from tests import tuned
from tests.translators import SENTENCES, is_nothing, translator
from xlm.__main__ import run
from xlm.errors import ConfigError, DataError
from xlm.model.generate import Generation
from xlm.model.translation import Translator
from xlm.text.line_jobs import LineCounts, LineJob
from xlm.text.pipes import to_standard_output
from xlm.text.resuming import Rows
from xlm.translate import Translate, translate, translate_file

SHORT = Generation(ratio=0, extra=6)
LINES = [f"{line[:30]} {at}" for at, line in enumerate(SENTENCES[:40])]
MALFORMED = {
    3: b"", 7: b"\xff\xfe", 11: b"a\r", 14: b"a\x00b", 19: "a\u2028b".encode(), 23: b" \x00 ",
    29: b"water " * 100, 33: b"z" * ((1 << 20) + 1),
}  # fmt: skip
"""By their place, beside ``LINES``."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = translator(double=False, dim=16, num_layers=1, num_decoder_layers=1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\n".join(mixed()))
    return path


def mixed() -> list[bytes]:
    """``LINES`` with those that are malformed in place of some."""
    return [MALFORMED.get(at, line.encode()) for at, line in enumerate(LINES)]


def settings(saved: Path, file: object = "-", **changes: Any) -> Translate:
    given = {"source": "en", "target": "ne", "generation": SHORT, "invalid": "empty", **changes}
    return Translate(model=str(saved), file=str(file), **given)


def fails(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        run("translate", [str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert caught.value.code == 2 and err.startswith("xlm translate: ") and err.count("\n") == 1
    assert not out
    return err


def test_every_line_stays_in_its_place(saved: Path, file: Path) -> None:
    """What each is by itself, whatever stands around it; nothing for what is no text."""
    found = list(translate(settings(saved, file, chunk=9)))
    texts = ["" if at in (7, 33) else raw.decode() for at, raw in enumerate(mixed())]
    alone = Translator(xlm.load(saved), "en", "ne", settings=SHORT, tokens=1)
    assert found == [one.texts[0] for one in alone.translate(texts)]
    assert [not text for text in found] == [is_nothing(text) for text in texts]
    assert len(set(found)) > 15 and not any("\n" in text for text in found)


def test_what_is_counted(saved: Path, file: Path, tmp_path: Path) -> None:
    counts = translate_file(settings(saved, file, output=str(tmp_path / "out")))
    assert counts == LineCounts(num_lines=40, num_empty=4, num_invalid=2, num_cut=1)
    assert "40 lines, 20.0 lines/s, 4 empty (2 of them invalid), 1 cut at 62 tokens" == (
        counts.describe(62, 40, 2.0)
    )
    with pytest.raises(DataError, match=r"lines\.txt:8: the line is invalid UTF-8: fix it"):
        list(translate(settings(saved, file, invalid="error")))


def test_a_pipe_says_what_the_function_says(saved: Path, root: Path, tmp_path: Path) -> None:
    content = b"".join(raw + b"\n" for raw in (mixed() * 25)[:1000])
    path = tmp_path / "thousand.txt"
    path.write_bytes(content)
    expected = list(translate(settings(saved, path, chunk=300)))
    assert len(expected) == 1000
    command = [
        sys.executable, "-m", "xlm.translate", str(saved), "-", "--source=en", "--target=ne",
        "--generation.beam=1", "--generation.ratio=0", "--generation.extra=6", "--invalid=empty",
        "--chunk=300",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, input=content, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{line}\n" for line in expected).encode()
    example, summary = done.stderr.splitlines()
    assert example.startswith(b"layout xlm; the encoder reads 1 </s>")
    assert summary.startswith(b"1,000 lines, ")


KILLED = """
import os, signal, sys
from xlm import translate
from xlm.text.resuming import Partial
add = Partial.add
def adding(partial, rows, job):
    add(partial, rows, job)
    if job.counts.num_lines == 20:
        with open(partial.path, "ab") as file:
            file.write(b"half a li")
        os.kill(os.getpid(), signal.SIGKILL)
Partial.add = adding
translate.main(sys.argv[1:])
"""


def test_a_killed_file_goes_on(
    saved: Path, file: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind half a line after two chunks of ten: the rest alone is translated."""
    whole, output = tmp_path / "whole", tmp_path / "output"
    expected = translate_file(settings(saved, file, chunk=10, output=str(whole)))
    command = [
        sys.executable, "-c", KILLED, str(saved), str(file), "--source=en", "--target=ne",
        "--generation.beam=1", "--generation.ratio=0", "--generation.extra=6", "--invalid=empty",
        "--chunk=10", f"--output={output}",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert subprocess.run(command, capture_output=True, env=environment).returncode == -9
    partial = tmp_path / "output.partial"
    assert partial.read_bytes().endswith(b"half a li") and not output.exists()
    first_lines: list[int] = []
    translating = Translator.translate

    def counted(self: Translator, lines: Iterator[str], *, first: int = 1) -> object:
        first_lines.append(first)
        return translating(self, lines, first=first)

    monkeypatch.setattr(Translator, "translate", counted)
    assert translate_file(settings(saved, file, chunk=10, output=str(output))) == expected
    assert first_lines == [21, 31, 41]
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("output.partial*"))


def begun(saved: Path, file: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was stopped after its first chunk of ten lines."""
    windows = LineJob.windows

    def stopped(job: LineJob) -> Iterator[Rows]:
        yield next(windows(job))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(LineJob, "windows", stopped)
        translate_file(settings(saved, file, chunk=10, output=str(output)))


def test_what_was_begun_otherwise_is_refused(
    saved: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output, partial = tmp_path / "output", tmp_path / "output.partial"
    begun(saved, file, output, monkeypatch)
    beside, written = tmp_path / "output.partial.json", partial.read_bytes()
    described = beside.read_text(encoding="utf-8")
    assert json.loads(described)["done"]["account"]["num_lines"] == 10

    def refused(reason: str, **changes: Any) -> None:
        with pytest.raises(
            DataError, match=f"started with other settings: {reason}.*; start it as before, remove"
        ):
            translate_file(settings(saved, file, output=str(output), **{"chunk": 10, **changes}))

    refused("chunk was 10, is 7", chunk=7)
    refused("target was ne, is hi; seed was 0, is 3", target="hi", seed=3)
    error = fails(capfd, saved, file, "--source=en", "--target=ne", "--output", output)
    assert (
        "started with other settings: generation was {" in error
        and f"remove {partial} and" in error
    )
    partial.write_bytes(written.replace(written[:1], b"?", 1))
    refused(".*output.partial is not what was written")
    partial.write_bytes(written)
    beside.write_text("{}")
    refused(".*cannot be read")
    beside.write_text(described)
    before = file.read_bytes()
    file.write_bytes(b"?" + before[1:])
    refused("the first 10 lines of the input are not those that were read")
    file.write_bytes(before)
    beside.unlink()
    with pytest.raises(DataError, match="its origin is unknown: remove it"):
        translate_file(settings(saved, file, chunk=10, output=str(output)))
    beside.write_text(described)
    translate_file(settings(saved, file, chunk=10, output=str(output)))
    assert output.read_bytes().startswith(written) and output.read_bytes().count(b"\n") == 40


@pytest.mark.parametrize("invalid", ["empty", "error"])
def test_after_an_invalid_line_a_start_goes_on_with_it_empty_or_mended(
    saved: Path, file: Path, tmp_path: Path, invalid: str
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "output"
    translate_file(settings(saved, file, chunk=5, output=str(whole)))
    with pytest.raises(DataError, match="lines.txt:8: the line is invalid"):
        translate_file(settings(saved, file, chunk=5, output=str(output), invalid="error"))
    done = (tmp_path / "output.partial").read_bytes()
    assert done.count(b"\n") == 5
    if invalid == "error":
        file.write_bytes(
            b"\n".join(b"mended" if at in (7, 33) else x for at, x in enumerate(mixed()))
        )
    translate_file(settings(saved, file, chunk=5, output=str(output), invalid=invalid))
    rows, expected = (path.read_bytes().split(b"\n") for path in (output, whole))
    assert b"\n".join(rows).startswith(done) and len(rows) == len(expected)
    different = [
        at for at, (own, other) in enumerate(zip(rows, expected, strict=True)) if own != other
    ]
    assert different == ([7, 33] if invalid == "error" else [])


def test_an_output_that_is_the_input_or_named_as_compressed_is_refused(
    saved: Path, file: Path, tmp_path: Path
) -> None:
    content = file.read_bytes()
    with pytest.raises(ConfigError, match="is also the input: give another output"):
        settings(saved, file, output=str(file))
    assert file.read_bytes() == content
    with pytest.raises(ConfigError, match=r"o\.gz: text is written uncompressed"):
        settings(saved, file, output=str(tmp_path / "o.gz"))
    missing = settings(saved, tmp_path / "missing", output=str(file))
    with pytest.raises(DataError, match="missing does not exist"):
        translate_file(missing)
    assert file.read_bytes() == content


def test_closed_streams_are_said_in_one_line(
    saved: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        list(translate(settings(saved, "-")))
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(DataError, match="standard output is closed"):
        to_standard_output(["a"])


def test_several_translations_and_their_scores(saved: Path, file: Path) -> None:
    beam = Generation(beam=3, ratio=0, extra=6)
    texts = ["" if at in (7, 33) else raw.decode() for at, raw in enumerate(mixed())]
    alone = Translator(xlm.load(saved), "en", "ne", settings=beam, n_best=3)
    expected = alone.translate(texts)
    best = [f"{one.texts[0]}\t{one.scores[0]:.4f}" for one in expected]
    assert list(translate(settings(saved, file, generation=beam, scores=True))) == best
    rows = [f"{at}\t{text}" for at, one in enumerate(expected, 1) for text in one.texts]
    assert list(translate(settings(saved, file, generation=beam, n_best=3))) == rows
    assert len(rows) > 60 and rows.count("4\t") == 1


def test_a_terminal_is_answered_line_by_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    source = io.BytesIO(b"water\nhouse\ntree\n")
    monkeypatch.setattr(sys, "stdin", Terminal(source))
    answers = translate(settings(saved))
    assert next(answers) and source.tell() == len(b"water\n")


def test_mistakes_are_one_line(
    saved: Path, file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    known = ("--source=en", "--target=ne")
    tuned.body().save_pretrained(tmp_path / "encoder")
    assert "does not know the language fr" in fails(
        capfd, saved, file, "--source=fr", "--target=ne"
    )
    assert "target: the model distinguishes languages" in fails(capfd, saved, file, "--source=en")
    assert "none.txt does not exist" in fails(capfd, saved, tmp_path / "none.txt", *known)
    error = fails(capfd, saved, tmp_path / "none.txt", *known, "--output", tmp_path / "out")
    assert "none.txt" in error
    assert "no decoder" in fails(capfd, tmp_path / "encoder", file, *known)
    assert "lines.txt:8: the line is invalid UTF-8" in fails(capfd, saved, file, *known)
    assert "chunk is 0" in fails(capfd, saved, file, *known, "--chunk=0")
    error = fails(capfd, saved, file, *known, "--output", tmp_path)
    assert "is a directory: give a file" in error
    error = fails(capfd, saved, file, *known, "--output", tmp_path / "no" / "out")
    assert f"the folder {tmp_path / 'no'} does not exist: create it" in error
    with pytest.raises(ConfigError, match="output is null"):
        translate_file(settings(saved, file))
