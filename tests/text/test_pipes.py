"""Every line of standard input or of a file in its place, and lines to standard output."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest

from xlm.errors import ConfigError, DataError
from xlm.text import pipes
from xlm.text.pipes import check_output, every_line, stdin_lines, to_standard_output
from xlm.text.readers import INVALID, TOO_LONG, Line


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),  # empty lines count, and a last line needs no end
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),  # only the first may have a BOM
        ("x\u2028y\r\n".encode(), ["x\u2028y\r"]),  # only \n ends a line
    ],
)
def test_lines_come_as_they_are(raw: bytes, texts: list[str]) -> None:
    found = list(stdin_lines(io.BytesIO(raw)))
    assert found == [Line(text, "", f"stdin:{at}") for at, text in enumerate(texts, 1)]


def test_nothing_is_read_before_it_is_asked_for() -> None:
    stream = io.BytesIO(b"one\ntwo\n")
    lines = stdin_lines(stream)
    assert stream.tell() == 0
    assert next(lines).text == "one" and stream.tell() == len(b"one\n")


def test_an_invalid_line_keeps_its_place() -> None:
    raw = b"a\n\xff\nb\n"
    assert [(line.text, line.reason) for line in stdin_lines(io.BytesIO(raw))] == [
        ("a", ""), ("", INVALID), ("b", ""),
    ]  # fmt: skip
    lines = stdin_lines(io.BytesIO(raw), "error")
    assert next(lines).text == "a"
    with pytest.raises(DataError, match="stdin:2"):
        next(lines)


@pytest.mark.parametrize("more", [1, 4, 5, 9])
def test_a_line_that_is_too_long_is_left_out_whole(
    monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(pipes, "MAX_BYTES", 4)
    raw = b"aaaa\n" + b"b" * (4 + more) + b"\ncc\n"
    found = [(line.text, line.reason) for line in stdin_lines(io.BytesIO(raw))]
    assert found == [("aaaa", ""), ("", TOO_LONG), ("cc", "")]


def test_no_line_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="standard input is empty"):
        list(stdin_lines(io.BytesIO(b"")))


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        every_line("-")
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(DataError, match="standard output is closed"):
        to_standard_output(["a"])


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"a\n\nb\n"))
    assert [line.text for line in every_line(str(path))] == ["a", "", "b"]


def test_an_output_that_would_do_harm_is_refused(tmp_path: Path) -> None:
    file, link = tmp_path / "a", tmp_path / "b"
    file.write_text("a\n")
    link.symlink_to(file)
    for output in (file, link):
        with pytest.raises(ConfigError, match="is also the input"):
            check_output(str(output), str(file))
    with pytest.raises(ConfigError, match="leave out this ending"):
        check_output(str(tmp_path / "out.gz"), str(file))
    check_output(str(tmp_path / "out"), str(file))
    check_output(str(file), "-")


def test_a_reader_that_has_seen_enough_is_no_error(root: Path) -> None:
    """Lines without end, of which `head` reads two."""
    code = (
        "import itertools; from xlm.text.pipes import to_standard_output; "
        "to_standard_output(map(str, itertools.count()))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stderr is not None
        assert [writer.stdout.readline() for _ in range(2)] == [b"0\n", b"1\n"]
        writer.stdout.close()
        assert writer.wait(timeout=60) == 0 and writer.stderr.read() == b""
