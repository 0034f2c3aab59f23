"""Every damage to prepared text is noticed: by its hashes, and by structure where it has none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer
from xlm.data import verification
from xlm.data.binarize import binarize, binarize_pairs
from xlm.data.corpora import SPLITS, Corpora, write_header
from xlm.data.verification import verify_corpora
from xlm.errors import DataError

TOKENIZER = WordTokenizer()


def lines(num: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(map(str, random.integers(20, size=random.integers(1, 6)))) for _ in range(num)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "data"
    for at, split in enumerate(("train", "valid")):
        for language in ("en", "ne"):
            own = lines(30, 10 * at + len(language) + (language == "en"))
            binarize(own, folder / split / language, language, TOKENIZER)
        rows = list(zip(lines(20, 50 + at), lines(20, 60 + at), strict=True))
        binarize_pairs(rows, folder / split / "en-ne", ("en", "ne"), TOKENIZER)
    write_header(folder, TOKENIZER, ["en", "ne"])
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def use(folder: Path) -> None:
    """Open and verify everything, as a run does at its first start."""
    corpora = Corpora.open(folder, TOKENIZER)
    verify_corpora(folder)
    for split in SPLITS:
        names = corpora.names(split)
        for name in names["texts"]:
            corpora.text(split, name)
        for name in names["pairs"]:
            corpora.pairs(split, name)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero(path: Path) -> None:
    content = bytearray(path.read_bytes())
    half = len(content) // 2 // 8 * 8
    content[half : half + 16] = bytes(len(content[half : half + 16]))
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


FILES = [
    f"{split}/{part}/{name}"
    for split in ("train", "valid")
    for part in ("en", "ne", "en-ne/first", "en-ne/second")
    for name in ("ids.bin", "offsets.bin", "counts.bin", "header.json")
] + ["train/en-ne/order.bin", "valid/en-ne/header.json", "corpora.json"]


def test_what_is_whole_is_verified(data: Path) -> None:
    use(data)
    found = verify_corpora(data)
    assert found.num_files == 2 * (2 * 5 + 2 * 3 + 6) == len(found.known) and not found.unhashed
    files = [*data.rglob("*.bin"), *data.rglob("en-ne/*/header.json")]
    assert found.num_bytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, zero, cut, Path.unlink])
def test_a_damaged_file_is_named(
    name: str, damage: Callable[[Path], None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / name
    before = path.read_bytes()
    damage(path)
    if path.exists() and path.read_bytes().strip() == before.strip():
        pytest.skip("nothing has changed: zeros were there before, or it was a line end")
    with pytest.raises(DataError) as caught:
        use(data)
    assert path.parent.name in str(caught.value) and "\n" not in str(caught.value)
    if path.suffix == ".bin":  # so it is in a corpus that is too large to be read at opening
        monkeypatch.setattr("xlm.data.corpus.CHECKED_AT_OPENING", 0)
        monkeypatch.setattr("xlm.data.pairs.CHECKED_AT_OPENING", 0)
        with pytest.raises(DataError, match=str(path.relative_to(data))):
            verify_corpora(data)


EXCHANGED = [
    ("train/en", "train/ne"),
    ("train/en", "valid/en"),
    ("train/en-ne", "valid/en-ne"),
    ("train/en-ne/first", "train/en-ne/second"),
    ("train/en/ids.bin", "train/ne/ids.bin"),
    ("train/en/header.json", "train/ne/header.json"),
    ("train/en-ne/order.bin", "valid/en-ne/order.bin"),
]


@pytest.mark.parametrize(("one", "other"), EXCHANGED)
def test_what_was_exchanged_is_noticed(one: str, other: str, data: Path) -> None:
    exchange(data / one, data / other)
    with pytest.raises(DataError):
        use(data)


def without_hashes(folder: Path) -> None:
    """As versions wrote it before there were any."""
    for path in [*folder.rglob("header.json"), folder / "corpora.json"]:
        content = json.loads(path.read_text())
        plain = {k: v for k, v in content.items() if k not in ("files", "digest")}
        path.write_text(json.dumps(plain))


def test_text_of_an_older_version_opens_and_says_that_it_is_not_verified(data: Path) -> None:
    without_hashes(data)
    use(data)
    found = verify_corpora(data)
    assert found.num_files == 0 and len(found.unhashed) == 2 * 5
    assert "train/en, train/en-ne, train/en-ne/first" in found.line(data)
    assert "have no hashes: they are not verified" in found.line(data)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize(
    "name",
    ["train/en/ids.bin", "train/en/offsets.bin", "train/en/counts.bin", "train/en-ne/order.bin"],
)
@pytest.mark.parametrize("damage", [flip, zero])
def test_structure_shows_damage_where_there_are_no_hashes(
    name: str,
    damage: Callable[[Path], None],
    size: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_hashes(data)
    if size == "large":
        monkeypatch.setattr("xlm.data.corpus.CHECKED_AT_OPENING", 0)
        monkeypatch.setattr("xlm.data.pairs.CHECKED_AT_OPENING", 0)
    before = (data / name).read_bytes()
    damage(data / name)
    if (data / name).read_bytes() == before:
        pytest.skip("zeros were there before")
    with pytest.raises(DataError, match=Path(name).name):
        verify_corpora(data)


@pytest.mark.parametrize(("one", "other"), EXCHANGED[:1] + EXCHANGED[3:5])
def test_exchanged_languages_without_hashes(one: str, other: str, data: Path) -> None:
    without_hashes(data)
    exchange(data / one, data / other)
    with pytest.raises(DataError):
        use(data)


def test_what_was_verified_is_not_read_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = verify_corpora(data)
    read: list[Path] = []
    really = verification.check_digest

    def counted(path: Path, *rest: object) -> None:
        read.append(path)
        really(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(verification, "check_digest", counted)
    again = verify_corpora(data, first.known)
    assert not read and again.known == first.known and again.num_bytes == 0
    os.utime(data / "train/en/ids.bin", ns=(1, 1))  # copied, perhaps
    assert verify_corpora(data, first.known).num_bytes > 0
    assert read == [data / "train/en/ids.bin"]
    flip(data / "train/en/ids.bin")
    with pytest.raises(DataError, match="train/en/ids.bin: its content is not what was written"):
        verify_corpora(data, first.known)
    part = verify_corpora(data, splits=["valid"], arrays=["counts.bin"])
    assert set(part.known) == {
        f"valid/{name}/counts.bin" for name in ("en", "ne", "en-ne/first", "en-ne/second")
    }
