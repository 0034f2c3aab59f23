"""Classification of sentences and pairs: rows, labels, cuts, scores."""

from dataclasses import replace

import numpy as np
import pytest

from tests.interchange import peers
from tests.tasks import toys
from xlm.batch import Loss
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores
from xlm.tasks.classification import Classification
from xlm.tasks.readers.labeled import SentenceRow
from xlm.tasks.task import Files
from xlm.text.tokenizers.hugging_face import read_hugging_face
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer

LABELS = ["yes", "no", "maybe"]  # in the order of the head's rows, not the alphabet's


def rows(num, seed, *, pair):
    random = np.random.default_rng(seed)
    spoken = toys.words(4 * num, seed)
    sentences = [" ".join(spoken[at : at + random.integers(1, 4)]) for at in range(2 * num)]
    labels = [LABELS[at] for at in random.integers(0, 3, num)]
    sides = [sentences[:num], sentences[num:]][: 1 + pair]
    return list(zip(labels, *sides, strict=True))


@pytest.fixture(params=[False, True], ids=["sentences", "pairs"])
def pair(request):
    return request.param


@pytest.fixture
def task(tmp_path, pair):
    paths = {
        (split, language): toys.write(tmp_path / f"{split}.{language}", rows(num, num, pair=pair))
        for split, language, num in (("train", "en", 30), ("valid", "en", 9), ("valid", "ne", 11))
    }
    files = Files(
        train={"en": paths["train", "en"]},
        valid={language: paths["valid", language] for language in ("en", "ne")},
    )
    return Classification(
        files=files, labels=LABELS, rows=4, format="plain-pair" if pair else "plain"
    )


def test_rows_are_wrapped_with_their_own_labels(task, pair):
    made, tokenizer = toys.corpora(), toys.Spelled()
    own = rows(30, 30, pair=pair)
    seen = []
    for batch in toys.batches(task, made, "train"):
        num = len(batch.rows)
        assert batch.predict.tolist() == list(range(num)) and batch.count == num <= 4
        assert (batch.langs == 0).all()
        for row, example in enumerate(batch.rows.tolist()):
            label, *sentences = own[example]
            expected = [1]
            for sentence in sentences:  # </s> a </s>, or </s> a </s> b </s>
                expected += [*tokenizer.encode(sentence), 1]
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == expected
            assert batch.positions[row, :length].tolist() == list(range(length))
            assert (batch.tokens[row, length:] == tokenizer.pad_id).all()
            assert LABELS[batch.targets[row]] == label
            seen.append(example)
    assert sorted(seen) == list(range(30))
    assert {int(b.langs[0, 0]) for b in toys.batches(replace(task, files=Files(
        train=task.files.train, valid={"ne": task.files.valid["ne"]})), made)} == {1}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    peers.write(
        folder, vocab__txt=peers.wordpieces(), tokenizer_config__json={"do_lower_case": False}
    )
    return {
        "bert": read_hugging_face(folder),
        "xlm-r": XlmRobertaTokenizer(peers.unigram()),
        "xlm": toys.Spelled(),
    }


@pytest.mark.parametrize("kind", ["xlm", "xlm-r", "bert"])
@pytest.mark.parametrize("length", [256, 21, 20, 7])
def test_layouts_and_cuts_of_each_kind_of_model(kind, length, tokenizers, tmp_path):
    """XLM: </s> a </s> b </s>; XLM-R: <s> a </s></s> b </s>; BERT: [CLS] a [SEP] b [SEP]."""
    tokenizer = tokenizers[kind]
    begin, end = {"xlm": (1, 1), "xlm-r": (0, 2), "bert": (3, 4)}[kind]
    between = [end] * (2 if kind == "xlm-r" else 1)
    files = Files(train={"en": toys.write(tmp_path / "x", [("a", "b")])})
    task = Classification(files=files, labels=LABELS, length=length)
    lines = peers.lines()
    texts = [("a cat", "the dog ran over there"), (lines[3], ""), (lines[5], lines[9]), ("", "x")]
    for first, second in (*texts, ("ab", None)):
        example = SentenceRow("no", first, second, "", "")
        (row,) = task.rows_of(example, 17, tokenizer)
        one = tokenizer.encode(first)
        other = None if second is None else tokenizer.encode(second)
        room = length - 2 - (len(between) if other is not None else 0)
        while len(one) + len(other or []) > room:
            (one if len(one) > len(other or []) else other).pop()
        tail = [] if other is None else [*between, *other]
        assert row.wrapped.tokens.tolist() == [begin, *one, *tail, end]
        assert len(row.wrapped.tokens) <= length
        assert row.wrapped.positions.tolist() == list(range(len(row.wrapped.tokens)))
        if other is not None:
            opens = len(one) + (1 if kind == "xlm" else 1 + len(between))
            assert row.wrapped.segments.tolist() == [
                int(at >= opens) for at in range(len(row.wrapped.tokens))
            ]
        assert (row.answer, row.example, row.group) == (1, 17, 0)


def test_a_row_needs_room_for_its_special_tokens(tokenizers, tmp_path):
    files = Files(train={"en": toys.write(tmp_path / "x", [("a", "b")])})
    task = Classification(files=files, labels=LABELS, length=3)
    with pytest.raises(ConfigError, match="length is 3, .* of a pair alone take 4: raise"):
        task.rows_of(SentenceRow("no", "a", "b", "", ""), 0, tokenizers["xlm-r"])


def test_each_sentence_is_cut_after_so_many_words(tokenizers, tmp_path):
    files = Files(train={"en": toys.write(tmp_path / "x", [("a", "b")])})
    task = Classification(files=files, labels=LABELS, length=256, longest_words=3)
    example = SentenceRow("no", "a bb c dd e", "f gg", "", "")
    (row,) = task.rows_of(example, 0, tokenizers["xlm"])
    first, second = (tokenizers["xlm"].encode(text) for text in ("a bb c", "f gg"))
    assert row.wrapped.tokens.tolist() == [1, *first, 1, *second, 1]


# Labels.


def test_labels_are_those_of_the_training_files(task):
    found = replace(task, labels=[]).resolved()
    assert found.labels == ["maybe", "no", "yes"]
    assert task.resolved() is task and found.head(toys.config()).output.out_features == 3
    with pytest.raises(ConfigError, match="labels is empty; give them, or use xlm finetune"):
        replace(task, labels=[]).head(toys.config())


def test_labels_of_all_training_languages_count(tmp_path):
    files = Files(
        train={
            "en": toys.write(tmp_path / "en", [("b", "x"), ("a", "x")]),
            "ne": toys.write(tmp_path / "ne", [("c", "x")]),
        }
    )
    assert Classification(files=files).resolved().labels == ["a", "b", "c"]
    alone = Files(train={"ne": files.train["ne"]})
    with pytest.raises(ConfigError, match=r"labels must be two or more .*: found \['c'\]"):
        Classification(files=alone).resolved()


def test_a_label_that_is_not_listed_is_named_with_its_line(task):
    strange = replace(task, labels=["yes", "no"])
    line = next(at for at, row in enumerate(task.read(task.files.train["en"], "en"), 1)
                if row.label == "maybe")  # fmt: skip
    with pytest.raises(DataError, match=rf"train.en:{line}: found the label 'maybe', expected one"):
        strange.streams("t", toys.corpora(), seed=0)


def test_splits_may_be_written_differently(tmp_path):
    mnli = [("gold_label", "sentence1", "sentence2"), ("yes", "a", "b"), ("-", "c", "d")]
    files = Files(
        train={"en": toys.write(tmp_path / "m", mnli)},
        valid={"en": toys.write(tmp_path / "v", [("no", "e", "f")])},
    )
    task = Classification(
        files=files, labels=LABELS, format="plain-pair", formats={"train": "mnli"}
    )
    assert [row.first for row in task.read(files.train["en"], "en")] == ["a"]
    assert [row.first for row in task.read(files.valid["en"], "en", "valid")] == ["e"]


def test_files_that_tell_languages_give_those_of_their_own(tmp_path):
    header = ("language", "gold_label", "sentence1", "sentence2")
    text = [header, ("en", "yes", "a", "b"), ("hi", "no", "c", "d"), ("en", "no", "e", "f")]
    path = toys.write(tmp_path / "xnli.dev.tsv", text)
    task = Classification(files=Files(train={"hi": path}), labels=LABELS, format="xnli")
    assert [row.first for row in task.read(path, "hi")] == ["c"]
    assert [row.first for row in task.read(path, "en")] == ["a", "e"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ["a"]}, r"two or more different names: found \['a'\]"),
        ({"labels": ["a", "b", "a"]}, "two or more different names"),
        ({"format": "csv"}, "format 'csv': expected one of plain, plain-pair"),
        ({"formats": {"train": "csv"}}, "format 'csv': expected one of"),
        ({"formats": {"dev": "plain"}}, "formats names dev: expected train, valid or test"),
        ({"longest_words": -1}, "longest_words must be at least 0: found -1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Classification(**{"files": Files(train={"en": "x"}), "labels": ["a", "b"], **settings})


# Loss and figures.


def test_the_loss_and_the_figures_by_hand(task, pair):
    made = toys.corpora()
    learned = toys.learner({"task": task}, made)
    head = learned.heads["task"].output
    found = toys.figures(task, made, learned)
    tokenizer = toys.Spelled()
    for number, (language, num) in enumerate((("en", 9), ("ne", 11))):
        gold, given, nats = [], [], 0.0
        for label, *sentences in rows(num, num, pair=pair):
            ids = [1]
            for sentence in sentences:
                ids += [*tokenizer.encode(sentence), 1]
            state = toys.alone(learned.model, ids, number)[0]
            logits = head.weight.detach().numpy() @ state + head.bias.detach().numpy()
            gold.append(LABELS.index(label))
            given.append(int(logits.argmax()))
            nats += np.log(np.exp(logits).sum()) - logits[gold[-1]]
        own = found[f"task/{language}"]
        right = [a == b for a, b in zip(gold, given, strict=True)]
        assert own["nats"] == pytest.approx(nats / num, rel=1e-10)
        assert own["accuracy"] == pytest.approx(np.mean(right)) and own["targets"] == num
        assert own["commonest"] == max(map(given.count, range(3))) / num and own["rows"] == num
        f1 = []
        for k in range(3):
            either = gold.count(k) + given.count(k)
            both = sum(a == b == k for a, b in zip(gold, given, strict=True))
            if either:
                f1.append(2 * both / either)
                assert own[f"f1.{LABELS[k]}"] == pytest.approx(f1[-1])
        assert own["macro_f1"] == pytest.approx(np.mean(f1))


def test_a_head_learns_with_the_encoder(task):
    made = toys.corpora()
    learned = toys.learner({"task": task}, made).train()
    (batch, *_) = toys.batches(task, made, "train")
    loss = learned("task", batch)
    assert isinstance(loss, Loss) and loss.outputs is None and not loss.scores
    loss.total.backward()
    for name, parameter in learned.named_parameters():
        idle = name.startswith("model.encoder.output")
        assert (parameter.grad is None) == idle, name
    assert learned.heads["task"].output.weight.grad.abs().sum() > 0


def test_ratios_of_sums(task):
    stream = toys.stream(task, toys.corpora())
    figures = task.figures(stream, Scores({"nats": 8.0, "targets": 10, "correct": 7}))
    assert figures == {"nats": 0.8, "accuracy": 0.7, "targets": 10}
    assert task.metric == "accuracy" and task.baseline(stream, None) == {}


# Prediction.


def test_lines_to_predict_and_what_is_written(task):
    assert task.unlabeled("ab c", "x:1") == SentenceRow("yes", "ab c", None, "", "x:1")
    assert task.unlabeled("ab\tc", "x:1").second == "c"
    with pytest.raises(DataError, match="x:4: found 2 tabs, expected a sentence or a pair"):
        task.unlabeled("a\tb\tc", "x:4")
    stream = toys.stream(task, toys.corpora())
    assert task.rendered(stream, {0: 2, 5: 0}) == {0: "maybe", 5: "yes"}


def test_real_pairs_make_little_padding(shared, tokenizers):
    """No row is lost, and what is padding is less than 5 % of the cells."""
    path = shared / "data/nli/mnli10k/en.train.tsv"
    if not path.exists():
        pytest.skip("needs the pairs of mnli10k")
    task = Classification(files=Files(train={"en": str(path)}), format="nli", length=128).resolved()
    assert task.labels == ["contradiction", "entailment", "neutral"]
    stream = toys.stream(task, toys.corpora(tokenizer=tokenizers["xlm-r"]))
    num = sum(1 for _ in open(path, encoding="utf-8")) - 1
    assert stream.num_rows == num and {row.example for row in stream.items} == set(range(num))
    assert stream.padding < 0.05
