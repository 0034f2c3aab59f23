"""Small tasks on files, a tokenizer that spells, and a small model, for tests of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.data.fakes import WordTokenizer
from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.row_streams import RowStream
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.ranking import Ranking
from xlm.tasks.regression import Regression
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner

ALONE = Parallel(torch.device("cpu"))


class Spelled(WordTokenizer):
    """A piece for each character, ``_`` being none; the layouts of XLM."""

    def __init__(self) -> None:
        super().__init__(60, "spelled")

    def encode(self, text: str) -> list[int]:
        return [14 + (ord(c) - ord("a")) % 46 for c in text if c not in " _"]


def corpora(languages: Sequence[str] = ("en", "ne"), tokenizer: Any = None) -> Corpora:
    """No text: the tokenizer and the languages that a model knows."""
    return Corpora(tokenizer or Spelled(), list(languages))


def words(num: int, seed: int, longest: int = 9) -> list[str]:
    """Random words of a to z."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, longest + 1, num)
    return ["".join(map(chr, random.integers(97, 123, size))) for size in sizes]


def write(path: Path, rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells, parted by tabs; an empty row is an empty line."""
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def config(**changes: Any) -> ModelConfig:
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 256}
    return ModelConfig(**{**sizes, "dropout": 0.0, "attention_dropout": 0.0, **changes})


def learner(tasks: dict[str, Task], made: Corpora, seed: int = 0, **changes: Any) -> Learner:
    """Model and heads in float64, in evaluation mode."""
    torch.manual_seed(seed)
    shape = config(**changes)
    model = Transformer(
        shape, vocab_size=made.tokenizer.vocab_size, num_languages=len(made.languages),
        pad_id=made.tokenizer.pad_id,
    )  # fmt: skip
    return Learner(model, tasks, shape).double().eval()


def stream(task: Task, made: Corpora, split: str = "train", at: int = 0) -> RowStream:
    found = task.streams("task", made, seed=0, split=split)[at]
    assert isinstance(found, RowStream)
    return found


def batches(task: Task, made: Corpora, split: str = "valid") -> list[Batch]:
    """One pass over the first stream of a split."""
    own = stream(task, made, split)
    return [
        task.collate(own.examples(k), Random(0), train=split == "train")
        for k in range(own.num_batches)
    ]


def figures(
    task: Task, made: Corpora, learned: Learner, split: str = "valid"
) -> dict[str, dict[str, float]]:
    """The figures of a whole evaluation, by stream."""
    streams = {"task": task.streams("task", made, seed=0, split=split)}
    return evaluate(learned, streams, ALONE, seed=0)


def alone(model: Transformer, ids: Sequence[int], language: int = 0, **settings: Any) -> Any:
    """float64 ``[T, D]``: the hidden states of one row in a batch of its own."""
    tokens = torch.tensor([list(ids)])
    with torch.no_grad():
        return model.encode(
            tokens, torch.tensor([len(ids)]), torch.arange(len(ids))[None],
            torch.full_like(tokens, language), **settings,
        )[0].numpy()  # fmt: skip


def write_several(folder: Path) -> None:
    """A file of each kind, as ``several`` reads them."""
    spoken = words(400, 3)
    numbers = [f"{at % 7 / 3:.3f}" for at in range(37)]
    labels = ["abc"[at % 3] for at in range(37)]
    pairs = list(zip(spoken[:37], spoken[40:77], strict=True))
    write(folder / "classes", [(a, *pair) for a, pair in zip(labels, pairs, strict=True)])
    write(folder / "numbers", [(a, *pair) for a, pair in zip(numbers, pairs, strict=True)])
    pages = [(f"q{at // 4}", *pairs[at], str(at % 3)) for at in range(37)]
    write(folder / "pages", pages)
    tags = ["B-PER", "I-PER", "O"]
    rows: list[tuple[str, ...]] = []
    for at, word in enumerate(spoken):
        rows += [(word, tags[at % 5 % 3]), *([()] if at % 43 == 42 else [])]
    write(folder / "tags", rows)


def several(folder: Path | str) -> dict[str, Task]:
    """A task of each kind on what ``write_several`` wrote; without dropout."""

    def files(name: str) -> Files:
        path = str(Path(folder) / name)
        return Files(train={"en": path}, valid={"en": path})

    settings: dict[str, Any] = {"rows": 4, "readout": Readout(dropout=0.0)}
    pair = {**settings, "format": "plain-pair"}
    return {
        "classes": Classification(files=files("classes"), labels=["a", "b", "c"], **pair),
        "numbers": Regression(files=files("numbers"), **pair),
        "pages": Ranking(files=files("pages"), labels=["0", "1", "2"], **settings),
        "tags": Tagging(
            files=files("tags"), tags=["B-PER", "I-PER", "O"], spans=True, length=30, context=12,
            **settings,
        ),
    }  # fmt: skip
