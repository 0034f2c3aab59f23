"""What masked and causal language models share: their loss, their scores, their units."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.data.corpora import Corpora
from xlm.data.streams import PairStream, Stream, TextStream
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.objective import Objective, cross_entropy_loss, present
from xlm.scores import Scores, language_model_figures
from xlm.text.tokenizer import check_layout


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Objective):
    """Predicts tokens of text streams (``languages``) or of aligned sentences (``pairs``)."""

    languages: list[str] = field(default_factory=list)
    """Languages whose text is read as a stream, such as [ne, hi]."""
    pairs: list[str] = field(default_factory=list)
    """Language pairs whose aligned sentences form one row each, such as [en-hi]."""
    rows: int = 8
    """Rows in a micro-batch of text."""
    length: int = 256
    """Tokens in a row of text; a longer pair is left out, and counted."""
    tokens: int = 2048
    """Cells (padding included) in a micro-batch of pairs."""
    num_lengths: int = 24
    """How many padded lengths pairs may have; 8 or fewer where shapes must be few (compile)."""
    stream_layout: str = "paper"
    """How text is cut: ``paper`` (rows shuffled) or ``code`` (the original's parallel streams)."""
    layout: str = "tlm"
    """How a pair is laid out: ``tlm`` (positions restart), ``tlm-run-on`` or ``merged``."""

    def __post_init__(self) -> None:
        for name in ("languages", "pairs"):
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
        for name in ("rows", "length", "tokens", "num_lengths"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        if self.pairs:
            check_layout(self.layout, pair=True)

    @property
    def causal(self) -> bool:
        """Whether a position sees only those before it."""
        raise NotImplementedError

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """A stream per language or pair (see ``Objective.streams``)."""
        train = split == "train"
        streams: list[Stream] = [
            TextStream(
                corpora,
                language,
                objective=name,
                split=split,
                rows=self.rows,
                length=self.length,
                layout=self.stream_layout if train else "paper",
                seed=seed,
                shuffle=train,
            )
            for language in present(corpora, split, self.languages, "texts")
        ]
        for pair in present(corpora, split, self.pairs, "pairs"):
            streams.append(
                PairStream(
                    corpora,
                    pair,
                    objective=name,
                    split=split,
                    tokens_per_batch=self.tokens,
                    num_specials=corpora.tokenizer.num_specials(self.layout, pair=True),
                    num_lengths=self.num_lengths,
                    max_length=self.length,
                    seed=seed,
                    shuffle=train,
                )
            )
        return streams

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
        """Every unit of ``xlm.scores.language_model_figures``; of pairs those per subword.

        A pair's end symbols are the layout's, not the text's: its words have no perplexity.
        """
        return language_model_figures(scores, stream.text_size if self.languages else None)
