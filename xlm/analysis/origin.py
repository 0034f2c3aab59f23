"""The settings, models and texts behind the figures of a report, which its folder records."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xlm.analysis import figures
from xlm.analysis.sections.material import Material
from xlm.errors import ConfigError, DataError, NotInstalled
from xlm.languages import LanguagePair
from xlm.model.digest import model_digest
from xlm.storage import read_json, write_json

log = logging.getLogger("xlm")


def origin_of(settings: Mapping[str, Any], material: Material) -> dict[str, Any]:
    """Return all that the figures depend on: settings, digests of models and texts, versions."""
    models = material.models
    origin: dict[str, Any] = {
        "settings": dict(settings),
        "models": {name: model_digest(model) for name, model in models.items()},
        "tokenizers": {name: model.tokenizer.digest for name, model in models.items()},
        "texts": _text_digests(material),
        "versions": {
            "xlm": import_module("xlm").__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    if material.parent is not None:
        origin["parent"] = model_digest(material.parent)
        origin["tokenizers"]["parent"] = material.parent.tokenizer.digest
    return origin


def _text_digests(material: Material) -> dict[str, str]:
    """Return SHA-256 (hex) of the content of each input of text, by its setting."""
    given: dict[str, Any] = {
        "texts": material.texts,
        "train": material.train,
        "pairs": _named(material.pairs),
        "parallel": material.parallel,
        "dictionaries": _named(material.dictionaries),
        "similarity": _named(material.similarity),
        "alignments": _named(material.alignments),
        "wic": material.wic,
        "scws": material.scws,
        "minimal_pairs": material.minimal_pairs,
        "probes": material.labeled,
        "scores": material.scores,
        "indicators": material.indicators,
    }
    found = {name: _digest([repr(own)]) for name, own in given.items() if own}
    if material.embeddings:
        found["embeddings"] = _digest(
            part
            for name, by_language in material.embeddings.items()
            for language, vectors in by_language.items()
            for word, vector in vectors.items()
            for part in (repr((name, language, word)), vector.tobytes())
        )
    return found


def _named(by_pair: Mapping[LanguagePair, Any]) -> dict[str, Any]:
    return {str(pair): own for pair, own in by_pair.items()}


def _digest(parts: Iterable[str | bytes]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass"))
    return made.hexdigest()


PROBED = ("language probe", "probes", "WiC")
"""Analyses that scikit-learn makes."""


def versions_beside(analyses: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of threads, and the versions of Python and of the packages used.

    ``origin_of`` leaves them out, because a folder may be continued with others.
    """
    used = set()
    if analyses.keys() & set(PROBED):
        used |= {"scikit-learn", "scipy"}
    linked = analyses.get("word alignment", {}).get("figures", ())
    if any(row["measure"].startswith("match ") for row in linked):
        used.add("scipy")
    with suppress(NotInstalled):
        figures.matplotlib()
        used.add("matplotlib")
    return {
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        **{name: metadata.version(name) for name in sorted(used)},
    }


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
        differing = [
            name
            for name in {**before, **now}
            if name != "texts" and before.get(name) != now.get(name)
        ]
        for name in ("settings", "texts"):
            one, two = (_as_mapping(own.get(name)) for own in (before, now))
            differing += [key for key in {**one, **two} if one.get(key) != two.get(key)]
        raise ConfigError(
            f"{path.parent} holds an analysis with different "
            f"{', '.join(dict.fromkeys(differing))}: give another folder, or remove this one"
        )


def _as_mapping(own: Any) -> Mapping[str, Any]:
    return own if isinstance(own, dict) else {}


def finished(part: Path) -> dict[str, Any] | None:
    """Return an analysis that was finished before; None if it was not, or its file is damaged."""
    if not part.exists():
        return None
    try:
        return read_json(part, error=DataError)
    except DataError as error:
        log.warning("%s; this analysis is made again", error)
        return None
