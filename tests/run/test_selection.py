"""Which evaluation is reported: made-up histories whose answers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xlm.errors import ConfigError, DataError
from xlm.run.selection import (
    History,
    Mean,
    best_step,
    evaluations,
    mean_of,
    render,
    student_975,
    summarize,
    to_history,
)
from xlm.training.journal import Journal

METRICS = {"nli": "accuracy", "dep": "nats"}


def figures(**by_language):
    """Accuracy by language; nli/en and so on."""
    return {f"nli/{name}": {"accuracy": value} for name, value in by_language.items()}


def history(valid, test=None, **fields):
    """Evaluations at steps 10, 20, ..."""
    by_step = [{10 * at: own for at, own in enumerate(split, 1)} for split in (valid, test or [])]
    return History(by_step[0], by_step[1], ended=True, **fields)


def read(folder: Path) -> History:
    return to_history(evaluations(folder))


RUN = history(
    [figures(en=0.5, hi=0.9), figures(en=0.8, hi=0.4), figures(en=0.8, hi=0.7),
     figures(en=0.7, hi=0.6)],
    [figures(en=0.51, hi=0.91, sw=0.1), figures(en=0.81, hi=0.41, sw=0.2),
     figures(en=0.82, hi=0.71, sw=0.3), figures(en=0.72, hi=0.61, sw=0.4)],
)  # fmt: skip


def test_every_rule_by_hand():
    report = summarize({"": {0: RUN}}, ["nli/en"], METRICS)
    values = {
        name: {rule: own.values[0] for rule, own in rules.items()}
        for name, rules in report.streams.items()
    }
    assert values == {
        # English dev is best at step 20 (and as good, later, at 30); Hindi dev at 10; last: 40
        "nli/en": {"chosen": 0.81, "target": 0.81, "last": 0.72},
        "nli/hi": {"chosen": 0.41, "target": 0.91, "last": 0.61},
        "nli/sw": {"chosen": 0.2, "last": 0.4},  # no dev text of its own
    }
    assert report.choices == {"": 0.8} and report.chosen == ""
    assert report.rule == "best accuracy on the validation text of nli/en"
    assert all(own.interval is None for rules in report.streams.values() for own in rules.values())


def test_several_languages_choose_by_their_mean():
    assert best_step(RUN, ["nli/en", "nli/hi"], "accuracy") == 30
    assert best_step(RUN, ["nli/hi"], "accuracy") == 10


def test_figures_that_fall_choose_the_least():
    own = history([{"dep/en": {"nats": value}} for value in (0.5, 0.2, 0.2, 0.9)])
    assert best_step(own, ["dep/en"], "nats") == 20
    cells = {name: {0: history([{"dep/en": {"nats": value}}])} for name, value in
             (("lr 1", 0.4), ("lr 2", 0.3), ("lr 3", 0.3))}  # fmt: skip
    report = summarize(cells, ["dep/en"], METRICS)
    assert (report.chosen, report.choices["lr 2"]) == ("lr 2", 0.3)
    assert report.rule.endswith("best of 3 settings")


def test_a_figure_that_rises_chooses_the_greatest_cell_and_the_first_of_equal_ones():
    cells = {name: {0: history([figures(en=value)])} for name, value in
             (("a", 0.4), ("b", 0.6), ("c", 0.6))}  # fmt: skip
    assert summarize(cells, ["nli/en"], METRICS).chosen == "b"


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_best_step_by_brute_force(runs):
    for values in runs:
        own = history([figures(en=value / 9) for value in values])
        best = max(values)
        assert best_step(own, ["nli/en"], "accuracy") == 10 * (values.index(best) + 1)


def test_averaged_weights_have_a_rule_of_their_own():
    averaged = {"valid": figures(en=0.3, hi=0.2), "test": figures(en=0.33, hi=0.22, sw=0.11)}
    own = History(RUN.valid, RUN.test, averaged, 5.0, True)
    report = summarize({"": {0: own, 1: own}}, ["nli/en"], METRICS)
    assert report.streams["nli/hi"]["averaged"].values == [0.22, 0.22]
    assert report.seconds == 10.0
    plain = History(RUN.valid, {}, averaged, 5.0, True)
    report = summarize({"": {0: plain}}, ["nli/en"], METRICS)
    assert report.streams["nli/hi"]["averaged"].values == [0.2]
    assert set(report.streams) == {"nli/en", "nli/hi"}  # no test text: dev figures are reported


def test_seeds_choose_each_by_itself():
    runs = {
        3: history([figures(en=0.9), figures(en=0.1)], [figures(en=0.5), figures(en=0.0)]),
        4: history([figures(en=0.1), figures(en=0.7)], [figures(en=0.0), figures(en=0.7)]),
    }
    report = summarize({"": runs}, ["nli/en"], METRICS)
    chosen = report.streams["nli/en"]["chosen"]
    assert chosen.values == [0.5, 0.7] and chosen.mean == pytest.approx(0.6)
    assert chosen.interval == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert report.choices[""] == pytest.approx(0.8)
    assert report.others["nli/en"]["accuracy"] == pytest.approx(0.6)


@pytest.mark.parametrize("num", [2, 3, 5, 10, 21, 22, 40])
def test_the_interval_is_students(num):
    values = np.random.default_rng(num).normal(0.7, 0.02, num).tolist()
    found = mean_of(values)
    low, high = stats.t.interval(0.95, num - 1, loc=mean(values), scale=stats.sem(values))
    assert found.mean == pytest.approx(mean(values))
    assert found.interval == pytest.approx((high - low) / 2, rel=3e-4)
    assert found.values == values


def test_students_quantiles_at_every_number_of_seeds():
    for freedom in range(1, 300):
        expected = stats.t.ppf(0.975, freedom)
        assert student_975(freedom) == pytest.approx(expected, rel=1e-4 if freedom > 20 else 3e-4)


def test_one_seed_has_no_interval():
    assert mean_of([0.3]) == Mean(0.3, None, [0.3])


def test_two_tasks_are_reported_by_their_own_metrics():
    own = history([
        {**figures(en=0.5), "dep/en": {"nats": 0.1, "las": 0.2}},
        {**figures(en=0.6), "dep/en": {"nats": 0.4, "las": 0.3}},
    ])  # fmt: skip
    report = summarize({"": {0: own}}, ["nli/en"], METRICS)
    rules = report.streams["dep/en"]
    assert [rules[rule].mean for rule in ("chosen", "target", "last")] == [0.4, 0.1, 0.4]


def test_a_collapse_is_said_where_it_is_one():
    def own(commonest, accuracy):
        return history([{"nli/en": {"accuracy": accuracy, "commonest": commonest}}])

    cells = {"lr 1": {0: own(1.0, 0.34), 1: own(0.98, 0.34)}, "lr 2": {5: own(0.995, 0.33)}}
    report = summarize(cells, ["nli/en"], METRICS)
    assert report.collapsed == [
        "lr 1, seed 0: nli/en gives 100% of its rows one answer",
        "lr 2, seed 5: nli/en gives 100% of its rows one answer",
    ]
    assert render(report).splitlines()[-2:] == [f"collapsed: {line}" for line in report.collapsed]
    # where nearly all rows have one label, saying so is right
    assert not summarize({"": {0: own(1.0, 0.995)}}, ["nli/en"], METRICS).collapsed


def test_what_is_no_number_is_never_best(tmp_path: Path):
    with Journal.open(tmp_path) as journal:
        for step, value in ((10, math.nan), (20, 0.4), (30, -math.inf)):
            journal.record("valid", step, {**figures(en=value), "score": value, "streams": ["x"]})
        journal.record("end", 30, {"seconds": 2.5})
    own = read(tmp_path)
    assert own.ended and own.seconds == 2.5 and list(own.valid) == [10, 20, 30]
    assert math.isnan(own.valid[10]["nli/en"]["accuracy"])
    assert math.isnan(own.valid[30]["nli/en"]["accuracy"])
    assert best_step(own, ["nli/en"], "accuracy") == 20
    bad = history([figures(en=math.nan), figures(en=math.nan)])
    report = summarize({"bad": {0: bad}, "good": {0: own}}, ["nli/en"], METRICS)
    assert report.chosen == "good"
    assert report.collapsed == ["bad, seed 0: accuracy was never a finite number"]
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["choices"]["bad"] is None


def test_histories_are_read_as_they_were_written(tmp_path: Path):
    assert read(tmp_path) == History({}, {})
    with Journal.open(tmp_path) as journal:
        journal.record("start", 0, {"parameters": 5})
        journal.record("train", 5, {"loss": {"nli": 1.0}})
        for step in (10, 20):
            journal.record("valid", step, {**figures(en=step / 100), "score": 1.0, "streams": []})
            journal.record("test", step, figures(en=step / 200))
    found = read(tmp_path)
    assert found.valid == {10: figures(en=0.1), 20: figures(en=0.2)}
    assert found.test == {10: figures(en=0.05), 20: figures(en=0.1)}
    assert not found.ended
    with Journal.open(tmp_path, step=20) as journal:
        journal.record("end", 20, {"seconds": 1.0, "averaged": {"valid": figures(en=0.7)}})
    found = read(tmp_path)
    assert found.ended and found.averaged == {"valid": figures(en=0.7)}
    (tmp_path / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match="metrics.jsonl:1: expected a JSON object with a step"):
        read(tmp_path)


def test_figures_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match="no evaluation has f1 of nli/en: give another"):
        best_step(RUN, ["nli/en"], "f1")
    with pytest.raises(ConfigError, match="no evaluation has accuracy of nli/en, nli/xx"):
        best_step(RUN, ["nli/en", "nli/xx"], "accuracy")
    own = history([figures(en=0.5)], [{"nli/en": {"nats": 1.0}}])
    with pytest.raises(ConfigError, match="figures of nli/en have no accuracy: found nats"):
        summarize({"": {0: own}}, ["nli/en"], METRICS)


def test_the_table():
    runs = {0: RUN, 1: history(list(RUN.valid.values()), [
        figures(en=0.61, hi=0.81, sw=0.1), figures(en=0.83, hi=0.43, sw=0.2),
        figures(en=0.82, hi=0.71, sw=0.3), figures(en=0.72, hi=0.61, sw=0.4),
    ])}  # fmt: skip
    lines = render(summarize({"lr 1": runs}, ["nli/en"], METRICS)).splitlines()
    half = f"{12.706204736 * np.std([0.81, 0.83], ddof=1) / math.sqrt(2):.4f}"
    assert lines[0].split() == ["chosen", "target", "last"]
    assert lines[1].split() == [
        "nli/en",
        "0.8200",
        f"±{half}",
        "0.8200",
        f"±{half}",
        "0.7200",
        "±0.0000",
    ]
    mean_line = lines[4]
    assert mean_line.startswith("nli, mean over en, hi, sw")
    assert mean_line.split()[-2:] == [
        f"{(0.82 + 0.42 + 0.2) / 3:.4f}",
        f"{(0.72 + 0.61 + 0.4) / 3:.4f}",
    ]
    assert lines[5] == "chosen: best accuracy on the validation text of nli/en (lr 1)"
    assert len({len(line) for line in lines[:5]}) == 1
