"""Classification of sentences and pairs: rows, labels, head and scores."""

import math

import numpy as np
import pytest
import torch

from tests.objectives.toys import END, TOKENIZER, corpus, model, sentences
from xlm.addressed import Random
from xlm.data.corpora import Corpora
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError, DataError
from xlm.model.config import ModelConfig
from xlm.scores import Scores
from xlm.tasks.classification import Classification

LABELS = ["yes", "no", "maybe"]  # another order than the corpus's, which is alphabetical


def labeled(num, seed, language, *, pair=True, names=("maybe", "no", "yes")):
    sides = [corpus(sentences(num, seed + side), language) for side in range(1 + pair)]
    labels = np.random.default_rng(seed).integers(0, len(names), num)
    return Pairs(*sides, labels=labels, label_names=names)


CORPORA = Corpora(
    TOKENIZER,
    ["en", "ne"],
    labeled={
        ("train", "nli.en"): labeled(30, 0, "en"),
        ("valid", "nli.en"): labeled(9, 2, "en"),
        ("valid", "nli.ne"): labeled(11, 4, "ne"),
        ("train", "topic.ne"): labeled(12, 6, "ne", pair=False),
        ("train", "odd.en"): labeled(12, 8, "en", names=("maybe", "perhaps", "yes")),
    },
)
OBJECTIVE = Classification(name="nli", labels=LABELS, train=["en"], evaluate=["en", "ne"], rows=4)


def batches(objective=OBJECTIVE, split="train", at=0):
    found = objective.streams("task", CORPORA, seed=0, split=split)[at]
    for k in range(found.num_batches):
        yield found, objective.collate(found.examples(k), Random(0), train=True)


def test_rows_are_merged_pairs_with_their_own_labels():
    seen = []
    for found, batch in batches():
        assert batch.predict.tolist() == list(range(len(batch.rows)))
        assert batch.count == len(batch.rows) <= 4
        for row, example in enumerate(batch.rows.tolist()):
            first, second = (side[example] for side in found.pairs.sides)
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == [END, *first, END, *second, END]
            assert batch.positions[row, :length].tolist() == list(range(length))
            name = found.label_names[found.pairs.labels[example]]
            assert LABELS[batch.targets[row]] == name
            seen.append(example)
        assert (batch.langs == 0).all()
    assert sorted(seen) == list(range(30))


def test_single_sentences_are_wrapped_alone():
    objective = Classification(name="topic", labels=LABELS, train=["ne"], rows=5)
    for found, batch in batches(objective):
        assert batch.tokens.shape[1] <= int(found.pairs.sides[0].lengths().max()) + 2
        assert (batch.langs == 1).all() and not batch.segments.any()
        for row, example in enumerate(batch.rows.tolist()):
            (side,) = found.pairs.sides
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == [END, *side[example], END]


def test_languages_of_training_and_of_evaluation():
    assert [s.id for s in OBJECTIVE.streams("task", CORPORA, seed=0)] == ["task/nli.en"]
    valid = [s.id for s in OBJECTIVE.streams("task", CORPORA, seed=0, split="valid")]
    assert valid == ["task/nli.en", "task/nli.ne"]
    assert OBJECTIVE.streams("task", CORPORA, seed=0, split="test") == []
    alone = Classification(name="nli", labels=LABELS, train=["en"])
    assert [s.id for s in alone.streams("x", CORPORA, seed=0, split="valid")] == ["x/nli.en"]


def test_the_loss_is_of_a_linear_layer_on_the_first_state():
    network = model()
    torch.manual_seed(1)
    head = OBJECTIVE.head(ModelConfig(preset="tiny", dim=16, num_heads=2)).double().eval()
    weight, bias = head[1].weight.detach().numpy(), head[1].bias.detach().numpy()
    assert weight.shape == (3, 16) and isinstance(head[0], torch.nn.Dropout)
    assert head[0].p == OBJECTIVE.dropout == 0.1
    _, batch = next(batches())
    found = OBJECTIVE.loss(network, head, batch)
    nats = correct = 0.0
    for row, length in enumerate(batch.lengths.tolist()):
        alone = (slice(row, row + 1), slice(0, length))
        hidden = network.encode(
            batch.tokens[alone], batch.lengths[row : row + 1], batch.positions[alone],
            batch.langs[alone],
        )  # fmt: skip
        logits = weight @ hidden[0, 0].detach().numpy() + bias
        target = int(batch.targets[row])
        nats += math.log(np.exp(logits).sum()) - logits[target]
        correct += int(logits.argmax()) == target
    assert float(found.total.detach()) == pytest.approx(nats, rel=1e-10)
    assert (float(found.scores["correct"]), found.count) == (correct, batch.count)


def test_a_head_starts_anew_and_learns():
    network = model().train()
    head = OBJECTIVE.head(ModelConfig(preset="tiny", dim=16, num_heads=2)).double()
    _, batch = next(batches())
    OBJECTIVE.loss(network, head, batch).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_figures_by_hand():
    found = OBJECTIVE.streams("task", CORPORA, seed=0)[0]
    figures = OBJECTIVE.figures(found, Scores({"nats": 8.0, "targets": 10, "correct": 7}))
    assert figures == {
        "nats": 0.8, "perplexity": pytest.approx(math.exp(0.8)), "accuracy": 0.7, "targets": 10
    }  # fmt: skip
    assert OBJECTIVE.baseline(found, next(batches())[1]) == {}


def test_a_label_that_is_not_listed_is_named():
    objective = Classification(name="odd", labels=LABELS, train=["en"])
    with pytest.raises(DataError, match="odd.en .train. has the labels perhaps: the recipe lists"):
        objective.streams("task", CORPORA, seed=0)


def test_data_that_is_not_there_names_what_is():
    with pytest.raises(DataError, match="no labelled rows 'nli.hi' in the train split"):
        Classification(name="nli", labels=LABELS, train=["hi"]).streams("t", CORPORA, seed=0)
    objective = Classification(name="nli", labels=LABELS, train=["en"], evaluate=["en", "hi"])
    with pytest.raises(DataError, match="no labelled rows 'nli.hi' in any split"):
        objective.streams("t", CORPORA, seed=0, split="valid")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ["a"]}, r"two or more different names: found \['a'\]"),
        ({"labels": ["a", "b", "a"]}, "two or more different names"),
        ({"train": []}, "needs at least one language in train"),
        ({"rows": 0}, "rows must be at least 1: found 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\): found 1.0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Classification(**({"name": "nli", "labels": ["a", "b"], "train": ["en"]} | settings))
