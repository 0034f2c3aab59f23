"""Directories of transformers' BERT family: the part that BERT, RoBERTa, CamemBERT and XLM-R share.

    config.json, weights, tokenizer files <--Family--> PretrainedModel

A family's module defines its own part: names, positions, the head, its tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.shape import settings_without_place
from xlm.interchange.transformers.encoder_names import (
    STAND_IN,
    HeadNames,
    Names,
    UnreadTensors,
    account,
    build,
    give_encoder,
    give_head,
    stand_in,
    take_encoder,
    take_head,
)
from xlm.interchange.transformers.files import (
    CONFIG,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from xlm.interchange.transformers.next_sentence import (
    CLASS,
    TASKS,
    give_next_sentence,
    take_next_sentence,
)
from xlm.interchange.transformers.turns import check_sinusoids, sinusoids
from xlm.model.asking import NO_HEAD
from xlm.model.pretrained import PretrainedModel
from xlm.storage import write_whole
from xlm.text.tokenizers import hugging_face, xlm_roberta

Kind = hugging_face.HuggingFaceTokenizer | xlm_roberta.XlmRobertaTokenizer

_DEFAULTS: dict[str, Any] = {
    # transformers' defaults for settings that config.json lacks
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "tie_word_embeddings": True,
    "max_position_embeddings": 1536,  # RoFormer's; the others have a table
}
_REFUSED = {
    # setting: the values that match this library's architecture
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "hidden_act": (None, "gelu", "relu"),
    "rotary_value": (None, False),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Properties of one architecture."""

    name: str
    model_types: tuple[str, ...]
    prefix: str
    """Prefix of the encoder's tensors if the model has a head."""
    masked: Mapping[str, str]
    """Class with a head of each model_type."""
    bare: Mapping[str, str]
    """Class without a head of each model_type."""
    names: Names = field(default_factory=Names)
    """Names of the encoder's tensors; a format without positions is rotary."""
    head: HeadNames
    positions_after_padding: bool
    """True if the first token's position is row pad + 1 of the table."""
    head_activation: str | None
    """Activation inside the head; None: the one that ``hidden_act`` names."""
    pad_id: int
    """Padding id if config.json does not give one."""
    read_tokenizer: Callable[[Path, int], Kind]
    next_sentence: bool = False
    """True if the family was pretrained with next-sentence prediction, whose head is kept."""

    @property
    def is_rotary(self) -> bool:
        """True if queries and keys are rotated, so that the model has no table of positions."""
        return self.names.positions is None


def read_model(folder: str | Path, family: Family) -> PretrainedModel:
    """Return a model of the family and its tokenizer, in evaluation mode and the saved precision.

    Raises CheckpointError for an architecture outside the family, for settings that have no
    counterpart in this library, and for tensors that are missing or do not fit; DataError for the
    tokenizer.
    """
    folder = Path(folder)
    path = folder / CONFIG
    config = read_config(folder)
    _check(config, family, path)
    source = UnreadTensors(folder, read_weights(folder))
    names = family.names
    prefix = source.prefix(names.words)
    num_layers = _number(config, "num_hidden_layers", path)
    num_heads = _number(config, "num_attention_heads", path)
    lost: list[str] = []
    tensors = take_encoder(source, names, prefix, num_layers, num_heads)
    if names.sinusoids is not None and prefix + names.sinusoids in source:
        check_sinusoids(folder, names.sinusoids, source.take(prefix + names.sinusoids))
    words = tensors["encoder.words.weight"]
    tokenizer = family.read_tokenizer(folder, len(words))
    _cut_positions(tensors, config, family, path, lost)
    _cut_segments(tensors, tokenizer, lost)
    tied = config.get("tie_word_embeddings", True) is not False
    head = take_head(source, family.head, words, tied)
    extra: dict[str, Any] = {"format": f"transformers {config['model_type']}"}
    extra["model_type"] = config["model_type"]
    if not head:
        tied, extra[NO_HEAD] = True, True
        head = stand_in(words)
        lost.append(STAND_IN)
    elif family.head_activation not in (None, _value(config, "hidden_act")):
        raise CheckpointError(
            f"{path}: hidden_act is {config.get('hidden_act')!r}, but the head of "
            f"{family.name} always has {family.head_activation}: our models have one"
        )
    heads = take_next_sentence(source, prefix) if family.next_sentence else {}
    account(source, prefix + "embeddings.", prefix + "encoder.", lost=lost)
    settings = _settings(config, tensors, path)
    settings |= {"tied_output": tied, "output_transform": len(head) > 1}
    model = build(folder, settings, {**tensors, **head}, tokenizer.pad_id)
    tasks = TASKS if heads else ""
    return PretrainedModel(model, tokenizer, {}, {**extra, "lost": lost}, heads, tasks)


def write_model(
    model: PretrainedModel,
    folder: str | Path,
    family: Family,
    model_type: str,
    num_segments: int,
) -> list[str]:
    """Write a transformers directory of the family; return a line per thing lost or changed.

    ``num_segments`` is the number of token types of the architecture. Raises ConfigError for a
    shape that the family cannot hold.
    """
    check_shape(model, family, num_segments)
    transformer, tokenizer = model.transformer, model.tokenizer
    assert isinstance(tokenizer, Kind), "the family's module sees to that"
    bare = not transformer.config.output_transform
    lost = []
    prefix = "" if bare else family.prefix
    tensors = give_encoder(transformer, family.names, prefix)
    tables, table_lines = _tables(model, family, num_segments)
    tensors |= {prefix + name: tensor for name, tensor in tables.items()}
    lost += table_lines
    side = transformer.encoder
    if bare:
        lost.append("the output bias: the model came without an output and leaves without one")
    else:
        output = None if side.output_weight is None else side.output_weight.detach()
        tensors |= give_head(transformer, family.head, side.output_bias.detach(), output)
    following = give_next_sentence(model.heads, prefix) if family.next_sentence else {}
    tensors |= following
    if model.heads and not following:
        lost.append(f"the heads of tasks ({', '.join(sorted(model.heads)[:4])})")
    if transformer.config.embedding_noise:
        lost.append(f"embedding_noise {transformer.config.embedding_noise}, of training alone")
    config = _config(model, family, model_type, tables)
    if prefix and following:
        config["architectures"] = [CLASS]
    files, tokenizer_lines = tokenizer_files(tokenizer, transformer.config.max_positions)
    lost += tokenizer_lines
    write_weights(folder, tensors)
    for name, content in files.items():
        write_whole(Path(folder) / name, content, error=CheckpointError)
    write_config(folder, config)
    return lost


def check_shape(model: PretrainedModel, family: Family, num_segments: int) -> None:
    """Raise ConfigError naming settings that the family cannot hold, and values to train with."""
    config, name = model.transformer.config, family.name
    if family.is_rotary:
        problems = settings_without_place(config, "positions")
        if config.positions != "rotary":
            problems.append(f"positions {config.positions} (give rotary)")
        if config.rotary_base != 10_000.0:
            problems.append(f"rotary_base {config.rotary_base} (give 10000)")
    else:
        problems = settings_without_place(config)
    if config.num_decoder_layers:
        problems.append(f"a decoder (num_decoder_layers {config.num_decoder_layers}: give 0)")
    if model.transformer.encoder.languages is not None:
        problems.append("a table of languages (language_embeddings true: give false)")
    if config.num_segments > num_segments:
        problems.append(f"num_segments {config.num_segments} (give {num_segments})")
    if not config.output_transform and not model.extra.get(NO_HEAD):
        problems.append("an output without a transform (output_transform false: give true)")
    if config.activation == "relu" and family.head_activation not in (None, "relu"):
        problems.append(f"activation {config.activation} (give {family.head_activation})")
    if problems:
        article = "an" if name[0] in "AEIOX" else "a"  # an XLM-R model
        raise ConfigError(
            f"the model cannot become {article} {name} model, which does not support "
            f"{'; '.join(problems)}: train with these settings of model, or export to XLM's "
            "own format"
        )


def _check(config: Mapping[str, Any], family: Family, path: Path) -> None:
    kind = config["model_type"]
    if kind not in family.model_types:
        raise CheckpointError(
            f"{path}: model_type is {kind!r}, expected {' or '.join(family.model_types)}"
        )
    if config.get("embedding_size") not in (None, config.get("hidden_size")):
        raise CheckpointError(
            f"{path}: embedding_size is {config['embedding_size']}, but hidden_size is "
            f"{config.get('hidden_size')}: expected embeddings as wide as the layers"
        )
    for name, allowed in _REFUSED.items():
        if config.get(name) not in allowed:
            expected = " or ".join(str(value) for value in allowed if value is not None)
            raise CheckpointError(f"{path}: {name} is {config[name]!r}, expected {expected}")


def _value(config: Mapping[str, Any], name: str) -> Any:
    value = config.get(name)
    return _DEFAULTS[name] if value is None else value


def _number(config: Mapping[str, Any], name: str, path: Path) -> Any:
    value = _value(config, name)
    kinds = (int,) if name.startswith(("num_", "max_")) else (int, float)
    least = 1 if name.startswith(("num_", "max_")) else 0
    if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
        raise CheckpointError(f"{path}: {name} is {value!r}, expected a number of at least {least}")
    return value


def _settings(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Any]:
    """Return ModelConfig's fields: sizes from the tensors, all others from the configuration."""
    words = tensors["encoder.words.weight"]
    segments = tensors.get("encoder.segments.weight")
    table = tensors.get("encoder.positions.weight")
    inner = tensors["encoder.layers.0.feed_forward.expand.weight"]
    sizes = {"hidden_size": words.shape[1], "intermediate_size": inner.shape[0]}
    for name, found in sizes.items():
        if config.get(name) not in (None, found):
            raise CheckpointError(
                f"{path}: {name} is {config[name]!r}, but the tensors in the same folder "
                f"have {found}"
            )
    return {
        "dim": words.shape[1],
        "num_layers": _number(config, "num_hidden_layers", path),
        "num_heads": _number(config, "num_attention_heads", path),
        "num_decoder_layers": 0,
        "language_embeddings": False,
        "num_segments": 0 if segments is None else len(segments),
        "feed_forward": inner.shape[0],
        "max_positions": _number(config, "max_position_embeddings", path)
        if table is None
        else len(table),
        "positions": "rotary" if table is None else "learned",
        "dropout": float(_number(config, "hidden_dropout_prob", path)),
        "attention_dropout": float(_number(config, "attention_probs_dropout_prob", path)),
        "activation": _value(config, "hidden_act"),
        "layer_norm_eps": float(_number(config, "layer_norm_eps", path)),
    }


def _cut_positions(
    tensors: dict[str, Tensor],
    config: Mapping[str, Any],
    family: Family,
    path: Path,
    lost: list[str],
) -> None:
    if not family.positions_after_padding:
        return
    pad_id = config.get("pad_token_id", family.pad_id)
    table = tensors["encoder.positions.weight"]
    if type(pad_id) is not int or not 0 <= pad_id < len(table) - 1:
        raise CheckpointError(
            f"{path}: pad_token_id is {pad_id!r}, expected a number from 0 to below the "
            f"{len(table)} rows of positions, which start after it"
        )
    tensors["encoder.positions.weight"] = table[pad_id + 1 :].clone()
    lost.append(
        f"rows 0 to {pad_id} of the positions, which no token has (the first token's is "
        f"{pad_id + 1} there and 0 here)"
    )


def _cut_segments(
    tensors: dict[str, Tensor],
    tokenizer: Kind,
    lost: list[str],
) -> None:
    table = tensors["encoder.segments.weight"]
    if len(table) > tokenizer.num_segments:
        kept = tokenizer.num_segments
        tensors["encoder.segments.weight"] = table[:kept].clone()
        rows = f"row {kept}" if len(table) == kept + 1 else f"rows {kept} to {len(table) - 1}"
        lost.append(f"{rows} of the token types, which its tokenizer never gives")


def _tables(
    model: PretrainedModel, family: Family, num_segments: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the embedding tables by the family's names, and a line for each change in them."""
    lines: list[str] = []
    side = model.transformer.encoder
    names, words = family.names, side.words.weight.detach()
    tables = {names.words: words}
    if side.positions is not None and names.positions is not None:
        tables[names.positions] = _position_rows(model, family, lines)
    elif names.sinusoids is not None:
        tables[names.sinusoids] = sinusoids(model.transformer.config)
    if side.segments is None:
        segments = words.new_zeros(num_segments, words.shape[1])
        lines.append(f"token types: {num_segments} rows of zeros, since the model has none")
    else:
        segments = side.segments.weight.detach()
        if len(segments) < num_segments:  # our single row applies to every token
            segments = segments[:1].repeat(num_segments, 1)
            lines.append(f"token types: the one row of the model, {num_segments} times")
    tables[str(names.segments)] = segments
    return tables, lines


def _position_rows(model: PretrainedModel, family: Family, lines: list[str]) -> Tensor:
    """Return the table of learned positions in the family's layout."""
    table = model.transformer.encoder.positions
    assert table is not None, "check_shape sees to that"
    rows = table.weight.detach()
    if not family.positions_after_padding:
        return rows
    offset = model.tokenizer.pad_id + 1
    lines.append(f"rows 0 to {offset - 1} of the positions, which no token has, are zeros")
    return torch.cat([rows.new_zeros(offset, rows.shape[1]), rows])


def _config(
    model: PretrainedModel, family: Family, model_type: str, tables: Mapping[str, Tensor]
) -> dict[str, Any]:
    shape, tokenizer = model.transformer.config, model.tokenizer
    classes = family.masked if shape.output_transform else family.bare
    begin = {"bos_token_id": tokenizer.begin_id, "eos_token_id": tokenizer.end_id}
    return {
        "architectures": [classes[model_type]],
        "model_type": model_type,
        "dtype": str(model.transformer.encoder.words.weight.dtype).removeprefix("torch."),
        "vocab_size": model.transformer.vocab_size,
        "hidden_size": shape.dim,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.inner_dim,
        "hidden_act": shape.activation,
        "hidden_dropout_prob": shape.dropout,
        "attention_probs_dropout_prob": shape.attention_dropout,
        "max_position_embeddings": shape.max_positions
        if family.is_rotary
        else len(tables[str(family.names.positions)]),
        "type_vocab_size": len(tables[str(family.names.segments)]),
        "layer_norm_eps": shape.layer_norm_eps,
        "pad_token_id": tokenizer.pad_id,
        "tie_word_embeddings": shape.tied_output,
        **(begin if family.positions_after_padding else {}),
        **({"embedding_size": shape.dim, "rotary_value": False} if family.is_rotary else {}),
    }


def tokenizer_files(tokenizer: Kind, num_positions: int) -> tuple[dict[str, bytes], list[str]]:
    """Return a tokenizer's files by name, and a line for each thing that is lost."""
    if isinstance(tokenizer, xlm_roberta.XlmRobertaTokenizer):
        return xlm_roberta.transformers_files(tokenizer, num_positions)
    return hugging_face.transformers_files(tokenizer, num_positions)
