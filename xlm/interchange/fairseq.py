"""XLM-R and RoBERTa in fairseq's format: model.pt, dict.txt, sentencepiece.bpe.model.

Files are only read, never written. They pass through ``read_torch_file``, the one reader of foreign
torch files, so that fairseq is not needed and no code in a file runs. Tensor names of both
generations of fairseq are known.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xlm.errors import CheckpointError
from xlm.interchange.safe_torch.files import read_torch_file
from xlm.interchange.transformers.encoder_names import (
    STAND_IN,
    HeadNames,
    Names,
    UnreadTensors,
    account,
    build,
    stand_in,
    take_encoder,
    take_head,
)
from xlm.model.asking import NO_HEAD
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.xlm_roberta import DICTIONARY_FILE, MODEL_FILE, read_xlm_roberta

CHECKPOINT = "model.pt"
PAD_ID = 1
_UNREAD = ("optimizer_history", "last_optimizer_state", "task_state", "extra_state", "criterion")
_PARTS = {
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "fc1": "feed_forward.expand",
    "fc2": "feed_forward.contract",
    "final_layer_norm": "feed_forward_norm",
}


def read_fairseq(path: str | Path) -> PretrainedModel:
    """Return the model in a folder with ``model.pt``, or in such a file, with its tokenizer.

    The tokenizer is read from the files beside ``model.pt``. The model is in evaluation mode and
    the saved precision; ``extra["lost"]`` lists everything that was left out. Layer normalizations
    use fairseq's epsilon, 1e-5. Raises CheckpointError for a file that fairseq did not write, for
    another architecture (such as XLM-R XL, which normalizes before its layers), and for tensors
    that are missing or do not fit; DataError for the tokenizer.
    """
    path = Path(path)
    path = path / CHECKPOINT if path.is_dir() else path
    settings, tensors = _read(path)
    source = UnreadTensors(path, tensors)
    prefix = source.prefix("embed_tokens.weight")
    outer = prefix.removesuffix("sentence_encoder.")
    names = _names(source, prefix)
    num_layers = _number(settings, "encoder_layers", path)
    num_heads = _number(settings, "encoder_attention_heads", path)
    found = take_encoder(source, names, prefix, num_layers, num_heads)
    words = found["encoder.words.weight"]
    tokenizer = read_xlm_roberta(_beside(path), vocab_size=len(words))
    table = found["encoder.positions.weight"]
    found["encoder.positions.weight"] = table[PAD_ID + 1 :].clone()
    tied = not settings.get("untie_weights_roberta", False)
    lost = [f"rows 0 to {PAD_ID} of the positions, which no token has"]
    head_names = HeadNames(
        dense=f"{outer}lm_head.dense", norm=f"{outer}lm_head.layer_norm",
        bias=f"{outer}lm_head.bias", output=f"{outer}lm_head.weight",
    )  # fmt: skip
    head = take_head(source, head_names, words, tied)
    extra: dict[str, Any] = {"format": "fairseq", "model_type": "xlm-roberta"}
    if not head:
        tied, extra[NO_HEAD], head = True, True, stand_in(words)
        lost.append(STAND_IN)
    account(source, prefix, lost=lost)
    if settings.get("activation_dropout"):
        lost.append(f"activation_dropout {settings['activation_dropout']}: there is none here")
    lost.append("the optimizer's state, if there was one")
    shape = _shape(settings, found, path) | {
        "tied_output": tied,
        "output_transform": len(head) > 1,
    }
    model = build(path, shape, {**found, **head}, tokenizer.pad_id)
    return PretrainedModel(model, tokenizer, {}, {**extra, "lost": lost})


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Return the model's settings, from ``args`` or ``cfg``, and its tensors."""
    content = read_torch_file(path, without=_UNREAD)
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise CheckpointError(f"{path}: has no 'model': expected a checkpoint of fairseq")
    tensors = content["model"]
    if not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in tensors.items()):
        raise CheckpointError(f"{path}: 'model' is expected to hold tensors by name")
    settings = content.get("args")
    if settings is None:
        settings = _as_mapping(content.get("cfg")).get("model")
    settings = _as_mapping(settings)
    if "encoder_layers" not in settings:
        raise CheckpointError(
            f"{path}: neither args nor cfg.model has encoder_layers: expected a RoBERTa or "
            "XLM-R checkpoint of fairseq"
        )
    return settings, dict(tensors)


def _as_mapping(value: Any) -> Mapping[str, Any]:
    value = vars(value) if isinstance(value, Namespace) else value
    return value if isinstance(value, Mapping) else {}


def _beside(path: Path) -> Path:
    for name in (DICTIONARY_FILE, MODEL_FILE):
        if not (path.parent / name).exists():
            raise CheckpointError(
                f"{path.parent}: has no {name}: expected {CHECKPOINT}, {DICTIONARY_FILE} and "
                f"{MODEL_FILE} in one folder, as XLM-R is published"
            )
    return path.parent


def _names(source: UnreadTensors, prefix: str) -> Names:
    if f"{prefix}layer_norm.weight" in source:
        raise CheckpointError(
            f"{source.path}: found {prefix}layer_norm, so the model normalizes before its "
            "layers (as XLM-R XL and XXL do); expected one that normalizes after them"
        )
    old = f"{prefix}emb_layer_norm.weight" in source
    return Names(
        words="embed_tokens.weight",
        positions="embed_positions.weight",
        segments=None,
        embedding_norm="emb_layer_norm" if old else "layernorm_embedding",
        layer="layers.{}.",
        query_key_value=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        fused="self_attn.in_proj",
        parts=_PARTS,
    )


def _number(settings: Mapping[str, Any], name: str, path: Path) -> int:
    value = settings.get(name)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{path}: {name} is {value!r}, expected 1 or more")
    return value


def _shape(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Any]:
    """Return ModelConfig's fields: sizes from the tensors, everything else from the settings."""
    activation = settings.get("activation_fn", "gelu")
    if activation not in ("gelu", "relu"):
        raise CheckpointError(f"{path}: activation_fn is {activation!r}, expected gelu or relu")
    rates = {}
    for name in ("dropout", "attention_dropout"):
        value = settings.get(name, 0.1)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise CheckpointError(f"{path}: {name} is {value!r}, expected a probability")
        rates[name] = float(value)
    return {
        "dim": tensors["encoder.words.weight"].shape[1],
        "num_layers": _number(settings, "encoder_layers", path),
        "num_heads": _number(settings, "encoder_attention_heads", path),
        "num_decoder_layers": 0,
        "language_embeddings": False,
        "feed_forward": tensors["encoder.layers.0.feed_forward.expand.weight"].shape[0],
        "max_positions": len(tensors["encoder.positions.weight"]),
        "activation": activation,
        "layer_norm_eps": 1e-5,
        **rates,
    }
