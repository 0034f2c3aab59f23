"""Retrieval of translations by states of an encoder, and by counts of subwords for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Tokenizer

ROWS = 64
"""Sentences of a batch, sorted by length."""


@dataclass(frozen=True)
class Pairs:
    """Translations of each other, line by line, each text once."""

    first: list[str]
    second: list[str]

    @property
    def even(self) -> slice:
        """The rows on which a layer is chosen; ``odd`` are those on which it is measured."""
        return slice(0, len(self.first), 2)

    @property
    def odd(self) -> slice:
        return slice(1, len(self.first), 2)


def read_pairs(first: Path, second: Path, most: int) -> Pairs:
    """Return the first ``most`` pairs of two files neither side of which was there before."""
    seen: tuple[set[str], set[str]] = (set(), set())
    sides: tuple[list[str], list[str]] = ([], [])
    lines = (path.read_text(encoding="utf-8").split("\n") for path in (first, second))
    for pair in zip(*lines, strict=True):
        if any(not line.strip() or line in own for line, own in zip(pair, seen, strict=True)):
            continue
        for line, own, side in zip(pair, seen, sides, strict=True):
            own.add(line)
            side.append(line)
        if len(sides[0]) == most:
            break
    return Pairs(*sides)


@torch.no_grad()
def sentence_states(model: PretrainedModel, lines: Sequence[str], language: str) -> list[Tensor]:
    """Return by layer, the embeddings first, the mean state of each line, float32 ``[N, D]``.

    The mean is over the tokens of the text, without the symbols at its ends; lines that do not fit
    the model's positions are cut there.
    """
    wide = model.transformer.config.max_positions - 2
    encoded = [np.array(model.tokenizer.encode(line)[:wide], np.int64) for line in lines]
    order = sorted(range(len(lines)), key=lambda at: len(encoded[at]))
    layers: list[list[Tensor]] = []
    for start in range(0, len(order), ROWS):
        own = order[start : start + ROWS]
        rows = [model.tokenizer.wrap(encoded[at], None, "xlm") for at in own]
        batch = model.batch_rows(rows, language)
        states = model.transformer.encode_layers(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
        )
        place = torch.arange(batch.tokens.shape[1])
        inside = (place > 0) & (place < batch.lengths[:, None] - 1)
        weights = inside.float() / inside.sum(1, keepdim=True).clamp(min=1)
        layers = layers or [[] for _ in states]
        for kept, state in zip(layers, states, strict=True):
            kept.append(torch.einsum("bt,btd->bd", weights, state.float()))
    back = torch.tensor(order).argsort()
    return [torch.cat(kept)[back] for kept in layers]


def piece_vectors(
    tokenizer: Tokenizer, first: Sequence[str], second: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return tf-idf vectors of two texts, float32 ``[N, V]``: counts × ln(N / lines with it)."""
    sides = [[tokenizer.encode(line) for line in lines] for lines in (first, second)]
    counts = torch.zeros(2, len(first), tokenizer.vocab_size)
    for side, lines in enumerate(sides):
        for at, ids in enumerate(lines):
            counts[side, at] += torch.bincount(
                torch.tensor(ids, dtype=torch.int64), minlength=tokenizer.vocab_size
            )
    documents = (counts > 0).sum((0, 1)).clamp(min=1)
    weighted = counts * torch.log(2 * len(first) / documents)
    return weighted[0], weighted[1]


def accuracy(first: Tensor, second: Tensor, *, center: bool = True) -> float:
    """Return the share of rows whose most similar row is their translation, mean of both ways.

    Cosine, of ``[N, D]`` each less its side's mean if ``center``; a tie shares the hit.
    """
    sides = [own - own.mean(0) if center else own for own in (first, second)]
    one, other = (functional.normalize(own, dim=1) for own in sides)
    similar = one @ other.T
    shares = []
    for own in (similar, similar.T):
        best = own.max(1, keepdim=True).values
        tied = own == best
        shares.append((tied.diagonal().float() / tied.sum(1)).mean())
    return float(torch.stack(shares).mean())


def best_layer(
    first: Sequence[Tensor], second: Sequence[Tensor], pairs: Pairs
) -> tuple[int, float]:
    """Return the layer with the best accuracy on even rows, and its accuracy on odd ones."""
    chosen = [
        accuracy(one[pairs.even], other[pairs.even])
        for one, other in zip(first, second, strict=True)
    ]
    layer = max(range(len(chosen)), key=lambda at: chosen[at])
    return layer, accuracy(first[layer][pairs.odd], second[layer][pairs.odd])
