"""Overlap of vocabularies by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.analysis.models import lines, tokenizer
from xlm.analysis.overlap import count_pieces, cutting, has_letter, overlap, overlaps
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer


def test_by_hand() -> None:
    own = overlap(Counter({1: 5, 2: 1}), Counter({2: 6, 3: 1, 4: 3}))
    assert own["p_type"].value == pytest.approx(100 / 3)
    assert own["p_token"].value == pytest.approx(60)
    part = overlap(Counter({1: 5, 2: 1}), Counter({2: 6, 3: 1, 4: 3}), lambda piece: piece != 4)
    assert part["p_type"].value == 50 and part["p_token"].num == 7


def test_a_text_with_itself_and_with_another() -> None:
    own = Counter({1: 3, 2: 4})
    assert [e.value for e in overlap(own, own).values()] == [100, 100]
    assert [e.value for e in overlap(own, Counter({3: 1})).values()] == [0, 0]
    assert overlap(own, Counter())["p_type"].reason == "no piece in the test text"


def test_every_ordered_pair_of_languages() -> None:
    names = ("en", "hi", "ne")
    train = {name: lines(name, 300, "train") for name in names}
    test = {name: lines(name, 100) for name in names}
    found = overlaps(tokenizer(), train, test)
    assert set(found) == {(a, b) for a in names for b in names}
    for own in found.values():
        assert own["p_token"].value >= own["p_type"].value
    # without digits and punctuation English and Hindi share next to nothing
    assert found["en", "hi"]["p_token of letters"].value < found["en", "hi"]["p_token"].value
    assert found["hi", "ne"]["p_type"].value > found["en", "ne"]["p_type"].value


def test_what_a_vocabulary_does_not_know_is_not_shared() -> None:
    own = learn_fastbpe_tokenizer(lines("en", 24) * 3, 300)
    train, test = {"zh": ["天 地 人"]}, {"hi": ["अ आ"], "en": ["the water 天"]}
    assert own.unk_id in own.encode("天") and own.unk_id in own.encode("अ आ")
    found = overlaps(own, train, test)
    assert found["zh", "hi"]["p_token"].reason == "no piece in the test text"
    for measure in ("p_type", "p_token", "p_type of letters", "p_token of letters"):
        assert found["zh", "en"][measure].value == 0


def test_marks_of_devanagari_are_letters() -> None:
    assert has_letter("a1") and has_letter("\u093f") and not has_letter("\u258112,")
    assert not has_letter("<0xE4>") and has_letter("<0xe4")


def test_how_a_vocabulary_cuts() -> None:
    text = lines("en", 20)
    own = count_pieces(tokenizer(), text)
    assert own.num_tokens == sum(len(tokenizer().encode(line)) for line in text)
    fertility = cutting(tokenizer(), text)["fertility"]
    assert fertility.value == pytest.approx(own.num_tokens / sum(len(t.split()) for t in text))
    assert cutting(tokenizer(), text)["unknown rate"].value == 0
    assert cutting(tokenizer(), [])["fertility"].value is None
