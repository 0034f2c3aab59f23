"""EuroBERT in transformers' format, read only (Boizard et al. 2025).

    config.json, weights, tokenizer.json  -->  PretrainedModel

Its arithmetic is ours with norm pre, norm_kind rms, swiglu, no biases and no embedding norm. If
several heads share their keys and values, every head gets a copy of them: the same numbers, and
more parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.interchange.transformers.encoder_names import (
    STAND_IN,
    UnreadTensors,
    account,
    build,
    stand_in,
)
from xlm.interchange.transformers.files import CONFIG, read_config, read_weights
from xlm.model.asking import NO_HEAD
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.hugging_face import read_hugging_face

MODEL_TYPE = "eurobert"
_WORDS = "embed_tokens.weight"
_LAYER_NAMES = {
    "self_attn.o_proj": "attention.output",
    "mlp.down_proj": "feed_forward.contract",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "feed_forward_norm",
}
_ARCHITECTURE: dict[str, Any] = {
    "positions": "rotary",
    "norm": "pre",
    "norm_kind": "rms",
    "activation": "swiglu",
    "biases": False,
    "embedding_norm": False,
    "language_embeddings": False,
    "output_transform": False,
    "dropout": 0.0,
}
_REFUSED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "is_decoder": False,
    "hidden_dropout": 0.0,
}
"""Settings whose other values belong to another architecture."""
_DEFAULTS: dict[str, Any] = {
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
}
"""Defaults of transformers for settings that config.json lacks."""


def read_transformers_eurobert(folder: str | Path) -> PretrainedModel:
    """Return a EuroBERT model with any head, in evaluation mode.

    Classifiers are left out, and a model without an output onto the vocabulary gets a substitute:
    ``extra["lost"]`` lists both. Raises CheckpointError for settings that have no counterpart in
    this library, and for tensors that are missing or do not fit; DataError for its tokenizer.
    """
    folder = Path(folder)
    config = read_config(folder)
    settings = _settings(config, folder / CONFIG)
    source = UnreadTensors(folder, read_weights(folder))
    prefix = source.prefix(_WORDS)
    lost: list[str] = []
    tensors = {"encoder.words.weight": source.take(prefix + _WORDS)}
    tensors["encoder.final_norm.weight"] = source.take(f"{prefix}norm.weight")
    for at in range(settings["num_layers"]):
        tensors |= _layer(source, f"{prefix}layers.{at}.", at, settings["num_heads"], config)
    shared = _groups(config, settings["num_heads"], folder / CONFIG)
    if shared > 1:
        lost.append(f"keys and values shared by {shared} heads: every head has a copy of its own")
    words = tensors["encoder.words.weight"]
    settings["feed_forward"] = tensors["encoder.layers.0.feed_forward.contract.weight"].shape[1]
    extra: dict[str, Any] = {"format": f"transformers {MODEL_TYPE}"}
    tensors |= stand_in(words)  # its output has no bias
    if "lm_head.weight" in source:
        output = source.take("lm_head.weight")
        if not settings["tied_output"]:
            tensors["encoder.output_weight"] = output
    elif not settings["tied_output"]:
        settings["tied_output"], extra[NO_HEAD] = True, True
        lost.append(STAND_IN)
    account(source, f"{prefix}layers.", f"{prefix}norm", lost=lost)
    tokenizer = read_hugging_face(folder, vocab_size=len(words))
    model = build(folder, settings, tensors, tokenizer.pad_id)
    return PretrainedModel(model, tokenizer, {}, {**extra, "lost": lost})


def _layer(
    source: UnreadTensors, theirs: str, at: int, num_heads: int, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the tensors of one layer by our names."""
    groups = _groups(config, num_heads, Path(source.path) / CONFIG)
    query, key, value = (source.take(f"{theirs}self_attn.{name}_proj.weight") for name in "qkv")
    key, value = (_copied(tensor, num_heads // groups, groups) for tensor in (key, value))
    gate, up = (source.take(f"{theirs}mlp.{name}_proj.weight") for name in ("gate", "up"))
    own = {
        "attention.query_key_value": torch.cat([query, key, value]),
        "feed_forward.expand": torch.cat([gate, up]),
        **{ours: source.take(f"{theirs}{name}.weight") for name, ours in _LAYER_NAMES.items()},
    }
    return {f"encoder.layers.{at}.{name}.weight": tensor for name, tensor in own.items()}


def _copied(tensor: Tensor, num_heads: int, times: int) -> Tensor:
    """Return ``[heads x width, D]`` with each head ``times`` times in a row."""
    if times == 1 or len(tensor) % num_heads:
        return tensor  # a wrong size is reported when shapes are checked
    heads = tensor.view(num_heads, -1, tensor.shape[1])
    return heads.repeat_interleave(times, dim=0).flatten(0, 1)


def _groups(config: Mapping[str, Any], num_heads: int, path: Path) -> int:
    """Return the number of heads that share their keys and values."""
    shared = config.get("num_key_value_heads") or num_heads
    if type(shared) is not int or shared < 1 or num_heads % shared:
        raise CheckpointError(
            f"{path}: num_key_value_heads is {shared!r}, expected a divisor of the {num_heads} "
            "heads"
        )
    return num_heads // shared


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return ModelConfig's fields; CheckpointError for settings that they cannot express."""
    for name, only in _REFUSED.items():
        if config.get(name, only) != only:
            raise CheckpointError(f"{path}: {name} is {config[name]!r}, expected {only!r}")
    value = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    rotary = config.get("rope_parameters") or {}
    if rotary.get("rope_type", "default") != "default":
        raise CheckpointError(f"{path}: rope_type is {rotary['rope_type']!r}, expected 'default'")
    return {
        **_ARCHITECTURE,
        "dim": config.get("hidden_size", 768),
        "num_layers": value["num_hidden_layers"],
        "num_heads": value["num_attention_heads"],
        "max_positions": value["max_position_embeddings"],
        "attention_dropout": float(value["attention_dropout"]),
        "layer_norm_eps": float(value["rms_norm_eps"]),
        "tied_output": bool(value["tie_word_embeddings"]),
        "rotary_base": float(rotary.get("rope_theta", config.get("rope_theta", 10_000.0))),
    }
