"""Watch: the best score, patience and the halved rate, from figures alone."""

from __future__ import annotations

import math

import pytest

from xlm.errors import ConfigError
from xlm.run.stopping import Outcome, Stopping, Watch, check_kept, check_stopping
from xlm.training.loop import Verdict
from xlm.training.state import TrainState


def watched(
    stopping: Stopping, scores: list[float], peak_lr: float = 1e-3
) -> tuple[TrainState, list[Verdict]]:
    """Watch these scores at steps 10, 20 and so on, up to the verdict to stop."""
    state = TrainState()
    watch = Watch(stopping, state, peak_lr, pairs=set())
    verdicts = []
    for score in scores:
        state.step += 10
        outcome = watch({"mlm/en": {"nats": score, "f1": score}})
        verdicts.append(watch.verdict(outcome))
        if verdicts[-1].stop:
            break
    return state, verdicts


def test_the_lowest_score_is_the_best_and_saved() -> None:
    state, verdicts = watched(Stopping(metric="nats"), [3.0, 2.0, 2.0, 4.0, 1.0])
    assert [verdict.save for verdict in verdicts] == [True, True, False, False, True]
    assert not any(verdict.stop for verdict in verdicts)
    assert (state.best, state.best_step, state.patience_used) == (1.0, 50, 0)


def test_of_a_figure_that_rises_the_highest_is_the_best() -> None:
    state, verdicts = watched(Stopping(metric="f1"), [0.2, 0.5, 0.4])
    assert [verdict.save for verdict in verdicts] == [True, True, False]
    assert (state.best, state.best_step, state.patience_used) == (-0.5, 20, 1)


def test_patience_counts_evaluations_without_a_new_best() -> None:
    state, verdicts = watched(Stopping(metric="nats", patience=2), [2.0, 3.0, 1.0, 1.0, 1.5, 0.0])
    assert [verdict.stop for verdict in verdicts] == [False, False, False, False, True]
    assert (state.best, state.patience_used) == (1.0, 2)


def test_pairs_are_averaged_only_if_there_is_nothing_else() -> None:
    """A hyphen says nothing: zh-Hans is one language."""
    figures = {
        "mlm/zh-Hans": {"nats": 1.0},
        "mlm/en": {"nats": 3.0},
        "tlm/en-zh-Hans": {"nats": 9.0},
    }
    watch = Watch(Stopping(metric="nats"), TrainState(), 1e-3, pairs={"tlm/en-zh-Hans"})
    assert watch(figures).streams == ["mlm/zh-Hans", "mlm/en"]
    del figures["mlm/zh-Hans"], figures["mlm/en"]
    assert watch(figures).streams == ["tlm/en-zh-Hans"]


def test_a_resumed_run_watches_on() -> None:
    stopping = Stopping(metric="nats", patience=2)
    state, _ = watched(stopping, [2.0, 3.0])
    resumed = Watch(stopping, TrainState.from_json(state.to_json()), 1e-3, pairs=set())
    assert not resumed.stopped
    assert resumed({"mlm/en": {"nats": 2.5}}) == Outcome(2.5, ["mlm/en"], True, False)
    assert resumed.stopped


def test_evaluations_before_from_step_neither_count_nor_are_best() -> None:
    stopping = Stopping(metric="nats", patience=1, from_step=30)
    state, verdicts = watched(stopping, [0.1, 0.2, 5.0, 4.0, 4.5])
    assert [verdict.save for verdict in verdicts] == [False, False, True, True, False]
    assert (state.best, state.best_step) == (4.0, 40) and verdicts[-1].stop


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_not_counted(score: float) -> None:
    state, verdicts = watched(Stopping(metric="nats", patience=1), [2.0, score, score])
    assert [(verdict.save, verdict.stop) for verdict in verdicts[1:]] == [(False, False)] * 2
    assert (state.best, state.patience_used) == (2.0, 0)


def test_the_rate_is_halved_on_plateaus_until_it_is_too_low() -> None:
    stopping = Stopping(metric="nats", halve=True, lowest_lr=2e-4)
    state, verdicts = watched(stopping, [2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0], peak_lr=1e-3)
    # 1e-3 becomes 5e-4 (the second evaluation), 2.5e-4 and 1.25e-4, which is below the limit
    assert state.rate == 0.125 and state.step == 50
    assert [verdict.stop for verdict in verdicts] == [False] * 4 + [True]


def test_a_stream_that_is_not_evaluated_is_named() -> None:
    with pytest.raises(ConfigError, match="names mlm/xx: expected some of mlm/en, mlm/ne"):
        check_stopping(Stopping(streams=["mlm/xx"]), ["mlm/en", "mlm/ne"])


def test_further_figures_have_bests_of_their_own() -> None:
    names = ["mlm/en/nats", "mlm/hi/accuracy"]
    state = TrainState()
    watch = Watch(
        Stopping(metric="nats", streams=["mlm/hi"], from_step=2), state, 1e-3, set(), names
    )
    improved, saved = [], []
    for nats, accuracy in ((1.0, 0.9), (4.0, 0.3), (3.0, 0.3), (5.0, 0.4), (math.nan, math.nan)):
        state.step += 1
        outcome = watch({"mlm/en": {"nats": nats}, "mlm/hi": {"nats": 7.0, "accuracy": accuracy}})
        improved.append(outcome.improved)
        saved.append(watch.verdict(outcome).save)
    assert improved == [[], names, names[:1], names[1:], []]  # the first is too early to count
    assert saved == [False, True, True, True, False]
    assert state.bests == {
        "mlm/en/nats": {"value": 3.0, "step": 3},
        "mlm/hi/accuracy": {"value": 0.4, "step": 4},
    }
    assert TrainState.from_json(state.to_json()).bests == state.bests
    # a figure that is named no longer is forgotten, and its checkpoint with it
    Watch(Stopping(metric="nats"), state, 1e-3, set(), names[1:])
    assert list(state.bests) == names[1:]


def test_a_figure_to_keep_must_be_measured() -> None:
    figures = {"mlm/en": {"nats": 1.0, "targets": 9.0}}
    check_kept(["mlm/en/nats"], figures)
    with pytest.raises(ConfigError, match="keep_best names mlm/hi/nats: expected some of mlm/en/n"):
        check_kept(["mlm/en/nats", "mlm/hi/nats"], figures)
    with pytest.raises(ConfigError, match="keep_best names mlm/en/targets"):
        check_kept(["mlm/en/targets"], figures)
