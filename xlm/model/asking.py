"""Shared parts of the uses of a language model: checks of the model, batches, checks for NaN.

``fill``, ``score`` and ``embed`` ask a model about texts, ``continuation`` lets it write.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import CheckpointError, ConfigError
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.layouts import LAYOUTS, TranslationLayout
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

CELLS = 2000
"""Tokens of a batch, padding included."""
NO_HEAD = "no head"
"""Key of ``extra`` for a model without an output onto the vocabulary; its exports have none."""
OBJECTIVES = "objectives"
"""Key of ``extra`` for the names of the objectives' classes that trained the model."""
LAYOUT, DIRECTIONS = "layout", "directions"
"""Keys of a translator's ``extra``: the layout of its rows (``xlm`` if it says none), and the
directions that it was trained on, such as ``en-hi``."""
CAUSAL = "causal"
"""Key of an imported model's ``extra``: True if it was trained to predict the next token."""

Kind = Literal["masked", "causal", "translator"]


class Askable(Protocol):
    """A model with all that its uses need, such as ``PretrainedModel``."""

    @property
    def transformer(self) -> Transformer:
        """The network."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""

    @property
    def languages(self) -> Mapping[str, int]:
        """The id of each language that it knows, by name."""

    @property
    def extra(self) -> dict[str, Any]:
        """The record of the model's origin."""

    @property
    def has_languages(self) -> bool:
        """True if a language must be named."""

    def language_id(self, language: str | None) -> int:
        """Return the language's row in the table; raise ConfigError if none."""

    def table_of(self, language: str | None) -> str:
        """Return the vocabulary of a language by name, "" for the model's own."""

    def reading(self, language: str | None) -> Askable:
        """Return the model as it reads a language of a vocabulary of its own; else itself."""

    def batch_rows(
        self,
        rows: Sequence[Wrapped],
        language: str | None = None,
        second_language: str | None = None,
    ) -> Batch:
        """Return rows that have their special tokens as a batch without targets."""


def kind_of(model: Askable) -> Kind:
    """Return the kind of the model; one without a record counts as masked.

    A model that was trained both ways is causal: of that kind scores are exact.
    """
    if model.transformer.decoder is not None:
        return "translator"
    names = trained_with(model)
    if any("Causal" in name for name in names) or (not names and model.extra.get(CAUSAL)):
        return "causal"
    return "masked"


def trained_with(model: Askable) -> list[str]:
    """Return the objectives that the model says it was trained with."""
    return [str(name) for name in model.extra.get(OBJECTIVES) or []]


def layout_of(model: Askable) -> TranslationLayout:
    """Return the layout that a translator was trained with; CheckpointError for an unknown one."""
    name = model.extra.get(LAYOUT, "xlm")
    if name not in LAYOUTS:
        raise CheckpointError(
            f"the model was trained with layout {name!r}, which this version does not know "
            f"(expected one of {', '.join(LAYOUTS)}): install a version of xlm-pretrain that "
            "does"
        )
    return LAYOUTS[name]


def checked_layout(model: Askable, source: str | None, target: str | None) -> TranslationLayout:
    """Return a translator's layout; raise ConfigError if it needs a token that is not there."""
    layout = layout_of(model)
    if not layout.has_tokens:
        return layout
    needed = {"source": source, "target": target} if layout.names_source else {"target": target}
    for side, language in needed.items():
        if language is None:
            raise ConfigError(
                f"{side}: tokens tell this model which language to write (layout "
                f"{layout.name}): name one of {', '.join(model.tokenizer.language_tokens)}"
            )
    layout.check(model.tokenizer, map(str, needed.values()))
    return layout


def with_apart(
    model: Askable, batch: Batch, layout: TranslationLayout, target: str | None
) -> Batch:
    """Return an encoder's rows with the row that the layout reads apart, if it has one."""
    row = layout.apart_row(model.tokenizer, target or "")
    return batch if row is None else replace(batch, source=model.batch_rows([row], target))


def check_output_layer(model: Askable, expected: str) -> None:
    """Raise ConfigError for a model that came without an output onto the vocabulary."""
    if model.extra.get(NO_HEAD):
        raise ConfigError(f"the model has no output layer, so it cannot predict tokens: {expected}")


def check_masked(model: Askable) -> None:
    """Raise ConfigError if the model is known not to predict masked tokens.

    Weights do not say by which objective they were trained: a model of unknown origin passes.
    """
    expected = "expected a model that was trained with MaskedLM"
    if model.transformer.decoder is not None:
        raise ConfigError(f"the model has a decoder, so it translates: {expected}")
    check_output_layer(model, expected)
    names = trained_with(model)
    if names and all("Causal" in name for name in names):
        raise ConfigError(
            f"the model was trained with {', '.join(names)} alone, so it cannot see what "
            f"follows a mask: {expected}"
        )
    if not names and model.extra.get(CAUSAL):
        raise ConfigError(f"the model is causal, so it cannot see what follows a mask: {expected}")


def check_causal(model: Askable) -> None:
    """Raise ConfigError if the model is known not to predict the next token."""
    expected = "expected a model that was trained with CausalLM"
    if model.transformer.decoder is not None:
        raise ConfigError(
            f"the model has a decoder, so it translates: {expected}, or ask it for translations"
        )
    check_output_layer(model, expected)
    names = trained_with(model)
    if names and not any("Causal" in name for name in names):
        raise ConfigError(
            f"the model was trained with {', '.join(names)}, so it never learned to predict "
            f"the next token: {expected}, or let it fill masks"
        )
    kind = model.extra.get("model_type")
    if not names and (model.extra.get(CAUSAL) is False or kind is not None):
        raise ConfigError(
            f"the model is masked ({kind or 'as its config says'}), so it never learned to "
            f"predict the next token: {expected}, or let it fill masks"
        )


def read_as(model: Askable, language: str | None, second: str | None = None) -> Askable:
    """Return the model as it reads a language, and beside it a ``second`` of the same vocabulary.

    Raises ConfigError for a language that the model does not know, and for two vocabularies.
    """
    if second is not None and model.table_of(second) != model.table_of(language):
        raise ConfigError(
            f"{language} and {second} have separate vocabularies, and a row can only use "
            "one: give two languages that share a vocabulary"
        )
    return model.reading(language)


def check_beside(model: Askable, setting: str, language: str | None) -> None:
    """Raise ConfigError, which names the setting, for a language of the sentences beside lines.

    None is one only for a model that makes no difference between languages.
    """
    try:
        model.language_id(language)
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from None


def check_whole_numbers(**values: int) -> None:
    """Raise ConfigError for a number below 1."""
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}: expected 1 or more")


def batches_by_length(
    lengths: Sequence[int], tokens: int, padding: int | None = None
) -> Iterator[list[int]]:
    """Yield rows of like length together, the longest first, in at most ``tokens`` cells.

    ``lengths`` are those of the rows; a row of length 0 is in no batch, a longer one than
    ``tokens`` in one by itself. With ``padding`` a batch ends before more of its cells are padding.
    """
    order = sorted((at for at, own in enumerate(lengths) if own), key=lambda at: -lengths[at])
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        end = start + max(tokens // longest, 1)
        if padding is not None:
            filled = accumulate(longest - lengths[at] for at in order[start:end])
            end = start + bisect_right(list(filled), padding)
        yield order[start:end]
        start = end


@contextmanager
def evaluating(transformer: Transformer) -> Iterator[None]:
    """Put a model into evaluation mode, without gradients, while the block lasts."""
    was_training = transformer.training
    transformer.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        transformer.train(was_training)


def device_of(model: Askable) -> torch.device:
    """Return the device that holds the model's weights."""
    return next(model.transformer.parameters()).device


def widened(logits: Tensor) -> Tensor:
    """Return scores in float32 if they are in less."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def refuse_not_a_number(model: Askable, place: str) -> CheckpointError:
    """Return the error for scores that are not numbers: the line, and the tensor that is to blame.

    ``place`` names the line, such as ``line 3``.
    """
    for name, tensor in model.transformer.state_dict().items():
        if not bool(tensor.isfinite().all()):
            cause = f"the model's tensor {name} holds values that are not numbers: take another"
            break
    else:
        if torch.is_autocast_enabled(device_of(model).type):
            cause = "the model's weights are too large for this precision: try bf16 or fp32"
        else:
            cause = "the model's weights are numbers, but their sums overflow: take another"
    return CheckpointError(f"the scores for {place} are not finite: {cause}")


def places_of(places: Sequence[str] | None, number: int, noun: str = "line") -> Sequence[str]:
    """Return ``places``, or ``line 1`` and so on if there are none."""
    return places or [f"{noun} {at}" for at in range(1, number + 1)]


def cut_ids(ids: Sequence[int], most: int) -> tuple[Ids, bool]:
    """Return the first ``most`` ids, and whether there were more."""
    return np.array(ids[:most], dtype=np.int64), len(ids) > most
