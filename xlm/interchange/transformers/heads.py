"""Heads of fine-tuned models in the format of transformers' classes, both ways.

    a body, written by its family's module --write_with_head--> the same folder with a head
    a folder with a head --read_head--> TaskHead

    reads      XLM      RoBERTa, XLM-R, CamemBERT, BERT   RoFormer      ModernBERT
    sentence   linear   dense, tanh, linear               dense, gelu   dense, gelu, norm, linear
    word       linear   linear                            linear        the same
    span       linear   linear                            linear        the same

The family's module reads and writes the body; the task decides the use of its head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.files import (
    CONFIG,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from xlm.model.asking import NO_HEAD
from xlm.model.pretrained import PretrainedModel

Reads = Literal["sentence", "word", "span"]
HeadKind = Literal["linear", "tanh", "dense", "transform"]
"""Kind of a head, as in ``xlm.tasks.heads.Readout``."""
Format = Literal["xlm", "xlm-roberta", "bert", "roformer", "modernbert"]
Write = Callable[[PretrainedModel, Path], list[str]]
"""Function that writes a body and its tokenizer and returns a line per thing that is lost."""

_STEMS = {
    "xlm": "XLM",
    "xlm-roberta": "XLMRoberta",
    "roberta": "Roberta",
    "camembert": "Camembert",
    "bert": "Bert",
    "roformer": "RoFormer",
    "modernbert": "ModernBert",
}
_ENDS: dict[Reads, str] = {
    "sentence": "ForSequenceClassification",
    "word": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
_PREFIX = {
    "xlm": "transformer.",
    "bert": "bert.",
    "roformer": "roformer.",
    "modernbert": "model.",
}
_ROBERTA = "roberta."
"""Prefix of every other family."""
_VOCABULARY = ("pred_layer.", "lm_head.", "cls.", "head.", "decoder.")
_OF_THE_OUTPUT = ("the output bias:", "generate() of transformers")
"""Prefixes of the lines that a body's writer returns about an output that is left out here."""
_GENERATION = "generation_config.json"
_KINDS: dict[str, HeadKind] = {"xlm": "linear", "roformer": "dense", "modernbert": "transform"}
"""Kinds of heads for sentences, and for ModernBERT's words and spans too; tanh elsewhere."""
_DENSE = {"bert": "bert.pooler.dense", "modernbert": "head.dense"}
_DENSE_ELSEWHERE = "classifier.dense"
_NORM = "head.norm"
_LAYERS = {"tanh": "tanh", "dense": "the model's activation",
           "transform": "the model's activation and a normalization"}  # fmt: skip
"""Description of the part between a head's two layers."""
_POOLINGS = {"first": "cls", "mean": "mean"}
"""ModernBERT's names for the ways to read a sentence."""
_SUMMARY = {
    "summary_type": "first",
    "summary_use_proj": True,
    "summary_activation": None,
    "summary_proj_to_labels": True,
}
"""Settings that make XLM's sentence class one linear layer on the first state."""


@dataclass(frozen=True, kw_only=True)
class TaskHead:
    """Layers on top of an encoder, and the names of their outputs."""

    reads: Reads
    """sentence: the first hidden state; word: each one; span: each one, as first and as last."""
    output: Mapping[str, Tensor]
    """Last layer: ``weight`` ``[K, D]`` and ``bias`` ``[K]``."""
    kind: HeadKind = "linear"
    """Kind of the part before the last layer."""
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    """Layer before the last: ``[D, D]`` and ``[D]``; empty if linear, perhaps without a bias."""
    norm: Mapping[str, Tensor] = field(default_factory=dict)
    """transform: the normalization after ``dense``, ``[D]`` each, perhaps without a bias."""
    pooling: Literal["first", "mean"] = "first"
    """sentence: the state that is read."""
    labels: tuple[str, ...] = ()
    """Name of each output, in order; empty for a number, and for spans."""
    dropout: float = 0.0
    """Rate before the last layer (and before ``dense``, except in a transform), in training."""
    causal: bool = False
    """True if the encoder is read causally."""


def class_name(model_type: str, reads: Reads) -> str:
    """Return the class of transformers with such a head, such as ``XLMForTokenClassification``."""
    simple = "Simple" if model_type == "xlm" and reads == "span" else ""
    return f"{_STEMS[model_type]}{_ENDS[reads]}{simple}"


def write_with_head(
    model: PretrainedModel, head: TaskHead, folder: str | Path, format: Format, write: Write
) -> list[str]:
    """Write a folder for transformers' Auto class of the task.

    Returns a line for each thing that is lost or changed. ``write`` is the writer of ``format``.
    Raises ConfigError, naming the settings to train with, if the format's class has no such head or
    no such body.
    """
    names = _names(format, head)
    if head.causal and format != "xlm":
        raise ConfigError(
            f"the task reads the encoder causally, but {class_name(format, head.reads)} "
            "cannot: fine-tune with readout.causal false, or export it as xlm"
        )
    folder = Path(folder)
    extra = dict(model.extra)
    if format != "xlm" and not model.transformer.config.output_transform:
        extra[NO_HEAD] = True  # the output is left out in any case, so it need not fit
    body = replace(model, heads={}, tasks="", extra=extra)
    lost = [line for line in write(body, folder) if not line.startswith(_OF_THE_OUTPUT)]
    config = read_config(folder)
    kind = config["model_type"]
    prefix = _PREFIX.get(kind, _ROBERTA)
    tensors = {
        name if name.startswith(prefix) else prefix + name: tensor
        for name, tensor in read_weights(folder).items()
        if not name.startswith(_VOCABULARY)
    }
    for layer, name in names.items():
        for part, tensor in getattr(head, layer).items():
            tensors[f"{name}.{part}"] = tensor
    settings, lines = _settings(model, kind, head)
    write_weights(folder, tensors)
    write_config(folder, {**config, **settings})
    (folder / _GENERATION).unlink(missing_ok=True)
    lost.append(f"the output onto the vocabulary: {class_name(kind, head.reads)} has none")
    return lost + lines


def read_head(folder: str | Path) -> TaskHead | None:
    """Return the head of a transformers folder; None if its class has no known head.

    Raises CheckpointError for a head with settings that have no counterpart in this library, and
    for tensors that are missing or do not fit config.json.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = config["model_type"]
    found = _architecture(config)
    reads = next((r for r in _ENDS if kind in _STEMS and class_name(kind, r) == found), None)
    if reads is None:
        return None
    path = folder / CONFIG
    _check_settings(config, kind, reads, path)
    tensors = read_weights(folder)
    head_kind = _kind(kind, reads)
    layers: dict[str, dict[str, Tensor]] = {"norm": {}, "dense": {}, "output": {}}
    for layer, name in _layers(kind, reads).items():
        parts = ["weight", "bias"] if layer == "output" or head_kind != "transform" else ["weight"]
        for part in parts:
            if f"{name}.{part}" not in tensors:
                raise CheckpointError(
                    f"{folder}: the tensor {name}.{part} is missing, but {found} has it"
                )
            layers[layer][part] = tensors[f"{name}.{part}"]
    _check_shapes(layers, config, folder)
    return TaskHead(
        reads=reads,
        output=layers["output"],
        kind=head_kind,
        dense=layers["dense"],
        norm=layers["norm"],
        pooling=_pooling(config, kind, reads),
        labels=_labels(config, reads, len(layers["output"]["bias"]), path),
        dropout=_dropout(config, kind, reads, path),
        causal=bool(config.get("causal", False)),
    )


def _layers(kind: str, reads: Reads) -> dict[str, str]:
    """Return the name of each layer of a head in files of that ``model_type``."""
    names = {"output": _output_name(kind, reads)}
    head_kind = _kind(kind, reads)
    if head_kind != "linear":
        names["dense"] = _DENSE.get(kind, _DENSE_ELSEWHERE)
    if head_kind == "transform":
        names["norm"] = _NORM
    return names


def _kind(kind: str, reads: Reads) -> HeadKind:
    """Return the kind of layers that a class has before its last one."""
    found = _KINDS.get(kind, "tanh")
    return found if reads == "sentence" or found == "transform" else "linear"


def _output_name(kind: str, reads: Reads) -> str:
    if kind == "modernbert":
        return "classifier"
    if reads == "span":
        return "qa_outputs"
    if reads == "word" or kind == "bert":
        return "classifier"
    return "sequence_summary.summary" if kind == "xlm" else "classifier.out_proj"


def _pooling(config: Mapping[str, Any], kind: str, reads: Reads) -> Literal["first", "mean"]:
    """Return ModernBERT's pooling of a sentence; every other class reads the first state."""
    if kind != "modernbert" or reads != "sentence":
        return "first"
    return "mean" if config.get("classifier_pooling", "cls") == "mean" else "first"


def _names(kind: str, head: TaskHead) -> dict[str, str]:
    """Return the name of each layer of the head; ConfigError if the class has another head."""
    expected, name = _kind(kind, head.reads), class_name(kind, head.reads)
    if head.kind != expected:
        has = f"no layer with {_LAYERS[head.kind]}" if expected == "linear" else (
            f"a layer with {_LAYERS[expected]}"
        )  # fmt: skip
        raise ConfigError(
            f"the head cannot become that of {name}, which has {has} before its last layer: "
            f"fine-tune with readout.kind {expected}"
        )
    if head.pooling != "first" and kind != "modernbert":
        raise ConfigError(
            f"the head with readout.pooling {head.pooling} cannot become that of {name}, which "
            "reads the first state: fine-tune with readout.pooling first"
        )
    return _layers(kind, head.reads)


def _settings(
    model: PretrainedModel, kind: str, head: TaskHead
) -> tuple[dict[str, Any], list[str]]:
    """Return the head's settings for config.json, and a line for each difference from here."""
    settings: dict[str, Any] = {"architectures": [class_name(kind, head.reads)]}
    lines = []
    if head.labels:
        settings["id2label"] = {str(at): name for at, name in enumerate(head.labels)}
        settings["label2id"] = {name: at for at, name in enumerate(head.labels)}
    elif head.reads == "sentence":
        settings |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    if head.reads == "sentence":
        choice = "single_label_classification" if head.labels else "regression"
        settings["problem_type"] = choice
    there = f"training it further: dropout {head.dropout:g} before the last layer is"
    general = model.transformer.config.dropout
    if kind == "modernbert":
        settings |= {
            "classifier_dropout": head.dropout,
            "classifier_pooling": _POOLINGS[head.pooling],
        }
    elif head.reads == "span":
        lines += [f"{there} none there"] if head.dropout else []
    elif kind == "roformer":
        lines += [f"{there} the model's {general:g} there"] if head.dropout != general else []
    elif kind != "xlm":
        settings["classifier_dropout"] = head.dropout
        if kind == "bert" and head.dense and head.dropout:
            lines.append("training it further: the dropout before the layer with tanh is not there")
    elif head.reads == "sentence":
        settings |= {**_SUMMARY, "summary_first_dropout": head.dropout}
    elif head.dropout != general:
        lines.append(f"{there} the model's {general:g} there")
    if model.has_languages:
        lines.append("languages: give langs, without which transformers adds no language vector")
    return settings, lines


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _check_settings(config: Mapping[str, Any], kind: str, reads: Reads, path: Path) -> None:
    if config.get("problem_type") == "multi_label_classification":
        raise CheckpointError(
            f"{path}: problem_type is multi_label_classification, which gives a text any number of "
            "labels: our Classification gives it one"
        )
    if (kind, reads) == ("modernbert", "sentence"):
        pooling = config.get("classifier_pooling", "cls")
        if pooling not in _POOLINGS.values():
            raise CheckpointError(
                f"{path}: classifier_pooling is {pooling!r}, expected 'cls' or 'mean'"
            )
    if (kind, reads) != ("xlm", "sentence"):
        return
    for name, expected in _SUMMARY.items():
        if name in config and config[name] != expected:
            raise CheckpointError(
                f"{path}: {name} is {config[name]!r}, expected {expected!r}: only a "
                "head that is one linear layer on the first hidden state is read"
            )


def _check_shapes(
    layers: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], folder: Path
) -> None:
    width = config.get("emb_dim", config.get("hidden_size"))
    num = len(layers["output"]["bias"]) if layers["output"]["bias"].ndim else 0
    sizes = {"output": [num, width], "dense": [width, width], "norm": [width]}
    for layer, parts in layers.items():
        for part, tensor in parts.items():
            expected = sizes[layer] if part == "weight" else sizes[layer][:1]
            if list(tensor.shape) != expected or not num:
                raise CheckpointError(
                    f"{folder}: the {layer} layer of the head has a {part} of shape "
                    f"{list(tensor.shape)}, expected {expected} by {CONFIG}"
                )


def _dropout(config: Mapping[str, Any], kind: str, reads: Reads, path: Path) -> float:
    """Return the rate before the last layer, by transformers' rules and defaults."""
    if reads == "span" and kind != "modernbert":
        return 0.0
    general = "dropout" if kind == "xlm" else "hidden_dropout_prob"
    names = [general]
    if kind == "modernbert":
        names = ["classifier_dropout"]
    elif kind == "roformer":
        names = [general]
    elif kind != "xlm":
        names = ["classifier_dropout", general]
    elif reads == "sentence":
        names = ["summary_first_dropout"]
    for name in names:
        rate = config.get(name)
        if rate is None:
            continue
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise CheckpointError(f"{path}: {name} is {rate!r}, expected a probability below 1")
        return float(rate)
    return 0.0 if kind == "modernbert" else 0.1


def _labels(config: Mapping[str, Any], reads: Reads, num: int, path: Path) -> tuple[str, ...]:
    """Return the names of the outputs from id2label."""
    if reads == "span":
        if num != 2:
            raise CheckpointError(f"{path}: the head has {num} scores per word, expected 2")
        return ()
    told = config.get("id2label")
    if told is None:
        told = {str(at): f"LABEL_{at}" for at in range(num)}
    names = [told.get(str(at)) for at in range(num)] if isinstance(told, Mapping) else []
    if len(told) != num or len(set(names)) != num or not all(isinstance(n, str) for n in names):
        raise CheckpointError(
            f"{path}: id2label is {str(told)[:80]}, expected {num} different names by their "
            'numbers, such as {"0": "no", "1": "yes"}'
        )
    if reads == "sentence" and num == 1:
        return ()
    return tuple(map(str, names))
