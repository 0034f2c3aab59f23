"""The files of a transformers model directory, read and written without that package.

    config.json
    model.safetensors, or model.safetensors.index.json and its shards, or pytorch_model.bin

What stands in them is the business of the module of each architecture.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlm.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"
MAX_JSON = 1 << 28
"""Bytes; the largest vocabulary in JSON is a tenth of it."""


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object; CheckpointError where the file is missing, too large or no object."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_JSON:
            raise CheckpointError(f"{path}: {size:,} bytes, expected a JSON file of a model")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: is no JSON ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write JSON as transformers does, keys in order; the file appears whole or not.

    Raises CheckpointError where the disk refuses.
    """
    text = json.dumps(dict(content), indent=2, sort_keys=True, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, which appears whole or not, and its folder if need be."""
    path = Path(path)
    beside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def read_config(folder: str | Path) -> dict[str, Any]:
    """config.json, with its ``model_type``; CheckpointError where there is none."""
    path = Path(folder) / CONFIG
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"{path}: model_type is {config.get('model_type')!r}, expected the name of a "
            f"transformers architecture, as save_pretrained writes it"
        )
    return config


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Every tensor by its name, on the CPU, in the precision it was saved in.

    Safetensors where there are any, else ``pytorch_model.bin`` through the one reader of foreign
    torch files, which runs no code. Raises CheckpointError where files are missing or damaged, or
    an index names a file outside the folder.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists():
        return _read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _read_shards(folder)
    if (folder / TORCH_WEIGHTS).exists():
        return _read_torch(folder / TORCH_WEIGHTS)
    raise CheckpointError(f"{folder}: has no {WEIGHTS}, {INDEX} or {TORCH_WEIGHTS}: expected one")


def write_weights(folder: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write model.safetensors, which appears whole or not; CheckpointError where it cannot."""
    path = Path(folder) / WEIGHTS
    beside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, beside, metadata={"format": "pt"})
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        mapped = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    # copied: a tensor that stays mapped crashes the process when its file is cut short
    return {name: tensor.clone() for name, tensor in mapped.items()}


def _read_shards(folder: Path) -> dict[str, Tensor]:
    path = folder / INDEX
    where = read_json(path).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise CheckpointError(f"{path}: has no weight_map: expected tensor names and their files")
    for name, file in where.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]*", file):
            raise CheckpointError(
                f"{path}: {name} is said to be in {file!r}: expected the name of a file beside it"
            )
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(where.values())):
        shard = _read_safetensors(folder / file)
        if twice := sorted(set(shard) & set(tensors)):
            raise CheckpointError(f"{folder / file}: holds {twice[0]}, as another shard does")
        tensors |= shard
    if missing := sorted(set(where) - set(tensors)):
        raise CheckpointError(
            f"{path}: {missing[0]} is not in {where[missing[0]]} ({len(missing)} such tensors)"
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
