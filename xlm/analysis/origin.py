"""The settings, models and texts behind the figures of a report, which its folder records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xlm.analysis.sections.material import Material
from xlm.errors import ConfigError
from xlm.model.digest import model_digest
from xlm.storage import read_json, write_json


def origin_of(settings: Mapping[str, Any], material: Material) -> dict[str, Any]:
    """Return all that the figures depend on: settings, digests of models and texts, versions."""
    return {
        "settings": dict(settings),
        "models": {name: model_digest(model) for name, model in material.models.items()},
        "tokenizer": material.model.tokenizer.digest,
        "texts": _text_digest(material),
        "versions": {
            "xlm": import_module("xlm").__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _text_digest(material: Material) -> str:
    parts = [
        material.texts, material.parallel, {str(k): v for k, v in material.pairs.items()},
        {str(k): v for k, v in material.dictionaries.items()},
        {str(k): v for k, v in material.similarity.items()},
        {str(k): v for k, v in material.alignments.items()},
        material.wic, material.scws, material.minimal_pairs, material.labeled, material.scores,
        material.indicators, {k: sorted(v) for k, v in material.embeddings.items()},
    ]  # fmt: skip
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def claim(path: Path, origin: Mapping[str, Any]) -> None:
    """Record the settings and files that a folder's figures depend on; later, compare with them.

    Raises ConfigError if the folder was begun with other settings, models or texts; ``only`` may
    differ.
    """
    ours = json.loads(json.dumps(origin))
    if not path.exists():
        write_json(path, ours, error=ConfigError)
        return
    before, now = (
        {**own, "settings": {**own.get("settings", {}), "only": None}}
        for own in (read_json(path), ours)
    )
    if before != now:
        differing = [name for name in now if before.get(name) != now[name]]
        differing += [
            name for name, value in now["settings"].items() if before["settings"].get(name) != value
        ]
        raise ConfigError(
            f"{path.parent} holds an analysis with different {', '.join(differing)}: give "
            "another folder, or remove this one"
        )
