"""Bytes from files of every compression and cells from Hugging Face ``datasets``, as they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from xlm.errors import DataError

_BUFFER = 1 << 18
_BUILDERS = {"jsonl": "json", "txt": "text", "tsv": "csv"}


def raw_lines(path: str, max_bytes: int) -> Iterator[bytes | None]:
    """The lines of a file without their ``\\n``; None for one of more than ``max_bytes``.

    A byte order mark at the start of the file is left out. Raises DataError for a file that is
    missing, a directory, truncated or damaged.
    """
    number = 0
    try:
        with _open(path) as stream:
            start = stream.peek(3)[:3]
            if start == b"\xef\xbb\xbf":
                stream.read(3)
            while line := stream.readline(max_bytes + 1):
                number += 1
                if line.endswith(b"\n"):
                    yield line[:-1]
                elif len(line) <= max_bytes:
                    yield line
                else:
                    _skip_line(stream)
                    yield None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise DataError(_describe(path, number, error)) from None


def _skip_line(stream: io.BufferedReader) -> None:
    while piece := stream.readline(_BUFFER):
        if piece.endswith(b"\n"):
            return


def _open(path: str) -> io.BufferedReader:
    suffix = Path(path).suffix
    if suffix == ".gz":
        return io.BufferedReader(cast(Any, gzip.open(path)), _BUFFER)
    if suffix == ".bz2":
        return io.BufferedReader(cast(Any, bz2.open(path)), _BUFFER)
    if suffix == ".xz":
        return io.BufferedReader(cast(Any, lzma.open(path)), _BUFFER)
    if suffix == ".zst":
        return io.BufferedReader(_Zstandard(open(path, "rb")), _BUFFER)
    return cast(io.BufferedReader, open(path, "rb", buffering=_BUFFER))


def _describe(path: str, number: int, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: expected a text file"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a directory: expected a text file"
    after = f"{path}:{number + 1}"
    if isinstance(error, EOFError):
        return f"{after}: the compressed file is truncated: fetch or write it again"
    return f"{after}: cannot be read ({str(error).splitlines()[0]}): fetch or write it again"


class _Zstandard(io.RawIOBase):
    """A zstd file that says when it is truncated, in bounded memory.

    The streaming decoder stays silent about a last frame that is cut off. So one more frame, with
    known content, is put behind the file: it comes out as the last bytes if and only if the frames
    before it were whole. Its checksum stands last, so that its own bytes taken for the content of
    a cut frame do not end in the known content either.
    """

    _SIGN = b"the frames before this one were whole"

    def __init__(self, file: IO[bytes]):
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(self._SIGN)
        source = _Chain(file, frame)
        decoder = zstandard.ZstdDecompressor()
        self._file = file
        self._stream = decoder.stream_reader(cast(Any, source), read_across_frames=True)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        keep = len(self._SIGN)
        while len(self._held) <= keep:
            piece = self._stream.read(max(len(buffer), keep))
            if not piece:
                if self._held != self._SIGN:
                    raise EOFError("the last frame is cut off")
                return 0
            self._held += piece
        num = min(len(buffer), len(self._held) - keep)
        buffer[:num] = self._held[:num]
        self._held = self._held[num:]
        return num

    def close(self) -> None:
        self._file.close()
        super().close()


class _Chain(io.RawIOBase):
    """A file and then an ending, which is served in pieces.

    Were it served whole, right behind a frame cut within its header, libzstd would take it for all
    of that frame (its shortcut for input that holds a complete one) and say nothing.
    """

    _PIECE = 8

    def __init__(self, file: IO[bytes], ending: bytes):
        self._file = file
        self._ending = io.BytesIO(ending)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(len(buffer)) or self._ending.read(self._PIECE)
        buffer[: len(piece)] = piece
        return len(piece)


def dataset_cells(
    name: str,
    *,
    split: str = "train",
    column: str = "text",
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
) -> Iterator[str | None]:
    """The cells of one text column (``translation.en``: of a dictionary in a column).

    Raises DataError where the data set, the split or the column is missing or a cell is not text.
    """
    rows = _open_dataset(name, split, config, revision, streaming)
    head, *rest = [column] if column in (rows.column_names or ()) else column.split(".")
    try:
        for number, row in enumerate(rows, 1):
            cell: Any = row
            for part in (head, *rest):
                cell = _descend(cell, part, f"datasets:{name}:{number}", column)
            if cell is not None and not isinstance(cell, str):
                raise DataError(
                    f"datasets:{name}:{number}: column {column!r} holds {type(cell).__name__}, "
                    "expected text"
                )
            yield cell
    except DataError:
        raise
    except Exception as error:  # whatever a reader of some format raises is about the data
        raise DataError(f"datasets:{name}: cannot be read: {_first_line(error)}") from error


def _descend(cell: Any, part: str, place: str, column: str) -> Any:
    if cell is None:
        return None
    if not isinstance(cell, Mapping) or part not in cell:
        there = ", ".join(map(str, cell)) if isinstance(cell, Mapping) else type(cell).__name__
        raise DataError(f"{place}: no column {column!r}: expected one of {there}")
    return cell[part]


def dataset_rows(
    name: str,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
) -> Iterator[dict[str, Any]]:
    """The rows of a data set by column, class numbers as the names that its features give them.

    A class of -1, which says that a row has none, is None. Raises DataError where the data set or
    the split is missing or cannot be read.
    """
    rows = _open_dataset(name, split, config, revision, streaming)
    classes = {
        column: getattr(feature, "feature", feature).names
        for column, feature in (getattr(rows, "features", None) or {}).items()
        if hasattr(getattr(feature, "feature", feature), "names")
    }
    try:
        for row in rows:
            yield {
                column: _class_names(cell, classes[column]) if column in classes else cell
                for column, cell in row.items()
            }
    except Exception as error:  # whatever a reader of some format raises is about the data
        raise DataError(f"datasets:{name}: cannot be read: {_first_line(error)}") from error


def _class_names(cell: Any, names: list[str]) -> Any:
    if isinstance(cell, int):
        return names[cell] if cell >= 0 else None
    if isinstance(cell, list):
        return [_class_names(one, names) for one in cell]
    return cell


def _open_dataset(
    name: str, split: str, config: str | None, revision: str | None, streaming: bool
) -> Any:
    try:
        import datasets  # heavy, and needed by those alone who ask for it
    except ImportError as error:
        raise DataError(f"datasets:{name} needs the package: pip install datasets") from error
    path = Path(name)
    try:
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            saved: Any = datasets.load_from_disk(name)
            return saved if isinstance(saved, datasets.Dataset) else saved[split]
        if path.is_file():
            if split != "train":
                raise DataError(
                    f"datasets:{name} is a file, whose one split is train: found split={split}; "
                    "leave it out"
                )
            kind = path.name.removesuffix(".gz").rpartition(".")[2]
            return datasets.load_dataset(
                _BUILDERS.get(kind, kind),
                data_files={split: name},
                split=split,
                streaming=streaming,
                **({"delimiter": "\t"} if kind == "tsv" else {}),
            )
        return datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming
        )
    except DataError:
        raise
    except Exception as error:  # the hub, the network, a missing split, a foreign format ...
        raise DataError(f"datasets:{name}: cannot be opened: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
