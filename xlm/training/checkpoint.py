"""Checkpoints: directories that are whole or absent, verified when read, never unpickled.

    step-00001234/          committed by one rename; before that .step-00001234.tmp-PID/
      model.safetensors     tensors, one file per name given to ``save``
      optimizer.safetensors
      state.json            everything that is not a tensor
      config.yaml           texts
      tokenizer/            directories
      manifest.json         format version, size and SHA-256 of every file; written last
    best.json               names the step that was best (see ``retention``)

No tensor format notices a flipped bit; the manifest does. The layout is final: later versions add
files, they never change existing ones.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlm.errors import CheckpointError, one_line
from xlm.storage import replace_folder, sync

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STATE = "state.json"

FINAL = re.compile(r"step-(\d{8,})")
HIDDEN = re.compile(r"\.step-(\d{8,})\.(tmp|old|trash)-\d+")


class NewerFormatError(CheckpointError):
    """Written by a later version of this library: sound, but not for us."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was verified."""

    path: Path
    step: int
    state: dict[str, Any]
    """The ``state`` that was given to ``save``."""
    files: tuple[str, ...]
    """Every file of the checkpoint, relative, with "/"."""

    def tensors(self, name: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Return the tensors saved under ``name``; raise CheckpointError if there are none."""
        path = self._file(f"{name}.safetensors")
        try:
            return load_file(path, device=str(device))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error

    def has_tensors(self, name: str) -> bool:
        """Return whether there are tensors under ``name``."""
        return f"{name}.safetensors" in self.files

    def text(self, name: str) -> str:
        """Return the text saved under ``name`` (a file name such as ``config.yaml``)."""
        return self._file(name).read_text(encoding="utf-8")

    def directory(self, name: str) -> Path:
        """Return the directory saved under ``name``; raise CheckpointError if there is none."""
        if not any(file.startswith(f"{name}/") for file in self.files):
            raise CheckpointError(f"{self.path}: has no folder {name}; it holds {self._listing()}")
        return self.path / name

    def _file(self, name: str) -> Path:
        if name not in self.files:
            raise CheckpointError(f"{self.path}: has no {name}; it holds {self._listing()}")
        return self.path / name

    def _listing(self) -> str:
        return ", ".join(self.files)


@dataclass(frozen=True)
class Latest:
    """Result of :func:`latest`."""

    loaded: Loaded | None
    """The newest checkpoint that verifies, if any does."""
    skipped: tuple[str, ...]
    """One line for each newer one that does not, with the reason."""


def step_name(step: int | None) -> str:
    """Return the name of a step's directory; for None a name that no step has."""
    return "" if step is None else f"step-{step:08d}"


def save(
    folder: Path | str,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
    directories: Mapping[str, Path | Callable[[Path], None]] | None = None,
) -> Path:
    """Write the checkpoint of ``step`` into ``folder`` and return its path.

    ``tensors``: by file name (without ending), then by tensor name. ``state``: JSON values.
    ``texts``: by file name. ``directories``: by name, a directory to copy or a function that fills
    one. In a distributed run rank 0 calls this, and the caller lets the others wait.

    An earlier checkpoint of the same step is replaced. On a full or read-only disk raises
    CheckpointError; nothing is left behind, and earlier checkpoints are as they were.
    """
    folder = Path(folder)
    final = folder / step_name(step)
    beside = folder / f".{step_name(step)}.tmp-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        _check_space(folder, tensors)
        beside.mkdir()
        _write_files(beside, tensors, state, texts or {}, directories or {})
        _write_manifest(beside, step)
        replace_folder(final, beside, final.with_name(f".{final.name}.old-{os.getpid()}"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{final}: not saved ({one_line(error)}); earlier checkpoints are intact: free "
            "some space, or choose a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # gone already if all went well
    return final


def _check_space(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    needed = sum(t.numel() * t.element_size() for each in tensors.values() for t in each.values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free")


def _write_files(
    beside: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    texts: Mapping[str, str],
    directories: Mapping[str, Path | Callable[[Path], None]],
) -> None:
    for name, source in directories.items():
        if callable(source):
            (beside / name).mkdir(parents=True)
            source(beside / name)
        else:
            shutil.copytree(source, beside / name)
    for name, named in tensors.items():
        save_file(_own_memory(named), beside / f"{name}.safetensors")
    for name, text in {**texts, STATE: json.dumps(state, indent=1)}.items():
        (beside / name).write_text(text, encoding="utf-8")


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, contiguous, in storages of their own (tied weights twice)."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        own[name] = tensor
    return own


def _write_manifest(beside: Path, step: int) -> None:
    files = {}
    for path in sorted(beside.rglob("*")):
        if path.is_file() and path != beside / MANIFEST:
            sync(path)
            name = path.relative_to(beside).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    manifest = {"format_version": FORMAT_VERSION, "step": step, "files": files}
    manifest["digest"] = _digest(manifest)
    path = beside / MANIFEST
    path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    sync(path)
    for directory in (d for d in beside.rglob("*") if d.is_dir()):
        sync(directory)
    sync(beside)


def reseal(path: Path) -> list[str]:
    """Write a checkpoint's manifest anew, of its files as they are; return those that had changed.

    Raises CheckpointError if the manifest cannot be read, or its folder not be written.
    """
    before = read_manifest(path)
    try:
        _write_manifest(path, before["step"])
    except OSError as refused:
        raise CheckpointError(f"cannot write {path / MANIFEST}: {refused.strerror}") from refused
    was, now = before["files"], read_manifest(path)["files"]
    return [name for name in {**was, **now} if was.get(name) != now.get(name)]


def load(path: Path | str) -> Loaded:
    """Verify every file of the checkpoint directory ``path`` and open it.

    Raises CheckpointError that names the file that is missing, cut, changed or outside of the
    directory, and NewerFormatError for a format that came after this version of the library.
    """
    path = Path(path)
    manifest = read_manifest(path)
    verify(path, manifest, hashes=True)
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / STATE}: cannot be read ({one_line(error)})") from error
    return Loaded(path, manifest["step"], state, tuple(manifest["files"]))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint directory; raise as :func:`load` does."""
    where = path / MANIFEST
    try:
        manifest = json.loads(where.read_bytes())
        version, digest = manifest["format_version"], manifest["digest"]
        files, step = manifest["files"], manifest["step"]
        if not isinstance(step, int) or STATE not in files:
            raise ValueError("it has no step or no state.json")
        for name, entry in files.items():
            _check_name(where, name)
            if not isinstance(entry["size"], int) or not isinstance(entry["sha256"], str):
                raise ValueError(f"{name} has no size or hash")
    except FileNotFoundError as error:
        raise CheckpointError(f"{where}: not found; expected a checkpoint directory") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{where}: cannot be read ({one_line(error)}); use another checkpoint"
        ) from error
    if digest != _digest(manifest):
        raise CheckpointError(f"{where}: was changed after it was written; use another checkpoint")
    if version != FORMAT_VERSION:
        raise NewerFormatError(
            f"{where}: has format version {version}, but this version of xlm reads "
            f"{FORMAT_VERSION}; install a newer one"
        )
    return dict(manifest)


def _check_name(where: Path, name: str) -> None:
    pure = PurePosixPath(name)
    strange = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name
    if strange or str(pure) != name:
        raise CheckpointError(
            f"{where}: names the file {name!r}, which is not a plain path below the checkpoint; "
            "do not use this checkpoint"
        )


def verify(path: Path, manifest: Mapping[str, Any], *, hashes: bool) -> None:
    """Check every file against the manifest: a plain file inside, of its size, and of its hash."""
    root = os.path.realpath(path)
    for name, entry in manifest["files"].items():
        file = path / name
        try:
            status = os.lstat(file)
            inside = os.path.realpath(file) == os.path.join(root, *PurePosixPath(name).parts)
            if not stat.S_ISREG(status.st_mode) or not inside:
                raise CheckpointError(
                    f"{file}: is a link or not a regular file; use another checkpoint"
                )
            if status.st_size != entry["size"]:
                raise CheckpointError(
                    f"{file}: has {status.st_size} bytes, but its manifest says "
                    f"{entry['size']}; use another checkpoint"
                )
            if hashes and _sha256(file) != entry["sha256"]:
                raise CheckpointError(
                    f"{file}: its content is not what was saved (its SHA-256 differs from "
                    "the manifest's); use another checkpoint"
                )
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({one_line(error)})") from error


def latest(folder: Path | str) -> Latest:
    """Return the newest checkpoint below ``folder`` that verifies, and those passed over before it.

    Raises NewerFormatError rather than go back behind a checkpoint of a later version.
    """
    skipped: list[str] = []
    for _, _, path in sorted(candidates(Path(folder)), reverse=True):
        try:
            return Latest(load(path), tuple(skipped))
        except NewerFormatError:
            raise
        except CheckpointError as error:
            skipped.append(str(error))
    return Latest(None, tuple(skipped))


def candidates(folder: Path) -> Iterable[tuple[int, bool, Path]]:
    """Step, whether it has its final name, path. One that stepped aside counts until it is gone."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if match := FINAL.fullmatch(path.name):
            yield int(match[1]), True, path
        elif (match := HIDDEN.fullmatch(path.name)) and match[2] == "old":
            yield int(match[1]), False, path


def _digest(manifest: Mapping[str, Any]) -> str:
    """Return SHA-256 of the manifest without its digest, so that no bit can change unseen."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
