"""Write and read the files of a model directory, whole and verified.

The files are listed in ``xlm.model.pretrained``; those of a further language in
``xlm.model.language_modules``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.digests import SUMS, check_digest, digests, read_sums, render_sums
from xlm.errors import CheckpointError, ConfigError
from xlm.languages import match_languages
from xlm.model.config import ModelConfig
from xlm.model.tensor_files import read_tensors, values_not_finite, write_tensors
from xlm.model.transformer import Transformer
from xlm.storage import make_folder, read_json, write_json, write_whole

log = logging.getLogger("xlm")

FORMAT = "xlm-pretrain model"
FORMAT_VERSION = 1
WEIGHTS, CONFIG, LANGUAGES = "model.safetensors", "config.json", "languages.json"
TOKENIZER = "tokenizer"
TABLES = "tables"
"""Folder of a model directory with a module for each further language, under its name."""
HEADS, TASKS = "heads.safetensors", "tasks.yaml"
SIGNS = "signs.safetensors"
"""Signs of a language that the model learned, which further languages are compared with."""


def model_files(folder: Path) -> list[str]:
    """Return the names of the files of a model directory that its sums are of."""
    own = (WEIGHTS, CONFIG, LANGUAGES, HEADS, TASKS, SIGNS)
    names = [name for name in own if (folder / name).is_file()]
    folders = (folder / TOKENIZER, folder / TABLES)
    inside = (path for own in folders for path in own.rglob("*") if path.is_file())
    return [*names, *(path.relative_to(folder).as_posix() for path in inside)]


def write_sums(folder: str | Path) -> None:
    """Write the SHA-256 of every file of a model directory as they are now."""
    folder = Path(folder)
    found = digests(folder, model_files(folder))
    write_whole(folder / SUMS, render_sums(found), error=CheckpointError)


def verify_model(folder: str | Path) -> bool:
    """Verify a model directory; return whether it has sums at all, and warn if it has none.

    Raises CheckpointError, which names the file, if one is missing or was changed.
    """
    folder = Path(folder)
    if not (folder / SUMS).exists():
        if (folder / CONFIG).exists():
            log.warning(
                "%s is not verified: it has no %s, since an older version wrote it",
                folder, SUMS,
            )  # fmt: skip
        return False
    sums = read_sums(folder / SUMS, CheckpointError)
    advice = "take another copy, or, if you changed it on purpose, xlm check FOLDER --accept true"
    for name, digest in sums.items():
        try:
            check_digest(folder / name, digest, CheckpointError, advice)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{values_not_finite(folder / name)}") from error
    if unlisted := sorted(set(model_files(folder)) - set(sums)):
        raise CheckpointError(f"{folder / SUMS} does not list {', '.join(unlisted)}: {advice}")
    return True


def save_model(
    model: Transformer,
    folder: str | Path,
    languages: Mapping[str, int],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the model into ``folder``, which is made if need be; each file appears whole or not.

    Tables of further languages are not written: see ``language_modules``.

    ``languages`` gives each language's id, 0 .. ``model.num_languages`` - 1, or is empty for a
    model without a language table; ``extra`` is kept in config.json for the caller. Raises
    ConfigError for a language map that does not fit the model, CheckpointError if the disk refuses.
    """
    known = sorted(languages.values()) == list(range(model.num_languages))
    if not known and (languages or model.encoder.languages is not None):
        raise ConfigError(
            f"language ids {dict(languages)} do not fit a model of {model.num_languages} "
            f"languages: expected the ids 0 to {model.num_languages - 1}, each once"
        )
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": dataclasses.asdict(model.config),
        "vocab_size": model.vocab_size,
        "num_languages": model.num_languages,
        "pad_id": model.pad_id,
        "extra": dict(extra or {}),
    }
    folder = Path(folder)
    make_folder(folder, error=CheckpointError)
    own = {n: t for n, t in model.state_dict().items() if not n.startswith("encoder.tables.")}
    write_tensors(folder / WEIGHTS, own, metadata={"format": "pt"})
    for name, content in ((LANGUAGES, languages), (CONFIG, config)):
        write_json(folder / name, content, indent=2, error=CheckpointError)


def load_model(
    folder: str | Path,
    *,
    wanted_languages: Iterable[str] = (),
    vocab_size: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Transformer, dict[str, int]]:
    """Return the model in ``folder``, in training mode and the precision it was saved in.

    With it comes the id of each of its languages. ``wanted_languages`` and ``vocab_size`` are what
    the caller will feed it. Raises CheckpointError if a file is missing or damaged, a tensor does
    not fit, or the model has another vocabulary; ConfigError if it lacks a wanted language.
    """
    folder = Path(folder)
    described = read_description(folder)
    languages = _read_languages(folder, described)
    otherwise = "leave it out, or start from a model that has it"
    match_languages(languages, wanted_languages, where=str(folder), otherwise=otherwise)
    if vocab_size is not None and vocab_size != described["vocab_size"]:
        raise CheckpointError(
            f"{folder} has a vocabulary of {described['vocab_size']} ids, but the tokenizer "
            f"in use has {vocab_size}: use the tokenizer that the model was trained with"
        )
    tensors = read_tensors(folder / WEIGHTS, device=device)
    try:
        config = ModelConfig(**described["model"])
        if config.num_layers + config.num_decoder_layers > len(tensors):
            raise ConfigError(f"{config.num_layers} layers of {len(tensors)} tensors")
        with torch.device("meta"):
            # no memory and no random numbers for values that are about to be replaced
            model = Transformer(
                config,
                vocab_size=described["vocab_size"],
                num_languages=described["num_languages"],
                pad_id=described["pad_id"],
            )
    except (TypeError, ConfigError, RuntimeError) as error:  # of torch: numbers beyond all tensors
        raise CheckpointError(
            f"{folder / CONFIG}: this version cannot build the model ({error})"
        ) from error
    _check_tensors(folder / WEIGHTS, tensors, model.state_dict())
    model.load_state_dict(tensors, assign=True)
    return model, languages


def write_heads(folder: Path, heads: Mapping[str, Tensor], tasks: str) -> None:
    """Write the heads and their tasks in place of those of a model that lay there, if any."""
    for name in (HEADS, TASKS):
        (folder / name).unlink(missing_ok=True)
    if heads:
        write_whole(folder / TASKS, tasks, error=CheckpointError)
        write_tensors(folder / HEADS, heads)


def read_heads(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of heads and the settings of their tasks; both empty without heads.

    Raises CheckpointError if the settings cannot be read.
    """
    if not (folder / HEADS).exists():
        return {}, ""
    heads = read_tensors(folder / HEADS)
    try:
        return heads, (folder / TASKS).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / TASKS}: cannot be read ({error})") from error


def read_description(folder: Path) -> dict[str, Any]:
    """Return the parsed configuration; raise CheckpointError for another format or version."""
    path = folder / CONFIG
    described = read_json(path)
    if described.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a model directory of this library (format "
            f"{described.get('format')!r}, expected {FORMAT!r})"
        )
    if described.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {described.get('format_version')}, expected "
            f"{FORMAT_VERSION}: install a version of xlm-pretrain that reads it"
        )
    kinds = {"model": dict, "vocab_size": int, "num_languages": int, "pad_id": int}
    for name, kind in kinds.items():
        if not isinstance(described.get(name), kind):
            raise CheckpointError(
                f"{path}: {name} is {described.get(name)!r}, expected {kind.__name__}"
            )
    return described


def _read_languages(folder: Path, described: Mapping[str, Any]) -> dict[str, int]:
    path = folder / LANGUAGES
    num_languages = described["num_languages"]
    languages = read_json(path)
    ids = list(languages.values())
    if not ids and not (described["model"].get("language_embeddings") and num_languages > 1):
        return {}
    if not all(type(i) is int for i in ids) or sorted(ids) != list(range(num_languages)):
        raise CheckpointError(
            f"{path}: {languages} does not fit a model of {num_languages} languages: expected "
            f"the ids 0 to {num_languages - 1}, each once"
        )
    return languages


def _check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError naming the tensors that are missing, extra, or of another shape."""
    complaints = []
    if missing := sorted(set(expected) - set(found)):
        complaints.append(f"missing {_some(missing)}")
    if extra := sorted(set(found) - set(expected)):
        complaints.append(f"not part of the model {_some(extra)}")
    misfits = [
        f"{name} {list(found[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(set(found) & set(expected))
        if found[name].shape != expected[name].shape
    ]
    if misfits:
        complaints.append(f"of another shape {_some(misfits)}")
    if complaints:
        raise CheckpointError(f"{path} does not fit {CONFIG} beside it: {'; '.join(complaints)}")


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
