"""BERT's two objectives in one row: masked tokens, and whether the second part follows the first.

    [CLS] A [SEP] B [SEP] --masks--> encoder --cells--> tokens
                                        └--first state--> linear, tanh --> follows | random

Devlin et al. 2019, section 3.1 and appendix A.2; MonoTrans pretrains with it (section 2). The loss
is the sum of both means.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.data.collate import Cells, pad_pairs
from xlm.data.corpora import Corpora
from xlm.data.document_streams import DocumentStream
from xlm.data.masking import frequency_weights
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.metrics.scores import Scores, language_model_figures
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.transformer import Transformer
from xlm.objective import predicted_loss
from xlm.objectives.masked import MaskedLM
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer

LAYOUT = "merged"
MASKED, NEXT = "masked", "next"
"""The two parts of the loss."""


class NextSentenceHead(nn.Module):
    """BERT's pooler (linear and tanh, on the first state of a row), and two classes."""

    def __init__(self, dim: int):
        super().__init__()
        self.pooler = nn.Linear(dim, dim)
        self.classes = nn.Linear(dim, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map states ``[B, T, D]`` to scores ``[B, 2]``: B follows A, B is of another document."""
        scores: Tensor = self.classes(torch.tanh(self.pooler(hidden[:, 0])))
        return scores


@dataclass(frozen=True, kw_only=True)
class NextSentence(MaskedLM):
    """Masked tokens and next-sentence prediction on documents of ``languages``.

    The text needs borders of documents: empty lines, before it is prepared. Targets are drawn
    uniformly from the tokens other than symbols (``frequency_exponent`` 0), ``mask_rate`` of all.
    """

    frequency_exponent: float = 0.0
    """Draw targets with weight count**-exponent; 0: uniformly, as BERT does."""
    short_share: float = 0.1
    """Share of the rows whose length is limited to a random number of tokens (BERT: 0.1)."""

    def __post_init__(self) -> None:
        if self.pairs:
            raise ConfigError(
                f"NextSentence reads documents, not pairs: found pairs={self.pairs}; list "
                "languages, and add TLM as a second objective"
            )
        super().__post_init__()
        if not 0 <= self.short_share <= 1:
            raise ConfigError(f"short_share must be in [0, 1]: found {self.short_share}")

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of both losses, each divided by a count of its own."""
        return (MASKED, NEXT)

    def _text_stream(
        self, name: str, corpora: Corpora, language: str, seed: int, split: str
    ) -> Stream:
        return DocumentStream(
            corpora,
            language,
            objective=name,
            split=split,
            rows=self.rows,
            length=self.length,
            num_specials=corpora.tokenizer_of(language).num_specials(LAYOUT, pair=True),
            short=self.short_share,
            seed=seed,
            shuffle=split == "train",
        )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return one masked micro-batch with the label of each row."""
        batch = super().collate(examples, random, train=train)
        return _labeled(batch, examples) if train else batch

    def _held_out(self, examples: Examples, cells: Cells, chosen: NDArray[np.int64]) -> Batch:
        return _labeled(super()._held_out(examples, cells, chosen), examples)

    def _cells(self, examples: Examples, *, train: bool) -> Cells:
        return pad_pairs(examples, LAYOUT)

    def _weights(self, stream: Stream) -> NDArray[np.float64]:
        return frequency_weights(stream.counts, self.frequency_exponent, stream.tokenizer)

    def _eligible(self, cells: Cells, side: str, tokenizer: Tokenizer) -> NDArray[np.bool_]:
        symbols = np.isin(cells.tokens, sorted(tokenizer.special_ids))
        return super()._eligible(cells, side, tokenizer) & ~symbols.ravel()

    def head(self, config: ModelConfig) -> NextSentenceHead:
        """Return the pooler and the two classes."""
        return NextSentenceHead(config.dim)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return both sums: over the predicted cells, and over the rows."""
        assert head is not None and batch.labels is not None
        hidden = model.encode(
            batch.tokens,
            batch.lengths,
            batch.positions,
            batch.langs,
            batch.segments,
            padded=int(batch.num_tokens) < batch.tokens.numel(),
        )
        masked = predicted_loss(model, hidden, batch)
        found = head(hidden)
        following = sum_cross_entropy(found, batch.labels)
        scores = masked.scores
        if scores:
            scores["next_nats"] = following.detach()
            scores["next_correct"] = (found.argmax(-1) == batch.labels).sum()
            scores["next_targets"] = found.new_tensor(len(found))
        parts = {MASKED: masked.total, NEXT: following}
        return Loss(masked.total + following, masked.count, scores, parts=parts)

    def baseline(self, stream: Stream, batch: Batch) -> dict[str, float]:
        """Return the nats of the add-one unigram model on the same cells."""
        if stream.unigram is None:
            return {}
        targets = batch.targets[batch.targets != IGNORED].numpy()
        return {"unigram_nats": float(stream.unigram[0][targets].sum())}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return the figures of masked subwords, and nats and accuracy of the rows' classes.

        A part of a document that no row has is not measured, so no figure is per word.
        """
        masked = {n: value for n, value in scores.items() if not n.startswith("next_")}
        own = language_model_figures(masked, None)
        rows = scores.get("next_targets", 0.0)
        if rows:
            own["next_nats"] = scores["next_nats"] / rows
            own["next_accuracy"] = scores["next_correct"] / rows
        return own


def _labeled(batch: Batch, examples: Examples) -> Batch:
    """Return the batch with the labels of its rows, and how many targets each part has."""
    assert examples.labels is not None
    labels = torch.from_numpy(examples.labels)
    return dataclasses.replace(batch, labels=labels, parts={MASKED: batch.count, NEXT: len(labels)})
