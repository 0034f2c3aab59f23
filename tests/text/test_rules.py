"""Rules of normalization by language: what they change, and what none of them may lose."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlm import sample
from xlm.errors import ConfigError, DataError
from xlm.text.normalize import normalize
from xlm.text.rules import (
    ANY,
    Rules,
    apply_rules,
    as_json,
    canonical_indic,
    from_json,
    normalize_by,
    rules_of,
    strip_accents,
)

JOINERS = "\u200c\u200d"
KEEPING = {
    "punctuation": Rules(punctuation=True),
    "canonical": Rules(indic="canonical"),
    "lowercase": Rules(lowercase=True),
    "accents": Rules(strip_accents=True),
    "words": Rules(words="indic"),
    "all": Rules(
        punctuation=True, indic="canonical", lowercase=True, strip_accents=True, words="auto"
    ),
}
"""Rules that lose no letter and no sign of Devanagari."""
STABLE = {name: rules for name, rules in KEEPING.items() if rules.words == "none"}


def applied(rules: Rules, text: str, language: str = "ne") -> str:
    return apply_rules(rules, normalize(text), language)


def devanagari(text: str) -> str:
    return "".join(sign for sign in text if "\u0900" <= sign <= "\u097f" and sign != "\u0964")


@pytest.mark.parametrize(
    ("rules", "language", "text", "expected"),
    [
        (Rules(), "en", "  A\u00a0B ", "A B"),
        (Rules(punctuation=True), "en", "“It’s” – so…", '"It\'s" - so...'),
        (Rules(lowercase=True), "tr", "IĞDIR", "iğdir"),
        (Rules(lowercase=True, strip_accents=True), "tr", "İstanbul", "istanbul"),
        (Rules(strip_accents=True), "fr", "Élève, où ?", "Eleve, ou ?"),
        (Rules(strip_accents=True), "vi", "Tiếng Việt", "Tieng Viet"),
        (Rules(strip_accents=True), "ru", "ёлка и край", "елка и краи"),
        (Rules(strip_accents=True), "hi", "हिन्दी में कुछ ज़रूरी", "हिन्दी में कुछ ज़रूरी"),
        (Rules(strip_accents=True), "th", "ที่นี่", "ที่นี่"),
        (Rules(strip_accents=True), "ar", "كَتَبَ", "كَتَبَ"),
        (Rules(strip_accents=True), "ja", "がぎ パ", "がぎ パ"),
        (Rules(strip_accents=True), "ko", "한국어", "한국어"),
        (Rules(words="auto"), "zh-Hans", "我们在学习机器翻译。", "我们 在 学习 机器翻译 。"),
        (Rules(words="auto"), "th", "ฉันรักภาษาไทยมาก", "ฉัน รัก ภาษาไทย มาก"),
        (Rules(words="auto"), "ja", "日本語の文を分ける。", "日本 語 の 文 を 分ける 。"),
        (Rules(words="auto"), "ne", "नेपालमा गर्\u200dयो।", "नेपालमा गर्\u200dयो ।"),
        (Rules(words="auto"), "en", "It is (so).", "It is ( so ) ."),
    ],
)
def test_cases(rules: Rules, language: str, text: str, expected: str) -> None:
    assert applied(rules, text, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("गर्\u200dयो", "गर्\u200dयो"),  # the half form of ra that Nepali writes
        ("क्\u200cष", "क्\u200cष"),  # no ligature
        ("क\u200dख\u200c", "कख"),
        ("क्\u200d\u200dष", "क्\u200dष"),
        ("র\u200d্য", "র\u200d্য"),  # Bengali: a joiner before the virama
        ("फा\u093c", "फ\u093cा"),
        ("ज\u093c\u093c", "ज\u093c"),
        ("नमस्ते | राम |", "नमस्ते । राम ।"),
        ("a|b | c", "a|b | c"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian is no affair of this rule
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_canonical_spelling_of_indic_text(text: str, expected: str) -> None:
    assert canonical_indic(text) == expected


def test_accents_of_european_text_go_as_in_the_original() -> None:
    """The original removes every mark of category Mn; in these scripts ours removes the same."""
    words = "Élève naïve Ångström Tiếng Việt čeština łódź Straße ñandú ёж й Ἑλλάς ὕβρις"
    original = "".join(
        c for c in unicodedata.normalize("NFD", words) if unicodedata.category(c) != "Mn"
    )
    assert strip_accents(words) == unicodedata.normalize("NFC", original)
    damaged = "".join(c for c in "कुछ में" if unicodedata.category(c) != "Mn")
    assert damaged == "कछ म" and strip_accents("कुछ में") == "कुछ में"


TEXT = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("ािीुूेै्ंँ़कखर।|\u200c\u200déèИйΣςİı“”’…")
)


@pytest.mark.parametrize("name", STABLE)
@given(text=TEXT)
def test_applied_twice_changes_nothing(name: str, text: str) -> None:
    once = applied(STABLE[name], text)
    assert normalize(once) == once
    assert apply_rules(STABLE[name], once, "ne") == once


@pytest.mark.parametrize("name", ["punctuation", "lowercase", "accents", "canonical"])
@given(text=st.text(st.sampled_from([chr(code) for code in range(0x900, 0x980)] + list(" a-.,"))))
def test_no_sign_of_devanagari_is_lost(name: str, text: str) -> None:
    found = devanagari(applied(KEEPING[name], text))
    wanted = devanagari(normalize(text))
    if name == "canonical":  # a nukta changes places, two are one
        found, wanted = (own.replace("\u093c", "") for own in (found, wanted))
    assert sorted(found) == sorted(wanted)


def check_lines(lines: list[str], language: str) -> None:
    for name, rules in KEEPING.items():
        for line in lines:
            line = normalize(line)
            found = devanagari(apply_rules(rules, line, language))
            assert sorted(found) == sorted(devanagari(line)), (name, line)


@pytest.mark.parametrize("language", ["ne", "hi"])
def test_devanagari_of_the_sample_survives(language: str) -> None:
    lines = sample.path(f"train.{language}.txt").read_text(encoding="utf-8").splitlines()
    assert any(devanagari(line) for line in lines)
    check_lines(lines, language)


@pytest.mark.parametrize("language", ["ne", "hi"])
def test_devanagari_of_real_lines_survives(language: str, shared: Path) -> None:
    path = shared / "data" / "mono" / language / "train.txt"
    with path.open(encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(5000), strict=False)]
    assert len(lines) == 5000
    check_lines(lines, language)


def test_a_joiner_that_nepali_needs_survives_what_claims_to_keep_it() -> None:
    text = "गर्\u200dयो"
    assert all(text in applied(rules, text) for rules in KEEPING.values())
    assert "\u200d" not in applied(Rules(indic="indic-nlp"), text)  # which does not claim it


# Which rules a text has.


def test_rules_by_language() -> None:
    rules = {"en": Rules(lowercase=True), ANY: Rules(strip_accents=True)}
    assert rules_of(rules, "en") == Rules(lowercase=True)
    assert rules_of(rules, "fr") == Rules(strip_accents=True)
    assert normalize_by(rules, " É ", "fr") == "E" and normalize_by(rules, "É", "en") == "é"
    assert normalize_by({}, " É ", None) == "É"
    assert normalize_by({ANY: Rules(lowercase=True)}, "É", None) == "é"
    with pytest.raises(ConfigError, match=r"normalized by language \(\*, en\): name the language"):
        normalize_by(rules, "É", None)
    with pytest.raises(ConfigError, match="name the language"):
        normalize_by({"en": Rules(lowercase=True)}, "É", None)


def test_rules_as_json() -> None:
    rules = {"en": Rules(lowercase=True, words="moses"), "hi": Rules()}
    assert as_json(rules) == {"en": {"lowercase": True, "words": "moses"}}
    assert from_json(as_json(rules), "x") == {"en": rules["en"]}
    for wrong in ([1], {"en": {"lower": True}}, {"en": {"words": "spaces"}}, "ab"):
        with pytest.raises(DataError, match="x: this version does not know its normalization"):
            from_json(wrong, "x")


@pytest.mark.parametrize(
    ("settings", "language", "module", "expected"),
    [
        ({"punctuation": True}, "xx", "sacremoses", r"sacremoses.*xlm-pretrain\[words\]"),
        ({"words": "moses"}, "xx", "sacremoses", r"words: moses needs .*xlm-pretrain\[words\]"),
        ({"words": "auto"}, "zh", "rjieba", r"rjieba, which is not.*xlm-pretrain\[words\]"),
        ({"words": "auto"}, "th", "pythainlp.tokenize", r"xlm-pretrain\[words\]"),
        ({"words": "auto"}, "ja", "fugashi", r"fugashi.*xlm-pretrain\[words\]"),
        ({"words": "indic"}, "ne", "indicnlp.tokenize.indic_tokenize", r"\[indic\]"),
        ({"indic": "indic-nlp"}, "ne", "indicnlp.normalize.indic_normalize", r"\[indic\]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    settings: dict[str, Any],
    language: str,
    module: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from xlm.text import rules, words

    for cached in (rules.punctuation_normalizer, rules.indic_normalizer, words.word_splitter):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=expected):
        applied(Rules(**settings), "text", language)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="words is 'spaces': expected one of none, auto, moses"):
        Rules(words="spaces")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="indic-nlp normalizes as, bn.*found the language 'en'"):
        applied(Rules(indic="indic-nlp"), "text", "en")
