"""Random text, models and whole updates for the cases of ``benchmarks.speed.gpu``."""

from __future__ import annotations

import statistics
import time
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
from xlm.training.speed import flops, matmul_ceiling


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
    """Rows of 256 tokens in a micro-batch."""
    updates: int
    """Updates that are timed."""
    sentences: int
    precision: str
    out: Path

    @classmethod
    def made(cls, device: str, preset: str, vocab: int, quick: bool, out: Path) -> Place:
        """A place of the paper's sizes, or of seconds on a CPU."""
        at = torch.device(device)
        if quick:
            small = ModelConfig(dim=16, num_layers=2, num_heads=2)
            return cls(at, small, 100, 2, 2, 60, "fp32", out)
        return cls(at, ModelConfig(preset=preset), vocab, 64, 30, 20_000, "bf16", out)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def data(self, num_languages: int = 2) -> Corpora:
        """Random text."""
        return corpora(self.vocab, self.sentences, num_languages)

    def ceiling(self, precision: str | None = None) -> float:
        """FLOP/s of large products: the median of half a second of them."""
        rates: list[float] = []
        until = time.perf_counter() + (0.5 if self.device.type == "cuda" else 0.0)
        while not rates or time.perf_counter() < until:
            rates.append(matmul_ceiling(self.device, precision or self.precision))
        return statistics.median(rates)


class Updates:
    """Whole updates of one objective on batches that are made beforehand."""

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
            # a CPU tries the script: its own compiler would take minutes
            on_gpu = place.device.type == "cuda"
            compile_model(transformer, **({} if on_gpu else {"backend": "eager"}))
            if compiled == "layers":
                transformer.summed = cross_entropy.sum_cross_entropy
        self.parameters = list(self.learner.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)
        streams = objective.streams("o", data, seed=0)
        self.batches = [
            objective.collate(streams[k % len(streams)].examples(k), Random(0, k), train=True)
            for k in range(8)
        ]
        self.on_device = [batch.to(place.device) for batch in self.batches]
        self.count = 0

    @property
    def batch(self) -> Batch:
        """The batch of the next update."""
        return self.on_device[self.count % len(self.on_device)]

    def update(self) -> None:
        """One update, which waits for nothing."""
        batch = self.batch
        with autocast(self.place.device, self.precision):
            loss = self.learner("o", batch)
        (loss.total / max(batch.count, 1)).backward()
        norm = clip_(self.parameters, 5.0)
        guarded_step(self.optimizer, (~norm.isfinite()).float())
        self.optimizer.zero_grad(set_to_none=True)
        self.count += 1

    def seconds(self) -> tuple[float, float]:
        """Of one update: until it is done, and until the CPU has queued it."""
        self.place.wait()
        started = time.perf_counter()
        self.update()
        queued = time.perf_counter()
        self.place.wait()
        return time.perf_counter() - started, queued - started

    def measured(self, ceiling: float) -> dict[str, Any]:
        """Median speed, share of the ceiling, memory, first update and time of the CPU."""
        first = self.seconds()[0]
        before = graphs()
        for _ in range(min(self.place.updates, len(self.batches))):
            self.update()
        if self.place.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        timed = [self.seconds() for _ in range(self.place.updates)]
        seconds = statistics.median(own for own, _ in timed)
        tokens = statistics.fmean(batch.num_tokens for batch in self.batches)
        vocab = self.learner.model.vocab_size
        needed = statistics.fmean(
            flops(self.config, vocab, self.objective, batch) for batch in self.batches
        )
        peak = 0.0
        if self.place.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**30
        return {
            "tokens_per_second": round(tokens / seconds),
            "utilization": round(needed / seconds / ceiling, 4),
            "memory_gib": round(peak, 2),
            "first_update_s": round(first, 2),
            "host_ms": round(1e3 * statistics.median(own for _, own in timed), 2),
            "recompiles_after_warm_up": graphs() - before,
        }


def graphs() -> int:
    with suppress(ImportError, AttributeError):
        return int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0))
    return 0
