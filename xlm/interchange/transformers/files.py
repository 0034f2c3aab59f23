"""Read and write the files of a transformers model directory without that package.

    config.json
    model.safetensors or pytorch_model.bin, or either in several files with its .index.json

The module of each architecture interprets their content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xlm.errors import CheckpointError, clipped
from xlm.model.tensor_files import read_tensors, write_tensors
from xlm.storage import make_folder, read_json, write_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
MOST_LISTED = 8


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return config.json, which has a ``model_type``; CheckpointError if the file is missing."""
    path = Path(folder) / CONFIG
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"{path}: model_type is {config.get('model_type')!r}, expected the name of a "
            f"transformers architecture, as save_pretrained writes it"
        )
    return config


def write_config(folder: str | Path, config: Mapping[str, Any], name: str = CONFIG) -> None:
    """Write JSON as transformers does, keys in order; the file appears whole or not at all."""
    path = Path(folder) / name
    write_json(path, config, indent=2, sort_keys=True, error=CheckpointError)


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Return every tensor by its name, on the CPU, in the precision it was saved in.

    Reads safetensors if there are any, otherwise ``pytorch_model.bin`` (in one file or several)
    through ``read_torch_file``, which runs no code. Raises CheckpointError if files are missing or
    damaged, or if an index names a file outside the folder.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists():
        return read_tensors(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _read_shards(folder / INDEX, read_tensors)
    if (folder / TORCH_WEIGHTS).exists():
        return _read_torch(folder / TORCH_WEIGHTS)
    if (folder / TORCH_INDEX).exists():
        return _read_shards(folder / TORCH_INDEX, _read_torch)
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    raise CheckpointError(
        f"{folder}: expected weights in {WEIGHTS}, {INDEX}, {TORCH_WEIGHTS} or {TORCH_INDEX}, "
        f"found {', '.join(names[:MOST_LISTED])}{more}"
    )


def write_weights(folder: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write model.safetensors into ``folder``, creating the folder if necessary.

    The file appears whole or not at all. Raises CheckpointError if it cannot be written.
    """
    make_folder(folder, error=CheckpointError)
    on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    write_tensors(Path(folder) / WEIGHTS, on_cpu, metadata={"format": "pt"})


def _read_shards(path: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return every tensor of the files that the index at ``path`` names."""
    where = read_json(path).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise CheckpointError(f"{path}: has no weight_map: expected tensor names and their files")
    for name, file in where.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]*", file):
            raise CheckpointError(
                f"{path}: {clipped(name)} should be in {clipped(repr(file))}: expected the "
                "name of a file beside it"
            )
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(where.values())):
        shard = read(path.with_name(file))
        if twice := sorted(set(shard) & set(tensors)):
            raise CheckpointError(
                f"{path.with_name(file)}: holds {clipped(twice[0])}, which another file holds too"
            )
        tensors |= shard
    if missing := sorted(set(where) - set(tensors)):
        raise CheckpointError(
            f"{path}: {clipped(missing[0])} is not in {where[missing[0]]} ({len(missing)} "
            "such tensors)"
        )
    return tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    from xlm.interchange.safe_torch.files import read_torch_file

    content = read_torch_file(path)
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise CheckpointError(f"{path}: expected tensors by name, as transformers writes them")
    return dict(content)
