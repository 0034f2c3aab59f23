"""Text written by a causal language model: prompts continued, in batches by length.

prompts --encoded--> rows --padded before, read together--> CachedStack --token by token--> texts

Prompts of a batch are padded before their beginning, so that all end in one column. Positions count
from a prompt's own beginning and padding is never seen: a row depends on itself, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.errors import ConfigError
from xlm.model.asking import (
    Askable,
    check_causal,
    check_whole_numbers,
    device_of,
    evaluating,
    places_of,
    read_as,
    refuse_not_a_number,
)
from xlm.model.cached import CachedStack
from xlm.model.generate import MOST_PENALTY
from xlm.rng import Random
from xlm.text.line_jobs import check_lines
from xlm.text.normalize import normalize

ROWS = 64
"""Prompts that are continued together."""
PADDING = 0.3
"""Largest share of padding in a batch of prompts."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Settings of a causal model's continuations."""

    length: int = 50
    """Largest number of new subwords; there are fewer if the model ends the text or runs out of
    positions."""
    sample: bool = False
    """Draw each subword instead of taking the likeliest."""
    temperature: float = 1.0
    """With sample: divide logits by this; below 1 favors likely subwords."""
    top_k: int = 0
    """With sample: draw from this many of the most probable subwords (0: all)."""
    top_p: float = 1.0
    """With sample: draw from the fewest most probable subwords that have this share together
    (nucleus sampling, Holtzman et al. 2020)."""
    repetition_penalty: float = 1.0
    """Above 1: make subwords that already occur in the text less likely: positive logits are
    divided, negative ones multiplied by it (CTRL, Keskar et al. 2019, section 4.1); special tokens
    are left alone."""
    beam: int = 1
    """Number of hypotheses in the beam search; 1: greedy."""
    length_penalty: float = 1.0
    """Exponent of the number of added subwords by which a hypothesis's score is divided."""
    early_stopping: bool = False
    """Stop when the number of finished hypotheses reaches the beam; false: when no running one
    looks better."""

    def __post_init__(self) -> None:
        check_whole_numbers(length=self.length, beam=self.beam)
        if self.sample and self.beam > 1:
            raise ConfigError(f"sample draws a single text: found beam {self.beam}, expected 1")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}: expected 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}: expected a share above 0, at most 1")
        for name in ("temperature", "repetition_penalty"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}: expected a number above 0")
        if not 0 <= self.length_penalty <= MOST_PENALTY:
            raise ConfigError(
                f"length_penalty is {self.length_penalty}: expected 0 to {MOST_PENALTY}"
            )
        for name, default in (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0)):
            if not self.sample and getattr(self, name) != default:
                raise ConfigError(
                    f"{name} {getattr(self, name)} only applies with sample: set sample, or "
                    f"leave {name} out"
                )


class Written(NamedTuple):
    """The continuation of a prompt."""

    text: str
    """The prompt with the added text."""
    score: float
    """The sum of the log-probabilities of the added text, the end symbol included; of a beam's text
    over its length to the power of ``length_penalty``."""
    num_tokens: int
    """Subwords that were added, the end symbol included."""
    has_ended: bool
    """True if the model ended the text."""
    is_cut: bool
    """True if the prompt was too long, so that its beginning was not read."""


class _Row(NamedTuple):
    """A prompt as tokens, the begin symbol first, and how to continue it."""

    tokens: NDArray[np.int64]
    limit: int
    """Tokens of the whole text at most."""
    number: int
    """The address of its random numbers."""
    is_cut: bool


class _Ended(NamedTuple):
    """The tokens that were added to a row, and their score."""

    added: list[int]
    score: float


Show = Callable[[list[int]], None]
"""A function that is given the new text of the first row so far."""


def write(
    model: Askable,
    prompts: Sequence[str],
    language: str | None = None,
    settings: Writing | None = None,
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    rows: int = ROWS,
    places: Sequence[str] | None = None,
    show: Callable[[str], None] | None = None,
) -> list[Written]:
    """Return each prompt continued, in their order; an empty one is written from nothing.

    A prompt that leaves no room for ``settings.length`` subwords within the model's positions is
    cut at its beginning, to half of them at least. Random numbers are addressed by ``seed`` and
    the number of the prompt (``numbers``; None: 1 and so on), not by its batch.
    ``rows`` prompts are continued together. ``show`` is given, for a single prompt without a beam,
    the text so far.

    Raises ConfigError for a model that is known not to be causal, or a language that is missing or
    unknown; CheckpointError, which names the prompt (``places``) and the tensor, for scores that
    are not numbers.
    """
    settings = settings or Writing()
    check_lines("prompts", prompts)
    check_causal(model)
    model = read_as(model, language)
    check_whole_numbers(rows=rows)
    places = places_of(places, len(prompts), "prompt")
    lang_id = model.language_id(language)
    prompts = list(map(model.tokenizer.in_language(language).normalize, prompts))
    numbers = numbers or range(1, len(prompts) + 1)
    own = [_row(model, prompt, settings, at) for prompt, at in zip(prompts, numbers, strict=True)]
    found: list[Written] = [Written("", 0.0, 0, False, False)] * len(prompts)

    def shown(added: list[int]) -> None:
        if show is not None:
            show(_joined(model, prompts[0], own[0], added))

    search = _search_beam if settings.beam > 1 else _follow_one
    with evaluating(model.transformer):
        for group in _batches(own, rows):
            batch = [own[at] for at in group]
            langs = torch.full((len(batch),), lang_id, device=device_of(model))
            ended = search(model, batch, langs, settings, seed, shown)
            for at, one in zip(group, ended, strict=True):
                if one.score != one.score:
                    raise refuse_not_a_number(model, places[at])
                has_ended = one.added[-1:] == [model.tokenizer.end_id]
                text = _joined(model, prompts[at], own[at], one.added)
                found[at] = Written(text, one.score, len(one.added), has_ended, own[at].is_cut)
    return found


def _row(model: Askable, prompt: str, settings: Writing, number: int) -> _Row:
    positions = model.transformer.config.max_positions
    added = min(settings.length, max(positions // 2, 1))
    ids = model.tokenizer.encode(normalize(prompt))
    kept = ids[max(len(ids) - (positions - 1 - added), 0) :]
    tokens = np.array([model.tokenizer.begin_id, *kept], dtype=np.int64)
    limit = min(len(tokens) + settings.length, positions)
    return _Row(tokens, limit, number, len(kept) < len(ids))


def _joined(model: Askable, prompt: str, row: _Row, added: list[int]) -> str:
    """Return the prompt with the added text, which may continue its last word."""
    tokenizer, begun = model.tokenizer, row.tokens[1:].tolist()
    before, whole = tokenizer.decode(begun), tokenizer.decode([*begun, *added])
    if whole.startswith(before):
        whole = normalize(prompt) + whole[len(before) :]
    return normalize(whole)


def _batches(own: Sequence[_Row], most: int) -> Iterator[list[int]]:
    """Yield batches of at most ``most`` rows of like length."""
    lengths = [len(row.tokens) for row in own]
    batch: list[int] = []
    for at in sorted(range(len(own)), key=lengths.__getitem__):
        num_real = sum(lengths[other] for other in batch) + lengths[at]
        num_cells = (len(batch) + 1) * lengths[at]
        if len(batch) == most or num_real < (1 - PADDING) * num_cells:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


class _Begun(NamedTuple):
    """A batch of prompts that were read."""

    stack: CachedStack
    logits: Tensor
    """Of the tokens after the prompts, ``[B, V]``."""
    tokens: Tensor
    """int64 ``[B, L]``, the prompts in the first columns, and room for the added tokens."""
    at: int
    """The column behind the prompts."""
    limits: Tensor
    """int64 ``[B]``, the column that each text ends before."""


def _begin(model: Askable, batch: Sequence[_Row], langs: Tensor) -> _Begun:
    """Read prompts together, each padded before its beginning."""
    most = max(len(row.tokens) for row in batch)
    before = torch.tensor([most - len(row.tokens) for row in batch])
    limits = before + torch.tensor([row.limit for row in batch])
    tokens = torch.full((len(batch), int(limits.max())), model.tokenizer.begin_id)
    for own, row in zip(tokens, batch, strict=True):
        own[most - len(row.tokens) : most] = torch.from_numpy(row.tokens)
    tokens, offsets = tokens.to(langs.device), before.to(langs.device)
    is_padded = bool(before.any())
    stack = CachedStack(model.transformer.encoder, langs, offsets=offsets if is_padded else None)
    logits = stack.step(tokens[:, :most])
    return _Begun(stack, logits, tokens, most, limits.to(langs.device))


def _follow_one(
    model: Askable,
    batch: Sequence[_Row],
    langs: Tensor,
    settings: Writing,
    seed: int,
    show: Show,
) -> list[_Ended]:
    """Continue one text per row by the likeliest token, or a drawn one, at each step."""
    end_id = model.tokenizer.end_id
    stack, logits, tokens, begun, limits = _begin(model, batch, langs)
    uniform = torch.zeros(0)
    if settings.sample:
        room = tokens.shape[1] - begun
        draws = [Random(seed, "write", row.number).uniform(room) for row in batch]
        uniform = torch.from_numpy(np.stack(draws)).to(langs.device)
    at, rows = begun, torch.arange(len(batch), device=langs.device)
    sums = torch.zeros(len(batch), dtype=torch.float64, device=langs.device)
    found: list[_Ended] = [_Ended([], 0.0)] * len(batch)
    while True:
        own = _penalized(model, logits, tokens[rows, :at], settings.repetition_penalty)
        if settings.sample:
            chosen = draw(probabilities(own, settings), uniform[rows, at - begun])
        else:
            chosen = own.argmax(-1)
        nats = logits.logsumexp(-1).double() - logits.gather(1, chosen[:, None])[:, 0].double()
        sums = sums - nats
        tokens[rows, at] = chosen
        at += 1
        if len(batch) == 1:
            show(tokens[0, begun:at].tolist())
        done = (chosen == end_id) | (limits[rows] <= at)
        if bool(done.any()):
            for row, score in zip(rows[done].tolist(), sums[done].tolist(), strict=True):
                found[row] = _Ended(tokens[row, begun:at].tolist(), score)
            left = (~done).nonzero()[:, 0]
            if not len(left):
                return found
            stack.follow(left, left)
            rows, sums, chosen = rows[left], sums[left], chosen[left]
        logits = stack.step(chosen)


def _penalized(model: Askable, scores: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Return logits or log-probabilities ``[R, V]``, those of ``tokens`` ``[R, T]`` made less."""
    if penalty == 1.0:
        return scores
    seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, tokens, True)
    seen[:, sorted(model.tokenizer.special_ids)] = False
    lower = torch.where(scores > 0, scores / penalty, scores * penalty)
    return torch.where(seen, lower, scores)


def probabilities(logits: Tensor, settings: Writing) -> Tensor:
    """Return the probabilities ``[R, V]`` that tokens are drawn with, float64."""
    # the largest becomes 0, so that no temperature makes it infinite
    scores = (logits.double() - logits.amax(-1, keepdim=True)) / settings.temperature
    if 0 < settings.top_k < scores.shape[1]:
        least = scores.topk(settings.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    shares = scores.softmax(-1)
    if settings.top_p < 1:
        ordered, places = shares.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.zeros_like(shares, dtype=torch.bool)
        kept.scatter_(1, places, before < settings.top_p)
        shares = shares.masked_fill(~kept, 0.0)
        shares = shares / shares.sum(-1, keepdim=True)
    return shares


def draw(shares: Tensor, uniform: Tensor) -> Tensor:
    """Return the id ``[R]`` on which each of ``uniform`` ``[R]``, in [0, 1), falls."""
    steps = shares.cumsum(-1)
    places = torch.searchsorted(steps, (uniform * steps[:, -1])[:, None], right=True)[:, 0]
    return places.clamp(max=shares.shape[1] - 1)


class _Hypotheses:
    """The best finished hypotheses of each row, ``W`` of them; -inf marks an empty slot."""

    def __init__(self, num_rows: int, width: int, length: int, device: torch.device) -> None:
        self.scores = torch.full(
            (num_rows, width), float("-inf"), dtype=torch.float64, device=device
        )
        self.tokens = torch.zeros(num_rows, width, length, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(num_rows, width, dtype=torch.int64, device=device)

    def add(self, rows: Tensor, tokens: Tensor, scores: Tensor, length: int) -> None:
        """Offer ``tokens`` ``[A, C, L]`` of ``length`` with ``scores`` ``[A, C]``."""
        offered = torch.cat([self.scores[rows], scores], 1)
        best, places = offered.topk(self.scores.shape[1])
        lengths = torch.cat([self.lengths[rows], torch.full_like(scores, length).long()], 1)
        wide = places[:, :, None].expand(-1, -1, tokens.shape[2])
        self.tokens[rows] = torch.cat([self.tokens[rows], tokens], 1).gather(1, wide)
        self.scores[rows], self.lengths[rows] = best, lengths.gather(1, places)


def _search_beam(
    model: Askable,
    batch: Sequence[_Row],
    langs: Tensor,
    settings: Writing,
    seed: int,
    show: Show,
) -> list[_Ended]:
    """Run beam search with the rules of transformers' ``generate``."""
    width, device, end_id = settings.beam, langs.device, model.tokenizer.end_id
    stack, logits, start, begun, limits = _begin(model, batch, langs)
    at, rows = begun, torch.arange(len(batch), device=device)
    tokens = start[:, None].repeat(1, width, 1)
    sums = torch.full((len(batch), width), float("-inf"), dtype=torch.float64, device=device)
    sums[:, 0] = 0.0  # all are alike at first: one of them lives
    finished = _Hypotheses(len(batch), width, tokens.shape[2], device)
    stack.widen(width)
    logits = logits.repeat_interleave(width, 0)
    while True:
        logs = logits.log_softmax(-1)
        is_number = logs.isfinite().all(1).view(len(rows), width).all(1)
        if not bool(is_number.all()):
            bad = set(rows[~is_number].tolist())
            return [_Ended([], float("nan") if at in bad else 0.0) for at in range(len(batch))]
        own = _penalized(model, logs, tokens[:, :, :at].flatten(0, 1), settings.repetition_penalty)
        totals = sums[:, :, None] + own.double().view(len(rows), width, -1)
        best, places = totals.flatten(1).topk(min(2 * width, totals[0].numel()))
        beams, words = places // totals.shape[2], places % totals.shape[2]
        grown = tokens.gather(1, beams[:, :, None].expand(-1, -1, tokens.shape[2]))
        grown[:, :, at] = words
        at += 1
        closed = (words == end_id) | (limits[rows] <= at)[:, None]
        # of those that end only the best ``width`` count; the rest are there to go on with
        ends = closed & (torch.arange(closed.shape[1], device=device) < width)
        scores = (best / (at - begun) ** settings.length_penalty).masked_fill(~ends, -torch.inf)
        finished.add(rows, grown, scores, at)
        sums, kept = best.masked_fill(closed, -torch.inf).topk(width)
        tokens = grown.gather(1, kept[:, :, None].expand(-1, -1, grown.shape[2]))
        worst = finished.scores[rows, -1]
        hoped = sums[:, 0] / (at - begun) ** settings.length_penalty
        is_full = worst > -torch.inf
        done = (limits[rows] <= at) | (is_full & (settings.early_stopping | (hoped <= worst)))
        left = (~done).nonzero()[:, 0]
        if not len(left):
            break
        going_on = left[:, None] * width + beams.gather(1, kept)[left]
        chosen = words.gather(1, kept)[left].flatten()
        stack.follow(going_on.flatten(), left if len(left) < len(rows) else None)
        rows, sums, tokens = rows[left], sums[left], tokens[left]
        logits = stack.step(chosen)
    found = zip(finished.tokens[:, 0], finished.lengths[:, 0], finished.scores[:, 0], strict=True)
    return [_Ended(own[begun : int(end)].tolist(), float(score)) for own, end, score in found]
