"""Extractive question answering: the first and last piece of the answer in a paragraph.

A linear layer gives each piece a score as the first and as the last of the answer (BERT, section
4.2). Long paragraphs are read in windows that begin ``stride`` pieces apart; the best span of all
of them is the answer, scored by SQuAD's, XQuAD's or MLQA's rules.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.row_streams import Row, RowStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.metrics.answers import Rules, answer_figures, answer_scores, normalize_answer
from xlm.metrics.scores import Scores
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.layers import OutputTransform
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.tasks.answer_spans import Answer, best_answer
from xlm.tasks.heads import Reader, Readout
from xlm.tasks.readers.questions import Question, read_questions
from xlm.tasks.task import Task, encode
from xlm.tasks.windows import SubwordWindow, best_windows, subword_windows
from xlm.text.readers import ReadReport
from xlm.text.tokenizers.alignment import align
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")


class Passage(NamedTuple):
    """The answer of one row, and what its pieces stand for."""

    question: Question
    window: SubwordWindow
    """The pieces of the paragraph that the row holds."""
    offset: int
    """Place of the first of them in the row."""
    characters: NDArray[np.int64]
    """int64 ``[pieces, 2]``: the characters of the paragraph that each piece stands for."""
    span: tuple[int, int]
    """Cells of the first and last piece of the answer; 0, 0 if the window does not hold it."""
    owned: NDArray[np.bool_]
    """bool ``[window.length]``: pieces that no other window gives more context: a predicted answer
    of this one may begin at them."""


@dataclass(frozen=True, kw_only=True)
class Answering(Task):
    """Answer questions with a span of a paragraph."""

    length: int = 384
    """Pieces in a row: question, special symbols and a window of the paragraph."""
    stride: int = 128
    """Pieces between the beginnings of consecutive windows."""
    longest_question: int = 64
    """Longer questions are cut to this many pieces."""
    longest_answer: int = 30
    """Largest number of pieces in a predicted answer."""
    rules: Rules = "squad1"
    """Rules for comparing answers: squad1 (SQuAD 1.1, XQuAD), squad2 or mlqa."""
    unanswerable: bool = False
    """Allow paragraphs without an answer (SQuAD 2.0; needs rules squad2)."""
    articles: dict[str, list[str]] = field(default_factory=dict)
    """Titles of the articles that each split uses, such as {train: [...], test: [...]}; a split
    that is not listed uses all."""
    misplaced: str = "error"
    """Handling of answers that are not at their place in the file, or that no piece of the
    tokenizer covers: error, or drop (and count)."""

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        self.readout.check_cells("Answering", "transform")
        for name in ("longest_question", "longest_answer"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        if self.unanswerable and self.rules != "squad2":
            raise ConfigError(
                f"unanswerable needs rules squad2: {self.rules} cannot score a question "
                "without an answer"
            )
        room = self.length - self.longest_question - 4
        if not 1 <= self.stride <= room:
            raise ConfigError(
                f"stride must be between 1 and length - longest_question - 4 = {room}: found "
                f"{self.stride}"
            )

    def read(self, path: str, language: str, split: str = "train") -> Sequence[Any]:
        """Read the questions of a SQuAD file, or only those of some articles."""
        if split != "train":
            normalize_answer("", self.rules, language)  # a language that the rules know
        report = ReadReport()
        questions = list(
            read_questions(
                path, language=language, articles=self.articles.get(split),
                misplaced=self.misplaced, report=report,
            )
        )  # fmt: skip
        for reason, num in report.dropped.items():
            log.info("%s: left out %d questions: %s", path, num, reason)
        for question in questions:
            if not question.answers and not self.unanswerable:
                raise DataError(
                    f"{question.place}: found no answer, expected one; set unanswerable if "
                    "paragraphs may lack the answer"
                )
        return questions

    def rows_of(self, example: Any, number: int, tokenizer: Tokenizer) -> list[Row]:
        """Return a question with each window of its paragraph."""
        if tokenizer.rules:
            raise ConfigError(
                "the model's text was normalized by language, which shifts the positions of "
                "answers: use a model without normalization rules, or normalize the "
                "questions beforehand"
            )
        asked = encode(tokenizer, example.question)[: self.longest_question]
        ids, characters = align(tokenizer, example.context)  # kept for the next question on it
        room = self.length - len(asked) - tokenizer.num_specials("merged", pair=True)
        first, last = self._answer_pieces(example, characters)
        stretches = subword_windows(len(ids), room, self.stride)
        owner = best_windows(stretches, len(ids))
        rows = []
        for index, window in enumerate(stretches):
            own = ids[window.first : window.first + window.length]
            wrapped = tokenizer.wrap(asked, own, "merged")
            offset = len(wrapped.tokens) - 1 - len(own)
            inside = first >= window.first and last < window.first + window.length and first >= 0
            shift = offset - window.first
            span = (first + shift, last + shift) if inside else (0, 0)
            owned = owner[window.first : window.first + window.length] == index
            passage = Passage(example, window, offset, characters, span, owned)
            rows.append(Row(wrapped, passage, number))
        return rows

    def _answer_pieces(self, question: Question, characters: NDArray[np.int64]) -> tuple[int, int]:
        """Return first and last piece of the first gold answer; -1, -1 if there is none."""
        if not question.answers:
            return -1, -1
        begin = question.answers[0].start
        end = begin + len(question.answers[0].text)
        touched = np.flatnonzero((characters[:, 0] < end) & (characters[:, 1] > begin))
        if len(touched):
            return int(touched[0]), int(touched[-1])
        if self.misplaced == "error":
            raise DataError(
                f"{question.place}: no piece of the tokenizer covers any of the answer "
                f"{question.answers[0].text[:40]!r}; fix the file, or set misplaced to drop"
            )
        log.info("%s: no piece covers the answer, so it is not learned", question.place)
        return -1, -1

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return rows with targets int64 ``[B, 2]``: the first and the last cell of the answer."""
        spans = np.array([row.answer.span for row in self.items(examples)], dtype=np.int64)
        at = np.arange(len(spans))
        return self.cells(examples).batch(examples.rows, at, spans, multiple=1)

    def head(self, config: ModelConfig) -> nn.Module:
        """Return a head with two scores a cell."""
        return SpanHead(self.readout, config)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the mean of the cross-entropies of first and last cell, summed over rows."""
        assert head is not None
        scores = head(model, batch)
        total = sum(sum_cross_entropy(scores[..., k], batch.targets[:, k]) for k in (0, 1)) / 2
        assert isinstance(total, Tensor)
        if model.training:
            return Loss(total, batch.count)
        return Loss(total, batch.count, {"nats": total.detach()}, outputs=scores.float())

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return each row's best span ``[score, first, last, score of no answer]``.

        ``first`` and ``last`` are pieces of the paragraph; -1, -1 if no span is possible.
        """
        assert isinstance(stream, RowStream)
        found = {}
        for at, row in enumerate(batch.rows.tolist()):
            passage = stream.items[row].answer
            own = outputs[at, passage.offset : passage.offset + passage.window.length].numpy()
            best = best_answer(
                [np.where(passage.owned, own[:, 0], -np.inf)], [own[:, 1]], [passage.window],
                max_length=self.longest_answer, null_scores=[float(outputs[at, 0].sum())],
            )  # fmt: skip
            found[row] = [best.score, best.first, best.last, best.null_score]
        return found

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return exact match and F1 by the official rules, over questions."""
        assert isinstance(stream, RowStream)
        sums = Scores()
        for passage, text in self.answers(stream, predictions).values():
            question = passage.question
            golds = [gold.text for gold in question.answers]
            sums = sums + answer_scores(text, golds, self.rules, question.language or stream.name)
        return answer_figures(sums)

    def answers(
        self, stream: Stream, predictions: Mapping[int, Any]
    ) -> dict[int, tuple[Passage, str]]:
        """Return the answer to each question, by its number in the file; "" if there is none."""
        assert isinstance(stream, RowStream)
        together: dict[int, list[int]] = {}
        for row in sorted(predictions):
            together.setdefault(stream.items[row].example, []).append(row)
        found = {}
        for number, rows in together.items():
            passage = stream.items[rows[0]].answer
            best = _merged([predictions[row] for row in rows])
            text = ""
            if best.first >= 0 and not (self.unanswerable and best.is_null()):
                begin, end = passage.characters[[best.first, best.last], [0, 1]].tolist()
                text = passage.question.context[begin:end]
            found[number] = (passage, text)
        return found

    @property
    def metric(self) -> str:
        """F1."""
        return "f1"

    def unlabeled(self, line: str, place: str) -> Question:
        """Parse a line of ``xlm predict``: a question, a tab, and the paragraph."""
        question, tab, context = line.partition("\t")
        if not tab:
            raise DataError(f"{place}: found no tab, expected a question, a tab and a paragraph")
        return Question(place, question, context, (), "", "", place)

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return the answer to each question."""
        found = self.answers(stream, predictions)
        return {number: text for number, (_, text) in found.items()}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return nats a row."""
        return {"nats": scores["nats"] / scores["targets"], "targets": scores["targets"]}


class SpanHead(nn.Module):
    """A linear layer to two scores a cell, perhaps after a transform; -inf at padding."""

    def __init__(self, readout: Readout, config: ModelConfig):
        super().__init__()
        self.reader = Reader(readout, config)
        transforms = readout.kind == "transform"
        self.hidden = OutputTransform(config) if transforms else nn.Identity()
        self.dropout = nn.Dropout(readout.dropout)
        self.output = nn.Linear(self.reader.width, 2)

    def forward(self, model: Transformer, batch: Batch) -> Tensor:
        """Map to scores ``[B, T, 2]``."""
        scores: Tensor = self.output(self.dropout(self.hidden(self.reader(model, batch))))
        places = torch.arange(batch.tokens.shape[1], device=scores.device)
        return scores.masked_fill((places >= batch.lengths[:, None])[..., None], float("-inf"))


def _merged(spans: Sequence[Any]) -> Answer:
    """Return the best span of all windows (the first of equals), and the least no-answer score."""
    score, first, last, _ = max(spans, key=lambda span: span[0])
    return Answer(score, first, last, min(span[3] for span in spans))
