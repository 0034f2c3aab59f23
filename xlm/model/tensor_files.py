"""Named tensors in safetensors files, which hold no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlm.errors import CheckpointError, one_line
from xlm.storage import whole_file


def read_tensors(path: str | Path, *, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return every tensor of a file by its name, in the precision that it was saved in.

    Raises CheckpointError if the file is missing or damaged.
    """
    try:
        mapped = load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error
    # copied: a tensor that stays mapped crashes the process when its file is cut short
    return {name: tensor.clone() for name, tensor in mapped.items()}


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a file that appears whole or not at all; raise CheckpointError if it cannot."""
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        with whole_file(path, error=CheckpointError) as beside:
            save_file(plain, beside, metadata=None if metadata is None else dict(metadata))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {one_line(error)}") from error
