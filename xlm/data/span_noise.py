"""Noise of infilling: sentences change places, spans of words become one mask each.

The noise of BART and mBART (Lewis et al. 2020, section 2.2; Liu et al. 2020, section 2.1), with as
many hidden words as are asked for (docs/fidelity.md, "Infilling").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Ids


@dataclass(frozen=True)
class SpanNoise:
    """The amounts of noise; raises ConfigError for an invalid one."""

    permute: float
    """Probability of putting the sentences of a block into a random order."""
    share: float
    """Share of a block's words that are hidden, rounded up to whole words."""
    mean_length: float
    """Mean number of words in a span, which is drawn from a Poisson distribution."""

    def __post_init__(self) -> None:
        for name in ("permute", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1]: found {getattr(self, name)}")
        if not 1 <= self.mean_length <= 100:
            raise ConfigError(f"mean_length must be from 1 to 100 words: found {self.mean_length}")

    def permuted(self, block: Ids, end_id: int, random: Random) -> Ids:
        """Return the block with its sentences, which end symbols part, in another order."""
        borders = np.flatnonzero(block == end_id)
        if not len(borders) or random.uniform(1)[0] >= self.permute:
            return block
        sentences = np.split(block, borders)
        sentences[1:] = [sentence[1:] for sentence in sentences[1:]]
        end = np.array([end_id])
        order = np.argsort(random.uniform(len(sentences)), kind="stable").tolist()
        parts = [part for place in order for part in (sentences[place], end)]
        return np.concatenate(parts[:-1]).astype(np.int64)

    def hidden(
        self, block: Ids, begins: NDArray[np.bool_], end_id: int, mask_id: int, random: Random
    ) -> Ids:
        """Return the block with spans of words hidden.

        ``begins`` (bool, of the block's shape) is True for the first piece of each word. Exactly
        ``ceil(share x words)`` words go. The lengths of spans are drawn until they suffice, and the
        last one is cut. Each span becomes one mask, one without words is a mask between two words.
        Spans do not overlap, and every arrangement of them among the words that stay is equally
        likely. End symbols stay: a span that continues into the next sentence has the end symbol
        after its mask.
        """
        num_words = int(begins.sum())
        num_hidden = math.ceil(self.share * num_words - 1e-9)
        lengths = self.lengths(num_hidden, random)
        num_spans = len(lengths)
        # Spans, and words that stay, in the order in which they will stand.
        sizes = np.ones(num_words - num_hidden + num_spans, dtype=np.int64)
        places = np.argsort(random.uniform(len(sizes)), kind="stable")[:num_spans]
        sizes[places] = lengths
        is_span = np.zeros(len(sizes), dtype=bool)
        is_span[places] = True
        hides_word = np.repeat(is_span, sizes)
        before = (np.cumsum(sizes) - sizes)[is_span]  # words before each span

        is_end = block == end_id
        kept = is_end | ~np.append(hides_word, False)[np.cumsum(begins) - 1]
        starts = np.append(np.flatnonzero(begins), len(block))
        tokens = np.insert(block, starts[before], mask_id)
        return np.asarray(tokens[np.insert(kept, starts[before], True)])

    def lengths(self, num_words: int, random: Random) -> NDArray[np.int64]:
        """Draw lengths of spans (int64) that hold ``num_words`` words; the last one is cut."""
        drawn = np.zeros(0, dtype=np.int64)
        probabilities = poisson(self.mean_length)
        while drawn.sum() < num_words:
            more = random.choice(probabilities, int(num_words / self.mean_length) + 8)
            drawn = np.concatenate([drawn, more])
        totals = np.cumsum(drawn)
        num = int(np.searchsorted(totals, num_words)) + 1 if num_words else 0
        drawn = drawn[:num].copy()
        if num:
            drawn[-1] -= totals[num - 1] - num_words
        return drawn


def poisson(mean: float) -> NDArray[np.float64]:
    """Return the Poisson probabilities of 0, 1, ... up to where the rest is below 1e-16."""
    counts = np.arange(int(mean + 12 * math.sqrt(mean)) + 12)
    logarithms = np.array([math.lgamma(count + 1) for count in counts.tolist()])
    return np.asarray(np.exp(counts * math.log(mean) - mean - logarithms), dtype=np.float64)
