"""Text prepared in parts gives the same bytes as in one go, and no part is made twice."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xlm import disk
from xlm.config.cli import to_yaml
from xlm.errors import ConfigError, DataError
from xlm.preparation.parts import folders, pieces, stages, work
from xlm.preparation.parts.folders import make_once
from xlm.prepare import Aligned, Cleaning, Prepare, Texts, Vocabulary, prepare, prepare_part
from xlm.storage import atomic_directory
from xlm.text.read_report import Documents
from xlm.text.readers import scan_between, scan_lines

ROOT = Path(__file__).parents[2]
WORDS = "the cat sat on a mat dog saw it late बिरालो कुकुर ढिलो भएको थियो".split()


def content(folder: Path | str) -> dict[str, bytes]:
    """The content of every file of a folder."""
    folder = Path(folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Settings over sources of many kinds, with documents, leaks, odd lines, an empty file."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)

    def sentence() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(3, 12)))

    lines = [sentence() if draw.random() < 0.9 else "" for _ in range(300)]
    lines[17], lines[40] = "x" * 300, "with </s> in it"
    raw = b"\xef\xbb\xbf" + "\n".join(lines).encode()
    Path("en.txt").write_bytes(raw[:2000] + b"\n\xff\xfe bad\n" + raw[2000:])
    Path("more").mkdir()
    Path("more/a.txt").write_text("\n".join(sentence() for _ in range(50)))
    Path("more/b.txt").write_text("")
    Path("ne.gz").write_bytes(gzip.compress("\n".join(lines[:99]).encode()))
    rows = [{"text": f"{sentence()}\n{sentence()}"} for _ in range(30)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for side in ("en", "hi"):
        Path(f"pairs.{side}").write_text(
            "".join(f"{sentence()}\n" if at % 9 else "\n" for at in range(200)), encoding="utf-8"
        )
    table = "".join(f"{sentence()}\t{sentence()}\n" for _ in range(40))
    Path("both.tsv").write_text(table, encoding="utf-8")
    Path("valid.txt").write_text("\n".join([*lines[100:120], sentence()]), encoding="utf-8")
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    monkeypatch.setattr(disk, "flush", lambda path: None)  # no test cuts the power
    return Prepare(
        folder="whole",
        text=Texts(
            train={"en": ["en.txt", "more"], "ne": ["ne.gz", "rows.jsonl?column=text"]},
            valid={"en": "valid.txt"},
        ),
        pairs=Aligned(
            train={"en-hi": ["pairs.en", "pairs.hi"], "en-ne": ["both.tsv?columns=1,2"]},
        ),
        vocabulary=Vocabulary(kind="fastbpe", size=30, num_draws=200),
        cleaning=Cleaning(held_out_letters=5),
        invalid="drop",
        max_bytes=250,
        workers=1,
    )


def in_parts(config: Prepare, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, bytes]:
    """The files of a preparation in parts, in a folder of the same name."""
    os.makedirs("parts", exist_ok=True)
    monkeypatch.setattr(stages, "IN_PARTS_FROM", 1)
    prepare(replace(config, folder="parts/whole", **settings))
    assert [path.name for path in Path("parts").iterdir()] == ["whole"]
    return content("parts/whole")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cleaning": Cleaning(duplicates="exact", held_out="drop", held_out_letters=5)},
        {"max_sentences": {"ne": 40, "en-hi": 50}, "vocabulary": Vocabulary(kind="bpe", size=330)},
    ],
)
def test_parts_give_the_same_bytes(
    config: Prepare, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, **settings)
    prepare(config)
    whole = content("whole")
    assert b"documents" in whole["train/en/header.json"]
    report = json.loads(whole["report.json"])
    assert report["held_out"][0]["exact"] or settings.get("cleaning")
    assert in_parts(config, monkeypatch) == whole


def test_shares_are_made_in_any_order_and_joined(config: Prepare) -> None:
    prepare(config)
    own = replace(config, folder="parts/whole")
    for _ in range(2):
        with pytest.raises(DataError, match=r"pieces are not (read|tokenized) yet \(number"):
            prepare_part(replace(own, join=True))
        for part in ("3/3", "1/3", "2/3"):
            assert prepare_part(replace(own, part=part)) is None
        joined = prepare_part(replace(own, join=True))
    assert joined is not None and content("parts/whole") == content("whole")
    assert [path.name for path in Path("parts").iterdir()] == ["whole"]


def test_no_part_is_made_twice(config: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(config, folder="parts/whole")
    made: list[tuple[str, int]] = []
    for name in ("read_piece", "encode"):
        before = getattr(work, name)

        def noting(of: Any, number: int, before: Any = before, name: str = name) -> None:
            if len(made) in (5, 40):
                made.append(("killed", number))
                raise KeyboardInterrupt
            before(of, number)
            made.append((name, number))

        monkeypatch.setattr(stages, name, noting)
    monkeypatch.setattr(stages, "IN_PARTS_FROM", 1)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            prepare(own)
    prepare(own)
    done = [one for one in made if one[0] != "killed"]
    assert len(done) == len(set(done)) > 50 and len(made) == len(done) + 2
    monkeypatch.undo()


def test_parts_of_other_text_or_settings_are_not_used(
    config: Prepare, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = replace(config, folder="parts/whole")
    prepare_part(replace(own, part="1/2"))
    other = replace(own, vocabulary=Vocabulary(kind="fastbpe", size=20))
    with pytest.raises(ConfigError, match="made with other settings or of other text: remove it"):
        prepare_part(replace(other, part="2/2"))
    with open("en.txt", "a") as file:
        file.write("one more\n")
    prepare(config)
    assert in_parts(config, monkeypatch) == content("whole")
    assert "settings or text have changed; all parts are made anew" in caplog.text


def test_a_killed_preparation_of_several_processes_goes_on(config: Prepare) -> None:
    prepare(config)
    code = (
        "from pathlib import Path; from xlm.preparation.parts import pieces, stages, work;"
        "pieces.PIECE_BYTES = 1000; stages.IN_PARTS_FROM = 1; from xlm import prepare;"
        "from xlm.config.cli import read;"
        "prepare.prepare(read(prepare.Prepare, Path('recipe.yaml')))"
    )
    Path("recipe.yaml").write_text(to_yaml(replace(config, folder="parts/whole", workers=2)))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, env=environment)
    read = Path("parts/.whole.parts/lines")
    end = time.monotonic() + 60
    while len(list(read.glob("0*"))) < 3 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(read.glob("0*"))) >= 3
    subprocess.run(command, env=environment, check=True)
    assert content("parts/whole") == content("whole")


def test_a_part_is_left_to_a_process_of_a_killed_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(folders, "_SILENCE", 0.1)
    folder, made = tmp_path / "lines" / "00000", []

    def finish() -> None:
        with atomic_directory(folder, flush=False) as staging:
            begun.set()
            time.sleep(0.3)
            (staging / "lines").write_text("read")

    begun = threading.Event()
    other = threading.Thread(target=finish)
    other.start()
    begun.wait()
    make_once(folder, lambda: made.append(folder))
    assert (folder / "lines").read_text() == "read" and not made
    assert f"another process writes {folder}: waiting" in caplog.text
    other.join()

    later = tmp_path / "lines" / "00001"

    def lost(appears: bool) -> None:
        if appears:  # between the look and the making
            later.mkdir()
        raise DataError("it already exists")

    with pytest.raises(DataError, match="already exists"):
        make_once(later, lambda: lost(False))
    make_once(later, lambda: lost(True))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("0/3", "k from 1 to n"),
        ("4/3", "found 4/3"),
        ("2", "part must be k/n"),
        ("a/b", "found a/b"),
    ],
)
def test_a_part_that_is_none(part: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Prepare(folder="f", text=Texts(train={"en": "en.txt"}), part=part)


def test_part_and_join_are_two_calls(config: Prepare) -> None:
    with pytest.raises(ConfigError, match="part is 1/2 and join true: give one of the two"):
        replace(config, part="1/2", join=True)
    with pytest.raises(ConfigError, match="prepare_part"):
        prepare(replace(config, join=True))


def test_sides_that_differ_are_named(config: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("pairs.hi", "a") as file:
        file.write("one more\n")
    with pytest.raises(DataError, match="pairs.en has 200 lines and pairs.hi has 201: expected"):
        in_parts(config, monkeypatch)


def test_ranges_give_every_line_once(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"\xef\xbb\xbfone\n\ntwo\n" + b"long " * 20 + b"\nthree\nlast")
    whole = list(scan_lines(str(path), "error", 50))
    size = path.stat().st_size
    for cut in range(size + 1):
        parts = [
            list(scan_between(str(path), "error", 50, *ends)) for ends in ((0, cut), (cut, size))
        ]
        assert [line[:2] for part in parts for line in part] == [line[:2] for line in whole]


def test_an_error_in_a_range_names_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"one\ntwo\nthree\nfo\xffur\nfive\n")
    for start in range(4, 15):
        with pytest.raises(DataError, match=r"t:4: byte 0xff at offset 2 of the line"):
            list(scan_between(str(path), "error", 50, start, 25))


def test_documents_of_parts_are_those_of_the_whole() -> None:
    draw = random.Random(1)
    for _ in range(200):
        rows = [(draw.choice("abc"), draw.random() < 0.3) for _ in range(draw.randint(0, 12))]
        rows.sort(key=lambda row: row[0])

        def found(rows: list[tuple[str, bool]]) -> tuple[Documents, int]:
            documents, num_kept = Documents(), 0
            for file, is_empty in rows:
                if is_empty:
                    documents.end()
                else:
                    documents.keep(num_kept, f"{file}:1")
                    num_kept += 1
            return documents, num_kept

        whole, num = found(rows)
        joined, kept = Documents(), 0
        cuts = sorted(draw.randint(0, len(rows)) for _ in range(3))
        for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            part, own = found(rows[start:end])
            again = Documents.from_json(part.to_json(), part.all_starts)
            joined.add(again, kept)
            kept += own
        assert kept == num and joined.all_starts.tolist() == whole.all_starts.tolist()
        one, other = joined.starts(num), whole.starts(num)
        assert (one is None) == (other is None)
