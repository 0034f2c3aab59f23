"""A run in its folder: how it starts, goes on, is saved, stops, and what it says."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny
from xlm.batch import Batch, Loss
from xlm.config.cli import to_yaml
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange import load as loading
from xlm.model.transformer import Transformer
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import Result, pretrain
from xlm.run import build as building
from xlm.run.config import Initialization, Run, Schedule, Stopping, differences, read_run
from xlm.run.folder import RunFolder
from xlm.run.session import begin
from xlm.training import checkpoint
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate

DROPPING = tiny.model(dropout=0.1)


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora(40)


def weights(result: Result) -> str:
    return tiny.digest(dict(result.learner.named_parameters()))


def checkpoints(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "checkpoints").iterdir() if p.is_dir())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def changed(run: Run, **changes: Any) -> Run:
    return dataclasses.replace(run, **changes)


# What a run leaves behind.


def test_a_run_leaves_its_config_metrics_and_checkpoints(made: Corpora, tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path, steps=7, save_every=2, evaluate_every=3, keep_last=2, average=0.9)
    result = pretrain(run, made)
    assert result.folder == tmp_path and result.state.step == 7 and not result.stopped_early
    assert set(result.figures) == {"mlm/en", "mlm/hi", "tlm/en-hi"}
    run = dataclasses.replace(run, compile=False)  # what auto is on a CPU
    assert read_run(tmp_path) == run
    assert sorted(tiny.journal(tmp_path)) == list(range(1, 8))
    assert sorted(tiny.journal(tmp_path, "valid")) == [3, 6, 7]
    last = tiny.journal(tmp_path, "valid")[7]
    assert {name: last[name] for name in result.figures} == result.figures
    best = int(json.loads((tmp_path / "checkpoints" / "best.json").read_text())["step"])
    assert best == result.state.best_step
    kept = {"step-00000006", "step-00000007", f"step-{best:08d}"}
    assert set(checkpoints(tmp_path)) == kept
    loaded = checkpoint.load(tmp_path / "checkpoints" / "step-00000007")
    assert read_run(loaded.path) == run
    assert tiny.digest(loaded.tensors("model")) == tiny.digest(result.learner.state_dict())


def test_evaluating_and_saving_change_nothing_in_training(made: Corpora, tmp_path: Path) -> None:
    settings = {"steps": 6, "model": DROPPING, "average": 0.9}
    plain = pretrain(tiny.recipe(tmp_path / "a", **settings), made)
    busy = pretrain(tiny.recipe(tmp_path / "b", evaluate_every=1, save_every=1, **settings), made)
    assert weights(plain) == weights(busy)
    assert tiny.journal(tmp_path / "a") == tiny.journal(tmp_path / "b")


def test_averaged_weights_are_what_is_evaluated(made: Corpora, tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path / "a", steps=6, evaluate_every=6)
    last = pretrain(run, made)
    averaged = pretrain(changed(run, folder=str(tmp_path / "b"), average=0.9), made)
    assert weights(last) == weights(averaged)  # those that are trained
    assert last.figures["mlm/en"]["nats"] != averaged.figures["mlm/en"]["nats"]
    loaded = checkpoint.load(tmp_path / "b" / "checkpoints" / "step-00000006")
    learner = building.build_learner(run, made)
    learner.load_state_dict(
        {n: t for n, t in loaded.tensors("averaged").items() if n != "num_updates"}
    )
    streams = building.held_out_streams(run, made, "valid")
    figures = evaluate(learner, streams, Parallel(torch.device("cpu")), seed=run.seed)
    assert figures["mlm/en"]["nats"] == averaged.figures["mlm/en"]["nats"]


# Going on.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObservedLM(MaskedLM):
    """Calls ``WATCH["loss"]`` at every loss in training."""

    def loss(self, model: Transformer, head: torch.nn.Module | None, batch: Batch) -> Loss:
        if model.training:
            WATCH["loss"]()
        return MaskedLM.loss(self, model, head, batch)


WATCH: dict[str, Callable[[], None]] = {"loss": lambda: None}
OBSERVED = {"mlm": ObservedLM(languages=["en", "hi"], rows=8, length=12), "tlm": tiny.TLM}


class Counted:
    """Does something at the n-th loss."""

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        self.seen, self.at, self.action = 0, at, action

    def __call__(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.action()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_stops_and_can_be_resumed(
    made: Corpora, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = [signal.getsignal(each) for each in signal.Signals]
    settings = {"objectives": OBSERVED, "steps": 6, "model": DROPPING, "evaluate_every": 6}
    whole = pretrain(tiny.recipe(tmp_path / "whole", **settings), made)
    # Two losses of the probe, then four a step: in the middle of the third update.
    watch = Counted(2 + 2 * 4 + 2, lambda: os.kill(os.getpid(), number))
    monkeypatch.setitem(WATCH, "loss", watch)
    cut = pretrain(tiny.recipe(tmp_path / "cut", **settings), made)
    assert cut.state.step == 3 and checkpoints(tmp_path / "cut") == ["step-00000003"]
    assert not cut.figures  # who sent the signal waits
    assert [signal.getsignal(each) for each in signal.Signals] == handlers
    resumed = pretrain(tiny.recipe(tmp_path / "cut", **settings), made)
    assert weights(resumed) == weights(whole) and resumed.state.step == 6
    assert tiny.journal(tmp_path / "cut") == tiny.journal(tmp_path / "whole")


@pytest.mark.parametrize(("status", "seen"), [(0, None), (75, 75)])
def test_the_status_of_a_run_that_was_stopped(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, seen: int | None
) -> None:
    """Of a run that has ended it is 0."""
    run = tiny.recipe(tmp_path / "run", objectives=OBSERVED, steps=4, stop_status=status)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(dataclasses.replace(run, objectives={"mlm": tiny.MLM})))
    module = importlib.import_module("xlm.pretrain")
    monkeypatch.setattr(module, "pretrain", lambda _: pretrain(run, made))
    watch = Counted(8, lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setitem(WATCH, "loss", watch)
    stopped = None
    try:
        module.main(["--config", str(recipe)])
    except SystemExit as ended:
        stopped = ended.code
    assert stopped == seen and checkpoints(tmp_path / "run") == ["step-00000002"]
    module.main(["--config", str(recipe)])
    assert checkpoints(tmp_path / "run")[-1] == "step-00000004"


def test_a_second_interrupt_ends_at_once(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setitem(WATCH, "loss", Counted(5, twice))
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny.recipe(tmp_path, objectives=OBSERVED), made)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest"])
def test_a_damaged_checkpoint_is_passed_over(
    made: Corpora, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    settings = {"save_every": 2, "keep_last": 3, "model": DROPPING, "average": 0.9}
    whole = pretrain(tiny.recipe(tmp_path / "whole", steps=8, **settings), made)
    folder = tmp_path / "cut"
    pretrain(tiny.recipe(folder, steps=6, **settings), made)
    newest = folder / "checkpoints" / "step-00000006"
    target = newest / ("manifest.json" if damage == "manifest" else "model.safetensors")
    content = bytearray(target.read_bytes())
    content[-9] ^= 1
    target.write_bytes(content[:-5] if damage == "cut" else content)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="xlm"):
        resumed = pretrain(tiny.recipe(folder, steps=8, **settings), made)
    (warning,) = warnings(caplog)
    assert warning.startswith("passed over a checkpoint:") and str(target) in warning
    assert any("resuming at step 4 from" in r.getMessage() for r in caplog.records)
    assert weights(resumed) == weights(whole)
    assert tiny.journal(folder) == tiny.journal(tmp_path / "whole")
    checkpoint.load(newest)  # written again


def test_a_finished_run_is_left_as_it_is(made: Corpora, tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path, steps=3, evaluate_every=3)
    done = pretrain(run, made)
    again = pretrain(run, made)
    assert weights(again) == weights(done) and again.state == done.state
    assert again.figures == done.figures


def test_more_steps_go_on(made: Corpora, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = pretrain(tiny.recipe(tmp_path / "whole", steps=6), made)
    pretrain(tiny.recipe(tmp_path / "cut", steps=4), made)
    resumed = pretrain(tiny.recipe(tmp_path / "cut", steps=6), made)
    assert weights(resumed) == weights(whole)
    assert warnings(caplog) == []


def test_other_settings_are_named_when_a_run_goes_on(
    made: Corpora, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tiny.recipe(tmp_path, steps=2, save_every=2)
    pretrain(run, made)
    mlm = dataclasses.replace(tiny.MLM, mask_rate=0.3)
    pretrain(
        changed(
            run, steps=3, seed=4, objectives={"mlm": mlm, "tlm": tiny.TLM}, report_every=2,
            schedule=Schedule(kind="constant", peak_lr=1e-3, warmup_steps=0),
        ),
        made,
    )  # fmt: skip
    (warning,) = warnings(caplog)
    assert warning.startswith("resuming at step 2 with ")
    for part in ("seed 4 (was 0)", "mask_rate 0.3 (was 0.15)", "peak_lr 0.001 (was 0.005)"):
        assert part in warning
    assert warning.count("(was") == 3 and "\n" not in warning


def test_a_longer_run_changes_a_schedule_that_ends_with_it(made: Corpora, tmp_path: Path) -> None:
    def changed(before: Schedule, after: Schedule) -> list[str]:
        old = tiny.recipe("a", steps=10, schedule=before)
        new = tiny.recipe("b", steps=20, schedule=after, save_every=3, keep_last=9, data="moved")
        return differences(to_yaml(old), new)

    linear = Schedule(kind="linear", warmup_steps=2)
    fixed = Schedule(kind="linear", warmup_steps=2, total_steps=30)
    root = Schedule(kind="inverse-sqrt", warmup_steps=2)
    assert changed(linear, linear) == ["steps 20 (was 10)"]
    assert changed(fixed, fixed) == changed(root, root) == []
    assert changed(fixed, linear) == [
        "steps 20 (was 10)",
        "schedule.total_steps None (was 30)",
    ]


def test_other_text_is_noticed(
    made: Corpora, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrain(tiny.recipe(tmp_path, steps=2), made)
    pretrain(tiny.recipe(tmp_path, steps=3), tiny.corpora(50))
    training, held_out = warnings(caplog)
    assert "resuming with training text" in training and "bit for bit" in training
    assert "resuming with held-out text" in held_out


def test_a_recipe_of_another_shape_is_refused(made: Corpora, tmp_path: Path) -> None:
    pretrain(tiny.recipe(tmp_path, steps=2), made)
    with pytest.raises(CheckpointError, match="do not fit the recipe's model") as caught:
        pretrain(tiny.recipe(tmp_path, steps=3, model=tiny.model(dim=8)), made)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="has no averaged weights"):
        pretrain(tiny.recipe(tmp_path, steps=3, average=0.9), made)
    with pytest.raises(CheckpointError, match="another precision"):
        pretrain(tiny.recipe(tmp_path, steps=3, precision="fp16"), made)


def test_other_data_is_refused(made: Corpora, tmp_path: Path) -> None:
    pretrain(tiny.recipe(tmp_path, steps=2), made)
    other = Corpora(made.tokenizer, ["en", "hi", "ne"], texts=made._texts, pairs=made._pairs)
    with pytest.raises(ConfigError, match="does not know the language ne: .* give the data"):
        pretrain(tiny.recipe(tmp_path, steps=3), other)

    class Renamed(tiny.Words):
        def __init__(self) -> None:
            super().__init__()
            self.name = "other"

    other = Corpora(Renamed(), ["en", "hi"], texts=made._texts, pairs=made._pairs)
    with pytest.raises(CheckpointError, match="was trained with tokenizer words"):
        pretrain(tiny.recipe(tmp_path, steps=3), other)


# Starting from another run.


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of tiny's made-up tokenizer may be a source."""
    monkeypatch.setattr(loading, "load_tokenizer", lambda folder: tiny.Words())


@pytest.mark.usefixtures("words")
def test_initialize_takes_averaged_weights_and_known_heads(made: Corpora, tmp_path: Path) -> None:
    source = tiny.recipe(
        tmp_path / "source", objectives={"mlm": tiny.MLM, "nli": tiny.NLI}, steps=4, average=0.9
    )
    pretrain(source, made)
    loaded = checkpoint.load(tmp_path / "source" / "checkpoints" / "step-00000004")
    averages = loaded.tensors("averaged")
    topic = dataclasses.replace(tiny.NLI, weight=0.5)
    run = tiny.recipe(
        tmp_path / "new", objectives={"nli": tiny.NLI, "topic": topic}, steps=2, average=0.5,
        initialize=Initialization(encoder=str(tmp_path / "source")),
    )  # fmt: skip
    session = begin(run, made, RunFolder(run.folder, Parallel(torch.device("cpu"))))
    fresh = building.build_learner(run, made).state_dict()
    assert session.trainer.averaged is not None
    for name, tensor in session.trainer.learner.state_dict().items():
        expected = fresh[name] if name.startswith("heads.topic") else averages[name]
        assert torch.equal(tensor, expected), name
        if name in session.trainer.averaged.state_dict():
            assert torch.equal(session.trainer.averaged.state_dict()[name], expected)
    assert session.trainer.state.step == 0 and not session.trainer.optimizer.state
    session.reporter.journal.close()
    first = pretrain(run, made)
    shutil.rmtree(tmp_path / "source")  # only the first start needs it
    assert weights(pretrain(run, made)) == weights(first)


@pytest.mark.usefixtures("words")
def test_initialize_refuses_what_does_not_fit(made: Corpora, tmp_path: Path) -> None:
    pretrain(tiny.recipe(tmp_path / "source", steps=1), made)
    start = Initialization(encoder=str(tmp_path / "source"))
    run = tiny.recipe(tmp_path / "new", initialize=start)
    with pytest.raises(ConfigError, match="does not fit the recipe's model: .* the first is"):
        pretrain(changed(run, model=tiny.model(dim=8)), made)
    nowhere = Initialization(encoder=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="nowhere does not exist: expected a model directory"):
        pretrain(changed(run, initialize=nowhere), made)


# A disk that is full.


class Disk:
    """Lets saves fail while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full_from, self.full_until = 0, 0
        self.saves: list[int] = []
        write = checkpoint._write_manifest

        def writing(beside: Path, step: int, *further: Any) -> None:
            self.saves.append(step)
            if self.full_from <= step < self.full_until:
                raise OSError(28, "No space left on device")
            write(beside, step, *further)

        monkeypatch.setattr(checkpoint, "_write_manifest", writing)


def test_a_full_disk_does_not_end_the_run(
    made: Corpora,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = pretrain(tiny.recipe(tmp_path / "whole", steps=6, save_every=1), made)
    disk = Disk(monkeypatch)
    disk.full_from, disk.full_until = 3, 5
    result = pretrain(tiny.recipe(tmp_path / "cut", steps=6, save_every=1), made)
    assert disk.saves == [1, 2, 3, 4, 5, 6]
    assert weights(result) == weights(whole)
    assert checkpoints(tmp_path / "cut") == ["step-00000005", "step-00000006"]
    said = warnings(caplog)
    assert len(said) == 2 and all("No space left" in line and "\n" not in line for line in said)


@pytest.mark.parametrize("end", ["steps", "patience", "signal"])
def test_a_last_state_that_is_not_saved_is_an_error(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    disk = Disk(monkeypatch)
    disk.full_until = 100
    run = tiny.recipe(tmp_path, objectives=OBSERVED, steps=4)
    if end == "patience":
        tiny.fake_scores(monkeypatch, *range(1, 60))
        run = changed(run, steps=50, evaluate_every=1, stopping=Stopping(metric="nats", patience=2))
    elif end == "signal":
        watch = Counted(8, lambda: os.kill(os.getpid(), signal.SIGTERM))
        monkeypatch.setitem(WATCH, "loss", watch)
    with pytest.raises(CheckpointError, match="not saved .*No space left .* free some space"):
        pretrain(run, made)
    assert disk.saves and checkpoints(tmp_path) == []


# Settings that only reach torch.


def test_compile_reaches_the_layers_that_are_called(made: Corpora, tmp_path: Path) -> None:
    for compiled in (False, True):
        run = tiny.recipe(tmp_path / str(compiled), compile=compiled)
        session = begin(run, made, RunFolder(run.folder, Parallel(torch.device("cpu"))))
        for layer in session.trainer.learner.model.encoder.layers:
            assert (layer._compiled_call_impl is not None) == compiled
        session.reporter.journal.close()
