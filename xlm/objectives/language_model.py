"""What masked and causal language models share: their loss, their scores, their units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.data.corpora import SPLITS, Corpora
from xlm.data.original_pairs import CodePairStream, evaluation_cut
from xlm.data.sentence_streams import PairStream
from xlm.data.streams import Stream, TextStream
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores, language_model_figures
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective, check_length, check_num_lengths, cross_entropy_loss, present
from xlm.text.tokenizers.tokenizer import check_layout


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Objective):
    """Predicts tokens of text streams (``languages``) or of aligned sentences (``pairs``)."""

    languages: list[str] = field(default_factory=list)
    """Languages whose text is read as a stream, such as [ne, hi]."""
    pairs: list[str] = field(default_factory=list)
    """Language pairs whose aligned sentences form one row each, such as [en-hi]."""
    evaluate: list[str] | None = None
    """Languages (of ``pairs``: pairs) that are evaluated, also those that nothing trains, as when a
    model goes on with new text; null: those of training."""
    rows: int = 8
    """Rows in a micro-batch of text."""
    length: int = 256
    """Tokens in a row of text; a longer pair is left out, and counted."""
    tokens: int | None = 2048
    """Cells (padding included) in a micro-batch of pairs; in pair_order code without padding, or
    null for ``rows`` pairs."""
    num_lengths: int = 24
    """How many padded lengths pairs may have; 8 or fewer where shapes must be few (compile)."""
    stream_layout: str = "paper"
    """How text is cut: ``paper`` (rows shuffled) or ``code`` (the original's parallel streams)."""
    pair_order: Literal["buckets", "code", "code-unsorted"] = "buckets"
    """How pairs are put into micro-batches: by padded length, as the original does, or as it does
    without group_by_size."""
    longest_side: int | None = None
    """With a pair_order of the original's, leave out training pairs that have a longer sentence,
    special tokens apart (its max_len); null: any."""
    layout: str = "tlm"
    """How a pair is laid out: ``tlm`` (positions restart), ``tlm-run-on`` or ``merged``."""
    evaluation_layout: str | None = None
    """The same for held-out pairs; null: as in training."""
    evaluation: Literal["whole", "code"] = "whole"
    """whole: held-out text is read whole, each token predicted once. code: the original's batches,
    and its cuts where there are more than 5 languages."""

    def __post_init__(self) -> None:
        for name in ("languages", "pairs", "evaluate"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(
                    f"{name} must be a list: found {getattr(self, name)!r}, give "
                    f"[{getattr(self, name)}]"
                )
        if bool(self.languages) == bool(self.pairs):
            raise ConfigError(
                f"{type(self).__name__} takes either languages or pairs: found "
                f"languages={self.languages} and pairs={self.pairs}; list two objectives for both"
            )
        for name in ("rows", "length", "tokens", "num_lengths", "longest_side"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ConfigError(f"{name} must be at least 1: found {size}")
        self._check_choices()

    def _check_choices(self) -> None:
        self._check_choice("pair_order", "buckets", "code", "code-unsorted")
        self._check_choice("evaluation", "whole", "code")
        for name in ("tokens", "longest_side"):
            is_null = getattr(self, name) is None
            if self.pair_order == "buckets" and is_null == (name == "tokens"):
                raise ConfigError(
                    f"{name} {getattr(self, name)} goes with pair_order code alone: found buckets"
                )
        if self.pairs:
            check_layout(self.layout, pair=True)
            if self.evaluation_layout is not None:
                check_layout(self.evaluation_layout, pair=True)

    def _check_choice(self, name: str, *expected: str) -> None:
        if getattr(self, name) not in expected:
            raise ConfigError(
                f"{name} {getattr(self, name)!r}: expected one of {', '.join(expected)}"
            )

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for rows that do not fit the model, or too many shapes to compile."""
        check_length(self.length, model)
        if self.pairs:
            check_num_lengths(self.num_lengths, compiled=compiled)

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """A stream per language or pair (see ``Objective.streams``)."""
        train = split == "train"
        as_code = not train and self.evaluation == "code"
        num_languages = len(corpora.languages)
        streams: list[Stream] = [
            TextStream(
                corpora,
                language,
                objective=name,
                split=split,
                rows=1 if as_code else self.rows,
                length=self.length,
                layout=self.stream_layout if train else "code" if as_code else "paper",
                one_in=evaluation_cut(split, language, num_languages).one_in if as_code else 1,
                seed=seed,
                shuffle=train,
            )
            for language in self._names(corpora, split, "texts")
        ]
        for pair in self._names(corpora, split, "pairs"):
            if as_code or (train and self.pair_order != "buckets"):
                streams.append(self._code_pairs(name, corpora, pair, seed, split))
            else:
                streams.append(self._bucketed_pairs(name, corpora, pair, seed, split))
        return streams

    def _names(self, corpora: Corpora, split: str, part: str) -> list[str]:
        """Of which languages (``part`` texts) or pairs there is a stream."""
        trained = self.languages if part == "texts" else self.pairs
        if split == "train" or self.evaluate is None or not trained:
            return present(corpora, split, trained, part)
        for name in self.evaluate:
            if not any(present(corpora, s, [name], part) for s in SPLITS[1:]):
                having = sorted({own for s in SPLITS[1:] for own in corpora.names(s)[part]})
                raise DataError(
                    f"evaluate names {name}, of which there is no held-out text: there is "
                    f"{', '.join(having) or 'none'}; prepare some, or leave it out"
                )
        return present(corpora, split, self.evaluate, part)

    def _bucketed_pairs(
        self, name: str, corpora: Corpora, pair: str, seed: int, split: str
    ) -> PairStream:
        train = split == "train"
        return PairStream(
            corpora,
            pair,
            objective=name,
            split=split,
            # null in held-out text of a training that counts rows: as many cells as of text
            tokens_per_batch=self.tokens or self.rows * self.length,
            num_specials=corpora.tokenizer.num_specials(self._layout(train), pair=True),
            num_lengths=self.num_lengths,
            max_length=self.length,
            seed=seed,
            shuffle=train,
        )

    def _code_pairs(
        self, name: str, corpora: Corpora, pair: str, seed: int, split: str
    ) -> CodePairStream:
        train = split == "train"
        cut = evaluation_cut(split, corpora.languages.pair(pair).first, len(corpora.languages))
        return CodePairStream(
            corpora,
            pair,
            objective=name,
            split=split,
            rows=self.rows,
            tokens=self.tokens if train else None,
            num_specials=corpora.tokenizer.num_specials(self._layout(train), pair=True),
            max_length=self.length,
            longest_side=self.longest_side if train else None,
            most_pairs=None if train else cut.most_pairs,
            sort=self.pair_order != "code-unsorted" or not train,
            seed=seed,
            shuffle=train,
        )

    def _layout(self, train: bool) -> str:
        """How a pair is laid out, in training or in evaluation."""
        return self.layout if train else self.evaluation_layout or self.layout

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Summed cross-entropy over the predicted cells; only these meet the vocabulary."""
        hidden = model.encode(
            batch.tokens,
            batch.lengths,
            batch.positions,
            batch.langs,
            batch.segments,
            causal=self.causal,
            padded=int(batch.num_tokens) < batch.tokens.numel(),
        )
        logits = model.predict(hidden, batch.predict)
        return cross_entropy_loss(logits, batch, with_scores=not model.training)

    def baseline(self, stream: Stream, batch: Batch) -> dict[str, float]:
        """The nats of each side's add-one unigram model on the same cells."""
        if stream.unigram is None:
            return {}
        real = (batch.targets != IGNORED).numpy()
        targets = batch.targets.numpy()[real]
        sides = batch.segments.flatten()[batch.predict].numpy()[real]
        tables = np.stack(stream.unigram)
        return {"unigram_nats": float(tables[sides, targets].sum())}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Every unit of ``xlm.metrics.scores.language_model_figures``; of pairs those per subword.

        A pair's end symbols are the layout's, not the text's: its words have no perplexity.
        """
        return language_model_figures(scores, stream.text_size if self.languages else None)
