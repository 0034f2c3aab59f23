"""The pieces that sources are read in: byte ranges of plain files, whole files of other kinds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xlm.languages import LanguagePair
from xlm.preparation.config import SPLITS, Prepare
from xlm.preparation.reading import resolve, ruled
from xlm.text import containers
from xlm.text.columns import NAMED_ONLY
from xlm.text.read_report import Line
from xlm.text.readers import DATASETS, files_of, scan_between, scan_file, scan_pairs
from xlm.text.sources import ending, split_settings

PIECE_BYTES = 16 << 20
"""Smallest size of the pieces of a file, which is what a killed worker makes again."""
MOST_PIECES = 4096
"""Number of pieces of a preparation from which on they are larger."""

Sides = tuple[Line, ...]


@dataclass(frozen=True)
class Piece:
    """A stretch of a source that one worker reads."""

    split: str
    name: str
    """A language or a pair."""
    column: int | None
    """The side of a pair, 0 or 1 (0 for a language); None: the source holds both sides."""
    source: str
    """A file with its settings, or a data set."""
    start: int
    end: int
    """Its bytes; 0 and 0: the whole source."""
    alone: bool = True
    """False: one of several files, which may be empty."""

    @property
    def key(self) -> str:
        """The name that the pieces of one column share."""
        return f"{self.split}/{self.name}"

    @property
    def size(self) -> int:
        """Its bytes, as far as they are known."""
        return self.end - self.start if self.end else size_of(self.source)

    def describe(self) -> str:
        """Return the place of the piece."""
        return f"{self.source}, bytes {self.start:,} to {self.end:,}" if self.end else self.source

    def rows(self, config: Prepare) -> Iterator[Sides]:
        """Yield its lines, or its pairs of lines, with the rules of normalization applied."""
        languages = config.languages_of(self.name)
        if self.column is None:
            both = (languages[0], languages[1])
            rows: Iterator[Sides] = scan_pairs(
                [self.source], both, config.invalid, config.max_bytes
            )
            yield from ruled(rows, config, both)
            return
        if self.end:
            lines = scan_between(
                self.source, config.invalid, config.max_bytes, self.start, self.end
            )
        else:
            lines = scan_file(
                self.source, config.invalid, config.max_bytes,
                alone=self.alone, whole_cells=len(languages) > 1,
            )  # fmt: skip
        yield from ruled(((line,) for line in lines), config, (languages[self.column],))


def cut(config: Prepare) -> list[Piece]:
    """Return the pieces of all sources that are read in parts, those of a text in their order.

    A text of which only the first lines are wanted is left out: reading ahead would be in vain.
    """
    most = max(PIECE_BYTES, total_size(config) // MOST_PIECES)
    return [
        piece
        for split in SPLITS
        for name in config.names(split)
        if config.limit(split, name) is None
        for column, source, alone in _files(config, split, name)
        for piece in _pieces(split, name, column, source, alone, most)
    ]


def total_size(config: Prepare) -> int:
    """Return the bytes of all sources that are read in parts, as far as they are known."""
    return sum(
        size_of(source)
        for split in SPLITS
        for name in config.names(split)
        if config.limit(split, name) is None
        for _, source, _ in _files(config, split, name)
    )


def size_of(source: str) -> int:
    """Return the bytes of a regular file, whatever its settings; 0 for what is none."""
    try:
        found = os.stat(_path(source))
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def is_regular(config: Prepare) -> bool:
    """Return whether every source can be read by several processes: no pipe is among them."""
    return all(
        source.startswith(DATASETS) or not os.path.exists(_path(source)) or size_of(source)
        or os.path.isfile(_path(source))
        for split in SPLITS
        for name in config.names(split)
        for _, source, _ in _files(config, split, name)
    )  # fmt: skip


def _path(source: str) -> str:
    return split_settings(source, ("column", "columns", "language"))[0]


def _files(config: Prepare, split: str, name: str) -> Iterator[tuple[int | None, str, bool]]:
    """Yield each file of a text with its column, and whether it is the only one of its source."""
    if len(config.languages_of(name)) == 1:
        columns: Sequence[tuple[int | None, str]] = [
            (0, source) for source in config.text.sources(split, name)
        ]
    else:
        sources = getattr(config.pairs, split)[name]
        if len(sources) == 1:
            yield None, resolve(config, sources[0]), True
            return
        columns = list(enumerate(sources))
    for column, source in columns:
        files = files_of(resolve(config, source))
        is_text = len(config.languages_of(name)) == 1
        for file in files:
            yield column, file, len(files) == 1 or not is_text


def _pieces(
    split: str, name: str, column: int | None, source: str, alone: bool, most: int
) -> Iterator[Piece]:
    size = size_of(source)
    if column is None or size <= most or not _is_plain(source):
        yield Piece(split, name, column, source, 0, 0, alone)
        return
    number = -(-size // most)
    borders = [size * at // number for at in range(number + 1)]
    for start, end in zip(borders[:-1], borders[1:], strict=True):
        yield Piece(split, name, column, source, start, end, alone)


def _is_plain(source: str) -> bool:
    """Return whether a source is a file of lines that can be read from its middle on."""
    path = _path(source)
    if source.startswith(DATASETS) or path != source or ending(path) in (*NAMED_ONLY, ".tmx"):
        return False
    with open(path, "rb") as file:
        return not containers.compression(file.read(16)) and not containers.promised(path)


def mismatch(pair: str, names: Sequence[str], counts: Sequence[int]) -> str:
    """Return the error about two sides of a pair with different numbers of lines."""
    assert LanguagePair.readings(pair)
    return (
        f"{names[0]} has {counts[0]:,} lines and {names[1]} has {counts[1]:,}: expected "
        "aligned files with the same number of lines; check where they went apart"
    )
