"""Numbers for sentences: fractions stay, squared errors and correlations by numpy and scipy."""

import numpy as np
import pytest
import torch

from tests.tasks import toys
from xlm.errors import DataError
from xlm.metrics.scores import rises
from xlm.tasks.heads import Readout
from xlm.tasks.regression import Regression
from xlm.tasks.task import Files

NUMBERS = ["2.5", "-0.125", "3", "1e-3", "0.333", "4.75", "2.5", "0"]


@pytest.fixture
def task(tmp_path):
    texts = toys.words(2 * len(NUMBERS), 0)
    rows = list(zip(NUMBERS, texts[::2], texts[1::2], strict=True))
    path = toys.write(tmp_path / "r.tsv", rows)
    one = toys.write(tmp_path / "one.tsv", rows[:1])
    files = Files(train={"en": path}, valid={"en": path, "ne": one})
    return Regression(files=files, rows=3, format="plain-pair", readout=Readout(dropout=0.0))


def test_numbers_keep_their_fractions(task):
    found = {}
    for batch in toys.batches(task, toys.corpora(), "train"):
        assert batch.targets.dtype == torch.float32 and batch.count == len(batch.rows)
        found.update(zip(batch.rows.tolist(), batch.targets.tolist(), strict=True))
    assert [found[row] for row in range(8)] == [float(np.float32(text)) for text in NUMBERS]


@pytest.mark.parametrize("text", ["high", "nan", "inf", "1,5", "1e99"])
def test_what_is_no_number_is_named_with_its_line(tmp_path, text):
    path = toys.write(tmp_path / "r.tsv", [("1", "a"), (text, "b")])
    task = Regression(files=Files(train={"en": path}))
    with pytest.raises(DataError, match=rf"r.tsv:2: found '{text}', expected a number"):
        task.streams("t", toys.corpora(), seed=0)


def test_loss_and_figures(task):
    stats = pytest.importorskip("scipy.stats")
    made = toys.corpora()
    learned = toys.learner({"task": task}, made)
    layer = learned.heads["task"].output
    gold = [float(np.float32(text)) for text in NUMBERS]
    given = []
    for row in toys.stream(task, made).items:
        state = toys.alone(learned.model, row.wrapped.tokens.tolist())[0]
        given.append(float(layer.weight.detach().numpy()[0] @ state + float(layer.bias.detach())))
    own = toys.figures(task, made, learned)["task/en"]
    squares = np.square(np.subtract(gold, given))
    assert own["squared_error"] == pytest.approx(squares.mean(), rel=1e-5)
    assert own["pearson"] == pytest.approx(stats.pearsonr(gold, given)[0], abs=1e-6)
    assert own["spearman"] == pytest.approx(stats.spearmanr(gold, given)[0])
    assert own["targets"] == 8
    batch = toys.batches(task, made)[0]
    loss = learned.train()("task", batch)
    assert loss.outputs is None and not loss.scores and loss.count == len(batch.rows)
    rows = batch.rows.tolist()
    assert float(loss.total.detach()) == pytest.approx(squares[rows].sum(), rel=1e-5)


def test_one_row_alone_has_no_correlation(task):
    """So that the trial of a single batch before training does not end a run."""
    made = toys.corpora()
    own = toys.figures(task, made, toys.learner({"task": task}, made))["task/ne"]
    assert (own["pearson"], own["spearman"], own["targets"]) == (0, 0, 1)


def test_what_is_chosen_by_and_what_is_written(task):
    assert task.metric == "spearman" and rises(task.metric) and not rises("squared_error")
    stream = toys.stream(task, toys.corpora())
    assert task.rendered(stream, {3: 0.1234567, 0: -2.0}) == {3: "0.123457", 0: "-2"}
    row = task.unlabeled("a\tb", "x:1")
    assert (row.first, row.second, task.answer(row)) == ("a", "b", 0)
