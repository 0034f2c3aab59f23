"""The batches of an update that could not be made, kept so that they can be looked at."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.storage import make_folder, whole_file
from xlm.training.prefetch import Step

log = logging.getLogger("xlm")

FOLDER = "bad-updates"


def keep_batches(folder: Path, step: Step, rank: int) -> str:
    """Write this rank's micro-batches of a step below a run's folder; return the file.

    Tensors are called ``NUMBER.FIELD``, such as ``0.tokens`` (``0.source.tokens`` of the encoder's
    side); the metadata ``micro_batches`` names the objective, stream and place in the step of each.
    A disk that refuses is a warning, and "" is returned.
    """
    tensors: dict[str, Tensor] = {}
    described = []
    for number, own in enumerate(step.micro_batches):
        tensors |= _tensors(own.batch, f"{number}.")
        described.append({"objective": own.objective, "stream": own.stream_id, "index": own.index})
    path = folder / FOLDER / f"step-{step.number:08}-rank-{rank}.safetensors"
    try:
        make_folder(path.parent, error=ConfigError)
        with whole_file(path, error=ConfigError) as beside:
            save_file(tensors, beside, metadata={"micro_batches": json.dumps(described)})
    except ConfigError as refused:
        log.warning("the batches of step %d are not kept: %s", step.number, refused)
        return ""
    return str(path)


def _tensors(batch: Batch, prefix: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            found[prefix + field.name] = value.contiguous().clone()
        elif isinstance(value, Batch):
            found |= _tensors(value, f"{prefix}{field.name}.")
    return found
