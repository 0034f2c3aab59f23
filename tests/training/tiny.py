"""Corpora and recipes that train in milliseconds, yet leave something to be learnt."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.data.fakes import WordTokenizer
from xlm.batch import Batch, Loss
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import cross_entropy_loss
from xlm.objectives.masked import MaskedLM
from xlm.objectives.next_sentence import NextSentence
from xlm.run import build as building
from xlm.run.config import Run, Schedule, Stopping
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.readers.labeled import SentenceRow
from xlm.tasks.task import Files
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import wrap
from xlm.training.optimizers.config import Optimizer
from xlm.training.state import TrainState
from xlm.training.trainer import Trainer

NUM_WORDS = 46
VOCAB_SIZE = 14 + NUM_WORDS
LABELS = ["low", "high"]


class Words(WordTokenizer):
    """A tokenizer of ids, with something to write; words that are numbers are ids."""

    def __init__(self) -> None:
        super().__init__(VOCAB_SIZE)

    def encode(self, text: str) -> list[int]:
        return [int(word) if word.isdecimal() else super().encode(word)[0] for word in text.split()]

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "words.json").write_text("{}")


def sentences(num: int, seed: int) -> list[np.ndarray]:
    """A word mostly decides the next one, so that there is something to learn."""
    random = np.random.default_rng(seed)
    made = []
    for length in random.integers(3, 8, num):
        words = [int(random.integers(NUM_WORDS))]
        for _ in range(length - 1):
            follows = (5 * words[-1] + 7) % NUM_WORDS
            words.append(follows if random.random() < 0.9 else int(random.integers(NUM_WORDS)))
        made.append(np.array(words) + 14)
    return made


def _corpus(rows: list[np.ndarray], language: str) -> Corpus:
    """Return a corpus whose documents have five sentences each."""
    words = sum(len(row) + 1 for row in rows)
    return Corpus.from_sentences(
        rows,
        language=language,
        tokenizer=Words(),
        words=words,
        documents=np.arange(0, len(rows), 5),
    )


def corpora(num: int = 80, seed: int = 0) -> Corpora:
    """Text in en and hi, and pairs (hi is en with other words)."""
    texts, pairs = {}, {}
    for split, size in (("train", num), ("valid", max(num // 4, 10))):
        start = seed * 100 + (0 if split == "train" else 50)
        first = sentences(size, start + 1)
        second = [14 + (row - 14 + 23) % NUM_WORDS for row in first]
        texts[split, "en"] = _corpus(sentences(size, start + 2), "en")
        texts[split, "hi"] = _corpus(sentences(size // 2, start + 3), "hi")
        pairs[split, "en-hi"] = Pairs(_corpus(first, "en"), _corpus(second, "hi"))
    return Corpora(Words(), ["en", "hi"], texts=texts, pairs=pairs)


class Others(Words):
    """Another tokenizer of as many pieces: the same ids are other words."""

    @property
    def digest(self) -> str:
        return "others".ljust(64, "0")


def two_tables(num: int = 40) -> Corpora:
    """Text in en, and in ne under a vocabulary of its own."""
    texts = {}
    for split, seed in (("train", 1), ("valid", 2)):
        rows = [14 + (row - 14 + 23) % NUM_WORDS for row in sentences(num, seed)]
        texts[split, "ne"] = Corpus.from_sentences(rows, language="ne", tokenizer=Others())
    english = corpora(num)
    splits = ("train", "valid")
    own = Corpora(
        english.tokenizer,
        ["en"],
        texts={(split, "en"): english.text(split, "en") for split in splits},
    )
    return own.with_tables({"ne": Corpora(Others(), ["ne"], texts=texts)})


@dataclass(frozen=True, kw_only=True)
class MadeUp(Classification):
    """Pairs that are made, not read: a file's name is their number and a seed."""

    def read(self, path: str, language: str, split: str = "train") -> list[SentenceRow]:
        num, seed = map(int, path.split())
        rows = sentences(num, seed)
        kinds = [LABELS[1 - int(row[0] % 2)] for row in rows]
        texts = [" ".join(map(str, row)) for row in rows]
        return [
            SentenceRow(*row, language, f"{path}:{at}")
            for at, row in enumerate(zip(kinds, texts, texts[::-1], strict=True), 1)
        ]


@dataclass(frozen=True, kw_only=True)
class RankedLM(MaskedLM):
    """An objective from outside the package: MLM, and a head that tells a row's number of masks."""

    def head(self, config: ModelConfig) -> nn.Module:
        return nn.Linear(config.dim, 4)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        assert head is not None
        hidden = model.encode(batch.tokens, batch.lengths, batch.positions, batch.langs)
        logits = model.predict(hidden, batch.predict)
        masks = (batch.tokens == Words().mask_id).sum(1).clamp(max=3)
        extra = nn.functional.cross_entropy(head(hidden[:, 0]), masks, reduction="sum")
        plain = cross_entropy_loss(logits, batch, with_scores=not model.training)
        return Loss(plain.total + extra, plain.count, plain.scores)


MLM = MaskedLM(languages=["en", "hi"], rows=8, length=12)
TLM = MaskedLM(pairs=["en-hi"], tokens=8 * 20, length=20, num_lengths=3)
NLI = MadeUp(
    files=Files(train={"en": "80 1"}, valid={"en": "20 51"}),
    labels=LABELS, rows=8, length=20, num_lengths=3, readout=Readout(dropout=0.0),
)  # fmt: skip
NSP = NextSentence(languages=["en", "hi"], rows=8, length=20, short_share=0.5)
RANKED = RankedLM(languages=["en"], rows=8, length=12)


def recipe(folder: Path | str, /, **changes: Any) -> Run:
    """MLM and TLM together on one small model without dropout; every setting may be changed."""
    settings: dict[str, Any] = {
        "data": "in memory",
        "folder": str(folder),
        "objectives": {"mlm": MLM, "tlm": TLM},
        "model": model(),
        "steps": 5,
        "group_size": 4,
        "order": "together",
        "optimizer": Optimizer(max_grad_norm=1.0),
        "schedule": Schedule(kind="constant", peak_lr=5e-3, warmup_steps=0),
        "report_every": 1,
        "evaluate_every": 0,
        "save_every": 0,
        "tensorboard": False,
        "device": "cpu",
        "stopping": Stopping(metric="nats"),
    }
    return Run(**{**settings, **changes})


def model(**changes: Any) -> ModelConfig:
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 32}
    return ModelConfig(**{**sizes, "dropout": 0.0, "attention_dropout": 0.0, **changes})


def trainer(
    run: Run,
    made: Corpora,
    parallel: Parallel,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    **settings: Any,
) -> Trainer:
    """The loop's parts by hand, without a folder: plain gradient descent at rate 1, no clipping.

    After one update the parameters have moved by exactly their gradient.
    """
    learner = building.build_learner(run, made)
    mixture = building.build_mixture(run, building.training_streams(run, made))
    return Trainer(
        learner=learner,
        wrapped=wrap(learner, parallel, find_unused_parameters=True),
        mixture=mixture,
        optimizer=optimizer(learner.parameters(), lr=1.0),
        schedule=Schedule(kind="constant", peak_lr=1.0, warmup_steps=0),
        parallel=parallel,
        state=TrainState(),
        seed=run.seed,
        steps=run.steps,
        report_every=1,
        **settings,
    )


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Of every bit of them."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def batch_digest(batch: Batch) -> str:
    """Of its examples, its masks and every other tensor."""
    tensors = {
        field.name: value
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor)
    }
    return digest(tensors)


def journal(folder: Path | str, event: str = "train") -> dict[int, dict[str, Any]]:
    """What metrics.jsonl says of each step, without what depends on the clock."""
    clock = {"tokens_per_second", "utilization", "wait", "machine"}
    lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines())
    chosen = [line for line in lines if line["event"] == event]
    steps = [line["step"] for line in chosen]
    assert steps == sorted(set(steps)), f"steps {steps}"
    return {
        line["step"]: {name: value for name, value in line.items() if name not in clock}
        for line in chosen
    }


def fake_scores(monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    """Let evaluations find these scores, one after the other; a trial of one batch finds 0."""
    left = iter(scores)

    def found(*_: Any, most_batches: int | None, **__: Any) -> dict[str, dict[str, float]]:
        if most_batches is not None:
            return {"mlm/en": {"nats": 0.0}}
        return {"mlm/en": {"nats": next(left)}, "mlm/hi": {"nats": 1.0}}

    monkeypatch.setattr("xlm.run.held_out.evaluate", found)
