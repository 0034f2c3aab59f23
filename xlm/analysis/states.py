"""States of sentences and words, layer by layer: 0 is the embeddings, l the output of layer l.

lines --normalize, encode, cut--> rows --by length, encode_layers--> cells --pool--> [N, D] a layer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.freed_memory import freed_memory_returned
from xlm.model.asking import CAUSAL, batches_by_length, device_of, trained_with
from xlm.model.pooling import Pooling, pool
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

States = NDArray[np.float32]
WINDOW = 10_000
"""Number of lines that are sorted by length together."""
_ENCODED = 500
"""Number of lines that are encoded together."""
_PADDING = 64
"""Cells of padding that take a CPU as long as one more batch does: it measured 50 for four layers
of 128."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The method that turns the states of a sentence into one vector."""

    pooling: Pooling = "mean"
    """The vector: the mean or the maximum of the sentence's cells, or its first hidden state."""
    specials: bool = False
    """True if the special tokens around the sentence count among its cells, as they do in XTREME
    and sentence-transformers. Those written in the text itself always count."""
    tokens: int = 4000
    """Cells of a batch, padding included."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(f"tokens is {self.tokens}: expected 1 or more")


class Words(NamedTuple):
    """A sentence of words as pieces."""

    ids: Ids
    """int64 ``[n]``, without special tokens."""
    word: NDArray[np.int64]
    """The word of each piece, ascending, ``[n]``."""


def most_padding(device: torch.device) -> int | None:
    """Return the padding at which the next batch begins; None on devices that run batches alike."""
    return _PADDING if device.type == "cpu" else None


def is_causal(model: PretrainedModel) -> bool:
    """Return whether all known objectives of the model are causal."""
    names = trained_with(model)
    return all("Causal" in name for name in names) if names else bool(model.extra.get(CAUSAL))


def num_layers(model: PretrainedModel) -> int:
    """Return the number of layers of states in the encoder, the embeddings included."""
    return model.transformer.config.num_layers + 1


def longest(model: PretrainedModel) -> int:
    """Return the number of pieces of a sentence that fit the model's positions."""
    return model.transformer.config.max_positions - model.tokenizer.num_specials("xlm", pair=False)


def encode_lines(
    model: PretrainedModel, lines: Sequence[str], language: str | None = None
) -> tuple[list[Ids], int]:
    """Return the ids of each line, normalized and cut at the model's positions.

    Also returns the number of lines that were cut.
    """
    model = model.reading(language)
    most, tokenizer = longest(model), model.tokenizer.in_language(language)
    rows: list[Ids] = []
    num_cut = 0
    for start in range(0, len(lines), _ENCODED):  # lists of ids take several times their arrays
        encoded = normalized_ids(tokenizer, lines[start : start + _ENCODED])
        rows += [np.array(ids[:most], dtype=np.int64) for ids in encoded]
        num_cut += sum(len(ids) > most for ids in encoded)
    return rows, num_cut


def normalized_ids(tokenizer: Tokenizer, lines: Sequence[str]) -> list[list[int]]:
    """Return the ids of lines of any text, without special tokens."""
    return tokenizer.encode_lines([tokenizer.normalize(line) for line in lines])


def encode_words(tokenizer: Tokenizer, words: Sequence[str]) -> Words:
    """Return the pieces of ``words`` joined by spaces, each with the word that it begins in.

    Words are normalized; one that becomes empty has no piece.
    """
    line, ends = "", []
    for word in map(tokenizer.normalize, words):
        line += (" " if line and word else "") + word
        ends.append(len(line))
    ids, spans = tokenizer.encode_spans(line) if line else ([], [])
    starts = [first + len(line[first:end]) - len(line[first:end].lstrip()) for first, end in spans]
    own = np.searchsorted(np.array(ends), np.array(starts, dtype=np.int64), side="right")
    return Words(np.array(ids, dtype=np.int64), np.minimum(own, max(len(words) - 1, 0)))


def layer_batches(
    model: PretrainedModel, rows: Sequence[Ids], language: str | None, *, tokens: int
) -> Iterator[tuple[list[int], Tensor, list[Tensor]]]:
    """Yield batches of rows of similar length: row numbers, lengths ``[B]``, states by layer.

    Rows get their special tokens here; states are float32 ``[B, T, D]`` on the model's device.
    Raises CheckpointError, which names the layer, for states that are not numbers.
    """
    model = model.reading(language)
    num_specials = model.tokenizer.num_specials("xlm", pair=False)
    lengths = [num_specials + len(row) for row in rows]

    def wrapped(at: int) -> Wrapped:
        return model.tokenizer.wrap(rows[at])

    return _batches(model, lengths, wrapped, (language, None), tokens)


def wrapped_batches(
    model: PretrainedModel,
    rows: Sequence[Wrapped],
    language: str | None,
    second_language: str | None = None,
    *,
    tokens: int,
) -> Iterator[tuple[list[int], Tensor, list[Tensor]]]:
    """Yield batches as ``layer_batches`` does, from rows that have their special tokens."""
    lengths = [len(row.tokens) for row in rows]
    languages = language, second_language
    return _batches(model.reading(language), lengths, rows.__getitem__, languages, tokens)


@torch.inference_mode()
def _batches(
    model: PretrainedModel,
    lengths: Sequence[int],
    row: Callable[[int], Wrapped],
    languages: tuple[str | None, str | None],
    tokens: int,
) -> Iterator[tuple[list[int], Tensor, list[Tensor]]]:
    """Yield batches of the rows of these lengths, each made when its batch is."""
    device, causal = device_of(model), is_causal(model)
    for own in batches_by_length(lengths, tokens, most_padding(device)):
        batch = model.batch_rows([row(at) for at in own], *languages).to(device)
        layers = [
            states.float()
            for states in model.transformer.encode_layers(
                batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments,
                causal=causal,
            )
        ]  # fmt: skip
        if not bool(layers[-1].isfinite().all()):  # a layer passes on what is not a number
            layer = next(at for at, own in enumerate(layers) if not bool(own.isfinite().all()))
            raise CheckpointError(
                f"{model.source}: states of layer {layer} are not finite: the weights "
                "are damaged, or overflowed in training"
            )
        yield own, batch.lengths, layers


def sentence_states(
    model: PretrainedModel,
    lines: Sequence[str],
    language: str | None = None,
    reading: Reading | None = None,
    *,
    folder: Path | None = None,
    on_cut: Callable[[int], None] | None = None,
) -> list[States]:
    """Return for each layer one vector for each line, float32 ``[N, D]``.

    Lines that do not fit the model's positions are cut there, and ``on_cut`` is given their number,
    window by window; the mean and the maximum of an empty line are 0. With ``folder`` the arrays
    are mapped files there, so that memory does not grow with the lines. Raises ConfigError for a
    language that the model does not know.
    """
    reading = reading or Reading()
    shape = (len(lines), model.transformer.config.dim)
    layers = [_array(folder, layer, shape) for layer in range(num_layers(model))]
    with nullcontext() if folder is None else freed_memory_returned():
        for start in range(0, len(lines), WINDOW):
            rows, num_cut = encode_lines(model, lines[start : start + WINDOW], language)
            if num_cut and on_cut is not None:
                on_cut(num_cut)
            batches = layer_batches(model, rows, language, tokens=reading.tokens)
            _fill([layer[start : start + WINDOW] for layer in layers], model, batches, reading)
            del rows, batches  # a window's memory is free before the next one is read
    return layers


def row_states(
    model: PretrainedModel,
    rows: Sequence[Wrapped],
    language: str | None = None,
    reading: Reading | None = None,
) -> list[States]:
    """Return ``sentence_states`` of sentences that have their special tokens and fit the model."""
    reading = reading or Reading()
    shape = (len(rows), model.transformer.config.dim)
    layers = [_array(None, layer, shape) for layer in range(num_layers(model))]
    batches = wrapped_batches(model, rows, language, tokens=reading.tokens)
    _fill(layers, model, batches, reading)
    return layers


def _fill(
    layers: Sequence[States],
    model: PretrainedModel,
    batches: Iterator[tuple[list[int], Tensor, list[Tensor]]],
    reading: Reading,
) -> None:
    """Put the vector of each row of the batches into each layer's array ``[N, D]``."""
    num_specials = model.tokenizer.num_specials("xlm", pair=False)
    for own, lengths, states in batches:
        empty = (lengths <= num_specials)[:, None]
        for kept, layer in zip(layers, states, strict=True):
            ends = 0 if reading.specials else 1
            pooled = pool(layer, lengths, reading.pooling, ends=ends, double=True)
            if reading.pooling != "first":
                pooled = pooled.masked_fill(empty, 0.0)
            kept[own] = pooled.cpu().numpy()


def _array(folder: Path | None, layer: int, shape: tuple[int, int]) -> States:
    if folder is None or not shape[0]:
        return np.zeros(shape, dtype=np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    made: States = np.lib.format.open_memmap(
        folder / f"layer-{layer}.npy", mode="w+", dtype=np.float32, shape=shape
    )
    return made


def piece_states(
    model: PretrainedModel, rows: Sequence[Ids], language: str | None = None, *, tokens: int = 4000
) -> list[States]:
    """Return for each row the states of its pieces in all layers, float32 ``[L + 1, n, D]``.

    Rows are ids without special tokens that fit the model's positions.
    """
    found: list[States] = [np.zeros(0, dtype=np.float32)] * len(rows)
    for own, _, layers in layer_batches(model, rows, language, tokens=tokens):
        stacked = torch.stack(layers, 1).cpu().numpy()
        for at, states in zip(own, stacked, strict=True):
            found[at] = states[:, 1 : 1 + len(rows[at])].copy()
    return found


def word_states(
    states: States, word: NDArray[np.int64], reduce: Literal["mean", "first"] = "mean"
) -> tuple[States, NDArray[np.int64]]:
    """Return the states ``[L + 1, W, D]`` of the words that have pieces, and their indices.

    ``states`` ``[L + 1, n, D]`` are those of pieces, ``word`` ``[n]`` the word of each, ascending.
    """
    there, first, sizes = np.unique(word, return_index=True, return_counts=True)
    if reduce == "first":
        return states[:, first], there
    sums = np.add.reduceat(states, first, axis=1, dtype=np.float64)
    return (sums / sizes[:, None]).astype(np.float32), there


def table_vectors(
    model: PretrainedModel, words: Sequence[str], language: str | None = None
) -> tuple[States, NDArray[np.bool_]]:
    """Return the mean of the word table's rows for the pieces of each word, ``[N, D]``.

    The second array ``[N]`` is False for words that have an unknown piece or become empty.
    """
    model = model.reading(language)
    table = model.transformer.encoder.words.weight.detach().float().cpu().numpy()
    vectors = np.zeros((len(words), table.shape[1]), dtype=np.float32)
    usable = np.zeros(len(words), dtype=bool)
    encoded = normalized_ids(model.tokenizer.in_language(language), words)
    for at, ids in zip(count(), encoded, strict=False):
        if ids and model.tokenizer.unk_id not in ids:
            vectors[at] = table[ids].mean(0, dtype=np.float64)
            usable[at] = True
    return vectors, usable
