"""Tensors of transformers' XLM by our names and back.

    embeddings.weight                <->  encoder.words.weight
    attentions.0.{q,k,v}_lin.weight  <->  encoder.layers.0.attention.query_key_value.weight

They have the prefix ``transformer.`` if the model has a head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.interchange.transformers.files import CONFIG
from xlm.model.transformer import Transformer

_NAMES = {
    "encoder.words.weight": "embeddings.weight",
    "encoder.positions.weight": "position_embeddings.weight",
    "encoder.languages.weight": "lang_embeddings.weight",
    "encoder.embedding_norm": "layer_norm_emb",
    "encoder.output_bias": "pred_layer.proj.bias",
    "encoder.output_weight": "pred_layer.proj.weight",
}
_LAYER_NAMES = {
    "attention.query_key_value": tuple(f"attentions.{{}}.{part}_lin" for part in "qkv"),
    "attention.output": ("attentions.{}.out_lin",),
    "attention_norm": ("layer_norm1.{}",),
    "feed_forward.expand": ("ffns.{}.lin1",),
    "feed_forward.contract": ("ffns.{}.lin2",),
    "feed_forward_norm": ("layer_norm2.{}",),
}
_PREFIX = "transformer."
_TASK_HEAD = re.compile(r"(sequence_summary|qa_outputs|classifier|logits_proj)\.")
_FOREIGN = {
    # beginning of a name: the part it belongs to
    "encoder_attn.": "the decoder of an encoder-decoder",
    "layer_norm15.": "the decoder of an encoder-decoder",
    "memories.": "a product-key memory",
    "pred_layer.proj.head": "an adaptive softmax",
    "pred_layer.proj.tail": "an adaptive softmax",
}


def renamed(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor by its name there; a tied output matrix is not stored twice."""
    state = model.state_dict()
    for name, theirs in _sources(state).items():
        parts = state[name].chunk(len(theirs))
        for there, part in zip(theirs, parts, strict=True):
            yield ("" if there.startswith("pred_layer.") else _PREFIX) + there, part.clone()


def _sources(names: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the format's names, without a prefix, for each of ours; several are concatenated."""
    sources: dict[str, tuple[str, ...]] = {}
    for name in names:
        stem, _, part = name.rpartition(".")
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", stem)
        if layer is not None:
            theirs = (f"{there.format(layer[1])}.{part}" for there in _LAYER_NAMES[layer[2]])
            sources[name] = tuple(theirs)
        else:
            sources[name] = (_NAMES.get(name) or f"{_NAMES[stem]}.{part}",)
    return sources


def sort_out(found: Mapping[str, Tensor], folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors without their prefix, and a line for those outside the model."""
    tensors: dict[str, Tensor] = {}
    heads = []
    for name, tensor in found.items():
        bare = name.removeprefix(_PREFIX)
        for start, owner in _FOREIGN.items():
            if bare.startswith(start):
                raise CheckpointError(
                    f"{folder}: {name} belongs to {owner}, which our models do not support "
                    "here: expected the encoder that transformers' XLMModel is"
                )
        if _TASK_HEAD.match(bare):
            heads.append(name)
        elif bare != "position_ids":  # older versions stored it: 0, 1, 2 ...
            if bare in tensors:
                raise CheckpointError(f"{folder}: {bare} is present with and without {_PREFIX!r}")
            if not tensor.is_floating_point():
                raise CheckpointError(
                    f"{folder}: {name} has type {tensor.dtype}, expected a floating-point one; "
                    f"import the model before it was quantized"
                )
            tensors[bare] = tensor
    return tensors, [f"the head of a task: {', '.join(sorted(heads))}"] if heads else []


def take_tied_copy(
    tensors: dict[str, Tensor], value: Mapping[str, Any], folder: Path, with_head: bool
) -> bool:
    """Return True if the output matrix is the word embeddings; drop a mere copy of them."""
    if not with_head:
        return True
    if not value["tie_word_embeddings"]:
        return False
    own = tensors.pop("pred_layer.proj.weight", None)
    words = tensors.get("embeddings.weight")
    if own is not None and words is not None and not torch.equal(own, words):
        raise CheckpointError(
            f"{folder}: {CONFIG} says tie_word_embeddings, but pred_layer.proj.weight "
            "differs from embeddings.weight: set it to false to keep both, or remove the "
            "former"
        )
    return True


def check_layers(tensors: Mapping[str, Tensor], num_layers: int, folder: Path) -> None:
    """Raise CheckpointError for layers that the file lacks, before they are built."""
    numbers = (re.match(r"attentions\.(\d+)\.", name) for name in tensors)
    found = len({match[1] for match in numbers if match})
    if found != num_layers:
        raise CheckpointError(
            f"{folder}: {CONFIG} says n_layers {num_layers}, but the weights have {found}"
        )


def fill(model: Transformer, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Put the tensors into the model; CheckpointError names every tensor that does not fit."""
    expected = model.state_dict()
    sources = _sources(expected)
    wanted = {there for theirs in sources.values() for there in theirs}
    complaints = []
    if missing := sorted(wanted - set(tensors)):
        complaints.append(f"missing {_some(missing)}")
    if unknown := sorted(set(tensors) - wanted):
        complaints.append(f"not part of the model {_some(unknown)}")
    misfits = []
    for name, theirs in sources.items():
        rows, *rest = expected[name].shape
        shape = [rows // len(theirs), *rest]
        for there in theirs:
            if there in tensors and list(tensors[there].shape) != shape:
                misfits.append(f"{there} {list(tensors[there].shape)} instead of {shape}")
    if misfits:
        complaints.append(f"of another shape {_some(misfits)}")
    if complaints:
        raise CheckpointError(f"{folder}: the weights do not fit {CONFIG}: {'; '.join(complaints)}")
    joined = {
        name: torch.cat([tensors[there] for there in theirs]) if len(theirs) > 1
        else tensors[theirs[0]]
        for name, theirs in sources.items()
    }  # fmt: skip
    model.load_state_dict(joined, assign=True)


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
