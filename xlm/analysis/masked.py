"""Predictions of a masked model for chosen cells of rows, in batches by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.model.asking import batches_by_length, device_of, evaluating, widened
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Ids, Wrapped

Languages = tuple[str | None, str | None]
"""The language of the first sentence of a row, and of the second."""


class Predicted(NamedTuple):
    """The masked cells of a batch, ``[N]``: rows in ascending order within the batch."""

    rows: NDArray[np.int64]
    """The row of each cell, among all rows."""
    tokens: Tensor
    """The token that the mask hides."""
    logits: Tensor
    """Scores of all tokens, float32 ``[N, V]``."""


def predicted(
    model: PretrainedModel,
    rows: Sequence[Wrapped],
    cells: Sequence[Ids],
    languages: Languages,
    *,
    tokens: int,
) -> Iterator[Predicted]:
    """Yield predictions for ``cells`` of each row, all of which are masked at once.

    Rows have their special tokens and fit the model's positions.
    """
    transformer = model.transformer
    for own in batches_by_length([len(row.tokens) for row in rows], tokens):
        batch = model.batch_rows([rows[at] for at in own], *languages).to(device_of(model))
        flat = batch.tokens.view(-1)
        of_cells = np.repeat(np.arange(len(own)), [len(cells[at]) for at in own])
        places = of_cells * batch.tokens.shape[1] + np.concatenate([cells[at] for at in own])
        chosen = torch.from_numpy(places).to(flat.device)
        hidden_tokens = flat[chosen]
        flat[chosen] = model.tokenizer.mask_id
        with evaluating(transformer):
            hidden = transformer.encode(
                batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
            )
            logits = widened(transformer.predict(hidden, chosen))
        yield Predicted(np.array(own)[of_cells], hidden_tokens, logits)
