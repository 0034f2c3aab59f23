"""Readouts of the encoder for tasks, and the small networks on top of it.

    batch --Reading--> states [B, T, W] --pool or gather--> [N, W] --top--> scores

XLM: one linear layer on the first hidden state (section 5.1). mBERT study, section 5 and figure 1:
the same, or a frozen encoder whose layers are mixed and read by a BiLSTM. MMTE, section 3: feed-
forward layers around a max-pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.model.activations import ACTIVATIONS
from xlm.model.config import ModelConfig
from xlm.model.layers import OutputTransform
from xlm.model.pooling import Pooling, pool
from xlm.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Readout:
    """The network on top of the encoder, and the states that it reads."""

    kind: Literal["linear", "tanh", "dense", "transform", "feed-forward"] = "linear"
    """linear (XLM, mBERT study); tanh (preceded by a linear layer and tanh, as in transformers'
    classes for BERT and XLM-R); dense (the same with the model's activation, as for RoFormer);
    transform (preceded by a linear layer, the model's activation and a normalization, as for
    ModernBERT; it starts as a copy of the model's output transform); feed-forward (MMTE: a layer of
    ``size`` before the pooling, and for sentences one after it)."""
    pooling: Pooling | None = None
    """For sentences: first (the first hidden state), max or mean (over all real states); null:
    first, or max with features (mBERT study, section 5)."""
    size: int = 64
    """With kind feed-forward: its width (MMTE: 64 for sentences, 784 for words)."""
    dropout: float = 0.1
    """Probability of dropping a cell before the last layer."""
    features: bool = False
    """Feature-based: the encoder is frozen, and a learned mix of all its layers goes through a
    BiLSTM of two layers (mBERT study, figure 1)."""
    lstm_size: int = 0
    """With features: width of each direction (0: half of the encoder's)."""
    causal: bool = False
    """Read the encoder causally. Without this, a model that was pretrained causally is fine-tuned
    with context on both sides, since its first hidden state would otherwise see one token only."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"readout.size must be at least 1: found {self.size}")
        if self.lstm_size < 0:
            raise ConfigError(f"readout.lstm_size must be at least 0: found {self.lstm_size}")
        if self.lstm_size and not self.features:
            raise ConfigError(
                f"readout.lstm_size is {self.lstm_size}, but it only applies with "
                "readout.features: set both"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"readout.dropout must be in [0, 1): found {self.dropout}")

        if self.features and self.kind == "transform":
            raise ConfigError(
                "readout.kind is transform, which needs states as wide as the model's, but "
                "readout.features is true, whose states come from an LSTM: choose one of "
                "the two"
            )

    def check_cells(self, task: str, *kinds: str) -> None:
        """Raise ConfigError for a pooling, which a task on cells lacks, and for another kind
        than linear and ``kinds``."""
        if self.pooling is not None:
            raise ConfigError(
                f"readout.pooling is {self.pooling}, but {task} reads single cells and pools "
                "nothing: leave it out"
            )
        if self.kind not in ("linear", *kinds):
            others = f"; {' or '.join(kinds)} is possible" if kinds else ""
            raise ConfigError(
                f"readout.kind is {self.kind}, but {task} has its own scorer: leave it out{others}"
            )


class Reader(nn.Module):
    """The states that a task works with: the last layer's, or those of a frozen encoder's mix."""

    def __init__(self, readout: Readout, config: ModelConfig):
        super().__init__()
        self.causal, self.features = readout.causal, readout.features
        self.width = config.dim
        """Width ``W`` of the states."""
        self.mix = self.scale = self.lstm = None
        if readout.features:
            size = readout.lstm_size or config.dim // 2
            self.mix = nn.Parameter(torch.zeros(config.num_layers + 1))
            self.scale = nn.Parameter(torch.ones(()))
            self.lstm = nn.LSTM(config.dim, size, 2, batch_first=True, bidirectional=True)
            self.width = 2 * size

    def forward(self, model: Transformer, batch: Batch) -> Tensor:
        """Map to ``[B, T, W]``, zero at padding."""
        inputs = (batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments)
        if not self.features:
            return model.encode(*inputs, causal=self.causal)
        assert self.mix is not None and self.scale is not None and self.lstm is not None
        was_training = model.training
        model.eval()  # features are one and the same at every look
        with torch.no_grad():
            layers = torch.stack(model.encode_layers(*inputs, causal=self.causal))
        model.train(was_training)
        mixed = self.scale * torch.einsum("l,lbtd->btd", self.mix.softmax(0), layers)
        packed = nn.utils.rnn.pack_padded_sequence(
            mixed, batch.lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        padded, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=batch.tokens.shape[1]
        )
        return padded


class Activation(nn.Module):
    """The activation of a model's layers, without their gates."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.function = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return self.function(x)


def _activation(readout: Readout, config: ModelConfig) -> nn.Module:
    """Return the layers after a head's hidden layer."""
    if readout.kind == "dense":
        return Activation(config)
    return nn.Tanh() if readout.kind == "tanh" else nn.ReLU()


class SentenceHead(nn.Module):
    """One vector a row, ``[B, outputs]``."""

    def __init__(self, readout: Readout, config: ModelConfig, num_outputs: int):
        super().__init__()
        self.pooling: Pooling = readout.pooling or ("max" if readout.features else "first")
        self.reader = Reader(readout, config)
        self.before: nn.Module = nn.Identity()
        self.after: nn.Module = nn.Identity()
        width = self.reader.width
        if readout.kind == "feed-forward":
            self.before = nn.Sequential(nn.Linear(width, readout.size), nn.ReLU())
            self.after = nn.Sequential(nn.Linear(readout.size, readout.size), nn.ReLU())
            width = readout.size
        elif readout.kind == "transform":
            self.after = OutputTransform(config)
        elif readout.kind != "linear":
            self.after = nn.Sequential(
                nn.Dropout(readout.dropout), nn.Linear(width, width), _activation(readout, config)
            )
        self.dropout = nn.Dropout(readout.dropout)
        self.output = nn.Linear(width, num_outputs)

    def forward(self, model: Transformer, batch: Batch) -> Tensor:
        """Map to ``[B, outputs]``."""
        states = self.before(self.reader(model, batch))
        pooled = self.after(pool(states, batch.lengths, self.pooling))
        scores: Tensor = self.output(self.dropout(pooled))
        return scores


class WordHead(nn.Module):
    """One vector for each of the flat ``cells`` (int64 ``[N]``), ``[N, outputs]``."""

    def __init__(self, readout: Readout, config: ModelConfig, num_outputs: int):
        super().__init__()
        self.reader = Reader(readout, config)
        self.hidden: nn.Module = nn.Identity()
        width = self.reader.width
        if readout.kind == "transform":
            self.hidden = OutputTransform(config)
        elif readout.kind != "linear":
            size = readout.size if readout.kind == "feed-forward" else width
            self.hidden = nn.Sequential(nn.Linear(width, size), _activation(readout, config))
            width = size
        self.dropout = nn.Dropout(readout.dropout)
        self.output = nn.Linear(width, num_outputs)

    def forward(self, model: Transformer, batch: Batch) -> Tensor:
        """Return ``[N, outputs]`` of the cells in ``batch.predict``."""
        states = self.reader(model, batch).flatten(0, 1).index_select(0, batch.predict)
        scores: Tensor = self.output(self.dropout(self.hidden(states)))
        return scores
