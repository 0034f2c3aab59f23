import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlm.text.normalize import normalize


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", ""),
        ("  a \t b  ", "a b"),
        ("a\r", "a"),
        ("a\x00b\x07c", "a b c"),
        ("a\u2028b\u2029c\u0085d", "a b c d"),
        ("a\x7fb\x9fc", "a b c"),
        ("a\u00a0b\u3000c\u2009d", "a b c d"),
        ("\ufeffa\ufeffb", "a\ufeffb"),
        (" \ufeff \ufeffa", "a"),
        ("e\u0301", "\u00e9"),
        (
            "\u0930\u094d\u200d\u092f \u0915\u094d\u200c\u0937",
            "\u0930\u094d\u200d\u092f \u0915\u094d\u200c\u0937",
        ),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_cases(raw: str, expected: str) -> None:
    assert normalize(raw) == expected


# Every code point there is, lone surrogates and unassigned ones included.
ANY_TEXT = st.text(
    st.characters(exclude_categories=())
    | st.sampled_from(
        "\x00\t\r\n\x0b\x0c\x1c\x85\xa0\u0301\u200c\u200d\u2028\u2029\u3000\ufeff \ud800"
    )
)


@given(ANY_TEXT)
def test_idempotent_and_clean(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert once.encode("utf-8").decode("utf-8") == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") for c in once)
    assert not any(c.isspace() and c != " " for c in once)
    assert "  " not in once and once == once.strip()


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"))))
def test_other_characters_stay(text: str) -> None:
    assert normalize("x" + text) == unicodedata.normalize("NFC", "x" + text)
