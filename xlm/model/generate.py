"""Generation: greedy, sampled and by beam search, with keys and values kept (docs/fidelity.md, B9).

    encode once -> CachedStack: one position a step -> hypotheses, best first

A hypothesis is ``</s> t </s>``, or opens with other ids that are given (tokens of languages). Its
score is the sum of its tokens' log-probabilities, the final ``</s>`` included and the opening ones
not, divided by their number to the power of ``length_penalty``. A hypothesis that reaches its row's
limit is closed there: the token chosen last counts in the score and is replaced by ``</s>``, as in
the original.

The result of a row depends on that row alone, up to rounding: limits are each row's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.model.cached import CachedStack, decoder_of
from xlm.model.transformer import Transformer

LOOK_EVERY = 8
"""Tokens between two looks for rows that have ended, on a GPU, which would wait for each."""
MOST_PENALTY = 50
"""The largest ``length_penalty``: the length of a text to its power must be a number."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Settings of the search for translations."""

    beam: int = 1
    """Number of hypotheses in the beam search; 1: always take the likeliest token (greedy)."""
    length_penalty: float = 1.0
    """Exponent of the length by which a hypothesis's score is divided; 0 favors short ones."""
    early_stopping: bool = False
    """Stop as soon as the number of finished hypotheses reaches the beam; false: when no running
    one can get better."""
    sample: bool = False
    """Draw each token instead of taking the likeliest."""
    temperature: float = 1.0
    """With sample: divide logits by this; below 1 favors likely tokens."""
    ratio: float = 1.5
    """A translation has at most ratio x the source's tokens + extra, end symbols counted in
    both."""
    extra: int = 10
    """See ratio; the original's evaluation uses 1.5 and 10, its back-translation 1.3 and 5."""

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ConfigError(f"beam must be at least 1: found {self.beam}")
        if self.sample and self.beam > 1:
            raise ConfigError(
                f"sample draws a single hypothesis: found beam {self.beam}, expected 1"
            )
        if not 0 <= self.length_penalty <= MOST_PENALTY:
            raise ConfigError(
                f"length_penalty is {self.length_penalty}: expected 0 to {MOST_PENALTY}"
            )
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature must be above 0: found {self.temperature}")
        if self.temperature != 1 and not self.sample:
            raise ConfigError(
                f"temperature {self.temperature} only applies with sample: set sample, or set "
                "temperature to 1"
            )
        if not 0 <= self.ratio < float("inf") or self.extra < 0 or self.ratio + self.extra == 0:
            raise ConfigError(
                f"ratio is {self.ratio} and extra is {self.extra}: expected numbers >= 0, at "
                "least one of them above 0"
            )

    def limits(self, lengths: Tensor, max_positions: int) -> Tensor:
        """Return the most tokens of each row's output (int64 ``[B]``).

        Both end symbols are included; further opening ids come on top.
        """
        wanted = torch.floor(lengths.double() * self.ratio + self.extra).long()
        return wanted.clamp(2, max_positions)

    def limit(self, length: int, max_positions: int) -> int:
        """Return ``limits`` of a single length, which is known to the CPU."""
        return min(max(math.floor(length * self.ratio + self.extra), 2), max_positions)


@dataclass(frozen=True)
class Generated:
    """``N`` hypotheses a row, best first."""

    tokens: Tensor
    """int64 ``[B, N, L]``: the opening ids first, ``</s>`` last, then padding."""
    lengths: Tensor
    """int64 ``[B, N]``, opening ids and end symbol counted; 0 if a row has fewer hypotheses."""
    scores: Tensor
    """float ``[B, N]``, descending; -inf for a missing hypothesis."""
    num_opening: int = 1
    """Number of opening ids."""

    def texts(self, row: int) -> list[list[int]]:
        """Return the ids of a row's hypotheses without opening ids and end symbol, best first."""
        return [
            tokens[self.num_opening : length - 1]
            for tokens, length in zip(
                self.tokens[row].tolist(), self.lengths[row].tolist(), strict=True
            )
            if length
        ]


@torch.no_grad()
def generate(
    model: Transformer,
    source: Batch,
    langs: Tensor,
    *,
    end_id: int,
    settings: Generation,
    limits: Tensor | None = None,
    largest: int | None = None,
    begin: Tensor | None = None,
) -> Generated:
    """Translate the rows of ``source`` into the languages ``langs`` (int64 ``[B]``).

    The model runs in evaluation mode and without gradient; its own mode is restored. ``N`` is
    ``settings.beam``. ``limits`` (int64 ``[B]``, at least 2) replaces those of the settings;
    ``largest`` is the largest limit, if it is known without waiting for the device.
    ``begin`` (int64 ``[B, K]``) are the ids that each row opens with, by default ``end_id`` alone:
    they are neither scored nor counted in a hypothesis's length, and limits grow by K - 1. Sampling
    draws from torch's default generator. Raises ConfigError for a model without decoder.
    """
    if model.decoder is None:
        raise ConfigError(
            "the model has no decoder, which translation needs: set "
            "model.num_decoder_layers above 0"
        )
    if limits is None:
        limits = settings.limits(source.lengths, model.config.max_positions)
    if begin is None:
        begin = torch.full((len(limits), 1), end_id, device=limits.device)
    with _evaluating(model):
        memory, lengths = model.remember(source)
        with model.decoder.gathered():
            decoder = decoder_of(model, memory, lengths, langs, settings.beam)
            search = _search_beam if settings.beam > 1 else _follow_one
            extra = begin.shape[1] - 1
            most = (int(limits.max()) if largest is None else largest) + extra
            return search(decoder, limits + extra, most, begin, end_id, settings)


@contextmanager
def _evaluating(model: Transformer) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class _Finished:
    """The best closed hypotheses of every row."""

    def __init__(
        self, limits: Tensor, most: int, num_kept: int, num_opening: int, pad_id: int, end_id: int
    ) -> None:
        size, device = (len(limits), num_kept), limits.device
        self._tokens = torch.full((*size, most), pad_id, device=device)
        self._lengths = torch.zeros(size, dtype=torch.int64, device=device)
        self.scores = torch.full(size, float("-inf"), dtype=torch.float64, device=device)
        self._pad_id, self._end_id, self._num_opening = pad_id, end_id, num_opening

    def add(self, rows: Tensor, tokens: Tensor, scores: Tensor) -> None:
        """Offer ``tokens`` ``[A, C, T]`` (without the final end symbol) with ``scores`` ``[A, C]``.

        ``rows`` (int64 ``[A]``) are those that they belong to; -inf marks an empty slot.
        """
        num_rows, num_offered, length = tokens.shape
        offered = self._tokens.new_full(
            (num_rows, num_offered, self._tokens.shape[2]), self._pad_id
        )
        offered[:, :, :length], offered[:, :, length] = tokens, self._end_id
        all_scores = torch.cat([self.scores[rows], scores.double()], dim=1)
        best, places = all_scores.topk(self.scores.shape[1])
        lengths = torch.full_like(scores, length + 1, dtype=torch.int64)
        self.scores[rows] = best
        self._lengths[rows] = torch.cat([self._lengths[rows], lengths], 1).gather(1, places)
        wide = places[:, :, None].expand(-1, -1, offered.shape[2])
        self._tokens[rows] = torch.cat([self._tokens[rows], offered], 1).gather(1, wide)

    def worst(self, rows: Tensor) -> Tensor:
        """Return the lowest kept score of each row (float64 ``[A]``); -inf until all are there."""
        return self.scores[rows, -1]

    def result(self) -> Generated:
        none = self.scores.isinf()
        lengths = self._lengths.masked_fill(none, 0)
        tokens = self._tokens.masked_fill(none[:, :, None], self._pad_id)
        return Generated(
            tokens[:, :, : int(lengths.max())], lengths, self.scores, self._num_opening
        )


def tokens_between_looks(device: torch.device) -> int:
    """Return after how many tokens greedy search looks for rows that have ended."""
    return LOOK_EVERY if device.type == "cuda" else 1


def _follow_one(
    decoder: CachedStack,
    limits: Tensor,
    most: int,
    begin: Tensor,
    end_id: int,
    settings: Generation,
) -> Generated:
    """Follow one hypothesis per row by the likeliest token, or a drawn one, at each step.

    Rows that have ended leave the batch when they are looked for, which waits for the device, as
    does the longest length at the end. ``most`` is the largest limit.
    """
    look_every = tokens_between_looks(limits.device)
    num_opening = begin.shape[1]
    tokens = begin.new_full((len(limits), most), decoder.pad_id)
    tokens[:, :num_opening] = begin
    lengths = torch.zeros_like(limits)
    scores = torch.full(limits.shape, float("-inf"), dtype=torch.float64, device=limits.device)
    rows, last = torch.arange(len(limits), device=limits.device), begin
    sums, running = torch.zeros_like(scores), torch.ones_like(limits, dtype=torch.bool)
    for length in range(num_opening, most):
        logits = decoder.step(last)
        if settings.sample:
            last = torch.multinomial((logits / settings.temperature).softmax(-1), 1)[:, 0]
        else:
            last = logits.argmax(-1)
        sums = sums + _log_probabilities(logits, last[:, None])[:, 0]
        closed = running & ((last == end_id) | (limits[rows] == length + 1))
        tokens[rows, length] = last.masked_fill(closed, end_id).where(running, tokens[rows, length])
        lengths[rows] = lengths[rows].masked_fill(closed, length + 1)
        mean = sums / (length - num_opening + 1) ** settings.length_penalty
        scores[rows] = mean.where(closed, scores[rows])
        running = running & ~closed
        if (length - num_opening + 1) % look_every == 0:
            going_on = running.nonzero()[:, 0]
            if len(going_on) == 0:
                break
            if len(going_on) < len(rows):
                decoder.follow(going_on, going_on)
                rows, running = rows[going_on], running[going_on]
                sums, last = sums[going_on], last[going_on]
    longest = int(lengths.max())
    return Generated(tokens[:, None, :longest], lengths[:, None], scores[:, None], num_opening)


def _search_beam(
    decoder: CachedStack,
    limits: Tensor,
    most: int,
    begin: Tensor,
    end_id: int,
    settings: Generation,
) -> Generated:
    """Run the original's beam search on all rows at once; finished rows leave the batch."""
    width, penalty, num_opening = settings.beam, settings.length_penalty, begin.shape[1]
    finished = _Finished(limits, most, width, num_opening, decoder.pad_id, end_id)
    rows = torch.arange(len(limits), device=limits.device)
    tokens = begin[:, None].repeat(1, width, 1)
    # all beams are alike at first: one of them lives
    sums = torch.full((len(rows), width), float("-inf"), dtype=torch.float64, device=limits.device)
    sums[:, 0] = 0.0
    while len(rows):
        length = tokens.shape[2]
        given = tokens.flatten(0, 1) if length == num_opening else tokens[:, :, -1].flatten()
        best, beams, words = _candidates(decoder.step(given), sums)
        # no hypothesis to come can be better than the best running sum over the longest length
        bound = best[:, 0] / (limits[rows] - num_opening).double() ** penalty
        worst = finished.worst(rows)
        done = worst.isfinite() if settings.early_stopping else worst >= bound
        at_limit = limits[rows] == length + 1
        ends = (words == end_id) | at_limit[:, None]
        # an end counts as long as fewer than ``width`` better candidates go on
        closed = ends & ((~ends).cumsum(1) < width) & ~done[:, None]
        if closed.any():
            num_scored = length - num_opening + 1
            scores = (best / num_scored**penalty).masked_fill(~closed, -torch.inf)
            finished.add(rows, _select_beams(tokens, beams), scores)
        going_on = (~(done | at_limit)).nonzero()[:, 0]
        narrower = going_on if len(going_on) < len(rows) else None
        sums, places = best.masked_fill(ends, -torch.inf)[going_on].topk(width)
        beams, words = beams[going_on].gather(1, places), words[going_on].gather(1, places)
        tokens = torch.cat([_select_beams(tokens[going_on], beams), words[:, :, None]], dim=2)
        decoder.follow((going_on[:, None] * width + beams).flatten(), narrower)
        rows = rows[going_on]
    return finished.result()


def _candidates(logits: Tensor, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best ``2 W`` continuations of each row's ``W`` hypotheses, best first.

    ``logits`` ``[A x W, V]``, ``sums`` ``[A, W]`` -> sums, beams and words, ``[A, C]`` each. Twice
    as many as beams, so that the beams live on even if all of them end.
    """
    num_rows, width = sums.shape
    words = logits.topk(min(2 * width, logits.shape[1])).indices
    totals = sums[:, :, None] + _log_probabilities(logits, words).view(num_rows, width, -1)
    best, places = totals.flatten(1).topk(min(2 * width, totals[0].numel()))
    chosen = words.view(num_rows, -1).gather(1, places)
    return best, places // words.shape[1], chosen


def _log_probabilities(logits: Tensor, words: Tensor) -> Tensor:
    """Return the log-probabilities of ``words`` (int64 ``[R, C]``) alone, in float64."""
    return logits.gather(1, words).double() - logits.logsumexp(-1, keepdim=True).double()


def _select_beams(tokens: Tensor, beams: Tensor) -> Tensor:
    """Select ``beams`` ``[A, C]`` of ``tokens`` ``[A, W, T]`` -> ``[A, C, T]``."""
    return tokens.gather(1, beams[:, :, None].expand(-1, -1, tokens.shape[2]))
