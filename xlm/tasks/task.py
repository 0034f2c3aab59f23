"""The base of every fine-tuning task: files by split and language, rows, and their sampling."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xlm.config.hints import check_types
from xlm.data.collate import Cells, pad
from xlm.data.corpora import Corpora
from xlm.data.row_streams import Row, RowStream
from xlm.data.sampling import Sampling
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.model.config import ModelConfig
from xlm.objective import Objective, check_length
from xlm.rng import Permutation
from xlm.tasks.heads import Readout
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

__all__ = ["Files", "Task"]


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a task; the languages of each split are free."""

    train: dict[str, str] = field(default_factory=dict)
    """Training text: a file for each language (or sample:NAME, datasets:NAME)."""
    valid: dict[str, str] = field(default_factory=dict)
    """Validation text, used to choose checkpoints and settings."""
    test: dict[str, str] = field(default_factory=dict)
    """Test text, whose figures are reported."""


OWN = "own"
"""The language token that is that of the text's language."""
NO_FILES = Files(train={"any": "none: the model was fine-tuned with transformers"})
"""The files of a task whose model was fine-tuned elsewhere: nothing is known of them."""


@dataclass(frozen=True, kw_only=True)
class Task(Objective):
    """Fine-tune on any set of languages, evaluate on any other.

    A subclass reads its format (``read``), makes rows of it (``rows_of``), adds a head, and says
    what a prediction is.
    """

    files: Files
    """Files of the examples."""
    sampling: Sampling = field(default_factory=lambda: Sampling(alpha=1.0))
    """Sampling of the training languages (alpha 1: as if all files were one)."""
    rows: int = 32
    """Rows in a micro-batch."""
    length: int = 256
    """Tokens in a row, special ones included; each task says how it treats longer text."""
    num_lengths: int = 24
    """Largest number of padded lengths."""
    readout: Readout = field(default_factory=Readout)
    """The network on top of the encoder, and the states that it reads."""
    stand_in: dict[str, str] = field(default_factory=dict)
    """For a language the model lacks, the known language whose id is used instead, such as {sw:
    en}."""
    language_token: str | None = None
    """The language token in place of each row's begin symbol, for encoders that were trained with
    such tokens: own (the token of the text's language, or of its stand_in), or a language such as
    en; null: the begin symbol."""
    limit: int = 0
    """Use only this many training examples of each language, drawn by the seed (0: all)."""
    few_shot: dict[str, int] = field(default_factory=dict)
    """Use only this many training examples of these languages, drawn by the seed (MMTE, table
    8)."""
    upsampled_to: int = 0
    """Draw the languages of few_shot as if they had this many examples (0: as many as they
    have)."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("rows", "length", "num_lengths"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        if not self.files.train:
            raise ConfigError(
                f"{type(self).__name__}: files.train is empty: give at least one file"
            )
        for name in ("limit", "upsampled_to"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0: found {getattr(self, name)}")
        for language, num in self.few_shot.items():
            if num < 1:
                raise ConfigError(f"few_shot.{language} must be at least 1: found {num}")
        if self.upsampled_to and not self.few_shot:
            raise ConfigError(
                f"upsampled_to is {self.upsampled_to}, but few_shot is empty: name some "
                "languages there"
            )
        if strange := sorted(set(self.few_shot) - set(self.files.train)):
            raise ConfigError(
                f"few_shot names {', '.join(strange)}: files.train has "
                f"{', '.join(self.files.train)}"
            )

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for rows that do not fit the model."""
        check_length(self.length, model)

    @abstractmethod
    def read(self, path: str, language: str, split: str = "train") -> Sequence[Any]:
        """Read the examples of a file, in its order; raise DataError with file and line."""

    def resolved(self) -> Task:
        """Return the same task with values from the training files, such as their labels."""
        return self

    @property
    def metric(self) -> str:
        """The figure that checkpoints and settings are chosen by."""
        return "accuracy"

    @property
    def classes(self) -> list[str]:
        """The labels of a whole line, in the order of the head's scores; none for other tasks."""
        return []

    def probabilities(self, scores: Tensor) -> list[dict[str, float]]:
        """Return each row's probabilities by label, from the head's scores ``[rows, classes]``."""
        shares = scores.float().softmax(-1).tolist()
        return [dict(zip(self.classes, row, strict=True)) for row in shares]

    def check_line(self, line: str, place: str) -> None:
        """Raise DataError for a line of ``xlm predict`` of another kind than those of training."""

    @abstractmethod
    def unlabeled(self, line: str, place: str) -> Any:
        """Parse a line of ``xlm predict`` into an example, with an arbitrary answer."""

    @abstractmethod
    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return the line of ``xlm predict`` for each example of a stream, by its number."""

    def grouped(self, examples: Sequence[Any]) -> list[int]:
        """Return the group of each example that it is scored in: none."""
        return [0] * len(examples)

    @abstractmethod
    def rows_of(self, example: Any, number: int, tokenizer: Tokenizer) -> list[Row]:
        """Return the rows that the model reads for an example of this number; [] leaves it out."""

    def read_rows(
        self, example: Any, number: int, tokenizer: Tokenizer, language: str
    ) -> list[Row]:
        """Return ``rows_of`` for text of ``language``, each opened by the token that is asked for.

        Raises ConfigError if the tokenizer has no such token.
        """
        rows = self.rows_of(example, number, tokenizer)
        if self.language_token is None:
            return rows
        token = self._token(tokenizer, language)
        return [replace(row, wrapped=_opened(row.wrapped, token)) for row in rows]

    def _token(self, tokenizer: Tokenizer, language: str) -> int:
        wanted = self.language_token
        if wanted == OWN:
            wanted = self.stand_in.get(language, language)
        having = tokenizer.language_tokens
        if wanted is None or wanted not in having:
            raise ConfigError(
                f"language_token is {self.language_token}, but the tokenizer has no token "
                f"for {wanted}: it has {', '.join(having) or 'none'}; leave it out, name one "
                "of these, or give a stand_in"
            )
        return having[wanted]

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return a stream per language of the split."""
        streams: list[Stream] = []
        for language, path in getattr(self.files, split).items():
            drawn = seed if split == "train" and (self.limit or language in self.few_shot) else 0
            # the settings that the rows depend on: those of the grid and the seeds share them
            fields = replace(self, rows=1, readout=Readout(), sampling=Sampling(), weight=1.0)
            key = (repr(fields), path, language, split, drawn)
            if key not in corpora.kept:
                examples = self.read(path, language, split)
                corpora.kept[key] = self._rows(name, corpora, examples, language, seed, split)
            streams.append(
                self.stream(name, corpora, corpora.kept[key], language, seed=seed, split=split)
            )
        return streams

    def in_evaluation(self, tokens: int) -> Self:
        """Return the task with other ``rows`` of a micro-batch."""
        return replace(self, rows=max(tokens // self.length, 1))

    def stream(
        self,
        name: str,
        corpora: Corpora,
        rows: Sequence[Row],
        language: str,
        *,
        seed: int,
        split: str,
    ) -> RowStream:
        """Return the stream of some rows in one language."""
        train = split == "train"
        spoken = self.stand_in.get(language, language)
        return RowStream(
            corpora,
            language,
            rows,
            languages=(spoken, spoken),
            objective=name,
            rows_per_batch=self.rows,
            num_lengths=self.num_lengths,
            upsampled_to=self.upsampled_to if train and language in self.few_shot else 0,
            seed=seed,
            shuffle=train,
        )

    def _rows(
        self,
        name: str,
        corpora: Corpora,
        examples: Sequence[Any],
        language: str,
        seed: int,
        split: str,
    ) -> list[Row]:
        num = len(examples)
        numbers = self._chosen(num, language, seed) if split == "train" else range(num)
        groups = self.grouped(examples)
        spoken = self.stand_in.get(language, language)
        tokenizer = corpora.tokenizer_of(spoken).in_language(language)
        rows = [
            replace(row, group=groups[number])
            for number in numbers
            for row in self.read_rows(examples[number], number, tokenizer, language)
        ]
        if not rows:
            raise DataError(
                f"{name}/{language} ({split}): none of the {num} examples fits in "
                f"{self.length} tokens; raise length"
            )
        return rows

    def _chosen(self, num: int, language: str, seed: int) -> list[int]:
        most = self.few_shot.get(language, self.limit)
        if language in self.few_shot and most > num:
            raise DataError(
                f"few_shot.{language} is {most}, but {self.files.train[language]} has {num} "
                "examples: lower it, or give another file"
            )
        if not most or most >= num:
            return list(range(num))
        drawn = Permutation(num, seed, "examples", language)(np.arange(most))
        return sorted(drawn.tolist())

    def cells(self, examples: Examples) -> Cells:
        """Return the padded rows of a micro-batch."""
        rows = self.items(examples)
        stream = examples.stream
        return pad(
            [row.wrapped for row in rows],
            stream.language_ids,
            examples.length,
            stream.tokenizer.pad_id,
        )

    def items(self, examples: Examples) -> list[Row]:
        """Return the rows of a micro-batch, with their answers."""
        assert isinstance(examples.stream, RowStream)
        return [examples.stream.items[row] for row in examples.rows.tolist()]


def _opened(wrapped: Wrapped, token: int) -> Wrapped:
    """Return a row with ``token`` in place of its first one, the begin symbol."""
    tokens = wrapped.tokens.copy()
    tokens[0] = token
    return wrapped._replace(tokens=tokens)


def encode(tokenizer: Tokenizer, text: str) -> Ids:
    """Return the ids of any text: normalized, without special tokens."""
    ids: NDArray[np.int64] = np.array(tokenizer.encode(tokenizer.normalize(text)), dtype=np.int64)
    return ids


def cut(sides: Sequence[Ids], room: int) -> list[Ids]:
    """Return the sentences, cut at the end so that together they have at most ``room`` tokens.

    A token at a time goes from the longest, of equal ones from the last: as BERT cuts its pairs
    (mBERT study, section 5).
    """
    assert room >= 0, "the special tokens have room"
    lengths = [len(side) for side in sides]
    while sum(lengths) > room:
        lengths[len(lengths) - 1 - lengths[::-1].index(max(lengths))] -= 1
    return [side[:length] for side, length in zip(sides, lengths, strict=True)]
