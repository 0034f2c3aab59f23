import json
import os
import random
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from backports import zstd

from xlm.errors import DataError
from xlm.text.files import raw_lines
from xlm.text.readers import ReadReport, open_lines, open_pairs

datasets = pytest.importorskip("datasets")

ROWS = [
    {"text": "one", "id": 1, "translation": {"en": "one", "ne": "एक"}},
    {"text": "two\n\nlines", "id": 2, "translation": {"en": "two", "ne": "दुई"}},
    {"text": None, "id": 3, "translation": {"en": "", "ne": "तीन"}},
]
LINES = ["one", "two", "lines"]


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is cached outside the test, and nothing is asked of a network."""
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.config.HF_HUB_OFFLINE = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "things"
    folder.mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "train.jsonl").write_text(rows)
    return folder


def read(path: Path, **settings: str) -> list[str]:
    return list(open_lines(f"datasets:{path}?{urlencode(settings)}", ReadReport()))


@pytest.mark.parametrize("streaming", ["true", "false"])
def test_folder_and_file(folder: Path, streaming: str) -> None:
    for name in (folder, folder / "train.jsonl"):
        report = ReadReport()
        source = f"datasets:{name}?split=train&column=text&streaming={streaming}"
        assert list(open_lines(source, report)) == LINES
        assert report.dropped == {"empty": 2}
        assert report.first["empty"] == f"datasets:{name}:2"


def test_parquet_text_and_saved(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list([{"text": line} for line in LINES])
    data.to_parquet(str(tmp_path / "a.parquet"))
    data.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    for name in ("a.parquet", "saved", "a.txt"):
        assert read(tmp_path / name) == LINES


def test_pairs_of_one_column(folder: Path) -> None:
    report = ReadReport()
    sides = [f"datasets:{folder}?column=translation.{language}" for language in ("en", "ne")]
    assert list(open_pairs(sides, ("en", "ne"), report)) == [("one", "एक"), ("two", "दुई")]
    assert report.dropped == {"empty": 1}


def test_a_cell_of_a_pair_is_one_line(folder: Path) -> None:
    source = f"datasets:{folder}"
    assert list(open_pairs([source] * 2, ("en", "ne"), ReadReport()))[1] == (
        "two lines",
        "two lines",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "txt"}, "no column 'txt': expected one of text, id, translation"),
        ({"column": "translation.hi"}, "no column 'translation.hi': expected one of en, ne"),
        ({"column": "id"}, "column 'id' holds int, expected text"),
        ({"split": "test"}, "cannot be opened: .*test"),
    ],
)
def test_errors(folder: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


def test_a_file_has_one_split(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    assert read(path, split="train") == ["a"]
    with pytest.raises(DataError, match="is a file, whose only split is train: found split=zz"):
        read(path, split="zz")


def test_missing_and_broken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        read(tmp_path / "none")
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(DataError, match=r"a.jsonl:2: found no JSON"):
        read(tmp_path / "a.jsonl")


def test_zstd_cut_anywhere(tmp_path: Path) -> None:
    """Incompressible bytes, so that whole blocks are stored as they are."""
    content = random.Random(0).randbytes(300_000)
    whole = zstd.compress(content)
    path = tmp_path / "a.zst"
    blocks = [end + shift for end in (9, 131_084, 262_159) for shift in range(-8, 8)]
    for end in {*blocks, *random.Random(1).sample(range(1, len(whole)), 100)}:
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            list(raw_lines(str(path), 1 << 20))
    path.write_bytes(whole)
    assert b"\n".join(line or b"" for line in raw_lines(str(path), 1 << 20)) == content


def test_datasets_is_imported_only_when_asked_for(root: Path) -> None:
    code = (
        "import sys, xlm.text.readers, xlm.text.tokenizers.learn, xlm.text.tokenizers.fastbpe\n"
        "assert not {'datasets', 'transformers', 'torch'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
