"""Signs that a language's table has converged, measured on its held-out text.

    gain        nats of a unigram model less those of the model
    order       nats with the positions of each row permuted, less those without
    word order  the same with its words permuted, each word's pieces left together: the parts of
                words hold their order in every language, and more so the more pieces a word has
    likeness    Fréchet distance of each layer's states from those of a language that the body was
               trained on, over the trace of that language's covariance

Loss alone hardly tells a table that is aligned with the old one from one that is not; the states do
(Fréchet distance as in Heusel et al. 2017, section 3, in ``DIRECTIONS`` drawn directions).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.data.streams import Stream
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.text.tokenizers.word_marks import word_marks

DIRECTIONS = 64
"""Drawn directions that states are looked at in; all of them if a model is narrower."""
MOST_BATCHES = 16


@dataclass(frozen=True)
class States:
    """First and second moments of each layer's states, the embeddings first."""

    mean: NDArray[np.float64]
    """``[L + 1, K]``."""
    covariance: NDArray[np.float64]
    """``[L + 1, K, K]``."""


@dataclass(frozen=True)
class Signs:
    """Measurements of one pass over held-out text."""

    nats: float
    order: float
    gain: float | None
    """None without a unigram model."""
    states: States
    word_order: float | None = None
    """None in files of versions that did not measure it."""


@torch.no_grad()
def measure(
    model: Transformer,
    objective: Objective,
    stream: Stream,
    head: nn.Module | None = None,
    *,
    seed: int = 0,
    most_batches: int = MOST_BATCHES,
) -> Signs:
    """Return the signs of a stream's held-out text, on its first batches.

    ``model`` reads the stream's table already, and is in evaluation mode like the objective's
    ``head``.
    """
    device = next(model.parameters()).device
    directions = drawn_directions(model.config.dim).to(device)
    nats = permuted = of_words = unigram = targets = 0.0
    has_unigram = stream.unigram is not None
    moments = _Moments(model.config.num_layers + 1, directions.shape[1])
    batches: Iterable[Batch] = objective.evaluation_batches(stream, seed)
    for number, batch in enumerate(islice(batches, most_batches)):
        unigram += objective.baseline(stream, batch).get("unigram_nats", 0.0)
        moved = batch.to(device)
        nats += _nats(objective.loss(model, head, moved))
        mixed = replace(batch, positions=_permuted(batch, Random(seed, "order", stream.id, number)))
        permuted += _nats(objective.loss(model, head, mixed.to(device)))
        begins = _beginnings(batch, stream.tokenizer, causal=objective.causal)
        words = _permuted_words(batch, begins, Random(seed, "word order", stream.id, number))
        mixed = replace(batch, positions=words)
        of_words += _nats(objective.loss(model, head, mixed.to(device)))
        targets += batch.count
        moments.add(model, moved, directions, causal=objective.causal)
    targets = max(targets, 1.0)
    return Signs(
        nats=nats / targets,
        order=(permuted - nats) / targets,
        gain=(unigram - nats) / targets if has_unigram else None,
        states=moments.done(),
        word_order=(of_words - nats) / targets,
    )


def _nats(loss: Loss) -> float:
    """Return the nats of the predicted tokens alone."""
    return float(loss.scores.get("nats", loss.total))


def drawn_directions(dim: int) -> Tensor:
    """Return orthonormal directions ``[D, K]``, the same for every model of a width."""
    generator = torch.Generator().manual_seed(dim)
    drawn = torch.randn(dim, min(DIRECTIONS, dim), generator=generator, dtype=torch.float64)
    orthonormal: Tensor = torch.linalg.qr(drawn).Q
    return orthonormal.float()


def _permuted(batch: Batch, random: Random) -> Tensor:
    """Return the positions of each row in a drawn order; padding keeps its own."""
    positions = batch.positions.clone()
    for row, length in enumerate(batch.lengths.tolist()):
        order = np.argsort(random.uniform(length), kind="stable")
        positions[row, :length] = batch.positions[row, :length][torch.from_numpy(order)]
    return positions


def _beginnings(batch: Batch, tokenizer: Tokenizer, *, causal: bool) -> NDArray[np.bool_]:
    """Return whether a word begins at each cell, bool ``[B, T]``; a special token is one itself."""
    tokens = batch.tokens.clone()
    if not causal:  # the words that were there before they were masked
        given = batch.targets != IGNORED
        tokens.view(-1)[batch.predict[given]] = batch.targets[given]
    ids = tokens.numpy()
    special = np.isin(ids, sorted(tokenizer.special_ids))
    marks = word_marks(tokenizer)
    begins = np.stack([marks.begins(row) for row in ids]) | special
    begins[:, 1:] |= special[:, :-1]
    begins[:, 0] = True
    return begins


def _permuted_words(batch: Batch, begins: NDArray[np.bool_], random: Random) -> Tensor:
    """Return the positions of each row with its words in a drawn order; padding keeps its own."""
    positions = batch.positions.clone()
    for row, length in enumerate(batch.lengths.tolist()):
        word = np.cumsum(begins[row, :length]) - 1
        sizes = np.bincount(word)
        order = np.argsort(random.uniform(len(sizes)), kind="stable")
        moved = np.empty_like(sizes)
        moved[order] = np.cumsum(sizes[order]) - sizes[order]
        shift = moved - (np.cumsum(sizes) - sizes)
        places = torch.from_numpy(np.arange(length) + shift[word])
        positions[row, :length] = batch.positions[row, :length][places]
    return positions


class _Moments:
    def __init__(self, num_layers: int, num_directions: int) -> None:
        self.count = 0
        self.sums = np.zeros((num_layers, num_directions))
        self.products = np.zeros((num_layers, num_directions, num_directions))

    def add(self, model: Transformer, batch: Batch, directions: Tensor, *, causal: bool) -> None:
        layers = model.encode_layers(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments, causal=causal
        )
        columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        real = columns < batch.lengths[:, None]
        for number, states in enumerate(layers):
            seen = (states[real].to(directions) @ directions).double().cpu().numpy()
            self.sums[number] += seen.sum(0)
            self.products[number] += seen.T @ seen
        self.count += int(real.sum())

    def done(self) -> States:
        mean = self.sums / max(self.count, 1)
        squares = self.products / max(self.count, 1)
        return States(mean, squares - mean[:, :, None] * mean[:, None, :])


def unlikeness(states: States, reference: States) -> list[float]:
    """Return the Fréchet distance of each layer over the trace of the reference's covariance."""
    distances = []
    for layer in range(len(reference.mean)):
        one, other = reference.covariance[layer], states.covariance[layer]
        root = _root(one)
        shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0.0, None)).sum()
        apart = float(((states.mean[layer] - reference.mean[layer]) ** 2).sum())
        distance = apart + np.trace(one) + np.trace(other) - 2 * shared
        distances.append(float(max(distance, 0.0) / max(np.trace(one), 1e-12)))
    return distances


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    return root


def to_tensors(signs: Signs) -> dict[str, Tensor]:
    """Return the content of a reference file."""
    numbers: dict[str, Any] = {"nats": signs.nats, "order": signs.order}
    if signs.gain is not None:
        numbers["gain"] = signs.gain
    if signs.word_order is not None:
        numbers["word_order"] = signs.word_order
    return {
        "mean": torch.from_numpy(signs.states.mean),
        "covariance": torch.from_numpy(signs.states.covariance),
        **{name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()},
    }


def from_tensors(tensors: dict[str, Tensor]) -> Signs:
    """Return the signs in a reference file."""
    return Signs(
        nats=float(tensors["nats"]),
        order=float(tensors["order"]),
        gain=float(tensors["gain"]) if "gain" in tensors else None,
        states=States(tensors["mean"].numpy(), tensors["covariance"].numpy()),
        word_order=float(tensors["word_order"]) if "word_order" in tensors else None,
    )
