"""The checkpoints of a run that stay: the last ones, and the best."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from xlm.errors import CheckpointError, one_line
from xlm.storage import read_json, write_whole
from xlm.training.checkpoint import (
    HIDDEN,
    STATE,
    Loaded,
    candidates,
    load,
    read_manifest,
    step_name,
    verify,
)

BEST = "best.json"


def mark_best(folder: Path | str, step: int, score: float) -> None:
    """Let ``best.json`` name the checkpoint of ``step``; see :func:`best_step`."""
    content = json.dumps({"step": step, "score": score}) + "\n"
    write_whole(Path(folder) / BEST, content, error=CheckpointError)


def note_best(folder: Path | str) -> int | None:
    """Let ``best.json`` name the best checkpoint by the checkpoints' own states; return its step.

    Nothing is written if it does already, or if no state says that its checkpoint was the best.
    """
    folder = Path(folder)
    step, score = _own_best(folder)
    if step is not None:
        try:
            noted = _noted(folder)
        except CheckpointError:
            noted = None
        if noted != step:
            mark_best(folder, step, score)
    return step


def best_step(folder: Path | str) -> int | None:
    """Return the step of the best checkpoint; None if none is known to be.

    It is the newest one whose own state says that it was the best when it was saved. ``best.json``
    is read only if no state says so: a run that was killed may not have written it. Raises
    CheckpointError if that file is then damaged.
    """
    step, _ = _own_best(Path(folder))
    return _noted(Path(folder)) if step is None else step


def _own_best(folder: Path) -> tuple[int | None, float]:
    """Return the step and score of the newest checkpoint that calls itself the best."""
    for step, _, path in sorted(candidates(folder), reverse=True):
        try:
            verify(path, read_manifest(path), hashes=False)
            own = read_json(path / STATE).get("train_state")
        except CheckpointError:
            continue
        if isinstance(own, dict) and own.get("best_step") == step and own.get("best") is not None:
            return step, float(own["best"])
    return None, math.nan


def _noted(folder: Path) -> int | None:
    """Return the step that ``best.json`` names; None if there is no such file."""
    path = folder / BEST
    if not path.exists():
        return None
    try:
        return int(read_json(path)["step"])
    except (CheckpointError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({one_line(error)}); remove it, or write the step into it"
        ) from error


def best(folder: Path | str) -> Loaded | None:
    """Return the best checkpoint, verified; None if none is known to be the best."""
    step = best_step(folder)
    return None if step is None else load(Path(folder) / step_name(step))


def prune(
    folder: Path | str,
    keep_last: int,
    *,
    keep_every: int = 0,
    trusted: Path | None = None,
    best: int | None = None,
    also: Collection[int] = (),
) -> list[Path]:
    """Remove all but the newest ``keep_last`` checkpoints and the best; return those removed.

    Those of the steps ``also`` stay too, and of steps that ``keep_every`` divides (0: none does).
    The best are :func:`best_step` and the step ``best`` if it is given, the best of the run that
    is pruned. Nothing is removed unless one of those that stay verifies; ``trusted`` (the one just
    saved) need not be read again, and newer ones than it are left alone: the run passed over them.
    Checkpoints whose manifest or sizes are wrong are neither counted nor removed. Leftovers of
    crashed saves go. A deletion that fails is left for the next time.
    """
    folder = Path(folder)
    _remove_leftovers(folder)
    sound = []
    steps = {}
    newest = int(trusted.name.removeprefix("step-")) if trusted is not None else math.inf
    for step, _, path in sorted(candidates(folder), reverse=True):
        if step > newest:
            continue
        try:
            verify(path, read_manifest(path), hashes=False)
            sound.append(path)
            steps[path] = step
        except CheckpointError:
            continue
    try:
        best_ones = {step_name(best_step(folder)), step_name(best)}
    except CheckpointError:
        return []  # which one is the best is not known: keep all
    kept = [
        path
        for place, path in enumerate(sound)
        if place < max(keep_last, 1)
        or path.name in best_ones
        or steps[path] in also
        or (keep_every and steps[path] % keep_every == 0)
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
