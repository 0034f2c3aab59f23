"""Tags of words: parts of speech, named entities.

mBERT study, section 5 and appendix: a linear layer on the first subword of each word; sentences
longer than a row slide with 64 pieces of context, so that every word is predicted exactly once;
entities are scored by span, after the repair of invalid ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.row_streams import Row, RowStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores
from xlm.metrics.spans import as_iob2, repair, span_figures, span_scores
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import cross_entropy_loss
from xlm.rng import Random
from xlm.tasks.heads import WordHead
from xlm.tasks.readers.tagged import TaggedSentence, read_tagged
from xlm.tasks.task import Task, encode
from xlm.tasks.windows import word_windows
from xlm.text.tokenizers.tokenizer import Tokenizer


class WordTags(NamedTuple):
    """The answer of one row: its new words."""

    cells: list[int]
    """Place of the first piece of each in the row."""
    tags: list[int]
    """The id of each one's tag."""
    words: list[int]
    """Index in the sentence of each word."""


@dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """Name the tag of every word."""

    tags: list[str] = field(default_factory=list)
    """The tags; empty: those of the training files, in alphabetical order."""
    format: Literal["tsv", "conllu", "conll", "wikiann"] = "tsv"
    """Format of the files. tsv: a word, a tab and its tag on each line, with empty lines between
    sentences; conll: first and last column; conllu: universal parts of speech."""
    relabel: dict[str, str] = field(default_factory=dict)
    """Other names for the files' tags, such as {CONJ: CCONJ}; for entities, rename the types
    without B- and I- (O: not an entity)."""
    spans: bool = False
    """The tags are entities (B-PER, I-PER, O), scored by span instead of by word."""
    length: int = 128
    """Pieces in a row, special ones included; longer sentences are split over several rows."""
    context: int = 64
    """Number of pieces by which the rows of a long sentence overlap."""

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        self.readout.check_cells("Tagging", "tanh", "dense", "transform", "feed-forward")
        if not 0 <= self.context < self.length - 2:
            raise ConfigError(
                f"context must be below length - 2 = {self.length - 2}: found {self.context}"
            )
        if len(set(self.tags)) != len(self.tags):
            raise ConfigError(f"tags must be different names: found {self.tags}")
        if self.spans:
            self._check_scheme(self.tags, "tags")

    def read(self, path: str, language: str, split: str = "train") -> Sequence[TaggedSentence]:
        """Read sentences, relabeled; raise DataError, with the line, for an unlisted tag."""
        spoken = language if self.format == "wikiann" else ""
        sentences = [
            replace(sentence, tags=tuple(self._renamed(tag) for tag in self._marked(sentence.tags)))
            for sentence in read_tagged(path, self.format, language=spoken)
        ]
        known = set(self.tags)
        for sentence in sentences:
            if self.spans:
                self._check_scheme(sentence.tags, sentence.place)
            if known and (strange := set(sentence.tags) - known):
                raise DataError(
                    f"{sentence.place}: found the tag {min(strange)!r} in this sentence, "
                    f"expected one of {', '.join(self.tags)}; map it in relabel"
                )
        return sentences

    def _marked(self, tags: Sequence[str]) -> Sequence[str]:
        """Return the tags of entities in IOB2, also for files in IOBES, BILOU or BMES."""
        return as_iob2(tags) if self.spans else tags

    def _check_scheme(self, tags: Sequence[str], where: str) -> None:
        try:
            repair(tags)
        except DataError as error:
            kind = ConfigError if where == "tags" else DataError
            raise kind(f"{where}: {error}, or set spans to false") from None

    def _renamed(self, tag: str) -> str:
        mark, dash, kind = tag.partition("-") if self.spans else ("", "", tag)
        renamed = self.relabel.get(kind, kind)
        return "O" if self.spans and renamed == "O" else f"{mark}{dash}{renamed}"

    def resolved(self) -> Tagging:
        """Return the same task with ``tags`` as the training files have them."""
        if self.tags:
            return self
        found = {
            tag
            for language, path in self.files.train.items()
            for sentence in self.read(path, language)
            for tag in sentence.tags
        }
        if self.spans:
            kinds = {tag.partition("-")[2] for tag in found - {"O"}}
            found |= {"O"} | {f"{mark}-{kind}" for mark in "BI" for kind in kinds}
        return replace(self, tags=sorted(found))

    def rows_of(self, example: Any, number: int, tokenizer: Tokenizer) -> list[Row]:
        """Return a sentence's windows; a word without any piece is read as the unknown one."""
        unknown = np.array([tokenizer.unk_id])
        room = self.length - tokenizer.num_specials("xlm", pair=False)
        pieces = [encode(tokenizer, word) for word in example.words]
        pieces = [ids[:room] if len(ids) else unknown for ids in pieces]
        tags = [self.tags.index(tag) for tag in example.tags]
        rows = []
        for start, new, end in word_windows([len(ids) for ids in pieces], room, self.context):
            wrapped = tokenizer.wrap(np.concatenate(pieces[start:end]))
            starts = 1 + np.cumsum([0, *(len(ids) for ids in pieces[start : end - 1])])
            answer = WordTags(starts[new - start :].tolist(), tags[new:end], list(range(new, end)))
            rows.append(Row(wrapped, answer, number))
        return rows

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return rows, the cells of their new words, and their tags; nothing is random."""
        cells = self.cells(examples)
        width = cells.tokens.shape[1]
        answers = [row.answer for row in self.items(examples)]
        predict = [at * width + cell for at, own in enumerate(answers) for cell in own.cells]
        targets = [tag for own in answers for tag in own.tags]
        return cells.batch(examples.rows, np.array(predict), np.array(targets))

    def head(self, config: ModelConfig) -> nn.Module:
        """Return a head with ``[tags]`` scores a word."""
        if not self.tags:
            raise ConfigError("Tagging: tags is empty; give them, or fine-tune with xlm finetune")
        return WordHead(self.readout, config, len(self.tags))

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the words' tags."""
        assert head is not None
        scores = head(model, batch)
        loss = cross_entropy_loss(scores, batch, with_scores=not model.training)
        return loss if model.training else replace(loss, outputs=scores.argmax(-1))

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return the tag ids of each row's new words."""
        assert isinstance(stream, RowStream)
        found, at = {}, 0
        for row in batch.rows.tolist():
            num = len(stream.items[row].answer.cells)
            found[row] = outputs[at : at + num].tolist()
            at += num
        return found

    @property
    def metric(self) -> str:
        """F1 of entities, accuracy of other tags."""
        return "f1" if self.spans else "accuracy"

    def unlabeled(self, line: str, place: str) -> TaggedSentence:
        """Parse a line of ``xlm predict``: words separated by spaces."""
        words = tuple(line.split())
        return TaggedSentence(words, (self.tags[0],) * len(words), "", place)

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return each sentence's tags, separated by spaces; those of entities are repaired."""
        found = {number: tags for number, (_, tags) in self.sentences(stream, predictions).items()}
        return {n: " ".join(repair(tags) if self.spans else tags) for n, tags in found.items()}

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return the share of the commonest tag; for entities also span F1 and its parts."""
        given = Counter(tag for tags in predictions.values() for tag in tags)
        figures = {"commonest": max(given.values()) / given.total()}
        if not self.spans:
            return figures
        sums = Scores()
        for gold, found in self.sentences(stream, predictions).values():
            sums = sums + span_scores(gold, found)
        return {**span_figures(sums), **figures}

    def sentences(
        self, stream: Stream, predictions: Mapping[int, Any]
    ) -> dict[int, tuple[list[str], list[str]]]:
        """Return gold and predicted tags of each whole sentence, by its number in the file."""
        assert isinstance(stream, RowStream)
        joined: dict[int, tuple[list[str], list[str]]] = {}
        for row in sorted(predictions):  # the windows of a sentence follow one another
            item = stream.items[row]
            gold, found = joined.setdefault(item.example, ([], []))
            gold += [self.tags[tag] for tag in item.answer.tags]
            found += [self.tags[tag] for tag in predictions[row]]
        return joined

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return nats and accuracy a word."""
        words = scores["targets"]
        return {
            "nats": scores["nats"] / words,
            "accuracy": scores["correct"] / words,
            "targets": words,
        }
