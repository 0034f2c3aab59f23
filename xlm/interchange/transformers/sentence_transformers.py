"""Folders of sentence-transformers: a transformers model, and the pooling of its states.

config.json, weights, tokenizer       as transformers has them
modules.json                          Transformer, Pooling, perhaps Normalize
1_Pooling/config.json                 which states are pooled, and how
sentence_bert_config.json             the largest number of tokens read from a text
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xlm.errors import CheckpointError, ConfigError
from xlm.model.asking import kind_of
from xlm.model.embed import Embedding
from xlm.model.pretrained import PretrainedModel
from xlm.storage import make_folder, read_file, read_json, write_json, write_whole
from xlm.strict_json import dumps, parse

MODULES, LENGTH = "modules.json", "sentence_bert_config.json"
_POOLING, _TOKENIZER = "1_Pooling/config.json", "tokenizer_config.json"
_PREFIX = "sentence_transformers.models."
_MODES = {
    # ours: the setting of the pooling's config
    "first": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
}
FORMATS = ("xlm-roberta", "bert", "roformer", "modernbert", "xlm")
"""Architectures to write a model as, in order; the first that holds its shape is used."""
CAUSAL_FORMATS = ("xlm",)
"""Those whose config says that a model is read from left to right."""

Writer = Callable[[PretrainedModel, Path], list[str]]


def read_embedding(folder: Path) -> dict[str, Any]:
    """Return the embedding settings of a sentence-transformers folder; {} for any other folder.

    The keys are those of ``Embedding``. Raises CheckpointError for modules or a pooling that have
    no counterpart here.
    """
    if not (folder / MODULES).is_file():
        return {}
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in _modules(folder)]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(
            f"{folder / MODULES}: found the modules {', '.join(kinds) or 'none'}, expected "
            "Transformer, Pooling and optionally Normalize"
        )
    config = read_json(folder / _pooling_file(folder))
    modes = {name for name, value in config.items() if name.startswith("pooling_mode_") and value}
    if "pooling_mode" in config:  # the newer spelling
        modes = {f"pooling_mode_{config['pooling_mode']}_tokens".replace("cls_tokens", "cls_token")}
    chosen = [own for own, name in _MODES.items() if modes == {name}]
    if not chosen:
        raise CheckpointError(
            f"{folder / _pooling_file(folder)}: found the pooling {', '.join(sorted(modes))}, "
            f"expected one of {', '.join(_MODES.values())}"
        )
    found: dict[str, Any] = {"pooling": chosen[0], "normalize": len(kinds) == 3}
    for name, key in ((LENGTH, "max_seq_length"), (_TOKENIZER, "model_max_length")):
        length = read_json(folder / name).get(key) if (folder / name).is_file() else None
        if type(length) is int and 2 < length < 1 << 20:
            return {**found, "length": length}
    return found


def _modules(folder: Path) -> list[Mapping[str, Any]]:
    found = parse(read_file(folder / MODULES, 1 << 20))
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise CheckpointError(f"{folder / MODULES}: expected a list of modules")
    return found


def _pooling_file(folder: Path) -> str:
    path = str(_modules(folder)[1].get("path", ""))
    if not path or "/" in path or path.startswith("."):
        raise CheckpointError(f"{folder / MODULES}: {path!r} is not a folder beside it")
    return f"{path}/config.json"


def write_sentence_transformers(
    model: PretrainedModel,
    folder: str | Path,
    writer_of: Callable[[str], Writer],
    settings: Embedding | None = None,
) -> list[str]:
    """Write a folder that ``SentenceTransformer(folder)`` opens.

    Returns a line for each thing that is lost. ``writer_of`` gives the writer of a format of
    ``FORMATS``. Raises ConfigError for a model with language embeddings (there is no way to name a
    language there), for one whose vectors are not made from the last layer, and for one that no
    format holds.
    """
    settings = (settings or Embedding()).settled(model)
    if model.has_languages:
        raise ConfigError(
            "the model distinguishes languages, but sentence-transformers has no way to "
            "name one: expected a model without language embeddings (language_embeddings "
            "false)"
        )
    last = model.transformer.config.num_layers
    if settings.layer != last:
        raise ConfigError(
            f"layer is {settings.layer}, but sentence-transformers pools the last layer, "
            f"{last}: leave it out"
        )
    lost, refusals = _write_model(model, Path(folder), writer_of)
    if lost is None:
        raise ConfigError(f"no transformers format can hold the model: {'; '.join(refusals)}")
    _write_modules(Path(folder), model.transformer.config.dim, settings)
    return lost


def _write_model(
    model: PretrainedModel, folder: Path, writer_of: Callable[[str], Writer]
) -> tuple[list[str] | None, list[str]]:
    """Write the first format that holds the model.

    Returns a line for each thing that is lost (None if no format holds the model), and a line for
    each format that does not.
    """
    refusals: list[str] = []
    names: tuple[str, ...] = FORMATS
    if kind_of(model) == "causal":
        names = CAUSAL_FORMATS
        refusals.append(
            "the model is causal, and all but xlm would read its lines in both directions"
        )
    for name in names:
        try:
            return writer_of(name)(model, folder), refusals
        except ConfigError as error:
            refusals.append(f"{name}: {error}")
    return None, refusals


def _write_modules(folder: Path, width: int, settings: Embedding) -> None:
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if settings.normalize:
        parts.append(("2_Normalize", "Normalize"))
        make_folder(folder / "2_Normalize", error=CheckpointError)
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": _PREFIX + kind}
        for at, (path, kind) in enumerate(parts)
    ]
    make_folder(folder / "1_Pooling", error=CheckpointError)
    pooling = {name: settings.pooling == own for own, name in _MODES.items()}
    write_json(
        folder / _POOLING, {"word_embedding_dimension": width, **pooling}, error=CheckpointError
    )
    length = {"max_seq_length": settings.length, "do_lower_case": False}
    write_json(folder / LENGTH, length, error=CheckpointError)
    write_whole(folder / MODULES, dumps(modules, indent=2) + "\n", error=CheckpointError)
