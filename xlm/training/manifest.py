"""The manifest of a checkpoint: its files with their sizes and hashes, and the check against it.

    {"format_version": 1, "step": 1234, "digest": ...,
     "files": {"model.safetensors": {"size": ..., "sha256": ...}, ...}}

Format 2 has ``pieces`` too: {"model": ["model-00001-of-00002.safetensors", ...]}, the files that
hold the tensors of one name together. What is written in one piece is format 1 still.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from xlm.errors import CheckpointError, one_line

WHOLE, IN_PIECES = 1, 2
"""The format versions that are read and written."""
MANIFEST = "manifest.json"
STATE = "state.json"


class NewerFormatError(CheckpointError):
    """Written by a later version of this library: sound, but not for us."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint directory.

    Raises CheckpointError if it is missing or damaged, and NewerFormatError for a format that came
    after this version of the library.
    """
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
        for names in manifest.setdefault("pieces", {}).values():
            if missing := [name for name in names if name not in files]:
                raise ValueError(f"its files lack the piece {missing[0]}")
    except FileNotFoundError as error:
        raise CheckpointError(f"{where}: not found; expected a checkpoint directory") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{where}: cannot be read ({one_line(error)}); use another checkpoint"
        ) from error
    if digest != digest_of(manifest):
        raise CheckpointError(f"{where}: was changed after it was written; use another checkpoint")
    if version not in (WHOLE, IN_PIECES):
        raise NewerFormatError(
            f"{where}: has format version {version}, but this version of xlm reads {WHOLE} and "
            f"{IN_PIECES}; install a newer xlm"
        )
    return dict(manifest)


def manifest_of(
    step: int, files: Mapping[str, Mapping[str, Any]], pieces: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return the manifest of ``files``, sealed by its digest; of format 2 if there are pieces."""
    manifest: dict[str, Any] = {
        "format_version": IN_PIECES if pieces else WHOLE,
        "step": step,
        "files": dict(files),
        **({"pieces": dict(pieces)} if pieces else {}),
    }
    return {**manifest, "digest": digest_of(manifest)}


def entry_of(path: Path) -> dict[str, Any]:
    """Return the entry of a file in the manifest: its size and SHA-256."""
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def _check_name(where: Path, name: str) -> None:
    pure = PurePosixPath(name)
    strange = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name
    if strange or str(pure) != name:
        raise CheckpointError(
            f"{where}: names the file {name!r}, which is not a plain path below the checkpoint; "
            "do not use this checkpoint"
        )


def verify(
    path: Path, manifest: Mapping[str, Any], *, hashes: bool, share: tuple[int, int] = (0, 1)
) -> None:
    """Check every file against the manifest: a plain file inside, of its size, and of its hash.

    ``share`` (number, of how many) checks the hashes of every n-th file alone, as each of several
    processes does that together check all.
    """
    root = os.path.realpath(path)
    number, of_how_many = share
    for place, (name, entry) in enumerate(manifest["files"].items()):
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
            mine = hashes and place % of_how_many == number
            if mine and sha256_of(file) != entry["sha256"]:
                raise CheckpointError(
                    f"{file}: its content is not what was saved (its SHA-256 differs from "
                    "the manifest's); use another checkpoint"
                )
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({one_line(error)})") from error


def digest_of(manifest: Mapping[str, Any]) -> str:
    """Return SHA-256 of the manifest without its digest, so that no bit can change unseen."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    if not content.get("pieces"):
        content.pop("pieces", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
