"""Vectors of pieces by skip-gram with negative sampling (Mikolov et al. 2013), on a line's ids.

    ids of lines -> pairs (piece, piece near it) -> vectors [V, D]

Frequent pieces are dropped at random and windows are cut at random, as in word2vec. A batch of
pairs shares its negatives, so that it is two products of matrices; each counts as a share of the
``negatives`` that a pair would have had of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xlm.config.hints import check_types
from xlm.errors import ConfigError
from xlm.rng import Random, key

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

_SHARED = 256
"""Negatives that a batch shares."""
_LINES = 2_000
"""Lines whose pairs are shuffled together."""
_UPDATES, _FEWEST, _MOST = 2_000, 128, 8_192
"""Updates of an epoch, and the bounds of the batch that follows from them."""
_UNIGRAM_POWER = 0.75
"""Power of the counts by which negatives are drawn (Mikolov et al. 2013, section 2.2)."""


@dataclass(frozen=True, kw_only=True)
class SkipGram:
    """Settings of the vectors."""

    dim: int = 100
    """Width (FOCUS: 100)."""
    window: int = 5
    """Largest distance between the two pieces of a pair."""
    negatives: int = 5
    """Random pieces drawn for each true neighbor."""
    epochs: int = 3
    """Passes over the lines (FOCUS: 3)."""
    min_count: int = 10
    """Pieces that occur less often get no vector (FOCUS: 10)."""
    subsample: float = 1e-3
    """Relative frequency above which occurrences are dropped at random."""
    learning_rate: float = 1e-2
    """Learning rate of Adam, which falls linearly to zero."""
    batch: int | None = None
    """Pairs in an update (null: the number of pieces times the window, divided by 2,000, but at
    least 128 and at most 8,192; so a small text still gets many updates)."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("dim", "window", "negatives", "epochs", "min_count", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: expected at least 1")
        for name in ("subsample", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected a number above 0")


def learn_vectors(
    lines: Sequence[Ids], vocab_size: int, settings: SkipGram | None = None, *, seed: int = 0
) -> Vectors:
    """Return float32 ``[V, D]``, rows of zeros for pieces of fewer than ``min_count`` occurrences.

    ``lines`` hold ids (int64 ``[T]``) without special tokens. The same lines and seed give the same
    vectors, up to the order of sums on the device.
    """
    settings = settings or SkipGram()
    counts = np.zeros(vocab_size, dtype=np.int64)
    for line in lines:
        counts += np.bincount(line, minlength=vocab_size)
    frequent = counts >= settings.min_count
    vectors = np.zeros((vocab_size, settings.dim), dtype=np.float32)
    if frequent.sum() < 2:
        return vectors
    place = np.cumsum(frequent) - 1
    kept = [place[line[frequent[line]]] for line in lines]
    vectors[frequent] = _Learning(kept, counts[frequent], settings, seed).run()
    return vectors


class _Learning:
    """Two tables, of centers and of contexts, over the frequent pieces alone."""

    def __init__(self, lines: list[Ids], counts: Ids, settings: SkipGram, seed: int):
        self.lines, self.settings, self.seed = lines, settings, seed
        share = counts / counts.sum()
        # word2vec's: sqrt(t / f) + t / f
        ratio = settings.subsample / share
        self.keep = np.minimum(np.sqrt(ratio) + ratio, 1.0)
        raised = counts**_UNIGRAM_POWER
        self.drawn = raised / raised.sum()
        generator = torch.Generator().manual_seed(key(seed, "vectors", "first"))
        size = (len(counts), settings.dim)
        own = int(counts.sum()) * settings.window // _UPDATES
        self.batch = settings.batch or min(max(own, _FEWEST), _MOST)
        self.centers = (torch.rand(size, generator=generator) - 0.5) / settings.dim
        self.contexts = torch.zeros(size)

    def run(self) -> Vectors:
        """Return the centers after every epoch."""
        tables = [self.centers.requires_grad_(), self.contexts.requires_grad_()]
        optimizer = torch.optim.Adam(tables, lr=self.settings.learning_rate, fused=True)
        blocks = range(0, len(self.lines), _LINES)
        num_blocks, done = len(blocks) * self.settings.epochs, 0
        for epoch in range(self.settings.epochs):
            for start in blocks:
                random = Random(self.seed, "vectors", epoch, start)
                for group in optimizer.param_groups:
                    group["lr"] = self.settings.learning_rate * (1 - done / num_blocks)
                pairs = self._pairs(self.lines[start : start + _LINES], random)
                for at in range(0, pairs.shape[1], self.batch):
                    centers, contexts = pairs[:, at : at + self.batch]
                    negatives = random.choice(self.drawn, _SHARED)
                    optimizer.zero_grad(set_to_none=True)
                    loss = self._loss(*map(torch.from_numpy, (centers, contexts, negatives)))
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                done += 1
        return np.asarray(self.centers.detach().numpy())

    def _pairs(self, lines: list[Ids], random: Random) -> Ids:
        """Return int64 ``[2, N]``: pieces and their neighbors, shuffled."""
        ids = np.concatenate([np.zeros(0, dtype=np.int64), *lines])
        row = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
        kept = random.uniform(len(ids)) < self.keep[ids]
        ids, row = ids[kept], row[kept]
        reach = 1 + random.integers(len(ids), self.settings.window)
        found = []
        for distance in range(1, self.settings.window + 1):
            same = row[distance:] == row[:-distance]
            left, right = ids[:-distance], ids[distance:]
            for centers, contexts, own in (
                (left, right, reach[:-distance]),
                (right, left, reach[distance:]),
            ):
                chosen = same & (own >= distance)
                found.append(np.stack([centers[chosen], contexts[chosen]]))
        pairs = np.concatenate(found, axis=1)
        return pairs[:, np.argsort(random.uniform(pairs.shape[1]))]

    def _loss(self, centers: Tensor, contexts: Tensor, negatives: Tensor) -> Tensor:
        own = self.centers[centers]
        true = (own * self.contexts[contexts]).sum(1)
        drawn = own @ self.contexts[negatives].T
        share = self.settings.negatives / len(negatives)
        # a mean, whose gradient Adam brings to scale
        return -(F.logsigmoid(true).sum() + share * F.logsigmoid(-drawn).sum()) / len(centers)
