"""The kind of a file by its first bytes: compressed, an archive, text in another encoding, or text.

Names mislead: text is published as ``corpus.gz`` that is a tar archive, ``train.txt`` that is gzip,
and files written elsewhere hold UTF-16 or end their lines with carriage returns alone. Read as text
they would give wrong lines without an error.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""The compression that an ending of a name promises."""

START = 1 << 16
"""Bytes at the start of a file that are looked at."""

_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
"""A frame of zstd, or one that is to be skipped."""
_OTHERS = {
    b"PK\x03\x04": "a zip archive", b"PK\x05\x06": "an empty zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!\x1a\x07": "a rar archive",
    b"%PDF-": "a PDF", b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file",
    b"\x89HDF\r\n": "an HDF5 file", b"SQLite format 3\x00": "an SQLite data base",
    b"\xd0\xcf\x11\xe0": "an old Office document", b"\x93NUMPY": "an array of numpy",
    b"\x1f\x9d": "a file of compress (.Z)", b"LZIP": "a file of lzip",
    b"\x04\x22\x4d\x18": "a file of lz4", b"\xff\x06\x00\x00sNaPpY": "a file of snappy",
}  # fmt: skip
"""Kinds of files that are not text, by their first bytes."""


def compression(start: bytes) -> str:
    """Return the name of the compression that a file begins like; empty if there is none."""
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if re.match(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", start):
        return "bzip2"
    if start.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    return "zstd" if _ZSTD.match(start) else ""


def promised(path: str) -> str:
    """Return the name of the compression that a file is named after; empty if there is none."""
    return COMPRESSIONS.get(Path(path).suffix.lower(), "")


def problem(start: bytes, *, any_encoding: bool = False) -> str:
    """Return why a file that begins with ``start`` is not text in UTF-8; empty if it may be.

    ``start`` is the content, already unpacked: the first ``START`` bytes or all there are.
    ``any_encoding`` leaves UTF-16 and the ends of lines to the reader.
    """
    for magic, name in _OTHERS.items():
        if start.startswith(magic) and (not magic.isascii() or not _is_utf8(start)):
            return f"is {name}, expected text: unpack or convert it, and give the text"
    if _is_tar(start):
        return "is a tar archive, expected text: unpack it (tar -xf), and give the files in it"
    return "" if any_encoding else _encoding(start) or _line_ends(start)


def _is_utf8(start: bytes) -> bool:
    """Return whether bytes are text; a character that is cut at their end does not count."""
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return len(start) - error.start < 4 and b"\0" not in start
    return b"\0" not in start


def _is_tar(start: bytes) -> bool:
    """Return whether there is a header of tar, whose sum no text has by chance."""
    try:
        return bool(tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], "utf-8", "replace").name)
    except tarfile.HeaderError:
        return False


def _encoding(start: bytes) -> str:
    """Return the fault of text with regular NUL bytes; empty if there is none."""
    if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return _converted("UTF-32", "UTF-32")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _converted("UTF-16", "UTF-16")
    num_nul = start.count(0)
    # a space in a hundred bytes is rare writing; a few in a short text are an accident
    if not num_nul or num_nul < 8 and num_nul * 3 < len(start) or num_nul * 100 < len(start):
        return ""
    if num_nul * 5 > len(start) * 3:
        return _converted("UTF-32 without a mark", "UTF-32LE or UTF-32BE")
    odd = start[1::2].count(0)
    if odd * 10 >= num_nul * 9:
        return _converted("UTF-16 without a mark", "UTF-16LE")
    if odd * 10 <= num_nul:
        return _converted("UTF-16 without a mark", "UTF-16BE")
    return f"holds {num_nul:,} NUL bytes in the first {len(start):,}: expected text in UTF-8"


def _converted(found: str, name: str) -> str:
    return f"looks like {found}, expected UTF-8: convert it (iconv -f {name} -t UTF-8)"


def _line_ends(start: bytes) -> str:
    """Return the fault of lines that end with carriage returns alone; empty if there is none."""
    if b"\n" in start or b"\r" not in start.removesuffix(b"\r"):
        return ""
    return (
        f"has {start.count(13):,} carriage returns and not one line feed in the first "
        f"{len(start):,} bytes: its lines end with \\r alone, expected \\n: convert them "
        "(tr '\\r' '\\n')"
    )
