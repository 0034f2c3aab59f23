"""BERT's pooler and next-sentence classes, as the head of ``NextSentence`` and back.

bert.pooler.dense     <-->  heads.nsp.pooler
cls.seq_relationship  <-->  heads.nsp.classes
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from xlm.interchange.transformers.encoder_names import UnreadTensors

HEAD = "nsp"
TASKS = "objectives:\n  nsp: {class_path: xlm.objectives.NextSentence}\n"
"""The tasks.yaml of a head that came without a recipe."""
CLASS = "BertForPreTraining"
POOLER, CLASSES = "pooler.dense", "cls.seq_relationship"
_PARTS = ("weight", "bias")


def take_next_sentence(source: UnreadTensors, prefix: str) -> dict[str, Tensor]:
    """Return pooler and classes by our names, as many of them as the file has; ``{}`` for none."""
    found = {}
    for theirs, ours in ((prefix + POOLER, "pooler"), (CLASSES, "classes")):
        if all(f"{theirs}.{part}" in source for part in _PARTS):
            for part in _PARTS:
                found[f"heads.{HEAD}.{ours}.{part}"] = source.take(f"{theirs}.{part}")
    return found


def give_next_sentence(heads: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return pooler and classes of the one such head by BERT's names; ``{}`` if there is none.

    ``prefix`` is "" for an encoder without an output, which has no place for the classes.
    """
    having = sorted({name.split(".")[1] for name in heads if name.endswith(".pooler.weight")})
    if len(having) != 1:
        return {}
    own = {n: t for n, t in heads.items() if n.startswith(f"heads.{having[0]}.")}
    given = {}
    for theirs, ours in ((prefix + POOLER, "pooler"), (CLASSES, "classes")):
        for part in _PARTS:
            name = f"heads.{having[0]}.{ours}.{part}"
            if name in own:
                given[f"{theirs}.{part}"] = own[name].detach().clone()
    has_classes = f"{CLASSES}.weight" in given
    if prefix and not has_classes:
        return {}  # transformers' class of masked tokens alone has no pooler
    return {n: t for n, t in given.items() if prefix or not n.startswith(CLASSES)}
