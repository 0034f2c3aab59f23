"""The cases of ``benchmarks.speed.gpu``: each is a function of a ``Place`` that yields figures.

Random ids, never zeros, which run faster; medians of updates after a warm-up; a peer in turn with
ours, so that clocks that change meet both.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.support import record
from benchmarks.support.gpu_place import Place, Updates
from xlm.model import cross_entropy
from xlm.model.config import ModelConfig
from xlm.objectives import BackTranslation, CausalLM, MaskedLM, Translation
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.training.journal import read_metrics
from xlm.training.precision import autocast

Figures = Iterator[dict[str, Any]]


def _mlm(place: Place) -> MaskedLM:
    return MaskedLM(languages=["la", "lb"], rows=place.rows, length=256)


def _row(place: Place, objective: str, compiled: str, **figures: Any) -> dict[str, Any]:
    """A line of the table of training."""
    named = {"objective": objective, "precision": place.precision}
    return {**named, "compiled": False if compiled == "no" else compiled, "memory_gib": 0.0,
            **figures}  # fmt: skip


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
    dim, tokens = place.model.dim, place.rows * 256
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
    """MLM: eager, layers compiled, the loss too; no update may wait for the device."""
    data, ceiling = place.data(), place.ceiling()
    for compiled in ("no", "layers", "all"):
        updates = Updates(place, _mlm(place), data, compiled=compiled)
        figures = updates.measured(ceiling)
        with _no_waits(place):
            updates.update()
        yield _row(place, "mlm", compiled, **figures, waits=0)
        del updates


@contextmanager
def _no_waits(place: Place) -> Iterator[None]:
    """Let torch raise an error for an operation that waits for the GPU."""
    if place.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if place.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def peer(place: Place) -> Figures:
    """Ours in turn with transformers' XLM on the same batch."""
    if importlib.util.find_spec("transformers") is None:
        yield {"peer": "XLMWithLMHeadModel", "skipped": "transformers is not installed"}
        return
    from transformers import XLMConfig, XLMWithLMHeadModel

    ours = Updates(place, _mlm(place), place.data(), compiled="no")
    config = XLMConfig(
        vocab_size=place.vocab, emb_dim=place.model.dim, n_layers=place.model.num_layers,
        n_heads=place.model.num_heads, dropout=0.1, attention_dropout=0.1, n_langs=2,
        use_lang_emb=True, gelu_activation=True,
    )  # fmt: skip
    model = XLMWithLMHeadModel(config).to(place.device).train()  # type: ignore[arg-type]
    batch = ours.batch
    labels = torch.full_like(batch.tokens, -100)
    real = batch.targets >= 0
    labels.view(-1)[batch.predict[real]] = batch.targets[real]

    def loss() -> torch.Tensor:
        loss: torch.Tensor = model(input_ids=batch.tokens, langs=batch.langs, labels=labels).loss
        return loss

    theirs = _updating(place, list(model.parameters()), loss)
    yield {"peer": "XLMWithLMHeadModel", **_in_turn(place, ours, theirs)}


def _updating(
    place: Place, parameters: list[torch.nn.Parameter], loss: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    """Return a whole update of a peer, as ours is."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def update() -> None:
        with autocast(place.device, place.precision):
            found = loss()
        found.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def _in_turn(place: Place, ours: Updates, theirs: Callable[[], None]) -> dict[str, float]:
    """Return how many times faster ours is, by updates in turn."""
    ratios = []
    for number in range(place.updates + 1):
        own = ours.seconds()[0]
        started = time.perf_counter()
        theirs()
        place.wait()
        if number:
            ratios.append((time.perf_counter() - started) / own)
    return {"times_faster": round(statistics.median(ratios), 2)}


def translator(place: Place) -> Figures:
    """Translation; then in turn with transformers' M2M100 of the same size on the same batches."""
    layers = place.model.num_decoder_layers or place.model.num_layers
    shape = replace(place.model, num_decoder_layers=layers)
    own = Translation(pairs=["la-lb"], tokens=place.rows * 64, length=64)
    ours = Updates(place, own, place.data(), model=shape)
    figures = ours.measured(place.ceiling())
    yield _row(place, "translation", "no", **figures)
    if importlib.util.find_spec("transformers") is None:
        yield {"peer": "M2M100ForConditionalGeneration", "skipped": "transformers is not installed"}
        return
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    before = _allocated(place)
    config = M2M100Config(
        vocab_size=place.vocab, d_model=shape.dim, encoder_layers=shape.num_layers,
        decoder_layers=layers, encoder_attention_heads=shape.num_heads,
        decoder_attention_heads=shape.num_heads, encoder_ffn_dim=shape.inner_dim,
        decoder_ffn_dim=shape.inner_dim, dropout=0.1, attention_dropout=0.1,
        activation_function="gelu", encoder_layerdrop=0.0, decoder_layerdrop=0.0, pad_token_id=2,
        eos_token_id=1, bos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config).to(place.device).train()  # type: ignore[arg-type]

    def loss() -> torch.Tensor:
        batch = ours.on_device[(ours.count - 1) % len(ours.on_device)]  # of our last update
        assert batch.source is not None
        labels = torch.full_like(batch.tokens, -100)
        labels.view(-1)[batch.predict] = batch.targets
        found: torch.Tensor = model(
            input_ids=batch.source.tokens, attention_mask=(batch.source.tokens != 2).long(),
            decoder_input_ids=batch.tokens, labels=labels,
        ).loss  # fmt: skip
        return found

    theirs = _updating(place, list(model.parameters()), loss)
    for _ in range(2):
        theirs()
    memory = _allocated(place, peak=True) - before
    compared = _in_turn(place, ours, theirs)
    speed = round(figures["tokens_per_second"] / compared["times_faster"])
    yield {
        **_row(place, "translation, M2M100 of transformers", "no", tokens_per_second=speed),
        "memory_gib": round(memory, 2), "ours_times_faster": compared["times_faster"],
    }  # fmt: skip


def _allocated(place: Place, *, peak: bool = False) -> float:
    """Return the GiB that are allocated on a GPU now, or the most since the last call without."""
    if place.device.type != "cuda":
        return 0.0
    if peak:
        return torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 2**30


def profile(place: Place) -> Figures:
    """Operations by their share of the time, eager and compiled."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    for compiled in ("no", "all"):
        updates = Updates(place, _mlm(place), place.data(), compiled=compiled)
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
    """CLM: scores at once and in chunks."""
    data, ceiling = place.data(), place.ceiling()
    objective = CausalLM(languages=["la", "lb"], rows=place.rows, length=256)
    most = cross_entropy.MOST_BYTES
    for name, bytes_ in (("at once", 1 << 60), ("chunks", 1)):
        cross_entropy.MOST_BYTES = bytes_
        try:
            figures = Updates(place, objective, data).measured(ceiling)
        except torch.OutOfMemoryError:
            figures = {"skipped": "out of memory"}
        finally:
            cross_entropy.MOST_BYTES = most
        yield _row(place, "clm", "no", scores=name, **figures)


def tlm(place: Place) -> Figures:
    """TLM of 14 pairs at 24 padded lengths, eager and compiled: recompiles must be 0."""
    data, ceiling = place.data(15), place.ceiling()
    pairs = [f"la-l{chr(97 + number)}" for number in range(1, 15)]
    for cells in (4000, 16000):
        own = MaskedLM(pairs=pairs, tokens=min(cells, place.rows * 256), length=256)
        for compiled in ("no", "all"):
            figures = Updates(place, own, data, compiled=compiled).measured(ceiling)
            yield _row(place, "tlm", compiled, cells=cells, **figures)


def _run(place: Place, folder: str, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "data": "random ids", "folder": folder, "objectives": {"mlm": _mlm(place)},
        "model": place.model, "steps": max(place.updates, 4), "group_size": 2,
        "optimizer": Optimizer(), "schedule": Schedule(warmup_steps=2),
        "precision": place.precision, "compile": False, "report_every": 2, "evaluate_every": 0,
        "save_every": 0, "tensorboard": False, "device": place.device.type,
    }  # fmt: skip
    return Run(**{**settings, **changes})


def through(place: Place) -> Figures:
    """A whole run of MLM and TLM, with its loader: speed, and the share of waiting for batches."""
    objectives = {"mlm": _mlm(place), "tlm": MaskedLM(pairs=["la-lb"], tokens=4000, length=256)}
    with tempfile.TemporaryDirectory() as folder:
        pretrain(_run(place, folder, objectives=objectives, steps=max(place.updates, 4)),
                 place.data())  # fmt: skip
        lines = [x for x in read_metrics(Path(folder) / "metrics.jsonl") if x["event"] == "train"]
    steady = lines[len(lines) // 2 :]
    names = ("tokens_per_second", "utilization", "wait")
    medians = {name: statistics.median(line[name] for line in steady) for name in names}
    yield _row(place, "mlm+tlm, the whole run", "no", **medians)


def small(place: Place) -> Figures:
    """CLM of a 256-wide model of 4 layers on 8 x 128 tokens: bound by launches."""
    objective = CausalLM(languages=["la", "lb"], rows=8, length=128)
    shape = ModelConfig(dim=256, num_layers=4, num_heads=4) if place.rows > 8 else place.model
    for compiled in ("no", "all"):
        updates = Updates(place, objective, place.data(), compiled=compiled, model=shape)
        yield _row(place, "clm, 256 x 4", compiled, **updates.measured(place.ceiling()))


def generation(place: Place) -> Figures:
    """Back-translation of 2,000 cells: updates with the translations that they write."""
    shape = replace(place.model, num_layers=min(6, place.model.num_layers),
                    num_decoder_layers=min(6, place.model.num_layers))  # fmt: skip
    tokens = min(2000, place.rows * 64)
    own = BackTranslation(pairs=["la-lb"], tokens=tokens, length=100)
    updates = Updates(place, own, place.data(), model=shape)
    yield _row(place, "back-translation", "no", **updates.measured(place.ceiling()))


def resume(place: Place) -> Figures:
    """Some updates against as many with a new start between them: bits equal or not."""
    found = {}
    data = place.data()
    for name, starts in (("through", (4,)), ("resumed", (2, 4))):
        with tempfile.TemporaryDirectory() as folder:
            for steps in starts:
                run = _run(place, folder, steps=steps, save_every=2, deterministic=True,
                           schedule=Schedule(kind="constant", warmup_steps=2))  # fmt: skip
                result = pretrain(run, data)
            found[name] = [p.detach().cpu() for p in result.learner.parameters()]
    equal = all(map(torch.equal, *found.values()))
    yield {"resumed": "deterministic", "bits": "equal" if equal else "differ"}


def save(place: Place) -> Figures:
    """The time of one checkpoint beside that of an update."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        pretrain(_run(place, folder, steps=1), place.data())
        once = time.perf_counter() - started
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    yield {"saved_mib": round(size / 2**20, 1), "run_of_one_update_s": round(once, 2)}


CASES: dict[str, tuple[int, Callable[[Place], Figures]]] = {
    "surroundings": (10, surroundings), "ceilings": (20, ceilings), "mlm": (90, mlm),
    "peer": (40, peer), "clm": (45, clm), "tlm": (80, tlm), "profile": (40, profile),
    "through": (40, through), "small": (30, small), "resume": (30, resume),
    "generation": (30, generation), "save": (20, save), "translator": (60, translator),
}  # fmt: skip
"""Seconds that a case is expected to take on an H200, in the order of their worth."""
