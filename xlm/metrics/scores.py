"""Metrics as sums that add: across batches, ranks and streams. Ratios are taken when printed.

The language-model units follow one convention (docs/evaluation.md): a word is a piece of the
normalized text between whitespace; the end symbol's nats are in every sum, and each line end counts
as one word, one character and one byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HIGHER_IS_BETTER = frozenset(
    "accuracy bleu chrf exact f1 gain_accuracy gain_nats gap_accuracy gap_nats in_language las "
    "las_all macro_f1 matthews mrr ndcg next_accuracy pearson precision precision_at_1 recall "
    "retrieval_at_1 spearman tokenized_bleu uas uas_all".split()
)
"""Figures that are better when higher; any other one that may be watched is better when lower."""


def rises(metric: str) -> bool:
    """Return whether a higher figure is better; ``f1.PER`` is the F1 of one kind."""
    return metric.partition(".")[0] in HIGHER_IS_BETTER


class Scores(Mapping[str, float]):
    """Named sums; ``a + b`` adds name by name, with 0 for a missing name."""

    def __init__(self, sums: Mapping[str, float] | None = None):
        self._sums = dict(sums or {})

    def __getitem__(self, name: str) -> float:
        return self._sums[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)

    def __add__(self, other: Mapping[str, float]) -> Scores:
        return Scores({n: self.get(n, 0.0) + other.get(n, 0.0) for n in {**self, **other}})

    def __repr__(self) -> str:
        return f"Scores({self._sums})"


@dataclass(frozen=True)
class TextSize:
    """The size of one text in every unit; line ends are counted in each (see the module).

    Words, characters and bytes are 0 if they are unknown (ids that came without text).
    """

    sentences: int
    tokens: int
    """Number of subwords, the end symbols included."""
    words: int
    characters: int
    bytes: int

    def __add__(self, other: TextSize) -> TextSize:
        return TextSize(
            self.sentences + other.sentences,
            self.tokens + other.tokens,
            self.words + other.words,
            self.characters + other.characters,
            self.bytes + other.bytes,
        )


def perplexity(nats: float) -> float:
    """Return exp(nats), or infinity instead of an overflow error."""
    return math.exp(nats) if nats < 700 else math.inf


def language_model_figures(scores: Mapping[str, float], text: TextSize | None) -> dict[str, float]:
    """Return every unit of one text's language-model loss.

    ``scores`` holds the sums ``nats``, ``targets``, ``correct``. The mean over the predicted
    subwords represents all of them: per word it is exp(nats per subword x subwords per word), which
    for a causal model (each subword predicted once) is exactly total nats / words. With
    ``unigram_nats`` in the sums, the unigram model's perplexity on the same cells is given too.
    Without ``text`` only the figures per subword are.
    """
    targets = scores["targets"]
    if targets <= 0:
        return {}
    nats = scores["nats"] / targets
    figures = {"nats": nats, "perplexity": perplexity(nats)}
    if text is not None:
        total = nats * text.tokens
        if text.words:
            figures["word_perplexity"] = perplexity(total / text.words)
        if text.characters:
            figures["bits_per_character"] = total / text.characters / math.log(2)
        if text.bytes:
            figures["bits_per_byte"] = total / text.bytes / math.log(2)
    figures["accuracy"] = scores["correct"] / targets
    figures["targets"] = targets
    if "unigram_nats" in scores:
        figures["unigram_perplexity"] = perplexity(scores["unigram_nats"] / targets)
    return figures
