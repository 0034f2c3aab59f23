"""The choice of sacreBLEU's tokenizer, which splits a language into the words that BLEU counts.

BLEU by words is near 0 for any translation into a language that is written without spaces, such as
Chinese: a whole clause counts as one word. sacreBLEU has tokenizers for these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, NamedTuple

Tokenization = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "flores200", "char", "none"]
"""Tokenizers of sacreBLEU: words as mteval-v13a splits them, by Unicode's classes, Chinese by its
characters, Japanese and Korean by MeCab, all languages by the subwords of FLORES-200 (which
sacreBLEU fetches), every character by itself, between whitespace."""

_LANGUAGES: dict[str, Tokenization] = {
    **dict.fromkeys(("zh", "cmn", "yue", "wuu", "lzh", "gan", "nan", "zho", "chi"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(
        ("th", "lo", "km", "my", "bo", "dz", "tha", "lao", "khm", "mya", "bod"), "char"
    ),
}
_PACKAGES = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}
_WITHOUT_PACKAGE: dict[str, Tokenization] = {"ja-mecab": "char", "ko-mecab": "13a"}
_KANA = re.compile("[\u3041-\u30ff\uff66-\uff9f]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
_UNSPACED = re.compile("[\u0e01-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]")
"""Characters of Thai, Lao, Tibetan, Burmese and Khmer."""
_SAMPLE = 1000
"""Number of lines that are examined."""


class Words(NamedTuple):
    """A tokenizer, and the reason for its choice."""

    tokenize: Tokenization
    note: str
    """The reason; empty for 13a, which needs no explanation."""


def choose_words(language: str | None, lines: Sequence[str]) -> Words:
    """Return the tokenizer for a language, or, if it is unknown, for the script of ``lines``.

    A language counts by the part of its name before ``-`` or ``_``. Without MeCab, Japanese is
    split into characters, and Korean, which has spaces, by 13a.
    """
    base = re.split("[-_]", language or "")[0].lower()
    wanted = _LANGUAGES.get(base) or ("13a" if language else script_words(lines))
    if wanted == "13a":
        return Words("13a", "")
    reason = f"the language {language}" if language else "text without spaces"
    package = _PACKAGES.get(wanted)
    if package and find_spec(package) is None:
        instead = _WITHOUT_PACKAGE[wanted]
        extra = wanted.partition("-")[0]
        return Words(
            instead,
            f"BLEU's words are sacreBLEU's {instead}, as {wanted} needs a package: "
            f"pip install 'sacrebleu[{extra}]'",
        )
    return Words(wanted, f"BLEU's words are sacreBLEU's {wanted}, chosen by {reason}")


def script_words(lines: Sequence[str]) -> Tokenization:
    """Return the tokenizer for text of an unknown language; 13a if it may have spaces."""
    text = "".join(lines[:_SAMPLE])
    letters = sum(map(str.isalpha, text))
    han, kana, unspaced = (len(own.findall(text)) for own in (_HAN, _KANA, _UNSPACED))
    if 2 * (han + kana) > letters:
        return "ja-mecab" if 10 * kana > han + kana else "zh"
    return "char" if 2 * unspaced > letters else "13a"
