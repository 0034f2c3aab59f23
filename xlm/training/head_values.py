"""Values of heads out of another model: by name, or by the part that a head plays."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from xlm.model.pretrained import PretrainedModel
from xlm.training.initialization_report import InitializationReport
from xlm.training.learner import Learner

_OF_TRANSFORM = re.compile(r"^heads\..*\.(?:after|hidden)\.((?:dense|norm)\.(?:weight|bias))$")
"""Names of the tensors of a transform in the heads of ``xlm.tasks``."""
_BEFORE_TANH = re.compile(r"^heads\.([^.]+)\.after\.1\.(weight|bias)$")
"""Names of the tensors of the layer before tanh, or another activation, in those heads."""
_NEXT_SENTENCE = re.compile(r"^heads\.[^.]+\.((?:pooler|classes)\.(?:weight|bias))$")
"""Names of the tensors of BERT's head of next-sentence prediction."""


def take_heads(
    learner: Learner,
    whole: bool,
    source: PretrainedModel | None,
    report: InitializationReport,
    values: dict[str, Tensor],
) -> None:
    """Take heads whose names and shapes are equal; the others are new, with three exceptions.

    A transform before a new classifier starts as the source's before its output, as in
    transformers' ModernBERT; a layer and tanh as the source's pooler, as in its BERT; and a head of
    next-sentence prediction as the source's, whatever its name. Without ``whole`` nothing is taken.
    """
    heads = source.heads if source is not None and whole else {}
    encoder = source.transformer.encoder.state_dict() if source is not None and whole else {}
    there = {f"encoder.{name}": tensor for name, tensor in encoder.items()} | dict(heads)
    for name, own in learner.state_dict().items():
        if not name.startswith("heads."):
            continue
        other = name if name in heads else _instead(name, learner, heads)
        if other not in there:
            report.left[name] = "a new head"
        elif there[other].shape != own.shape:
            shapes = f"{list(there[other].shape)} there, {list(own.shape)} here"
            report.left[name] = shapes if other == name else "a new head"
        else:
            values[name], report.copied[name] = there[other], other
    new = sorted({name.split(".")[1] for name in report.left if name.startswith("heads.")})
    if new:
        report.notes.append(f"new heads: {', '.join(new)}")


def _instead(name: str, learner: Learner, heads: Mapping[str, Tensor]) -> str:
    """Return the tensor that a head's starts from in place of one of its name; "" for none."""
    if part := _OF_TRANSFORM.search(name):
        return f"encoder.output_transform.{part[1]}"
    ending = ""
    if part := _NEXT_SENTENCE.search(name):
        ending = part[1]
    elif (part := _BEFORE_TANH.search(name)) and _has_tanh(learner.heads[part[1]]):
        ending = f"pooler.{part[2]}"
    found = [other for other in heads if ending and re.fullmatch(rf"heads\.[^.]+\.{ending}", other)]
    return found[0] if len(found) == 1 else ""


def _has_tanh(head: nn.Module) -> bool:
    after = getattr(head, "after", None)
    return isinstance(after, nn.Sequential) and isinstance(after[-1], nn.Tanh)
