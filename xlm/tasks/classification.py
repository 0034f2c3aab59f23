"""Classification of sentences and sentence pairs.

XLM section 5.1 (XNLI); docs/fidelity.md, B10: dropout and one linear layer on the last layer's
hidden state of the opening symbol, no pooler. A pair is laid out as ``</s> a </s> b </s>``, and
positions run on; models of BERT's and XLM-R's shape have their own layouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.row_streams import Row, RowStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.metrics.agreement import class_figures, confusion_scores
from xlm.metrics.scores import Scores
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import cross_entropy_loss
from xlm.rng import Random
from xlm.tasks.heads import SentenceHead
from xlm.tasks.readers.labeled import LAYOUTS, SentenceRow, read_rows
from xlm.tasks.task import NO_FILES, Task, cut, encode
from xlm.text.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Sentences(Task):
    """Base of tasks on sentences and pairs: reads their files and lays out their rows."""

    format: str = "plain"
    """Format of the files: plain (label and sentence between tabs, no header), plain-pair
    (label, sentence, sentence), label-text and nli (with a header), xnli, xnli-train, mnli, mldoc,
    paws-x, intent, xglue-nc, xglue-qam, xglue-qadsm or xglue-wpr."""
    formats: dict[str, str] = field(default_factory=dict)
    """Other formats of some splits, such as {train: mnli}."""
    longest_words: int = 0
    """Cut each sentence after this many words (XLM section 5.1: 256; 0: no cut)."""

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        for name in (self.format, *self.formats.values()):
            if name not in LAYOUTS:
                raise ConfigError(f"format {name!r}: expected one of {', '.join(LAYOUTS)}")
        if strange := sorted(set(self.formats) - {"train", "valid", "test"}):
            raise ConfigError(f"formats names {strange[0]}: expected train, valid or test")
        if self.longest_words < 0:
            raise ConfigError(f"longest_words must be at least 0: found {self.longest_words}")

    def read(self, path: str, language: str, split: str = "train") -> Sequence[SentenceRow]:
        """Read the rows of a file."""
        layout = self.formats.get(split, self.format)
        spoken = language if LAYOUTS[layout].language is not None else ""
        return list(read_rows(path, layout, language=spoken))

    def rows_of(self, example: Any, number: int, tokenizer: Tokenizer) -> list[Row]:
        """Return one row; above ``length`` tokens, the longer side is cut at its end."""
        pair = example.second is not None
        texts = [example.first, example.second] if pair else [example.first]
        if self.longest_words:
            texts = [" ".join(text.split(" ")[: self.longest_words]) for text in texts]
        num_specials = tokenizer.num_specials("merged", pair=pair)
        if num_specials > self.length:
            raise ConfigError(
                f"length is {self.length}, but the special tokens of a "
                f"{'pair' if pair else 'row'} alone take {num_specials}: raise length above "
                f"{num_specials}"
            )
        encoded = [encode(tokenizer, text) for text in texts]
        first, *second = cut(encoded, self.length - num_specials)
        wrapped = tokenizer.wrap(first, second[0] if second else None, "merged")
        return [Row(wrapped, self.answer(example), number)]

    def unlabeled(self, line: str, place: str) -> SentenceRow:
        """Parse a line of ``xlm predict``: a sentence, or two separated by a tab."""
        first, *others = line.split("\t")
        if len(others) > 1:
            raise DataError(f"{place}: found {len(others)} tabs, expected a sentence or a pair")
        return SentenceRow("", first, others[0] if others else None, "", place)

    def check_line(self, line: str, place: str) -> None:
        """Reject a single sentence for a pair task, and a pair for a single-sentence task."""
        if self.files == NO_FILES:
            return
        pairs = bool(LAYOUTS[self.formats.get("train", self.format)].second)
        if pairs != ("\t" in line):
            expected = "two sentences separated by a tab" if pairs else "one sentence without a tab"
            raise DataError(f"{place}: found {line[:40]!r}, expected {expected}, as in training")

    def answer(self, example: SentenceRow) -> Any:
        """Return the value to be predicted of a row."""
        raise NotImplementedError

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return rows and their answers; nothing is random."""
        answers = np.array([row.answer for row in self.items(examples)])
        at = np.arange(len(answers))
        return self.cells(examples).batch(examples.rows, at, answers, multiple=1)


@dataclass(frozen=True, kw_only=True)
class Classification(Sentences):
    """Name the class of a sentence or pair."""

    labels: list[str] = field(default_factory=list)
    """The classes, in the order of the head's rows; empty: those of the training files, in
    alphabetical order."""

    def __post_init__(self) -> None:
        Sentences.__post_init__(self)
        if self.labels and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise ConfigError(f"labels must be two or more different names: found {self.labels}")

    @property
    def classes(self) -> list[str]:
        """The labels."""
        return self.labels

    def resolved(self) -> Classification:
        """Return the same task with ``labels`` as the training files have them."""
        if self.labels:
            return self
        found = {
            row.label
            for language, path in self.files.train.items()
            for row in self.read(path, language)
        }
        return replace(self, labels=sorted(found))

    def read(self, path: str, language: str, split: str = "train") -> Sequence[SentenceRow]:
        """Read the rows of a file; raise DataError, with its line, for an unlisted label."""
        rows = Sentences.read(self, path, language, split)
        for row in rows:
            if self.labels and row.label not in self.labels:
                raise DataError(
                    f"{row.place}: found the label {row.label!r}, expected one of "
                    f"{', '.join(self.labels)}"
                )
        return rows

    def answer(self, example: SentenceRow) -> int:
        """Return the number of the label."""
        return self.labels.index(example.label)

    def head(self, config: ModelConfig) -> nn.Module:
        """Return a head with ``[labels]`` scores a row."""
        if not self.labels:
            raise ConfigError("Classification: labels is empty; give them, or use xlm finetune")
        return SentenceHead(self.readout, config, len(self.labels))

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the labels."""
        assert head is not None
        scores = head(model, batch)
        loss = cross_entropy_loss(scores, batch, with_scores=not model.training)
        return loss if model.training else replace(loss, outputs=scores.argmax(-1))

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return the number of each row's class."""
        return dict(zip(batch.rows.tolist(), outputs.tolist(), strict=True))

    def unlabeled(self, line: str, place: str) -> SentenceRow:
        """Parse a line of ``xlm predict``: a sentence, or two separated by a tab."""
        return replace(Sentences.unlabeled(self, line, place), label=self.labels[0])

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return each row's label."""
        return {row: self.labels[label] for row, label in predictions.items()}

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return accuracy, macro F1, Matthews' coefficient; F1 of each label."""
        assert isinstance(stream, RowStream)
        rows = sorted(predictions)
        gold = [stream.items[row].answer for row in rows]
        return class_figures(
            confusion_scores(gold, [predictions[row] for row in rows]), self.labels
        )

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return nats and accuracy a row."""
        rows = scores["targets"]
        return {
            "nats": scores["nats"] / rows,
            "accuracy": scores["correct"] / rows,
            "targets": rows,
        }
