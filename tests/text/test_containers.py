"""What a file is by its first bytes; every kind that people have is read, or named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from xlm.errors import DataError
from xlm.text.containers import compression, problem
from xlm.text.kept_pipes import kept_pipes
from xlm.text.pipes import stdin_lines
from xlm.text.raw import raw_lines
from xlm.text.readers import ReadReport, open_lines, open_pairs

LINES = ["one two", "मानिस रोटी खान्छ ।", "水火山石田", "four"]
TEXT = "".join(f"{line}\n" for line in LINES)
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress,
}  # fmt: skip


def read(path: Path | str) -> list[str]:
    return list(open_lines(str(path), ReadReport()))


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "a.bz2", "a.xz", "a.zst", "a.GZ"])
def test_compression_is_known_by_its_bytes(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[kind](TEXT.encode()))
    assert read(tmp_path / name) == LINES
    assert compression((tmp_path / name).read_bytes()[:16]) == kind


@pytest.mark.parametrize("kind", PACKED)
def test_several_frames_are_one_file(tmp_path: Path, kind: str) -> None:
    both = PACKED[kind](TEXT.encode()) + PACKED[kind](TEXT.encode())
    (tmp_path / "a").write_bytes(both)
    assert read(tmp_path / "a") == LINES * 2


def tar(mode: str, format: int = tarfile.PAX_FORMAT) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode=mode, format=format) as archive:  # type: ignore[call-overload]
        for name in ("a.txt", "b.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(TEXT.encode())
            archive.addfile(entry, io.BytesIO(TEXT.encode()))
    return written.getvalue()


def zipped() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a.txt", TEXT)
    return written.getvalue()


def message_alone(value: bytes | str) -> str:
    """Name a case by its message: packed bytes hold the time at which they were made."""
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar("w"), "is a tar archive"),
        (tar("w:gz"), "is a tar archive"),
        (tar("w:xz"), "is a tar archive"),
        (tar("w", tarfile.GNU_FORMAT), "is a tar archive"),
        (tar("w", tarfile.USTAR_FORMAT), "is a tar archive"),
        (zipped(), "is a zip archive"),
        (gzip.compress(zipped()), "is a zip archive"),
        (b"PAR1\x15\x04\x15\x00\x00", "is a Parquet file"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "is a PDF"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7z archive"),
        (b"\x93NUMPY\x01\x00v\x00", "is an array of numpy"),
        (gzip.compress(gzip.compress(TEXT.encode())), "holds gzip inside of gzip"),
        (TEXT.encode("utf-16"), "looks like UTF-16, expected UTF-8"),
        (TEXT.encode("utf-16-le"), "looks like UTF-16 without a mark.*-f UTF-16LE"),
        (TEXT.encode("utf-16-be"), "looks like UTF-16 without a mark.*-f UTF-16BE"),
        (TEXT.encode("utf-32"), "looks like UTF-32"),
        (TEXT.encode("utf-32-le"), "looks like UTF-32 without a mark"),
        (gzip.compress(TEXT.encode("utf-16-le")), "looks like UTF-16 without a mark"),
        (("水火山石田土日月木金人口手足目耳\n" * 9).encode("utf-16-le"), "looks like UTF-16"),
        (TEXT.replace("\n", "\r").encode(), r"4 carriage returns.*end with \\r alone"),
        (gzip.compress(TEXT.replace("\n", "\r").encode()), r"end with \\r alone"),
        (b"\x00" * 4096, "NUL bytes|UTF-32"),
        (gzip.compress(TEXT.encode())[:-9], "truncated"),
        (b"", "is empty: expected lines of text"),
    ],
    ids=message_alone,
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    for invalid in ("error", "drop"):
        (tmp_path / "text").write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            list(open_lines(str(tmp_path / "text"), ReadReport(), invalid=invalid))
        assert str(caught.value).startswith(f"{tmp_path}/text")


@pytest.mark.parametrize("name", ["a.gz", "a.bz2", "a.xz", "a.zst"])
def test_a_name_that_promises_what_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXT)
    with pytest.raises(DataError, match=f"{name} has the name of a .* file, but is not one"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "a line\r\nanother\r\n", "a\rb\nc\n", "PAR1 is a word\n", "%PDF-1.4 is one\n", "one line",
        "BZh9 is no bzip2\n", "a\0b, a NUL by accident, in a line that is long enough not to be "
        "taken for the other encoding of a text whose second bytes are all NUL\n", "one line\r",
        "ustar\n" * 100, "PK\n", "\ufeffmarked\n",
    ],
)  # fmt: skip
def test_text_stays_text(text: str) -> None:
    assert problem(text.encode()) == "" and compression(text.encode()) == ""


def feed(path: Path, content: bytes) -> threading.Thread:
    thread = threading.Thread(target=lambda: path.write_bytes(content), daemon=True)
    thread.start()
    return thread


def test_a_kept_pipe_is_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "".join(f"line {at} {'x' * (at % 97)}\n" for at in range(50_000))
    with kept_pipes():
        thread = feed(pipe, gzip.compress(text.encode()))
        first = raw_lines(str(pipe), 1 << 20)
        assert next(first) == b"line 0 "
        second = list(raw_lines(str(pipe), 1 << 20))  # goes on where the first has stopped
        assert second == text.encode().splitlines()
        assert list(first) == second[1:]
        assert list(raw_lines(str(pipe), 1 << 20)) == second
        thread.join()
    thread = feed(pipe, b"new\n")  # nothing of it is left
    assert read(pipe) == ["new"]
    thread.join()


def test_both_sides_of_pairs_from_pipes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        os.mkfifo(tmp_path / name)
    with kept_pipes():
        threads = [feed(tmp_path / name, TEXT.encode()) for name in ("one", "two")]
        sides = (str(tmp_path / "one"), str(tmp_path / "two"))
        for _ in range(2):
            assert list(open_pairs(sides, ("en", "ne"), ReadReport())) == [
                (line, line) for line in LINES
            ]
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(TEXT.encode()), "standard input is gzip: unpack it first"),
        (TEXT.encode("utf-16-le"), "standard input looks like UTF-16"),
        (TEXT.replace("\n", "\r").encode(), "standard input has 4 carriage returns"),
    ],
    ids=message_alone,
)
def test_standard_input_that_is_no_text(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(stdin_lines(io.BytesIO(content)))


def test_a_nul_in_a_name() -> None:
    with pytest.raises(DataError, match="a name cannot contain a NUL character"):
        read("a\0b")
