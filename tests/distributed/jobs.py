"""What the processes of the pool do; each function runs on every rank and returns JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from tests.distributed.misbehaving import without_batches  # noqa: F401  # a job
from tests.distributed.sharded_jobs import (  # noqa: F401
    compiled,
    leave_weights,
    recomputed,
    started,
)
from tests.tasks import toys
from tests.training import tiny
from xlm import storage
from xlm.batch import Batch, Loss
from xlm.config.cli import read
from xlm.errors import XlmError
from xlm.finetune import Finetune, finetune
from xlm.model.generate import Generation
from xlm.model.transformer import Transformer
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.pretrain import pretrain
from xlm.rng import key
from xlm.run import build as building
from xlm.run import launch
from xlm.run.config import Run, Schedule, read_run
from xlm.run.folder import RunFolder
from xlm.run.language_tables import LanguageTable
from xlm.run.reporter import Reporter
from xlm.run.session import Session, begin
from xlm.run.watched import WatchedPairs
from xlm.training import checkpoint
from xlm.training.distributed import processes
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.loop import train
from xlm.training.optimizers.config import Optimizer
from xlm.training.prefetch import Prefetcher
from xlm.training.report import TrainReport

CLM = CausalLM(languages=["en", "hi"], rows=8, length=12)
OBJECTIVES = {
    "two heads": {"mlm": tiny.MLM, "tlm": tiny.TLM, "nli": tiny.NLI, "ranked": tiny.RANKED},
    "translation": {
        "mlm": tiny.MLM,
        "mt": Translation(pairs=["en-hi"], tokens=8 * 12, length=12, num_lengths=3),
    },
    "back-translation": {
        "mlm": tiny.MLM,
        "bt": BackTranslation(
            pairs=["en-hi", "hi-en"],
            tokens=8 * 12,
            length=12,
            num_lengths=3,
            generation=Generation(ratio=1.3, extra=5),
        ),
    },
    "language models": {"mlm": tiny.MLM, "tlm": tiny.TLM, "clm": CLM},
    "mlm+tlm": {"mlm": tiny.MLM, "tlm": tiny.TLM},
    "two tables": {
        "mlm": MaskedLM(languages=["en", "ne"], rows=4, length=12),
        "clm": CausalLM(languages=["en", "ne"], rows=4, length=12),
    },
    "next sentence": {"nsp": tiny.NSP, "mlm": tiny.MLM},
}


def _run(
    folder: str,
    objectives: str,
    *,
    dropout: float = 0.0,
    shared_words: bool = False,
    optimizer: dict[str, Any] | None = None,
    **settings: Any,
) -> Run:
    layers = 1 if "translation" in objectives else 0
    model = tiny.model(
        num_decoder_layers=layers, dropout=dropout, attention_dropout=dropout,
        shared_words=shared_words,
    )  # fmt: skip
    if optimizer is not None:
        settings["optimizer"] = Optimizer(**optimizer)
    if objectives == "two tables":
        settings["tables"] = {"ne": LanguageTable(data="in memory", positions="copy")}
    return tiny.recipe(folder, objectives=OBJECTIVES[objectives], model=model, **settings)


def layout(folder: str, objectives: str, **settings: Any) -> str:
    """Train; rank 0 leaves the weights, every rank returns their digest."""
    made = tiny.two_tables() if objectives == "two tables" else tiny.corpora()
    result = pretrain(_run(folder, objectives, **settings), made)
    return leave_weights(result.learner, folder)


def sharded_memory(folder: str, hosts: int = 1, **settings: Any) -> dict[str, int]:
    """Train; the values of parameters and of moments on this rank, and of the whole model.

    ``hosts`` machines share the processes.
    """
    os.environ["LOCAL_WORLD_SIZE"] = str(int(os.environ["WORLD_SIZE"]) // hosts)
    run = _run(folder, "mlm+tlm", save_every=0, **settings)
    parallel = Parallel.start("cpu")
    session = begin(run, tiny.corpora(), RunFolder(folder, parallel))
    with session.reporter.journal:
        session.train()
    trainer = session.trainer
    assert trainer.shards is not None
    with trainer.shards.whole() as whole:
        weights = {name: p.detach().clone() for name, p in whole.named_parameters()}
    if parallel.is_main:
        save_file(weights, Path(folder) / "weights.safetensors")
    moments = [v for own in trainer.optimizer.state.values() for v in own.values() if v.ndim]
    return {
        "own": sum(p.numel() for p in trainer.named_parameters.values()),
        "moments": sum(value.numel() for value in moments),
        "whole": sum(p.numel() for p in weights.values()),
    }


def gradient(folder: str, objectives: str, order: str) -> str:
    """One update of plain descent at rate 1: rank 0 leaves the weights before and after."""
    run = _run(folder, objectives, order=order, dtype="float64", steps=1)
    parallel = Parallel.start("cpu")
    trainer = tiny.trainer(run, tiny.corpora(), parallel)
    before = {n: p.detach().clone() for n, p in trainer.learner.named_parameters()}
    train(trainer)
    after = dict(trainer.learner.named_parameters())
    if parallel.is_main:
        moved = {name: before[name] - after[name].detach() for name in before}
        save_file(moved, Path(folder) / "gradient.safetensors")
    return tiny.digest({name: p.detach() for name, p in after.items()})


def batches(objectives: str, order: str, num_steps: int) -> dict[str, str]:
    """What this rank is given in each step, by ``step/place``, as digests."""
    run = _run("nowhere", objectives, order=order)
    parallel = Parallel.start("cpu")
    parallel.same_on_all("nothing", 0)
    return planned(run, parallel, num_steps)


def planned(run: Run, parallel: Parallel, num_steps: int) -> dict[str, str]:
    """The same without processes."""
    mixture = building.build_mixture(run, building.training_streams(run, tiny.corpora()))
    prefetcher = Prefetcher(mixture, run.objectives, parallel, seed=run.seed, first=0, cursors={})
    found = {}
    try:
        for _ in range(num_steps):
            step = prefetcher.next()
            for micro_batch in step.micro_batches:
                place = f"{step.number}/{micro_batch.index}"
                found[place] = micro_batch.stream_id + tiny.batch_digest(micro_batch.batch)
    finally:
        prefetcher.close()
    return found


# Precision and overflow.


def by_recipe(path: str, folder: str, precision: str) -> None:
    """Train by a recipe file, in another folder and precision."""
    run = read_run(path)
    pretrain(dataclasses.replace(run, folder=folder, precision=precision))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverflowingLM(MaskedLM):
    """MLM that is infinite in the micro-batches named by (step, place in the step)."""

    at: list[list[int]]
    seed: int = 0

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        loss = MaskedLM.loss(self, model, head, batch)
        # The loop keys torch's generator by the same address.
        seeds = [key(self.seed, "dropout", step, place) for step, place in self.at]
        infinite = model.training and torch.initial_seed() in seeds
        return dataclasses.replace(loss, total=loss.total * float("inf")) if infinite else loss


def overflow(folder: str, precision: str, at: list[list[int]], steps: int) -> dict[str, Any]:
    """The weights' digest and what is counted after every step."""
    mlm = OverflowingLM(languages=["en"], rows=8, length=12, at=at)
    parallel = Parallel.start("cpu")
    run = tiny.recipe(
        folder, objectives={"mlm": mlm, "nli": tiny.NLI}, precision=precision, steps=steps,
        save_every=1, average=0.9,
    )  # fmt: skip
    session = begin(run, tiny.corpora(), RunFolder(run.folder, parallel))
    steps_seen: list[dict[str, Any]] = []
    skipped = []

    def report(report: TrainReport) -> None:
        skipped.append([report.skipped, report.scale])

    def save() -> None:
        assert session.trainer.averaged is not None
        weights = dict(session.trainer.learner.named_parameters())
        tensors = {k: v for own in session.trainer.optimizer.state.values() for k, v in own.items()}
        steps_seen.append(
            {
                "weights": tiny.digest(weights),
                "averages": tiny.digest(session.trainer.averaged.state_dict()),
                "moments": tiny.digest(tensors),
                "finite": all(bool(p.isfinite().all()) for p in weights.values()),
                "state": session.trainer.state.to_json(),
            }
        )

    with session.reporter.journal:
        train(session.trainer, report=report, save=save)
    return {"steps": steps_seen, "reports": skipped}


# Interruptions.


def interrupted(
    folder: str,
    kill_at: int | None = None,
    phase: str = "",
    killed: int = 0,
    save_every: int = 1,
    report_every: int = 1,
) -> str:
    """Go on with a run; rank ``killed`` dies in ``phase`` of update ``kill_at``, without cleaning.

    Returns the digest of weights and averages at the end.
    """
    storage.sync = checkpoint.sync = lambda path: None  # no power is cut here
    settings: dict[str, Any] = {
        "model": tiny.model(dropout=0.1, attention_dropout=0.1),
        "schedule": Schedule(kind="linear", peak_lr=1e-2, warmup_steps=3),
        "average": 0.8, "save_every": save_every, "evaluate_every": 5, "steps": 20,
        "report_every": report_every,
    }  # fmt: skip
    run = tiny.recipe(folder, objectives=OBJECTIVES["language models"], **settings)
    parallel = Parallel.start("cpu")
    session = begin(run, tiny.corpora(), RunFolder(run.folder, parallel))
    if kill_at is not None and parallel.rank == killed:
        _arm(session, kill_at, phase)
    with session.reporter.journal:
        session.train()
    assert session.trainer.averaged is not None
    named = {f"averaged {n}": t for n, t in session.trainer.averaged.state_dict().items()}
    return tiny.digest({**dict(session.trainer.learner.named_parameters()), **named})


PHASES = ("forward", "report", "before the save", "in the save", "after the save")


def _arm(session: Session, kill_at: int, phase: str) -> None:
    """Die in the update that would make ``state.step`` equal to ``kill_at``."""

    def due(done: bool) -> bool:
        return session.trainer.state.step == kill_at - (not done)

    def dying(function: Callable[..., Any], *, after: bool, done: bool = True) -> Any:
        def called(*arguments: Any, **named: Any) -> Any:
            if due(done) and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **named)
            if due(done) and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return called

    reporter, checkpoints = session.reporter, session.checkpoints
    if phase == "forward":
        session.trainer.wrapped.register_forward_hook(
            dying(lambda *_: None, after=False, done=False)
        )
    elif phase == "report":
        reporter.train = dying(reporter.train, after=True)
    elif phase == "before the save":
        checkpoints.save = dying(checkpoints.save, after=False)
    elif phase == "in the save":  # everything is written, nothing has its name yet
        checkpoint.replace_folder = dying(checkpoint.replace_folder, after=False)
    else:
        checkpoints.save = dying(checkpoints.save, after=True)


def terminated(folder: str, at: int | None, rank: int, steps: int) -> dict[str, Any]:
    """Train; at update ``at`` this rank is sent a SIGTERM."""
    run = _run(folder, "language models", steps=steps, average=0.9)
    parallel = Parallel.start("cpu")

    report = Reporter.train

    def reporting(self: Reporter, sums: TrainReport) -> None:
        report(self, sums)
        if sums.step == at and parallel.rank == rank:
            os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(Reporter, "train", reporting):
        result = launch.train_run(run, tiny.corpora(), parallel)
    return {
        "step": result.state.step,
        "weights": tiny.digest(dict(result.learner.named_parameters())),
    }


def left(folder: str) -> dict[str, Any]:
    """Train and leave the groups while everything that used them is still held."""
    before = len(_threads())
    parallel = Parallel.start("cpu")
    run = _run(folder, "mlm+tlm", steps=2)
    session = begin(run, tiny.corpora(), RunFolder(folder, parallel))
    with session.reporter.journal:
        session.train()
    during, default = len(_threads()), weakref.ref(dist.group.WORLD)
    parallel.close()
    deadline = time.monotonic() + 10
    while len(_threads()) > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel lists a thread a little longer than it runs
    found = {"threads": [before, during, len(_threads())], "freed": default() is None, "error": ""}
    try:
        parallel.gather(1)
    except XlmError as error:
        found["error"] = f"{type(error).__name__}: {error}"
    parallel.close()  # does no harm
    return found


def _threads() -> list[str]:
    """Those of this process, C++'s too."""
    return os.listdir("/proc/self/task")


def left_in_flight(folder: str) -> bool:
    """Rank 0 leaves while a collective waits for rank 1, which waits for rank 0 to have left."""
    processes._LEAVING_SECONDS = 0.1
    parallel = Parallel.start("cpu")
    gone = Path(folder) / "gone"
    if parallel.is_main:
        dist.all_reduce(torch.ones(1), async_op=True)
        parallel.close()
        gone.touch()
    while not gone.exists():
        time.sleep(0.01)
    return not dist.is_initialized()


def watched(folder: str, **settings: Any) -> dict[str, float]:
    """Train with watched pairs; return their last figures."""
    watch = WatchedPairs(pairs=["en-hi"], sentences=20)
    run = _run(folder, "mlm+tlm", evaluate_every=5, watch=watch, **settings)
    return pretrain(run, tiny.corpora()).figures["watch/en-hi"]


def tasks_evaluated(folder: str) -> dict[str, dict[str, float]]:
    """Figures of a task of each kind, of an untrained model."""
    parallel = Parallel.start("cpu")
    tasks, made = toys.several(folder), toys.corpora()
    streams = {name: own.streams(name, made, seed=0, split="valid") for name, own in tasks.items()}
    return evaluate(toys.learner(tasks, made), streams, parallel, seed=0)


def evaluated(objectives: str, dtype: str) -> dict[str, dict[str, float]]:
    """Held-out figures of an untrained model."""
    run = _run("nowhere", objectives, dtype=dtype)
    parallel = Parallel.start("cpu")
    made = tiny.corpora()
    learner = building.build_learner(run, made)
    streams = building.held_out_streams(run, made, "valid")
    return evaluate(learner, streams, parallel, seed=run.seed)


def tuned(settings: dict[str, Any]) -> dict[str, Any]:
    """The report of a fine-tuning call, without the clock."""
    return {**finetune(read_recipe(settings)).to_json(), "seconds": 0.0}


def read_recipe(settings: dict[str, Any]) -> Finetune:
    """A recipe of fine-tuning from its fields, as a YAML file has them."""
    path = Path(settings["folder"]).with_suffix(f".{os.environ.get('RANK', '0')}.yaml")
    path.write_text(json.dumps(settings))
    return read(Finetune, path)
