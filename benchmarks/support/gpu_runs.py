"""The cases of ``benchmarks.speed.gpu`` that are whole runs, with loader, loop and checkpoints."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.support.gpu_peers import mlm_of
from benchmarks.support.gpu_place import Figures, Place, Updates, row, waits
from xlm.objective import Objective
from xlm.objectives import BackTranslation, CausalLM, Denoising, MaskedLM, Translation
from xlm.pretrain import pretrain
from xlm.run.build import compile_model
from xlm.run.checkpointing import Checkpoints
from xlm.run.config import Optimizer, Run, Schedule
from xlm.training import loop
from xlm.training.journal import read_metrics
from xlm.training.saving import Copies

SAVES = 3


def run_of(place: Place, folder: str, **changes: Any) -> Run:
    """Return a run of MLM in the place's shape that neither evaluates nor saves until its end."""
    settings: dict[str, Any] = {
        "data": "random ids", "folder": folder, "objectives": {"mlm": mlm_of(place)},
        "model": place.model, "steps": max(place.updates, 4), "group_size": 2,
        "optimizer": Optimizer(), "schedule": Schedule(warmup_steps=2),
        "precision": place.precision, "compile": False, "report_every": 2, "evaluate_every": 0,
        "save_every": 0, "tensorboard": False, "device": place.device.type,
    }  # fmt: skip
    return Run(**{**settings, **changes})


def compiling(place: Place) -> Any:
    """Compile models of runs as the place wants it."""
    return mock.patch("xlm.run.build.compile_model", partial(compile_model, **place.compiler))


def smaller(place: Place, num_layers: int = 0) -> Any:
    """Return a shape of two layers, for what does not depend on the number of them."""
    return replace(
        place.model, num_layers=min(2, place.model.num_layers), num_decoder_layers=num_layers
    )


def through(place: Place) -> Figures:
    """MLM and TLM of 15 languages with loader and loop: speed, share of waiting for batches."""
    data = place.data(place.languages)
    tlm = MaskedLM(pairs=sorted(data.names("train")["pairs"]), tokens=4000, length=256)
    mlm = MaskedLM(languages=list(data.languages), rows=place.rows, length=place.length)
    for compiled in ("all", "no"):
        with tempfile.TemporaryDirectory() as folder, compiling(place):
            run = run_of(place, folder, objectives={"mlm": mlm, "tlm": tlm}, group_size=8,
                         compile=compiled == "all")  # fmt: skip
            pretrain(run, data)
            lines = read_metrics(Path(folder) / "metrics.jsonl")
        steady = [line for line in lines if line["event"] == "train"]
        steady = steady[len(steady) // 2 :]
        names = ("tokens_per_second", "utilization", "wait")
        medians = {name: round(statistics.median(x[name] for x in steady), 4) for name in names}
        memory = steady[-1].get("memory_gib")
        yield row(place, "mlm+tlm, the whole run", compiled, **medians, memory_gib=memory)


def every_wait(place: Place) -> Figures:
    """Waits for the GPU in an update of the loop, by objective, after the first two updates."""
    pairs, cells = ["la-lb"], min(2000, place.rows * 64)
    objectives: dict[str, Objective] = {
        "mlm": mlm_of(place),
        "tlm": MaskedLM(pairs=pairs, tokens=cells, length=256),
        "clm": CausalLM(languages=["la", "lb"], rows=place.rows, length=place.length),
        "ae": Denoising(languages=["la", "lb"], tokens=cells, length=100),
        "mt": Translation(pairs=pairs, tokens=cells, length=100),
        "bt": BackTranslation(pairs=pairs, tokens=cells, length=100),
    }
    data, update = place.data(), loop._update
    for name, objective in objectives.items():
        counts: list[int | None] = []
        values: list[Any] = []

        def counted(*arguments: Any) -> Any:
            counts.append(waits(place.device, lambda: values.append(update(*arguments))))  # noqa: B023
            return values.pop()  # noqa: B023

        layers = 2 if name in ("ae", "mt", "bt") else 0
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop, "_update", counted):
            run = run_of(place, folder, objectives={name: objective}, steps=4, report_every=100,
                         group_size=4, model=smaller(place, layers))  # fmt: skip
            pretrain(run, data)
        yield {"waits_of": name, "waits": counts[-1], "updates": len(counts)}


def resume(place: Place) -> Figures:
    """Four updates against two, a new start and two more, eager and compiled: bits equal or not."""
    data = place.data()
    for compiled in (False, True):
        found = {}
        for name, starts in (("through", (4,)), ("resumed", (2, 4))):
            with tempfile.TemporaryDirectory() as folder, compiling(place):
                for steps in starts:
                    run = run_of(
                        place, folder, steps=steps, save_every=2, deterministic=True,
                        compile=compiled, model=smaller(place),
                        schedule=Schedule(kind="constant", warmup_steps=2),
                    )  # fmt: skip
                    result = pretrain(run, data)
                    if compiled:  # a new start is a new process, which compiles again
                        torch.compiler.reset()
                found[name] = [p.detach().cpu() for p in result.learner.parameters()]
        equal = all(map(torch.equal, *found.values()))
        yield {
            "resumed": "deterministic",
            "compiled": compiled,
            "bits": "equal" if equal else "differ",
        }


@contextmanager
def timed_saves(place: Place) -> Iterator[dict[str, list[float]]]:
    """Collect, for each save of a run, seconds that the loop stands, of a bare copy, and bytes."""
    found: dict[str, list[float]] = {"seconds": [], "copy": [], "bytes": []}
    save = Checkpoints.save

    def timed(self: Checkpoints) -> None:
        self.trainer.saver.finish()  # the save before is not a part of this one
        groups = self._tensors()[0]
        copies = Copies()
        copies.take(groups)[1]()  # page-locks its memory, as the first save of a run does
        place.wait()
        started = time.perf_counter()
        copies.take(groups)[1]()
        found["copy"].append(time.perf_counter() - started)
        del copies
        started = time.perf_counter()
        save(self)
        place.wait()
        found["seconds"].append(time.perf_counter() - started)
        tensors = (tensor for own in groups.values() for tensor in own.values())
        found["bytes"].append(sum(tensor.nbytes for tensor in tensors))

    with mock.patch.object(Checkpoints, "save", timed):
        yield found


def save(place: Place) -> Figures:
    """How long a save stops the loop, waited for and in the background, beside copy and update."""
    data = place.data()
    updates = Updates(place, mlm_of(place), data)
    updates.warm_up()
    update = statistics.median(updates.seconds()[0] for _ in range(3))
    del updates
    for in_background in (False, True):
        with tempfile.TemporaryDirectory() as folder, timed_saves(place) as found:
            run = run_of(place, folder, steps=SAVES, save_every=1, group_size=1,
                         save_in_background=in_background)  # fmt: skip
            pretrain(run, data)
        later = {name: statistics.median(values[1:]) for name, values in found.items()}
        yield {
            "save": "in the background" if in_background else "waited for",
            "stall_ms": round(1e3 * later["seconds"], 2), "copy_ms": round(1e3 * later["copy"], 2),
            "update_ms": round(1e3 * update, 2), "mib": round(later["bytes"] / 2**20, 1),
        }  # fmt: skip
