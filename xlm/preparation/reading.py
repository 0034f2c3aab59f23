"""The sources of a preparation, opened: lines of a language, pairs of a pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from xlm import sample
from xlm.preparation.config import Prepare
from xlm.text.read_report import EMPTY, Line
from xlm.text.readers import ReadReport, keep_lines, keep_pairs, scan_lines, scan_pairs
from xlm.text.rules import Rules, apply_rules, rules_of


def open_split_pairs(
    config: Prepare, split: str, pair: str, sources: Sequence[str], report: ReadReport
) -> Iterator[tuple[str, str]]:
    """Return the aligned lines of a pair in a split, in the order of its two languages."""
    pairs = keep_pairs(ruled_pairs(config, pair, sources), report)
    return islice(pairs, config.limit(split, pair))


def open_split_lines(
    config: Prepare, split: str, language: str, source: str
) -> tuple[Iterator[str], ReadReport]:
    """Return the lines of a language in a split, and what counts them while they are read."""
    report = ReadReport()
    lines = keep_lines(ruled_lines(config, language, source), report)
    return islice(lines, config.limit(split, language)), report


def ruled_lines(config: Prepare, language: str, source: str) -> Iterator[Line]:
    """Return every line of a source with the rules of its language applied."""
    lines = scan_lines(resolve(config, source), config.invalid, config.max_bytes)
    return _ruled(lines, config, language)


def ruled_pairs(config: Prepare, pair: str, sources: Sequence[str]) -> Iterator[tuple[Line, Line]]:
    """Return every pair of lines with the rules of their languages applied."""
    languages = config.known.pair(pair)
    names = [resolve(config, source) for source in sources]
    both = (languages.first, languages.second)
    rules = [rules_of(config.normalization, language) for language in both]
    for sides in scan_pairs(names, both, config.invalid, config.max_bytes):
        one, two = map(_apply, sides, rules, both)
        yield one, two


def _ruled(lines: Iterable[Line], config: Prepare, language: str) -> Iterator[Line]:
    rules = rules_of(config.normalization, language)
    return (_apply(line, rules, language) for line in lines)


def _apply(line: Line, rules: Rules, language: str) -> Line:
    if line.reason or not rules.active:
        return line
    text = apply_rules(rules, line.text, language)
    return Line(text, "" if text else EMPTY, line.place)


def resolve(config: Prepare, source: str) -> str:
    """Return a source with the root before a relative path, and ``sample:NAME`` made a path."""
    if source.startswith("sample:"):
        return str(sample.path(source.removeprefix("sample:")))
    if source.startswith("datasets:") or Path(source).is_absolute():
        return source
    return str(Path(config.root) / source)
