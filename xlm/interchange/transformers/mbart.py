"""mBART (25 and 50), M2M-100 and NLLB in transformers' format, both ways.

    model.shared.weight                          <->  encoder.words.weight, of both sides
    model.SIDE.layers.0.self_attn.{q,k,v}_proj   <->  SIDE.layers.0.attention.query_key_value
    model.SIDE.embed_positions.weight[2:]        <->  SIDE.positions.weight

Liu et al. 2020; Tang et al. 2020; Fan et al. 2021; NLLB team 2022. All normalize the input of each
part of a layer. The first two rows of their tables of positions are never read. M2M-100 and NLLB
have sinusoids, sines first and cosines behind them, which become a table of learned positions here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.files import (
    CONFIG,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from xlm.interchange.transformers.many_languages_tokenizer import read_tokenizer, tokenizer_files
from xlm.model.asking import LAYOUT, layout_of
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.storage import write_whole
from xlm.text.tokenizers.published_tokens import MBART

MBART_TYPE, M2M_TYPE = "mbart", "m2m_100"
OFFSET = 2
"""Rows of a table of positions that stand before that of the first token."""
NORM_EPS = 1e-5
_LAYER = {
    "attention.query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.output": ("self_attn.out_proj",),
    "attention_norm": ("self_attn_layer_norm",),
    "cross_attention.query": ("encoder_attn.q_proj",),
    "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attention.output": ("encoder_attn.out_proj",),
    "cross_attention_norm": ("encoder_attn_layer_norm",),
    "feed_forward.expand": ("fc1",),
    "feed_forward.contract": ("fc2",),
    "feed_forward_norm": ("final_layer_norm",),
}
_WORDS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu"}
_SAME_ON_BOTH_SIDES = ("attention_heads", "ffn_dim")
SINUSOIDS = "sinusoidal positions, which are a table of learned ones now: they move in training"
_UNSUPPORTED = ("activation_dropout", "encoder_layerdrop", "decoder_layerdrop")


def read_transformers_mbart(folder: str | Path) -> PretrainedModel:
    """Return an mBART, M2M-100 or NLLB model as an encoder-decoder, with the layout of its rows.

    Raises CheckpointError for sides that differ in heads or width, for settings that have no
    counterpart, and for tensors that are missing or do not fit; DataError for the tokenizer.
    """
    folder = Path(folder)
    config, path = read_config(folder), folder / CONFIG
    kind = config["model_type"]
    found = _bare(read_weights(folder))
    words = _words(found, path)
    shape = _shape(config, words, path)
    tokenizer = read_tokenizer(folder, kind, len(words))
    if tokenizer.vocab_size != len(words):
        raise CheckpointError(
            f"{folder}: the word table has {len(words)} rows, but the tokenizer has "
            f"{tokenizer.vocab_size} ids: one of the two was replaced"
        )
    lost = [
        f"{name} {config[name]}, of training alone" for name in _UNSUPPORTED if config.get(name)
    ]
    tensors = {"encoder.words.weight": words}
    for side, num_layers in (("encoder", shape.num_layers), ("decoder", shape.num_decoder_layers)):
        tensors |= _side(found, side, num_layers, shape, kind, path)
    bias = found.pop("final_logits_bias", None)
    none = torch.zeros(len(words), dtype=words.dtype)
    tensors["encoder.output_bias"] = none
    tensors["decoder.output_bias"] = none.clone() if bias is None else bias.flatten()
    if found:
        raise CheckpointError(
            f"{folder}: the model has no place for {len(found)} tensors, such as "
            f"{min(found)}: expected those of {kind}"
        )
    if kind == M2M_TYPE:
        lost.append(SINUSOIDS)
    with torch.device("meta"):
        model = Transformer(shape, vocab_size=len(words), num_languages=1, pad_id=tokenizer.pad_id)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder}: the weights do not fit {CONFIG} ({' '.join(str(error).split())[:300]})"
        ) from None
    model.encoder.begin_id = tokenizer.begin_id
    old = kind == MBART_TYPE and len(tokenizer.language_tokens) <= len(MBART)
    extra: dict[str, Any] = {
        "format": f"transformers {kind}",
        "model_type": kind,
        LAYOUT: "mbart" if old else "source-first",
        "lost": lost,
    }
    return PretrainedModel(model.eval(), tokenizer, {}, extra)


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    # sinusoids that older versions stored
    return {n: t for n, t in found.items() if not n.endswith("embed_positions.weights")}


def _words(found: dict[str, Tensor], path: Path) -> Tensor:
    copies = {name: found.pop(name) for name in (*_WORDS, "lm_head.weight") if name in found}
    if not copies:
        raise CheckpointError(f"{path.parent}: the word table ({_WORDS[0]}) is missing")
    (first, words), *others = copies.items()
    for name, other in others:
        if not torch.equal(words, other):
            raise CheckpointError(
                f"{path.parent}: {name} differs from {first}: expected one word table for "
                "both sides and the output, as in mBART and M2M-100"
            )
    return words


def _shape(config: Mapping[str, Any], words: Tensor, path: Path) -> ModelConfig:
    for name in _SAME_ON_BOTH_SIDES:
        one, other = (config.get(f"{side}_{name}") for side in ("encoder", "decoder"))
        if one != other or not isinstance(one, int):
            raise CheckpointError(
                f"{path}: encoder_{name} is {one} but decoder_{name} is {other}: our models "
                "have the same on both sides"
            )
    activation = config.get("activation_function", "gelu")
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{path}: activation_function is {activation!r}, expected one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    if config.get("tie_word_embeddings", True) is False:
        raise CheckpointError(
            f"{path}: tie_word_embeddings is false: expected the word table as output matrix"
        )
    if config.get("d_model") not in (None, words.shape[1]):
        raise CheckpointError(
            f"{path}: d_model is {config['d_model']}, but the word table is {words.shape[1]} wide"
        )
    try:
        return ModelConfig(
            dim=words.shape[1],
            num_layers=config["encoder_layers"],
            num_decoder_layers=config["decoder_layers"],
            num_heads=config["encoder_attention_heads"],
            feed_forward=config["encoder_ffn_dim"],
            max_positions=config.get("max_position_embeddings", 1024),
            dropout=float(config.get("dropout", 0.1)),
            attention_dropout=float(config.get("attention_dropout", 0.0)),
            activation=_ACTIVATIONS[activation],  # type: ignore[arg-type]
            embedding_norm=config["model_type"] == MBART_TYPE,
            embedding_scale=bool(config.get("scale_embedding", False)),
            shared_words=True,
            language_embeddings=False,
            norm="pre",
            layer_norm_eps=NORM_EPS,
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: the model cannot be built ({error})") from None


def _side(
    found: dict[str, Tensor], side: str, num_layers: int, shape: ModelConfig, kind: str, path: Path
) -> dict[str, Tensor]:
    def take(name: str) -> Tensor:
        if f"{side}.{name}" not in found:
            raise CheckpointError(f"{path.parent}: {side}.{name} is missing from the weights")
        return found.pop(f"{side}.{name}")

    tensors: dict[str, Tensor] = {}
    for ours, theirs in _names(side, num_layers, kind).items():
        tensors[f"{side}.{ours}"] = torch.cat([take(name) for name in theirs])
    if kind == MBART_TYPE:
        tensors[f"{side}.positions.weight"] = take("embed_positions.weight")[OFFSET:].clone()
    else:
        dtype = tensors[f"{side}.final_norm.weight"].dtype
        tensors[f"{side}.positions.weight"] = sinusoids(shape).to(dtype)
    return tensors


def _names(side: str, num_layers: int, kind: str) -> dict[str, tuple[str, ...]]:
    """Return the format's names of a side for each of ours, both without the side's name."""
    names: dict[str, tuple[str, ...]] = {"final_norm": ("layer_norm",)}
    if kind == MBART_TYPE:
        names["embedding_norm"] = ("layernorm_embedding",)
    for layer in range(num_layers):
        for ours, theirs in _LAYER.items():
            if side == "decoder" or not ours.startswith("cross"):
                names[f"layers.{layer}.{ours}"] = tuple(f"layers.{layer}.{own}" for own in theirs)
    return {
        f"{ours}.{part}": tuple(f"{own}.{part}" for own in theirs)
        for ours, theirs in names.items()
        for part in ("weight", "bias")
    }


def sinusoids(shape: ModelConfig) -> Tensor:
    """Return the rows of M2M-100's table that tokens read, float32 ``[max_positions, D]``.

    Sines in the first half, cosines in the second (tensor2tensor), computed as transformers does.
    """
    half = shape.dim // 2
    rates = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    turns = torch.arange(shape.max_positions + OFFSET).float()[:, None] * rates[None]
    return torch.cat([turns.sin(), turns.cos()], dim=1)[OFFSET:]


def write_transformers_mbart(model: PretrainedModel, folder: Path, kind: str) -> list[str]:
    """Write a folder for ``AutoModelForSeq2SeqLM``; return a line for each thing that is lost.

    ``kind`` is mbart or m2m_100. Raises ConfigError for a shape, a layout or a tokenizer that the
    format has no place for.
    """
    _refuse(model, kind)
    transformer, tokenizer = model.transformer, model.tokenizer
    shape = transformer.config
    state = transformer.state_dict()
    tensors = {"model.shared.weight": state["encoder.words.weight"]}
    for side, num_layers in (("encoder", shape.num_layers), ("decoder", shape.num_decoder_layers)):
        for ours, theirs in _names(side, num_layers, kind).items():
            parts = state[f"{side}.{ours}"].chunk(len(theirs))
            tensors |= {
                f"model.{side}.{name}": part.clone()
                for name, part in zip(theirs, parts, strict=True)
            }
        if kind == MBART_TYPE:
            own = state[f"{side}.positions.weight"]
            empty = own.new_zeros(OFFSET, shape.dim)
            tensors[f"model.{side}.embed_positions.weight"] = torch.cat([empty, own])
    if kind == MBART_TYPE:
        tensors["final_logits_bias"] = state["decoder.output_bias"][None].clone()
    lost = ["the output bias of the encoder, which a translator does not use"]
    if model.heads:
        lost.append(f"the heads of tasks ({', '.join(sorted(model.heads)[:4])})")
    write_weights(folder, tensors)
    name = _tokenizer_class(model, kind)
    for file, content in tokenizer_files(tokenizer, name, shape.max_positions).items():
        write_whole(folder / file, content, error=CheckpointError)
    write_config(folder, _config(model, kind))
    return lost


def _refuse(model: PretrainedModel, kind: str) -> None:
    shape = model.transformer.config
    wanted = {
        "shared_words": True, "norm": "pre", "first_norm": True, "norm_kind": "layer",
        "biases": True, "tied_output": True, "positions": "learned", "qk_norm": False,
        "window": None, "num_segments": 0, "output_transform": False, "plain_first": False,
        "embedding_norm": kind == MBART_TYPE, "layer_norm_eps": NORM_EPS,
    }  # fmt: skip
    problems = [
        f"{name} {getattr(shape, name)} (give {value})"
        for name, value in wanted.items()
        if getattr(shape, name) != value
    ]
    if not shape.num_decoder_layers:
        problems.append("an encoder alone (give num_decoder_layers)")
    if shape.activation not in _ACTIVATIONS:
        problems.append(f"activation {shape.activation} (give gelu)")
    if model.transformer.encoder.languages is not None:
        problems.append("a table of languages (give language_embeddings false)")
    layouts = ("mbart", "source-first") if kind == MBART_TYPE else ("source-first",)
    if (layout := layout_of(model).name) not in layouts:
        problems.append(f"layout {layout} (give {' or '.join(layouts)})")
    if not problems and kind == M2M_TYPE:
        problems = _not_of_m2m(model.transformer)
    if problems:
        raise ConfigError(
            f"the model cannot become a model of type {kind}, which does not support "
            f"{'; '.join(problems)}: keep it in this library's own format"
        )


def _not_of_m2m(model: Transformer) -> list[str]:
    state, rows = model.state_dict(), sinusoids(model.config)
    problems = []
    for side in ("encoder", "decoder"):
        own = state[f"{side}.positions.weight"]
        if not torch.equal(own.cpu(), rows.to(own.dtype)):
            problems.append(f"positions of the {side} that were trained (it has sinusoids)")
    if state["decoder.output_bias"].any():
        problems.append("an output bias")
    return problems


def _tokenizer_class(model: PretrainedModel, kind: str) -> str:
    if kind == MBART_TYPE:
        return "MBartTokenizer" if layout_of(model).name == "mbart" else "MBart50Tokenizer"
    tokens = model.tokenizer.language_tokens
    is_nllb = any("_" in name for name in tokens)
    return "NllbTokenizer" if is_nllb else "M2M100Tokenizer"


def _config(model: PretrainedModel, kind: str) -> dict[str, Any]:
    shape, tokenizer = model.transformer.config, model.tokenizer
    sides = {
        f"{side}_{name}": value
        for side, layers in (("encoder", shape.num_layers), ("decoder", shape.num_decoder_layers))
        for name, value in (
            ("layers", layers), ("attention_heads", shape.num_heads), ("ffn_dim", shape.inner_dim),
            ("layerdrop", 0.0),
        )
    }  # fmt: skip
    name = "MBart" if kind == MBART_TYPE else "M2M100"
    return {
        **sides,
        "architectures": [f"{name}ForConditionalGeneration"],
        "activation_dropout": 0.0,
        "activation_function": shape.activation,
        "attention_dropout": shape.attention_dropout,
        "bos_token_id": tokenizer.begin_id,
        "d_model": shape.dim,
        "decoder_start_token_id": tokenizer.end_id,
        "dropout": shape.dropout,
        "dtype": str(model.transformer.encoder.words.weight.dtype).removeprefix("torch."),
        "eos_token_id": tokenizer.end_id,
        "is_encoder_decoder": True,
        "max_position_embeddings": shape.max_positions,
        "model_type": kind,
        "pad_token_id": tokenizer.pad_id,
        "scale_embedding": shape.embedding_scale,
        "tie_word_embeddings": True,
        "vocab_size": model.transformer.vocab_size,
    }
