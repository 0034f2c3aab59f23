"""Predictions of a masked model for chosen cells of rows, in batches by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.analysis.states import most_padding
from xlm.batch import Batch
from xlm.model.asking import batches_by_length, device_of, widened
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
    device, was_training = device_of(model), model.transformer.training
    model.transformer.eval()  # once: to set it takes as long as to read a few cells
    lengths = [len(row.tokens) for row in rows]
    try:
        for own in batches_by_length(lengths, tokens, most_padding(device)):
            batch = model.batch_rows([rows[at] for at in own], *languages).to(device)
            sizes = np.array([len(cells[at]) for at in own])
            yield Predicted(
                np.repeat(own, sizes), *_hidden_and_scores(model, batch, [cells[at] for at in own])
            )
    finally:
        model.transformer.train(was_training)


@torch.inference_mode()
def _hidden_and_scores(
    model: PretrainedModel, batch: Batch, cells: Sequence[Ids]
) -> tuple[Tensor, Tensor]:
    """Mask the cells of each row; return their tokens ``[N]`` and the scores there ``[N, V]``."""
    of_cells = np.repeat(np.arange(len(cells)), [len(own) for own in cells])
    flat = batch.tokens.view(-1)
    places = of_cells * batch.tokens.shape[1] + np.concatenate(cells)
    chosen = torch.from_numpy(places).to(flat.device)
    tokens = flat[chosen]
    flat[chosen] = model.tokenizer.mask_id
    hidden = model.transformer.encode(
        batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments, cells=chosen
    )
    return tokens, widened(model.transformer.encoder.project(hidden))
