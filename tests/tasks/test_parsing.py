"""Parsing: the biaffine scorer against loops, what is read and what is cut off, and its figures."""

from __future__ import annotations

import dataclasses
import itertools
import logging

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.data.fakes import WordTokenizer
from tests.interchange import peers
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.run.config import Run
from xlm.tasks.heads import Readout
from xlm.tasks.parsing import BiaffineHead, Parsing, _with_each
from xlm.tasks.task import Files
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner

LABELS = ["case", "nsubj", "obj", "punct", "root"]
UPOS = ["NOUN", "PUNCT", "SYM", "VERB"]
WORDS = "the river cat window of men mountains extraordinarily internationally we went".split()
CONFIG = ModelConfig(
    preset="tiny", dim=16, num_layers=1, num_heads=2, max_positions=600, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
SIZES = {"arc_size": 6, "label_size": 4, "upos_size": 3, "rows": 3}


def random_heads(num, random):
    """A tree with one root, drawn by attaching words in a random order."""
    order = random.permutation(num) + 1
    heads = np.zeros(num, dtype=int)
    for at in range(1, num):
        heads[order[at] - 1] = random.choice(order[:at])
    return heads.tolist()


def write(path, lengths, seed=0, labels=LABELS, words=WORDS):
    """CoNLL-U of random trees of these lengths."""
    random = np.random.default_rng(seed)
    lines = []
    for num in lengths:
        for at, head in enumerate(random_heads(num, random), 1):
            label = "root" if head == 0 else random.choice(labels)
            cells = [at, random.choice(words), "_", random.choice(UPOS), "_", "_", head, label]
            lines.append("\t".join(map(str, [*cells, "_", "_"])))
        lines.append("")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def pieces():
    """Several pieces for some words, one for others."""
    return learn_sentencepiece(peers.lines(), 700)


def corpora(tokenizer=None):
    return Corpora(tokenizer or WordTokenizer(), ["en", "hi"])


def transformer(tokenizer, seed=0, config=CONFIG):
    torch.manual_seed(seed)
    made = Transformer(
        config, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    return made.double().eval()


def head_of(task, seed=1, config=CONFIG):
    """In float64, far from where it starts, without dropout."""
    torch.manual_seed(seed)
    head = task.head(config).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0, 0.5)
    return head


def task_of(tmp_path, lengths=(5, 3, 8, 1, 4), **changes):
    path = write(tmp_path / "train.conllu", lengths)
    files = Files(train={"en": path}, valid={"en": path, "hi": path})
    return Parsing(files=files, **{**SIZES, **changes}).resolved()


def batches(task, made, split="train"):
    stream = task.streams("dep", made, seed=0, split=split)[0]
    for k in range(stream.num_batches):
        yield stream, task.collate(stream.examples(k), Random(0), train=split == "train")


def leaky(x):
    return torch.where(x > 0, x, 0.1 * x)


def layer(module, x):
    return leaky(module.weight @ x + module.bias)


def scored_by_loops(task, head, model, stream, batch):
    """Dozat and Manning's equations, a pair of words at a time: arcs, labels, and the loss.

    Each sentence is encoded alone. Arcs and labels by sentence, word and head (0: the root).
    """
    arcs, labels, total = {}, {}, 0.0
    upos = {tag: at for at, tag in enumerate(task.tags)}
    for at, row in enumerate(batch.rows.tolist()):
        starts, tree = stream.items[row].answer
        length = int(batch.lengths[at])
        alone = (slice(at, at + 1), slice(0, length))
        states = model.encode(
            batch.tokens[alone], batch.lengths[at : at + 1], batch.positions[alone],
            batch.langs[alone],
        )[0]  # fmt: skip
        vectors = [states[0], *(states[cell] for cell in starts.tolist())]
        if task.upos:
            tags = [head.upos.weight[upos.get(tag, len(upos))] for tag in tree.upos[: len(starts)]]
            nothing = torch.zeros(task.upos_size, dtype=states.dtype)
            vectors = [torch.cat([v, t]) for v, t in zip(vectors, [nothing, *tags], strict=True)]
        bilinear, prior = head.arc_weight[:-1], head.arc_weight[-1]
        for word in range(1, len(vectors)):
            dependent = layer(head.arc_dependent, vectors[word])
            label_dependent = layer(head.label_dependent, vectors[word])
            scores = []
            for other in range(len(vectors)):
                candidate = layer(head.arc_head, vectors[other])
                label_head = layer(head.label_head, vectors[other])
                scores.append(dependent @ bilinear @ candidate + prior @ candidate)
                for number, tensor in enumerate(head.label_weight):
                    product = label_dependent @ tensor[:-1, :-1] @ label_head
                    sides = tensor[:-1, -1] @ label_dependent + tensor[-1, :-1] @ label_head
                    labels[row, word, other, number] = product + sides + tensor[-1, -1]
            arcs[row, word] = torch.stack(scores)
            gold = tree.heads[word - 1]
            if gold >= len(vectors):
                continue
            allowed = [other for other in range(len(vectors)) if other != word]
            total = total - scores[gold] + torch.stack([scores[j] for j in allowed]).logsumexp(0)
            if tree.labels[word - 1] in task.labels:
                own = torch.stack([labels[row, word, gold, n] for n in range(len(task.labels))])
                total = total - own[task.labels.index(tree.labels[word - 1])] + own.logsumexp(0)
    return arcs, labels, total


@pytest.mark.parametrize("upos", [False, True])
def test_scores_loss_and_gradient_are_those_of_the_equations(upos, tmp_path, pieces):
    task = task_of(tmp_path, upos=upos, tags=UPOS[:2] if upos else [])
    model, head = transformer(pieces), head_of(task)
    checked = 0
    for stream, batch in batches(task, corpora(pieces), "valid"):
        expected_arcs, expected_labels, expected = scored_by_loops(task, head, model, stream, batch)
        expected_arcs = {key: value.tolist() for key, value in expected_arcs.items()}
        expected_labels = {key: float(value.detach()) for key, value in expected_labels.items()}
        loss = task.loss(model, head, batch)
        assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
        with torch.no_grad():
            arcs, dependents, heads = head(model, batch)
            best = head.best_labels(dependents, heads, batch.predict)
        at = 0
        for row in batch.rows.tolist():
            starts = stream.items[row].answer.cells
            places = [0, *starts.tolist()]
            for word in range(1, len(places)):
                allowed = [cell for cell in places if cell != places[word]]
                assert torch.isfinite(arcs[at]).nonzero()[:, 0].tolist() == sorted(allowed)
                for other, cell in enumerate(places):
                    if other != word:
                        found = float(arcs[at, cell])
                        assert found == pytest.approx(expected_arcs[row, word][other])
                    own = [expected_labels[row, word, other, n] for n in range(len(LABELS))]
                    assert int(best[at, cell]) == int(np.argmax(own))
                at += 1
                checked += 1
        found = torch.autograd.grad(loss.total, list(head.parameters()))
        by_loops = torch.autograd.grad(expected, list(head.parameters()))
        for one, other in zip(found, by_loops, strict=True):
            assert float((one - other).abs().max()) < 1e-8 * (1 + float(other.abs().max()))
    assert checked == 21


def test_the_batched_product_has_its_gradient():
    torch.manual_seed(0)
    words = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    cells = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([1, 3, 6, 9])
    assert torch.autograd.gradcheck(lambda a, b: _with_each(a, b, places), (words, cells))
    found = _with_each(words, cells, places)
    for at, place in enumerate(places.tolist()):
        assert torch.allclose(found[at], cells[place // 5] @ words[at])


def test_targets_are_cells_of_heads(tmp_path, pieces):
    task = task_of(tmp_path)
    for stream, batch in batches(task, corpora(pieces)):
        expected, cells = [], []
        for at, row in enumerate(batch.rows.tolist()):
            tree = stream.items[row].answer.sentence
            sizes = [len(pieces.encode(word)) for word in tree.words]
            starts = [0, *(1 + sum(sizes[:word]) for word in range(len(sizes)))]  # 0: the root
            assert pieces.decode(batch.tokens[at, : batch.lengths[at]].tolist()) == " ".join(
                tree.words
            )
            for word, head in enumerate(tree.heads, 1):
                cells.append(at * batch.tokens.shape[1] + starts[word])
                expected.append([starts[head], task.labels.index(tree.labels[word - 1])])
        assert batch.predict.tolist() == cells
        assert batch.targets[:, :2].tolist() == expected
        assert batch.count == len(cells)


def test_labels_and_tags_are_those_of_the_training_files_without_subtypes(tmp_path):
    path = write(tmp_path / "a.conllu", [3, 4, 5, 6], labels=["nsubj:pass", "obj", "nsubj"])
    task = Parsing(files=Files(train={"en": path})).resolved()
    assert task.labels == ["nsubj", "obj", "root"]
    assert set(task.tags) == set(UPOS)
    assert task.resolved() is task
    given = Parsing(files=Files(train={"en": path}), labels=["b", "a"]).resolved()
    assert given.labels == ["b", "a"]


def test_long_sentences_are_not_trained_on_and_said(tmp_path, caplog):
    task = task_of(tmp_path, lengths=[3, 8, 4, 12, 9], longest_words=8, train_length=9)
    with caplog.at_level(logging.INFO, logger="xlm"):
        (train,) = task.streams("dep", corpora(), seed=0)
    # 8 words and two symbols are 10 pieces; 12 and 9 are cut
    assert sorted(len(row.answer.cells) for row in train.items) == [3, 4]
    assert "dep/en: not trained on 3 of 5 sentences, longer than 9 pieces or 8 words" in caplog.text
    valid = task.streams("dep", corpora(), seed=0, split="valid")[0]
    assert sorted(len(row.answer.cells) for row in valid.items) == [3, 4, 8, 8, 8]
    with pytest.raises(DataError, match="all 5 sentences are longer than train_length 4 pieces"):
        dataclasses.replace(task, train_length=4).streams("dep", corpora(), seed=0)


def test_at_the_defaults_the_limits_are_140_words_and_512_pieces(tmp_path, pieces):
    path = write(tmp_path / "a.conllu", [141, 140], words=["a"])
    task = Parsing(files=Files(train={"en": path})).resolved()
    tokenizer = WordTokenizer()
    for number, tree in enumerate(task.read(path, "en")):
        (row,) = task.rows_of(tree, number, tokenizer)
        assert len(row.answer.cells) == 140 and len(row.wrapped.tokens) == 142
    long = write(tmp_path / "b.conllu", [139], words=["internationally", "extraordinarily"])
    (tree,) = task.read(long, "en")
    (row,) = task.rows_of(tree, 0, pieces)
    num = len(row.answer.cells)
    sizes = [len(pieces.encode(word)) for word in tree.words]
    assert 5 < num < 139 and sum(sizes[:num]) <= 510 < sum(sizes[: num + 1])


def test_a_word_longer_than_the_row_and_one_without_pieces(tmp_path, pieces):
    task = task_of(tmp_path, length=6)
    lone = task.unlabeled("internationally", "line 1")
    (row,) = task.rows_of(lone, 0, pieces)
    assert len(row.wrapped.tokens) == 6 and row.answer.cells.tolist() == [1]
    made = WordTokenizer()
    made.encode = lambda text: [] if text == "of" else [20]  # type: ignore[method-assign]
    (row,) = task.rows_of(task.unlabeled("cat of men", "line 2"), 0, made)
    assert row.wrapped.tokens.tolist() == [1, 20, made.unk_id, 20, 1]


def figures_by_hand(task, model, head, made):
    """Every sentence alone, the best tree by trying all, attachment counted word by word."""
    stream = task.streams("dep", made, seed=0, split="valid")[0]
    counts = dict.fromkeys(("words", "uas", "las", "words_all", "uas_all", "las_all"), 0)
    single = dataclasses.replace(task, rows=1)
    for _, batch in batches(single, made, "valid"):
        row = int(batch.rows[0])
        starts, tree = stream.items[row].answer
        with torch.no_grad():
            arcs, dependents, heads = head(model, batch)
            best = head.best_labels(dependents, heads, batch.predict)
        places = [0, *starts.tolist()]
        found = best_tree(arcs[:, places].numpy())
        for word, (gold, label) in enumerate(zip(tree.heads, tree.labels, strict=True)):
            right = word < len(found) and found[word] == gold
            both = right and task.labels[best[word, places[found[word]]]] == label
            for suffix in ("", "_all"):
                if suffix or tree.upos[word] not in ("PUNCT", "SYM"):
                    counts[f"words{suffix}"] += 1
                    counts[f"uas{suffix}"] += right
                    counts[f"las{suffix}"] += both
    return {
        **{name: counts[name] / counts["words"] for name in ("uas", "las")},
        **{name: counts[name] / counts["words_all"] for name in ("uas_all", "las_all")},
        "words": counts["words"],
        "words_all": counts["words_all"],
    }


def best_tree(scores):
    """Of all choices of heads the best that is a tree with one root."""
    best, top = None, -np.inf
    num = len(scores)
    for heads in itertools.product(range(num + 1), repeat=num):
        if heads.count(0) != 1 or any(head == at + 1 for at, head in enumerate(heads)):
            continue
        value = sum(scores[at, head] for at, head in enumerate(heads))
        if value > top and all(reaches_root(heads, word) for word in range(1, num + 1)):
            best, top = heads, value
    return best


def reaches_root(heads, word):
    for _ in range(len(heads) + 1):
        if word == 0:
            return True
        word = heads[word - 1]
    return False


def test_figures_are_those_of_whole_trees(tmp_path):
    """Words that were cut off are wrong, punctuation and symbols count in the others alone."""
    task = task_of(tmp_path, lengths=[5, 3, 9, 1, 4, 2, 5, 4], longest_words=5)
    made = corpora()
    model, head = transformer(made.tokenizer), head_of(task, seed=4)
    learner = Learner(model, {"dep": task}, CONFIG).double()
    learner.heads["dep"] = head
    learner.eval()
    streams = {"dep": task.streams("dep", made, seed=0, split="valid")}
    found = evaluate(learner, streams, Parallel(torch.device("cpu")), seed=0)
    expected = figures_by_hand(task, model, head, made)
    assert {key: found["dep/en"][key] for key in expected} == pytest.approx(expected)
    assert 0 < expected["las_all"] < expected["uas_all"] < 1
    assert expected["words"] < expected["words_all"] == 33
    assert found["dep/hi"] != found["dep/en"]  # another language, other states
    # nats: mean over the words whose head is in the row
    words = sum(
        head <= 5
        for row in streams["dep"][0].items
        for head in row.answer.sentence.heads[: len(row.answer.cells)]
    )
    assert found["dep/en"]["targets"] == words < 33 - 4 + 1


def test_a_root_that_was_cut_off_is_wrong(tmp_path):
    """Not taken for right because nobody said otherwise."""
    task = task_of(tmp_path, longest_words=2)
    (tree,) = task.read(write(tmp_path / "a.conllu", [3]), "en")
    tree = dataclasses.replace(tree, heads=(2, 3, 0), upos=("NOUN",) * 3)
    made = corpora()
    stream = task.stream("dep", made, task.rows_of(tree, 0, made.tokenizer), "en", seed=0, split="")
    figures = task.grouped_figures(stream, {0: [[2, 0], [0, 0]]})
    assert figures["uas"] == figures["uas_all"] == pytest.approx(1 / 3)


def test_of_equal_labels_the_first_is_given(tmp_path):
    task = task_of(tmp_path)
    head = task.head(CONFIG)
    torch.nn.init.zeros_(head.label_weight)
    best = head.best_labels(torch.randn(2, 4), torch.randn(1, 5, 4), torch.tensor([1, 3]))
    assert best.shape == (2, 5) and not best.any()


def test_predictions_in_words(tmp_path):
    task = task_of(tmp_path, longest_words=3)
    made = corpora()
    rows = task.rows_of(task.unlabeled("the cat went of we", "line 1"), 0, made.tokenizer)
    stream = task.stream("dep", made, rows, "en", seed=0, split="predict")
    batch = task.collate(stream.examples(0), Random(0), train=False)
    outputs = torch.full((3, 5, 2), float("-inf"))
    outputs[..., 1] = 0
    outputs[0, 0, 0], outputs[0, 2, 0] = 0.0, 5.0  # the -> cat
    outputs[1, 0, 0], outputs[1, 1, 0] = 1.0, 2.0  # and cat -> the would be a circle
    outputs[2, 2, 0], outputs[2, 2, 1] = 2.0, 3
    found = task.predictions(stream, batch, outputs)
    assert found == {0: [[2, 0, 2], [0, 0, 3]]}
    assert task.rendered(stream, found) == {0: "2:case 0:case 2:punct _ _"}


def test_gold_parts_of_speech_are_not_for_plain_words(tmp_path):
    task = task_of(tmp_path, upos=True)
    with pytest.raises(ConfigError, match="needs gold parts of speech"):
        task.unlabeled("a b", "line 1")


def test_unknown_relations_and_tags_of_held_out_text(tmp_path):
    path = write(tmp_path / "valid.conllu", [4, 5], labels=["dislocated"])
    task = task_of(tmp_path, upos=True, tags=["NOUN"])
    task = dataclasses.replace(task, files=Files(train=task.files.train, valid={"en": path}))
    for _, batch in batches(task, corpora(), "valid"):
        known = batch.targets[:, 1][batch.targets[:, 1] != -100]
        assert set(known.tolist()) == {LABELS.index("root")}
        assert set(batch.targets[:, 2].tolist()) == {0, 1} and batch.count == len(batch.predict)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel() * value.element_size())
        return result


@pytest.mark.parametrize("train", [True, False])
def test_memory_of_a_full_batch(train, tmp_path):
    """16 sentences of 126 words at the sizes of the study: a copy a word would take 528 MB."""
    labels = [f"label{at}" for at in range(36)]
    path = write(tmp_path / "long.conllu", [126] * 16, labels=labels)
    task = Parsing(files=Files(train={"en": path}, valid={"en": path})).resolved()
    made = corpora()
    model = transformer(made.tokenizer).float()
    torch.manual_seed(0)
    head = task.head(CONFIG)
    (_, batch), = batches(task, made, "train" if train else "valid")  # fmt: skip
    assert batch.tokens.shape == (16, 128) and batch.count == 16 * 126
    model.train(train), head.train(train)
    with Largest() as seen, torch.set_grad_enabled(train):
        loss = task.loss(model, head, batch)
        if train:
            loss.total.backward()
    assert 4e6 < seen.largest < 45e6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arc_size": 0}, "arc_size must be at least 1: found 0"),
        ({"longest_words": 0}, "longest_words must be at least 1: found 0"),
        ({"train_length": 0}, "train_length must be at least 1: found 0"),
        ({"labels": ["a", "a"]}, r"labels must differ: found \['a', 'a'\]"),
        ({"length": 0}, "length must be at least 1: found 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Parsing(files=Files(train={"en": "x"}), **settings)


def test_a_run_without_labels_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="labels is empty; give them, or fine-tune with xlm fine"):
        Parsing(files=Files(train={"en": "x"})).head(CONFIG)


def test_dropout_is_throughout_the_scorer(tmp_path):
    task = task_of(tmp_path, upos=True, readout=Readout(dropout=0.33))
    model, head = transformer(WordTokenizer()), head_of(task).train()
    assert isinstance(head, BiaffineHead) and head.dropout == 0.33
    _, batch = next(batches(task, corpora()))
    torch.manual_seed(0)
    one = task.loss(model, head, batch).total.detach()
    torch.manual_seed(0)
    assert float(task.loss(model, head, batch).total.detach()) == float(one)
    assert float(task.loss(model, head, batch).total.detach()) != float(one)


def test_a_recipe_names_it(tmp_path):
    task = task_of(tmp_path)
    run = Run(data="d", folder="f", objectives={"dep": task}, model=CONFIG)
    assert run.objectives["dep"] == task and task.metric == "las"
