"""Names of languages and of pairs: one parser, one refusal, whatever hyphens the names hold."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xlm.errors import ConfigError
from xlm.languages import LanguagePair, Languages, is_language_name, match_languages, nearest

NAMES = st.lists(
    st.text("abzHR", min_size=1, max_size=3), min_size=1, max_size=3
).map("-".join)  # fmt: skip
MANY = st.lists(NAMES, min_size=2, max_size=6, unique=True)
HYPHENATED = Languages(["en", "zh-Hans", "zh-Hant", "pt-BR"])


@pytest.mark.parametrize(
    "name, first, second",
    [
        ("en-zh-Hans", "en", "zh-Hans"),
        ("zh-Hans-en", "zh-Hans", "en"),
        ("zh-Hans-pt-BR", "zh-Hans", "pt-BR"),
        ("zh-Hans-zh-Hant", "zh-Hans", "zh-Hant"),
        ("en-en", "en", "en"),
    ],
)
def test_a_pair_is_read_by_the_known_languages(name: str, first: str, second: str) -> None:
    pair = HYPHENATED.pair(name)
    assert pair == LanguagePair(first, second) and [*pair] == [first, second]
    assert str(pair) == name and str(pair.reversed) == f"{second}-{first}"
    assert HYPHENATED.is_pair(name)


@pytest.mark.parametrize("name", ["en", "zh-Hans", "Hans-zh", "en-", "-en", "en-zh", "en--en", ""])
def test_what_is_no_pair_is_refused(name: str) -> None:
    assert not HYPHENATED.is_pair(name)
    with pytest.raises(
        ConfigError, match="is not a pair of known languages .en, pt-BR, zh-Hans, zh-H"
    ):
        HYPHENATED.pair(name)


@given(MANY)
def test_every_pair_of_any_languages_is_read_or_refused(names: list[str]) -> None:
    """No pair is ever taken for another one: it is the one that was meant, or an error."""
    try:
        languages = Languages(names)
    except ConfigError as error:
        assert "has the same name as the pair of" in str(error)
        assert any({*pair} <= {*names} for name in names for pair in LanguagePair.readings(name))
        return
    for meant in (LanguagePair(first, second) for first in names for second in names):
        assert languages.is_pair(str(meant)) and str(meant) not in languages
        readings = [p for p in LanguagePair.readings(str(meant)) if {*p} <= {*names}]
        if len(readings) == 1:
            assert languages.pair(str(meant)) == meant
        else:
            with pytest.raises(ConfigError, match="can be read as the pair of"):
                languages.pair(str(meant))


@given(NAMES, NAMES)
def test_the_readings_of_a_name_hold_the_pair_that_it_was_made_of(first: str, second: str) -> None:
    pair = LanguagePair(first, second)
    readings = LanguagePair.readings(str(pair))
    assert pair in readings and {str(one) for one in readings} == {str(pair)}
    assert pair.reversed.reversed == pair


def test_two_pairs_of_one_name_are_refused() -> None:
    languages = Languages(["a", "a-b", "b-c", "c"])
    with pytest.raises(
        ConfigError, match="a-b-c can be read as the pair of a and b-c or as that of a-b and c"
    ):
        languages.pair("a-b-c")
    assert languages.pair("c-a-b") == LanguagePair("c", "a-b")


@given(MANY)
def test_ids_are_those_given_or_the_ranks_of_the_names(names: list[str]) -> None:
    assume(not any({*p} <= {*names} for name in names for p in LanguagePair.readings(name)))
    numbered = Languages([*names, *names])
    assert [*numbered] == sorted(names) and [*numbered.values()] == [*range(len(names))]
    backwards = {name: 7 * place for place, name in enumerate(reversed(names))}
    given_ids = Languages(backwards)
    assert given_ids == backwards and [*given_ids] == [*backwards]  # ids and order are kept
    assert Languages(given_ids) == given_ids and f"{given_ids}" == f"{backwards}"


@pytest.mark.parametrize("name", ["", "a/b", "..", "zh.Hans", "-en", "en-", "-"])
def test_what_no_language_is_called(name: str) -> None:
    assert not is_language_name(name)
    with pytest.raises(ConfigError, match="a language cannot be called .*: expected a name such"):
        Languages([name, "fr"])


def test_ids_and_names_that_clash() -> None:
    with pytest.raises(ConfigError, match="two languages share an id"):
        Languages({"en": 0, "ne": 0})
    with pytest.raises(
        ConfigError, match="en-hi has the same name as the pair of en and hi, .* en_hi"
    ):
        Languages(["en", "en-hi", "hi"])


def test_the_one_refusal_says_what_is_known_and_what_was_meant() -> None:
    known = {"hi": 2, "en": 0, "zh-Hans": 1}
    assert match_languages(known, ["zh-Hans", "hi"], otherwise="x") == {"zh-Hans": 1, "hi": 2}
    with pytest.raises(ConfigError) as caught:
        match_languages(known, ["hi", "zh_hans", "sw"], where="runs/x", otherwise="leave it out")
    assert str(caught.value) == (
        "runs/x does not know the languages zh_hans, sw: it knows hi, en, zh-Hans; did you mean "
        "zh-Hans for zh_hans? Otherwise leave it out"
    )
    with pytest.raises(ConfigError) as caught:
        match_languages({}, ["sw"], otherwise="leave it out")
    assert str(caught.value) == (
        "the model does not know the language sw: it knows none; leave it out"
    )


@pytest.mark.parametrize(
    "name, expected",
    [("zh_hans", "zh-Hans"), ("ZH-Hant", "zh-Hant"), ("enn", "en"), ("sw", None), ("", None)],
)
def test_the_nearest_spelling(name: str, expected: str | None) -> None:
    assert nearest(name, HYPHENATED) == expected
