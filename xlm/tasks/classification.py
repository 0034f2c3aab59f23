"""Classification of sentences and sentence pairs: a linear layer on the first hidden state.

XLM section 5.1 (XNLI); algorithms B10: dropout and one linear layer on the last layer's hidden
state of the opening end symbol, no pooler. A pair is laid out as ``</s> a </s> b </s>``, positions
run on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from xlm.addressed import Random
from xlm.batch import Batch, Loss
from xlm.data.collate import pad_pairs
from xlm.data.corpora import SPLITS, Corpora
from xlm.data.streams import Examples, LabeledStream, Stream
from xlm.errors import ConfigError, DataError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective, cross_entropy_loss
from xlm.scores import Scores, perplexity


@dataclass(frozen=True, kw_only=True)
class Classification(Objective):
    """Name the class of a sentence or pair, trained and evaluated on any languages.

    Language LANG of the data set NAME lies in the labeled corpora NAME.LANG.
    """

    name: str
    """The labeled data set, such as xnli."""
    labels: list[str]
    """Its classes; their order is that of the head's rows."""
    train: list[str]
    """Languages that are trained on."""
    evaluate: list[str] | None = None
    """Languages that are evaluated; null: those of train."""
    rows: int = 8
    """Examples in a micro-batch."""
    length: int = 256
    """Tokens in a row, special ones included; longer examples are left out, and counted."""
    num_lengths: int = 24
    """How many padded lengths there may be."""
    dropout: float = 0.1
    """Probability of dropping a cell of the first hidden state before the linear layer."""

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"labels must be two or more different names: found {self.labels}")
        if not self.train:
            raise ConfigError("Classification needs at least one language in train")
        for name in ("rows", "length", "num_lengths"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1): found {self.dropout}")

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """A stream per language; raises DataError where the data has a label that is not listed."""
        languages = self.train if split == "train" or self.evaluate is None else self.evaluate
        streams: list[Stream] = []
        for language in languages:
            corpus = f"{self.name}.{language}"
            if split != "train" and corpus not in corpora.names(split)["labeled"]:
                if not any(corpus in corpora.names(s)["labeled"] for s in SPLITS):
                    raise DataError(
                        f"no labelled rows {corpus!r} in any split: {split} has "
                        f"{', '.join(corpora.names(split)['labeled']) or 'none'}; prepare it, or "
                        "leave it out of evaluate"
                    )
                continue
            pair = len(corpora.labeled(split, corpus).sides) == 2
            stream = LabeledStream(
                corpora,
                corpus,
                objective=name,
                split=split,
                rows=self.rows,
                tokens_per_batch=self.rows * self.length,
                num_specials=corpora.tokenizer.num_specials("merged", pair=pair),
                num_lengths=self.num_lengths,
                max_length=self.length,
                seed=seed,
                shuffle=split == "train",
            )
            unknown = sorted(set(stream.label_names) - set(self.labels))
            if unknown:
                raise DataError(
                    f"{corpus} ({split}) has the labels {', '.join(unknown)}: the recipe lists "
                    f"{', '.join(self.labels)}"
                )
            streams.append(stream)
        return streams

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Rows and the ids of their labels; nothing is random."""
        assert isinstance(examples.stream, LabeledStream) and examples.labels is not None
        ids = np.array([self.labels.index(label) for label in examples.stream.label_names])
        cells = pad_pairs(examples, "merged")
        rows = np.arange(len(examples.rows))
        return cells.batch(examples.rows, rows, ids[examples.labels], multiple=1)

    def head(self, config: ModelConfig) -> nn.Module:
        """Dropout and a linear layer ``[D] -> [labels]``."""
        return nn.Sequential(nn.Dropout(self.dropout), nn.Linear(config.dim, len(self.labels)))

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Summed cross-entropy of the labels."""
        assert head is not None
        hidden = model.encode(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
        )
        return cross_entropy_loss(head(hidden[:, 0]), batch, with_scores=not model.training)

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Nats, perplexity and accuracy over the examples."""
        nats = scores["nats"] / scores["targets"]
        return {
            "nats": nats,
            "perplexity": perplexity(nats),
            "accuracy": scores["correct"] / scores["targets"],
            "targets": scores["targets"],
        }
