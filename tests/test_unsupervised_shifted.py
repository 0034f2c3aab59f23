"""What the measurement of unsupervised translation rests on: exact translations, counts, tables."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from xlm.errors import ConfigError
from xlm.text.merges import learn_fastbpe_tokenizer
from xlm.text.normalize import normalize

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module; on leaving it and what it imported beside it are forgotten."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("unsupervised_shifted")
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture(scope="module")
def pairs(script: ModuleType) -> ModuleType:
    """Where its text comes from."""
    return sys.modules["shifted_sentences"]


def test_the_middle_two_of_so_many_words_change_places(pairs: ModuleType) -> None:
    assert pairs.moved(list("abcdefghijk"), 4) == list("acbdegfhijk")
    assert pairs.moved(list("abcdefghijkl"), 6) == list("abdcefghjikl")
    for num, every in itertools.product(range(14), (2, 4, 5, 6)):
        words = [str(k) for k in range(num)]
        assert pairs.moved(pairs.moved(words, every), every) == words


def test_translations_are_exact_and_survive_normalization(pairs: ModuleType) -> None:
    line = "we paid 30 euros , twice , café"
    found = pairs.translated(line, 4)
    assert normalize(found) == found
    plane = pairs.shifted.PLANE
    back = "".join(chr(ord(c) - plane) if ord(c) >= plane else c for c in found)
    assert " ".join(pairs.moved(back.split(" "), 4)) == line
    assert {word for word in found.split(" ") if word.isascii()} == {"30", ","}


def test_sentences_are_clauses_of_common_words(pairs: ModuleType) -> None:
    lines = ['"One two three four," one two.', "one two three four!", "5m one two three one two 6"]
    assert pairs.clauses(lines) == [
        ("one", "two", "three", "four"),
        ("one", "two"),
        ("m", "one", "two", "three", "one", "two"),
    ]
    assert pairs.WORD.findall("5m") == ["5", "m"]
    kept = pairs.sentences(lines, 2, 4, 4, 0)
    assert sorted(kept) == ["one two", "one two three four"]
    assert pairs.sentences(lines, 2, 4, 2, 0) == ["one two"]  # the others hold rarer words
    lines = ["one 2 three four five six", "one 2 three four 5 six"]
    assert pairs.sentences(lines, 2, 9, 9, 0) == ["one 2 three four five six"]


def test_shared_tokens_are_those_of_both_sides(pairs: ModuleType) -> None:
    lines = ["a b 7", "a b c d"]
    tokenizer = pairs.shifted.with_twins(learn_fastbpe_tokenizer(lines, 2))
    second = [pairs.translated(line, 4) for line in lines]
    assert pairs.shared(tokenizer, lines, second) == pytest.approx(2 / 14)
    assert pairs.shared(tokenizer, lines, lines) == 1.0


def test_encoder_and_decoder_are_compared_seed_by_seed(script: ModuleType) -> None:
    def cell(*values: float) -> dict[str, object]:
        mean = {"mean": sum(values) / len(values), "interval": 1.0, "values": list(values)}
        return {"figures": {direction: {"bleu": mean} for direction in script.DIRECTIONS}}

    cells = {"mlm-none": cell(20.0, 24.0), "none-mlm": cell(11.0, 13.0)}
    found = script.encoder_above_decoder(cells)["en-xx"]
    assert found["values"] == [9.0, 11.0] and found["mean"] == 10.0 and found["apart"]
    assert script.encoder_above_decoder({"mlm-none": cell(20.0)}) == {}


def test_the_nearest_words_are_translations_where_embeddings_say_so(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["a", "the", "of", "and"]
    names = words + [script.shifted.respelled(word) for word in words]
    half = torch.eye(4)
    for second, expected in ((half, 1.0), (half[[0, 1, 3, 2]], 0.5), (half.roll(1, 0), 0.0)):
        encoder = SimpleNamespace(words=SimpleNamespace(weight=torch.cat([half, second + 3.0])))
        model = SimpleNamespace(
            tokenizer=SimpleNamespace(encode=lambda word: [names.index(word)]),
            transformer=SimpleNamespace(encoder=encoder),
        )
        monkeypatch.setattr(script.xlm, "load", lambda _, model=model: model)
        assert script.nearest_translations(tmp_path, words) == expected


def test_a_folder_made_otherwise_is_refused(script: ModuleType, tmp_path: Path) -> None:
    script.hold(tmp_path, {"steps": 4, "lr": 0.1})
    script.hold(tmp_path, {"steps": 4, "lr": 0.1})
    with pytest.raises(ConfigError, match="steps 4, now 5"):
        script.hold(tmp_path, {"steps": 5, "lr": 0.1})
