"""Files of vectors, a row a line of text: .npy and Parquet, and beside them how they were made.

index.npy, index.parquet    float32 or float16 [N, D]
index.npy.json              the model and the settings that made them, and of which lines
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from xlm.errors import ConfigError, DataError, one_line
from xlm.storage import read_json, write_json

HEAD = 128
"""Bytes of the head of a .npy file that grows: enough for any number of rows."""
NPY, PARQUET = ".npy", ".parquet"
COLUMN = "vector"
"""Name of the column in Parquet files."""
_ROWS = 1 << 14
"""Rows of a group of a Parquet file."""


_TYPES = {
    "model": str, "digest": str, "language": str, "layer": int, "pooling": str, "normalize": bool,
    "length": int, "texts": str, "file": str,
}  # fmt: skip
"""The types of settings that were recorded; null is none."""


def check_name(path: str) -> None:
    """Raise ConfigError for a file of neither kind."""
    if Path(path).suffix not in (NPY, PARQUET):
        raise ConfigError(f"output {path}: expected a name that ends in {NPY} or {PARQUET}")


def npy_head(num_rows: int, width: int, dtype: str) -> bytes:
    """Return the ``HEAD`` bytes that open a .npy file of rows of ``dtype``."""
    shape = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (num_rows, width)}
    magic = b"\x93NUMPY\x01\x00"
    room = HEAD - len(magic) - 2
    text = repr(shape).encode()
    return magic + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"


def write_parquet(raw: Path, width: int, dtype: str, output: Path) -> None:
    """Write rows, as bytes behind a head of ``HEAD`` bytes, as a column of lists of one length."""
    import pyarrow
    from pyarrow import parquet

    num_rows = (raw.stat().st_size - HEAD) // (width * np.dtype(dtype).itemsize)
    kind = pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(dtype)), width)
    schema = pyarrow.schema([(COLUMN, kind)])
    with parquet.ParquetWriter(output, schema) as writer:
        for start in range(0, num_rows, _ROWS):
            count = min(_ROWS, num_rows - start) * width
            offset = HEAD + start * width * np.dtype(dtype).itemsize
            values = np.fromfile(raw, dtype=dtype, count=count, offset=offset)
            column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values), width)
            writer.write_table(pyarrow.table({COLUMN: column.cast(kind)}))


def read_vectors(path: str | Path) -> NDArray[Any]:
    """Return the vectors ``[N, D]`` of a file; those of a .npy file are mapped, not read.

    Raises DataError for a file that is missing or holds no rows of one width.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist: expected vectors, as xlm embed writes them")
    try:
        found = _parquet(path) if path.suffix == PARQUET else open_memmap(path, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} holds no vectors ({one_line(error, 200)}): expected .npy or Parquet, as xlm "
            "embed writes them"
        ) from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        shape = f"{getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')}"
        raise DataError(f"{path} holds {shape}: expected floating-point vectors [lines, width]")
    return found


def _parquet(path: Path) -> NDArray[Any]:
    from pyarrow import ArrowException, parquet

    try:
        column = parquet.read_table(path, columns=[COLUMN])[COLUMN].combine_chunks()
    except ArrowException as error:
        raise ValueError(one_line(error)) from None
    values = column.flatten().to_numpy(zero_copy_only=False)
    return cast(NDArray[Any], values.reshape(len(column), -1))


def description_of(path: str | Path) -> Path:
    """Return the file that says how vectors were made."""
    return Path(f"{path}.json")


def write_description(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write the settings that made the vectors at ``path``."""
    write_json(description_of(path), content)


def read_description(path: str | Path) -> dict[str, Any]:
    """Return the settings that made the vectors at ``path``; {} if they were not recorded.

    Raises DataError for a setting that is of another type than ``xlm embed`` writes.
    """
    file = description_of(path)
    found = read_json(file, error=DataError) if file.is_file() else {}
    for name, kind in _TYPES.items():
        value = found.get(name)
        if value is not None and type(value) is not kind:
            raise DataError(
                f"{file}: {name} is {value!r}, expected {kind.__name__}: write it anew with xlm "
                "embed"
            )
    return found
