"""Dependency parsing: a biaffine scorer of arcs and labels on first subwords.

Dozat and Manning (2017) with their LSTM replaced by the encoder, as in the mBERT study (section 5;
its released sizes: arcs 512, labels 128, parts of speech 100, dropout 0.33). The best tree is found
by Chu-Liu and Edmonds' algorithm.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.data.corpora import Corpora
from xlm.data.row_streams import Row, RowStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.metrics.attachment import attachment_figures, attachment_scores, without_upos
from xlm.metrics.scores import Scores
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.tasks.heads import Reader, Readout
from xlm.tasks.readers.tagged import ParsedSentence, read_trees
from xlm.tasks.spanning_tree import maximum_tree
from xlm.tasks.task import Task, encode
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")

UNSCORED = ("PUNCT", "SYM")
"""Left out of ``uas`` and ``las`` (mBERT study, section 4.5); ``_all`` figures count every word."""


class Tree(NamedTuple):
    """The answer of one row, its words being those that fit."""

    cells: NDArray[np.int64]
    """Place of each word's first piece in the row (int64 ``[n]``)."""
    sentence: ParsedSentence
    """The whole sentence, perhaps longer."""


@dataclass(frozen=True, kw_only=True)
class Parsing(Task):
    """Find the head of every word, and its relation to it."""

    labels: list[str] = field(default_factory=list)
    """The relations, without subtypes; empty: those of the training files."""
    longest_words: int = 140
    """Cut sentences after this many words (mBERT study, section 5). Words that are cut off count as
    wrong."""
    length: int = 512
    """Pieces in a row, special ones included; the rest is cut off too."""
    train_length: int = 128
    """Longest training sentence in pieces, special ones included (mBERT study, section 5); longer
    ones, and those that would be cut, are left out of training, and counted."""
    rows: int = 16
    """Sentences in a micro-batch."""
    upos: bool = False
    """Give the model the gold parts of speech, as an embedding beside each word's hidden state."""
    tags: list[str] = field(default_factory=list)
    """With upos: the known parts of speech; empty: those of the training files."""
    arc_size: int = 512
    """Width of the vectors that score arcs."""
    label_size: int = 128
    """Width of the vectors that score labels."""
    upos_size: int = 100
    """Width of the embeddings of parts of speech."""
    readout: Readout = field(default_factory=lambda: Readout(dropout=0.33))
    """Readout of the encoder; its dropout is used throughout the scorer."""

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        self.readout.check_cells("Parsing")
        for name in ("arc_size", "label_size", "upos_size", "longest_words", "train_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        for name in ("labels", "tags"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ConfigError(f"{name} must differ: found {getattr(self, name)}")

    def read(self, path: str, language: str, split: str = "train") -> Sequence[ParsedSentence]:
        """Read the trees of a CoNLL-U file, relations without subtypes."""
        return [
            replace(tree, labels=tuple(label.partition(":")[0] for label in tree.labels))
            for tree in read_trees(path, language=language)
        ]

    def resolved(self) -> Parsing:
        """Return the same task with ``labels`` and ``tags`` as the training files have them."""
        if self.labels and (self.tags or not self.upos):
            return self
        trees = [
            tree
            for language, path in self.files.train.items()
            for tree in self.read(path, language)
        ]
        labels = self.labels or sorted({label for tree in trees for label in tree.labels})
        tags = self.tags or sorted({tag for tree in trees for tag in tree.upos})
        return replace(self, labels=labels, tags=tags)

    def rows_of(self, example: Any, number: int, tokenizer: Tokenizer) -> list[Row]:
        """Return one row of as many words as fit."""
        room = self.length - tokenizer.num_specials("xlm", pair=False)
        unknown = np.array([tokenizer.unk_id])
        pieces = [encode(tokenizer, word) for word in example.words[: self.longest_words]]
        pieces = [ids[:room] if len(ids) else unknown for ids in pieces]
        ends = np.cumsum([len(ids) for ids in pieces])
        num = int(np.searchsorted(ends, room, side="right"))
        wrapped = tokenizer.wrap(np.concatenate(pieces[:num]))
        cells = 1 + np.concatenate([[0], ends[: num - 1]]).astype(np.int64)
        return [Row(wrapped, Tree(cells, example), number)]

    def _rows(
        self,
        name: str,
        corpora: Corpora,
        examples: Sequence[Any],
        language: str,
        seed: int,
        split: str,
    ) -> list[Row]:
        """Leave out the sentences that are too long to be trained on."""
        rows = Task._rows(self, name, corpora, examples, language, seed, split)
        if split != "train":
            return rows
        kept = [row for row in rows if self._is_trained(row)]
        if not kept:
            raise DataError(
                f"{name}/{language} (train): all {len(rows)} sentences are longer than "
                f"train_length {self.train_length} pieces or longest_words "
                f"{self.longest_words}; raise them"
            )
        if len(kept) < len(rows):
            log.info(
                "%s/%s: not trained on %d of %d sentences, longer than %d pieces or %d words",
                name, language, len(rows) - len(kept), len(rows), self.train_length,
                self.longest_words,
            )  # fmt: skip
        return kept

    def _is_trained(self, row: Row) -> bool:
        is_whole = len(row.answer.cells) == len(row.answer.sentence.words)
        return is_whole and len(row.wrapped.tokens) <= self.train_length

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return words' cells and int64 ``[N, 3]`` targets: head position, label, part of speech.

        The head's position is in the row, 0 (the opening symbol) being the root. Words whose head
        was cut off and labels that are unknown add nothing to the loss.
        """
        cells = self.cells(examples)
        width = cells.tokens.shape[1]
        labels = {label: number for number, label in enumerate(self.labels)}
        tags = {tag: number for number, tag in enumerate(self.tags)}
        predict, targets = [], []
        for at, row in enumerate(self.items(examples)):
            starts, tree = row.answer
            positions = np.concatenate([[0], starts])
            for word, start in enumerate(starts.tolist()):
                head, label = tree.heads[word], labels.get(tree.labels[word], IGNORED)
                tag = tags.get(tree.upos[word], len(tags))
                place = int(positions[head]) if head < len(positions) else IGNORED
                predict.append(at * width + start)
                targets.append((place, label, tag))
        answers = np.array(targets, dtype=np.int64)
        batch = cells.batch(examples.rows, np.array(predict), answers, multiple=1)
        return replace(batch, count=int((answers[:, 0] != IGNORED).sum()))

    def head(self, config: ModelConfig) -> nn.Module:
        """Return the biaffine scorer."""
        if not self.labels:
            raise ConfigError("Parsing: labels is empty; give them, or fine-tune with xlm finetune")
        return BiaffineHead(self, config)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of heads and of labels given the true head."""
        assert isinstance(head, BiaffineHead)
        arcs, dependents, heads = head(model, batch)
        place, label = batch.targets[:, 0], batch.targets[:, 1]
        given = place.clamp(min=0)
        by_label = head.labels(dependents, heads[head.rows(batch), given])
        known = label.where(place != IGNORED, IGNORED)
        total = sum_cross_entropy(arcs, place) + sum_cross_entropy(by_label, known)
        if model.training:
            return Loss(total, batch.count)
        best = head.best_labels(dependents, heads, batch.predict)
        outputs = torch.stack([arcs.float(), best.to(torch.float32)], dim=-1)
        return Loss(total, batch.count, {"nats": total.detach()}, outputs=outputs)

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return heads (word numbers, 0 the root) and label numbers of each row's words."""
        assert isinstance(stream, RowStream)
        found, at = {}, 0
        for row in batch.rows.tolist():
            starts = stream.items[row].answer.cells
            own = outputs[at : at + len(starts)].numpy()
            at += len(starts)
            places = np.concatenate([[0], starts])
            heads = maximum_tree(own[:, places, 0].astype(np.float64))
            labels = own[np.arange(len(starts)), places[heads], 1].astype(np.int64)
            found[row] = [heads.tolist(), labels.tolist()]
        return found

    @property
    def metric(self) -> str:
        """LAS."""
        return "las"

    def unlabeled(self, line: str, place: str) -> ParsedSentence:
        """Parse a line of ``xlm predict``: words separated by spaces."""
        words = tuple(line.split())
        if self.upos:
            raise ConfigError(
                "this parser needs gold parts of speech, but predict reads plain words: train a "
                "parser with upos false"
            )
        num = len(words)
        heads, labels = tuple(range(num)), (self.labels[0],) * num
        return ParsedSentence(words, ("X",) * num, heads, labels, "", place)

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return ``head:label`` of each word, separated by spaces; ``_`` if it was cut off."""
        assert isinstance(stream, RowStream)
        shown = {}
        for row, (heads, labels) in predictions.items():
            item = stream.items[row]
            words = [f"{h}:{self.labels[n]}" for h, n in zip(heads, labels, strict=True)]
            missing = len(item.answer.sentence.words) - len(words)
            shown[item.example] = " ".join(words + ["_"] * missing)
        return shown

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return UAS and LAS without punctuation and symbols, and (``_all``) with them."""
        assert isinstance(stream, RowStream)
        scored, every = Scores(), Scores()
        for row, (heads, labels) in predictions.items():
            tree = stream.items[row].answer.sentence
            missing = len(tree.words) - len(heads)
            named = [self.labels[number] for number in labels] + [""] * missing
            given = (tree.heads, tree.labels, heads + [-1] * missing, named)
            scored = scored + attachment_scores(*given, scored=without_upos(tree.upos, UNSCORED))
            every = every + attachment_scores(*given)
        both = attachment_figures(every)
        return {
            **attachment_figures(scored),
            "uas_all": both["uas"],
            "las_all": both["las"],
            "words_all": both["words"],
        }

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return nats a word, of head and label together."""
        words = scores["targets"]  # 0 if every head was cut off
        return {"nats": scores["nats"] / words if words else 0.0, "targets": words}


class BiaffineHead(nn.Module):
    """Scores of arcs ``[N, T]`` and of labels; Dozat and Manning (2017), equations 4 to 9."""

    def __init__(self, parsing: Parsing, config: ModelConfig):
        super().__init__()
        self.reader = Reader(parsing.readout, config)
        self.dropout = parsing.readout.dropout
        width = self.reader.width
        self.upos = None
        if parsing.upos:
            self.upos = nn.Embedding(len(parsing.tags) + 1, parsing.upos_size)
            width += parsing.upos_size
        arc, label = parsing.arc_size, parsing.label_size
        self.arc_dependent, self.arc_head = nn.Linear(width, arc), nn.Linear(width, arc)
        self.label_dependent, self.label_head = nn.Linear(width, label), nn.Linear(width, label)
        self.arc_weight = nn.Parameter(torch.zeros(arc + 1, arc))
        self.label_weight = nn.Parameter(torch.zeros(len(parsing.labels), label + 1, label + 1))
        nn.init.xavier_uniform_(self.arc_weight)
        nn.init.xavier_uniform_(self.label_weight)

    def rows(self, batch: Batch) -> Tensor:
        """Return int64 ``[N]``: the row of each word."""
        return batch.predict // batch.tokens.shape[1]

    def forward(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return arc scores ``[N, T]``, -inf if no word begins there; ``[N, L]``; ``[B, T, L]``."""
        states = self.reader(model, batch)
        states = F.dropout(states, self.dropout, self.training)
        flat = batch.predict
        shape = states.shape[:2]
        if self.upos is not None:
            embedded = states.new_zeros(*shape, self.upos.embedding_dim).flatten(0, 1)
            tags = self.upos(batch.targets[:, 2]).to(states.dtype)
            embedded = embedded.index_copy(0, flat, F.dropout(tags, self.dropout, self.training))
            states = torch.cat([states, embedded.view(*shape, -1)], dim=-1)
        begins = torch.zeros(shape, dtype=torch.bool, device=flat.device).flatten()
        begins = begins.index_fill(0, flat, True).view(shape)
        begins = begins | (torch.arange(shape[1], device=flat.device) == 0)
        words, rows = states.flatten(0, 1).index_select(0, flat), self.rows(batch)
        dependents = _with_one(self._grown(self.arc_dependent, words)) @ self.arc_weight
        heads = self._grown(self.arc_head, states)
        arcs = _with_each(dependents, heads, flat)
        itself = torch.arange(shape[1], device=flat.device) == (flat % shape[1])[:, None]
        arcs = arcs.masked_fill(~begins[rows] | itself, float("-inf"))
        return arcs, self._grown(self.label_dependent, words), self._grown(self.label_head, states)

    def _grown(self, layer: nn.Linear, x: Tensor) -> Tensor:
        return F.dropout(F.leaky_relu(layer(x), 0.1), self.dropout, self.training)

    def labels(self, dependents: Tensor, heads: Tensor) -> Tensor:
        """Return label scores ``[N, labels]`` of words and their heads, ``[N, L]`` each."""
        by_label = torch.einsum("nd,rde->nre", _with_one(dependents), self.label_weight)
        return torch.einsum("nre,ne->nr", by_label, _with_one(heads))

    def best_labels(self, dependents: Tensor, heads: Tensor, cells: Tensor) -> Tensor:
        """Return int64 ``[N, T]``: the best label of each word under each cell of its row as head.

        A label at a time: all labels of all cells at once fill the memory.
        """
        dependents, heads = _with_one(dependents), _with_one(heads)
        top = dependents.new_full((len(cells), heads.shape[1]), float("-inf"))
        best = torch.zeros_like(top, dtype=torch.int64)
        for label, weight in enumerate(self.label_weight):
            scores = _with_each(dependents @ weight, heads, cells)
            best = torch.where(scores > top, label, best)
            top = torch.maximum(scores, top)
        return best


def _with_each(words: Tensor, cells: Tensor, places: Tensor) -> Tensor:
    """Return products ``[N, T]`` of words ``[N, D]`` and each cell ``[B, T, D]`` of their row.

    ``places`` int64 ``[N]`` are the words' own flat cells, all distinct. One product a row: a copy
    of its row for each word would be a hundred times larger.
    """
    laid = words.new_zeros(cells.shape).flatten(0, 1).index_copy(0, places, words)
    products = laid.view(cells.shape) @ cells.transpose(1, 2)
    return products.flatten(0, 1).index_select(0, places)


def _with_one(x: Tensor) -> Tensor:
    """Append a one: ``[..., D] -> [..., D + 1]``, a bias for a product."""
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
