"""Compare a model with the one read back from its files, bit for bit."""

from __future__ import annotations

import torch

from xlm.errors import CheckpointError
from xlm.interchange.parity import Parity
from xlm.model.pretrained import PretrainedModel


def compare_bits(model: PretrainedModel, other: PretrainedModel) -> Parity:
    """Compare a model with the one read back from its files: every bit must be equal.

    Raises CheckpointError naming the tensors that differ, or the tokenizer.
    """
    ours, theirs = model.transformer.state_dict(), other.transformer.state_dict()
    differing = [n for n in ours if n not in theirs or not torch.equal(ours[n], theirs[n])]
    differing += sorted(theirs.keys() - ours.keys())
    if model.tokenizer.digest != other.tokenizer.digest:
        differing.append("the tokenizer")
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise CheckpointError(
            "the written model and the one read back differ in "
            f"{', '.join(differing[:3])}{more} (of {len(ours)} tensors and a tokenizer): "
            "expected equal bits; nothing was kept, try again on another disk"
        )
    return Parity(notes=(f"{len(ours)} tensors and the tokenizer came back bit for bit",))
