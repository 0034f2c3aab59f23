"""The sources of a preparation, opened: lines of a language, pairs of a pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from xlm import sample
from xlm.preparation.config import Prepare
from xlm.text.readers import ReadReport, open_bitext, open_lines, open_pairs


def open_split_pairs(
    config: Prepare, split: str, pair: str, sources: Sequence[str], report: ReadReport
) -> Iterator[tuple[str, str]]:
    """Return the aligned lines of a pair in a split, in the order of its two languages."""
    found = [_resolve(config, source) for source in sources]
    if len(found) == 1:
        languages = config.known.pair(pair)
        pairs = open_bitext(
            found[0],
            (languages.first, languages.second),
            report,
            invalid=config.invalid,
            max_bytes=config.max_bytes,
        )
    else:
        first, second = found
        pairs = open_pairs(
            first, second, report, invalid=config.invalid, max_bytes=config.max_bytes
        )
    return islice(pairs, config.limit(split, pair))


def open_split_lines(
    config: Prepare, split: str, language: str, source: str
) -> tuple[Iterator[str], ReadReport]:
    """Return the lines of a language in a split, and what counts them while they are read."""
    report = ReadReport()
    lines = open_lines(
        _resolve(config, source), report, invalid=config.invalid, max_bytes=config.max_bytes
    )
    limit = config.limit(split, language)
    return islice(lines, limit), report


def _resolve(config: Prepare, source: str) -> str:
    """A source with the root put before a relative path, and ``sample:NAME`` made a path."""
    if source.startswith("sample:"):
        return str(sample.path(source.removeprefix("sample:")))
    if source.startswith("datasets:") or Path(source).is_absolute():
        return source
    return str(Path(config.root) / source)
