"""Import the original XLM's binarized data as a folder of corpora.

train.en.pth, valid.en-fr.en.pth, ... --ids unchanged--> a folder such as xlm prepare writes
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from xlm.data.corpora import Corpora, write_header
from xlm.errors import DataError
from xlm.interchange.original.binarized import read_binarized
from xlm.interchange.original.vocabulary import Dictionary, build_tokenizer
from xlm.interchange.original.write_corpora import write_pairs, write_text
from xlm.languages import LanguagePair
from xlm.storage import atomic_directory
from xlm.text.tokenizers.tokenizer import Tokenizer

_FILE = re.compile(
    r"(?P<split>train|valid|test)\.(?:(?P<pair>[^.]+-[^.]+)\.)?(?P<language>[^.]*[^.\d][^.]*)"
    r"(?:\.(?P<part>\d+))?\.pth"
)
"""Names such as ``train.en.pth``, ``train.en-fr.en.pth``, and parts such as ``train.en.0.pth``."""

_Files = dict[tuple[str, str], dict[str, list[Path]]]
"""Files of each language in order, by split and name (of a language or a pair)."""


@dataclass(frozen=True)
class ImportedCorpora:
    """Corpora written from the original XLM's binarized files, with a summary of each."""

    corpora: Corpora
    folder: Path
    accounts: tuple[str, ...]
    """One line per corpus and side: sentences, tokens, unknown words, dropped sentences."""
    unread: tuple[str, ...]
    """Names of other files in the source."""

    def describe(self) -> list[str]:
        """Return lines for a person to read."""
        pieces = f"tokenizer: {self.corpora.tokenizer.vocab_size:,} entries"
        unread = [f"not read, as no split is in the name: {', '.join(self.unread)}"]
        return [*self.accounts, pieces, *(unread if self.unread else [])]


def is_binarized(source: str | Path) -> bool:
    """Return True if a folder holds binarized data of the original, such as ``train.en.pth``."""
    path = Path(source)
    return path.is_dir() and any(_FILE.fullmatch(file.name) for file in path.glob("*.pth"))


def import_binarized(
    source: str | Path,
    folder: str | Path,
    *,
    codes: str | None = None,
    vocabulary: str | None = None,
) -> ImportedCorpora:
    """Write the original's binarized data as a folder of corpora, such as ``xlm prepare`` writes.

    ``codes`` and ``vocabulary`` are fastBPE's files (None: those beside the data). Ids do not
    change, so all files must have the same dictionary. Empty lines, and pairs with an empty side,
    are dropped and counted, as ``xlm prepare`` does. Words, characters and bytes are counted in the
    text without ``@@``. The folder appears whole or not at all. Raises DataError if it exists,
    CheckpointError if the codes are missing, and either one for files that are damaged or
    contradict each other.
    """
    files, unread = _list_files(Path(source))
    tokenizer: Tokenizer | None = None
    accounts: list[str] = []
    notes: list[str] = []
    with atomic_directory(folder) as staging:
        for (split, name), sides in files.items():
            parts = []
            for paths in sides.values():
                parts.append([read_binarized(path) for path in paths])
            for path, part in zip(chain(*sides.values()), chain(*parts), strict=True):
                if tokenizer is None:
                    items = Dictionary(part.pieces, part.counts)
                    tokenizer, notes = build_tokenizer(path, items, codes, vocabulary)
                _check_pieces(path, part.pieces, tokenizer)
            assert tokenizer is not None
            target, languages = staging / split / name, list(sides)
            if len(sides) == 1:
                done = [write_text(parts[0], target, name, tokenizer)]
            else:
                done = [*write_pairs(parts, target, languages, tokenizer)]
            for counts, language in zip(done, languages, strict=True):
                where = f"{split} {name}" + (f", {language}" if len(sides) > 1 else "")
                accounts.append(counts.describe(where, "sentences"))
        assert tokenizer is not None
        tokenizer.save(staging / "tokenizer")
        write_header(staging, tokenizer, {one for sides in files.values() for one in sides})
    folder = Path(folder)
    return ImportedCorpora(Corpora.open(folder), folder, tuple([*accounts, *notes]), unread)


def _check_pieces(path: Path, pieces: Sequence[str], tokenizer: Tokenizer) -> None:
    """Raise DataError, naming the first piece that differs from those of the files before."""
    if tuple(pieces) == tuple(tokenizer.pieces):
        return
    both = zip(pieces, tokenizer.pieces, strict=False)
    at = next((k for k, (one, other) in enumerate(both) if one != other), None)
    if at is None:
        found = f"{len(pieces):,} pieces, the files before it {len(tokenizer.pieces):,}"
    else:
        found = f"{pieces[at]!r} as id {at}, the files before it {tokenizer.pieces[at]!r}"
    raise DataError(f"{path} has {found}: expected data of one vocabulary; import each separately")


def _list_files(source: Path) -> tuple[_Files, tuple[str, ...]]:
    """Return the data of ``source`` in order, and the names of its other .pth files."""
    found: dict[tuple[str, str], dict[str, list[tuple[int, Path]]]] = {}
    unread = []
    for path in sorted(source.glob("*.pth")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            unread.append(path.name)
            continue
        name, language = match["pair"] or match["language"], match["language"]
        sides = found.setdefault((match["split"], name), {})
        sides.setdefault(language, []).append((int(match["part"] or -1), path))
    files: _Files = {}
    for (split, name), sides in sorted(found.items()):
        readings = [tuple(pair) for pair in LanguagePair.readings(name)]
        possible = [own for own in [(name,), *readings] if sorted(own) == sorted(sides)]
        if not possible:
            expected = " or ".join(f"{first} and {second}" for first, second in readings)
            raise DataError(
                f"{source}: {split} {name} has files for {', '.join(sides)}, expected "
                f"{expected}: give both sides, or remove these"
            )
        for parts in sides.values():
            if len(parts) > 1 and min(parts)[0] < 0:
                raise DataError(
                    f"{min(parts)[1]} lies beside its own parts ({max(parts)[1].name}): "
                    "remove one or the other"
                )
        files[split, name] = {one: [path for _, path in sorted(sides[one])] for one in possible[0]}
    return files, tuple(unread)
