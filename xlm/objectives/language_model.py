"""The base of masked and causal language models: their streams, loss, scores and units."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from torch import Tensor, nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.config.hints import check_types
from xlm.data.collate import Cells, pad_pairs, pad_text
from xlm.data.corpora import Corpora
from xlm.data.sentence_streams import PairStream
from xlm.data.streams import Examples, Stream, TextStream
from xlm.errors import ConfigError
from xlm.metrics.scores import Scores, language_model_figures
from xlm.model.config import ModelConfig
from xlm.model.transformer import Side, Transformer
from xlm.objective import Objective, check_length, held_out, predicted_loss
from xlm.text.tokenizers.tokenizer import check_layout


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Objective):
    """Prediction of tokens of text streams (``languages``) or of aligned sentences (``pairs``)."""

    languages: list[str] = field(default_factory=list)
    """Languages whose text is read as a stream, such as [ne, hi]."""
    pairs: list[str] = field(default_factory=list)
    """Language pairs whose aligned sentences form one row each, such as [en-hi]."""
    evaluate: list[str] | None = None
    """Languages (or, with ``pairs``, pairs) to evaluate, also some that are not trained on, for
    example when a model continues with new text; null: those of training."""
    rows: int = 8
    """Rows in a micro-batch of text."""
    length: int = 256
    """Tokens in a row of text, and the most in a pair: longer pairs are left out and counted."""
    tokens: int = 2048
    """Cells (padding included) in a micro-batch of pairs."""
    num_lengths: int = 24
    """Largest number of padded lengths of pairs."""
    layout: str = "tlm"
    """Layout of a pair: ``tlm`` (positions restart), ``tlm-run-on`` or ``merged``."""

    def __post_init__(self) -> None:
        for name in ("languages", "pairs", "evaluate"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(
                    f"{name} must be a list: found {getattr(self, name)!r}, give "
                    f"[{getattr(self, name)}]"
                )
        check_types(self)
        if bool(self.languages) == bool(self.pairs):
            raise ConfigError(
                f"{type(self).__name__} takes either languages or pairs: found "
                f"languages={self.languages} and pairs={self.pairs}; list two objectives to "
                "train on both"
            )
        self._check_sizes("rows", "length", "tokens", "num_lengths")
        if self.pairs:
            check_layout(self.layout, pair=True)

    def _check_sizes(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")

    def _check_choice(self, name: str, *expected: str) -> None:
        if getattr(self, name) not in expected:
            raise ConfigError(
                f"{name} {getattr(self, name)!r}: expected one of {', '.join(expected)}"
            )

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for rows that do not fit the model."""
        check_length(self.length, model)

    def in_evaluation(self, tokens: int) -> Self:
        """Return the objective with other ``rows`` and ``tokens`` of a micro-batch."""
        return replace(self, rows=max(tokens // self.length, 1), tokens=tokens)

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return a stream for each language or pair (see ``Objective.streams``)."""
        languages = self._names(corpora, split, "texts")
        pairs = self._names(corpora, split, "pairs")
        return [
            *(self._text_stream(name, corpora, language, seed, split) for language in languages),
            *(self._pair_stream(name, corpora, pair, seed, split) for pair in pairs),
        ]

    def _names(self, corpora: Corpora, split: str, part: str) -> list[str]:
        """Return the languages (``part`` texts) or pairs that have a stream."""
        trained = self.languages if part == "texts" else self.pairs
        return held_out(corpora, split, trained, self.evaluate, part)

    def _text_stream(
        self, name: str, corpora: Corpora, language: str, seed: int, split: str
    ) -> Stream:
        return TextStream(
            corpora,
            language,
            objective=name,
            split=split,
            rows=self.rows,
            length=self.length,
            seed=seed,
            shuffle=split == "train",
        )

    def _pair_stream(self, name: str, corpora: Corpora, pair: str, seed: int, split: str) -> Stream:
        tokenizer = corpora.tokenizer_of(corpora.languages.pair(pair).first)
        return PairStream(
            corpora,
            pair,
            objective=name,
            split=split,
            tokens_per_batch=self.tokens,
            num_specials=tokenizer.num_specials(self.layout, pair=True),
            num_lengths=self.num_lengths,
            max_length=self.length,
            seed=seed,
            shuffle=split == "train",
        )

    def _cells(self, examples: Examples, *, train: bool) -> Cells:
        """Return the padded rows of a micro-batch, nothing masked or shifted yet."""
        return pad_pairs(examples, self.layout) if self.pairs else pad_text(examples)

    @property
    def side(self) -> Side:
        """The half of the model that predicts."""
        return "encoder"

    def hidden(self, model: Transformer, batch: Batch, cells: Tensor | None = None) -> Tensor:
        """Return the states of that half, ``[B, T, D]``, or of flat ``cells`` alone, ``[N, D]``."""
        return model.encode(
            batch.tokens,
            batch.lengths,
            batch.positions,
            batch.langs,
            batch.segments,
            causal=self.causal,
            # compiled, pairs without padding would need graphs of their own
            padded=batch.num_tokens < batch.tokens.numel()
            or (bool(self.pairs) and model.encoder.compiled),
            cells=cells,
        )

    def logits(self, model: Transformer, batch: Batch) -> Tensor:
        """Return the scores of all pieces for the predicted cells, ``[N, V]``."""
        return model.predict(self.hidden(model, batch), batch.predict, side=self.side)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy over the predicted cells; only these are projected."""
        return predicted_loss(model, self.hidden(model, batch), batch, side=self.side)

    def baseline(self, stream: Stream, batch: Batch) -> dict[str, float]:
        """Return the nats of each side's add-one unigram model on the same cells."""
        if stream.unigram is None:
            return {}
        real = (batch.targets != IGNORED).numpy()
        targets = batch.targets.numpy()[real]
        sides = batch.segments.flatten()[batch.predict].numpy()[real]
        tables = np.stack(stream.unigram)
        return {"unigram_nats": float(tables[sides, targets].sum())}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return every unit of ``language_model_figures``; for pairs those per subword.

        A pair's end symbols belong to the layout, not to the text: its words have no perplexity.
        """
        return language_model_figures(scores, stream.text_size if self.languages else None)
