"""Answering: rows and their answers, the best span over windows by brute force, and the figures."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import string
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import WordTokenizer
from tests.interchange import peers
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.run.config import Run
from xlm.tasks.answering import Answering
from xlm.tasks.readers.questions import GoldAnswer, Question
from xlm.tasks.task import Files
from xlm.text.normalize import normalize
from xlm.text.tokenizers.hugging_face import read_hugging_face
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner

CONFIG = ModelConfig(
    preset="tiny", dim=16, num_layers=1, num_heads=2, max_positions=100, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
NOWHERE = Files(train={"en": "nowhere"})
PARTS = [
    "the", "cat", "river.", "e\u0301te\u0301", "नमस्ते", "क\u093cदम", "🦜", "中文", "\u1100\u1161",
    "308,", "a\u0301\u0323", "extraordinarily",
]  # fmt: skip
SPACES = st.sampled_from([" ", "  ", "\u00a0", "\n", "\t", "\u3000"])
TEXTS = st.lists(st.tuples(st.sampled_from(PARTS), SPACES), min_size=1, max_size=30).map(
    lambda pairs: "".join(word + space for word, space in pairs)
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    peers.write(
        folder, vocab__txt=peers.wordpieces(), tokenizer_config__json={"do_lower_case": False}
    )
    return {
        "ours": learn_sentencepiece(peers.lines(), 900),
        "xlm-r": XlmRobertaTokenizer(peers.unigram()),
        "bert": read_hugging_face(folder),
    }


def asked(context, start, end, question="which cat ?"):
    golds = (GoldAnswer(context[start:end], start),) if end else ()
    return Question("q", question, context, golds, "", "en", "here:1: question q")


def write(path, examples, titles=()):
    """SQuAD's JSON of (context, question, answers); answers are texts, found where they stand."""
    articles = []
    for number, (context, question, answers) in enumerate(examples):
        golds = [{"text": text, "answer_start": context.index(text)} for text in answers]
        qa = {"id": f"q{number}", "question": question, "answers": golds}
        if not golds:
            qa["is_impossible"] = True
        title = titles[number] if titles else "all"
        articles.append({"title": title, "paragraphs": [{"context": context, "qas": [qa]}]})
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ["ours", "xlm-r", "bert"])
def test_rows_hold_windows_of_the_paragraph_and_the_answer(kind, tokenizers):
    made = tokenizers[kind]

    @settings(max_examples=40)
    @given(TEXTS, st.data())
    def check(context, data):
        visible = [at for at, character in enumerate(context) if not character.isspace()]
        begin, end = sorted(data.draw(st.sampled_from(visible)) for _ in "ab")
        length = data.draw(st.integers(16, 40))
        task = Answering(
            files=NOWHERE, length=length, longest_question=6, misplaced="drop",
            stride=data.draw(st.integers(1, length - 10)),
        )  # fmt: skip
        rows = task.rows_of(asked(context, begin, end + 1), 7, made)
        pieces = made.encode(normalize(context))
        question = made.encode("which cat ?")[:6]
        held = []
        for number, row in enumerate(rows):
            tokens, passage = row.wrapped.tokens.tolist(), row.answer
            first, size = passage.window
            assert row.example == 7 and len(tokens) <= length and first == number * task.stride
            own = pieces[first : first + size]
            assert tokens[passage.offset : passage.offset + size] == own
            assert tokens[1 : 1 + len(question)] == question
            separators = 2 if kind == "xlm-r" else 1
            expected = made.wrap(np.array(question), np.array(own, dtype=np.int64), "merged")
            assert tokens == expected.tokens.tolist()
            assert passage.offset == 1 + len(question) + separators
            assert len(passage.characters) == len(pieces)
            held += range(first, first + size)
            if passage.span != (0, 0):
                cells = [cell - passage.offset + first for cell in passage.span]
                a, b = passage.characters[cells, [0, 1]].tolist()
                # the answer, and no more than what is left of its first and last piece
                assert a <= begin and end < b
                assert not context[a:begin].strip() or not re.search(r"\s", context[a:begin])
                assert not re.search(r"\s", context[a:begin] + context[end + 1 : b])
                assert passage.characters[cells[0], 1] > begin
                assert passage.characters[cells[1], 0] <= end
        assert sorted(set(held)) == list(range(len(pieces)))
        owned = np.concatenate(
            [np.flatnonzero(r.answer.owned) + r.answer.window.first for r in rows]
        )
        assert sorted(owned.tolist()) == list(range(len(pieces)))
        # it is in exactly the windows that hold all of it
        places = rows[0].answer.characters
        touched = np.flatnonzero((places[:, 0] <= end) & (places[:, 1] > begin))
        for row in rows:
            first, size = row.answer.window
            whole = len(touched) and first <= touched[0] and touched[-1] < first + size
            assert (row.answer.span != (0, 0)) == bool(whole)

    check()


def test_the_pieces_of_a_paragraph_are_found_once(monkeypatch, tokenizers):
    made, calls = tokenizers["ours"], []
    encode = type(made).encode_spans
    monkeypatch.setattr(
        type(made), "encode_spans", lambda self, text: calls.append(text) or encode(self, text)
    )
    task = Answering(files=NOWHERE)
    for number in range(5):
        task.rows_of(asked("the cat of one river", 4, 7, f"question {number} ?"), number, made)
    assert calls == ["the cat of one river"]


def stream_of(task, question, made, split="valid"):
    rows = task.rows_of(question, 0, made)
    return task.stream("qa", Corpora(made, ["en"]), rows, "en", seed=0, split=split)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(max_examples=40)
def test_windows_give_the_best_span_of_the_whole(num, seed, longest):
    """Scores of a piece are the same in each of its windows, whose overlap holds any answer."""
    random = np.random.default_rng(seed)
    made = WordTokenizer()
    context = " ".join(f"w{at}" for at in range(num))
    task = Answering(
        files=NOWHERE, rows=3, length=26, longest_question=3, stride=4, longest_answer=longest
    )
    stream = stream_of(task, asked(context, 0, 2), made)
    starts, ends = random.integers(-4, 5, (2, num)).astype(float)  # with many ties
    predictions = {}
    for k in range(stream.num_batches):
        batch = task.collate(stream.examples(k), Random(0), train=False)
        outputs = torch.zeros(*batch.tokens.shape, 2)
        for at, row in enumerate(batch.rows.tolist()):
            passage = stream.items[row].answer
            first, size = passage.window
            cells = slice(passage.offset, passage.offset + size)
            outputs[at, cells, 0] = torch.tensor(starts[first : first + size]).float()
            outputs[at, cells, 1] = torch.tensor(ends[first : first + size]).float()
            outputs[at, : passage.offset] = outputs[at, passage.offset + size :] = 99.0
        predictions.update(task.predictions(stream, batch, outputs))
    best = max(
        (starts[a] + ends[b], -a, -b) for a in range(num) for b in range(a, min(num, a + longest))
    )
    expected = " ".join(f"w{at}" for at in range(-best[1], -best[2] + 1))
    assert json.loads(json.dumps(predictions[0])) == predictions[0]
    assert task.rendered(stream, predictions) == {0: expected}


def test_squad_2_gives_no_answer_where_that_scores_more():
    made = WordTokenizer()
    task = Answering(files=NOWHERE, rules="squad2", unanswerable=True, longest_question=3)
    stream = stream_of(task, asked("a b c", 0, 0), made)
    batch = task.collate(stream.examples(0), Random(0), train=True)
    assert batch.targets.tolist() == [[0, 0]]
    offset = stream.items[0].answer.offset
    for null, expected in ((2.9, "b"), (3.0, "b"), (3.1, "")):  # SQuAD's rule: more, not as much
        outputs = torch.full((*batch.tokens.shape, 2), -5.0)
        outputs[0, offset + 1] = 1.5
        outputs[0, 0] = torch.tensor([null, 0.0])
        found = task.predictions(stream, batch, outputs.double())
        assert task.rendered(stream, found) == {0: expected}
        plain = dataclasses.replace(task, unanswerable=False)
        assert plain.rendered(stream, found) == {0: "b"}


def test_windows_differ_in_what_they_see():
    """A piece is scored by the window with the most around it; no answer by the least of all."""
    made = WordTokenizer()
    task = Answering(
        files=NOWHERE, rules="squad2", unanswerable=True, length=26, longest_question=3, stride=4,
        rows=9, longest_answer=5,
    )  # fmt: skip
    context = " ".join(f"w{at}" for at in range(24))
    stream = stream_of(task, asked(context, 0, 0), made)
    room = len(stream.items[0].answer.owned)
    assert [row.answer.window.first for row in stream.items] == [0, 4] and room == 20
    # of its own 20 pieces the first window sees more around those before the middle of both
    assert stream.items[0].answer.owned.tolist() == [at < 12 for at in range(20)]
    assert stream.items[1].answer.owned.tolist() == [at >= 8 for at in range(20)]
    for nulls, expected in (((9.0, 1.0), "w3"), ((9.0, 8.0), ""), ((1.0, 9.0), "w3")):
        found = {}
        for k in range(stream.num_batches):
            batch = task.collate(stream.examples(k), Random(0), train=False)
            outputs = torch.full((*batch.tokens.shape, 2), -5.0)
            for at, row in enumerate(batch.rows.tolist()):
                offset, first = (
                    stream.items[row].answer.offset,
                    stream.items[row].answer.window.first,
                )
                outputs[at, 0] = torch.tensor([nulls[row], 0.0])
                if row == 0:
                    outputs[at, offset + 3] = 3.0
                    outputs[at, offset + 15] = 9.0  # the other window sees more around it
                else:
                    outputs[at, offset + 5 - first] = 9.0  # and around this one the first
            found.update(task.predictions(stream, batch, outputs))
        assert task.rendered(stream, found) == {0: expected}


EXAMPLES = [
    ("The cat sat on the mat near a river.", "Where ?", ["on the mat", "the mat"]),
    ("A dog ran. The dog , it ran far", "Who ?", ["dog"]),
    ("one two three four five six seven eight nine ten", "Which ?", ["seven"]),
    ("mountains of men", "What ?", ["mountains"]),
]


def learner_of(task, made, seed=3):
    torch.manual_seed(seed)
    model = Transformer(CONFIG, vocab_size=made.vocab_size, num_languages=2, pad_id=made.pad_id)
    learner = Learner(model, {"qa": task}, CONFIG).double().eval()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.normal_(0, 0.4)
    return learner


def official(text):
    """SQuAD 1.1's rules, written anew."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return [word for word in text.split() if word not in ("a", "an", "the")]


def official_f1(found, gold):
    found, gold = official(found), official(gold)
    same = sum((Counter(found) & Counter(gold)).values())
    return 2 * same / (len(found) + len(gold)) if same else 0.0


def test_figures_loss_and_answers_of_a_whole_pass(tmp_path):
    made = WordTokenizer()
    path = write(tmp_path / "a.json", EXAMPLES)
    task = Answering(
        files=Files(train={"en": path}, valid={"en": path, "hi": path}), rows=2, length=14,
        longest_question=3, stride=3, longest_answer=4,
    )  # fmt: skip
    learner = learner_of(task, made)
    corpora = Corpora(made, ["en", "hi"])
    streams = {"qa": task.streams("qa", corpora, seed=0, split="valid")}
    found = evaluate(learner, streams, Parallel(torch.device("cpu")), seed=0)["qa/en"]
    exact = f1 = nats = 0.0
    num_rows = 0
    output = learner.heads["qa"].output
    for number, question in enumerate(task.read(path, "en")):
        best = (-np.inf, "")
        for row in task.rows_of(question, number, made):
            tokens = torch.from_numpy(row.wrapped.tokens)[None]
            with torch.no_grad():
                states = learner.model.encode(
                    tokens, torch.tensor([tokens.shape[1]]), torch.arange(tokens.shape[1])[None],
                    torch.zeros_like(tokens),
                )[0]  # fmt: skip
                scores = (states @ output.weight.T + output.bias).numpy()
            for side in (0, 1):
                own = scores[:, side]
                nats += (np.log(np.exp(own).sum()) - own[row.answer.span[side]]) / 2
            num_rows += 1
            first, size = row.answer.window
            words = question.context.split()
            for a in range(size):
                if row.answer.owned[a]:
                    for b in range(a, min(size, a + 4)):
                        cells = row.answer.offset + a, row.answer.offset + b
                        value = scores[cells[0], 0] + scores[cells[1], 1]
                        text = " ".join(words[first + a : first + b + 1])
                        best = max(best, (value, text))
        golds = [gold.text for gold in question.answers]
        exact += any(official(best[1]) == official(gold) for gold in golds) / len(EXAMPLES)
        f1 += max(official_f1(best[1], gold) for gold in golds) / len(EXAMPLES)
    assert num_rows == found["targets"] > len(EXAMPLES)
    assert found["nats"] == pytest.approx(nats / num_rows)
    assert (found["exact"], found["f1"], found["questions"]) == pytest.approx((exact, f1, 4))
    assert task.metric == "f1"


def test_the_gradient_goes_to_first_and_last_cells(tmp_path):
    made = WordTokenizer()
    task = Answering(files=NOWHERE, longest_question=3)
    stream = stream_of(task, asked("a b c d", 2, 5), made)
    batch = task.collate(stream.examples(0), Random(0), train=True)
    offset = stream.items[0].answer.offset
    assert batch.targets.tolist() == [[offset + 1, offset + 2]]  # b, c
    learner = learner_of(task, made)
    learner.train()
    head = learner.heads["qa"]
    head.dropout.p = 0.0
    with torch.no_grad():
        head.output.weight.zero_(), head.output.bias.zero_()
    learner("qa", batch).total.backward()
    states = learner.model.encode(batch.tokens, batch.lengths, batch.positions, batch.langs)[0]
    for side, cell in enumerate((offset + 1, offset + 2)):
        expected = (states.mean(0) - states[cell]) / 2
        assert torch.allclose(head.output.weight.grad[side], expected.detach())


def test_padding_is_never_an_answer(tmp_path):
    made = WordTokenizer()
    path = write(tmp_path / "a.json", EXAMPLES)
    task = Answering(files=Files(train={"en": path}), longest_question=3, num_lengths=1)
    stream = task.streams("qa", Corpora(made, ["en"]), seed=0)[0]
    batch = task.collate(stream.examples(0), Random(0), train=True)
    scores = learner_of(task, made).heads["qa"](learner_of(task, made).model, batch)
    real = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    assert not real.all() and torch.equal(torch.isfinite(scores).all(-1), real)


def test_mlqa_knows_its_languages_and_says_so_at_once(tmp_path):
    path = write(tmp_path / "a.json", [("《红楼梦》是小说 。", "?", ["红楼梦"])])
    files = Files(train={"sw": path}, valid={"zh": path, "sw": path})
    task = Answering(files=files, rules="mlqa")
    assert len(task.read(path, "sw")) == 1  # trained on, not scored
    with pytest.raises(ConfigError, match="MLQA's scorer has no rules for 'sw'"):
        task.read(path, "sw", "valid")
    corpora = Corpora(WordTokenizer(), ["zh", "sw"])
    for rules, expected in (("mlqa", (0.0, 2 * 3 / 8)), ("squad1", (0.0, 0.0))):
        own = dataclasses.replace(
            task, rules=rules, files=Files(train=files.train, valid={"zh": path})
        )
        stream = own.streams("qa", corpora, seed=0, split="valid")[0]
        predictions = {0: [1.0, 0, 0, 0.0]}  # 《红楼梦》是小说: six signs, three of them right
        figures = own.grouped_figures(stream, predictions)
        if rules == "mlqa":
            assert figures["f1"] == pytest.approx(2 * 3 / (3 + 6))
        else:
            assert (figures["exact"], figures["f1"]) == expected


def test_squad_2_by_kind(tmp_path):
    path = write(tmp_path / "a.json", [*EXAMPLES[:2], ("no answer here", "Why ?", [])])
    task = Answering(files=Files(train={"en": path}), rules="squad2", unanswerable=True)
    stream = task.streams("qa", Corpora(WordTokenizer(), ["en"]), seed=0)[0]
    rows = {stream.items[row].example: row for row in range(3)}
    predictions = {
        rows[0]: [2.0, 0, 1, 3.0],  # none, though there is one
        rows[1]: [2.0, 1, 1, 1.0],  # dog
        rows[2]: [2.0, 0, 0, 2.5],  # none
    }
    figures = task.grouped_figures(stream, predictions)
    assert figures["exact"] == figures["f1"] == pytest.approx(2 / 3)
    assert (figures["answerable.exact"], figures["unanswerable.exact"]) == (0.5, 1.0)


def test_articles_of_a_split(tmp_path):
    path = write(tmp_path / "a.json", EXAMPLES, titles=["One", "Two", "One", "Three"])
    task = Answering(files=Files(train={"en": path}, test={"en": path}), articles={"test": ["One"]})
    assert len(task.read(path, "en")) == 4
    assert [q.id for q in task.read(path, "en", "test")] == ["q0", "q2"]


def test_questions_without_an_answer_are_asked_for(tmp_path):
    path = write(tmp_path / "a.json", [*EXAMPLES, ("nothing here", "Why ?", [])])
    task = Answering(files=Files(train={"en": path}))
    with pytest.raises(DataError, match=r"a.json:1: question q4: found no answer, .* unanswerable"):
        task.read(path, "en")


def test_misplaced_answers(tmp_path, caplog):
    path = tmp_path / "a.json"
    write(path, EXAMPLES)
    path.write_text(path.read_text().replace('"answer_start": 2,', '"answer_start": 3,', 1))
    text = path.read_text().replace(
        '"text": "dog", "answer_start": 2', '"text": "dog", "answer_start": 3'
    )
    path.write_text(text)
    task = Answering(files=Files(train={"en": str(path)}))
    with pytest.raises(
        DataError, match="question q1: found 'og ' at character 3, expected the ans"
    ):
        task.read(str(path), "en")
    with caplog.at_level(logging.INFO, logger="xlm"):
        assert len(dataclasses.replace(task, misplaced="drop").read(str(path), "en")) == 3
    assert "left out 1 questions: an answer that is not in the text" in caplog.text


def test_an_answer_that_no_piece_stands_for(tokenizers, caplog):
    """BERT's normalization takes the soft hyphen away."""
    question = asked("the cat \u00ad of men", 8, 9)
    task = Answering(files=NOWHERE)
    with pytest.raises(DataError, match="no piece of the tokenizer covers any of the answer"):
        task.rows_of(question, 0, tokenizers["bert"])
    with caplog.at_level(logging.INFO, logger="xlm"):
        (row,) = dataclasses.replace(task, misplaced="drop").rows_of(
            question, 0, tokenizers["bert"]
        )
    assert row.answer.span == (0, 0) and "so it is not learned" in caplog.text


def test_lines_of_predict(tokenizers):
    task = Answering(files=NOWHERE)
    question = task.unlabeled("who ?\tthe cat\tand", "line 3")
    assert (question.question, question.context) == ("who ?", "the cat\tand")
    with pytest.raises(DataError, match="line 3: found no tab"):
        task.unlabeled("who ?", "line 3")
    stream = stream_of(task, task.unlabeled("who ?\t", "line 4"), WordTokenizer())
    batch = task.collate(stream.examples(0), Random(0), train=False)
    found = task.predictions(stream, batch, torch.zeros(*batch.tokens.shape, 2))
    assert task.rendered(stream, found) == {0: ""}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stride": 0},
            "stride must be between 1 and length - longest_question - 4 = 316: found 0",
        ),
        ({"stride": 317}, "found 317"),
        ({"longest_answer": 0}, "longest_answer must be at least 1: found 0"),
        ({"longest_question": 0}, "longest_question must be at least 1: found 0"),
        ({"unanswerable": True}, "unanswerable needs rules squad2: squad1 cannot score"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        Answering(files=NOWHERE, **changes)


def test_a_recipe_names_it():
    task = Answering(files=NOWHERE)
    run = Run(
        data="d", folder="f", objectives={"qa": dataclasses.replace(task, length=100, stride=30)},
        model=CONFIG,
    )  # fmt: skip
    assert run.objectives["qa"].length == 100


@pytest.mark.parametrize("language", ["en", "hi", "zh", "ar"])
def test_the_gold_spans_of_xquad_score_100(language, shared, tokenizers):
    path = shared / f"data/qa/xquad/xquad.{language}.json"
    if not path.exists():
        pytest.skip("needs XQuAD")
    task = Answering(files=Files(train={language: str(path)}), limit=150, longest_answer=400)
    stream = task.streams("qa", Corpora(tokenizers["ours"], [language]), seed=0)[0]
    predictions = {}
    for row, item in enumerate(stream.items):
        passage = item.answer
        shift = passage.offset - passage.window.first
        held = passage.span != (0, 0)
        cells = [cell - shift for cell in passage.span] if held else [-1, -1]
        predictions[row] = [float(held), *cells, 0.0]
    figures = task.grouped_figures(stream, predictions)
    assert figures["questions"] == 150 and figures["exact"] == figures["f1"] == 1.0
