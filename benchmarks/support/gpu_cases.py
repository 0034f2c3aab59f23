"""The cases of ``benchmarks.speed.gpu``: each is a function of a ``Place`` that yields figures.

Random ids, never zeros, which run faster; medians of updates after a warm-up on other batches.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from benchmarks.support import record
from benchmarks.support.gpu_peers import mlm_of, modern, peer, trainer, translator
from benchmarks.support.gpu_place import Figures, Place, Updates, row
from benchmarks.support.gpu_runs import every_wait, resume, save, through
from xlm.model import cross_entropy
from xlm.model.config import ModelConfig
from xlm.objectives import BackTranslation, CausalLM, MaskedLM


def surroundings(place: Place) -> Figures:
    """Versions, the device, what this torch has."""
    functional = torch.nn.functional
    yield {
        **record.surroundings(),
        "linear_cross_entropy": hasattr(functional, "linear_cross_entropy"),
        "varlen_attn": importlib.util.find_spec("torch.nn.attention.varlen") is not None,
    }


def ceilings(place: Place) -> Figures:
    """Large products, those of a layer and of the head, copies, one launch."""
    yield {"product": "large", "tflops": round(place.ceiling() / 1e12, 3)}
    dtype = torch.bfloat16 if place.precision == "bf16" else torch.float32
    dim, tokens = place.model.dim, place.rows * place.length
    shapes = [(tokens, dim, 4 * dim), (tokens, 4 * dim, dim), (tokens // 4, dim, 4 * dim)]
    head = max(tokens * 15 // 100 // 8 * 8, 8)
    shapes += [(head, dim, v) for v in (place.vocab, -(-place.vocab // 64) * 64, place.vocab + 13)]
    for m, k, n in shapes:
        a = torch.randn(m, k, device=place.device).to(dtype)
        b = torch.randn(k, n, device=place.device).to(dtype)
        seconds = _repeated(place, lambda a=a, b=b: a @ b)  # type: ignore[misc]
        yield {"product": f"{m}x{k}x{n}", "tflops": round(2 * m * k * n / seconds / 1e12, 3)}
    source = torch.randn((1 << 28) if place.device.type == "cuda" else 1 << 16).to(place.device)
    copied = torch.empty_like(source)
    seconds = _repeated(place, lambda: copied.copy_(source))
    yield {"copy": "device", "gb_per_second": round(8 * source.numel() / seconds / 1e9, 1)}


def _repeated(place: Place, work: Callable[[], Any]) -> float:
    """Seconds of one call: the median of several rounds of ten."""
    seconds = []
    for _ in range(7 if place.device.type == "cuda" else 2):
        place.wait()
        started = time.perf_counter()
        for _ in range(10):
            work()
        place.wait()
        seconds.append((time.perf_counter() - started) / 10)
    return statistics.median(seconds[1:])


def mlm(place: Place) -> Figures:
    """MLM: layers and loss compiled, eager, layers alone compiled."""
    data, ceiling = place.data(), place.ceiling()
    for compiled in ("all", "no", "layers"):
        figures = Updates(place, mlm_of(place), data, compiled=compiled).measured(ceiling)
        yield row(place, "mlm", compiled, **figures)


def profile(place: Place) -> Figures:
    """Operations by their share of the time, eager and compiled."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    for compiled in ("no", "all"):
        updates = Updates(place, mlm_of(place), place.data(), compiled=compiled)
        updates.update()
        on_gpu = place.device.type == "cuda"
        with profiled(
            activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]
        ) as found:
            for _ in range(2):
                updates.update()
            place.wait()
        key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        name = f"profile-{'eager' if compiled == 'no' else 'compiled'}.txt"
        table = found.key_averages().table(sort_by=key, row_limit=40)
        (place.out / name).write_text(table, encoding="utf-8")
        yield {"profile": compiled, "file": name}


def clm(place: Place) -> Figures:
    """CLM, compiled and eager, with scores in chunks and at once."""
    data, ceiling = place.data(), place.ceiling()
    objective = CausalLM(languages=["la", "lb"], rows=place.rows, length=place.length)
    for scores, compiled in itertools.product(("chunks", "at once"), ("all", "no")):
        figures: dict[str, Any]
        with mock.patch.object(cross_entropy, "MOST_BYTES", 1 if scores == "chunks" else 1 << 60):
            try:
                figures = Updates(place, objective, data, compiled=compiled).measured(ceiling)
            except torch.OutOfMemoryError:
                figures = {"skipped": "out of memory"}
        yield row(place, "clm", compiled, scores=scores, **figures)


def tlm(place: Place) -> Figures:
    """TLM of 14 pairs at 24 padded lengths, compiled and eager; the text of the pairs is random."""
    data, ceiling = place.data(place.languages), place.ceiling()
    pairs = sorted(data.names("train")["pairs"])
    sizes = dict.fromkeys(min(cells, place.rows * place.length) for cells in (4000, 16000))
    for cells, compiled in itertools.product(sizes, ("all", "no")):
        own = MaskedLM(pairs=pairs, tokens=cells, length=256)
        figures = Updates(place, own, data, compiled=compiled).measured(ceiling)
        yield row(place, "tlm", compiled, cells=cells, **figures)


def small(place: Place) -> Figures:
    """CLM of a 256-wide model of 4 layers on 8 x 128 tokens: bound by launches."""
    objective = CausalLM(languages=["la", "lb"], rows=8, length=128)
    shape = ModelConfig(dim=256, num_layers=4, num_heads=4) if place.rows > 8 else place.model
    for compiled in ("no", "all"):
        updates = Updates(place, objective, place.data(), compiled=compiled, model=shape)
        yield row(place, "clm, 256 x 4", compiled, **updates.measured(place.ceiling()))


def generation(place: Place) -> Figures:
    """Back-translation of 2,000 cells: updates with the translations that they write."""
    shape = replace(place.model, num_layers=min(6, place.model.num_layers),
                    num_decoder_layers=min(6, place.model.num_layers))  # fmt: skip
    tokens = min(2000, place.rows * 64)
    own = BackTranslation(pairs=["la-lb"], tokens=tokens, length=100)
    updates = Updates(place, own, place.data(), model=shape)
    yield row(place, "back-translation", "no", **updates.measured(place.ceiling()))


CASES: dict[str, tuple[int, Callable[[Place], Figures]]] = {
    "surroundings": (10, surroundings), "ceilings": (15, ceilings), "mlm": (90, mlm),
    "clm": (60, clm), "tlm": (75, tlm), "peer": (45, peer), "modern": (60, modern),
    "waits": (30, every_wait), "resume": (60, resume), "save": (70, save),
    "through": (60, through), "trainer": (30, trainer), "profile": (25, profile),
    "small": (25, small), "generation": (25, generation), "translator": (60, translator),
}  # fmt: skip
"""Seconds that a case is expected to take on an H200, in the order of their worth."""
