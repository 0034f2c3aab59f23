"""Stretches of stored lines as ids on disk: what one worker makes of a part of a text.

A stretch is a folder: ``0.ids``, ``0.lengths`` (each sentence with its end symbol) for each side,
``documents`` (the first line of each document), ``stretch.json``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlm.data.binarize import chunks, encode_side
from xlm.data.corpus import id_type
from xlm.data.corpus_writer import CorpusWriter
from xlm.metrics.scores import TextSize
from xlm.preparation.cleaning import follow
from xlm.preparation.parts.folders import new_part, open_part
from xlm.preparation.reading import Reader
from xlm.storage import map_array
from xlm.text.read_report import Documents, ReadReport
from xlm.text.readers import keep_lines, keep_pairs
from xlm.text.tokenizers.tokenizer import Tokenizer

STRETCH = "stretch.json"
KINDS = ("ids", "lengths")
_COUNTED = ("num_read", "num_kept", "dropped", "num_spelling_specials", "first", "examples")


@dataclass(frozen=True)
class Stretch:
    """Rows of a text that one worker encodes."""

    split: str
    name: str
    start: int
    end: int
    """Its rows, dropped ones included."""
    decided: int
    """Number of rows before it about which cleaning decided."""


def encode_stretch(reader: Reader, stretch: Stretch, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the ids of a stretch into ``folder``, which appears whole or not at all."""
    split, name = stretch.split, stretch.name
    rows = reader.stored[split, name].rows(stretch.start, stretch.end)
    if split == "train" and name in reader.decisions:
        rows = follow(rows, reader.decisions[name][stretch.decided :])
    elif split == "train" and reader.held_out is not None:
        reader.held_out.forget()
        rows = reader.looked_up(name, rows)
    report = ReadReport()
    kept: Iterator[tuple[str, ...]]
    num_sides = len(reader.config.languages_of(name))
    if num_sides == 1:
        kept = ((text,) for text in keep_lines((sides[0] for sides in rows), report))
    else:
        kept = keep_pairs(((first, second) for first, second in rows), report)
    with new_part(folder, STRETCH) as (staging, content):
        sizes, num_empty = _write_ids(kept, num_sides, tokenizer, staging)
        report.documents.all_starts.tofile(staging / "documents")
        looked = split == "train" and name not in reader.decisions and reader.held_out is not None
        content["sizes"] = [vars(size) for size in sizes]
        content["empty_sides"] = num_empty
        content["read"] = {field: getattr(report, field) for field in _COUNTED}
        content["documents"] = report.documents.to_json()
        content["starts"] = len(report.documents.all_starts)
        content["met"] = reader.held_out.met if looked and reader.held_out else []
        content["num_found"] = reader.held_out.num_found if looked and reader.held_out else {}


def _write_ids(
    rows: Iterator[tuple[str, ...]], num_sides: int, tokenizer: Tokenizer, folder: Path
) -> tuple[list[TextSize], int]:
    """Write ids and lengths of each side; return the sizes, and the pairs with an empty side."""
    sizes = [TextSize(0, 0, 0, 0, 0)] * num_sides
    num_empty = 0
    with ExitStack() as stack:
        files = [
            [stack.enter_context(open(folder / f"{side}.{kind}", "wb")) for kind in KINDS]
            for side in range(num_sides)
        ]
        for chunk in chunks(rows):
            sides = [
                encode_side([row[side] for row in chunk], tokenizer) for side in range(num_sides)
            ]
            if num_sides > 1:
                kept = np.all([own.lengths > 1 for own in sides], axis=0)
                num_empty += len(kept) - int(kept.sum())
                sides = [own.only(kept) for own in sides]
            for at, (own, (ids, lengths)) in enumerate(zip(sides, files, strict=True)):
                ids.write(own.ids.tobytes())
                lengths.write(own.lengths.tobytes())
                sizes[at] += own.size
    return sizes, num_empty


@dataclass(frozen=True)
class Encoding:
    """A stretch that was encoded."""

    folder: Path
    content: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Encoding:
        """Return the stretch in ``folder``; raise DataError if it is damaged."""
        return cls(folder, open_part(folder, STRETCH))

    @property
    def num_empty(self) -> int:
        """Number of pairs left out because a side has no ids."""
        found: int = self.content["empty_sides"]
        return found

    def report(self) -> ReadReport:
        """Return the account of the lines read."""
        report = ReadReport(**self.content["read"])
        starts = map_array(self.folder / "documents", np.int64, self.content["starts"])
        report.documents = Documents.from_json(self.content["documents"], starts)
        return report

    def write(self, writers: list[CorpusWriter], tokenizer: Tokenizer) -> None:
        """Add the sentences to a corpus for each side."""
        dtype = id_type(tokenizer.vocab_size)
        for side, (writer, found) in enumerate(zip(writers, self.content["sizes"], strict=True)):
            size = TextSize(**found)
            ids = map_array(self.folder / f"{side}.ids", dtype, size.tokens)
            lengths = map_array(self.folder / f"{side}.lengths", np.int64, size.sentences)
            writer.add(ids, lengths, size)


def stretches(reader: Reader, most_rows: dict[tuple[str, str], list[int]]) -> list[Stretch]:
    """Return the stretches of all stored texts, cut where their pieces end.

    ``most_rows`` gives, for each text, the rows behind each of its pieces.
    """
    found = []
    for (split, name), stored in reader.stored.items():
        decided = np.concatenate([[0], np.cumsum(stored.is_kept())])
        borders = [0, *most_rows[split, name]]
        found += [
            Stretch(split, name, start, end, int(decided[start]))
            for start, end in itertools.pairwise(borders)
            if start < end
        ]
    return found
