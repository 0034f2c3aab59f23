"""What tasks share: files by split and language, few examples, sampling, cutting."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks import toys
from xlm.data.mixture import Mixture
from xlm.data.sampling import Sampling
from xlm.errors import ConfigError, DataError
from xlm.tasks.classification import Classification
from xlm.tasks.task import Files, cut, encode
from xlm.text.tokenizers.language_tokens import LanguageTokens


@pytest.fixture
def files(tmp_path):
    """Files of en (40 rows), ne (12) and hi (7); every sentence is another one."""

    def write(name, num, seed):
        texts = toys.words(num, seed, longest=30)
        return toys.write(tmp_path / name, [("ab"[at % 2], text) for at, text in enumerate(texts)])

    return Files(
        train={"en": write("t.en", 40, 0), "ne": write("t.ne", 12, 1)},
        valid={"ne": write("v.ne", 9, 2), "hi": write("v.hi", 7, 3)},
    )


@pytest.fixture
def task(files):
    return Classification(files=files, labels=["a", "b"], rows=4)


def made(*languages):
    return toys.corpora(languages or ("en", "hi", "ne"))


def texts(stream):
    """Which rows of the file a stream has, and what they say."""
    return {row.example: tuple(row.wrapped.tokens.tolist()) for row in stream.items}


def test_each_split_has_the_languages_that_it_names(task):
    found = task.streams("nli", made(), seed=0)
    assert [(s.id, s.num_rows, s.shuffle) for s in found] == [
        ("nli/en", 40, True), ("nli/ne", 12, True)
    ]  # fmt: skip
    held_out = task.streams("nli", made(), seed=0, split="valid")
    assert [(s.id, s.num_rows, s.shuffle) for s in held_out] == [
        ("nli/ne", 9, False), ("nli/hi", 7, False)
    ]  # fmt: skip
    assert task.streams("nli", made(), seed=0, split="test") == []
    assert [s.language_ids for s in held_out] == [(2, 2), (1, 1)]


@pytest.mark.parametrize("settings", [{"limit": 5}, {"few_shot": {"ne": 5}}])
def test_few_examples_are_drawn_by_the_seed_alone(task, settings):
    few = replace(task, **settings)
    whole = {s.name: texts(s) for s in task.streams("t", made(), seed=0)}

    def drawn(seed, corpora, **changes):
        streams = replace(few, **changes).streams("t", corpora, seed=seed)
        return {s.name: texts(s) for s in streams}

    kept = made()
    first = drawn(0, kept)
    sizes = {"en": 5, "ne": 5} if "limit" in settings else {"en": 40, "ne": 5}
    assert {name: len(own) for name, own in first.items()} == sizes
    for name, own in first.items():
        assert own.items() <= whole[name].items()
    assert list(first["ne"]) == sorted(first["ne"]), "in the order of the file"
    assert drawn(0, kept) == drawn(0, made()) == first
    # what else a run may set, such as a cell of a grid, draws the same examples
    assert drawn(0, kept, rows=2, weight=0.5, sampling=Sampling(alpha=0.3)) == first
    others = [drawn(seed, kept) for seed in range(1, 6)]
    assert len({tuple(own["ne"]) for own in others}) > 1 and drawn(0, kept) == first
    counts = Counter(at for seed in range(60) for at in drawn(seed, kept)["ne"])
    assert len(counts) == 12 and max(counts.values()) < 45, "every example has its chance"
    held_out = few.streams("t", kept, seed=3, split="valid")
    assert [s.num_rows for s in held_out] == [9, 7]


def test_rows_are_made_once_for_all_settings_that_do_not_change_them(task):
    kept = made()
    first = task.streams("t", kept, seed=0)[0].items
    assert replace(task, rows=9).streams("t", kept, seed=1)[0].items is first
    assert task.streams("t", kept.renumbered({"en": 8, "hi": 1, "ne": 0}), seed=0)[0].items is first
    assert replace(task, length=9).streams("t", kept, seed=0)[0].items is not first
    assert replace(task, labels=["b", "a"]).streams("t", kept, seed=0)[0].items is not first
    assert replace(task, limit=3).streams("t", kept, seed=0)[0].items is not first


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({}, [40 / 52, 12 / 52]),
        ({"few_shot": {"ne": 10}}, [40 / 50, 10 / 50]),
        ({"few_shot": {"ne": 10}, "upsampled_to": 40}, [0.5, 0.5]),
        ({"few_shot": {"ne": 10}, "upsampled_to": 120}, [0.25, 0.75]),
        ({"sampling": Sampling(alpha=0.5)}, [40**0.5 / (40**0.5 + 12**0.5)] * 1),
        ({"sampling": Sampling(rule="uniform")}, [0.5, 0.5]),
    ],
)
def test_how_often_each_language_is_drawn(task, settings, shares):
    task = replace(task, **settings)
    mixture = Mixture(
        {"t": task.streams("t", made(), seed=0)}, {"t": task.sampling}, {"t": 1.0}, group_size=1
    )
    found = mixture.probabilities("t").tolist()
    assert found[: len(shares)] == pytest.approx(shares) and sum(found) == pytest.approx(1)


def test_a_language_that_the_model_does_not_know_needs_a_stand_in(task):
    few = made("en", "ne")
    with pytest.raises(ConfigError, match="t/hi: the model does not know the language hi"):
        task.streams("t", few, seed=0, split="valid")
    found = replace(task, stand_in={"hi": "en"}).streams("t", few, seed=0, split="valid")
    assert [(s.name, s.languages, s.language_ids) for s in found] == [
        ("ne", ("ne", "ne"), (1, 1)), ("hi", ("en", "en"), (0, 0))
    ]  # fmt: skip
    (batch, *_) = toys.batches(replace(task, files=Files(train={"ne": task.files.train["ne"]}),
                                       stand_in={"ne": "en"}), few, "train")  # fmt: skip
    assert not batch.langs.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 0}, "rows must be at least 1: found 0"),
        ({"length": 0}, "length must be at least 1: found 0"),
        ({"num_lengths": 0}, "num_lengths must be at least 1"),
        ({"limit": -1}, "limit must be at least 0: found -1"),
        ({"upsampled_to": -1}, "upsampled_to must be at least 0: found -1"),
        ({"upsampled_to": 9}, "upsampled_to is 9, but few_shot is empty"),
        ({"few_shot": {"ne": 0}}, "few_shot.ne must be at least 1: found 0"),
        ({"few_shot": {"hi": 3}}, "few_shot names hi: files.train has en, ne"),
        ({"files": Files()}, "Classification: files.train is empty"),
    ],
)
def test_settings_that_cannot_be(task, settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(task, **settings)


def test_more_few_shot_examples_than_there_are(task):
    with pytest.raises(DataError, match=r"few_shot.ne is 13, .*t.ne has 12 examples: lower it"):
        replace(task, few_shot={"ne": 13}).streams("t", made(), seed=0)
    assert replace(task, limit=13).streams("t", made(), seed=0)[1].num_rows == 12


# Cutting.


def by_bert(first, second, room):
    """As google-research/bert says it: the longer one loses its last token, else the second."""
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return [first, second]


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 44))
def test_pairs_are_cut_as_bert_cuts_them(one, other, room):
    sides = [np.arange(one), np.arange(100, 100 + other)]
    found = [side.tolist() for side in cut(sides, room)]
    assert found == by_bert(*(side.tolist() for side in sides), room)


def test_a_sentence_is_cut_at_its_end():
    assert cut([np.arange(5)], 3)[0].tolist() == [0, 1, 2]
    assert cut([np.arange(2)], 3)[0].tolist() == [0, 1]
    assert cut([np.arange(2)], 0)[0].tolist() == []


def test_text_is_normalized_before_it_is_encoded():
    tokenizer = toys.Spelled()
    assert encode(tokenizer, "a\u0000b\tc").tolist() == tokenizer.encode("ab c")
    assert encode(tokenizer, "").tolist() == [] and encode(tokenizer, "").dtype == np.int64


@pytest.mark.parametrize(
    ("wanted", "stand_in", "expected"),
    [
        ("own", {}, {"ne": "ne", "hi": "hi"}),
        ("own", {"hi": "ne"}, {"ne": "ne", "hi": "ne"}),
        ("en", {}, {"ne": "en", "hi": "en"}),
        (None, {}, {"ne": None, "hi": None}),
    ],
)
def test_a_language_token_stands_in_the_begin_symbols_cell(task, wanted, stand_in, expected):
    tokenizer = LanguageTokens(toys.Spelled(), ["en", "hi", "ne"])
    corpora = toys.corpora(["en", "hi", "ne"], tokenizer)
    own = replace(task, language_token=wanted, stand_in=stand_in)
    plain = {s.name: s for s in task.streams("nli", corpora, seed=0, split="valid")}
    for stream in own.streams("nli", corpora, seed=0, split="valid"):
        language = expected[stream.name]
        first = tokenizer.end_id if language is None else tokenizer.language_tokens[language]
        for row, without in zip(stream.items, plain[stream.name].items, strict=True):
            tokens, expected_tokens = row.wrapped.tokens, without.wrapped.tokens
            assert tokens[0] == first
            assert tokens[1:].tolist() == expected_tokens[1:].tolist()
            assert row.wrapped.positions.tolist() == without.wrapped.positions.tolist()
    (asked,) = own.read_rows(own.unlabeled("abc", "line 1"), 0, tokenizer, "hi")
    language = expected["hi"]
    first = tokenizer.end_id if language is None else tokenizer.language_tokens[language]
    assert asked.wrapped.tokens[0] == first  # as xlm predict reads a line


def test_a_language_without_a_token_is_refused(task):
    tokenizer = LanguageTokens(toys.Spelled(), ["en", "ne"])
    corpora = toys.corpora(["en", "hi", "ne"], tokenizer)
    own = replace(task, language_token="own")
    with pytest.raises(ConfigError, match="no token for hi: it has en, ne; leave it out"):
        own.streams("nli", corpora, seed=0, split="valid")
    with pytest.raises(ConfigError, match="no token for en: it has none"):
        replace(task, language_token="en").streams("nli", made(), seed=0)
