"""The text of a study: what each model reads, and files that are missing or have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reproduce.conftest import settings
from xlm import sample
from xlm.errors import ConfigError, DataError
from xlm.reproduce.text import StudyText, open_text


def folder_of_text(root: Path) -> Path:
    """Return a user's folder, made of the corpus that ships."""
    for language in sample.LANGUAGES:
        (root / language).mkdir(parents=True)
        for split, source in (("train", "train"), ("valid", "valid"), ("test", "valid")):
            content = sample.path(f"{source}.{language}.txt").read_text(encoding="utf-8")
            (root / language / f"{split}.txt").write_text(content, encoding="utf-8")
    return root


def test_a_model_reads_its_languages_and_the_targets_held_out_text(text: StudyText) -> None:
    corpora = text.corpora(("ne", "hi"), 40, shifted=False)
    assert corpora.names("train")["texts"] == ["hi", "ne"]
    assert corpora.names("valid")["texts"] == ["ne"]
    assert len(corpora.text("train", "ne")) == 40
    larger = text.corpora(("ne",), 60, shifted=False).text("train", "ne")
    assert len(larger) == 60
    first = corpora.text("train", "ne")
    assert all((larger[at] == first[at]).all() for at in range(40)), "the smaller text comes first"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    root = folder_of_text(tmp_path / "text")
    (root / "hi" / "train.txt").unlink()
    config = settings(tmp_path / "study", text=str(root))
    with pytest.raises(DataError, match=r"hi/train.txt does not exist: expected a file with one"):
        open_text(config)
    assert not (tmp_path / "study").exists()


def test_a_language_that_does_not_ship_needs_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no fr: expected some of en, hi, ne; give text"):
        open_text(settings(tmp_path, unrelated="fr"))


def test_text_that_changed_is_refused_and_a_test_may_be_added(tmp_path: Path) -> None:
    root = folder_of_text(tmp_path / "text")
    folder = tmp_path / "study"
    open_text(settings(folder, text=str(root), sizes=[]))
    further = tmp_path / "wiki.txt"
    further.write_text("यो एउटा वाक्य हो ।\n", encoding="utf-8")
    added = open_text(settings(folder, text=str(root), sizes=[], tests={"wiki": str(further)}))
    assert list(added.tests) == ["test", "wiki"]
    assert added.tests["wiki"].text_size.sentences == 1
    with (root / "hi" / "train.txt").open("a", encoding="utf-8") as file:
        file.write("एक और वाक्य\n")
    with pytest.raises(ConfigError, match="holds a study of other text .hi/train.txt differ"):
        open_text(settings(folder, text=str(root), sizes=[]))
    with pytest.raises(ConfigError, match="other text .*sentences"):
        open_text(settings(folder, text=str(root), sentences=41, sizes=[]))


def test_sizes_beyond_the_text_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = open_text(settings(tmp_path, sizes=[100, 100_000, 200_000]))
    assert list(found.larger) == [100]
    assert "the sizes from 100000 on are left out" in caplog.text
