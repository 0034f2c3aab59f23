"""Cells and rows of Hugging Face ``datasets``; local files are cut as they are by their path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm.errors import DataError, first_line
from xlm.text.local_rows import KINDS, kind_of, local_rows
from xlm.text.raw import COMPRESSED, raw_lines

__all__ = ["COMPRESSED", "dataset_cells", "dataset_rows", "raw_lines"]


def dataset_cells(
    name: str,
    *,
    split: str = "train",
    column: str = "text",
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
) -> Iterator[str | None]:
    """Yield the cells of a text column (``translation.en``: of a dictionary in a column).

    Raises DataError if the data set, the split or the column is missing or a cell is not text.
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
    except Exception as error:  # any error of a format's reader is about the data
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
    """Yield the rows of a data set by column, class numbers as the names that its features give.

    A class of -1, the mark of a row without one, becomes None. Raises DataError if the data set or
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
    except Exception as error:  # any error of a format's reader is about the data
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
        raise DataError(
            f"datasets:{name} needs the package datasets: pip install datasets"
        ) from error
    path = Path(name)
    try:
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            saved: Any = datasets.load_from_disk(name)
            return saved if isinstance(saved, datasets.Dataset) else saved[split]
        if path.is_file() and split != "train":
            raise DataError(
                f"datasets:{name} is a file, whose only split is train: found split={split}; "
                "leave it out"
            )
        if path.is_file():
            return _open_file(datasets, name, streaming)
        if path.is_dir() and (found := _own_files(datasets, name, config, split)):
            return Rows(*found)
        return datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming
        )
    except DataError:
        raise
    except Exception as error:  # the hub, the network, a missing split, a foreign format ...
        raise DataError(f"datasets:{name}: cannot be opened: {first_line(error)}") from error


@dataclass(frozen=True)
class Rows:
    """The rows of local files that are cut here, with the attributes of a data set."""

    paths: list[str]
    kind: str
    column_names: None = None
    features: None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return local_rows(self.paths, self.kind)


def _open_file(datasets: Any, name: str, streaming: bool) -> Any:
    kind = kind_of(name)
    if kind in KINDS:
        return Rows([name], kind)
    if kind not in ("json", "parquet", "arrow"):
        raise DataError(
            f"datasets:{name}: files ending in .{kind} are not supported: expected an ending "
            f"of {', '.join((*KINDS, 'json', 'parquet', 'arrow'))}, compressed or not"
        )
    return datasets.load_dataset(
        kind, data_files={"train": name}, split="train", streaming=streaming
    )


def _own_files(
    datasets: Any, folder: str, config: str | None, split: str
) -> tuple[list[str], str] | None:
    """Return the files of a folder's split and their kind; None if ``datasets`` is to read them."""
    builder = datasets.load_dataset_builder(folder, config)
    chosen = builder.config.data_files or {}
    paths = [str(path) for path in chosen.get(split, ())]
    kinds = {kind_of(path) for path in paths}
    if (
        len(kinds) != 1
        or not kinds <= set(KINDS)
        or not all(Path(path).is_file() for path in paths)
    ):
        return None
    return paths, kinds.pop()
