"""Random text, models and whole updates for the cases of ``benchmarks.speed.gpu``."""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.model import cross_entropy
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.rng import Random
from xlm.run.build import compile_model
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.learner import Learner
from xlm.training.optimizers.step import clip_, guarded_step
from xlm.training.precision import autocast
from xlm.training.speed import CEILING_SECONDS, flops, matmul_ceiling

Figures = Iterator[dict[str, Any]]
"""Lines of a case."""
WARM_UP = 2
"""Batches of each stream that are not timed, after which all shapes should have their graphs."""


class RandomIds(Tokenizer):
    """Ids without text."""

    end_id, pad_id, unk_id, mask_id = 1, 2, 3, 4
    special_ids = frozenset(range(5))

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    @property
    def digest(self) -> str:
        return f"random ids {self.vocab_size}"

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Any) -> str:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text("{}")


def corpora(vocab_size: int, num_sentences: int, num_languages: int = 2) -> Corpora:
    """Languages of random sentences, and pairs of the first with each other one."""
    tokenizer = RandomIds(vocab_size)
    generator = np.random.default_rng(0)
    names = [f"l{chr(97 + number)}" for number in range(num_languages)]
    sides = {
        language: Corpus.from_sentences(
            [
                generator.integers(5, vocab_size, size)
                for size in generator.integers(10, 60, num_sentences)
            ],
            language=language,
            tokenizer=tokenizer,
        )
        for language in names
    }
    texts = {("train", language): side for language, side in sides.items()}
    pairs = {("train", f"{names[0]}-{n}"): Pairs(sides[names[0]], sides[n]) for n in names[1:]}
    return Corpora(tokenizer, names, texts=texts, pairs=pairs)


@dataclass(frozen=True)
class Place:
    """Where cases run, and how large they are."""

    device: torch.device
    model: ModelConfig
    vocab: int
    rows: int
    """Rows of text in a micro-batch."""
    length: int
    """Tokens of a row."""
    updates: int
    """Updates that are timed."""
    sentences: int
    languages: int
    """Languages of the cases of many, the first of which has pairs with each other one."""
    precision: str
    out: Path

    @classmethod
    def made(cls, device: str, preset: str, vocab: int, quick: bool, out: Path) -> Place:
        """A place of the paper's sizes, or of seconds on a CPU."""
        at = torch.device(device)
        if quick:
            small = ModelConfig(dim=16, num_layers=1, num_heads=2)
            return cls(at, small, 100, 2, 64, 2, 60, 4, "fp32", out)
        return cls(at, ModelConfig(preset=preset), vocab, 64, 256, 30, 20_000, 15, "bf16", out)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def data(self, num_languages: int = 2) -> Corpora:
        """Random text."""
        return corpora(self.vocab, self.sentences, num_languages)

    def ceiling(self) -> float:
        """Return FLOP/s of large products: the median of half a second of them."""
        on_gpu = self.device.type == "cuda"
        return matmul_ceiling(self.device, self.precision, CEILING_SECONDS if on_gpu else 0.0)

    @property
    def compiler(self) -> dict[str, Any]:
        """Options of ``torch.compile``; a CPU only tries the script, and would take minutes."""
        return {} if self.device.type == "cuda" else {"backend": "eager"}

    def allocated(self) -> float:
        """Return the bytes that are allocated on a GPU; ``peak`` begins anew."""
        if self.device.type != "cuda":
            return 0.0
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def peak(self, above: float = 0.0) -> float | None:
        """Return the most bytes since ``allocated``, less ``above``; None on a CPU."""
        return torch.cuda.max_memory_allocated() - above if self.device.type == "cuda" else None


class Updates:
    """Whole updates of one objective on batches that are made beforehand.

    Every stream, a language or a pair, gives the warm-up ``WARM_UP`` batches; those that are timed
    are others, at least one of each stream.
    """

    def __init__(
        self, place: Place, objective: Objective, data: Corpora, *, compiled: str = "no",
        model: ModelConfig | None = None, precision: str | None = None,
    ) -> None:  # fmt: skip
        self.place, self.objective, self.precision = place, objective, precision or place.precision
        self.config = model or place.model
        torch.manual_seed(0)
        transformer = Transformer(
            self.config, vocab_size=data.tokenizer.vocab_size, pad_id=data.tokenizer.pad_id,
            num_languages=len(data.languages),
        )  # fmt: skip
        self.learner = Learner(transformer, {"o": objective}, self.config).to(place.device)
        if compiled != "no":
            compile_model(transformer, **place.compiler)
            if compiled == "layers":
                transformer.summed = cross_entropy.sum_cross_entropy
        self.parameters = list(self.learner.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)
        streams = objective.streams("o", data, seed=0)
        self.num_warm = WARM_UP * len(streams)
        num_timed = -(-max(place.updates, len(streams)) // len(streams)) * len(streams)
        self.batches = [
            objective.collate(streams[k % len(streams)].examples(k), Random(0, k), train=True)
            for k in range(self.num_warm + num_timed)
        ]
        self.on_device = [batch.to(place.device) for batch in self.batches]
        self.count = 0

    @property
    def last(self) -> Batch:
        """The batch of the last update."""
        return self.on_device[(self.count - 1) % len(self.on_device)]

    def update(self) -> None:
        """Make one update, which waits for nothing."""
        batch = self.on_device[self.count % len(self.on_device)]
        with autocast(self.place.device, self.precision):
            loss = self.learner("o", batch)
        (loss.total / max(batch.count, 1)).backward()
        norm = clip_(self.parameters, 5.0)
        guarded_step(self.optimizer, (~norm.isfinite()).float())
        self.optimizer.zero_grad(set_to_none=True)
        self.count += 1

    def seconds(self) -> tuple[float, float]:
        """Return the seconds until an update is done, and until the CPU has queued it."""
        self.place.wait()
        started = time.perf_counter()
        self.update()
        queued = time.perf_counter()
        self.place.wait()
        return time.perf_counter() - started, queued - started

    def warm_up(self) -> float:
        """Update on the batches of the warm-up; return the seconds of the first update."""
        first = self.seconds()[0]
        while self.count < self.num_warm:
            self.update()
        return first

    def measured(self, ceiling: float) -> dict[str, Any]:
        """Return speed, share of the ceiling, memory, first update, recompiles and waits.

        Speeds are medians over the updates, whose batches may differ in size. Memory is None on a
        CPU, and so are waits.
        """
        first = self.warm_up()
        before = graphs()
        self.place.allocated()
        timed = [self.seconds() for _ in self.batches[self.num_warm :]]
        recompiles = graphs() - before
        rates, shares = [], []
        vocab = self.learner.model.vocab_size
        for batch, (seconds, _) in zip(self.batches[self.num_warm :], timed, strict=True):
            rates.append(batch.num_tokens / seconds)
            shares.append(flops(self.config, vocab, self.objective, batch) / seconds / ceiling)
        return {
            "tokens_per_second": round(statistics.median(rates)),
            "utilization": round(statistics.median(shares), 4),
            "memory_gib": gib(self.place.peak()),
            "first_update_s": round(first, 2),
            "host_ms": round(1e3 * statistics.median(own for _, own in timed), 2),
            "recompiles_after_warm_up": recompiles,
            "waits": waits(self.place.device, self.update),
        }


def waits(device: torch.device, work: Callable[[], object]) -> int | None:
    """Return how many times ``work`` waits for the GPU, as torch warns of it; None on a CPU."""
    if device.type != "cuda":
        work()
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in said)


def graphs() -> int:
    """Return the number of graphs compiled so far."""
    with suppress(ImportError, AttributeError):
        return int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0))
    return 0


def gib(size: float | None) -> float | None:
    """Return GiB from bytes."""
    return None if size is None else round(size / 2**30, 2)


def row(place: Place, objective: str, compiled: str, **figures: Any) -> dict[str, Any]:
    """Return a line of the table of training."""
    named = {"objective": objective, "precision": place.precision}
    return {**named, "compiled": False if compiled == "no" else compiled, "memory_gib": None,
            **figures}  # fmt: skip
