"""Tensor names of BERT, RoBERTa and XLM-R in every file format, mapped to ours.

    foreign tensors --Names--> ours      ours --Names--> foreign tensors

An architecture's module gives the names of its tensors and interprets its configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.turns import as_halves, as_neighbors
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer

_PARTS = ("weight", "bias")
_LEGACY = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
"""Endings of names in files converted from TensorFlow."""
_BUFFERS = (".position_ids", ".token_type_ids", ".version", "._float_tensor")
"""Endings of the names of buffers in files; none of these tensors is learned."""
STAND_IN = (
    "no output onto the vocabulary was in the file: the word embeddings with a bias of 0 stand in "
    "for it, and predict nothing before they are trained"
)
_TRANSFORM = {"dense": "output_transform.dense", "norm": "output_transform.norm"}


@dataclass(frozen=True, kw_only=True)
class Names:
    """Tensor names of a format, without the prefix of its encoder."""

    words: str = "embeddings.word_embeddings.weight"
    positions: str | None = "embeddings.position_embeddings.weight"
    """Name of the table of positions; None: rotary positions, in pairs of neighboring features."""
    sinusoids: str | None = None
    """Name of the table of sines and cosines in files of a rotary format; it is not learned."""
    segments: str | None = "embeddings.token_type_embeddings.weight"
    embedding_norm: str = "embeddings.LayerNorm"
    layer: str = "encoder.layer.{}."
    query_key_value: tuple[str, str, str] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )
    fused: str | None = None
    """Name of the one tensor that holds query, key and value in some old files."""
    parts: Mapping[str, str] = field(
        default_factory=lambda: {
            "attention.output.dense": "attention.output",
            "attention.output.LayerNorm": "attention_norm",
            "intermediate.dense": "feed_forward.expand",
            "output.dense": "feed_forward.contract",
            "output.LayerNorm": "feed_forward_norm",
        }
    )
    """Linear layers and normalizations of a layer: the format's name -> ours."""


@dataclass(frozen=True, kw_only=True)
class HeadNames:
    """Full names of the output onto the vocabulary."""

    dense: str
    norm: str
    bias: str
    output: str
    """Name of the output matrix if it is not the word embeddings."""
    output_bias: str | None = None
    """A second name under which the file also holds the bias."""


class UnreadTensors:
    """Tensors of a file that are taken one by one, so that the rest can be accounted for."""

    def __init__(self, path: str | Path, tensors: Mapping[str, Tensor]):
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            for old, new in _LEGACY.items():
                name = name.removesuffix(old) + new if name.endswith(old) else name
            self.tensors[name] = tensor

    def prefix(self, name: str) -> str:
        """Return the part before ``name`` of the only tensor name that ends with it."""
        found = [known.removesuffix(name) for known in self.tensors if known.endswith(name)]
        if len(found) != 1 or (found[0] and not found[0].endswith(".")):
            names = ", ".join(found) or "none"
            raise CheckpointError(
                f"{self.path}: {len(found)} tensors end with {name} ({names}): expected one"
            )
        return found[0]

    def take(self, name: str) -> Tensor:
        """Return the tensor and count it as read; CheckpointError if it is missing."""
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.path}: the tensor {name} is missing: expected all of the encoder"
            )
        return self.tensors.pop(name)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors


def take_encoder(
    source: UnreadTensors, names: Names, prefix: str, num_layers: int, num_heads: int
) -> dict[str, Tensor]:
    """Return every tensor of the encoder, by our names; CheckpointError names a missing one.

    ``num_heads`` is the model's number of heads, for a format that rotates queries and keys in
    other pairs.
    """
    found = {
        "words.weight": source.take(prefix + names.words),
    }
    if names.positions is not None:
        found["positions.weight"] = source.take(prefix + names.positions)
    if names.segments is not None:
        found["segments.weight"] = source.take(prefix + names.segments)
    for part in _PARTS:
        found[f"embedding_norm.{part}"] = source.take(f"{prefix}{names.embedding_norm}.{part}")
    for at in range(num_layers):
        theirs, ours = prefix + names.layer.format(at), f"layers.{at}."
        for part in _PARTS:
            # the name is self_attn.in_proj_weight, not in_proj.weight
            fused = f"{theirs}{names.fused}_{part}"
            if names.fused is not None and fused in source:
                together = source.take(fused)
            else:
                parts = [source.take(f"{theirs}{name}.{part}") for name in names.query_key_value]
                if names.positions is None:
                    if len(parts[0]) % (2 * num_heads):
                        raise CheckpointError(
                            f"{source.path}: rotary positions rotate pairs of features, but "
                            f"queries have {len(parts[0])} features in {num_heads} heads: "
                            "expected heads of an even width"
                        )
                    parts[:2] = [as_halves(tensor, num_heads) for tensor in parts[:2]]
                together = torch.cat(parts)
            found[f"{ours}attention.query_key_value.{part}"] = together
            for old, new in names.parts.items():
                found[f"{ours}{new}.{part}"] = source.take(f"{theirs}{old}.{part}")
    return {f"encoder.{name}": tensor for name, tensor in found.items()}


def give_encoder(transformer: Transformer, names: Names, prefix: str) -> dict[str, Tensor]:
    """Return the encoder's layers and normalization by the format's names, without the tables."""
    ours = {name: t.detach() for name, t in transformer.encoder.state_dict().items()}
    given = {}
    for part in _PARTS:
        given[f"{prefix}{names.embedding_norm}.{part}"] = ours[f"embedding_norm.{part}"]
        for at in range(transformer.config.num_layers):
            theirs, own = prefix + names.layer.format(at), f"layers.{at}."
            together = list(ours[f"{own}attention.query_key_value.{part}"].chunk(3))
            if names.positions is None:
                num_heads = transformer.config.num_heads
                together[:2] = [as_neighbors(tensor, num_heads) for tensor in together[:2]]
            for name, tensor in zip(names.query_key_value, together, strict=True):
                given[f"{theirs}{name}.{part}"] = tensor.clone()
            for old, new in names.parts.items():
                given[f"{theirs}{old}.{part}"] = ours[f"{own}{new}.{part}"]
    return given


def take_head(
    source: UnreadTensors, names: HeadNames, words: Tensor, tied: bool
) -> dict[str, Tensor]:
    """Return the output onto the vocabulary by our names; nothing if the file has no head at all.

    ``tied`` is True if the file's configuration says that the output matrix is the word embeddings.
    Raises CheckpointError for an incomplete head, and for tied weights that are both in the file
    and differ.
    """
    if f"{names.dense}.weight" not in source:
        return {}
    found = {}
    for theirs, ours in ((names.dense, _TRANSFORM["dense"]), (names.norm, _TRANSFORM["norm"])):
        for part in _PARTS:
            found[f"encoder.{ours}.{part}"] = source.take(f"{theirs}.{part}")
    output = source.take(names.output) if names.output in source or not tied else words
    if tied and not torch.equal(output, words):
        raise CheckpointError(
            f"{source.path}: {names.output} differs from the word embeddings, but the "
            "configuration says they are tied: set tie_word_embeddings to false if they are "
            "meant to differ"
        )
    if not tied:
        found["encoder.output_weight"] = output
    bias = source.take(names.bias)
    if names.output_bias is not None and names.output_bias in source:
        second = source.take(names.output_bias)
        if tied and not torch.equal(bias, second):
            raise CheckpointError(
                f"{source.path}: {names.bias} and {names.output_bias} differ: expected one bias "
                f"under two names, or tie_word_embeddings false"
            )
        bias = second  # the bias that transformers adds if the two are not tied
    found["encoder.output_bias"] = bias
    return found


def give_head(
    transformer: Transformer, names: HeadNames, bias: Tensor, output: Tensor | None
) -> dict[str, Tensor]:
    """Return the output onto the vocabulary by the format's names.

    ``output`` is the output matrix, or None if it is the word embeddings.
    """
    ours = {name: t.detach() for name, t in transformer.encoder.state_dict().items()}
    given = {names.bias: bias}
    for theirs, own in ((names.dense, _TRANSFORM["dense"]), (names.norm, _TRANSFORM["norm"])):
        for part in _PARTS:
            given[f"{theirs}.{part}"] = ours[f"{own}.{part}"]
    if output is not None:
        given[names.output] = output
        if names.output_bias is not None:
            given[names.output_bias] = bias.clone()
    return given


def build(
    path: str | Path, settings: Mapping[str, Any], tensors: dict[str, Tensor], pad_id: int
) -> Transformer:
    """Return the model, in evaluation mode; CheckpointError if settings and tensors do not fit."""
    try:
        config = ModelConfig(**settings)
        with torch.device("meta"):
            # spend no memory and no random numbers on values that are about to be replaced
            model = Transformer(
                config,
                vocab_size=len(tensors["encoder.words.weight"]),
                num_languages=1,
                pad_id=pad_id,
            )
    except ConfigError as error:
        raise CheckpointError(f"{path}: the model cannot be built ({error})") from error
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{path}: {name} has shape {found.get(name)}, but the configuration beside "
                f"it says {expected.get(name)}"
            )
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def stand_in(words: Tensor) -> dict[str, Tensor]:
    """Return an output, by our names, for a model whose file has none (see ``STAND_IN``)."""
    return {"encoder.output_bias": words.new_zeros(len(words))}


def account(source: UnreadTensors, *inner: str, lost: list[str], most: int = 4) -> None:
    """Account for every tensor that was not taken: a buffer, a head's, or an error.

    Tensors of heads become one line of ``lost``. Raises CheckpointError for a tensor whose name
    starts with one of ``inner``: it would take part in the encoder's computation.
    """
    rest = sorted(name for name in source.tensors if not name.endswith(_BUFFERS))
    if unknown := [name for name in rest if name.startswith(inner)]:
        raise CheckpointError(
            f"{source.path}: our model has no place for {len(unknown)} tensors of the "
            f"encoder ({', '.join(unknown[:most])}): expected the plain architecture, and as "
            "many layers as its configuration says"
        )
    if rest:
        more = f" and {len(rest) - most} more" if len(rest) > most else ""
        lost.append(f"heads that this model does not have: {', '.join(rest[:most])}{more}")
