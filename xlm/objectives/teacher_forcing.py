"""The base of every encoder-decoder objective: the decoder reads the true target.

It reads ``</s> t`` and predicts ``t </s>``, given the encoder's output for a source
(docs/fidelity.md, B9).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xlm.batch import Batch, Loss
from xlm.data.collate import Cells, pad
from xlm.data.streams import Examples
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.objective import cross_entropy_loss
from xlm.text.tokenizers.tokenizer import Ids


def pad_sentences(sentences: Sequence[Ids], language_id: int, examples: Examples) -> Cells:
    """Return sentences of one language as rows ``</s> s </s>`` of the examples' padded length."""
    tokenizer = examples.stream.tokenizer
    wrapped = [tokenizer.wrap(ids) for ids in sentences]
    return pad(wrapped, [language_id], examples.length, tokenizer.pad_id)


def teacher_forced(target: Cells, rows: NDArray[np.int64], *, source: Batch) -> Batch:
    """Return the batch that predicts ``target`` (rows ``</s> t </s>``) one token ahead."""
    inputs = target.shifted()
    predict = np.flatnonzero(inputs.real)
    targets = np.ascontiguousarray(target.tokens[:, 1:]).ravel()[predict]
    return inputs.batch(rows, predict, targets, source=source)


def source_batch(cells: Cells, rows: NDArray[np.int64]) -> Batch:
    """Return the encoder's side, which predicts nothing."""
    nothing = np.zeros(0, dtype=np.int64)
    return cells.batch(rows, nothing, nothing)


def teacher_forced_loss(model: Transformer, batch: Batch, *, label_smoothing: float) -> Loss:
    """Return the summed cross-entropy of the target's tokens, the final end symbol included.

    Outside training it includes the plain nats and the number of correct predictions. Raises
    ConfigError for a model without decoder.
    """
    source = batch.source
    if source is None or model.decoder is None:
        raise ConfigError("a translator needs a decoder: set model.num_decoder_layers above 0")
    memory = model.encode(
        source.tokens, source.lengths, source.positions, source.langs, source.segments
    )
    hidden = model.decode(
        batch.tokens, batch.lengths, memory, source.lengths, batch.positions, batch.langs
    )
    logits = model.predict(hidden, batch.predict, side="decoder")
    return cross_entropy_loss(
        logits, batch, with_scores=not model.training, label_smoothing=label_smoothing
    )


def check_sizes(sizes: dict[str, int], label_smoothing: float) -> None:
    """Raise ConfigError for sizes below 1 and for a label smoothing that is not a share."""
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} must be at least 1: found {size}")
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing must be in [0, 1): found {label_smoothing}")
