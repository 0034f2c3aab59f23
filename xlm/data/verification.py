"""Verification of prepared text against the SHA-256 that its headers give for every file.

    corpora.json --of each header and of the tokenizer--> header.json --of each array--> ids.bin ...

The headers are small and are checked whenever corpora are opened; the arrays are read here. A
verified file is remembered by size and modification time, so that a later start costs nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlm.data.corpora import DESCRIPTION, SPLITS
from xlm.data.corpus import DOCUMENTS, FILES, Corpus
from xlm.data.lengths import ORDERS, index_files
from xlm.data.pairs import SIDES, Pairs
from xlm.digests import DIGEST, check_digest, digests, is_sealed, sealed
from xlm.errors import DataError
from xlm.storage import HEADER, read_json, write_json

log = logging.getLogger("xlm")

ADVICE = "the file was damaged or replaced; prepare the text again, or restore it from a copy"
SAID_FROM = 1 << 28
"""Number of bytes from which on reading them is logged."""

Known = dict[str, list[Any]]
"""Size (bytes), modification time (ns) and SHA-256 of each verified file, by its path."""


@dataclass
class Verified:
    """The result of verifying a folder of corpora."""

    known: Known = field(default_factory=dict)
    num_files: int = 0
    """Number of files that have a hash, including known ones."""
    num_bytes: int = 0
    """Number of bytes read this time."""
    unhashed: list[str] = field(default_factory=list)
    """Corpora of an older version, which have no hashes: only their structure was checked."""

    def line(self, folder: Path | str) -> str:
        """Return a warning about files that could not be verified; "" if there are none."""
        if not self.unhashed:
            return ""
        return (
            f"{folder}: {', '.join(self.unhashed[:4])}"
            f"{' and others' if len(self.unhashed) > 4 else ''} were prepared by an older version "
            "and have no hashes: they are not verified, beyond that their arrays fit each other"
        )


def verify_corpora(
    folder: Path | str,
    known: Mapping[str, list[Any]] | None = None,
    *,
    splits: Collection[str] = SPLITS,
    arrays: Collection[str] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Verified:
    """Verify the files of ``splits`` in a folder of corpora that can be opened.

    Files that are in ``known`` with their present size and modification time are not read.
    ``arrays`` limits the check to files of these names. ``tick`` is called every few MiB. Raises
    DataError, which names the file, if one is missing or has changed.
    """
    folder, found, known = Path(folder), Verified(), known or {}
    started, todo = time.monotonic(), []
    for header in _headers(folder, splits):
        files = read_json(header, error=DataError).get("files")
        if not isinstance(files, dict):
            found.unhashed.append(header.parent.relative_to(folder).as_posix())
            if arrays is None:
                _check_structure(folder, header.parent, known, found, tick)
            continue
        for name, digest in files.items():
            if arrays is not None and name not in arrays:
                continue
            path = header.parent / name
            entry = _entry(path, str(digest))
            found.num_files += 1
            if known.get(path.relative_to(folder).as_posix()) == entry:
                found.known[path.relative_to(folder).as_posix()] = entry
            else:
                todo.append((path, entry))
    total = sum(entry[0] for _, entry in todo)
    if total >= SAID_FROM:
        log.info("verifying %.1f GB of prepared text in %s by its SHA-256", total / 1e9, folder)
    for path, entry in todo:
        check_digest(path, entry[2], DataError, ADVICE, tick)
        found.known[path.relative_to(folder).as_posix()] = entry
    found.num_bytes += total
    if total >= SAID_FROM:
        log.info(
            "verified in %.1f s; later starts of this run do without", time.monotonic() - started
        )
    return found


def reseal_corpora(folder: Path | str) -> list[str]:
    """Write the hashes of all files as they are now; return the names of the changed ones.

    Raises DataError for a header that is not JSON.
    """
    folder, changed = Path(folder), list[str]()
    description = read_json(folder / DESCRIPTION, error=DataError)
    headers = sorted(_headers(folder, SPLITS), key=lambda header: -len(header.parts))
    for header in headers:  # those of the sides of pairs first
        content = read_json(header, error=DataError)
        is_text = (header.parent / FILES[0]).exists()
        possible = [DOCUMENTS] if is_text else []
        possible += index_files(own for own in ORDERS if own in content.get("longest", {}))
        names = [*FILES] if is_text else ["order.bin", *(f"{side}/{HEADER}" for side in SIDES)]
        names += [name for name in possible if (header.parent / name).exists()]
        names = list(dict.fromkeys(names))
        changed += _resealed(header, content, names)
    inside = [*headers, *(folder / "tokenizer").glob("*")]
    names = [path.relative_to(folder).as_posix() for path in inside if path.is_file()]
    # The hashes of the sides of pairs are in the headers of the pairs.
    names = [name for name in names if name.count("/") < 3]
    return changed + _resealed(folder / DESCRIPTION, description, names)


def _resealed(header: Path, content: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Write a header with the present hashes of files beside it; return those that differ."""
    before, now = content.get("files") or {}, digests(header.parent, names)
    if before == now and is_sealed(content):
        return []
    write_json(header, sealed({k: v for k, v in content.items() if k != DIGEST} | {"files": now}))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [str(header.parent / name) for name in differing] or [str(header)]


def _headers(folder: Path, splits: Collection[str]) -> Iterator[Path]:
    """Yield the header of each corpus, those of the sides of pairs included."""
    for header in sorted(folder.glob(f"*/*/{HEADER}")):
        if header.parent.parent.name not in splits or header.parent.name.startswith("."):
            continue
        yield header
        for side in SIDES:
            if (beside := header.parent / side / HEADER).exists():
                yield beside


def _entry(path: Path, digest: str) -> list[Any]:
    try:
        status = path.stat()
    except OSError as refused:
        raise DataError(f"{path}: cannot be read ({refused.strerror}): {ADVICE}") from refused
    return [status.st_size, status.st_mtime_ns, digest]


def _check_structure(
    folder: Path, corpus: Path, known: Mapping[str, list[Any]], found: Verified,
    tick: Callable[[], None],
) -> None:  # fmt: skip
    """Check that the arrays of an older version fit each other, unless that was done before."""
    is_text = (corpus / "ids.bin").exists()
    entries = {
        path.relative_to(folder).as_posix(): _entry(path, "")
        for path in sorted(corpus.glob("*.bin"))
    }
    if any(known.get(name) != entry for name, entry in entries.items()):
        if is_text:
            Corpus.open(corpus).check_structure(tick)
        elif (corpus / "order.bin").exists():
            Pairs.open(corpus).index.check()
        found.num_bytes += sum(entry[0] for entry in entries.values())
    found.known |= entries


def is_corpora(path: Path) -> bool:
    """Return whether ``path`` is a folder of corpora."""
    return (path / DESCRIPTION).is_file()


def lacks_description(path: Path) -> bool:
    """Return whether ``path`` holds corpora, but not the file that describes them."""
    return not is_corpora(path) and any(
        header.parent.parent.name in SPLITS for header in path.glob(f"*/*/{HEADER}")
    )
