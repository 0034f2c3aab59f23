"""The loop's call to evaluate: which score is watched, the best one, and patience."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial
from pathlib import Path

import pytest

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.pretrain import pretrain
from xlm.run.config import Stopping
from xlm.run.stopping import stopping_score
from xlm.training import retention


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora(40)


def checkpoints(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "checkpoints").iterdir() if p.is_dir())


def test_best_and_patience(made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is the mean over languages: 3, 2, 2.5, 2, then it ends after two without a best."""
    tiny.fake_scores(monkeypatch, 5.0, 3.0, 4.0, 3.0, 1.0, 9.0, 9.0, 9.0)
    run = tiny.recipe(
        tmp_path, steps=50, evaluate_every=2, keep_last=1,
        stopping=Stopping(metric="nats", patience=2),
    )  # fmt: skip
    result = pretrain(run, made)
    assert result.stopped_early
    assert (result.state.step, result.state.best, result.state.best_step) == (8, 2.0, 4)
    assert [line["score"] for line in tiny.journal(tmp_path, "valid").values()] == [3, 2, 2.5, 2]
    assert tiny.journal(tmp_path, "valid")[2]["streams"] == ["mlm/en", "mlm/hi"]
    assert checkpoints(tmp_path) == ["step-00000004", "step-00000008"]
    best = retention.best(tmp_path / "checkpoints")
    assert best is not None and best.step == 4

    again = pretrain(run, made)  # does not train on behind the user's back
    assert again.stopped_early and again.state == result.state
    more = pretrain(dataclasses.replace(run, stopping=Stopping(metric="nats", patience=3)), made)
    assert (more.state.step, more.state.best, more.state.best_step) == (16, 1.0, 10)


@pytest.mark.parametrize("killed", ["before best.json", "before pruning"])
def test_a_best_is_not_forgotten_by_a_kill(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """Scores 3, 2, 4 ...: killed right after the checkpoint of step 4, the best, was written."""
    watched = Stopping(metric="nats", streams=["mlm/en"])
    run = tiny.recipe(
        tmp_path / "run", steps=10, evaluate_every=2, save_every=2, keep_last=1, stopping=watched
    )
    name = "note_best" if killed == "before best.json" else "prune"
    really = getattr(retention, name)

    def kill(folder: Path, *rest: object, **more: object) -> object:
        if (folder / "step-00000004").exists():
            raise KeyboardInterrupt
        return really(folder, *rest, **more)

    tiny.fake_scores(monkeypatch, 3.0, 2.0)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(retention, name, kill)
        pretrain(run, made)
    tiny.fake_scores(monkeypatch, *[4.0] * 3)
    result = pretrain(run, made)
    assert (result.state.best, result.state.best_step) == (2.0, 4)
    assert checkpoints(tmp_path / "run") == ["step-00000004", "step-00000010"]
    left = json.loads((tmp_path / "run/model/config.json").read_text())
    assert left["extra"]["step"] == 4


def test_the_best_of_another_metric_is_forgotten(
    made: Corpora, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An accuracy enters with its sign changed: no perplexity could ever be lower."""
    accuracy = Stopping(metric="accuracy")
    pretrain(tiny.recipe(tmp_path, steps=2, evaluate_every=2, stopping=accuracy), made)
    result = pretrain(tiny.recipe(tmp_path, steps=4, evaluate_every=2), made)
    assert result.state.best is not None and result.state.best > 1
    assert result.state.best_step == 4
    assert "stopping.metric was accuracy, now it is" in caplog.text


def test_patience_survives_a_restart(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = Stopping(metric="nats", patience=3)
    tiny.fake_scores(monkeypatch, 1.0, 2.0, 2.0)
    pretrain(tiny.recipe(tmp_path, steps=3, evaluate_every=1, stopping=stopping), made)
    tiny.fake_scores(monkeypatch, 2.0, 2.0)
    result = pretrain(tiny.recipe(tmp_path, steps=9, evaluate_every=1, stopping=stopping), made)
    assert result.stopped_early and (result.state.step, result.state.best_step) == (4, 1)


def test_evaluations_before_a_stage_are_not_counted(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.fake_scores(monkeypatch, 1.0, 2.0, 9.0, 8.0)
    stopping = Stopping(metric="nats", patience=1, from_step=3)
    result = pretrain(tiny.recipe(tmp_path, steps=4, evaluate_every=1, stopping=stopping), made)
    assert (result.state.step, result.state.best, result.state.best_step) == (4, 4.5, 4)


def test_a_score_that_is_no_number_is_never_the_best(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.fake_scores(monkeypatch, math.nan, 4.0, math.nan)
    run = tiny.recipe(tmp_path, steps=3, evaluate_every=1)
    result = pretrain(run, made)
    assert (result.state.best, result.state.best_step) == (2.5, 2)
    assert [line["score"] for line in tiny.journal(tmp_path, "valid").values()] == [
        None,
        2.5,
        None,
    ]


def test_watched_scores_that_do_not_exist(made: Corpora, tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path, steps=2, evaluate_every=1)
    with pytest.raises(ConfigError, match="stopping.streams names mlm/fr: expected some of mlm/en"):
        pretrain(dataclasses.replace(run, stopping=Stopping(streams=["mlm/fr"])), made)
    assert not (tmp_path / "config.yaml").exists()  # at the start, not after hours
    with pytest.raises(ConfigError, match="stopping.metric 'bleu' is not a figure of mlm/en"):
        pretrain(dataclasses.replace(run, stopping=Stopping(metric="bleu")), made)
    figures = {"mlm/en": {"nats": 1.0}, "tlm/en-hi": {"nats": 4.0}, "mt/en-hi": {"bleu": 3.0}}
    score = partial(stopping_score, pairs={"tlm/en-hi", "mt/en-hi"})
    assert score(Stopping(metric="nats"), figures) == (1.0, ["mlm/en"])
    # more of it is better: the lower, the better, of what is watched
    assert score(Stopping(metric="bleu"), figures) == (-3.0, ["mt/en-hi"])
    both = Stopping(metric="nats", streams=["mlm/en", "tlm/en-hi"])
    assert score(both, figures) == (2.5, ["mlm/en", "tlm/en-hi"])


def test_what_is_not_a_number_is_never_the_best(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.fake_scores(monkeypatch, math.inf, math.nan, 3.0)
    run = tiny.recipe(tmp_path, steps=6, evaluate_every=2, stopping=Stopping(metric="nats"))
    state = pretrain(run, made).state
    assert (state.best, state.best_step) == (2.0, 6)


@pytest.mark.parametrize("metric", ["targets", "unigram_perplexity"])
def test_a_metric_that_is_the_same_for_every_model_is_refused(
    made: Corpora, tmp_path: Path, metric: str
) -> None:
    run = tiny.recipe(tmp_path, steps=2, evaluate_every=2, stopping=Stopping(metric=metric))
    with pytest.raises(ConfigError, match="does not depend on the model"):
        pretrain(run, made)


@pytest.mark.parametrize(
    ("metric", "best"), [("accuracy", -0.5), ("f1.PER", -0.5), ("nats", 0.25), ("nats.PER", 0.25)]
)
def test_the_best_is_the_highest_of_figures_that_rise(metric: str, best: float) -> None:
    stopping = Stopping(metric=metric)
    found = [stopping_score(stopping, {"t/en": {metric: x}}, set())[0] for x in (0.25, 0.5)]
    assert min(found) == best


def test_settings_between_processes_are_named_if_there_is_one(
    made: Corpora, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="xlm")
    pretrain(tiny.recipe(tmp_path / "plain", steps=1), made)
    assert "one process:" not in caplog.text
    given = {"sharding": "full", "gradient_sums": "bf16"}
    pretrain(tiny.recipe(tmp_path / "given", steps=1, **given), made)
    assert "one process: sharding full and gradient_sums bf16 without effect" in caplog.text
