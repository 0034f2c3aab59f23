import pytest

from xlm.errors import first_line, one_line


@pytest.mark.parametrize(
    "message, expected",
    [("a\n  b\tc ", "a b c"), ("one", "one"), ("", "ValueError"), (" \n", "ValueError")],
)
def test_an_error_is_one_line(message, expected):
    assert one_line(ValueError(message)) == expected


def test_a_long_error_is_cut():
    assert one_line(ValueError("ab\ncd"), most=4) == "ab c"


@pytest.mark.parametrize(
    "message, expected", [("\n a b\nc", "a b"), ("one", "one"), ("", "OSError"), ("\n", "OSError")]
)
def test_the_first_line_of_an_error(message, expected):
    assert first_line(OSError(message)) == expected
