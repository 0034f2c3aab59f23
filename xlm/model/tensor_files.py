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


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Name the first tensor that holds a value that is not finite; "" if none does.

    Waits for the device once if every tensor is finite.
    """
    floating = {name: own.detach() for name, own in tensors.items() if own.is_floating_point()}
    if not floating or bool(torch.stack([own.isfinite().all() for own in floating.values()]).all()):
        return ""
    name, tensor = next((n, own) for n, own in floating.items() if not own.isfinite().all())
    what = "NaN" if tensor.isnan().any() else "infinity"
    wrong = int((~tensor.isfinite()).sum())
    return f"the tensor {name} holds {what} (not finite are {wrong:,} of {tensor.numel():,} values)"


def values_not_finite(path: Path) -> str:
    """Return an addition to a message about a changed file: its first tensor that is not finite.

    Return "" if there is none, or if the file cannot be read as one of tensors.
    """
    try:
        found = not_finite(read_tensors(path)) if path.suffix == ".safetensors" else ""
    except CheckpointError:
        return ""
    return f"; {found}" if found else ""


def check_finite(where: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, naming ``where`` and the first tensor, if one is not finite."""
    if found := not_finite(tensors):
        raise CheckpointError(
            f"{where}: {found}: training diverged, or the file was damaged; take another "
            "checkpoint, or a copy"
        )


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
