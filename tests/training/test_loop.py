"""The one loop in a single process: what it weighs, reports, skips, and calls when."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import pytest
import torch
from torch import nn

from tests.training import tiny
from xlm.batch import Batch, Loss
from xlm.data.corpora import Corpora
from xlm.errors import DataError, TrainingError
from xlm.model.generate import generate
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.masked import MaskedLM
from xlm.training.distributed.processes import Parallel
from xlm.training.loop import Verdict, train
from xlm.training.prefetch import MicroBatch, Prefetcher, Step
from xlm.training.report import TrainReport
from xlm.training.saving import Job, Saver
from xlm.training.state import TrainState
from xlm.training.trainer import Trainer

ALONE = Parallel(torch.device("cpu"))
BOTH: dict[str, Objective] = {"mlm": tiny.MLM, "nli": tiny.NLI}


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora(40)


def build(made: Corpora, objectives: dict[str, Objective] | None = None, **changes: Any) -> Trainer:
    """A trainer by hand, and its recipe's settings; ``trainer`` goes to the trainer."""
    settings = changes.pop("trainer", {})
    run = tiny.recipe("", objectives=objectives or BOTH, dtype="float64", **changes)
    return tiny.trainer(run, made, ALONE, **settings)


def next_step(trainer: Trainer) -> list[MicroBatch]:
    prefetcher = Prefetcher(
        trainer.mixture, trainer.learner.objectives, ALONE,
        seed=trainer.seed, first=trainer.state.step, cursors=trainer.state.cursors,
    )  # fmt: skip
    try:
        return prefetcher.next().micro_batches
    finally:
        prefetcher.close()


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.learner.named_parameters()}


@pytest.mark.parametrize("order", ["together", "rotate"])
def test_weights_follow_their_points_and_divide_by_all_targets(made: Corpora, order: str) -> None:
    """The gradient is the sum over objectives of weight(step) x mean loss over all micro-batches.

    From update 4 on, the first objective has no weight and no micro-batches.
    """
    objectives = {
        "mlm": dataclasses.replace(tiny.MLM, weight=[[0, 2.0], [4, 0.0]]),
        "nli": dataclasses.replace(tiny.NLI, weight=0.5),
    }
    weights = {"mlm": [2.0, 1.5, 1.0, 0.5, 0.0, 0.0], "nli": [0.5] * 6}
    trainer = build(made, objectives, order=order)
    trained = []
    for step in range(6):
        micro_batches = next_step(trainer)
        names = sorted({each.objective for each in micro_batches})
        trained.append(names)
        trainer.learner.train()
        total = torch.zeros((), dtype=torch.float64)
        for name in names:
            own = [each.batch for each in micro_batches if each.objective == name]
            losses = [trainer.learner(name, batch) for batch in own]
            count = sum(int((batch.targets >= 0).sum()) for batch in own)
            total = total + weights[name][step] * sum(loss.total for loss in losses) / count
        trained_parameters = dict(trainer.learner.named_parameters())
        gradients = torch.autograd.grad(total, list(trained_parameters.values()), allow_unused=True)
        before = parameters(trainer)
        trainer.steps = step + 1
        train(trainer)  # goes on from where it stopped
        for (name, p), gradient in zip(trained_parameters.items(), gradients, strict=True):
            expected = before[name] if gradient is None else before[name] - gradient
            torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-12)
    both = ["mlm", "nli"]
    if order == "together":
        assert trained == [both] * 4 + [["nli"]] * 2
    else:
        assert trained == [["mlm"], ["nli"]] * 2 + [["nli"]] * 2


def test_clipping_is_of_the_whole_gradient(made: Corpora) -> None:
    free, clipped = build(made, steps=1), build(made, steps=1, trainer={"max_grad_norm": 0.01})
    start = parameters(free)
    reports: list[TrainReport] = []
    train(free)
    train(clipped, report=reports.append)
    norm = sum(float((start[n] - p).square().sum()) for n, p in parameters(free).items()) ** 0.5
    assert reports[0].grad_norm == pytest.approx(norm, rel=1e-9) and norm > 0.1
    for name, p in parameters(clipped).items():
        expected = (start[name] - parameters(free)[name]) * (0.01 / (norm + 1e-6))
        torch.testing.assert_close(start[name] - p, expected, rtol=1e-9, atol=1e-15)


def test_reports_hold_the_means_since_the_last(made: Corpora) -> None:
    reports: dict[int, list[TrainReport]] = {1: [], 3: []}
    for every, own in reports.items():
        trainer = build(made, steps=7)
        trainer.report_every = every
        train(trainer, report=own.append)
    assert [report.step for report in reports[3]] == [3, 6, 7]  # the last is not lost
    for report, first in zip(reports[3], (0, 3, 6), strict=True):
        several = reports[1][first : report.step]
        assert report.counts == {n: sum(one.counts[n] for one in several) for n in ("mlm", "nli")}
        assert report.tokens == sum(one.tokens for one in several) > 0
        for name, loss in report.losses.items():
            total = sum(one.losses[name] * one.counts[name] for one in several)
            assert loss == pytest.approx(total / report.counts[name], rel=1e-12)
        assert report.grad_norm == several[-1].grad_norm
    assert all(0 <= report.wait <= 1 and report.scale is None for report in reports[1])


def test_the_forward_pass_is_in_the_precision_that_is_asked_for(made: Corpora) -> None:
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        run = tiny.recipe("", objectives=BOTH, steps=1)
        trainer = tiny.trainer(run, made, ALONE, precision=precision)
        reports: list[TrainReport] = []
        train(trainer, report=reports.append)
        losses[precision] = reports[0].losses["mlm"]
        assert all(p.dtype == torch.float32 for p in trainer.learner.parameters())
    assert len(set(losses.values())) == 3
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=1e-2)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=1e-3)


def test_tokens_are_counted_by_stream(made: Corpora) -> None:
    trainer = build(made, steps=4)
    reports: list[TrainReport] = []
    train(trainer, report=reports.append)
    assert set(trainer.state.tokens) == {"mlm/en", "mlm/hi", "nli/en"}
    assert sum(trainer.state.tokens.values()) == sum(report.tokens for report in reports)
    assert sum(trainer.state.cursors.values()) == 4 * 2 * 4
    assert trainer.state.step == 4


class Calls:
    """Notes what the loop calls, at which step."""

    def __init__(self, trainer: Trainer, verdicts: dict[int, Verdict] | None = None) -> None:
        self.seen: list[tuple[str, int]] = []
        self.trainer, self.verdicts = trainer, verdicts or {}

    def train(self, **further: Any) -> None:
        train(
            self.trainer, report=lambda report: self.note("report"), evaluate=self.evaluate,
            save=lambda: self.note("save"), **further,
        )  # fmt: skip

    def evaluate(self) -> Verdict:
        self.note("evaluate")
        return self.verdicts.get(self.trainer.state.step, Verdict())

    def note(self, what: str) -> None:
        self.seen.append((what, self.trainer.state.step))

    def at(self, what: str) -> list[int]:
        return [step for name, step in self.seen if name == what]


def test_what_is_called_when(made: Corpora) -> None:
    trainer = build(made, steps=11)
    trainer.report_every, trainer.evaluate_every, trainer.save_every = 2, 4, 5
    calls = Calls(trainer, {4: Verdict(save=True)})
    calls.train()
    assert calls.at("report") == [2, 4, 6, 8, 10, 11]
    assert calls.at("evaluate") == [4, 8, 11]
    assert calls.at("save") == [4, 5, 10, 11]
    # A checkpoint holds what the evaluation found.
    assert calls.seen[1:4] == [("report", 4), ("evaluate", 4), ("save", 4)]
    calls.train()
    assert len(calls.seen) == 13  # nothing is left to do


def test_a_verdict_ends_the_run_after_a_save(made: Corpora) -> None:
    trainer = build(made, steps=11)
    trainer.evaluate_every = 3
    calls = Calls(trainer, {6: Verdict(stop=True)})
    calls.train()
    assert trainer.state.step == 6 and calls.at("save") == [6]


def test_a_request_to_stop_is_saved_and_can_be_resumed(made: Corpora) -> None:
    whole = build(made, steps=6)
    train(whole)
    trainer = build(made, steps=6)
    calls = Calls(trainer)
    calls.train(stop_requested=lambda: trainer.state.step == 4)
    assert trainer.state.step == 4 and calls.at("save") == [4]
    assert trainer.state.cursors != whole.state.cursors
    calls.train()
    assert tiny.digest(parameters(trainer)) == tiny.digest(parameters(whole))
    assert trainer.state.cursors == whole.state.cursors
    assert trainer.state.tokens == whole.state.tokens


def test_what_the_ranks_said_of_one_save_is_not_taken_for_the_next(made: Corpora) -> None:
    trainer = build(made, steps=6)
    trainer.saver = Saver(ALONE, background=True)
    trainer.report_every = 1
    written: list[int] = []
    committed: list[dict[str, Any]] = []

    def write() -> dict[str, Any]:
        written.append(trainer.state.step)
        if len(written) % 2 == 0:
            time.sleep(0.05)  # the next update begins before it ends
        return {"piece": {"size": written[-1]}}

    def save(report: TrainReport) -> None:
        # after the ranks said for the next update whether the save before was ready
        trainer.saver.finish()
        trainer.saver.begin(Job(write, committed.append))
        if report.step % 2:
            trainer.saver.join()

    train(trainer, report=save)
    trainer.saver.finish()
    assert len(committed) == 6
    assert [own["piece"]["size"] for own in committed] == written


def test_a_report_after_a_resume_holds_what_was_summed_before(made: Corpora) -> None:
    whole, cut = [], []
    trainer = build(made, steps=6)
    trainer.report_every = 6
    train(trainer, report=whole.append)
    trainer = build(made, steps=6)
    trainer.report_every = 6
    train(trainer, report=cut.append, stop_requested=lambda: trainer.state.step == 4)
    assert not cut
    saved = TrainState.from_json(trainer.state.to_json())
    trainer.state = saved
    train(trainer, report=cut.append)
    assert [report.step for report in cut] == [6]
    for name in ("losses", "counts", "tokens", "grad_norm"):
        assert getattr(cut[0], name) == getattr(whole[0], name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfiniteLM(MaskedLM):
    """Its loss is infinite from some micro-batch on."""

    after: int

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        _SEEN.append(1)
        loss = MaskedLM.loss(self, model, head, batch)
        bad = len(_SEEN) > self.after
        return dataclasses.replace(loss, total=loss.total * float("inf")) if bad else loss


_SEEN: list[int] = []


def test_a_run_that_is_never_finite_ends_with_a_reason(made: Corpora) -> None:
    """Two good updates of 4 micro-batches, then none."""
    _SEEN.clear()
    objective = InfiniteLM(languages=["en"], rows=4, length=8, after=8)
    trainer = build(made, {"bad": objective}, steps=20, trainer={"max_skipped_in_a_row": 3})
    reports: list[TrainReport] = []
    with pytest.raises(TrainingError) as caught:
        train(trainer, report=reports.append)
    message = str(caught.value)
    assert message.startswith("step 5: the gradient was not finite for 3 updates in a row")
    assert "objectives bad; streams bad/en" in message and "\n" not in message
    assert [report.skipped for report in reports] == [0, 0, 1, 2]
    assert all(bool(p.isfinite().all()) for p in trainer.learner.parameters())


def test_skips_that_are_not_in_a_row_do_not_end_it(made: Corpora) -> None:
    _SEEN.clear()
    objective = InfiniteLM(languages=["en"], rows=4, length=8, after=0)
    trainer = build(
        made, {"bad": objective, "mlm": tiny.MLM}, order="rotate", steps=8,
        trainer={"max_skipped_in_a_row": 2},
    )  # fmt: skip
    train(trainer)
    assert trainer.state.step == 8
    assert trainer.state.skipped == 4


def test_counters_are_restored_from_the_state(made: Corpora) -> None:
    _SEEN.clear()
    objective = InfiniteLM(languages=["en"], rows=4, length=8, after=0)
    trainer = build(made, {"bad": objective}, steps=2, trainer={"max_skipped_in_a_row": 4})
    train(trainer)
    assert (trainer.state.skipped, trainer.state.skipped_in_a_row) == (2, 2)
    again = build(made, {"bad": objective}, steps=9, trainer={"max_skipped_in_a_row": 4})
    again.state = TrainState.from_json(trainer.state.to_json())
    again.restore_counters()
    with pytest.raises(TrainingError, match="step 4: .* for 4 updates in a row"):
        train(again)


def test_an_error_in_an_objective_leaves_no_thread(made: Corpora) -> None:
    trainer = build(made)
    del trainer.learner.heads["nli"]
    with pytest.raises(AssertionError):
        train(trainer)
    assert not [thread for thread in threading.enumerate() if thread.name == "xlm-prefetch"]


def test_each_part_of_a_loss_is_divided_by_a_count_of_its_own(made: Corpora) -> None:
    """BERT adds the mean over masked tokens and the mean over rows."""
    trainer = build(made, {"nsp": dataclasses.replace(tiny.NSP, weight=2.0), "mlm": tiny.MLM})
    micro_batches = next_step(trainer)
    before = parameters(trainer)
    own = [each.batch for each in micro_batches if each.objective == "nsp"]
    assert len({batch.parts["masked"] / batch.parts["next"] for batch in own}) > 1
    losses = [trainer.learner("nsp", batch) for batch in own]
    means = [
        sum(loss.parts[part] for loss in losses) / sum(batch.parts[part] for batch in own)
        for part in ("masked", "next")
    ]
    others = [each.batch for each in micro_batches if each.objective == "mlm"]
    plain = sum(trainer.learner("mlm", batch).total for batch in others)
    plain = plain / sum(batch.count for batch in others)
    names, values = zip(*trainer.learner.named_parameters(), strict=True)
    gradients = torch.autograd.grad(2.0 * (means[0] + means[1]) + plain, values)
    reports: list[TrainReport] = []
    trainer.steps = 1
    train(trainer, report=reports.append)
    for name, gradient in zip(names, gradients, strict=True):
        moved = before[name] - trainer.learner.get_parameter(name)
        torch.testing.assert_close(moved, gradient, rtol=0, atol=1e-12)
    found = reports[0].losses
    means, plain = [mean.detach() for mean in means], plain.detach()
    assert list(found) == ["nsp", "nsp.masked", "nsp.next", "mlm"]
    assert found["nsp.masked"] == pytest.approx(float(means[0]), rel=1e-12)
    assert found["nsp.next"] == pytest.approx(float(means[1]), rel=1e-12)
    assert found["nsp"] == pytest.approx(found["nsp.masked"] + found["nsp.next"], rel=1e-12)
    assert found["mlm"] == pytest.approx(float(plain), rel=1e-12)


def test_back_translation_writes_once_for_all_micro_batches_of_a_stream(
    made: Corpora, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update is that of micro-batches which each write their own."""
    ways = BackTranslation(pairs=["en-hi", "hi-en"], tokens=60, length=20, num_lengths=3)
    settings: dict[str, Any] = {
        "model": tiny.model(num_decoder_layers=1), "group_size": 6, "steps": 2,
    }  # fmt: skip
    calls: list[int] = []
    monkeypatch.setattr(
        "xlm.objectives.backtranslation.generate",
        lambda *rest, **more: (calls.append(1), generate(*rest, **more))[1],
    )
    together = build(made, {"bt": ways}, **settings)
    train(together)
    num_together = len(calls)
    assert num_together <= 4  # two directions, two updates
    monkeypatch.setattr(BackTranslation, "prepared", Objective.prepared)
    apart = build(made, {"bt": ways}, **settings)
    train(apart)
    assert len(calls) - num_together == 12
    for name, one in parameters(together).items():
        torch.testing.assert_close(one, parameters(apart)[name], rtol=1e-10, atol=1e-12)


def test_an_error_in_the_next_batch_is_raised_after_the_update_is_reported_and_saved(
    made: Corpora, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(made, steps=6)
    train(whole)
    collate, broken = Prefetcher._collate, [True]

    def failing(self: Prefetcher, number: int, cursors: dict[str, int]) -> Step:
        if number == 4 and broken:
            raise DataError("line 6 is damaged")
        return collate(self, number, cursors)

    monkeypatch.setattr(Prefetcher, "_collate", failing)
    trainer = build(made, steps=6)
    trainer.report_every = 2
    calls = Calls(trainer)
    with pytest.raises(DataError, match="line 6 is damaged"):
        calls.train()
    assert calls.seen == [("report", 2), ("report", 4), ("save", 4)]
    with pytest.raises(DataError):
        calls.train()  # at once: nothing new is saved
    assert len(calls.seen) == 3
    broken.clear()
    calls.train()
    assert tiny.digest(parameters(trainer)) == tiny.digest(parameters(whole))
