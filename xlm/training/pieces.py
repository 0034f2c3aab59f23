"""Tensors in several files, each with some of their rows, as the ranks of a sharded run write them.

    model-00001-of-00002.safetensors    rows 0 to 49 of a table of 100, and everything of no rows
    model-00002-of-00002.safetensors    rows 50 to 99

The header of each file says which rows it has, {NAME: [first, total]} under ``rows``, so that any
number of files is read by any number of processes. A row that is in no file, or in two, is an
error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xlm.errors import CheckpointError, one_line

ROWS = "rows"
"""The key of a file's metadata that says which rows it has."""


@dataclass(frozen=True)
class Rows:
    """``num`` rows of a tensor from ``first`` on, of ``total``."""

    first: int
    num: int
    total: int


Wanted = Callable[[str, Sequence[int]], Rows | None]
"""Which rows of a tensor (its name and whole shape) are wanted; None: all."""


@dataclass(frozen=True)
class _Part:
    """A tensor of one file: all of it, or the rows from ``first`` on."""

    path: Path
    file: Any
    first: int
    shape: tuple[int, ...]
    total: int | None
    """Rows of the whole tensor; None if the file has all of it."""


def piece_name(name: str, number: int, of_how_many: int) -> str:
    """Return the name of the file of piece ``number``, from 0, of the tensors ``name``."""
    return f"{name}-{number + 1:05d}-of-{of_how_many:05d}.safetensors"


def pieces_of(name: str, of_how_many: int) -> list[str]:
    """Return the names of all the files of the tensors ``name``."""
    return [piece_name(name, number, of_how_many) for number in range(of_how_many)]


def metadata_of(rows: Mapping[str, Rows]) -> dict[str, str]:
    """Return the metadata of a file that holds ``rows`` of the tensors of these names."""
    return {ROWS: json.dumps({name: [own.first, own.total] for name, own in rows.items()})}


def read_pieces(
    paths: Iterable[Path], wanted: Wanted | None = None, device: str = "cpu"
) -> dict[str, Tensor]:
    """Return the tensors that the files hold together, or the ``wanted`` rows of them.

    Raises CheckpointError, which names the file and the tensor, if a file cannot be read, or if
    rows are missing or doubled.
    """
    with ExitStack() as stack:
        parts: dict[str, list[_Part]] = {}
        for path in paths:
            for name, part in _open(path, stack, device):
                parts.setdefault(name, []).append(part)
        return {name: _joined(name, own, wanted) for name, own in parts.items()}


def _open(path: Path, stack: ExitStack, device: str) -> list[tuple[str, _Part]]:
    try:
        file = stack.enter_context(safe_open(path, framework="pt", device=device))
        rows = json.loads((file.metadata() or {}).get(ROWS, "{}"))
        found = []
        for name in file.keys():  # noqa: SIM118  # a file of safetensors is no mapping
            shape = tuple(file.get_slice(name).get_shape())
            first, total = rows.get(name, [0, None])
            if total is not None and not (shape and 0 <= first <= first + shape[0] <= total):
                raise ValueError(f"{name}: rows {first} and on of {total}, of shape {list(shape)}")
            found.append((name, _Part(path, file, first, shape, total)))
        return found
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error


def _joined(name: str, parts: list[_Part], wanted: Wanted | None) -> Tensor:
    parts.sort(key=lambda part: part.first)
    whole = _checked(name, parts)
    asked = wanted(name, whole) if wanted is not None else None
    if asked is not None and (not whole or asked.total != whole[0]):
        asked = None  # the caller sees by the shape that it does not fit
    first, end = (0, None) if asked is None else (asked.first, asked.first + asked.num)
    found = [_slice(name, part, first, end) for part in parts]
    filled = [own for own in found if not own.ndim or len(own)] or found[:1]
    # copied: a tensor that stays mapped crashes the process when its file is cut short
    return filled[0].clone() if len(filled) == 1 else torch.cat(filled)


def _checked(name: str, parts: list[_Part]) -> tuple[int, ...]:
    """Return the shape of the whole tensor; raise CheckpointError if the parts are not it."""
    one = parts[0]
    if one.total is None:
        if len(parts) > 1:
            raise CheckpointError(
                f"{parts[1].path}: has the tensor {name}, all of which is in {one.path.name} too; "
                "use another checkpoint"
            )
        return one.shape
    at = 0
    for part in parts:
        if part.total != one.total or part.shape[1:] != one.shape[1:]:
            raise CheckpointError(
                f"{part.path}: has {list(part.shape)} of a tensor {name} of {part.total} rows, "
                f"{one.path.name} has {list(one.shape)} of {one.total}: they are pieces of two "
                "checkpoints; use another one"
            )
        if part.first != at:
            what = "are missing" if part.first > at else "are there twice"
            raise CheckpointError(
                f"{part.path}: begins at row {part.first} of {name}, expected {at}: rows {what}; "
                "use another checkpoint"
            )
        at += part.shape[0]
    if at != one.total:
        raise CheckpointError(
            f"{parts[-1].path}: ends at row {at} of {name}, which has {one.total}: a piece is "
            "missing; use another checkpoint"
        )
    return (one.total, *one.shape[1:])


def _slice(name: str, part: _Part, first: int, end: int | None) -> Tensor:
    """Return those of the rows from ``first`` to ``end`` that a file has; no end: all it has."""
    if end is None:
        tensor: Tensor = part.file.get_tensor(name)
        return tensor
    here, until = max(first - part.first, 0), min(end - part.first, part.shape[0])
    rows = part.file.get_slice(name)
    found: Tensor = rows[here:until] if here < until else rows[:1][:0]
    return found
