"""Pickles of minimal pairs, as the program of Marvin and Linzen writes them, are never run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from xlm.analysis.readers import MinimalPair
from xlm.errors import DataError
from xlm.interchange.marvin_linzen import read_marvin_linzen


@pytest.mark.parametrize("protocol", range(6))
def test_every_construction_is_read(tmp_path: Path, protocol: int) -> None:
    content: dict[str, dict[str, Any]] = {
        "simple_agrmt": {
            "sing_MS_MV": [("the author laughs", "the author laugh")],
            "plur_MS_MV": [["the authors laugh", "the authors laughs"]],
        },
        "simple_npi_anim": {"past": [("no author ever ran", "the author ever ran", "it ever ran")]},
        "words": {"all": [(["a", "dog"], ["a", "dogs"])]},
    }
    for name, own in content.items():
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(own, protocol))
    assert read_marvin_linzen(tmp_path) == [
        MinimalPair("simple_agrmt", "the author laughs", "the author laugh"),
        MinimalPair("simple_agrmt", "the authors laugh", "the authors laughs"),
        MinimalPair("simple_npi_anim", "no author ever ran", "the author ever ran"),
        MinimalPair("simple_npi_anim", "no author ever ran", "it ever ran"),
        MinimalPair("words", "a dog", "a dogs"),
    ]


class Hostile:
    """An object whose pickle makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "a.pickle").write_bytes(pickle.dumps({"x": [Hostile(made)]}))
    with pytest.raises(DataError, match="a.pickle names .*mkdir, which is not among"):
        read_marvin_linzen(tmp_path)
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a dictionary of lists of sentences"),
        ({"x": [("alone",)]}, "'x' holds .*alone.* expected a dictionary"),
        ({"x": [("right", 3)]}, "expected sentences with words"),
        ({"x": [("right", " ")]}, "expected sentences with words"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=f"a.pickle: .*{message}"):
        read_marvin_linzen(tmp_path)


def test_a_damaged_file_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no file \*.pickle"):
        read_marvin_linzen(tmp_path)
    (tmp_path / "a.pickle").write_bytes(pickle.dumps({"x": [("a b", "a c")]})[:-6])
    with pytest.raises(DataError, match="a.pickle is damaged"):
        read_marvin_linzen(tmp_path)
