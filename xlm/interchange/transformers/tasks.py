"""Convert tasks to and from heads of transformers' classes.

Task + its module --to_task_head--> TaskHead --from_task_head--> Task + tensors
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NoReturn

from torch import Tensor, nn

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.interchange.transformers.heads import HeadKind, Reads, TaskHead
from xlm.model.transformer import Transformer
from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout, SentenceHead
from xlm.tasks.regression import Regression
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import NO_FILES, Task

_OUTPUT, _DENSE = "output", "after.1"
"""Names of the two layers in the modules of ``xlm.tasks.heads``."""
_TRANSFORM = {"sentence": "after", "word": "hidden", "span": "hidden"}
"""Name of a transform in those modules, by what is read."""


def to_task_head(task: Task, module: nn.Module) -> TaskHead:
    """Return the layers of ``task.head`` in transformers' format.

    Raises ConfigError, naming the field, for a task or a readout that no class there has.
    """
    readout = task.readout
    labels: tuple[str, ...] = ()
    if isinstance(task, Classification | Regression):
        labels = tuple(task.labels) if isinstance(task, Classification) else ()
    elif isinstance(task, Tagging):
        labels = tuple(task.tags)
        if readout.kind not in ("linear", "transform"):
            _refuse(task, f"readout.kind {readout.kind}", "readout.kind linear or transform")
    elif not isinstance(task, Answering):
        raise ConfigError(
            f"{type(task).__name__} cannot go to transformers, which has classes for "
            "classification, regression, tagging and answering: keep the model in xlm's own format"
        )
    if task.language_token is not None:
        _refuse(task, f"language_token {task.language_token}", "language_token null")
    if readout.features:
        _refuse(task, "readout.features true", "readout.features false")
    pooling: Literal["first", "mean"] = "first"
    if isinstance(module, SentenceHead):
        if module.pooling == "max":
            _refuse(task, "readout.pooling max", "readout.pooling first")
        pooling = module.pooling
    if readout.kind == "feed-forward":
        _refuse(task, "readout.kind feed-forward", "readout.kind linear or tanh")
    tensors = module.state_dict()
    reads = _reads(task)
    names = _layers(readout.kind, reads)
    found = {
        layer: {
            part: tensors[f"{name}.{part}"]
            for part in ("weight", "bias")
            if f"{name}.{part}" in tensors
        }
        for layer, name in names.items()
    }
    return TaskHead(
        reads=reads,
        output=found["output"],
        kind=readout.kind,
        dense=found.get("dense", {}),
        norm=found.get("norm", {}),
        pooling=pooling,
        labels=labels,
        dropout=readout.dropout,
        causal=readout.causal,
    )


def from_task_head(head: TaskHead, max_positions: int) -> tuple[Task, dict[str, Tensor]]:
    """Return the task of a head, without files, and the tensors of its module by their names there.

    Rows are as long as the task's default, or shorter if the model's positions require it.
    """
    readout = Readout(
        kind=head.kind, dropout=head.dropout, causal=head.causal,
        pooling="mean" if head.pooling == "mean" else None,
    )  # fmt: skip
    task: Task
    if head.reads == "sentence" and head.labels:
        task = Classification(
            files=NO_FILES, readout=readout, labels=list(head.labels),
            length=min(Classification.length, max_positions),
        )  # fmt: skip
    elif head.reads == "sentence":
        length = min(Regression.length, max_positions)
        task = Regression(files=NO_FILES, readout=readout, length=length)
    elif head.reads == "word":
        length = min(Tagging.length, max_positions)
        task = Tagging(
            files=NO_FILES, readout=readout, tags=list(head.labels), length=length,
            context=min(Tagging.context, (length - 2) // 2),
        )  # fmt: skip
    else:
        length = min(Answering.length, max_positions)
        question = min(Answering.longest_question, length // 4)
        task = Answering(
            files=NO_FILES, readout=readout, length=length, longest_question=question,
            stride=min(Answering.stride, (length - question) // 2),
        )  # fmt: skip
    tensors = {
        f"{name}.{part}": tensor
        for layer, name in _layers(head.kind, head.reads).items()
        for part, tensor in getattr(head, layer).items()
    }
    return task, tensors


def _layers(kind: HeadKind, reads: Reads) -> dict[str, str]:
    """Return the name of each layer of a head in the modules of ``xlm.tasks.heads``."""
    if kind == "transform":
        own = _TRANSFORM[reads]
        return {"output": _OUTPUT, "dense": f"{own}.dense", "norm": f"{own}.norm"}
    return {"output": _OUTPUT} if kind == "linear" else {"output": _OUTPUT, "dense": _DENSE}


def scores_of(task: Task, module: nn.Module) -> Callable[[Transformer, Batch], Tensor]:
    """Return a function for the scores of a batch.

    They are ``[B, K]`` of the rows, or ``[N, K]`` of the cells in ``predict``.
    """

    def score(model: Transformer, batch: Batch) -> Tensor:
        scores: Tensor = module(model, batch)
        if isinstance(task, Answering):  # [B, T, 2]
            scores = scores.flatten(0, 1).index_select(0, batch.predict)
        return scores

    return score


def _reads(task: Task) -> Reads:
    if isinstance(task, Tagging):
        return "word"
    return "span" if isinstance(task, Answering) else "sentence"


def _refuse(task: Task, found: str, expected: str) -> NoReturn:
    raise ConfigError(
        f"{type(task).__name__} with {found} cannot go to transformers, which has no such "
        f"head: fine-tune with {expected}, or keep the model in xlm's own format"
    )
