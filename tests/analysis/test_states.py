"""States of sentences and words are those of each alone, whatever the batch and the order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.analysis.models import lines, tiny, tokenizer
from xlm.analysis.states import (
    Reading,
    encode_lines,
    encode_words,
    is_causal,
    piece_states,
    sentence_states,
    table_vectors,
    word_states,
)
from xlm.errors import CheckpointError
from xlm.text.normalize import normalize


def alone(model, line: str, causal: bool = False):
    """The states ``[L + 1, T, D]`` of one line, with its special tokens."""
    batch = model.batch([line], "hi")
    with torch.no_grad():
        states = model.transformer.encode_layers(
            batch.tokens, batch.lengths, batch.positions, batch.langs, causal=causal
        )
    return torch.cat(states).numpy()


@pytest.mark.parametrize("specials", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max", "first"])
def test_a_sentence_is_pooled_alone(pooling, specials) -> None:
    model, text = tiny(), lines("hi")
    reading = Reading(pooling=pooling, specials=specials, tokens=100)
    found = sentence_states(model, text, "hi", reading)
    assert len(found) == 3 and found[0].dtype == np.float32
    for at, line in enumerate(text):
        own = alone(model, line)
        inside = own if specials else own[:, 1:-1]
        expected = {"mean": inside.mean(1), "max": inside.max(1), "first": own[:, 0]}[pooling]
        for layer, values in zip(found, expected, strict=True):
            np.testing.assert_allclose(layer[at], values, atol=1e-5)


def test_order_and_batch_make_no_difference() -> None:
    model, text = tiny(), lines("hi")
    one = sentence_states(model, text, "hi", Reading(tokens=50))
    other = sentence_states(model, text[::-1], "hi", Reading(tokens=5000))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second[::-1], atol=1e-5)


def test_states_may_lie_in_files(tmp_path: Path) -> None:
    model, text = tiny(), lines("hi", 4)
    mapped = sentence_states(model, text, "hi", folder=tmp_path / "states")
    assert len(list((tmp_path / "states").iterdir())) == 3
    for own, layer in zip(mapped, sentence_states(model, text, "hi"), strict=True):
        assert np.array_equal(own, layer) and isinstance(own, np.memmap)


def test_long_lines_are_cut_and_lines_without_text_are_zero() -> None:
    model = tiny(max_positions=64)
    long = " ".join(lines("hi", 12))
    rows, num_cut = encode_lines(model, [long, "", lines("hi")[0]])
    assert num_cut == 1 and len(rows[0]) == 62 and not len(rows[1])
    assert (sentence_states(model, ["", "a"], "en")[1][0] == 0).all()


def test_a_causal_model_is_read_causally() -> None:
    model = replace(tiny(), extra={"objectives": ["CausalLM"]})
    assert is_causal(model) and not is_causal(tiny())
    found = sentence_states(model, lines("hi", 1), "hi")
    expected = alone(model, lines("hi", 1)[0], causal=True)[:, 1:-1].mean(1)
    np.testing.assert_allclose(found[2][0], expected[2], atol=1e-5)


def test_states_that_are_no_numbers_name_their_layer() -> None:
    model = tiny()
    with torch.no_grad():
        model.transformer.encoder.layers[1].feed_forward_norm.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="states of layer 2 are not finite"):
        sentence_states(model, ["a"], "en")


def test_words_have_their_pieces() -> None:
    words = ["The", "", "water\u00a0", "नमस्ते", "(x)"]
    own = encode_words(tokenizer(), words)
    line = " ".join(normalize(word) for word in words if word)
    assert list(own.ids) == tokenizer().encode(line)
    assert set(own.word) == {0, 2, 3, 4} and (np.diff(own.word) >= 0).all()
    for at, word in enumerate(words):
        text = tokenizer().decode([int(i) for i in own.ids[own.word == at]])
        assert text.strip() == normalize(word)
    assert len(encode_words(tokenizer(), ["", " "]).ids) == 0


def test_words_are_means_of_their_pieces_or_the_first() -> None:
    model, words = tiny(), lines("hi", 1)[0].split()
    own = encode_words(model.tokenizer, words)
    (states,) = piece_states(model, [own.ids], "hi")
    np.testing.assert_allclose(states, alone(model, " ".join(words))[:, 1:-1], atol=1e-5)
    means, there = word_states(states, own.word)
    firsts, _ = word_states(states, own.word, "first")
    assert list(there) == list(range(len(words)))
    for at in there:
        places = np.flatnonzero(own.word == at)
        np.testing.assert_allclose(means[:, at], states[:, places].mean(1), atol=1e-6)
        assert np.array_equal(firsts[:, at], states[:, places[0]])


def test_a_words_vector_is_the_mean_of_its_rows_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny()
    unknown = model.tokenizer.encode("\u4e2d")[-1]
    monkeypatch.setattr(model.tokenizer, "unk_id", unknown)
    vectors, usable = table_vectors(model, ["water", "\u4e2d", ""])
    rows = model.transformer.encoder.words.weight.detach().numpy()
    ids = model.tokenizer.encode("water")
    np.testing.assert_allclose(vectors[0], rows[ids].mean(0), atol=1e-6)
    assert usable.tolist() == [True, False, False]
