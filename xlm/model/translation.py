"""Translation of lines of raw text: each in its place, independent of the others.

lines --normalized, encoded, cut--> rows, by length --batches--> generate --> texts, in order
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from xlm.errors import CheckpointError, ConfigError
from xlm.languages import match_languages
from xlm.model.asking import DIRECTIONS, Askable, checked_layout, layout_of, with_apart
from xlm.model.generate import Generation, generate
from xlm.rng import key
from xlm.text.normalize import normalize
from xlm.text.tokenizers.layouts import shown
from xlm.text.tokenizers.tokenizer import Ids

log = logging.getLogger("xlm")

BEAM = Generation(beam=5)
"""The search used by default."""
CELLS = 2000
"""Tokens of the sources of a batch, padding included; the beam's hypotheses come on top."""


@dataclass(frozen=True)
class Translated:
    """The translations of a line."""

    texts: list[str]
    """Best first, normalized, each one line; of a line without text an empty one."""
    scores: list[float]
    """For each translation, the sum of its tokens' log-probabilities over its length to the power
    of ``length_penalty``; 0 for a line without text."""
    num_tokens: int = 0
    """Tokens of the best translation, end symbol included; 0 for a line without text."""
    is_cut: bool = False
    """True if the line is longer than the model's positions, so that its end was not read."""


NOTHING = Translated([""], [0.0])
"""The translation of a line without text."""


class Translator:
    """A model that translates lines from one language into another (the same one is allowed).

    The rows have the layout that the model was trained with. The language names are checked here: a
    model without language tokens and without a table of languages needs none, and writes the
    language that it was trained to write for such text, with a warning. ``n_best`` translations
    of each line are wanted; a beam may find fewer. ``seed`` is that of sampling, which is keyed by
    the number of the first line of a batch. Raises ConfigError for a model that does not translate,
    a language that is missing or that the model does not know, or numbers that do not fit each
    other.
    """

    def __init__(
        self,
        model: Askable,
        source: str | None = None,
        target: str | None = None,
        *,
        settings: Generation | None = None,
        n_best: int = 1,
        tokens: int = CELLS,
        seed: int = 0,
    ) -> None:
        self.model, self.settings = model, settings or BEAM
        self.n_best, self.tokens, self.seed = n_best, tokens, seed
        if model.transformer.decoder is None:
            raise ConfigError(
                "the model has no decoder, so it cannot translate: expected a model trained "
                "with Translation or BackTranslation (num_decoder_layers above 0)"
            )
        if self.settings.sample and n_best != 1:
            raise ConfigError(
                f"n_best is {n_best}: expected 1, since sampling draws a single translation"
            )
        if not 1 <= n_best <= self.settings.beam:
            hint = "; widen the beam" if n_best > 1 else ""
            raise ConfigError(
                f"n_best is {n_best}: expected 1 to {self.settings.beam}, the beam{hint}"
            )
        if tokens < 1:
            raise ConfigError(f"tokens is {tokens}: expected at least 1 cell in a batch")
        self.layout = layout_of(model)
        differ = model.tokenizer.begin_id != model.tokenizer.end_id
        if differ and "B" in self.layout.target_opens:
            raise ConfigError(
                "the model's tokenizer opens and closes sentences with different symbols, "
                "as XLM-R's and BERT's do, but its layout of rows is xlm: expected a "
                "tokenizer of XLM's kind, or another layout"
            )
        self._source, self._target = source, target
        self._has_shown = False
        self._target_id = self._checked("target", target)
        self._checked("source", source)
        checked_layout(model, source, target)
        self._say_zero_shot()
        told = model.transformer.encoder.languages is not None or self.layout.has_tokens
        if target is not None and not told:
            log.warning(
                "the model has no language vectors or tokens, so target %s has no effect: "
                "it writes the language that it was trained to write for such text", target
            )  # fmt: skip

    def _say_zero_shot(self) -> None:
        """Log, once, that the model was not trained on this direction, if it says on which."""
        trained = self.model.extra.get(DIRECTIONS)
        wanted = f"{self._source}-{self._target}"
        if self._source and self._target and trained and wanted not in trained:
            log.warning(
                "the model was not trained on the direction %s (zero-shot), but on %s",
                wanted, ", ".join(map(str, trained)),
            )  # fmt: skip

    def example(self, row: Ids) -> str:
        """Return the ids and pieces that encoder and decoder read for a sentence, on lines."""
        tokenizer, layout = self.model.tokenizer, self.layout
        source, target = self._source or "", self._target or ""
        lines = [
            f"layout {layout.name}; the encoder reads "
            + shown(tokenizer, layout.source_row(tokenizer, row, source, target).tokens.tolist())
        ]
        if (apart := layout.apart_row(tokenizer, target)) is not None:
            lines.append(f"and apart {shown(tokenizer, apart.tokens.tolist())}")
        lines.append(
            f"the decoder opens with {shown(tokenizer, layout.opening(tokenizer, target))}"
        )
        return "; ".join(lines)

    def _checked(self, side: str, language: str | None) -> int:
        try:
            if language is not None and self.model.languages:
                # also if the model has no vectors of them, and would take any name
                otherwise = "take a model that does"
                match_languages(self.model.languages, [language], otherwise=otherwise)
            return self.model.language_id(language)
        except ConfigError as error:
            raise ConfigError(f"{side}: {error}") from None

    @property
    def max_length(self) -> int:
        """Tokens of a line beyond which it is cut."""
        specials = self.model.tokenizer.num_specials("xlm", pair=False)
        return self.model.transformer.config.max_positions - specials

    def texts(self, lines: Sequence[str]) -> list[str]:
        """Return the best translation of each line; log how many lines were cut."""
        found = self.translate(lines)
        cut = [number for number, one in enumerate(found, 1) if one.is_cut]
        if cut:
            log.warning(
                "%d lines are longer than the model's %d tokens and were cut; the first is "
                "line %d",
                len(cut), self.max_length, cut[0],
            )  # fmt: skip
        return [one.texts[0] for one in found]

    def translate(self, lines: Iterable[str], *, first: int = 1) -> list[Translated]:
        """Return the translations of each line, in order; ``first`` is the first line's number.

        ``lines`` are read once, and only their ids are kept.
        """
        if isinstance(lines, str):  # whose letters would pass for lines
            raise ConfigError(f"lines is the string {lines[:40]!r}: give a list of strings")
        rows: list[Ids] = []
        cut: set[int] = set()
        tokenizer = self.model.tokenizer.in_language(self._source)
        for number, line in enumerate(lines):
            if not isinstance(line, str):
                raise ConfigError(f"line {first + number} is {line!r}: expected a string")
            ids = tokenizer.encode(tokenizer.normalize(line))
            if len(ids) > self.max_length:
                cut.add(number)
            rows.append(np.array(ids[: self.max_length], dtype=np.int64))
        if not self._has_shown:
            for row in rows[:1]:
                self._has_shown = True
                log.info("%s", self.example(row))
        found = [NOTHING] * len(rows)
        for batch in self._batches(rows):
            with self._sampling(first + batch[0]):
                translated = self._translate_rows([rows[at] for at in batch], first + batch[0])
            for at, (texts, scores, num_tokens) in zip(batch, translated, strict=True):
                found[at] = Translated(texts, scores, num_tokens, at in cut)
        return found

    def _batches(self, rows: Sequence[Ids]) -> Iterator[list[int]]:
        """Yield rows of like length together, the longest first; leave out those without text."""
        order = sorted(
            (at for at, row in enumerate(rows) if len(row)), key=lambda at: -len(rows[at])
        )
        specials = self.model.tokenizer.num_specials("xlm", pair=False)
        start = 0
        while start < len(order):
            end = start + max(self.tokens // (len(rows[order[start]]) + specials), 1)
            yield order[start:end]
            start = end

    @contextmanager
    def _sampling(self, number: int) -> Iterator[None]:
        """Seed torch's generators by the batch's first line, and restore them afterwards."""
        if not self.settings.sample:
            yield
            return
        device = self._device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(key(self.seed, "translate", number))
            yield

    @property
    def _device(self) -> torch.device:
        return next(self.model.transformer.parameters()).device

    def _translate_rows(
        self, rows: Sequence[Ids], number: int
    ) -> list[tuple[list[str], list[float], int]]:
        """Return each row's texts and scores, best first, and the best text's number of tokens."""
        tokenizer = self.model.tokenizer
        layout, target = self.layout, self._target or ""
        read = [layout.source_row(tokenizer, row, self._source or "", target) for row in rows]
        source = self.model.batch_rows(read, self._source)
        source = with_apart(self.model, source, layout, self._target)
        opening = torch.tensor(layout.opening(tokenizer, target), device=self._device)
        generated = generate(
            self.model.transformer,
            source.to(self._device),
            torch.full((len(rows),), self._target_id, device=self._device),
            end_id=tokenizer.end_id,
            settings=self.settings,
            begin=opening.expand(len(rows), -1),
        )
        num_opening = generated.num_opening
        scores = generated.scores[:, : self.n_best].tolist()
        lengths = generated.lengths[:, : self.n_best].tolist()
        tokens = generated.tokens[:, : self.n_best].tolist()
        if any(score[0] != score[0] for score in scores):
            raise CheckpointError(
                f"line {number}, or one of similar length: the model's scores are NaN: its "
                "weights are damaged, or fp16 overflowed; try bf16 or fp32"
            )
        found = []
        for row, own in enumerate(lengths):
            there = [at for at, length in enumerate(own) if length]
            ids = [tokens[row][at][num_opening : own[at] - 1] for at in there]
            texts = [normalize(tokenizer.decode(one)) for one in ids]
            found.append((texts, [scores[row][at] for at in there], own[0] - num_opening))
        return found
