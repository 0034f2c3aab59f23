"""The folder beside a preparation in which its parts are kept until they are joined.

plan.json  the settings and the files that the parts are of
lines/     a folder for each piece of the sources: see ``stored``
settled/   the tokenizer, what cleaning decided, and the stretches to encode
ids/       a folder for each stretch: see ``encoding``
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xlm.config.cli import to_yaml
from xlm.errors import ConfigError, DataError
from xlm.preparation.config import Prepare
from xlm.preparation.parts.encoding import STRETCH, Stretch, encode_stretch, stretches
from xlm.preparation.parts.folders import make_once
from xlm.preparation.parts.pieces import Piece, cut, mismatch
from xlm.preparation.parts.stored import PIECE, StoredText, column_of, write_piece
from xlm.preparation.reading import Reader, open_reader, read_held_out
from xlm.preparation.vocabulary import learn_tokenizer
from xlm.storage import atomic_directory, make_folder, read_json, target_of, write_json
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")

PLAN, SETTLED = "plan.json", "settled.json"


@dataclass(frozen=True)
class Work:
    """The parts of one preparation; ``config`` is complete, with the tokenizer's own rules."""

    config: Prepare

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        target = target_of(self.config.folder)
        return target.with_name(f".{target.name}.parts")

    @cached_property
    def pieces(self) -> list[Piece]:
        """The pieces that the sources are read in."""
        found = read_json(self.folder / PLAN, error=DataError)["pieces"]
        return [Piece(**piece) for piece in found]

    def begin(self, *, anew: bool) -> None:
        """Make the folder, or check that it is of these settings and files.

        If it is not, it is made ``anew``, or ConfigError is raised.
        """
        pieces, path = cut(self.config), self.folder / PLAN
        own = _digest(self.config, pieces)
        if path.exists():
            if read_json(path, error=DataError).get("digest") == own:
                return
            if not anew:
                raise ConfigError(
                    f"{self.folder} holds parts that were made with other settings or of other "
                    "text: remove it, or give another folder"
                )
            log.warning("%s: settings or text have changed; all parts are made anew", self.folder)
            shutil.rmtree(self.folder)
        make_folder(self.folder / "lines")
        make_folder(self.folder / "ids")
        beside = self.folder / f".plan.{os.getpid()}"
        write_json(beside, {"digest": own, "pieces": [dataclasses.asdict(one) for one in pieces]})
        os.replace(beside, path)  # several parts may begin at once

    def lines(self, number: int) -> Path:
        """Return the folder of the lines of piece ``number``."""
        return self.folder / "lines" / f"{number:05}"

    def ids(self, number: int) -> Path:
        """Return the folder of the ids of stretch ``number``."""
        return self.folder / "ids" / f"{number:05}"

    @property
    def settled(self) -> Path:
        """The folder of what is decided when all text has been read."""
        return self.folder / "settled"

    @property
    def is_settled(self) -> bool:
        """True if the vocabulary has been made."""
        return (self.settled / SETTLED).exists()

    def unread(self) -> list[int]:
        """Return the numbers of the pieces that are not read yet."""
        return [
            at for at in range(len(self.pieces)) if not (self.lines(at) / PIECE).exists()
        ]  # fmt: skip

    def unencoded(self) -> list[int]:
        """Return the numbers of the stretches that are not encoded yet."""
        return [
            at for at in range(len(self.stretches)) if not (self.ids(at) / STRETCH).exists()
        ]  # fmt: skip

    @cached_property
    def decided(self) -> dict[str, Any]:
        """The settled decisions, read from their file."""
        return read_json(self.settled / SETTLED, error=DataError)

    @cached_property
    def stretches(self) -> list[Stretch]:
        """The stretches to encode, those of a text in their order."""
        return [Stretch(**found) for found in self.decided["stretches"]]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was settled."""
        return load_tokenizer(self.settled / "tokenizer")

    def stored(self) -> tuple[dict[tuple[str, str], StoredText], dict[tuple[str, str], list[int]]]:
        """Return the text of all pieces, and the rows behind each piece of a text's first side.

        Raises DataError if the sides of a pair have different numbers of lines.
        """
        found, borders = {}, {}
        numbered: dict[tuple[str, str], list[tuple[int, Piece]]] = {}
        for at, piece in enumerate(self.pieces):
            numbered.setdefault((piece.split, piece.name), []).append((at, piece))
        for key, own in numbered.items():
            if own[0][1].column is None:
                sides = [[(at, piece, side) for at, piece in own] for side in (0, 1)]
            else:
                by_side: dict[int, list[tuple[int, Piece, int]]] = {}
                for at, piece in own:
                    by_side.setdefault(piece.column or 0, []).append((at, piece, 0))
                sides = list(by_side.values())
            columns = [
                column_of(
                    [(self.lines(at), column) for at, _, column in side],
                    [(piece.source, bool(piece.end)) for _, piece, _ in side],
                )
                for side in sides
            ]
            if len(columns) > 1:
                _check_sides(key[1], [_by_file(side, own.stretches) for side, own in zip(
                    sides, columns, strict=True)])  # fmt: skip
            found[key] = StoredText(tuple(columns))
            rows = np.cumsum([stretch.num_lines for stretch in columns[0].stretches])
            borders[key] = [int(row) for row in rows]
        return found, borders

    @cached_property
    def reader(self) -> Reader:
        """A reader of the stored text that knows the held-out lines and what was decided."""
        reader = Reader(self.config, self.stored()[0])
        for at, name in enumerate(self.decided["surveyed"]):
            reader.decisions[name] = (self.settled / f"decisions-{at}").read_bytes()
        read_held_out(reader)
        return reader


def read_piece(work: Work, number: int) -> None:
    """Read and normalize one piece."""
    piece, folder = work.pieces[number], work.lines(number)
    num_columns = 2 if piece.column is None else 1
    make_once(folder, lambda: write_piece(folder, piece.rows(work.config), num_columns))


def settle(work: Work, tokenizer: Tokenizer | None) -> None:
    """Decide, in one process, what needs all text: cleaning, the vocabulary if none is given."""
    stored, borders = work.stored()
    reader = open_reader(work.config, stored)
    tokenizer = learn_tokenizer(reader) if tokenizer is None else tokenizer
    with atomic_directory(work.settled) as staging:
        tokenizer.save(staging / "tokenizer")
        for at, decisions in enumerate(reader.decisions.values()):
            (staging / f"decisions-{at}").write_bytes(decisions)
        content = {
            "surveyed": list(reader.decisions),
            "met": reader.held_out.met if reader.held_out else [],
            "num_found": reader.held_out.num_found if reader.held_out else {},
            "stretches": [dataclasses.asdict(own) for own in stretches(reader, borders)],
        }
        write_json(staging / SETTLED, content)


def encode(work: Work, number: int) -> None:
    """Encode one stretch."""
    folder = work.ids(number)
    make_once(
        folder,
        lambda: encode_stretch(work.reader, work.stretches[number], work.tokenizer, folder),
    )


def _digest(config: Prepare, pieces: Iterable[Piece]) -> str:
    same = dataclasses.replace(config, workers=None, part=None, join=False, replace=False)
    described = []
    for piece in pieces:
        path = Path(piece.source.partition("?")[0])
        try:
            found = path.stat()
            described.append([repr(piece), found.st_size, found.st_mtime_ns])
        except (OSError, ValueError):
            described.append([repr(piece), 0, 0])
    content = json.dumps([to_yaml(same), described])
    return hashlib.sha256(content.encode()).hexdigest()


def _by_file(side: Iterable[tuple[int, Piece, int]], stretches: Iterable[Any]) -> dict[str, int]:
    """Return the number of lines of each file of a side."""
    counts: dict[str, int] = {}
    for (_, piece, _), stretch in zip(side, stretches, strict=True):
        counts[piece.source] = counts.get(piece.source, 0) + stretch.num_lines
    return counts


def _check_sides(pair: str, sides: list[dict[str, int]]) -> None:
    first, second = sides
    if len(first) != len(second):
        raise DataError(
            f"{pair} has {len(first)} files on one side and {len(second)} on the other: expected "
            "equally many, aligned with each other in the order of their names"
        )
    for names in zip(first, second, strict=True):
        counts = [side[name] for side, name in zip(sides, names, strict=True)]
        if counts[0] != counts[1]:
            raise DataError(mismatch(pair, names, counts))
