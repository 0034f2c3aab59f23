"""Other layouts, damaged pieces, kills while a thread saves, the memory of a rank."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.fault_trials.common import Tally, forked, prepared, run_of, statuses
from benchmarks.fault_trials.damage import cut, flip, remove
from xlm import sample
from xlm.data.corpora import Corpora
from xlm.model.generate import Generation
from xlm.objectives import BackTranslation, MaskedLM
from xlm.pretrain import pretrain
from xlm.run.config import ModelConfig
from xlm.run.folder import RunFolder
from xlm.run.session import begin
from xlm.tasks import Classification
from xlm.tasks.task import Files
from xlm.training import checkpoint, retention
from xlm.training.distributed.processes import Parallel
from xlm.training.manifest import MANIFEST

Layout = tuple[int, str]
ALONE: Layout = (1, "none")
TWO_SHARDED: Layout = (2, "full")
LAYOUTS: tuple[Layout, ...] = (
    ALONE, (2, "none"), (3, "none"), (4, "none"), TWO_SHARDED, (3, "full"), (4, "full"),
    (4, "hybrid"),
)  # fmt: skip
"""Processes and sharding; with a hybrid one there are two machines of two processes."""
HALF, WHOLE = 6, 12
WITH_A_TRANSLATOR: dict[str, Any] = {
    "objectives": {
        "mlm": MaskedLM(languages=["en", "ne"], rows=2, length=24),
        "tlm": MaskedLM(pairs=["en-ne"], tokens=400, length=200, num_lengths=2),
        "bt": BackTranslation(
            pairs=["en-ne", "ne-en"], tokens=400, length=60, num_lengths=2,
            generation=Generation(ratio=1.0, extra=2),
        ),
        "follows": Classification(
            format="plain-pair", files=Files(
                train={"en": sample.resolved("sample:follows.train.en.tsv")},
                valid={"ne": sample.resolved("sample:follows.valid.ne.tsv")},
            ),
            rows=2, length=160, num_lengths=2,
        ).resolved(),
    },
    "model": ModelConfig(
        dim=16, num_layers=1, num_heads=2, num_decoder_layers=1, max_positions=256
    ),
    "evaluate_every": 6,
}  # fmt: skip
"""Masked text and pairs, back-translation, and a task with a head."""


def trained(data: Path, folder: Path, layout: Layout, **settings: Any) -> str:
    """Train, or go on, in a layout; return what went wrong."""
    world, sharding = layout
    run = run_of(data, folder, sharding=sharding, **settings)

    def train() -> None:
        if sharding == "hybrid":
            os.environ["LOCAL_WORLD_SIZE"] = "2"
        pretrain(run)

    found = statuses(forked(train, world), 600)
    return "" if found == [0] * world else f"statuses {found}"


def bits(folder: Path) -> str:
    """A digest of every tensor of the newest checkpoint, whatever files it is in."""
    loaded = checkpoint.latest(folder / "checkpoints").loaded
    if loaded is None:
        return "no checkpoint"
    found = hashlib.sha256(str(loaded.step).encode())
    for group in loaded.names:
        for name, tensor in sorted(loaded.tensors(group).items()):
            found.update(f"{group} {name}".encode())
            found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def losses(folder: Path) -> dict[int, dict[str, float]]:
    """The losses of each update."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["loss"] for line in lines if line["event"] == "train"}


def furthest(folder: Path, other: Path) -> float:
    """The largest relative difference between losses; infinite if a step is missing."""
    found, expected = losses(folder), losses(other)
    if found.keys() != expected.keys():
        return float("inf")
    return max(
        abs(own[name] / expected[step][name] - 1) for step, own in found.items() for name in own
    )


def transitions(data: Path, folder: Path, quick: bool) -> Tally:
    """Save in one layout, go on in another: every pair of them."""
    tally = Tally(
        "layouts: 1 to 4 processes, none, DDP or FSDP2",
        "losses within 1e-6; the same: bit for bit",
    )
    # each layout by itself, then with the next one, ...: a run cut short has tried all layouts
    nexts = [LAYOUTS[place:] + LAYOUTS[:place] for place in range(len(LAYOUTS))]
    pairs = [pair for own in nexts for pair in zip(LAYOUTS, own, strict=True)]
    pairs = [(TWO_SHARDED, TWO_SHARDED), (ALONE, TWO_SHARDED)] if quick else pairs
    whole: dict[Layout, Path] = {}
    problems = {}
    for layout in dict.fromkeys([ALONE, *(own for own, _ in pairs)]):
        whole[layout] = folder / f"whole-{layout[0]}-{layout[1]}"
        problems[layout] = trained(data, whole[layout], layout, **WITH_A_TRANSLATOR)
    for one, other in pairs:
        if tally.is_over:
            break
        at = folder / "moved"
        problem = problems[one] or trained(data, at, one, steps=HALF, **WITH_A_TRANSLATOR)
        problem = problem or trained(data, at, other, steps=WHOLE, **WITH_A_TRANSLATOR)
        if not problem and (off := furthest(at, whole[ALONE])) > 1e-6:
            problem = f"a loss is {off:.1e} off"
        if not problem and one == other and bits(at) != bits(whole[one]):
            problem = "not the bits of the undisturbed run"
        tally.add(f"{one} to {other}", problem)
        shutil.rmtree(at, ignore_errors=True)
    return tally


def _swap(path: Path, choose: random.Random) -> None:
    """Exchange a piece with another one of its kind."""
    group = path.name.split("-")[0]
    other = choose.choice([own for own in sorted(path.parent.glob(f"{group}-*")) if own != path])
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def _stale(path: Path, _: random.Random) -> None:
    """Take the manifest of the checkpoint before, which names the same files."""
    older = min(path.parent.parent.glob("step-*"))
    shutil.copyfile(older / MANIFEST, path.parent / MANIFEST)


def pieces(data: Path, folder: Path, num: int) -> Tally:
    """Damage a piece of the newest checkpoint of three processes, of which any layout reads."""
    tally = Tally(
        "pieces missing, exchanged, cut, flipped: or beside an older manifest",
        "named before training, the one before is taken",
    )
    choose = random.Random(3)
    problem = trained(data, folder / "run", (3, "full"), keep_last=9)
    sound = sorted((folder / "run/checkpoints").glob("step-*"))
    damages: tuple[Callable[[Path, random.Random], None], ...] = (
        remove, _swap, cut, flip, _stale,
    )  # fmt: skip
    files = sorted(own.name for own in sound[-1].glob("*-of-*")) if not problem else []
    for at in range(num if files else 0):
        place = folder / "checkpoints"
        for step in sound[-2:]:
            shutil.copytree(step, place / step.name)
        name, damage = files[at % len(files)], damages[(at // len(files) + at) % len(damages)]
        damage(place / sound[-1].name / name, choose)
        found = checkpoint.latest(place)
        group = name.split("-")[0]
        if found.loaded is None or found.loaded.path.name != sound[-2].name:
            problem = f"taken: {found.loaded}"
        elif len(found.skipped) != 1 or not (damage is _stale or f"/{group}-" in found.skipped[0]):
            problem = f"not named: {found.skipped}"
        tally.add(f"{damage.__name__} {name}", problem)
        problem = ""
        shutil.rmtree(place)
    if problem:
        tally.add("the sound run", problem)
    return tally


WINDOWS: tuple[tuple[Any, str], ...] = (
    (checkpoint.Draft, "write"), (checkpoint, "_write_manifest"), (checkpoint, "replace_folder"),
    (retention, "prune"),
)  # fmt: skip


def background(data: Path, folder: Path, num: int) -> Tally:
    """Kill a rank before or after a part of a save that a thread makes."""
    tally = Tally(
        "kill -9 while a thread saves", "a valid checkpoint, one interval lost, then bit for bit"
    )
    choose = random.Random(5)
    settings = {"save_in_background": True}
    expected: dict[Layout, str] = {}
    for trial in range(num):
        if tally.is_over:
            break
        layout = ALONE if trial % 3 == 0 else TWO_SHARDED
        if layout not in expected:
            at = folder / f"whole-{layout[0]}-{layout[1]}"
            expected[layout] = trained(data, at, layout, **settings) or bits(at)
        window, after = WINDOWS[trial % len(WINDOWS)], bool(choose.randrange(2))
        # only rank 0 does what follows the pieces
        rank = choose.randrange(layout[0]) if window[1] == "write" else 0
        at, nth = folder / f"cut-{trial}", choose.randrange(1, 6)
        run = run_of(data, at, sharding=layout[1], **settings)
        note = at.with_suffix(".step")
        children = forked(
            lambda w=window, a=after, r=rank, n=nth, run=run, note=note: _killed(  # type: ignore[misc]
                run, (w, a, r, n), note
            ),
            layout[0],
        )
        _wait_for_first(children)
        problem = "" if note.exists() else "was not killed"
        if not problem:
            lost = int(note.read_text()) - run.save_every
            found = checkpoint.latest(at / "checkpoints").loaded
            if (found.step if found is not None else 0) < lost:
                problem = f"lost from {lost} on: {found}"
        problem = problem or trained(data, at, layout, **settings)
        if not problem and bits(at) != expected[layout]:
            problem = "not the bits of the undisturbed run"
        tally.add(f"{layout} rank {rank} {'after' if after else 'before'} {window[1]}", problem)
        shutil.rmtree(at, ignore_errors=True)
    return tally


def _killed(run: Any, where: tuple[tuple[Any, str], bool, int, int], note: Path) -> None:
    """Train until the n-th call of a part of a save, at which this rank dies if it is the one."""
    (owner, name), after, rank, nth = where
    function, calls = getattr(owner, name), [0]

    def called(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        dies = calls[0] == nth and int(os.environ.get("RANK", "0")) == rank
        if dies:
            last = sorted(Path(run.folder, "checkpoints").glob("*step-*"), key=_step)[-1]
            note.write_text(str(_step(last)))
        if dies and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*given, **named)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, called)
    pretrain(run)


def _step(path: Path) -> int:
    return int(path.name.split("step-")[1][:8])


def _wait_for_first(children: list[int]) -> None:
    """Wait until one ends, and kill the others, as torchrun does."""
    os.wait()
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for child in children:
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            continue


def memory(folder: Path, quick: bool) -> Tally:
    """Count the bytes of parameters, gradients and moments that a rank of several holds."""
    tally = Tally("memory of a rank under FSDP2", "parameters, gradients, moments / n within 10 %")
    data = prepared(folder / "data")
    run = run_of(
        data, folder / "run", sharding="full", steps=1, average=0.0, evaluate_every=0, save_every=0,
        model=ModelConfig(dim=128, num_layers=3, num_heads=4, max_positions=256),
        objectives={"mlm": MaskedLM(languages=["en", "ne"], rows=2, length=24)},
    )  # fmt: skip
    for world in (2,) if quick else (2, 3, 4):
        shutil.rmtree(run.folder, ignore_errors=True)
        found = statuses(forked(lambda: _count(run, folder), world), 300)
        problem = "" if found == [0] * world else f"statuses {found}"
        for rank in range(0 if problem else world):
            counts = json.loads((folder / f"{rank}.json").read_text())
            for name, whole in (("parameters", 1), ("gradients", 1), ("moments", 2)):
                share = counts[name] / (whole * counts["whole"] / world)
                if abs(share - 1) > 0.1:
                    problem = f"rank {rank}: {name} are {share:.2f} of their part"
        tally.add(f"{world} processes", problem)
    return tally


def _count(run: Any, folder: Path) -> None:
    parallel = Parallel.start("cpu")
    session = begin(run, Corpora.open(run.data), RunFolder(run.folder, parallel))
    trainer, counts = session.trainer, {}
    assert trainer.shards is not None
    take = trainer.shards.take_gradients

    def taking() -> None:
        take()
        counts["gradients"] = sum(p.grad.nbytes for p in trainer.parameters if p.grad is not None)

    trainer.shards.take_gradients = taking  # type: ignore[method-assign]
    with session.reporter.journal:
        session.train()
    state = [value for own in trainer.optimizer.state.values() for value in own.values()]
    counts["parameters"] = sum(p.nbytes for p in trainer.parameters)
    counts["moments"] = sum(value.nbytes for value in state if value.ndim)
    with trainer.shards.whole() as learner:
        counts["whole"] = sum(p.nbytes for p in learner.parameters())
    (folder / f"{parallel.rank}.json").write_text(json.dumps(counts))
