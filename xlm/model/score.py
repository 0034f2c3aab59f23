"""Lines scored by a model: nats of each, exactly or by pseudo-log-likelihood, in batches by length.

causal       log p(token | those before it), the end symbol included
masked       log p(token | all others), each token masked once (Salazar et al. 2020, section 2.1)
translators  log p(token | source, those before it)

A longer line than the model's positions is read in windows that overlap by half, each token scored
once, a quarter of a window in sight on either side (causal: half of one before it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.metrics.scores import perplexity
from xlm.model.asking import (
    CELLS,
    Askable,
    Kind,
    batches_by_length,
    check_beside,
    check_output_layer,
    check_whole_numbers,
    checked_layout,
    device_of,
    evaluating,
    kind_of,
    layout_of,
    places_of,
    read_as,
    refuse_not_a_number,
    widened,
    with_apart,
)
from xlm.text.line_jobs import check_lines
from xlm.text.tokenizers.tokenizer import Ids, Wrapped

Nats = NDArray[np.float64]
Languages = tuple[str | None, str | None]
"""Languages of the lines, and of the sentences they are conditioned on."""


class LineScore(NamedTuple):
    """The nats of a line and its size in every unit; all 0 for a line without text.

    With the end symbol scored, the line end counts as a word, a character and a byte, as in
    ``xlm evaluate``, so that sums over lines are those of a text.
    """

    nats: float = 0.0
    """The sum over the line's subwords."""
    subwords: int = 0
    words: int = 0
    characters: int = 0
    bytes: int = 0
    """Number of bytes in UTF-8."""

    @property
    def nats_per_subword(self) -> float:
        """The mean nats of a subword; NaN for a line without text, as in the other units."""
        return self.nats / self.subwords if self.subwords else math.nan

    @property
    def perplexity(self) -> float:
        """exp(nats) per subword."""
        return perplexity(self.nats_per_subword) if self.subwords else math.nan

    @property
    def word_perplexity(self) -> float:
        """exp(nats) per word."""
        return perplexity(self.nats / self.words) if self.words else math.nan

    @property
    def bits_per_character(self) -> float:
        """Bits over characters."""
        return self.nats / self.characters / math.log(2) if self.characters else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits over bytes of UTF-8."""
        return self.nats / self.bytes / math.log(2) if self.bytes else math.nan


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Settings of scoring."""

    language: str | None = None
    """Language of the lines that are scored."""
    source_language: str | None = None
    """Language of the sentences that the lines are conditioned on (``sources``)."""
    kind: Kind | None = None
    """masked, causal or translator; None: as the model says."""
    ends: bool | None = None
    """Score the end symbol of each line too; None: of causal models and translators, not of masked
    ones, as in mlm-scoring (Salazar et al. 2020)."""
    folds: int | None = None
    """Masked models: mask every n-th token at once, so that a line is read n times at most; None:
    one token at a time, the pseudo-log-likelihood."""
    layout: str | None = None
    """Masked and causal models given a sentence beside: as in ``Tokenizer.wrap``; None: ``tlm``,
    of tokenizers that are not XLM's ``merged``."""

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in get_args(Kind):
            expected = ", ".join(get_args(Kind))
            raise ConfigError(f"kind is {self.kind!r}: expected one of {expected}")
        if self.folds is not None and self.folds < 1:
            raise ConfigError(f"folds is {self.folds}: expected 1 or more")


class _Part(NamedTuple):
    """A window of a line: its row, and the places of the row that are scored."""

    line: int
    row: Wrapped
    cells: Ids
    source: Wrapped | None = None


def score(
    model: Askable,
    lines: Sequence[str],
    settings: Scoring | None = None,
    *,
    sources: Sequence[str] | None = None,
    tokens: int = CELLS,
    places: Sequence[str] | None = None,
) -> list[LineScore]:
    """Return the score of each line, in their order.

    ``sources`` condition the lines: the sentences a translator translates, or the first
    sentences of pairs (TLM). ``tokens`` are the cells of a batch, ``places`` the names of the lines
    in errors (None: line 1 and so on).

    Raises ConfigError for a model that cannot predict tokens or is of another kind, a translator
    without sources, a pair longer than the model's positions, or a language that is missing or
    unknown; CheckpointError, which names line and tensor, for scores that are not numbers.
    """
    settings = settings or Scoring()
    model = read_as(model, settings.language, settings.source_language)
    check_lines("lines", lines)
    check_whole_numbers(tokens=tokens)
    kind = check_scoring(model, settings, given_sources=sources is not None)
    if sources is not None:
        check_lines("sources", sources)
        if len(sources) != len(lines):
            raise ConfigError(f"{len(sources)} sources for {len(lines)} lines: give one for each")
    places = places_of(places, len(lines))
    ends = kind != "masked" if settings.ends is None else settings.ends
    languages = (settings.language, settings.source_language or settings.language)
    tokenizer, of_source = (model.tokenizer.in_language(own) for own in languages)
    texts = list(map(tokenizer.normalize, lines))
    parts: list[_Part] = []
    for number, text in enumerate(texts):
        if text:
            source = None if sources is None else of_source.normalize(sources[number])
            cut = _Cutter(model, kind, ends, settings.layout, places[number], languages)
            own = cut.parts(text, source)
            parts += [part._replace(line=number) for part in own if len(part.cells)]
    ask = _Masked(settings.folds) if kind == "masked" else _Causal()
    totals, counts = np.zeros(len(lines)), np.zeros(len(lines), dtype=np.int64)
    for line, nats in ask.scored(model, parts, languages, tokens):
        if not np.isfinite(nats).all():
            raise refuse_not_a_number(model, places[line])
        totals[line] += nats.sum()
        counts[line] += len(nats)
    sized = zip(texts, totals.tolist(), counts.tolist(), strict=True)
    return [_sized(text, nats, count, int(ends)) for text, nats, count in sized]


def _sized(text: str, nats: float, subwords: int, end: int) -> LineScore:
    if not text:
        return LineScore()
    words, num_bytes = len(text.split(" ")), len(text.encode())
    return LineScore(nats, subwords, words + end, len(text) + end, num_bytes + end)


def check_scoring(model: Askable, settings: Scoring, *, given_sources: bool) -> Kind:
    """Return the kind of model that lines are scored by; raise ConfigError if that cannot be."""
    kind = settings.kind or kind_of(model)
    check_output_layer(model, "expected a language model or a translator")
    has_decoder = model.transformer.decoder is not None
    if (kind == "translator") != has_decoder:
        found = "has a decoder, so it is a translator" if has_decoder else "has no decoder"
        raise ConfigError(f"kind is {kind}, but the model {found}: leave kind out")
    if kind == "translator" and not given_sources:
        raise ConfigError(
            "the model is a translator, which scores a translation given its source: give "
            "the sources too (xlm score: set pairs to true, and give a source, a tab and "
            "its translation on each line)"
        )
    if kind != "masked" and settings.folds is not None:
        raise ConfigError(f"folds is {settings.folds}, but the model is not masked: leave it out")
    model.language_id(settings.language)
    if given_sources:
        check_beside(model, "source_language", settings.source_language)
    if kind == "translator":
        checked_layout(model, settings.source_language or settings.language, settings.language)
    return kind


class _Cutter:
    """A cutter of lines into windows to read; raises ConfigError for pairs that do not fit."""

    def __init__(
        self,
        model: Askable,
        kind: Kind,
        ends: bool,
        layout: str | None,
        place: str,
        languages: Languages,
    ) -> None:
        self.tokenizer, self.kind, self.ends, self.place = model.tokenizer, kind, ends, place
        self.most = model.transformer.config.max_positions
        is_xlm = self.tokenizer.begin_id == self.tokenizer.end_id
        self.layout = layout or ("tlm" if is_xlm else "merged")
        self.translation = layout_of(model)
        self.target, self.source = (language or "" for language in languages)

    def parts(self, text: str, source: str | None) -> list[_Part]:
        """Return the windows of a normalized line, as of line 0."""
        ids = self._ids(text)
        if source is None:
            if self.kind == "masked":
                return self._windows(ids)
            return self._causal_windows(self.tokenizer.wrap(ids), 1)
        if self.kind == "translator":
            first, layout = self._ids(source)[: self.most - 2], self.translation
            given = layout.source_row(self.tokenizer, first, self.source, self.target)
            row = layout.target_row(self.tokenizer, ids, self.target)
            windows = self._causal_windows(row, layout.num_opening)
            return [part._replace(source=given) for part in windows]
        row = self.tokenizer.wrap(self._ids(source), ids, self.layout)
        if len(row.tokens) > self.most:
            raise ConfigError(
                f"{self.place}: the pair is {len(row.tokens)} tokens long, special ones included: "
                f"expected at most {self.most}, the model's positions; shorten it"
            )
        end = len(row.tokens) - 1
        return [_Part(0, row, np.arange(end - len(ids), end + self.ends))]

    def _ids(self, text: str) -> Ids:
        return np.array(self.tokenizer.encode(text), dtype=np.int64)

    def _windows(self, ids: Ids) -> list[_Part]:
        """Return windows that are each wrapped as a line; a token is scored in the most central."""
        width, num = self.most - 2, len(ids)
        if num <= width:
            return [_Part(0, self.tokenizer.wrap(ids), np.arange(1, 1 + num + self.ends))]
        step, found, found_end = max(width // 2, 1), list[_Part](), 0
        margin = (width - step) // 2
        for start in range(0, num - width + step, step):
            start = min(start, num - width)
            first, is_last = found_end, start == num - width
            found_end = num if is_last else start + margin + step
            row = self.tokenizer.wrap(ids[start : start + width])
            end = found_end - start + 1 + (self.ends and is_last)
            found.append(_Part(0, row, np.arange(first - start + 1, end)))
        return found

    def _causal_windows(self, row: Wrapped, scored: int) -> list[_Part]:
        """Return windows of the running row from ``scored`` on; half of a later one is context."""
        num = len(row.tokens) - 1 + self.ends  # the tokens that are read as input or scored
        width, found = self.most + 1, list[_Part]()
        step = max(self.most // 2, 1)
        for start in range(0, max(num - width + step, 1), step):
            end = min(start + width, num)
            length = end - start
            part = Wrapped(row.tokens[start:end], row.positions[:length], row.segments[:length])
            found.append(_Part(0, part, np.arange(scored - start, length)))
            scored = end
        return found


Scored = Iterator[tuple[int, Nats]]
"""A line's number and the nats of some of its tokens, as parts are read."""


class _Masked:
    """A reader of each row, once per scored token or ``folds`` times at most."""

    def __init__(self, folds: int | None) -> None:
        self.folds = folds

    def scored(
        self, model: Askable, parts: list[_Part], languages: Languages, tokens: int
    ) -> Scored:
        copies = [
            (part, part.cells[fold :: self.folds or len(part.cells)])
            for part in parts
            for fold in range(min(self.folds or len(part.cells), len(part.cells)))
        ]
        for numbers in batches_by_length([len(part.row.tokens) for part, _ in copies], tokens):
            own = [copies[at] for at in numbers]
            batch = _batch(model, [part.row for part, _ in own], languages)
            flat_tokens = batch.tokens.view(-1)
            rows = np.repeat(np.arange(len(own)), [len(cells) for _, cells in own])
            flat = rows * batch.tokens.shape[1] + np.concatenate([cells for _, cells in own])
            cells = torch.from_numpy(flat).to(flat_tokens.device)
            targets = flat_tokens[cells]
            flat_tokens[cells] = model.tokenizer.mask_id
            with evaluating(model.transformer):
                hidden = model.transformer.encode(
                    batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
                )
                nats = _nats(model.transformer.predict(hidden, cells), targets)
            yield from _by_row([part.line for part, _ in own], rows, nats)


class _Causal:
    """A reader of each row once, all but its last token; a translator reads by its decoder."""

    def scored(
        self, model: Askable, parts: list[_Part], languages: Languages, tokens: int
    ) -> Scored:
        lengths = [
            max(len(part.row.tokens) - 1, len(part.source.tokens) if part.source else 0)
            for part in parts
        ]
        for numbers in batches_by_length(lengths, tokens):
            own = [parts[at] for at in numbers]
            inputs = [Wrapped(*(column[:-1] for column in part.row)) for part in own]
            batch = _batch(model, inputs, languages)
            rows = np.repeat(np.arange(len(own)), [len(part.cells) for part in own])
            places = np.concatenate([part.cells for part in own]) - 1
            cells = torch.from_numpy(rows * batch.tokens.shape[1] + places)
            targets = torch.from_numpy(np.concatenate([p.row.tokens[p.cells] for p in own]))
            cells, targets = cells.to(batch.tokens.device), targets.to(batch.tokens.device)
            with evaluating(model.transformer):
                logits = _next_tokens(model, batch, cells, own, languages)
                nats = _nats(logits, targets)
            yield from _by_row([part.line for part in own], rows, nats)


def _next_tokens(
    model: Askable, batch: Batch, cells: Tensor, own: list[_Part], languages: Languages
) -> Tensor:
    """Return the logits ``[N, V]`` of the tokens behind ``cells``."""
    transformer = model.transformer
    given = [part.source for part in own if part.source is not None]
    if not given:
        hidden = transformer.encode(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments, causal=True
        )
        return transformer.predict(hidden, cells)
    source = model.batch_rows(given, languages[1])
    source = with_apart(model, source, layout_of(model), languages[0]).to(batch.tokens.device)
    memory, lengths = transformer.remember(source)
    hidden = transformer.decode(
        batch.tokens, batch.lengths, memory, lengths, batch.positions, batch.langs
    )
    return transformer.predict(hidden, cells, side="decoder")


def _batch(model: Askable, rows: list[Wrapped], languages: Languages) -> Batch:
    """Return rows as a batch on the model's device; a pair begins with the given sentence."""
    language, given = languages
    is_pair = bool(rows[0].segments.any())
    first = given if is_pair else language
    return model.batch_rows(rows, first, language).to(device_of(model))


def _nats(logits: Tensor, targets: Tensor) -> Nats:
    """Return the nats of each target, float64 ``[N]``."""
    logits = widened(logits)
    nats = logits.logsumexp(-1) - logits.gather(1, targets[:, None])[:, 0]
    return nats.double().cpu().numpy()


def _by_row(lines: list[int], rows: NDArray[np.int64], nats: Nats) -> Scored:
    """Yield the nats of each row with the number of its line."""
    borders = np.flatnonzero(np.diff(rows)) + 1
    for row, own in zip(rows[np.r_[0, borders]].tolist(), np.split(nats, borders), strict=True):
        yield lines[row], own


Measure = Callable[[LineScore], float]
MEASURES: dict[str, Measure] = {
    "nats": lambda own: own.nats_per_subword,
    "perplexity": lambda own: own.perplexity,
    "word_perplexity": lambda own: own.word_perplexity,
    "bits_per_character": lambda own: own.bits_per_character,
    "bits_per_byte": lambda own: own.bits_per_byte,
}
"""Measures to sort and filter lines by: all but ``nats`` (per subword) as in ``LineScore``."""
