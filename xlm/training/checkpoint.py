"""Checkpoints: directories that are whole or absent, verified when read, never unpickled.

    step-00001234/          committed by one rename; before that .step-00001234.tmp-PID/
      model.safetensors     tensors, one file per name given to ``save``; of a sharded run one per
      optimizer.safetensors   name and rank, such as model-00001-of-00008.safetensors
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
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlm.errors import CheckpointError, one_line
from xlm.storage import replace_folder, sync
from xlm.training.distributed.processes import Parallel
from xlm.training.manifest import (
    MANIFEST,
    STATE,
    NewerFormatError,
    entry_of,
    manifest_of,
    read_manifest,
    verify,
)
from xlm.training.pieces import Rows, Wanted, metadata_of, piece_name, read_pieces

__all__ = [
    "MANIFEST", "STATE", "Draft", "Latest", "Loaded", "NewerFormatError", "candidates", "latest",
    "load", "read_manifest", "reseal", "save", "step_name", "verify",
]  # fmt: skip

FINAL = re.compile(r"step-(\d{8,})")
HIDDEN = re.compile(r"\.step-(\d{8,})\.(tmp|old|trash)-\d+")

Entries = dict[str, dict[str, Any]]
"""Entries of the manifest by file name."""
Source = Path | Callable[[Path], None]
"""A directory to copy, or a function that fills one."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was verified."""

    path: Path
    step: int
    state: dict[str, Any]
    """The ``state`` that was given to ``save``."""
    files: tuple[str, ...]
    """Every file of the checkpoint, relative, with "/"."""
    pieces: Mapping[str, list[str]] = field(default_factory=dict)
    """The files of the tensors of each name that were saved in several."""

    @property
    def names(self) -> list[str]:
        """The names that tensors were saved under."""
        suffix = ".safetensors"
        apart = {file for own in self.pieces.values() for file in own}
        whole = [f for f in self.files if f.endswith(suffix) and "/" not in f and f not in apart]
        return [*(file.removesuffix(suffix) for file in whole), *self.pieces]

    def tensors(
        self, name: str, device: torch.device | str = "cpu", wanted: Wanted | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors saved under ``name``; raise CheckpointError if there are none.

        ``wanted`` chooses rows of each by its name and whole shape, and nothing else is read: see
        ``pieces``. Any number of files is read by any number of processes.
        """
        if name in self.pieces:
            return read_pieces((self.path / f for f in self.pieces[name]), wanted, str(device))
        path = self._file(f"{name}.safetensors")
        if wanted is not None:
            return read_pieces([path], wanted, str(device))
        try:
            return load_file(path, device=str(device))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error

    def has_tensors(self, name: str) -> bool:
        """Return whether there are tensors under ``name``."""
        return name in self.pieces or f"{name}.safetensors" in self.files

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


class Draft:
    """A checkpoint of ``step`` that is being written; ``commit`` gives it its name.

    Each method raises CheckpointError on a full or read-only disk. Earlier checkpoints are as they
    were, and ``discard`` leaves nothing behind.
    """

    def __init__(self, folder: Path | str, step: int, writer: int | None = None) -> None:
        self.folder, self.step = Path(folder), step
        self.writer = os.getpid() if writer is None else writer
        """The process that commits it: several ranks that write one draft have it in common."""
        self.final = self.folder / step_name(step)
        self.beside = self.folder / f".{step_name(step)}.tmp-{self.writer}"

    def open(self, needed: int) -> None:
        """Make the directory beside the final one; ``needed`` bytes of tensors must have room."""
        with self._saving():
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.beside, ignore_errors=True)
            _check_space(self.folder, needed)
            self.beside.mkdir()

    def write(
        self,
        tensors: Mapping[str, Mapping[str, Tensor]],
        rows: Mapping[str, Mapping[str, Rows]] | None = None,
        piece: tuple[int, int] | None = None,
    ) -> Entries:
        """Write tensors by file name (without ending), then by tensor name; return their entries.

        ``piece`` (number, of how many) names the files of one rank of several; ``rows`` says which
        rows of a tensor this one has.
        """
        entries = {}
        with self._saving():
            for name, named in tensors.items():
                file = f"{name}.safetensors" if piece is None else piece_name(name, *piece)
                path = self.beside / file
                own = None if rows is None else metadata_of(rows.get(name, {}))
                save_file(_own_memory(named), path, metadata=own)
                sync(path)
                entries[file] = entry_of(path)
        return entries

    def commit(
        self,
        state: Mapping[str, Any],
        texts: Mapping[str, str] | None = None,
        directories: Mapping[str, Source] | None = None,
        *,
        entries: Mapping[str, Mapping[str, Any]],
        pieces: Mapping[str, list[str]] | None = None,
    ) -> Path:
        """Write everything else and the manifest, and give the checkpoint its name.

        ``entries`` are those of the tensors' files; ``pieces`` names the files of each name that
        was written by several ranks.
        """
        with self._saving():
            _write_rest(self.beside, state, texts or {}, directories or {})
            _write_manifest(self.beside, self.step, entries, pieces or {})
            replace_folder(
                self.final, self.beside, self.folder / f".{self.final.name}.old-{self.writer}"
            )
        return self.final

    def discard(self) -> None:
        """Remove what is left of the draft: nothing after ``commit``."""
        shutil.rmtree(self.beside, ignore_errors=True)

    @contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.final}: not saved ({one_line(error)}); earlier checkpoints are intact: "
                "free some space, or choose a folder that can be written"
            ) from error


def save(
    folder: Path | str,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
    directories: Mapping[str, Source] | None = None,
) -> Path:
    """Write the checkpoint of ``step`` into ``folder`` and return its path.

    ``tensors``: by file name (without ending), then by tensor name. ``state``: JSON values.
    ``texts``: by file name. ``directories``: by name, a directory to copy or a function that fills
    one. In a distributed run rank 0 calls this, and the caller lets the others wait.

    An earlier checkpoint of the same step is replaced. On a full or read-only disk raises
    CheckpointError; nothing is left behind, and earlier checkpoints are as they were.
    """
    draft = Draft(folder, step)
    try:
        draft.open(size_of(tensors))
        entries = draft.write(tensors)
        return draft.commit(state, texts, directories, entries=entries)
    finally:
        draft.discard()


def size_of(tensors: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Return the bytes of all tensors."""
    return sum(t.numel() * t.element_size() for each in tensors.values() for t in each.values())


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free")


def _write_rest(
    beside: Path,
    state: Mapping[str, Any],
    texts: Mapping[str, str],
    directories: Mapping[str, Source],
) -> None:
    for name, source in directories.items():
        if callable(source):
            (beside / name).mkdir(parents=True)
            source(beside / name)
        else:
            shutil.copytree(source, beside / name)
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


def _write_manifest(
    beside: Path,
    step: int,
    known: Mapping[str, Mapping[str, Any]],
    pieces: Mapping[str, list[str]],
) -> None:
    """Write the manifest of the files in a directory; the entries of some are ``known``."""
    files: dict[str, Mapping[str, Any]] = {}
    for path in sorted(beside.rglob("*")):
        if path.is_file() and path != beside / MANIFEST:
            name = path.relative_to(beside).as_posix()
            if name not in known:
                sync(path)
            files[name] = known.get(name) or entry_of(path)
    if missing := sorted(set(known) - set(files)):
        raise OSError(errno.ENOENT, f"{missing[0]} of another rank is not in this rank's folder")
    path = beside / MANIFEST
    path.write_text(json.dumps(manifest_of(step, files, pieces), indent=1), encoding="utf-8")
    sync(path)
    for directory in (d for d in beside.rglob("*") if d.is_dir()):
        sync(directory)
    sync(beside)


def reseal(path: Path) -> list[str]:
    """Write a checkpoint's manifest anew, of its files as they are; return those that had changed.

    Raises CheckpointError if the manifest cannot be read, its folder not be written, or a piece of
    its tensors is missing.
    """
    before = read_manifest(path)
    for name in (name for own in before["pieces"].values() for name in own):
        if not (path / name).exists():
            raise CheckpointError(f"{path / name}: is missing, and with it rows of every tensor")
    try:
        _write_manifest(path, before["step"], {}, before["pieces"])
    except OSError as refused:
        raise CheckpointError(f"cannot write {path / MANIFEST}: {refused.strerror}") from refused
    was, now = before["files"], read_manifest(path)["files"]
    return [name for name in {**was, **now} if was.get(name) != now.get(name)]


def load(path: Path | str, share: tuple[int, int] = (0, 1)) -> Loaded:
    """Verify every file of the checkpoint directory ``path`` and open it.

    ``share`` (number, of how many): one of several processes that verify the files parallel.
    Raises CheckpointError that names the file that is missing, cut, changed or outside of the
    directory, and NewerFormatError for a format that came after this version of the library.
    """
    path = Path(path)
    manifest = read_manifest(path)
    verify(path, manifest, hashes=True, share=share)
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / STATE}: cannot be read ({one_line(error)})") from error
    return Loaded(path, manifest["step"], state, tuple(manifest["files"]), manifest["pieces"])


def latest(folder: Path | str, parallel: Parallel | None = None) -> Latest:
    """Return the newest checkpoint below ``folder`` that verifies, and those passed over before it.

    With ``parallel`` its processes verify a share each, and all of them return the same.
    Raises NewerFormatError rather than go back behind a checkpoint of a later version.
    """
    parallel = parallel or Parallel(torch.device("cpu"))
    skipped: list[str] = []
    found = [str(path) for _, _, path in sorted(candidates(Path(folder)), reverse=True)]
    for path in parallel.gather(found)[0]:
        loaded, problem, is_newer = None, "", False
        try:
            loaded = load(path, (parallel.rank, parallel.world))
        except CheckpointError as error:
            problem, is_newer = str(error), isinstance(error, NewerFormatError)
        of_ranks = [one for one in parallel.gather([problem, is_newer]) if one[0]]
        if not of_ranks:
            return Latest(loaded, tuple(skipped))
        if newer := [problem for problem, is_newer in of_ranks if is_newer]:
            raise NewerFormatError(newer[0])
        skipped.append(of_ranks[0][0])
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
