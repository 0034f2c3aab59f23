"""Predict with a fine-tuned model on new text, line by line.

    lines --window of them--> rows --batches of like length--> predictions --> a line each, in order

Use as ``xlm.load_task("runs/nli/seed-0/model").predict(["..."], language="en")``, ``xlm predict
MODEL FILE`` or ``python -m xlm.predict``. Memory is bounded by the window, however long the input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from xlm import strict_json
from xlm.config.cli import run_verb
from xlm.config.trust import Trust
from xlm.data.corpora import Corpora
from xlm.data.row_streams import Row
from xlm.errors import ConfigError, DataError
from xlm.interchange.finetuned import FineTuned, open_finetuned
from xlm.model.digest import identity
from xlm.run.text import corpora_of
from xlm.text.line_jobs import LineJob
from xlm.text.line_settings import LineSettings
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD
from xlm.text.readers import Line as PlacedLine
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.distributed.devices import usable_device

__all__ = ["Predict", "Predictor", "load_task", "main", "predict"]

WINDOW = 1024
"""Lines that are read before the first of them is answered."""
WINDOW_TOKENS = 1 << 18
"""Number of tokens after which a window ends, however few lines it has."""
_ANY = "any"

Line = tuple[str, str]
"""The text of a line and its place, for errors."""


@dataclass(frozen=True, kw_only=True)
class Predict(LineSettings):
    """Write a fine-tuned model's prediction for each line of a file or of standard input."""

    model: str
    """A fine-tuned model: a directory such as seed-0/model, a run's folder, a checkpoint, or a
    transformers folder or hub name with a head for a task."""
    file: str | None = None
    """The lines (null or -: standard input): sentences as they are, pairs separated by a tab, words
    to be tagged or parsed separated by spaces, questions followed by a tab and the paragraph."""
    language: str | None = None
    """The language of the lines; models without language embeddings need none."""
    task: str | None = None
    """The task's name in the recipe (null: the only one)."""
    scores: bool = False
    """For classification: also write the probability of each class, each after a tab."""
    json: bool = False
    """Write each line as a JSON object with its text, the answer and, with scores, the
    probabilities."""
    rows: int = 0
    """Rows in a batch (0: as many as in training)."""
    window: int = WINDOW
    """Number of lines that are read before the first of them is answered; 1 at a terminal."""
    trust: str | None = None
    """The folder of your own tasks that the model names; nothing is imported from elsewhere. Code
    of strangers runs with your rights: read it first."""

    def __post_init__(self) -> None:
        self.check(self.file or STANDARD)
        if self.rows < 0:
            raise ConfigError(f"rows is {self.rows}: expected 0 or more")


@dataclass
class _Window:
    """Lines that are answered together."""

    lines: list[Line] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    """The line of each example; lines that are empty have no example."""
    num_tokens: int = 0


class Predictor:
    """A fine-tuned model that answers lines; the only state is its weights."""

    def __init__(self, tuned: FineTuned, device: torch.device | str = "cpu", rows: int = 0):
        self.model, self.name, self.device = tuned.model, tuned.name, torch.device(device)
        self.task = replace(tuned.task, rows=rows) if rows else tuned.task
        self.transformer = tuned.model.transformer.float().to(self.device).eval()
        self.head = tuned.head.float().to(self.device).eval()

    def predict(self, lines: Sequence[str], language: str | None = None) -> list[str]:
        """Return the answer to each line, as ``xlm predict`` writes it; "" for an empty one.

        Raises ConfigError for a language that the model does not know, DataError for a line that is
        not an example of the task, with its number.
        """
        return list(self.stream(_placed(lines), language))

    def scores(self, lines: Sequence[str], language: str | None = None) -> list[dict[str, float]]:
        """Return each class's probability, by label; {} for an empty line. Classification only."""
        found = self.answers(_placed(lines), language, WINDOW, True)
        return [probabilities for _, probabilities in found]

    def stream(
        self,
        lines: Iterable[Line],
        language: str | None = None,
        *,
        window: int = WINDOW,
        scores: bool = False,
    ) -> Iterator[str]:
        """Yield the answers, a window of lines at a time; ``scores`` adds probabilities."""
        for answer, probabilities in self.answers(lines, language, window, scores):
            yield _as_text(answer, probabilities)

    def answers(
        self, lines: Iterable[Line], language: str | None, window: int, scores: bool
    ) -> Iterator[tuple[str, dict[str, float]]]:
        if scores and not self.task.classes:
            raise ConfigError(
                f"scores is set, but the task {self.name} is {type(self.task).__name__}, "
                "which has no classes of a whole line: leave it out"
            )
        corpora, name = self._corpora(language)
        spoken = self.task.stand_in.get(name, name)
        tokenizer = corpora.tokenizer_of(spoken).in_language(language)
        for part in self._windows(lines, window, tokenizer, name):
            answers = self._of_window(part, corpora, name, scores)
            for at in range(len(part.lines)):
                yield answers.get(at, ("", {}))

    def _corpora(self, language: str | None) -> tuple[Corpora, str]:
        """Return the model's tokenizer and languages, and the name of the lines' language."""
        if self.model.tables:
            self.model.table_of(language and self.task.stand_in.get(language, language))
            assert language is not None
            return corpora_of(self.model), language
        if not self.model.has_languages:
            name = language or _ANY
            return Corpora(self.model.tokenizer, [self.task.stand_in.get(name, name)]), name
        if language is None or self.task.stand_in.get(language, language) == language:
            self.model.language_id(language)  # raises for a language that the model does not know
        assert language is not None
        return Corpora(self.model.tokenizer, self.model.languages), language

    def _windows(
        self, lines: Iterable[Line], most: int, tokenizer: Tokenizer, language: str
    ) -> Iterator[_Window]:
        window = _Window()
        for line in lines:
            if normalize(line[0]):
                self._add(window, line, tokenizer, language)
            window.lines.append(line)
            if len(window.lines) >= most or window.num_tokens >= WINDOW_TOKENS:
                yield window
                window = _Window()
        if window.lines:
            yield window

    def _add(self, window: _Window, line: Line, tokenizer: Tokenizer, language: str) -> None:
        """Add the rows of a line to the window, with the number of its example."""
        text, place = line
        self.task.check_line(text, place)
        example = self.task.unlabeled(text, place)
        rows = self.task.read_rows(example, len(window.asked), tokenizer, language)
        most = self.transformer.config.max_positions
        if not rows or max(len(row.wrapped.tokens) for row in rows) > most:
            found = f"a row of more than {most} tokens" if rows else "nothing"
            raise DataError(f"{place}: the task turns it into {found}: shorten it, or leave it out")
        window.asked.append(len(window.lines))
        window.rows += rows
        window.num_tokens += sum(len(row.wrapped.tokens) for row in rows)

    @torch.no_grad()
    def _of_window(
        self, window: _Window, corpora: Corpora, name: str, scores: bool
    ) -> dict[int, tuple[str, dict[str, float]]]:
        """Return the answer to each line that is not empty, by its number in the window."""
        if not window.rows:
            return {}
        stream = self.task.stream(self.name, corpora, window.rows, name, seed=0, split="test")
        predictions: dict[int, Any] = {}
        probabilities: dict[int, dict[str, float]] = {}
        with self._outputs() as outputs:
            for batch in self.task.evaluation_batches(stream, seed=0):
                reading = self.transformer.reading(stream.table)
                loss = self.task.loss(reading, self.head, batch.to(self.device))
                assert loss.outputs is not None, "tasks predict"
                predictions |= self.task.predictions(stream, batch, loss.outputs.cpu())
                if scores:
                    shares = self.task.probabilities(outputs.pop())
                    probabilities |= zip(batch.rows.tolist(), shares, strict=True)
                outputs.clear()
        rendered = self.task.rendered(stream, predictions)
        by_class = {stream.items[row].example: own for row, own in probabilities.items()}
        return {
            line: (rendered[number], by_class.get(number, {}))
            for number, line in enumerate(window.asked)
        }

    @contextlib.contextmanager
    def _outputs(self) -> Iterator[list[Tensor]]:
        """Collect the head's outputs while the block lasts; the loss keeps only the best ones."""
        kept: list[Tensor] = []
        handle = self.head.register_forward_hook(lambda _, inputs, output: kept.append(output))
        try:
            yield kept
        finally:
            handle.remove()


def load_task(
    source: str | Path,
    task: str | None = None,
    *,
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    rows: int = 0,
    trust: str | None = None,
) -> Predictor:
    """Return the fine-tuned model at ``source``; see ``open_finetuned`` for errors.

    ``task`` is its name (None: the only one), ``rows`` those in a batch (0: as in training).
    A task of your own is found if its module is imported already, or lies in the folder ``trust``.
    """
    return Predictor(open_finetuned(source, task, Trust(trust)), usable_device(device), rows)


def _as_text(answer: str, probabilities: Mapping[str, float]) -> str:
    """Return the answer, then the probability of each class, if given, after a tab each."""
    return "\t".join([answer, *(f"{label}={p:.4f}" for label, p in probabilities.items())])


def _placed(lines: Sequence[str]) -> Iterator[Line]:
    if isinstance(lines, str):
        raise ConfigError("lines: found one text, expected a list of lines")
    return ((line, f"line {number}") for number, line in enumerate(lines, 1))


class _Job(LineJob):
    """A fine-tuned model and the lines that are left to answer."""

    def __init__(self, config: Predict) -> None:
        self.config = config
        self.predictor = load_task(
            config.model, config.task, device=config.device, rows=config.rows, trust=config.trust
        )
        model = self.predictor.model
        super().__init__(
            config.file or STANDARD,
            self._predicted,
            noun="prediction",
            output=config.output,
            window=config.window,
            invalid=config.invalid,
            identity=lambda: identity(replace(config, file=config.file or STANDARD), model),
        )

    def _predicted(self, lines: Iterator[PlacedLine], first: int) -> list[str]:
        config, texts = self.config, list[str]()

        def placed() -> Iterator[Line]:
            for line in lines:
                texts.append(line.text)
                yield line.text, line.place

        answers = self.predictor.answers(placed(), config.language, config.window, config.scores)
        found = list(answers)
        self.counts.num_empty += sum(not normalize(text) for text in texts)
        if not config.json:
            return [_as_text(answer, shares) for answer, shares in found]
        return [
            strict_json.dumps(
                {"text": text, "answer": answer, **({"scores": shares} if config.scores else {})}
            )
            for text, (answer, shares) in zip(texts, found, strict=True)
        ]


def predict(config: Predict) -> Iterator[str]:
    """Yield the answers to the lines of ``config.file``, in order, as they are ready.

    Raises ConfigError, DataError or CheckpointError in one line.
    """
    yield from _Job(config).rows()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm predict``: see ``Predict``."""

    def act(config: Predict) -> None:
        _Job(config).write()

    run_verb(Predict, "predict", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
