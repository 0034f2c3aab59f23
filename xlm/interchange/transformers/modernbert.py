"""ModernBERT and mmBERT in transformers' format, both ways (Warner et al. 2024).

    config.json, weights, tokenizer.json  <-->  PretrainedModel

Its arithmetic is ours with norm pre, gated layers, no biases and local layers: tensors are renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.encoder import Kind, tokenizer_files
from xlm.interchange.transformers.encoder_names import STAND_IN, build, stand_in
from xlm.interchange.transformers.files import (
    CONFIG,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from xlm.interchange.transformers.sentencepiece_json import sentencepiece_json
from xlm.model.asking import NO_HEAD
from xlm.model.pretrained import PretrainedModel
from xlm.storage import write_whole
from xlm.text.tokenizers.hugging_face import from_json, read_hugging_face
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

MODEL_TYPE = "modernbert"
MASKED, BARE = "ModernBertForMaskedLM", "ModernBertModel"
_PREFIX = "model."
"""Prefix of the encoder's tensors in a model with a head."""
_WITH_OUTPUT = ("head.", "decoder.")
"""Prefixes of the names of an output onto the vocabulary, and of some names of classifiers."""
_NAMES = {
    "model.embeddings.tok_embeddings.weight": "words.weight",
    "model.embeddings.norm.weight": "embedding_norm.weight",
    "model.final_norm.weight": "final_norm.weight",
    "head.dense.weight": "output_transform.dense.weight",
    "head.norm.weight": "output_transform.norm.weight",
    "decoder.bias": "output_bias",
    "decoder.weight": "output_weight",
}
_LAYER_NAMES = {
    "attn_norm": "attention_norm",
    "attn.Wqkv": "attention.query_key_value",
    "attn.Wo": "attention.output",
    "mlp_norm": "feed_forward_norm",
    "mlp.Wi": "feed_forward.expand",
    "mlp.Wo": "feed_forward.contract",
}
_ONLY: dict[str, Any] = {
    "positions": "rotary",
    "norm": "pre",
    "norm_kind": "layer",
    "activation": "geglu",
    "biases": False,
    "qk_norm": False,
    "embedding_norm": True,
    "embedding_scale": False,
    "first_norm": False,
    "output_transform": True,
    "num_segments": 0,
    "num_decoder_layers": 0,
    "plain_first": False,
    "word_size": None,
}
"""Values of a shape's fields that are ModernBERT's architecture."""
_DEFAULTS: dict[str, Any] = {
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
    "max_position_embeddings": 8192,
    "local_attention": 128,
    "norm_eps": 1e-5,
    "embedding_dropout": 0.0,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
}
"""Defaults of transformers for settings that config.json lacks."""
_REFUSED: dict[str, Any] = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
}
"""Settings whose other values belong to another architecture."""


def read_transformers_modernbert(folder: str | Path) -> PretrainedModel:
    """Return a model such as ModernBERT's or mmBERT's with any head, in evaluation mode.

    Classifiers are left out, and a model without an output onto the vocabulary gets a substitute:
    ``extra["lost"]`` lists both. Raises CheckpointError for settings that have no counterpart in
    this library, and for tensors that are missing or do not fit; DataError for its tokenizer.
    """
    folder = Path(folder)
    config = read_config(folder)
    settings = _settings(config, folder / CONFIG)
    found = read_weights(folder)
    has_output = "decoder.bias" in found
    tensors: dict[str, Tensor] = {}
    others = []
    for name, tensor in found.items():
        of_output = name.startswith(_WITH_OUTPUT)
        known = name if of_output or name.startswith(_PREFIX) else _PREFIX + name
        ours = None if of_output and not has_output else _our_name(known)
        if ours is None:
            others.append(name)
        elif name != "decoder.weight" or not settings["tied_output"]:
            tensors[f"encoder.{ours}"] = tensor
    if "encoder.words.weight" not in tensors:
        raise CheckpointError(
            f"{folder}: expected a ModernBERT model, with embeddings.tok_embeddings.weight; found "
            f"{', '.join(sorted(found)[:4])}"
        )
    lost = [f"heads that this model does not have: {', '.join(sorted(others)[:4])}"]
    lost = lost if others else []
    extra: dict[str, Any] = {"format": f"transformers {MODEL_TYPE}"}
    if not has_output:
        extra[NO_HEAD] = True
        settings |= {"output_transform": False, "tied_output": True}
        tensors |= stand_in(tensors["encoder.words.weight"])
        lost.append(STAND_IN)
    tokenizer = read_hugging_face(folder, vocab_size=len(tensors["encoder.words.weight"]))
    model = build(folder, settings, tensors, tokenizer.pad_id)
    return PretrainedModel(model, tokenizer, {}, {**extra, "lost": lost})


def write_transformers_modernbert(model: PretrainedModel, folder: str | Path) -> list[str]:
    """Write a folder for ``AutoModelForMaskedLM`` and ``AutoTokenizer``.

    Returns a line for each thing that is lost. Raises ConfigError for a shape or a tokenizer that
    ModernBERT has no place for.
    """
    folder = Path(folder)
    _refuse(model)
    lost: list[str] = []
    tokenizer = model.tokenizer
    if isinstance(tokenizer, SentencePieceTokenizer):
        content, lost = sentencepiece_json(tokenizer)
        model = replace(model, tokenizer=from_json(content, {}))
    elif not isinstance(tokenizer, Kind):
        raise ConfigError(
            f"a {type(tokenizer).__name__} cannot become a ModernBERT model's tokenizer: expected "
            "SentencePiece or a tokenizer.json; keep the model in this library's own format"
        )
    assert isinstance(model.tokenizer, Kind)
    shape = model.transformer.config
    files, lines = tokenizer_files(model.tokenizer, shape.max_positions)
    if shape.dropout:
        lost.append(f"dropout {shape.dropout:g} of each part's output: there it is the embeddings'")
    if model.heads:
        lost.append(f"the heads of tasks ({', '.join(sorted(model.heads)[:4])})")
    tensors = {
        _their_name(name): tensor.detach()
        for name, tensor in model.transformer.encoder.state_dict().items()
    }
    if not shape.output_transform:
        lost.append("the output bias: the model came without an output and leaves without one")
        tensors = {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in tensors.items()
            if not name.startswith(_WITH_OUTPUT)
        }
    write_weights(folder, tensors)
    for name, written in files.items():
        write_whole(folder / name, written, error=CheckpointError)
    write_config(folder, _config(model))
    return lost + lines


def _our_name(theirs: str) -> str | None:
    """Return our name of a tensor, without its side; None for a tensor outside the model."""
    if theirs in _NAMES:
        return _NAMES[theirs]
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", theirs)
    if layer is None or layer[2] not in _LAYER_NAMES:
        return None
    return f"layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.weight"


def _their_name(ours: str) -> str:
    for theirs, own in _NAMES.items():
        if own == ours:
            return theirs
    _, layer, rest = ours.split(".", 2)
    names = {own: theirs for theirs, own in _LAYER_NAMES.items()}
    return f"model.layers.{layer}.{names[rest.removesuffix('.weight')]}.weight"


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return ModelConfig's fields; CheckpointError for settings that they cannot express."""
    for name, only in _REFUSED.items():
        if config.get(name, only) != only:
            raise CheckpointError(f"{path}: {name} is {config[name]!r}, expected {only!r}")
    value = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    num_layers, width = value["num_hidden_layers"], config.get("hidden_size", 768)
    whole = config.get("global_attn_every_n_layers", 3)
    types = config.get("layer_types")
    if types is not None:
        globals_ = [at for at, kind in enumerate(types) if kind == "full_attention"]
        whole = globals_[1] if len(globals_) > 1 else max(len(types), 2)
        expected = ["sliding_attention" if at % whole else "full_attention" for at in
                    range(num_layers)]  # fmt: skip
        if types != expected:
            raise CheckpointError(
                f"{path}: layer_types is {types}, expected global attention in every n-th "
                "layer, starting with the first"
            )
    bases = config.get("rope_parameters") or {}
    whole_base = _base(
        bases.get("full_attention"), config.get("global_rope_theta", 160_000.0), path
    )
    near_base = _base(bases.get("sliding_attention"), config.get("local_rope_theta"), path)
    local = {"window": value["local_attention"], "global_every": whole,
             "local_rotary_base": float(near_base or 10_000.0)}  # fmt: skip
    return {
        **_ONLY,
        "dim": width,
        "num_layers": num_layers,
        "num_heads": value["num_attention_heads"],
        "feed_forward": value["intermediate_size"],
        "language_embeddings": False,
        "max_positions": value["max_position_embeddings"],
        "dropout": float(value["embedding_dropout"]),
        "attention_dropout": float(value["attention_dropout"]),
        "layer_norm_eps": float(value["norm_eps"]),
        "tied_output": bool(value["tie_word_embeddings"]),
        "rotary_base": float(whole_base),
        **(local if whole > 1 else {}),
    }


def _base(parameters: Mapping[str, Any] | None, otherwise: Any, path: Path) -> Any:
    """Return the base of one kind of layers, from the new format's settings or the old one's."""
    parameters = parameters or {}
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise CheckpointError(f"{path}: rope_type is {kind!r}, expected 'default'")
    return parameters.get("rope_theta", otherwise)


def _refuse(model: PretrainedModel) -> None:
    """Raise ConfigError naming all settings that ModernBERT has no place for."""
    config = model.transformer.config
    problems = [
        f"{name} {getattr(config, name)} (give {only})"
        for name, only in _ONLY.items()
        if getattr(config, name) != only
        and not (name == "output_transform" and model.extra.get(NO_HEAD))
    ]
    if model.transformer.encoder.languages is not None:
        problems.append("a table of languages (language_embeddings true: give false)")
    if config.window is not None and config.window % 2:
        problems.append(f"window {config.window} (give an even number)")
    if problems:
        raise ConfigError(
            "the model cannot become a ModernBERT model, which does not support "
            f"{'; '.join(problems)}: train with these settings of model, or keep it in this "
            "library's own format"
        )


def _config(model: PretrainedModel) -> dict[str, Any]:
    shape, tokenizer = model.transformer.config, model.tokenizer
    local = shape.rotary_base if shape.local_rotary_base is None else shape.local_rotary_base
    return {
        **_REFUSED,
        "architectures": [MASKED if shape.output_transform else BARE],
        "model_type": MODEL_TYPE,
        "dtype": str(model.transformer.encoder.words.weight.dtype).removeprefix("torch."),
        "vocab_size": model.transformer.vocab_size,
        "hidden_size": shape.dim,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.inner_dim,
        "max_position_embeddings": shape.max_positions,
        "norm_eps": shape.layer_norm_eps,
        "embedding_dropout": shape.dropout,
        "attention_dropout": shape.attention_dropout,
        "global_attn_every_n_layers": shape.global_every,
        "local_attention": 128 if shape.window is None else shape.window,
        "global_rope_theta": shape.rotary_base,
        "local_rope_theta": local,
        "tie_word_embeddings": shape.tied_output,
        "bos_token_id": tokenizer.begin_id,
        "eos_token_id": tokenizer.end_id,
        "cls_token_id": tokenizer.begin_id,
        "sep_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.pad_id,
    }
