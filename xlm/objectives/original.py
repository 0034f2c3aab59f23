"""MLM, TLM and CLM with the settings that only the original XLM has (docs/fidelity.md).

Each class is its base with more settings; with their defaults it computes the same as the base.
Letters with numbers are rows of docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from xlm.batch import Batch
from xlm.data.collate import Cells, pad_pairs
from xlm.data.corpora import Corpora
from xlm.data.masking import end_weight, frequency_weights, replace_targets
from xlm.data.original_masks import choose_targets_as_original, original_evaluation_mask
from xlm.data.original_pairs import OriginalPairStream, evaluation_cut
from xlm.data.streams import Examples, Stream, TextStream
from xlm.errors import ConfigError
from xlm.objective import already
from xlm.objectives.causal import CausalLM, CausalModel, CausalTLM
from xlm.objectives.language_model import LanguageModel
from xlm.objectives.masked import MaskedLM, masked_batch
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer, check_layout


@dataclass(frozen=True, kw_only=True)
class OriginalLanguageModel(LanguageModel):
    """The base of all: streams of text and of pairs, cut and ordered like the original's."""

    tokens: int | None = 2048  # type: ignore[assignment]  # an int in the base class
    """Cells (padding included) in a micro-batch of pairs; with pair_order original padding does not
    count, and null means ``rows`` pairs."""
    stream_layout: Literal["paper", "original"] = "paper"
    """Division of the text into rows: ``paper`` (shuffled rows) or ``original`` (parallel streams;
    B1)."""
    pair_order: Literal["buckets", "original", "original-unsorted"] = "buckets"
    """Grouping of pairs into micro-batches: by padded length, as the original does (A2), or as it
    does without group_by_size."""
    longest_side: int | None = None
    """With pair_order original or original-unsorted: leave out training pairs with a sentence
    longer than this, not counting special tokens (its max_len, A2); null: no limit."""
    evaluation_layout: str | None = None
    """Layout of a held-out pair (A1); null: as in training."""
    evaluation: Literal["whole", "original"] = "whole"
    """whole: read all held-out text, and predict each token once. original: use the original's
    batches (B8), and its cuts if there are more than 5 languages (A9)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("stream_layout", "paper", "original")
        self._check_choice("pair_order", "buckets", "original", "original-unsorted")
        self._check_choice("evaluation", "whole", "original")
        if self.pair_order == "buckets":
            if self.tokens is None:
                raise ConfigError("tokens is null, but pair_order buckets needs a number: give one")
            if self.longest_side is not None:
                raise ConfigError(
                    f"longest_side is {self.longest_side}, but it does not apply with pair_order "
                    "buckets: leave it out"
                )
        if self.pairs and self.evaluation_layout is not None:
            check_layout(self.evaluation_layout, pair=True)

    def _check_sizes(self, *names: str) -> None:
        given = [name for name in (*names, "longest_side") if getattr(self, name) is not None]
        super()._check_sizes(*given)

    def in_evaluation(self, tokens: int) -> Self:
        """Return the objective with other batches, unless they are the original's."""
        return self if self.evaluation == "original" else super().in_evaluation(tokens)

    def _text_stream(
        self, name: str, corpora: Corpora, language: str, seed: int, split: str
    ) -> Stream:
        train = split == "train"
        as_original = not train and self.evaluation == "original"
        cut = evaluation_cut(split, language, len(corpora.languages))
        return TextStream(
            corpora,
            language,
            objective=name,
            split=split,
            rows=1 if as_original else self.rows,
            length=self.length,
            layout=self.stream_layout if train else "original" if as_original else "paper",
            one_in=cut.one_in if as_original else 1,
            seed=seed,
            shuffle=train,
        )

    def _pair_stream(self, name: str, corpora: Corpora, pair: str, seed: int, split: str) -> Stream:
        train = split == "train"
        layout = self.layout if train else self.evaluation_layout or self.layout
        if (self.pair_order == "buckets") if train else (self.evaluation == "whole"):
            # tokens is null if training counts rows: then as many held-out cells as of text
            tokens = self.tokens or self.rows * self.length
            same = replace(self, layout=layout, tokens=tokens)
            return LanguageModel._pair_stream(same, name, corpora, pair, seed, split)
        first = corpora.languages.pair(pair).first
        cut = evaluation_cut(split, first, len(corpora.languages))
        return OriginalPairStream(
            corpora,
            pair,
            objective=name,
            split=split,
            rows=self.rows,
            tokens=self.tokens if train else None,
            num_specials=corpora.tokenizer_of(first).num_specials(layout, pair=True),
            max_length=self.length,
            longest_side=self.longest_side if train else None,
            most_pairs=None if train else cut.most_pairs,
            sort=self.pair_order != "original-unsorted" or not train,
            seed=seed,
            shuffle=train,
        )

    def _cells(self, examples: Examples, *, train: bool) -> Cells:
        if self.pairs and not train and self.evaluation_layout is not None:
            return pad_pairs(examples, self.evaluation_layout)
        return super()._cells(examples, train=train)


@dataclass(frozen=True, kw_only=True)
class OriginalMaskedLM(OriginalLanguageModel, MaskedLM):
    """MLM on ``languages`` or TLM on ``pairs``, masked as the original does it (B2, B8)."""

    counts: Literal["corpora", "vocabulary"] = "corpora"
    """Source of the token frequencies: the prepared training text, or the counts in the tokenizer's
    vocabulary file, as in the original (only fastBPE has them)."""
    masks: Literal["exact", "original"] = "exact"
    """exact: draw a share of the real tokens. original: draw a share of all cells, padding included
    (at random if the exponent is 0), then remove padding and the first cell of each row."""
    predict_end: bool = True
    """Also predict the end symbols between the sentences of a text (with masks original: all of
    them). The original does so only if the exponent is 0; the same holds with counts vocabulary,
    which has no counts for them."""
    random_from_all: bool = False
    """Let random replacements be special symbols too, as the original does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("counts", "corpora", "vocabulary")
        self._check_choice("masks", "exact", "original")
        if self.masks == "original" and self.masked_side != "both":
            raise ConfigError(
                f"masks original hides both sides: found masked_side {self.masked_side}, "
                "expected both"
            )
        if self.evaluation == "whole":
            return
        if isinstance(self.mask_rate, list) or self.evaluation_mask_rate is not None:
            raise ConfigError(
                "evaluation original needs mask_rate to be one number: found mask_rate "
                f"{self.mask_rate}, evaluation_mask_rate {self.evaluation_mask_rate}"
            )
        if self.evaluation_side != "both" or self.evaluation_folds is not None:
            raise ConfigError(
                "evaluation original uses a single mask of both sides: found "
                f"evaluation_side {self.evaluation_side}, evaluation_folds "
                f"{self.evaluation_folds}; leave them out"
            )
        if self.length < 3:
            raise ConfigError(
                f"length is {self.length}: expected at least 3, since with evaluation original the "
                "first and the last token of a row are never masked"
            )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return one masked micro-batch; ``train=False`` gives the first evaluation mask."""
        if not train and self.evaluation == "original":
            return self._masked_as_original(examples, np.random.RandomState(0))
        return super().collate(examples, random, train=train)

    def evaluation_makers(self, stream: Stream, seed: int) -> Iterable[Callable[[], Batch]]:
        """Yield a maker of each held-out batch per fold; with ``evaluation: original`` one.

        In that case the masks are the original's for any ``seed``: one generator, restarted for
        each stream, continues from batch to batch.
        """
        if self.evaluation == "whole":
            yield from super().evaluation_makers(stream, seed)
            return
        generator = np.random.RandomState(0)
        for k in range(stream.num_batches):
            yield already(self._masked_as_original(stream.examples(k), generator))

    def _masked_as_original(self, examples: Examples, generator: np.random.RandomState) -> Batch:
        cells = self._cells(examples, train=False)
        mask = original_evaluation_mask(cells.lengths, self.rate, generator)
        return masked_batch(examples, cells, np.flatnonzero(mask))

    def _choose(self, cells: Cells, stream: Stream, random: Random) -> NDArray[np.int64]:
        """Draw the targets of training, ascending; with masks original there may be none."""
        if self.masks == "exact":
            return super()._choose(cells, stream, random)
        allowed = cells.real & (np.arange(cells.tokens.shape[1]) > 0)
        if not self.predict_end:
            allowed &= cells.tokens != stream.tokenizer.end_id
        weights = self._kept_weights(stream) if self.frequency_exponent else None
        return choose_targets_as_original(cells.tokens, allowed, weights, self.rate, random)

    @property
    def _weighed_by(self) -> tuple[Any, ...]:
        return *super()._weighed_by, self.predict_end, self.masks, self.counts

    def _weights(self, stream: Stream) -> NDArray[np.float64]:
        counts = self._counts(stream)
        weights = frequency_weights(counts, self.frequency_exponent, stream.tokenizer)
        if self.predict_end and (self.masks == "original" or not self.pairs):
            end = stream.tokenizer.end_id
            weights[end] = end_weight(counts, self.frequency_exponent, end)
        return weights

    def _counts(self, stream: Stream) -> NDArray[np.int64]:
        """Return int64 ``[V]``: the frequency of each id, from the source that ``counts`` names."""
        if self.counts == "corpora":
            return stream.counts
        if stream.tokenizer.counts is None:
            raise ConfigError(
                f"{stream.id}: counts is vocabulary, but this "
                f"{type(stream.tokenizer).__name__} has no counts; set counts to corpora, or "
                "use fastBPE"
            )
        return np.array(stream.tokenizer.counts, dtype=np.int64)

    def _replace(
        self, cells: Cells, chosen: NDArray[np.int64], tokenizer: Tokenizer, random: Random
    ) -> NDArray[np.int64]:
        return replace_targets(
            cells.tokens.ravel(),
            chosen,
            tokenizer,
            random,
            mask=self.mask,
            keep=self.keep,
            rand=self.random,
            from_all=self.random_from_all,
        )


@dataclass(frozen=True, kw_only=True)
class OriginalCausalModel(OriginalLanguageModel, CausalModel):
    """The base of both causal models: cells at the start of a row may be context alone."""

    num_context: int = 0
    """Number of cells at the start of a row that are read but not predicted in training (the
    original's context_size)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.num_context < self.length:
            raise ConfigError(
                f"num_context must be at least 0 and below length ({self.length}): found "
                f"{self.num_context}"
            )

    def _predicted(self, inputs: Cells, train: bool) -> NDArray[np.int64]:
        first = self.num_context if train else 0
        return np.flatnonzero(inputs.real & (np.arange(inputs.tokens.shape[1]) >= first))


@dataclass(frozen=True, kw_only=True)
class OriginalCausalLM(OriginalCausalModel, CausalLM):
    """CLM on ``languages``, with rows whose first token may be input only (B1)."""

    predict_first: bool = True
    """Predict the first token of a row from the one before it. false: only read it, as the original
    does, so that a row of ``length`` tokens has one target fewer. With evaluation original it is
    never predicted in evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 2 and not (self.predict_first and self.evaluation == "whole"):
            raise ConfigError(
                f"rows of {self.length} token have nothing to predict but their first token: "
                "raise length"
            )
        if not self.predict_first and self.num_context >= self.length - 1:
            raise ConfigError(
                f"num_context is {self.num_context}, but rows of length {self.length} only "
                f"predict from {self.length - 1} cells: lower it"
            )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return rows shifted by one; nothing is random."""
        if self.predict_first if train else self.evaluation == "whole":
            return super().collate(examples, random, train=train)
        return self._shifted(examples, self._cells(examples, train=train), train)


@dataclass(frozen=True, kw_only=True)
class OriginalCausalTLM(OriginalCausalModel, CausalTLM):
    """Causal TLM on ``pairs``, which the original evaluates in another layout (A1)."""
