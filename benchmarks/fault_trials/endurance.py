"""Runs that go on: through gradients that are not finite, for thousands of updates, from far."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.fault_trials.chains import LAYOUTS
from benchmarks.fault_trials.common import Tally, forked, run_of, statuses
from benchmarks.speed.data import Ids
from benchmarks.speed.growth import write_text
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.mixture import Mixture
from xlm.data.sampling import Sampling
from xlm.objectives import Denoising, MaskedLM
from xlm.pretrain import pretrain
from xlm.run.reporter import Reporter
from xlm.training import loop
from xlm.training.distributed.processes import Parallel
from xlm.training.prefetch import Prefetcher
from xlm.training.report import TrainReport

SHARE_SKIPPED, UPDATES = 0.05, 400


def nonfinite(data: Path, folder: Path, quick: bool) -> Tally:
    """Make the loss of one rank infinite in 5 % of the updates of a run."""
    tally = Tally(
        "a loss that is not finite in 5 % of the updates, on one rank",
        "skipped alike on all ranks, held-out nats within 1 % at the end",
    )
    updates = 40 if quick else UPDATES
    steps = sorted(random.Random(6).sample(range(updates), round(SHARE_SKIPPED * updates)))
    for layout in LAYOUTS[:1] if quick else LAYOUTS:
        nats: list[float] = []
        problem = ""
        for name, poisoned in (("whole", []), ("poisoned", steps)):
            at = folder / f"{name}-{layout[0]}-{layout[1]}"
            settings = {"steps": updates, "evaluate_every": updates, "save_every": updates}
            run = run_of(data, at, sharding=layout[1], **settings)
            children = forked(lambda r=run, p=poisoned: _poisoned(r, p), layout[0])  # type: ignore[misc]
            found = statuses(children, 600)
            if found != [0] * layout[0]:
                problem = f"statuses {found}"
                break
            ranks = [
                json.loads((at / f"rank-{rank}.json").read_text()) for rank in range(layout[0])
            ]
            if any(own != ranks[0] for own in ranks) or ranks[0]["skipped"] != len(poisoned):
                problem = f"ranks: {ranks}; poisoned updates: {len(poisoned)}"
            nats.append(ranks[0]["nats"])
        if not problem and not abs(nats[1] / nats[0] - 1) < 0.01:
            problem = f"{nats[0]:.3f} nats became {nats[1]:.3f}"
        tally.add(str(layout), problem)
    return tally


def _poisoned(run: Any, steps: list[int]) -> None:
    """Train; the last rank's loss is infinite in ``steps``. Each rank leaves what it ends with."""
    update, loss, now = loop._update, MaskedLM.loss, [False]
    rank, world = (int(os.environ.get(name, own)) for name, own in (("RANK", 0), ("WORLD_SIZE", 1)))

    def updating(trainer: Any, *rest: Any) -> Any:
        now[0] = trainer.state.step in steps and rank == world - 1
        return update(trainer, *rest)

    def infinite(self: MaskedLM, model: Any, head: Any, batch: Any) -> Any:
        found = loss(self, model, head, batch)
        if now[0] and model.training:
            return dataclasses.replace(found, total=found.total * float("inf"))
        return found

    loop._update = updating  # type: ignore[assignment]
    MaskedLM.loss = infinite  # type: ignore[method-assign]
    result = pretrain(run)
    values = [float(p.detach().double().sum()) for p in result.learner.parameters()]
    nats = [own["nats"] for own in result.figures.values() if "nats" in own]
    skipped = result.state.skipped
    content = {"values": values, "skipped": skipped, "nats": sum(nats) / len(nats)}
    Path(run.folder, f"rank-{rank}.json").write_text(json.dumps(content))


def endurance(data: Path, folder: Path, quick: bool) -> Tally:
    """Watch the memory that no file stands behind over 2,000 updates."""
    updates = 60 if quick else 2000
    run = run_of(
        data, folder / "run", steps=updates, report_every=updates // 20, evaluate_every=0,
        save_every=updates // 4,
    )  # fmt: skip
    note, started = folder / "memory.json", time.monotonic()
    found = statuses(forked(lambda: _watched(run, note)), 3600)
    sizes = json.loads(note.read_text()) if found == [0] else [0.0]
    # what is allocated once, as buffers of a save, is there after the first half
    grown = max(sizes[-4:]) - max(sizes[: len(sizes) // 2])
    tally = Tally(
        f"memory over {updates:,} updates: {grown:+.1f} MiB in the second half",
        "at most 2 MiB more than in the first half",
    )
    tally.started = started
    problem = "" if found == [0] else f"statuses {found}"
    tally.add("a run", problem or ("" if grown <= 2 else f"MiB: {sizes}"))
    return tally


def _watched(run: Any, note: Path) -> None:
    report, sizes = Reporter.train, []

    def reporting(self: Reporter, sums: TrainReport) -> None:
        report(self, sums)
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        sizes.append(int(line.split()[1]) / 1024)

    Reporter.train = reporting  # type: ignore[method-assign, assignment]
    pretrain(run)
    note.write_text(json.dumps(sizes))


def far(folder: Path, num_tokens: int, step: int = 10**6) -> Tally:
    """Make the batches of an update that is far into a training."""
    made = Ids(60_000)
    write_text(folder / "en", num_tokens)
    objectives = {
        "text": MaskedLM(languages=["en"], rows=64, length=256),
        "sentences": Denoising(languages=["en"], tokens=4000, length=64),
    }
    seconds, began = {}, time.monotonic()
    for name, objective in objectives.items():
        started = time.process_time()
        corpora = Corpora(made, ["en"], texts={("train", "en"): Corpus.open(folder / "en", made)})
        mixture = Mixture(
            {name: objective.streams(name, corpora, seed=0)}, {name: Sampling()}, {name: 1.0},
            turns={name: 1}, group_size=8, order="rotate", one_language_a_group=False, seed=0,
            num_steps=2 * step,
        )  # fmt: skip
        prefetcher = Prefetcher(
            mixture, {name: objective}, Parallel(torch.device("cpu")), seed=0, first=step,
            cursors=dict.fromkeys(mixture.stream_ids, 8 * step),
        )  # fmt: skip
        assert prefetcher.next().number == step
        prefetcher.close()
        seconds[name] = time.process_time() - started
    tally = Tally(
        f"first batches of update {step:,}, {num_tokens:,} tokens: "
        + ", ".join(f"{name} {own:.2f} s" for name, own in seconds.items()),
        "less than 5 s of data work",
    )
    tally.started = began
    for name, own in seconds.items():
        tally.add(name, "" if own < 5 else f"{own:.1f} s")
    return tally
