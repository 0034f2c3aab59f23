"""What fine-tuned models say: the right answer to every line, in its place, whatever the batch."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xlm
from tests import tuned
from tests.interchange import peers
from xlm.__main__ import run
from xlm.errors import ConfigError, DataError
from xlm.interchange.finetuned import with_task
from xlm.model.pretrained import PretrainedModel
from xlm.predict import Predict, Predictor, load_task, predict
from xlm.text.normalize import normalize

SENTENCES = [line[: 10 + 7 * (at % 9)] for at, line in enumerate(peers.lines()[:24])]
"""Of many lengths."""


def predictor(name: str, **options: Any) -> Predictor:
    shape = options.pop("shape", "xlm")
    return Predictor(with_task(tuned.tuned(name, shape=shape, strength=3.0), "here"), **options)


def asked(name: str) -> list[str]:
    """Lines as the task of that name takes them, an empty one among them."""
    if name in ("nli", "likeness", "pages"):
        lines = [f"{a}\t{b}" for a, b in zip(SENTENCES, SENTENCES[5:], strict=False)]
    elif name == "quiz":
        lines = [f"{a[:20]}\t{b} {c}" for a, b, c in zip(SENTENCES, SENTENCES[3:], SENTENCES[9:])]  # noqa: B905
    else:
        lines = [*SENTENCES, " ".join(SENTENCES[:4])]
    return [*lines[:4], "", *lines[4:], " \u2028 "]


@pytest.mark.parametrize("name", tuned.TASKS)
def test_every_line_is_answered_in_its_place(name: str) -> None:
    """Alone, in batches of like length, in windows of any size: always the same."""
    made = predictor(name)
    lines = asked(name)
    together = made.predict(lines, "en")
    assert len(together) == len(lines) and together[4] == together[-1] == ""
    assert all("\n" not in answer for answer in together)
    if name != "quiz":
        assert all(answer for answer, line in zip(together, lines, strict=True) if normalize(line))
    assert len(set(together)) > 2, "all lines get one answer: order cannot be seen"
    alone = [made.predict([line], "en")[0] for line in lines]
    assert same(alone, together)
    for window, rows in ((1, 1), (3, 2), (5, 40)):
        other = predictor(name, rows=rows)
        placed = [(line, str(at)) for at, line in enumerate(lines)]
        assert same(list(other.stream(placed, "en", window=window)), together)


def same(found: list[str], expected: list[str]) -> bool:
    """Numbers up to rounding: rows of a batch are not added up in one order."""
    for one, other in zip(found, expected, strict=True):
        try:
            if one and abs(float(one) - float(other)) > 1e-4:
                return False
        except ValueError:
            if one != other:
                return False
    return True


def hidden(model: PretrainedModel, line: str, language: str) -> torch.Tensor:
    """The states ``[T, D]`` of a sentence or pair by itself."""
    first, tab, second = line.partition("\t")
    batch = model.batch([first], language, [second] if tab else None)
    with torch.no_grad():
        return model.encode(batch)[0]


@pytest.mark.parametrize("name", ["topic", "nli", "likeness", "pages"])
def test_answers_are_what_the_weights_say(name: str) -> None:
    """By hand: one linear layer on the first state of each line alone."""
    model = tuned.tuned(name, strength=3.0)
    made = Predictor(with_task(model, "here"))
    lines = [line for line in asked(name) if normalize(line)]
    weight, bias = (model.heads[f"heads.{name}.output.{part}"] for part in ("weight", "bias"))
    scores = torch.stack([hidden(model, line, "hi")[0] @ weight.T + bias for line in lines])
    found = made.predict(lines, "hi")
    if name == "likeness":
        assert [float(value) for value in found] == pytest.approx(scores[:, 0].tolist(), abs=1e-4)
        return
    shares = scores.softmax(-1)
    task = tuned.TASKS[name]
    labels = task.labels  # type: ignore[attr-defined]
    if name == "pages":
        expected = shares @ torch.tensor([float(label) for label in labels])
        assert [float(value) for value in found] == pytest.approx(expected.tolist(), abs=1e-4)
    else:
        assert found == [labels[at] for at in scores.argmax(-1).tolist()]
    for own, row in zip(made.scores(lines, "hi"), shares.tolist(), strict=True):
        assert list(own) == labels and list(own.values()) == pytest.approx(row, abs=1e-5)
    assert made.scores(["", lines[0]], "hi")[0] == {}
    shown = list(made.stream([(lines[0], "1")], "hi", scores=True))[0].split("\t")
    assert shown[0] == found[0]
    assert shown[1:] == [f"{k}={v:.4f}" for k, v in zip(labels, shares[0].tolist(), strict=True)]


def test_languages_change_the_answer() -> None:
    made = predictor("likeness")
    assert made.predict(["a\tb"], "en") != made.predict(["a\tb"], "hi")


def test_tags_are_what_the_weights_say() -> None:
    """By hand, on sentences that fit in a row; longer ones have a tag for each word."""
    task = replace(tuned.TASKS["names"], spans=False)
    model = tuned.tuned(tasks={"names": task})
    made = Predictor(with_task(model, "here"))
    weight, bias = (model.heads[f"heads.names.output.{part}"] for part in ("weight", "bias"))
    for line in ("water is warm", "a b", "small"):
        pieces = [model.tokenizer.encode(word) for word in line.split()]
        firsts = 1 + np.cumsum([0, *map(len, pieces[:-1])])
        flat = np.array([one for own in pieces for one in own])
        tokens = torch.from_numpy(model.tokenizer.wrap(flat).tokens)[None]
        lengths = torch.tensor([tokens.shape[1]])
        with torch.no_grad():
            states = model.transformer.encode(tokens, lengths, langs=torch.zeros_like(tokens))
        expected = (states[0, firsts] @ weight.T + bias).argmax(-1).tolist()
        assert made.predict([line], "en") == [" ".join(tuned.TAGS[at] for at in expected)]
    long = " ".join(SENTENCES)
    assert len(made.predict([long], "en")[0].split()) == len(long.split()) > 60


def test_trees_have_one_root_and_no_circle() -> None:
    for answer in predictor("trees").predict(SENTENCES, "en"):
        heads = [int(word.partition(":")[0]) for word in answer.split()]
        assert heads.count(0) == 1
        for word in range(1, len(heads) + 1):
            for _ in heads:
                word = heads[word - 1] if word else 0
            assert word == 0


def test_an_answer_is_the_best_span_of_the_paragraph() -> None:
    """By hand: the pieces of a paragraph of one window, every span of them."""
    model = tuned.tuned("quiz")
    made = Predictor(with_task(model, "here"))
    weight, bias = (model.heads[f"heads.quiz.output.{part}"] for part in ("weight", "bias"))
    for context in ("water is warm", "a small house stands there"):
        states = hidden(model, f"what?\t{context}", "en")
        pieces = model.tokenizer.encode(context)
        scores = (states @ weight.T + bias)[len(states) - 1 - len(pieces) : -1]
        spans = itertools.combinations_with_replacement(range(len(pieces)), 2)
        first, last = max(spans, key=lambda span: float(scores[span[0], 0] + scores[span[1], 1]))
        expected = model.tokenizer.decode(pieces[first : last + 1])
        assert made.predict([f"what?\t{context}"], "en") == [expected]


def test_a_question_on_nothing_is_answered_by_nothing() -> None:
    assert predictor("quiz").predict(["what?\t", "what?\t   "], "en") == ["", ""]


@pytest.mark.parametrize("shape", ["xlm-roberta", "bert"])
def test_models_without_languages_need_none(shape: str) -> None:
    made = predictor("topic", shape=shape)
    expected = made.predict(SENTENCES[:5])
    assert made.predict(SENTENCES[:5], "sw") == expected
    assert all(answer in tuned.LABELS for answer in expected)


def test_languages_that_a_model_does_not_know() -> None:
    made = predictor("topic")
    with pytest.raises(ConfigError, match="distinguishes languages: name one of en, hi, ne"):
        made.predict(["a"])
    with pytest.raises(ConfigError, match="does not know the language sw"):
        made.predict(["a"], "sw")
    task = replace(tuned.TASKS["topic"], stand_in={"sw": "hi"})
    model = tuned.tuned(tasks={"topic": task})
    replaced = Predictor(with_task(model, "here"))
    assert replaced.scores(SENTENCES[:5], "sw") == replaced.scores(SENTENCES[:5], "hi")
    assert replaced.scores(SENTENCES[:5], "sw") != replaced.scores(SENTENCES[:5], "en")


def test_a_model_of_transformers_predicts(tmp_path: Path) -> None:
    """As a classifier of the hub does: its own labels and its own tokenizer's pairs."""
    transformers = pytest.importorskip("transformers")
    from xlm.convert import Export, export_model

    task = tuned.with_readout("nli", kind="tanh")
    model = tuned.tuned(shape="bert", tasks={"nli": task}, strength=3.0)
    model.save_pretrained(tmp_path / "ours")
    export_model(Export(source=str(tmp_path / "ours"), folder=str(tmp_path / "theirs"),
                        format="bert", parity=False))  # fmt: skip
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    lines = [line for line in asked("nli") if normalize(line)]
    expected = []
    for line in lines:
        inputs = tokenizer(*line.split("\t"), return_tensors="pt")
        with torch.no_grad():
            expected.append(peer.eval()(**inputs).logits.softmax(-1)[0].tolist())
    assert float(np.ptp(expected, axis=0).max()) > 0.1, "all lines get one answer"
    for source in (tmp_path / "theirs", tmp_path / "ours"):
        made = load_task(source)
        found = made.scores(lines)
        assert np.allclose([list(row.values()) for row in found], expected, atol=1e-5)
        labels = [tuned.LABELS[row.index(max(row))] for row in expected]
        assert made.predict(lines) == labels
    made = load_task(tmp_path / "theirs")
    assert len(made.predict(["one sentence", "a\tpair"])) == 2, "it does not say what it learnt"


LINES = {
    (
        "nli",
        "one",
    ): "line 2: found 'one', expected two sentences separated by a tab, as in training",
    (
        "topic",
        "a\tb",
    ): r"line 2: found 'a\\tb', expected one sentence without a tab, as in .*",
    ("nli", "a\tb\tc"): "line 2: found 2 tabs, expected a sentence or a pair",
    ("quiz", "what?"): "line 2: found no tab, expected a question, a tab and a paragraph",
}
FIRST = {"nli": "a\tb", "topic": "a", "quiz": "a\tb"}


@pytest.mark.parametrize("name, line", LINES)
def test_lines_that_are_no_examples_are_named(name: str, line: str) -> None:
    with pytest.raises(DataError, match=f"^{LINES[name, line]}$"):
        predictor(name).predict([FIRST[name], line], "en")


def test_rows_longer_than_the_positions() -> None:
    task = replace(tuned.TASKS["topic"], length=100)
    made = Predictor(with_task(tuned.tuned(tasks={"topic": task}), "here"))
    with pytest.raises(
        DataError, match="^line 2: the task turns it into a row of more than 64 tokens"
    ):
        made.predict(["short", " ".join(SENTENCES)], "en")


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match="names is Tagging, which has no classes of a whole line"):
        predictor("names").scores(["a"], "en")
    with pytest.raises(ConfigError, match="found one text, expected a list of lines"):
        predictor("topic").predict("a", "en")  # type: ignore[arg-type]
    for fields in ({"window": 0}, {"rows": -1}):
        with pytest.raises(ConfigError, match="expected [01] or more"):
            Predict(model="m", **fields)  # type: ignore[arg-type]


def test_at_most_a_window_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    made = predictor("topic")
    num_read = 0

    def lines() -> Iterator[tuple[str, str]]:
        nonlocal num_read
        while True:
            num_read += 1
            yield "water", f"line {num_read}"

    answers = made.stream(lines(), "en", window=7)
    for num in range(1, 22):
        next(answers)
        assert num_read == -(-num // 7) * 7
    monkeypatch.setattr("xlm.predict.WINDOW_TOKENS", 10)
    num_read = 0
    next(made.stream(lines(), "en"))
    assert num_read == -(-10 // len(made.model.batch(["water"], "en").tokens[0]))


def test_nothing_of_a_line_is_left_in_the_model() -> None:
    """The same answer again, the hooks gone, the generator of random numbers untouched."""
    made = predictor("topic")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = made.scores(SENTENCES, "en")
    assert torch.equal(torch.rand(1), expected)
    assert made.scores(SENTENCES, "en") == first
    assert not made.head._forward_hooks and not made.head.training


def test_half_precision_is_computed_in_full() -> None:
    model = tuned.tuned("topic")
    expected = Predictor(with_task(model, "here")).predict(SENTENCES, "en")
    model.transformer.bfloat16()
    heads = {name: value.bfloat16() for name, value in model.heads.items()}
    made = Predictor(with_task(replace(model, heads=heads), "here"))
    found = made.predict(SENTENCES, "en")
    assert sum(a == b for a, b in zip(found, expected, strict=True)) > 0.8 * len(expected)
    assert {p.dtype for p in [*made.transformer.parameters(), *made.head.parameters()]} == {
        torch.float32
    }


# The verb.


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    tuned.tuned("topic", "names").save_pretrained(folder)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in asked("topic")), encoding="utf-8")
    return path


def said(capfdbinary: pytest.CaptureFixture[bytes], *arguments: object) -> list[str]:
    capfdbinary.readouterr()
    run("predict", [str(argument) for argument in arguments])
    out, err = capfdbinary.readouterr()
    assert not err
    return out.decode().removesuffix("\n").split("\n")


def fails(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        run("predict", [str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert caught.value.code == 2 and err.startswith("xlm predict: ") and err.count("\n") == 1
    return err


def test_a_file_of_lines(
    saved: Path, file: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    options = (saved, file, "--language=en", "--task=topic")
    expected = xlm.load_task(saved, "topic").predict(asked("topic"), "en")
    assert said(capfdbinary, *options) == expected
    with_scores = said(capfdbinary, *options, "--scores=true", "--rows=3", "--window=5")
    assert [line.split("\t")[0] for line in with_scores] == expected
    packed = tmp_path / "lines.txt.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")))
    assert said(capfdbinary, saved, packed, *options[2:]) == expected
    output = tmp_path / "answers.txt"
    output.write_text("old")
    assert said(capfdbinary, *options, f"--output={output}") == [""]
    assert output.read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.txt", "lines.txt", "lines.txt.gz"
    ]  # fmt: skip


def test_standard_input(
    saved: Path, file: Path, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    expected = said(capfdbinary, saved, file, "--language=en", "--task=names")
    for content in (
        file.read_bytes(),
        b"\xef\xbb\xbf" + file.read_bytes(),
        file.read_bytes().rstrip(b"\n"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert said(capfdbinary, saved, "--language=en", "--task=names") == expected


def test_a_terminal_is_answered_line_by_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    source = io.BytesIO(b"water\nhouse\ntree\n")
    monkeypatch.setattr(sys, "stdin", Terminal(source))
    answers = predict(Predict(model=str(saved), task="topic", language="en"))
    assert next(answers) in tuned.LABELS
    assert source.tell() == len(b"water\n")


def test_mistakes_are_one_line(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good\nb\xffd\n")
    (tmp_path / "long.txt").write_bytes(b"good\n" + b"a" * (1 << 20) + b"b\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    ok = ("--language=en", "--task=topic")
    assert "bad.txt:2: the line is invalid UTF-8: fix it" in fails(
        capfd, saved, tmp_path / "bad.txt", *ok
    )
    assert "long.txt:2: the line is too long" in fails(capfd, saved, tmp_path / "long.txt", *ok)
    assert "empty.txt is empty" in fails(capfd, saved, tmp_path / "empty.txt", *ok)
    assert "none.txt does not exist" in fails(capfd, saved, tmp_path / "none.txt", *ok)
    assert "is a directory" in fails(capfd, saved, tmp_path, *ok)
    assert "choose one by task" in fails(capfd, saved, tmp_path / "bad.txt")
    assert "model missing: give it" in fails(capfd)
    if not torch.cuda.is_available():
        assert "device is cuda" in fails(capfd, saved, "--device=cuda", *ok)
    for name, expected in (
        ("bad.txt", "stdin:2: the line is invalid UTF-8: fix it, or give --invalid empty"),
        ("long.txt", "stdin:2: the line is too long (more than 1,048,576 bytes)"),
        ("empty.txt", "standard input is empty"),
    ):
        content = io.BytesIO((tmp_path / name).read_bytes())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
        assert expected in fails(capfd, saved, *ok)
    output = tmp_path / "new" / "answers"
    good = tmp_path / "good.txt"
    good.write_text("water\n")
    itself = fails(capfd, saved, good, *ok, "--output", good)
    assert f"output {good} is also the input" in itself
    unwritten = fails(capfd, saved, good, *ok, "--output", output)
    assert f"output {output}: the folder " in unwritten
    old = tmp_path / "old"
    old.write_text("kept")
    fails(capfd, saved, tmp_path / "bad.txt", *ok, "--output", old, "--window=1")
    assert old.read_text() == "kept" and not list(tmp_path.glob(".*"))


def test_a_reader_that_has_seen_enough(saved: Path, tmp_path: Path, root: Path) -> None:
    """As with | head: no traceback, no complaint."""
    path = tmp_path / "many.txt"
    path.write_text("water\n" * 30_000)
    command = [sys.executable, "-m", "xlm.predict", str(saved), str(path), "--task=topic"]
    done = subprocess.Popen(
        [*command, "--language=en", "--window=16"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)}, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout is not None and done.stderr is not None
    assert done.stdout.readline().decode().rstrip("\n") in tuned.LABELS
    done.stdout.close()
    assert done.stderr.read() == b"" and done.wait(60) == 0
