"""Which checkpoints of a run stay: the last ones, and the best."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from xlm.errors import CheckpointError, one_line
from xlm.storage import write_whole
from xlm.training.checkpoint import (
    HIDDEN,
    Loaded,
    candidates,
    load,
    read_manifest,
    step_name,
    verify,
)

BEST = "best.json"


def mark_best(folder: Path | str, step: int, score: float) -> None:
    """Let ``best.json`` name the checkpoint of ``step``, which :func:`prune` then keeps."""
    content = json.dumps({"step": step, "score": score}) + "\n"
    write_whole(Path(folder) / BEST, content, error=CheckpointError)


def best_step(folder: Path | str) -> int | None:
    """The step that ``best.json`` names; None if there is no such file.

    Raises CheckpointError if the file is damaged.
    """
    path = Path(folder) / BEST
    try:
        return int(json.loads(path.read_bytes())["step"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({one_line(error)}); remove it, or write the step into it"
        ) from error


def best(folder: Path | str) -> Loaded | None:
    """The best checkpoint, verified; None if none was marked."""
    step = best_step(folder)
    return None if step is None else load(Path(folder) / step_name(step))


def prune(folder: Path | str, keep_last: int, *, trusted: Path | None = None) -> list[Path]:
    """Remove all but the newest ``keep_last`` checkpoints and the best; return what was removed.

    Nothing is removed unless one of those that stay verifies; ``trusted`` (the one just saved) need
    not be read again. Checkpoints whose manifest or sizes are wrong are neither counted nor
    removed. Leftovers of crashed saves go. A deletion that fails is left for the next time.
    """
    folder = Path(folder)
    _remove_leftovers(folder)
    sound = []
    for _, _, path in sorted(candidates(folder), reverse=True):
        try:
            verify(path, read_manifest(path), hashes=False)
            sound.append(path)
        except CheckpointError:
            continue
    try:
        best_one = best_step(folder)
    except CheckpointError:
        return []  # which one is the best is not known: keep all
    kept = [
        path
        for place, path in enumerate(sound)
        if place < max(keep_last, 1) or path.name == step_name(best_one)
    ]
    if trusted not in kept and not any(_verifies(path) for path in kept):
        return []
    removed = [path for path in sound if path not in kept]
    return [path for path in removed if _discard(path)]


def _verifies(path: Path) -> bool:
    try:
        load(path)
    except CheckpointError:
        return False
    return True


def _discard(path: Path) -> bool:
    """Take the name away first, so that a crash leaves no half checkpoint under it."""
    name = path.name.lstrip(".").split(".")[0]
    trash = path.with_name(f".{name}.trash-{os.getpid()}")
    shutil.rmtree(trash, ignore_errors=True)
    try:
        os.rename(path, trash)
    except OSError:
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _remove_leftovers(folder: Path) -> None:
    (folder / f".{BEST}.writing").unlink(missing_ok=True)
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        match = HIDDEN.fullmatch(path.name)
        if match is None:
            continue
        final = folder / f"step-{match[1]}"
        if match[2] == "old" and not final.exists():
            os.rename(path, final)  # a crash between the two renames of a commit
        elif match[2] != "old" or _verifies(final):
            shutil.rmtree(path, ignore_errors=True)
