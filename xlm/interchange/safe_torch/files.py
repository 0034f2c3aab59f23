"""The one reader of foreign torch files: numbers, strings, containers and tensors, never code.

    FILE.pth --zip or legacy--> its pickles --TorchMachine--> values with empty tensors
             --storages--> the tensors filled, on the CPU

Every size that a file announces is compared with the bytes that it holds before memory is
allocated. Nothing is decompressed (torch stores, it does not compress) and nothing is written.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import torch
from torch import Tensor

from xlm.errors import CheckpointError, one_line
from xlm.interchange.safe_torch.values import Storage, TorchMachine, collect_tensors

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a legacy file."""
LEGACY_VERSION = 1001
CHUNK = 1 << 24
MADE = 2
"""Bytes that may be derived per byte of the file: an array's text bytes, and then the array."""

_Load = Callable[[Storage], torch.UntypedStorage]


def read_torch_file(path: str | Path, *, without: Collection[str] = ()) -> Any:
    """Read a file that ``torch.save`` wrote, in the zip format or the one before torch 1.6.

    The result is made of None, booleans, numbers, strings, bytes, lists, tuples, sets, dictionaries
    (ordered ones as dict), tensors on the CPU (parameters as tensors without gradient), numpy
    arrays and scalars, torch's data types, ``argparse.Namespace``, and a ``Record`` (``values.py``)
    for objects of the few classes that are known by name. If the file holds a dictionary, the
    values of the keys in ``without`` are None and their tensors are not read. Raises
    CheckpointError for any other content: no code in the file runs.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder, expected a file written by torch.save")
        if path.exists() and not path.is_file():
            raise CheckpointError(
                f"{path} is not a regular file, expected one written by torch.save"
            )
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(16)
            file.seek(0)
            if start.startswith(b"PK\x03\x04"):
                return _read_zip(path, file, size, without)
            if start.startswith(b"\x80"):
                return _read_legacy(path, file, size, without)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    found = f"starts with {start!r}" if start else "is empty"
    raise CheckpointError(f"{path} {found}, expected a file that torch.save wrote")


def _read_zip(path: Path, file: BinaryIO, size: int, without: Collection[str]) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            root, entries = _check_entries(path, archive, size)
            byte_order = entries.get(f"{root}/byteorder")
            if byte_order is not None and archive.read(byte_order) != b"little":
                raise CheckpointError(f"{path}: its byte order is not little-endian: save it again")
            content = archive.read(entries[f"{root}/data.pkl"])
            machine = TorchMachine(limit=MADE * size)
            where = f"{path}: data.pkl"
            stream = io.BytesIO(content)
            value = machine.read(stream, where)
            if stream.tell() != len(content):
                raise CheckpointError(f"{where} has bytes after its end: it is not a checkpoint")

            def load(storage: Storage) -> torch.UntypedStorage:
                name = f"{root}/data/{storage.key}"
                entry = entries.get(name)
                if entry is None or entry.file_size != storage.num_bytes:
                    held = "is missing" if entry is None else f"holds {entry.file_size} bytes"
                    raise CheckpointError(
                        f"{path}: {ascii(name)} {held}, but data.pkl says "
                        f"{storage.num_bytes}: it is malicious or damaged"
                    )
                with archive.open(entry) as stored:
                    return _read_storage(path, stored, storage)  # type: ignore[arg-type]

            return _fill(value, machine, without, where, load)
    except (
        # seeking raises too, if the directory points outside the file
        zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, ValueError, OverflowError,
        OSError,
    ) as error:  # fmt: skip
        reason = one_line(error, most=120)
        raise CheckpointError(
            f"{path} is a damaged zip file ({reason}): copy or fetch it again"
        ) from None


def _check_entries(
    path: Path, archive: zipfile.ZipFile, size: int
) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """Return the folder that everything lies in, and the entries by name."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.orig_filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or not name.isprintable() or "\\" in name:
            raise CheckpointError(
                f"{path}: entry {ascii(name)} points outside of the file: it may be malicious"
            )
        is_stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if not is_stored or entry.compress_size != entry.file_size:
            raise CheckpointError(
                f"{path}: entry {name!r} is compressed ({entry.compress_size} bytes to "
                f"{entry.file_size}) or encrypted, which torch.save never does: not read"
            )
        if name in entries:
            raise CheckpointError(
                f"{path}: entry {name!r} appears twice: the file may be malicious"
            )
        entries[name] = entry
    total = sum(entry.file_size for entry in entries.values())
    if total > size:
        raise CheckpointError(
            f"{path}: its entries claim {total} bytes, but the file has {size}: it may be malicious"
        )
    roots = [name.split("/")[0] for name in entries if name.count("/") == 1]
    roots = [root for root in roots if f"{root}/data.pkl" in entries]
    if not roots:
        raise CheckpointError(
            f"{path} is a zip file without data.pkl, expected one written by torch.save"
        )
    root = roots[0]
    strays = [name for name in entries if not name.startswith(f"{root}/")]
    programs = [name for name in entries if name == f"{root}/constants.pkl" or "/code/" in name]
    if strays or programs:
        raise CheckpointError(
            f"{path} also holds {(strays + programs)[0]!r}: it is a program (TorchScript) or "
            "not a checkpoint"
        )
    return root, entries


def _read_legacy(path: Path, file: BinaryIO, size: int, without: Collection[str]) -> Any:
    """Read five pickles (magic number, version, machine, value, keys of storages), then numbers."""
    machine = TorchMachine(limit=MADE * size)
    # a mapped file returns no more bytes than it has; a buffered one would first allocate memory
    # for as many as are asked for
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if machine.read(mapped, f"{path}: its first pickle") != MAGIC:
            raise CheckpointError(f"{path} is a pickle, but not one written by torch.save")
        version = machine.read(mapped, f"{path}: its version")
        if version != LEGACY_VERSION:
            raise CheckpointError(f"{path} has legacy version {version!r}, expected 1001")
        system = machine.read(mapped, f"{path}: its description")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise CheckpointError(f"{path}: its byte order is not little-endian: save it again")
        where = f"{path}: its object"
        value = machine.read(mapped, where)
        keys = machine.read(mapped, f"{path}: its list of storages")
        places = _locate(path, mapped, size, keys, machine.storages)

    def load(storage: Storage) -> torch.UntypedStorage:
        if storage.key not in places:
            raise CheckpointError(f"{path}: storage {ascii(storage.key[:40])} is missing")
        file.seek(places[storage.key])
        return _read_storage(path, file, storage)

    return _fill(value, machine, without, where, load)


def _locate(
    path: Path, mapped: mmap.mmap, size: int, keys: Any, storages: dict[str, Storage]
) -> dict[str, int]:
    """Return the offset of each storage's numbers, which follow their number of elements."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise CheckpointError(f"{path}: its list of storages is not a list: the file is damaged")
    places: dict[str, int] = {}
    at = mapped.tell()
    for key in keys:
        if key not in storages or key in places:
            raise CheckpointError(f"{path}: storage {ascii(key[:40])} is unknown or appears twice")
        held = mapped[at : at + 8]
        storage = storages[key]
        if at + 8 + storage.num_bytes > size:
            raise CheckpointError(
                f"{path} ends after {size} bytes, inside storage {ascii(key[:40])} of "
                f"{storage.num_bytes}: it was cut off; copy or fetch it again"
            )
        if int.from_bytes(held, "little", signed=True) != storage.num:
            raise CheckpointError(
                f"{path}: storage {ascii(key[:40])} does not hold the {storage.num} elements "
                "it should: the file is damaged"
            )
        places[key] = at + 8
        at += 8 + storage.num_bytes
    if at != size:
        raise CheckpointError(f"{path} has {size - at} bytes after its end: it is damaged")
    return places


def _read_storage(path: Path, stream: BinaryIO, storage: Storage) -> torch.UntypedStorage:
    numbers = torch.empty(storage.num_bytes, dtype=torch.uint8)
    room = memoryview(numbers.numpy())  # type: ignore[arg-type]
    at = 0
    while at < len(room):
        chunk = stream.read(min(CHUNK, len(room) - at))
        if not chunk:
            raise CheckpointError(f"{path} was cut off while it was read: fetch it again")
        room[at : at + len(chunk)] = chunk
        at += len(chunk)
    stream.read(1)  # at its end a zip entry compares its checksum
    return numbers.untyped_storage()


def _fill(
    value: Any, machine: TorchMachine, without: Collection[str], where: str, load: _Load
) -> Any:
    """Fill every tensor of ``value`` with its numbers, reading each storage once."""
    if isinstance(value, dict):
        value.update({key: None for key in without if key in value})
    loaded: dict[str, torch.UntypedStorage] = {}
    for tensor in collect_tensors(value, where):
        storage, offset, size, stride = machine.views[id(tensor)][1]
        if storage.key not in loaded:
            loaded[storage.key] = load(storage)
        _show(tensor, loaded[storage.key], offset, size, stride, where)
    return value


def _show(
    tensor: Tensor,
    storage: torch.UntypedStorage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    where: str,
) -> None:
    try:
        tensor.set_(storage, offset, size, stride)
    except RuntimeError:
        raise CheckpointError(
            f"{where} holds a tensor of {list(size)}, which torch rejects"
        ) from None
