"""Lines answered by windows: in place, counted, and byte for byte after a kill."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from xlm.errors import ConfigError, DataError
from xlm.text.line_jobs import LineCounts, LineJob, check_lines
from xlm.text.readers import Line
from xlm.text.resuming import Rows

TEXT = b"one\n\n\xff\nfour\nfive\nsix\nseven"


def reverse(lines: Iterator[Line], first: int) -> list[str]:
    return [f"{first + at} {line.text[::-1]}" for at, line in enumerate(lines)]


def job(file: Path, window: int = 3, **changes: object) -> LineJob:
    settings = {"noun": "reversal", "window": window, "invalid": "empty", **changes}
    return LineJob(str(file), reverse, **settings)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_bytes(TEXT)
    return path


EXPECTED = ["1 eno", "2 ", "3 ", "4 ruof", "5 evif", "6 xis", "7 neves"]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_rows_come_in_order_whatever_the_window(file: Path, window: int, tmp_path: Path) -> None:
    found = [row.partition(" ")[2] for row in job(file, window).rows()]
    assert found == [row.partition(" ")[2] for row in EXPECTED]
    output = tmp_path / "out"
    counts = job(file, window, output=str(output)).write()
    assert counts == LineCounts(num_lines=7, num_invalid=1)
    assert output.read_text().splitlines() == EXPECTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt", "out"]


def test_bytes_with_a_head_and_a_conversion(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    def lengths(lines: Iterator[Line], first: int) -> Rows:
        return bytes(len(line.text) for line in lines)

    def convert(raw: Path, beside: Path) -> None:
        beside.write_bytes(b"<" + raw.read_bytes() + b">")

    made = LineJob(str(file), lengths, noun="lengths", output=str(output), invalid="empty")
    made.write(convert, head=b"HEAD")
    assert output.read_bytes() == b"<HEAD" + bytes([3, 0, 0, 4, 4, 3, 5]) + b">"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt", "out"]


class StopError(Exception):
    pass


@pytest.mark.parametrize("head", [b"", b"HEAD"])
def test_a_stopped_file_goes_on_byte_for_byte(file: Path, tmp_path: Path, head: bytes) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    job(file, 2, output=str(whole)).write(head=head)
    stopped = job(file, 2, output=str(output))
    asked: list[int] = []

    def stopping(lines: Iterator[Line], first: int) -> list[str]:
        asked.append(first)
        if len(asked) == 3:
            raise StopError
        return reverse(lines, first)

    stopped.answer = stopping
    with pytest.raises(StopError):
        stopped.write(head=head)
    partial = tmp_path / "out.partial"
    assert partial.read_bytes().count(b"\n") == 4
    with partial.open("ab") as more:
        more.write(b"half a li")
    again = job(file, 2, output=str(output))
    answer, later = again.answer, list[int]()
    again.answer = lambda lines, first: later.append(first) or answer(lines, first)  # type: ignore[func-returns-value]
    assert again.write(head=head) == LineCounts(num_lines=7, num_invalid=1)
    assert later == [5, 7, 8]
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


def test_nothing_stays_of_a_start_that_answered_nothing(file: Path, tmp_path: Path) -> None:
    made = job(file, output=str(tmp_path / "out"), invalid="error")
    with pytest.raises(DataError, match=r"lines\.txt:3: the line is invalid UTF-8: fix it"):
        made.write()
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


def test_another_identity_is_refused(file: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")

    def stopping(lines: Iterator[Line], first: int) -> list[str]:
        if first > 3:
            raise StopError
        return reverse(lines, first)

    made = job(file, output=output, identity=lambda: {"language": "en"})
    made.answer = stopping
    with pytest.raises(StopError):
        made.write()
    beside = json.loads((tmp_path / "out.partial.json").read_text())
    assert beside["of"] == {"language": "en"} and beside["done"]["account"]["num_lines"] == 3
    with pytest.raises(DataError, match="started with other settings: language was en, is ne"):
        job(file, output=output, identity=lambda: {"language": "ne"}).write()
    with pytest.raises(DataError, match="format 'xlm-pretrain reversal 1', expected 'xlm-"):
        job(file, output=output, noun="filling").write()


def test_a_link_stays_and_a_pipe_is_fed(file: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    job(file, output=str(link)).write()
    assert link.is_symlink() and target.read_text().splitlines() == EXPECTED
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE) as reader:
        job(file, output=str(fifo)).write()
        assert reader.communicate()[0].decode().splitlines() == EXPECTED


def test_a_terminal_is_answered_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    source = io.BytesIO(b"water\nhouse\n")
    monkeypatch.setattr(sys, "stdin", Terminal(source))
    answers = job(Path("-")).rows()
    assert next(answers) == "1 retaw" and source.tell() == len(b"water\n")


def test_what_is_no_list_of_lines() -> None:
    check_lines("texts", ["a", ""])
    with pytest.raises(ConfigError, match="texts is the string 'ab'"):
        check_lines("texts", "ab")
    check_lines("texts", ("a", "b"))
    for lines in (iter(["a"]), {"a"}, np.array(["a"]), None):
        with pytest.raises(ConfigError, match=f"is of type {type(lines).__name__}: give a list"):
            check_lines("texts", lines)
    with pytest.raises(ConfigError, match="text 2 is None: expected a string"):
        check_lines("texts", ["a", None])
