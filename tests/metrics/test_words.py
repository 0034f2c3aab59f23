"""The tokenizers that sacreBLEU recommends for languages without spaces."""

from __future__ import annotations

import importlib.util

import pytest

from xlm.errors import ConfigError
from xlm.metrics.translation import corpus_scores
from xlm.metrics.words import choose_words, script_words

ZH = ["我今天早上在河边散步。", "孩子们在学校里学习唱歌。", "雨下了三天三夜。"]
JA = ["今日は川のそばを散歩しました。", "子供たちは学校で歌を習う。"]
TH = ["เช้านี้ฉันเดินเล่นริมแม่น้ำ", "เด็กๆ เรียนร้องเพลงที่โรงเรียน"]
NE = ["मानिस रोटी खान्छ ।", "Maya eats 面包 ।"]


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (ZH, "zh"), (JA, "ja-mecab"), (TH, "char"), (NE, "13a"), (["오늘 아침에"], "13a"),
        ([""], "13a"), (["12 34 %"], "13a"), (["ཁྱེད་རང་"], "char"), (["ទឹក"], "char"),
    ],
)  # fmt: skip
def test_by_script(lines: list[str], expected: str) -> None:
    assert script_words(lines) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("zh", "zh"), ("zh-Hans", "zh"), ("zh_TW", "zh"), ("zho_Hans", "zh"), ("th", "char"),
        ("en", "13a"), ("ne", "13a"), ("zha", "13a"),
        ("ja", "ja-mecab" if has("MeCab") else "char"),
        ("ko", "ko-mecab" if has("mecab_ko") else "13a"),
    ],
)  # fmt: skip
def test_by_language(language: str, expected: str) -> None:
    found = choose_words(language, ["whatever"])
    assert found.tokenize == expected
    assert (found.note == "") == (language in ("en", "ne", "zha"))


def test_a_good_translation_is_not_near_0() -> None:
    found = ["今天早上我在河边散步。", "孩子们在学校学习唱歌。", "雨下了三天。"]
    assert corpus_scores(found, ZH, tokenize="13a").bleu.score < 10
    right = corpus_scores(found, ZH, tokenize=choose_words(None, ZH).tokenize)
    assert right.bleu.score > 40 and "tok:zh" in right.bleu.signature


@pytest.mark.skipif(has("MeCab"), reason="MeCab is here")
def test_a_missing_package_is_named() -> None:
    assert "pip install 'sacrebleu[ja]'" in choose_words("ja", JA).note
    with pytest.raises(
        ConfigError, match="tokenize ja-mecab: sacreBLEU cannot use it here"
    ) as found:
        corpus_scores(JA, JA, tokenize="ja-mecab")
    assert "\n" not in str(found.value)
