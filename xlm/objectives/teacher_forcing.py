"""The base of every encoder-decoder objective: the decoder reads the true target.

It reads ``</s> t`` and predicts ``t </s>``, given the encoder's output for a source
(docs/fidelity.md, B9); other layouts open it with a language's token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from xlm.batch import Batch, Loss
from xlm.data.collate import pad
from xlm.data.corpora import Corpora
from xlm.data.streams import Examples
from xlm.errors import ConfigError
from xlm.languages import LanguagePair
from xlm.model.transformer import Transformer
from xlm.objective import Objective, predicted_loss
from xlm.text.tokenizers.layouts import LayoutName, TranslationLayout, layout_named
from xlm.text.tokenizers.tokenizer import Ids


@dataclass(frozen=True, kw_only=True)
class TeacherForced(Objective):
    """An objective of encoder and decoder, whose rows have the layout of the model."""

    layout: LayoutName | None = None
    """Placement of special tokens in rows: xlm (begin and end only: language vectors tell which
    language to write), target (the target's token opens the encoder's row), target-apart (the
    encoder reads it as a separate row), decoder (it opens the decoder's row), mbart, source-first
    (mBART-50, M2M-100, NLLB). All but xlm need vocabulary.language_tokens in xlm prepare. Null: the
    layout of the model that training starts from, else xlm."""

    @property
    def arrangement(self) -> TranslationLayout:
        """The layout, by its name."""
        return layout_named(self.layout)

    def check_tokens(self, name: str, corpora: Corpora, ways: Iterable[LanguagePair]) -> None:
        """Raise ConfigError if a language of some direction lacks a token that its rows need."""
        placed = {own for way in ways for own in self.arrangement.placed(*way)}
        try:
            self.arrangement.check(corpora.tokenizer, placed)
        except ConfigError as error:
            raise ConfigError(f"objectives.{name}.{error}") from None


def source_batch(
    layout: TranslationLayout,
    sentences: Sequence[Ids],
    source: str,
    target: str,
    examples: Examples,
) -> Batch:
    """Return the encoder's side, which predicts nothing, of sentences to be written in ``target``.

    The part that is read apart is a single row, since all sentences have one target.
    """
    stream = examples.stream
    tokenizer = stream.tokenizer
    rows = [layout.source_row(tokenizer, ids, source, target) for ids in sentences]
    apart_row = layout.apart_row(tokenizer, target)
    nothing = np.zeros(0, dtype=np.int64)
    apart = None
    if apart_row is not None:
        own = pad([apart_row], [stream.id_of(target)], 0, tokenizer.pad_id)
        apart = own.batch(np.zeros(1, dtype=np.int64), nothing, nothing)
    cells = pad(rows, [stream.id_of(source)], examples.length, tokenizer.pad_id)
    return cells.batch(examples.rows, nothing, nothing, source=apart)


def teacher_forced(
    layout: TranslationLayout,
    sentences: Sequence[Ids],
    target: str,
    examples: Examples,
    source: Batch,
) -> Batch:
    """Return the batch that predicts ``sentences``, in the language ``target``, one token ahead."""
    tokenizer = examples.stream.tokenizer
    rows = [layout.target_row(tokenizer, ids, target) for ids in sentences]
    forced = layout.num_opening - 1
    length = examples.length + forced
    cells = pad(rows, [examples.stream.id_of(target)], length, tokenizer.pad_id)
    inputs = cells.shifted()
    predicted = inputs.real
    predicted[:, :forced] = False
    predict = np.flatnonzero(predicted)
    targets = np.ascontiguousarray(cells.tokens[:, 1:]).ravel()[predict]
    return inputs.batch(examples.rows, predict, targets, source=source)


def end_of(batch: Batch) -> int:
    """Return the end symbol of a teacher-forced batch: the last target of every row."""
    return int(batch.targets[batch.count - 1])


def teacher_forced_loss(model: Transformer, batch: Batch, *, label_smoothing: float) -> Loss:
    """Return the summed cross-entropy of the target's tokens, the final end symbol included.

    Outside training it includes the plain nats and the number of correct predictions. Raises
    ConfigError for a model without decoder.
    """
    source = batch.source
    if source is None or model.decoder is None:
        raise ConfigError(
            "translation objectives need a decoder: set model.num_decoder_layers above 0"
        )
    memory, lengths = model.remember(source)
    hidden = model.decode(
        batch.tokens, batch.lengths, memory, lengths, batch.positions, batch.langs
    )
    return predicted_loss(model, hidden, batch, side="decoder", label_smoothing=label_smoothing)


def check_sizes(sizes: dict[str, int], label_smoothing: float) -> None:
    """Raise ConfigError for sizes below 1 and for a label smoothing that is not a share."""
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} must be at least 1: found {size}")
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing must be in [0, 1): found {label_smoothing}")
