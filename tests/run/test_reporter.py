"""Reporter: the lines that a person sees, and the records of metrics.jsonl."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny
from xlm.objectives import CausalLM
from xlm.run import unigram
from xlm.run.config import Run, Schedule
from xlm.run.held_out import HeldOut
from xlm.run.reporter import Reporter, warn
from xlm.run.stopping import Outcome, Stopping
from xlm.training.distributed.processes import Parallel
from xlm.training.journal import METRICS, Journal, read_metrics
from xlm.training.report import TrainReport

ALONE = Parallel(torch.device("cpu"))


@pytest.fixture
def reporter(tmp_path: Path) -> Iterator[Reporter]:
    trainer = tiny.trainer(tiny.recipe(tmp_path, steps=8), tiny.corpora(20), ALONE)
    trainer.state.step = 4
    with Journal.open(tmp_path, step=4) as journal:
        yield Reporter(journal, trainer, ceiling=1e6)


def watching(folder: Path, metric: str, **settings: Any) -> Run:
    return tiny.recipe(folder, steps=4000, stopping=Stopping(metric=metric), **settings)


def records(reporter: Reporter, folder: Path) -> list[dict[str, object]]:
    reporter.journal.close()
    return read_metrics(folder / METRICS)


def test_an_update_s_rates_are_per_second_of_all_ranks(
    reporter: Reporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = TrainReport(
        step=4, seconds=2.0, lr=1e-3, losses={"mlm": 2.5}, tokens=3000, flops=1e6,
        counts={"mlm": 10}, grad_norm=0.5, skipped=2, scale=None, wait=0.25,
        stream_losses={"mlm/en": 2.5},
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "xlm"):
        reporter.train(report)
    [record] = records(reporter, tmp_path)
    machine = record.pop("machine")
    assert isinstance(machine, dict)
    assert machine["idle"] == 0 and machine["resident_gib"] > 0 and 0 < machine["host"] < 2
    assert machine["seconds_left"] == 4 * 2.0  # of 8 updates, the last took two seconds
    assert record == {
        "stream_loss": {"mlm/en": 2.5},
        "step": 4, "event": "train", "loss": {"mlm": 2.5}, "lr": 1e-3, "grad_norm": 0.5,
        "tokens_per_second": 1500.0, "utilization": 0.5, "wait": 0.25, "skipped": 2,
    }  # fmt: skip
    assert "mlm 2.5000  lr 1.00e-03" in caplog.text
    assert "1,500 tokens/s  50% of the matmul ceiling  2 skipped  8 s left" in caplog.text


@pytest.mark.parametrize(
    ("counted", "better", "best", "said"),
    [
        (True, True, 2.0, "nats averaged over mlm/en: 2 (best)"),
        (True, False, 1.5, "nats averaged over mlm/en: 2 (best 1.5 at step 3)"),
        (False, False, None, "nats averaged over mlm/en: 2 (not counted yet)"),
    ],
)
def test_an_evaluation_is_compared_with_the_best(
    reporter: Reporter, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    counted: bool, better: bool, best: float | None, said: str,
) -> None:  # fmt: skip
    reporter.trainer.state.best, reporter.trainer.state.best_step = best, 3
    outcome = Outcome(2.0, ["mlm/en"], counted, better)
    with caplog.at_level(logging.INFO, "xlm"):
        reporter.evaluation({"mlm/en": {"nats": 2.0}}, outcome, watching(tmp_path, "nats"))
    assert caplog.records[-1].getMessage().strip() == said
    [record] = records(reporter, tmp_path)
    assert record == {
        "step": 4, "event": "valid", "mlm/en": {"nats": 2.0}, "score": 2.0, "streams": ["mlm/en"],
    }  # fmt: skip


def test_a_translator_that_copies_is_warned_of(
    reporter: Reporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figures = {"mt/en-hi": {"bleu": 1.0, "copied": 0.9, "empty": 0.0}}
    outcome = Outcome(-1.0, ["mt/en-hi"], True, True)
    reporter.evaluation(figures, outcome, watching(tmp_path, "bleu"))
    [warning] = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert warning.getMessage() == "mt/en-hi: 90% of the translations are their source"


def test_a_run_that_does_not_learn_is_warned_of_once(
    reporter: Reporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The unigram model has ln 20 = 3.0 nats."""
    run, outcome = watching(tmp_path, "nats"), Outcome(3.0, ["mlm/en"], True, True)

    def evaluate(step: int, nats: float) -> list[str]:
        caplog.clear()
        reporter.trainer.state.step = step
        figures = {"mlm/en": {"nats": nats, "unigram_perplexity": 20.0}}
        with caplog.at_level(logging.INFO, "xlm"):
            reporter.evaluation(figures, outcome, run)
        assert any("a unigram model)" in line.getMessage() for line in caplog.records)
        return [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]

    assert evaluate(399, 3.5) == []  # less than a tenth of 4,000 updates
    assert "(0.504 nats ABOVE a unigram model)" in caplog.text
    assert evaluate(400, 2.5) == []
    assert "(0.496 nats below a unigram model)" in caplog.text
    [warning] = evaluate(500, 3.5)
    assert warning.startswith("mlm/en: no better than a unigram model after 500 of 4,000 updates")
    assert "model.positions rotary" in warning and "peak_lr is 0.005" in warning
    assert "warm-up" not in warning  # tiny's recipe has none
    assert evaluate(600, 3.5) == []


@pytest.mark.parametrize(
    ("settings", "named", "unnamed"),
    [
        ({"positions": "rotary"}, ["rate"], ["positions", "warm-up"]),
        ({}, ["learned positions", "rate"], ["warm-up"]),
    ],
)
def test_only_causes_that_apply_are_named(
    tmp_path: Path, settings: dict[str, Any], named: list[str], unnamed: list[str]
) -> None:
    run = watching(tmp_path, "nats", model=tiny.model(**settings))
    line = unigram.warning(run, 900, {"mlm/en": {"nats": 9.0, "unigram_perplexity": 2.0}})
    assert all(cause in line for cause in named) and not any(cause in line for cause in unnamed)
    run = dataclasses.replace(run, schedule=Schedule(peak_lr=1e-3, warmup_steps=1000))
    line = unigram.warning(run, 900, {"mlm/en": {"nats": 9.0, "unigram_perplexity": 2.0}})
    assert line.endswith("a warm-up that has not ended (1,000 updates)")


def test_a_few_updates_are_no_reason_to_warn(tmp_path: Path) -> None:
    figures = {"mlm/en": {"nats": 9.0, "unigram_perplexity": 2.0}}
    run = dataclasses.replace(watching(tmp_path, "nats"), steps=300)
    assert unigram.warning(run, 199, figures) == ""
    assert unigram.warning(run, 200, figures).startswith("mlm/en: no better")


def test_a_language_that_is_trained_later_is_not_stuck_before(tmp_path: Path) -> None:
    figures = {"mlm/ne": {"nats": 9.0, "unigram_perplexity": 2.0}}
    stopping = Stopping(from_step=600)
    run = dataclasses.replace(watching(tmp_path, "nats"), steps=1000, stopping=stopping)
    assert unigram.warning(run, 799, figures) == ""
    assert unigram.warning(run, 800, figures).startswith("mlm/ne: no better")


def test_positions_are_no_cause_for_a_causal_model(tmp_path: Path) -> None:
    objectives = {"clm": CausalLM(languages=["en"], rows=4, length=8)}
    run = watching(tmp_path, "nats", objectives=objectives)
    line = unigram.warning(run, 900, {"clm/en": {"nats": 9.0, "unigram_perplexity": 2.0}})
    assert "rate" in line and "positions" not in line


def test_figures_without_a_unigram_model_are_no_reason_to_warn(tmp_path: Path) -> None:
    run = watching(tmp_path, "bleu")
    assert unigram.warning(run, 900, {"mt/en-hi": {"bleu": 0.0}, "nli/en": {"accuracy": 0.0}}) == ""
    assert unigram.shown({"bleu": 0.0}) == ""


def test_the_start_tells_size_and_mixture(
    reporter: Reporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = HeldOut.of(tiny.recipe(tmp_path), tiny.corpora(20))
    with caplog.at_level(logging.INFO, "xlm"):
        reporter.start("bf16", held_out, None)
    assert "1 process(es) on cpu, bf16; steps 4 to 8" in caplog.text
    for objective, stream in (("mlm", "en"), ("mlm", "hi"), ("tlm", "en-hi")):
        assert re.search(rf"{objective} +{stream} ", caplog.text)
    num = sum(p.numel() for p in reporter.trainer.learner.parameters())
    assert records(reporter, tmp_path) == [{"step": 4, "event": "start", "parameters": num}]


def test_the_change_is_shown_for_each_stream(
    reporter: Reporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = ({"mlm/en": {"nats": nats}} for nats in (3.0, 2.0))
    with caplog.at_level(logging.INFO, "xlm"):
        reporter.before(before)
        reporter.change(before, after)
        reporter.end({"seconds": 1.0})
    assert "nats 3 -> 2" in caplog.text
    events = [record["event"] for record in records(reporter, tmp_path)]
    assert events == ["before", "change", "end"]


def test_only_rank_0_warns(caplog: pytest.LogCaptureFixture) -> None:
    second = Parallel(torch.device("cpu"), rank=1, world=2)
    warn(second, ["from another rank"])
    assert not caplog.records
    warn(ALONE, ["one", "two"])
    assert [record.getMessage() for record in caplog.records] == ["one", "two"]
