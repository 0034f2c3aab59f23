"""Bytes from files of every compression and cells from Hugging Face ``datasets``, as they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from xlm.errors import DataError, first_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BUFFER = 1 << 18
_WINDOW = zstd.DecompressionParameter.window_log_max
_ANY_WINDOW = {int(_WINDOW): _WINDOW.bounds()[1]}
"""Reads files of ``zstd --long=31`` too; the default refuses windows above 128 MiB."""
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
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
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
        return io.BufferedReader(cast(Any, zstd.open(path, options=_ANY_WINDOW)), _BUFFER)
    return cast(io.BufferedReader, open(path, "rb", buffering=_BUFFER))


def _describe(path: str, number: int, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: expected a text file"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a directory: expected a text file"
    after = f"{path}:{number + 1}"
    if isinstance(error, EOFError):
        return f"{after}: the compressed file is truncated: fetch or write it again"
    return f"{after}: cannot be read ({first_line(error)}): fetch or write it again"


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
        raise DataError(f"datasets:{name}: cannot be read: {first_line(error)}") from error


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
        raise DataError(f"datasets:{name}: cannot be read: {first_line(error)}") from error


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
                trust_remote_code=False,
                **({"delimiter": "\t"} if kind == "tsv" else {}),
            )
        return datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming,
            trust_remote_code=False,  # a data set that is a program is refused
        )  # fmt: skip
    except DataError:
        raise
    except Exception as error:  # the hub, the network, a missing split, a foreign format ...
        raise DataError(f"datasets:{name}: cannot be opened: {first_line(error)}") from error
