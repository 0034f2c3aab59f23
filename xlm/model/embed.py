"""One vector for each line: the states of a layer pooled over its tokens, in batches by length.

lines --normalized, encoded, cut--> rows, by length --batches--> states of a layer --pool--> [N, D]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.errors import ConfigError
from xlm.model.asking import (
    CELLS,
    Askable,
    batches_by_length,
    check_whole_numbers,
    cut_ids,
    device_of,
    evaluating,
    kind_of,
    places_of,
    read_as,
    refuse_not_a_number,
    widened,
)
from xlm.model.pooling import Pooling, pool
from xlm.text.line_jobs import check_lines
from xlm.text.tokenizers.tokenizer import Wrapped

EMBEDDING = "embedding"
"""Key of ``extra`` for the settings of vectors of a model from sentence-transformers."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Settings that turn a line into a vector; None: the model's own."""

    layer: int | None = None
    """Layer whose states are used; 0 is the embeddings (None: the last)."""
    pooling: Pooling | None = None
    """mean, max or first, over all tokens of a line, the special ones included (None: mean)."""
    normalize: bool | None = None
    """Bring each vector to length 1 (None: true)."""
    length: int | None = None
    """Tokens of a line that are read, special ones included (None: the model's positions)."""

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in get_args(Pooling):
            expected = ", ".join(get_args(Pooling))
            raise ConfigError(f"pooling is {self.pooling!r}: expected one of {expected}")
        if self.length is not None and self.length < 3:
            raise ConfigError(f"length is {self.length}: expected at least 3 tokens")

    def settled(self, model: Askable) -> Embedding:
        """Return the settings that hold for a model; raise ConfigError for a layer it lacks."""
        said: Mapping[str, Any] = model.extra.get(EMBEDDING) or {}
        config = model.transformer.config
        layer = config.num_layers if self.layer is None else self.layer
        if not 0 <= layer <= config.num_layers:
            raise ConfigError(
                f"layer is {layer}: expected 0 (the embeddings) to {config.num_layers}, the last"
            )
        longest = config.max_positions
        length = self.length or int(said.get("length") or longest)
        normalizes = self.normalize
        return Embedding(
            layer=layer,
            pooling=self.pooling or said.get("pooling") or "mean",
            normalize=said.get("normalize", True) is True if normalizes is None else normalizes,
            length=min(length, longest),
        )


class Embedded(NamedTuple):
    """The vectors of lines."""

    vectors: NDArray[np.float32]
    """``[N, D]``; zeros for a line without text."""
    num_cut: int
    """Lines that were cut, as they were longer than ``length``."""


def embed(
    model: Askable,
    lines: Sequence[str],
    language: str | None = None,
    settings: Embedding | None = None,
    *,
    tokens: int = CELLS,
    places: Sequence[str] | None = None,
) -> Embedded:
    """Return a vector for each line, in their order.

    Translators are read by their encoder, causal models from left to right. ``tokens`` are the
    cells of a batch, ``places`` the names of the lines in errors (None: line 1 and so on).

    Raises ConfigError for a layer that the model lacks, a language that is missing or unknown;
    CheckpointError, which names the line and the tensor, for vectors that are not numbers.
    """
    check_lines("lines", lines)
    check_whole_numbers(tokens=tokens)
    model = read_as(model, language)
    settings = (settings or Embedding()).settled(model)
    model.language_id(language)
    places = places_of(places, len(lines))
    assert settings.length is not None
    most = settings.length - model.tokenizer.num_specials("xlm", pair=False)
    texts = list(map(model.tokenizer.in_language(language).normalize, lines))
    encoded = model.tokenizer.encode_lines(texts)
    cut = [cut_ids(ids, most) for ids in encoded]
    rows = [model.tokenizer.wrap(ids) for ids, _ in cut]
    lengths = [len(row.tokens) if text else 0 for row, text in zip(rows, texts, strict=True)]
    vectors = np.zeros((len(lines), model.transformer.config.dim), dtype=np.float32)
    for numbers in batches_by_length(lengths, tokens):
        found = _pooled(model, [rows[at] for at in numbers], language, settings)
        is_number = found.isfinite().all(1)
        if not bool(is_number.all()):
            bad = numbers[int((~is_number).nonzero()[0])]
            raise refuse_not_a_number(model, places[bad])
        vectors[numbers] = found.float().cpu().numpy()
    return Embedded(vectors, sum(is_cut for _, is_cut in cut))


def _pooled(
    model: Askable, rows: list[Wrapped], language: str | None, settings: Embedding
) -> Tensor:
    """Return the vectors ``[B, D]`` of rows."""
    transformer, causal = model.transformer, kind_of(model) == "causal"
    batch = model.batch_rows(rows, language).to(device_of(model))
    given = (batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments)
    assert settings.pooling is not None and settings.layer is not None
    with evaluating(transformer):
        if settings.layer == transformer.config.num_layers:
            states = transformer.encode(*given, causal=causal)
        else:
            states = transformer.encode_layers(*given, causal=causal)[settings.layer]
        found = pool(widened(states), batch.lengths, settings.pooling)
        if settings.normalize:
            found = torch.nn.functional.normalize(found, dim=-1)
        return found
