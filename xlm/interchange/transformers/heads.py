"""The heads of fine-tuned models as transformers' classes have them, both ways.

    a body, written by its family's module --write_with_head--> the same folder with a head
    a folder with a head --read_head--> TaskHead

    reads      XLM                          RoBERTa, XLM-R, CamemBERT     BERT
    sentence   linear on the first state    dropout, dense, tanh, linear  dense, tanh, linear
    word       linear                       linear                        linear
    span       linear to two scores         the same                      the same

The body is read and written by its family's module; what a task makes of a head is the task's.
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
Format = Literal["xlm", "xlm-roberta", "bert", "roformer", "modernbert"]
Write = Callable[[PretrainedModel, Path], list[str]]
"""Writes a body and its tokenizer; returns a line per thing that is lost."""

_STEMS = {
    "xlm": "XLM",
    "xlm-roberta": "XLMRoberta",
    "roberta": "Roberta",
    "camembert": "Camembert",
    "bert": "Bert",
}
_ENDS: dict[Reads, str] = {
    "sentence": "ForSequenceClassification",
    "word": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
_PREFIX = {"xlm": "transformer.", "bert": "bert."}
_ROBERTA = "roberta."
"""The prefix of every other family."""
_VOCABULARY = ("pred_layer.", "lm_head.", "cls.")
_OF_THE_OUTPUT = ("the output bias:", "generate() of transformers")
"""How a body's writer begins what it says of an output that is left out here."""
_GENERATION = "generation_config.json"
_DENSE = {"xlm": "", "bert": "bert.pooler.dense"}
_DENSE_ELSEWHERE = "classifier.dense"
_SUMMARY = {
    "summary_type": "first",
    "summary_use_proj": True,
    "summary_activation": None,
    "summary_proj_to_labels": True,
}
"""Settings of XLM's class for sentences under which it is one linear layer on the first state."""


@dataclass(frozen=True, kw_only=True)
class TaskHead:
    """The layers on top of an encoder, and what their outputs are called."""

    reads: Reads
    """sentence: the first hidden state; word: each one; span: each one, as first and as last."""
    output: Mapping[str, Tensor]
    """The last layer: ``weight`` ``[K, D]`` and ``bias`` ``[K]``."""
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    """A layer before it, with tanh: ``[D, D]`` and ``[D]``; empty where there is none."""
    labels: tuple[str, ...] = ()
    """The name of each output, in order; empty for a number, and for spans."""
    dropout: float = 0.0
    """Before the last layer (and before ``dense``), in training."""
    causal: bool = False
    """Whether the encoder is read causally."""


def class_name(model_type: str, reads: Reads) -> str:
    """The class of transformers that has such a head, such as ``XLMForTokenClassification``."""
    simple = "Simple" if model_type == "xlm" and reads == "span" else ""
    return f"{_STEMS[model_type]}{_ENDS[reads]}{simple}"


def write_with_head(
    model: PretrainedModel, head: TaskHead, folder: str | Path, format: Format, write: Write
) -> list[str]:
    """Write what transformers' Auto class of the task opens; a line per thing lost or changed.

    ``write`` is the writer of ``format``. Raises ConfigError, naming what to train with, where the
    format's class has no such head or no such body.
    """
    if format in ("roformer", "modernbert"):
        raise ConfigError(
            "the head of a task does not go to RoFormer's or ModernBERT's classes: export the body "
            "alone (task empty), or fine-tune a model of XLM's, BERT's or XLM-R's shape"
        )
    names = _names(format, head)
    if head.causal and format != "xlm":
        raise ConfigError(
            f"the task reads the encoder causally, and {class_name(format, head.reads)} cannot: "
            "fine-tune with readout.causal false, or export it as xlm"
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
    """The head of a transformers folder; None where its class has none that we know.

    Raises CheckpointError for a head with settings that we have no counterpart for, and for tensors
    that are missing or do not fit config.json.
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
    layers: dict[str, dict[str, Tensor]] = {"dense": {}, "output": {}}
    names = {"output": _output_name(kind, reads), "dense": _dense_name(kind, reads)}
    for layer, name in names.items():
        for part in ("weight", "bias") if name else ():
            if f"{name}.{part}" not in tensors:
                raise CheckpointError(f"{folder}: has no tensor {name}.{part}, which {found} has")
            layers[layer][part] = tensors[f"{name}.{part}"]
    _check_shapes(layers, config, folder)
    return TaskHead(
        reads=reads,
        output=layers["output"],
        dense=layers["dense"],
        labels=_labels(config, reads, len(layers["output"]["bias"]), path),
        dropout=_dropout(config, kind, reads, path),
        causal=bool(config.get("causal", False)),
    )


def _output_name(kind: str, reads: Reads) -> str:
    if reads == "span":
        return "qa_outputs"
    if reads == "word" or kind == "bert":
        return "classifier"
    return "sequence_summary.summary" if kind == "xlm" else "classifier.out_proj"


def _dense_name(kind: str, reads: Reads) -> str:
    return _DENSE.get(kind, _DENSE_ELSEWHERE) if reads == "sentence" else ""


def _names(kind: str, head: TaskHead) -> dict[str, str]:
    """The name of each layer of the head; ConfigError where the class has another."""
    dense = _dense_name(kind, head.reads)
    if bool(head.dense) != bool(dense):
        has, expected = ("a", "tanh") if dense else ("no", "linear")
        raise ConfigError(
            f"the head cannot become that of {class_name(kind, head.reads)}, which has {has} layer "
            f"with tanh before its last one: fine-tune with readout.kind {expected}"
        )
    return {"output": _output_name(kind, head.reads), **({"dense": dense} if dense else {})}


def _settings(
    model: PretrainedModel, kind: str, head: TaskHead
) -> tuple[dict[str, Any], list[str]]:
    """What config.json says of the head, and what is other than here."""
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
    if head.reads == "span":
        lines += [f"{there} none there"] if head.dropout else []
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
    if (kind, reads) != ("xlm", "sentence"):
        return
    for name, expected in _SUMMARY.items():
        if name in config and config[name] != expected:
            raise CheckpointError(
                f"{path}: {name} is {config[name]!r}, expected {expected!r}: one linear layer on "
                "the first hidden state"
            )


def _check_shapes(
    layers: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], folder: Path
) -> None:
    width = config.get("emb_dim", config.get("hidden_size"))
    num = len(layers["output"]["bias"]) if layers["output"]["bias"].ndim else 0
    sizes = {"output": [num, width], "dense": [width, width]}
    for layer, parts in layers.items():
        for part, tensor in parts.items():
            expected = sizes[layer] if part == "weight" else sizes[layer][:1]
            if list(tensor.shape) != expected or not num:
                raise CheckpointError(
                    f"{folder}: the {layer} layer of the head has a {part} of shape "
                    f"{list(tensor.shape)}, expected {expected} by {CONFIG}"
                )


def _dropout(config: Mapping[str, Any], kind: str, reads: Reads, path: Path) -> float:
    """The rate before the last layer, by transformers' rules and defaults."""
    if reads == "span":
        return 0.0
    general = "dropout" if kind == "xlm" else "hidden_dropout_prob"
    names = [general]
    if kind != "xlm":
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
    return 0.1


def _labels(config: Mapping[str, Any], reads: Reads, num: int, path: Path) -> tuple[str, ...]:
    """The names of the outputs, as id2label has them."""
    if reads == "span":
        if num != 2:
            raise CheckpointError(f"{path}: the head has {num} scores a word, expected 2")
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
