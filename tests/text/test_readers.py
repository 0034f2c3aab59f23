import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from xlm.errors import ConfigError, DataError
from xlm.text.readers import (
    ReadReport,
    open_lines,
    open_pairs,
    read_lines,
)

TEXT = "one\ntwo\n\nthree <mask> x\n"
KEPT = ["one", "two", "three <mask> x"]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".txt": lambda content: content,
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def write(folder: Path, content: bytes | str, name: str = "a.txt") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(path: str, **settings: object) -> tuple[list[str], ReadReport]:
    report = ReadReport()
    return list(open_lines(path, report, **settings)), report  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressions(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, COMPRESS[suffix](TEXT.encode()), "a" + suffix)
    lines, report = read(path)
    assert lines == KEPT
    assert (report.num_read, report.num_kept, report.dropped) == (4, 3, {"empty": 1})
    assert report.first["empty"] == f"{path}:3"
    assert list(read_lines(path, report=ReadReport())) == KEPT


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, -1])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    text = "".join(f"line {k * 7919 % 1009} of {k}\n" for k in range(20_000)).encode()
    whole = COMPRESS[suffix](text)
    cut = whole[:-1] if share < 0 else whole[: int(len(whole) * share)]
    path = write(tmp_path, cut, "a" + suffix)
    with pytest.raises(DataError, match=r"a\.\w+:\d+: .*(truncated|cannot be read)") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_zstd_frames_and_every_cut(tmp_path: Path) -> None:
    def compress(content: bytes) -> bytes:
        return zstd.compress(content, options={int(zstd.CompressionParameter.checksum_flag): 1})

    random = bytes(range(32, 127)) * 3  # raw and compressed blocks
    frames = compress(random + b"\n") + compress(b"second\n") + compress(b"a" * 300_000)
    lines, _ = read(write(tmp_path, frames, "whole.zst"))
    assert lines[1:] == ["second", "a" * 300_000]
    ends = {len(compress(random + b"\n")), len(compress(random + b"\n") + compress(b"second\n"))}
    for end in range(1, len(frames)):
        path = write(tmp_path, frames[:end], "cut.zst")
        if end in ends:
            read(path)  # cut between frames: nothing shows that something is missing
        else:
            with pytest.raises(DataError):
                read(path)


def test_garbage_in_a_compressed_file(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst", ".bz2", ".xz"):
        with pytest.raises(DataError, match="has the name of a"):
            read(write(tmp_path, b"no such format at all\n" * 9, "a" + suffix))


def test_only_newlines_end_lines(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\rh\r\nlast"
    lines, report = read(write(tmp_path, text))
    assert lines == ["a b c d e f g h", "last"]
    assert report.num_read == 2


def test_bom_crlf_nul(tmp_path: Path) -> None:
    lines, _ = read(write(tmp_path, b"\xef\xbb\xbfone\r\n\x00two\x00\r\n\xef\xbb\xbf\r\n"))
    assert lines == ["one", "two"]


def test_invalid_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, b"good\nba\xffd\n\xed\xa0\x80\ngood too\n")
    with pytest.raises(DataError, match=r"a\.txt:2: byte 0xff at offset 2 of the line") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    lines, report = read(path, invalid="drop")
    assert lines == ["good", "good too"]
    assert report.dropped == {"invalid UTF-8": 2}
    assert report.first["invalid UTF-8"] == f"{path}:2"
    with pytest.raises(ConfigError, match="invalid='ignore'"):
        read(path, invalid="ignore")
    with pytest.raises(DataError, match="UTF-16"):
        read(write(tmp_path, "text\n".encode("utf-16")))


def test_long_lines(tmp_path: Path) -> None:
    long = "é" * 5_000_000
    path = write(tmp_path, f"a\n{long}\nb\n{long}")
    lines, report = read(path)
    assert lines == ["a", "b"]
    assert report.dropped == {"too long": 2} and report.first["too long"] == f"{path}:2"
    assert read(path, max_bytes=1 << 24)[0] == ["a", long, "b", long]
    exact = write(tmp_path, "12345\n123456\n12345", "exact.txt")
    assert read(exact, max_bytes=5)[0] == ["12345", "12345"]
    zipped = write(tmp_path, zstd.compress(f"{long}\nb".encode()), "a.zst")
    assert read(zipped)[0] == ["b"]


def test_a_zstd_window_longer_than_the_default_allows(tmp_path: Path) -> None:
    options = {
        int(zstd.CompressionParameter.window_log): 28,
        int(zstd.CompressionParameter.strategy): int(zstd.Strategy.fast),
        int(zstd.CompressionParameter.hash_log): 10,
    }
    compressor = zstd.ZstdCompressor(options=options)
    content = compressor.compress(TEXT.encode()) + compressor.flush()
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(content)
    assert read(write(tmp_path, content, "long.zst"))[0] == KEPT


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        read(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="is a folder without files"):
        read(str(tmp_path))
    for suffix, compress in COMPRESS.items():
        path = write(tmp_path, compress(b""), "empty" + suffix)
        with pytest.raises(DataError, match=r"empty\.\w+ is empty"):
            read(path)
    (tmp_path / "folder.gz").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        list(read_lines(str(tmp_path / "folder.gz"), report=ReadReport()))


def test_report(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    _, report = read(path)
    assert report.num_spelling_specials == 1
    assert report.describe() == (
        f"4 lines read, 3 kept; 1 dropped (empty; first at {path}:3); 1 kept as plain text though "
        f"they spell a special token (first at {path}:4)"
    )
    other = ReadReport()
    other.keep("b:1", "x")
    other.drop("empty", "b:2")
    other.drop("too long", "b:3")
    report.add(other)
    assert (report.num_read, report.num_kept) == (7, 4)
    assert report.dropped == {"empty": 2, "too long": 1}
    assert report.first["empty"] == f"{path}:3" and report.first["too long"] == "b:3"


def test_pairs(tmp_path: Path) -> None:
    first = write(tmp_path, "a\n\nc\nd <pad>\n", "first")
    second = write(tmp_path, "A\nB\n \t\nD", "second.txt")
    report = ReadReport()
    assert list(open_pairs([first, second], ("en", "ne"), report)) == [("a", "A"), ("d <pad>", "D")]
    assert (report.num_read, report.num_kept, report.dropped) == (4, 2, {"empty": 2})
    assert report.first["empty"] == f"{first}:2"
    assert report.num_spelling_specials == 1


@pytest.mark.parametrize("swap", [False, True])
def test_unequal_pairs(tmp_path: Path, swap: bool) -> None:
    paths = [write(tmp_path, "a\nb\nc\nd\ne\n", "long"), write(tmp_path, "A\nB\n", "short")]
    with pytest.raises(DataError) as caught:
        list(open_pairs(paths[::-1] if swap else paths, ("en", "ne"), ReadReport()))
    message = str(caught.value)
    assert f"{paths[0]} has 5" in message and f"{paths[1]} has 2" in message


def test_settings_of_a_source() -> None:
    for source, message in [("datasets:", "no name"), ("datasets:x?colum=a", "setting 'colum'")]:
        with pytest.raises(ConfigError, match=message):
            read(source)
