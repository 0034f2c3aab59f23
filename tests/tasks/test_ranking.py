"""Ranking: the pages of a query stand together and are scored together."""

import numpy as np
import pytest

from tests.tasks import toys
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import rises
from xlm.tasks.ranking import Ranking
from xlm.tasks.task import Files

SIZES = (3, 1, 4, 2, 5)
"""Pages of each query; the last query has the words of the first one, but stands elsewhere."""


@pytest.fixture
def task(tmp_path):
    random = np.random.default_rng(5)
    queries = [*toys.words(4, 1)]
    queries.append(queries[0])
    rows = [
        (query, *toys.words(2, seed), str(random.integers(0, 5)))
        for seed, query in enumerate(np.repeat(queries, SIZES).tolist())
    ]
    path = toys.write(tmp_path / "wpr.tsv", rows)
    files = Files(train={"en": path}, valid={"en": path})
    return Ranking(files=files, rows=4, labels=["0", "1", "2", "3", "4"])


def test_groups_are_runs_of_one_query(task):
    stream = toys.stream(task, toys.corpora(), "valid")
    assert [row.group for row in stream.items] == np.repeat(range(5), SIZES).tolist()
    cut = Ranking(files=task.files, labels=task.labels, limit=6)
    kept = toys.stream(cut, toys.corpora()).items
    groups = np.repeat(range(5), SIZES)
    assert [row.group for row in kept] == groups[[row.example for row in kept]].tolist()
    assert len(kept) == 6


def test_levels_are_in_the_order_of_their_numbers(tmp_path):
    rows = [("q", "a", "b", level) for level in ("10", "2", "0", "2.5")]
    files = Files(train={"en": toys.write(tmp_path / "w", rows)})
    assert Ranking(files=files).resolved().labels == ["0", "2", "2.5", "10"]
    rows.append(("q", "a", "b", "Perfect"))
    files = Files(train={"en": toys.write(tmp_path / "w", rows)})
    with pytest.raises(DataError, match="w:5: found the label 'Perfect', expected a level"):
        Ranking(files=files).resolved()
    given = Ranking(files=files, labels=["10", "0", "2"])
    assert given.resolved() is given, "the head's rows are in the order that was given"
    with pytest.raises(DataError, match="w:4: found the label '2.5', expected one of 10, 0, 2"):
        given.streams("t", toys.corpora(), seed=0)
    with pytest.raises(ConfigError, match="labels has 'Perfect': expected levels such as 0 or 4"):
        Ranking(files=files, labels=["0", "Perfect"])


def test_pages_are_ranked_by_their_expected_level(task):
    made = toys.corpora()
    learned = toys.learner({"task": task}, made)
    layer = learned.heads["task"].output
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected, right, levels = [], 0, []
    for row in toys.stream(task, made).items:
        state = toys.alone(learned.model, row.wrapped.tokens.tolist())[0]
        shares = np.exp(weight @ state + bias)
        expected.append(float(shares @ np.arange(5) / shares.sum()))
        levels.append(row.answer)
        right += int(shares.argmax()) == row.answer
    ndcg, mrr, first = [], [], []
    at = 0
    for size in SIZES:
        own = slice(at, at + size)
        at += size
        if size == 1:
            continue
        order = np.argsort(-np.array(expected[own]))
        gains = np.array(levels[own], dtype=float)
        discounts = 1 / np.log2(np.arange(2, size + 2))
        best = np.sort(gains)[::-1] @ discounts
        ndcg.append(gains[order] @ discounts / best if best else 0.0)
        ranks = [rank for rank, page in enumerate(order, 1) if gains[page] >= 1]
        mrr.append(1 / ranks[0] if ranks else 0.0)
        first.append(float(gains[order[0]] >= 1))
    found = toys.figures(task, made, learned)["task/en"]
    assert found["ndcg"] == pytest.approx(np.mean(ndcg))
    assert found["mrr"] == pytest.approx(np.mean(mrr))
    assert found["precision_at_1"] == pytest.approx(np.mean(first))
    assert (found["queries"], found["single"], found["targets"]) == (4, 1, 15)
    assert found["accuracy"] == pytest.approx(right / 15)


def test_what_is_chosen_by_and_what_is_written(task):
    assert task.metric == "ndcg" and rises("ndcg")
    stream = toys.stream(task, toys.corpora())
    assert task.rendered(stream, {0: 2.25}) == {0: "2.25"}
    assert task.unlabeled("q\ta", "x:1").label == "0"
