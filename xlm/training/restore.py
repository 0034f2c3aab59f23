"""Weights out of checkpoints: of the same run, of another one, or for an evaluation."""

from __future__ import annotations

import logging
from pathlib import Path

from xlm.errors import CheckpointError
from xlm.model.tensor_files import check_finite
from xlm.training import checkpoint, retention
from xlm.training.distributed.sharding import Shards
from xlm.training.learner import Learner

log = logging.getLogger("xlm")

CHECKPOINTS = "checkpoints"
"""The folder of a run that holds its checkpoints."""


def load_weights(
    learner: Learner, loaded: checkpoint.Loaded, name: str, shards: Shards | None = None
) -> None:
    """Load the tensors ``name`` of a checkpoint into the learner, every one of them.

    Of a learner that is sharded this rank's rows alone are read.
    """
    if shards is None:
        tensors, own = loaded.tensors(name), learner.state_dict()
    else:
        tensors = loaded.tensors(name, wanted=lambda key, _: shards.rows_of_key(key))
        own = shards.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) + [
        key for key in sorted(set(own) & set(tensors)) if own[key].shape != tensors[key].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{loaded.path}: {len(wrong)} tensors do not fit the recipe's model, the first is "
            f"{wrong[0]}; resume with the recipe that wrote it, or give another folder"
        )
    check_finite(loaded.path, tensors)
    if shards is None:
        learner.load_state_dict(tensors)
        return
    for key, tensor in own.items():
        tensor.copy_(tensors[key])


def find_checkpoint(source: str | Path, which: str) -> checkpoint.Loaded:
    """Return the checkpoint at ``source``, or the best or the latest of a run's folder.

    If the best cannot be read, or none was marked, take the newest that can, with a warning.
    Raises CheckpointError if there is none.
    """
    path = Path(source)
    if (path / checkpoint.MANIFEST).exists():
        return checkpoint.load(path)
    folder = path / CHECKPOINTS
    if which == "best":
        try:
            best = retention.best(folder)
        except checkpoint.NewerFormatError:
            raise
        except CheckpointError as error:
            log.warning("the best checkpoint is skipped, the newest is used: %s", error)
            best = None
        if best is not None:
            return best
    found = checkpoint.latest(folder)
    if found.loaded is None:
        reason = f" ({found.skipped[0]})" if found.skipped else ""
        raise CheckpointError(
            f"{path}: no readable checkpoint{reason}; expected a run's folder or a "
            "checkpoint step-XXXXXXXX"
        )
    return found.loaded
