"""The best span of an extractive answer, over all windows of a text.

text of n subwords --subword_windows--> start and end logits each --best_answer--> span
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.tasks.windows import SubwordWindow, best_windows


@dataclass(frozen=True, slots=True)
class Answer:
    """The best span over all windows of one text."""

    score: float
    """Sum of its start and end logits; -inf if no span was possible."""
    first: int
    """The first subword, counted in the text; -1 if no span was possible."""
    last: int
    """The last subword, included."""
    null_score: float
    """The score of having no answer: the least over the windows; -inf if none was given."""

    def is_null(self, threshold: float = 0.0) -> bool:
        """Apply SQuAD v2's rule: no answer if its score leads by more than ``threshold``."""
        return self.first < 0 or self.null_score - self.score > threshold


def best_answer(
    starts: Sequence[ArrayLike],
    ends: Sequence[ArrayLike],
    stretches: Sequence[SubwordWindow],
    *,
    max_length: int = 30,
    null_scores: Sequence[float] = (),
    most_context: bool = True,
) -> Answer:
    """Return the span with the greatest start + end logit, of at most ``max_length`` subwords.

    ``starts[w]``, ``ends[w]`` float ``[length]`` are the logits of window w's subwords of the text
    (not those of the question or of special tokens). A span lies in one window; with
    ``most_context`` it begins in the window that is the best for its first subword, as in BERT's
    script. ``null_scores`` ``[windows]`` are the logits of having no answer (start + end at the
    first token). Of equal spans the earliest, and the shorter, wins. Raises ConfigError for a
    ``max_length`` below 1, DataError if lengths differ, TrainingError for NaN.
    """
    if max_length < 1:
        raise ConfigError(f"max_length must be at least 1: found {max_length}")
    if not len(starts) == len(ends) == len(stretches) or len(null_scores) not in (
        0,
        len(stretches),
    ):
        raise DataError(
            f"logits of {len(starts)} starts, {len(ends)} ends and {len(null_scores)} nulls "
            f"for {len(stretches)} windows: expected one of each per window"
        )
    num_subwords = max((first + length for first, length in stretches), default=0)
    owner = best_windows(stretches, num_subwords)
    best = (-np.inf, -1, -1)
    for index, window in enumerate(stretches):
        start, end = _logits(starts[index], window), _logits(ends[index], window)
        if most_context:
            own = owner[window.first : window.first + window.length] == index
            start = np.where(own, start, -np.inf)
        score, first, last = _best_span(start, end, max_length)
        found = (score, window.first + first, window.first + last)
        if first >= 0 and (score, -found[1], -found[2]) > (best[0], -best[1], -best[2]):
            best = found
    null = float(min(null_scores)) if len(null_scores) else float("-inf")
    if np.isnan(null):
        raise TrainingError(
            "the score of having no answer is NaN: the model diverged; lower its learning rate"
        )
    return Answer(float(best[0]), best[1], best[2], null)


def _logits(values: ArrayLike, window: SubwordWindow) -> NDArray[np.float64]:
    logits = np.asarray(values, dtype=np.float64)
    if logits.shape != (window.length,):
        raise DataError(f"{logits.size} logits for a window of {window.length} subwords")
    if np.isnan(logits).any():
        raise TrainingError(
            "answer logits contain NaN: the model diverged; lower its learning rate"
        )
    return logits


def _best_span(
    start: NDArray[np.float64], end: NDArray[np.float64], max_length: int
) -> tuple[float, int, int]:
    """Return score, first and last of the best span; -1 if all are -inf."""
    num = len(start)
    most = min(max_length, num)
    sums = np.full((num, most), -np.inf)
    for more in range(most):
        sums[: num - more, more] = start[: num - more] + end[more:]
    if not sums.size or np.isneginf(sums.max()):
        return -np.inf, -1, -1
    first, more = divmod(int(sums.argmax()), most)
    return float(sums[first, more]), first, first + more
