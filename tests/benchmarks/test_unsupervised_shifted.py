"""What the measurement of unsupervised translation rests on: exact translations, counts, tables."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.studies import unsupervised_shifted
from benchmarks.support import shifted_sentences
from xlm.errors import ConfigError
from xlm.text.normalize import normalize
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer


def test_the_middle_two_of_so_many_words_change_places() -> None:
    assert shifted_sentences.moved(list("abcdefghijk"), 4) == list("acbdegfhijk")
    assert shifted_sentences.moved(list("abcdefghijkl"), 6) == list("abdcefghjikl")
    for num, every in itertools.product(range(14), (2, 4, 5, 6)):
        words = [str(k) for k in range(num)]
        assert shifted_sentences.moved(shifted_sentences.moved(words, every), every) == words


def test_translations_are_exact_and_survive_normalization() -> None:
    line = "we paid 30 euros , twice , café"
    found = shifted_sentences.translated(line, 4)
    assert normalize(found) == found
    plane = shifted_sentences.shifted.PLANE
    back = "".join(chr(ord(c) - plane) if ord(c) >= plane else c for c in found)
    assert " ".join(shifted_sentences.moved(back.split(" "), 4)) == line
    assert {word for word in found.split(" ") if word.isascii()} == {"30", ","}


def test_sentences_are_clauses_of_common_words() -> None:
    lines = ['"One two three four," one two.', "one two three four!", "5m one two three one two 6"]
    assert shifted_sentences.clauses(lines) == [
        ("one", "two", "three", "four"),
        ("one", "two"),
        ("m", "one", "two", "three", "one", "two"),
    ]
    assert shifted_sentences.WORD.findall("5m") == ["5", "m"]
    kept = shifted_sentences.sentences(lines, 2, 4, 4, 0)
    assert sorted(kept) == ["one two", "one two three four"]
    assert shifted_sentences.sentences(lines, 2, 4, 2, 0) == ["one two"]
    lines = ["one 2 three four five six", "one 2 three four 5 six"]
    assert shifted_sentences.sentences(lines, 2, 9, 9, 0) == ["one 2 three four five six"]


def test_shared_tokens_are_those_of_both_sides() -> None:
    lines = ["a b 7", "a b c d"]
    tokenizer = shifted_sentences.shifted.with_twins(learn_fastbpe_tokenizer(lines, 2))
    second = [shifted_sentences.translated(line, 4) for line in lines]
    assert shifted_sentences.shared(tokenizer, lines, second) == pytest.approx(2 / 14)
    assert shifted_sentences.shared(tokenizer, lines, lines) == 1.0


def test_encoder_and_decoder_are_compared_seed_by_seed() -> None:
    def cell(*values: float) -> dict[str, object]:
        mean = {"mean": sum(values) / len(values), "interval": 1.0, "values": list(values)}
        return {
            "figures": {direction: {"bleu": mean} for direction in unsupervised_shifted.DIRECTIONS}
        }

    cells = {"mlm-none": cell(20.0, 24.0), "none-mlm": cell(11.0, 13.0)}
    found = unsupervised_shifted.encoder_above_decoder(cells)["en-xx"]
    assert found["values"] == [9.0, 11.0] and found["mean"] == 10.0 and found["apart"]
    assert unsupervised_shifted.encoder_above_decoder({"mlm-none": cell(20.0)}) == {}


def test_the_nearest_words_are_translations_where_embeddings_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["a", "the", "of", "and"]
    names = words + [unsupervised_shifted.shifted.respelled(word) for word in words]
    half = torch.eye(4)
    for second, expected in ((half, 1.0), (half[[0, 1, 3, 2]], 0.5), (half.roll(1, 0), 0.0)):
        encoder = SimpleNamespace(words=SimpleNamespace(weight=torch.cat([half, second + 3.0])))
        model = SimpleNamespace(
            tokenizer=SimpleNamespace(encode=lambda word: [names.index(word)]),
            transformer=SimpleNamespace(encoder=encoder),
        )
        monkeypatch.setattr(unsupervised_shifted.xlm, "load", lambda _, model=model: model)
        assert unsupervised_shifted.nearest_translations(tmp_path, words) == expected


def test_a_folder_made_otherwise_is_refused(tmp_path: Path) -> None:
    unsupervised_shifted.hold(tmp_path, {"steps": 4, "lr": 0.1})
    unsupervised_shifted.hold(tmp_path, {"steps": 4, "lr": 0.1})
    with pytest.raises(ConfigError, match="steps 4, now 5"):
        unsupervised_shifted.hold(tmp_path, {"steps": 5, "lr": 0.1})
