"""All that decides a model's answers to lines, so that a file only resumes as it was begun."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any

import torch

from xlm.model.asking import layout_of
from xlm.model.pretrained import PretrainedModel
from xlm.text.pipes import STANDARD

_NAMES = ("model", "file", "output")
"""Settings that name a path, not its content."""


def identity(config: Any, model: PretrainedModel) -> dict[str, Any]:
    """Return the settings of a verb, a dataclass, with its model by digest and its file by path."""
    settings = dataclasses.asdict(config)
    for name in _NAMES:
        settings.pop(name, None)
    device = next(model.transformer.parameters()).device
    return {
        "model": model_digest(model),
        "tokenizer": model.tokenizer.digest,
        "file": STANDARD if config.file == STANDARD else os.path.abspath(config.file),
        **settings,
        "device": device.type,
    }


def model_digest(model: PretrainedModel) -> str:
    """Return SHA-256 (hex) of a model's shape, languages, layout, weights and heads."""
    shape: list[Any] = [dataclasses.asdict(model.transformer.config), model.languages]
    if (layout := layout_of(model)).has_tokens:
        shape.append(layout.name)
    if model.tables:
        shape.append({name: own.tokenizer.digest for name, own in model.tables.items()})
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    tensors = {**model.transformer.state_dict(), **model.heads}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(values.numpy())
    return digest.hexdigest()


def made_by(model: PretrainedModel, digest: object) -> bool:
    """Return whether vectors of ``digest`` are the model's, or those of it with fewer languages.

    A language with a vocabulary of its own changes nothing in the vectors of the others.
    """
    fewer = [model.without(name) for name in model.tables]
    return any(digest == model_digest(one) for one in (model, model.without_tables(), *fewer))
