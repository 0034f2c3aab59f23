"""JSON by its standard, whatever a file holds."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest

from xlm.errors import CheckpointError
from xlm.storage import read_json, write_json
from xlm.strict_json import JsonError, dumps, is_number, is_whole, parse


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("", "Expecting value in column 1", 1),
        ('{"a": 1,\n "b": }', "Expecting value in column 7", 2),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' appears twice", 0),
        ('[{"x": {"y": 1, "y": 1}}]', "the key 'y' appears twice", 0),
        ("[" * 100_000, "are nested too deep", 0),
        ('{"a":' * 100_000, "are nested too deep", 0),
        ("9" * 5000, "a number of more than 4,300 digits", 0),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte at byte 7", 0),
        ("nul", "Expecting value in column 1", 1),
    ],
)
def test_what_is_no_json(text: str | bytes, message: str, line: int) -> None:
    with pytest.raises(JsonError, match=message) as caught:
        parse(text)
    assert caught.value.line == line and len(str(caught.value)) < 200


def test_a_long_key_is_cut() -> None:
    with pytest.raises(JsonError) as caught:
        parse(json.dumps({"k" * 5000: 1})[:-1] + ', "' + "k" * 5000 + '": 2}')
    assert len(str(caught.value)) < 260


def test_a_large_object_is_read_at_once() -> None:
    content = {f"tensor.{at}": at for at in range(300_000)}
    start = time.monotonic()
    assert parse(json.dumps(content)) == content
    assert time.monotonic() - start < 5


def test_figures_that_are_not_finite_are_null(tmp_path: Path) -> None:
    content = {
        "a": math.inf,
        "b": [1.5, -math.inf, {"c": math.nan}],
        "d": (1, None),
        "e": "ne",
    }
    expected = {"a": None, "b": [1.5, None, {"c": None}], "d": [1, None], "e": "ne"}
    assert json.loads(dumps(content)) == expected
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == expected


def test_true_is_no_number() -> None:
    assert [is_number(one) for one in (1, 1.5, True, "1", None)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [is_whole(one) for one in (1, 1.5, True)] == [True, False, False]


@pytest.mark.parametrize("name", ["folder", "/dev/zero", "pipe", "missing", "a\0b"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="a folder|a device|a named pipe|No such file|a NUL"):
        read_json(tmp_path / name)
