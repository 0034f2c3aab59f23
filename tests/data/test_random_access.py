"""Streams of training ask the system to read nothing ahead of the places that they jump to."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.support import cold_text
from xlm.data.corpora import Corpora

SMAPS = Path("/proc/self/smaps")
RANDOM = "rr"
"""The kernel's flag of a map that is read in random places."""


@pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/self/smaps")
@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("name", cold_text.OBJECTIVES)
def test_all_files_of_a_shuffled_stream(tmp_path: Path, name: str, split: str) -> None:
    cold_text.write(tmp_path, 0.05, 100)
    (tmp_path / "valid").symlink_to(tmp_path / "train")
    objective, corpora = cold_text.OBJECTIVES[name], Corpora.open(tmp_path)
    (stream,) = objective.streams("o", corpora, seed=0, split=split)
    stream.examples(0)
    flags: dict[str, bool] = {}
    path = ""
    for line in SMAPS.read_text(encoding="utf-8").splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first:
            path = rest.rpartition(str(tmp_path.resolve()))[2] if str(tmp_path) in rest else ""
        elif first == "VmFlags:" and path:
            # a file may be mapped twice, as text to count and as a side of pairs
            flags[path] = flags.get(path, False) or RANDOM in rest.split()
    read = {own for own in flags if own.rpartition("/")[2] in FILES[name]}
    read = {own for own in read if ("en-hi" in own) == name.startswith("pairs")}
    assert len(read) == len(FILES[name]) * (2 if name.startswith("pairs") else 1) - (
        name.startswith("pairs")  # one order for both sides
    )
    assert {flags[own] for own in read} == {stream.shuffle} == {split == "train"}


FILES = {
    "text 64 x 256": ("ids.bin", "offsets.bin"),
    "sentences of 4,000 cells": ("ids.bin", "offsets.bin", "longer.bin"),
    "pairs of 4,000 cells": ("ids.bin", "offsets.bin", "order.bin"),
}
"""Files that a stream reads in random places."""
