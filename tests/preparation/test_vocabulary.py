"""Which text a vocabulary is learned on: by language, or by pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlm.errors import ConfigError
from xlm.preparation.config import Aligned, Prepare, Texts, Vocabulary
from xlm.preparation.reading import open_reader
from xlm.preparation.vocabulary import _vocabulary_sources

LINES = {"en": ["a b", "c d"], "hi": ["h i", "j k"], "en2": ["l m"], "ne": ["n o"], "mr": ["m r"]}


def sources(folder: Path, per: str, *, texts: bool) -> dict[str, list[str]]:
    for name, lines in LINES.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    text = {"mr": str(folder / "mr"), "ne": str(folder / "mr")} if texts else {}
    pairs = {
        "en-hi": [str(folder / "en"), str(folder / "hi")],
        "en-ne": [str(folder / "en2"), str(folder / "ne")],
    }
    config = Prepare(
        folder="unused", text=Texts(train=text), pairs=Aligned(train=pairs),
        vocabulary=Vocabulary(per=per),  # type: ignore[arg-type]
    )  # fmt: skip
    found = _vocabulary_sources(open_reader(config))
    return {name: [line for opened in own for line in opened()] for name, own in found.items()}


def test_a_language_has_all_its_sides(tmp_path: Path) -> None:
    assert sources(tmp_path, "language", texts=False) == {
        "en": ["a b", "c d", "l m"], "hi": ["h i", "j k"], "ne": ["n o"],
    }  # fmt: skip


def test_a_pair_has_both_its_sides_and_a_language_without_one_its_text(tmp_path: Path) -> None:
    assert sources(tmp_path, "pair", texts=True) == {
        "en-hi": ["a b", "c d", "h i", "j k"], "en-ne": ["l m", "n o"], "mr": ["m r"],
    }  # fmt: skip


def test_pairs_that_are_not_there_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "en").write_text("a\n")
    config = Prepare(
        folder="unused", text=Texts(train={"en": str(tmp_path / "en")}),
        vocabulary=Vocabulary(per="pair"),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"vocabulary.per is pair, but pairs.train is empty"):
        _vocabulary_sources(open_reader(config))
