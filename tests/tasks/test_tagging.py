"""Tagging: every word once, first pieces, windows, spans over whole sentences."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.interchange import peers
from tests.tasks import toys
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores, rises
from xlm.metrics.spans import repair, span_figures, span_scores
from xlm.tasks.readers.tagged import TaggedSentence
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer

TAGS = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
TOKENIZER = toys.Spelled()
ANY = Files(train={"en": "not read"})


def sentence(sizes, seed=0):
    """A sentence of words of so many pieces; 0 is a word without any."""
    random = np.random.default_rng(seed)
    words = ["".join(map(chr, random.integers(97, 123, size))) or "_" for size in sizes]
    tags = [TAGS[at] for at in random.integers(0, 5, len(sizes))]
    return TaggedSentence(tuple(words), tuple(tags), "en", "x:1")


def write(path, sentences):
    rows = []
    for one in sentences:
        rows += [*zip(one.words, one.tags, strict=True), ()]
    return toys.write(path, rows)


@pytest.fixture(scope="module")
def sentences():
    random = np.random.default_rng(9)
    sizes = [random.integers(0, 9, random.integers(1, 30)).tolist() for _ in range(25)]
    return [sentence([*own, 1], seed) for seed, own in enumerate(sizes)]


@pytest.fixture
def task(tmp_path, sentences):
    path = write(tmp_path / "ner.tsv", sentences)
    files = Files(train={"en": path}, valid={"en": path, "ne": path})
    return Tagging(files=files, tags=TAGS, spans=True, length=20, context=7, rows=4)


# Windows.


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=60), st.integers(6, 40), st.data())
def test_every_word_is_predicted_once_at_its_first_piece(sizes, length, data):
    context = data.draw(st.integers(0, length - 3))
    task = Tagging(files=ANY, tags=TAGS, spans=True, length=length, context=context)
    own = sentence(sizes)
    pieces = [TOKENIZER.encode(word)[: length - 2] or [TOKENIZER.unk_id] for word in own.words]
    rows = task.rows_of(own, 7, TOKENIZER)
    assert [word for row in rows for word in row.answer.words] == list(range(len(sizes)))
    for row in rows:
        tokens, answer = row.wrapped.tokens.tolist(), row.answer
        assert len(tokens) <= length and tokens[0] == tokens[-1] == TOKENIZER.end_id
        assert answer.cells[0] - 1 <= context, "pieces of context"
        for word, cell, tag in zip(answer.words, answer.cells, answer.tags, strict=True):
            assert tokens[cell : cell + len(pieces[word])] == pieces[word]
            assert TAGS[tag] == own.tags[word]
        # context and new words stand in the order of the sentence, without a gap
        text = [piece for word in pieces[: answer.words[-1] + 1] for piece in word]
        assert tokens[1:-1] == text[len(text) - len(tokens) + 2 :]
        assert row.example == 7 and row.wrapped.positions.tolist() == list(range(len(tokens)))


def test_the_defaults_are_the_mbert_study_s():
    task = Tagging(files=ANY, tags=TAGS)
    rows = task.rows_of(sentence([1] * 300), 0, TOKENIZER)
    assert [len(row.wrapped.tokens) for row in rows] == [128, 128, 128, 116]
    assert [row.answer.cells[0] for row in rows] == [1, 65, 65, 65]
    assert [row.answer.words[0] for row in rows] == [0, 126, 188, 250]


def test_words_without_pieces_are_read_as_unknown():
    (row,) = Tagging(files=ANY, tags=TAGS).rows_of(sentence([2, 0, 0, 1]), 0, TOKENIZER)
    tokens = row.wrapped.tokens.tolist()
    assert row.answer.cells == [1, 3, 4, 5]
    assert [tokens[cell] for cell in row.answer.cells[1:3]] == [TOKENIZER.unk_id] * 2


def test_pieces_are_those_of_words_alone():
    """Of XLM-R each word opens with its mark, as in running text."""
    tokenizer = XlmRobertaTokenizer(peers.unigram())
    words = tuple(peers.lines()[4].split())
    one = TaggedSentence(words, ("O",) * len(words), "en", "")
    (row,) = Tagging(files=ANY, tags=TAGS).rows_of(one, 0, tokenizer)
    tokens = row.wrapped.tokens.tolist()
    assert tokens == [0, *tokenizer.encode(" ".join(words)), 2]
    assert all(tokenizer.pieces[tokens[cell]].startswith("▁") for cell in row.answer.cells)


def test_batches_predict_the_words_of_all_rows(task, sentences):
    seen = Counter()
    stream = toys.stream(task, toys.corpora(), "valid")
    for batch in toys.batches(task, toys.corpora()):
        width, at = batch.tokens.shape[1], 0
        assert len(batch.predict) % 8 == 0 and len(batch.predict) == len(batch.targets)
        for place, row in enumerate(batch.rows.tolist()):
            item = stream.items[row]
            for word, tag in zip(item.answer.words, item.answer.tags, strict=True):
                cell = int(batch.predict[at]) - place * width
                text = sentences[item.example].words[word]
                expected = (TOKENIZER.encode(text) or [TOKENIZER.unk_id])[0]
                assert int(batch.tokens[place, cell]) == expected
                assert int(batch.targets[at]) == tag
                seen[item.example, word] += 1
                at += 1
        assert batch.count == at and (batch.targets[at:] == -100).all()
    words = {(n, word) for n, own in enumerate(sentences) for word in range(len(own.words))}
    assert set(seen) == words and set(seen.values()) == {1}


# Figures.


class Oracle(nn.Module):
    """Scores of a cell that depend on its token alone, so that windows change nothing."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.table = torch.randn(60, 5, generator=generator, dtype=torch.float64)

    def forward(self, model, batch):
        return self.table[batch.tokens.flatten()[batch.predict]]

    def tag(self, word):
        return TAGS[int(self.table[(TOKENIZER.encode(word) or [TOKENIZER.unk_id])[0]].argmax())]


@pytest.mark.parametrize(
    ("length", "context", "rows"), [(128, 64, 4), (20, 7, 4), (20, 0, 1), (6, 3, 9), (12, 9, 2)]
)
def test_span_figures_are_those_of_whole_sentences(task, sentences, length, context, rows):
    task = replace(task, length=length, context=context, rows=rows)
    made = toys.corpora()
    learned = toys.learner({"task": task}, made)
    oracle = learned.heads["task"] = Oracle()
    sums, given, nats = Scores(), [], 0.0
    for one in sentences:
        tags = [oracle.tag(word) for word in one.words]
        sums = sums + span_scores(one.tags, tags)
        given += tags
        for word, tag in zip(one.words, one.tags, strict=True):
            shares = oracle.table[(TOKENIZER.encode(word) or [TOKENIZER.unk_id])[0]].softmax(0)
            nats -= float(shares[TAGS.index(tag)].log())
    found = toys.figures(task, made, learned)
    for language in ("en", "ne"):
        own = found[f"task/{language}"]
        for name, value in span_figures(sums).items():
            assert own[name] == pytest.approx(value, abs=1e-12), name
        assert own["targets"] == len(given) and own["nats"] == pytest.approx(nats / len(given))
        assert own["commonest"] == max(map(given.count, TAGS)) / len(given)
    assert 0 < span_figures(sums)["f1"] < 1


def test_parts_of_speech_are_scored_by_word(task, sentences):
    task = replace(task, spans=False)
    made = toys.corpora()
    learned = toys.learner({"task": task}, made)
    oracle = learned.heads["task"] = Oracle()
    pairs = [(tag, oracle.tag(w)) for one in sentences
             for w, tag in zip(one.words, one.tags, strict=True)]  # fmt: skip
    own = toys.figures(task, made, learned)["task/en"]
    assert own["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert set(own) == {"nats", "accuracy", "targets", "commonest"}
    assert (task.metric, replace(task, spans=True).metric) == ("accuracy", "f1") and rises("f1")


def test_the_head_is_a_linear_layer_at_each_first_piece(task):
    made = toys.corpora()
    learned = toys.learner({"task": task}, made)
    layer = learned.heads["task"].output
    (batch, *_) = toys.batches(task, made)
    outputs = learned("task", batch).outputs
    width = batch.tokens.shape[1]
    for at in range(batch.count):
        row, cell = divmod(int(batch.predict[at]), width)
        ids = batch.tokens[row, : batch.lengths[row]].tolist()
        state = toys.alone(learned.model, ids)[cell]
        scores = layer.weight.detach().numpy() @ state + layer.bias.detach().numpy()
        assert int(outputs[at]) == scores.argmax()
    with pytest.raises(ConfigError, match="tags is empty; give them, or fine-tune with"):
        replace(task, tags=[]).head(toys.config())


# Tags.


def test_tags_are_those_of_the_training_files(tmp_path):
    one = TaggedSentence(("a", "b", "c"), ("I-PER", "O", "B-LOC"), "", "")
    other = TaggedSentence(("a",), ("B-ORG",), "", "")
    files = Files(train={"en": write(tmp_path / "a", [one]), "ne": write(tmp_path / "b", [other])})
    assert Tagging(files=files).resolved().tags == ["B-LOC", "B-ORG", "I-PER", "O"]
    whole = ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"]
    assert Tagging(files=files, spans=True).resolved().tags == whole
    given = Tagging(files=files, tags=["O"])
    assert given.resolved() is given


def test_tags_get_other_names(tmp_path):
    own = TaggedSentence(("a", "b", "c", "d"), ("CONJ", "NOUN", "B-PERSON", "I-DATE"), "", "")
    files = Files(train={"en": write(tmp_path / "a", [own])})
    words = Tagging(files=files, relabel={"CONJ": "CCONJ", "PERSON": "PER"})
    assert words.read(files.train["en"], "en")[0].tags == ("CCONJ", "NOUN", "B-PERSON", "I-DATE")
    spans = [TaggedSentence(("a", "b", "c"), ("B-PERSON", "I-DATE", "O"), "", "")]
    files = Files(train={"en": write(tmp_path / "b", spans)})
    entities = Tagging(files=files, spans=True, relabel={"PERSON": "PER", "DATE": "O"})
    assert entities.read(files.train["en"], "en")[0].tags == ("B-PER", "O", "O")
    assert entities.resolved().tags == ["B-PER", "I-PER", "O"]


def test_a_tag_that_is_not_listed_is_named_with_its_sentence(task):
    few = replace(task, tags=[tag for tag in TAGS if tag != "I-PER"])
    with pytest.raises(DataError, match=r"ner.tsv:\d+: found the tag 'I-PER' in this sentence"):
        few.streams("t", toys.corpora(), seed=0)


def test_entities_of_another_scheme_are_named_with_their_sentence(tmp_path):
    path = toys.write(tmp_path / "a.tsv", [("a", "O"), (), ("b", "X-PER")])
    task = Tagging(files=Files(train={"en": path}), spans=True)
    with pytest.raises(
        DataError, match="a.tsv:3: the tag 'X-PER' does not follow the scheme BIO: .*; "
    ):
        task.resolved()
    assert replace(task, spans=False).resolved().tags == ["O", "X-PER"]


def test_wikiann_s_language_is_checked(tmp_path):
    path = toys.write(tmp_path / "w", [("en:a", "O")])
    task = Tagging(files=Files(train={"en": path}), format="wikiann", tags=["O"])
    assert task.read(path, "en")[0].words == ("a",)
    with pytest.raises(DataError, match="w:1: found a word of en, expected hi"):
        task.read(path, "hi")


def test_universal_parts_of_speech(tmp_path):
    rows = [(str(at), word, "_", tag, "_", "_", str(at - 1), "root" if at == 1 else "dep", "_", "_")
            for at, (word, tag) in enumerate([("we", "PRON"), ("go", "VERB")], 1)]  # fmt: skip
    path = toys.write(tmp_path / "x.conllu", [*rows, ()])
    task = Tagging(files=Files(train={"en": path}), format="conllu").resolved()
    assert task.tags == ["PRON", "VERB"] and toys.stream(task, toys.corpora()).num_rows == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": 126}, "context must be below length - 2 = 126: found 126"),
        ({"context": -1}, "context must be below length - 2 = 126: found -1"),
        ({"tags": ["a", "a"]}, r"tags must be different names: found \['a', 'a'\]"),
        (
            {"tags": ["O", "PER"], "spans": True},
            "tags: the tag 'PER' does not follow the scheme BIO",
        ),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Tagging(files=ANY, **settings)


# Prediction.


def test_lines_to_predict_and_what_is_written(task, sentences):
    assert task.unlabeled("ab c", "x:1").words == ("ab", "c")
    stream = toys.stream(task, toys.corpora(), "valid")
    given = {row: [3] * len(item.answer.words) for row, item in enumerate(stream.items)}
    plain = replace(task, spans=False).rendered(stream, given)
    for number, one in enumerate(sentences):
        assert plain[number] == " ".join(["I-PER"] * len(one.words))
        assert task.rendered(stream, given)[number] == " ".join(repair(["I-PER"] * len(one.words)))
    assert task.rendered(stream, given)[0].startswith("B-PER")
