"""The sources of a preparation, opened as often as they are needed, and cleaned alike each time.

source --> lines --rules of the language--> --decisions of the first pass--> kept | dropped
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from xlm import sample
from xlm.errors import DataError
from xlm.preparation.cleaning import REASONS, Judge, follow
from xlm.preparation.config import SPLITS, Prepare
from xlm.preparation.overlap import HeldOutLines
from xlm.preparation.parts.stored import Sides, StoredText
from xlm.text.read_report import EMPTY, Line
from xlm.text.readers import ReadReport, keep_lines, keep_pairs, scan_lines, scan_pairs
from xlm.text.rules import Rules, apply_rules, rules_of

log = logging.getLogger("xlm")


@dataclass
class Reader:
    """Opens the sources of a preparation; see ``survey`` for what cleans them."""

    config: Prepare
    stored: Mapping[tuple[str, str], StoredText] = field(default_factory=dict)
    """The rows of a split and name that were read already; the others are read now."""
    held_out: HeldOutLines | None = None
    """Held-out lines to look training lines up in; None if there is no held-out text."""
    decisions: dict[str, bytes] = field(default_factory=dict)
    """Decision on each line of a surveyed training source: 0 if it is kept, else the reason
    for dropping it."""

    def lines(
        self, split: str, language: str, *, look: bool = False
    ) -> tuple[Iterator[str], ReadReport]:
        """Return the lines of a language in a split, and the report that counts them meanwhile.

        With ``look`` training lines that were not surveyed are looked up in the held-out text.
        """
        report = ReadReport()
        lines = keep_lines((sides[0] for sides in self._rows(split, language, look)), report)
        return itertools.islice(lines, self.config.limit(split, language)), report

    def pairs(
        self, split: str, pair: str, *, look: bool = False
    ) -> tuple[Iterator[tuple[str, str]], ReadReport]:
        """Return the pairs of a split, and the report that counts them meanwhile; as ``lines``."""
        report = ReadReport()
        rows = ((first, second) for first, second in self._rows(split, pair, look))
        return itertools.islice(keep_pairs(rows, report), self.config.limit(split, pair)), report

    def scan(self, split: str, name: str) -> Iterator[Sides]:
        """Return every line of a language, or pair of lines, before any decision."""
        stored = self.stored.get((split, name))
        return scan(self.config, split, name) if stored is None else stored.rows()

    def training_texts(self, name: str, side: int) -> Iterator[str]:
        """Return the kept training lines of a language, or of a side of a pair."""
        if name not in self.decisions and ("train", name) in self.stored:
            return self.stored["train", name].kept_texts(side)
        if len(self.config.languages_of(name)) == 1:
            return self.lines("train", name)[0]
        return (row[side] for row in self.pairs("train", name)[0])

    def num_training(self, name: str) -> int | None:
        """Return the number of kept training lines or pairs; None if they would have to be read."""
        if ("train", name) not in self.stored:
            return None
        if name in self.decisions:
            return self.decisions[name].count(0)
        return int(self.stored["train", name].is_kept().sum())

    def _rows(self, split: str, name: str, look: bool) -> Iterator[Sides]:
        rows = self.scan(split, name)
        if split != "train":
            return rows
        if name in self.decisions:
            return follow(rows, self.decisions[name])
        return self.looked_up(name, rows) if look and self.held_out is not None else rows

    def looked_up(self, name: str, rows: Iterable[Sides]) -> Iterator[Sides]:
        """Yield training rows; those that occur in held-out text are counted."""
        assert self.held_out is not None
        for sides in rows:
            if not any(side.reason for side in sides):
                self.held_out.look(name, sides[0].place, tuple(side.text for side in sides))
            yield sides


def open_reader(
    config: Prepare,
    stored: Mapping[tuple[str, str], StoredText] | None = None,
) -> Reader:
    """Return the function that opens sources; read held-out lines, judge training lines if need be.

    Rows that are ``stored`` are not read from their sources again. Raises DataError if too many
    held-out lines occur in training text and the recipe refuses that.
    """
    reader = Reader(config, stored or {})
    read_held_out(reader)
    if config.cleaning.drops or config.cleaning.held_out_similarity is not None:
        for name in config.names("train"):
            reader.decisions[name] = _survey(reader, name)
    if reader.held_out is not None and config.cleaning.held_out == "refuse":
        _refuse(reader.held_out, config.cleaning.held_out_share)
    return reader


def read_held_out(reader: Reader) -> None:
    """Read the held-out lines that training lines are looked up in, if there are both."""
    config = reader.config
    others = [(split, name) for split in SPLITS[1:] for name in config.names(split)]
    if config.names("train") and others:
        reader.held_out = HeldOutLines(config.cleaning)
        for split, name in others:
            _add_held_out(reader, split, name)


def _refuse(held_out: HeldOutLines, most: float) -> None:
    for text in held_out.leaks():
        if text.share > most:
            raise DataError(
                f"{text.describe()}: expected at most {most:.2%} (cleaning.held_out_share); drop "
                "these training lines (cleaning.held_out: drop), or hold out other text"
            )


def _add_held_out(reader: Reader, split: str, name: str) -> None:
    config = reader.config
    languages = config.languages_of(name)
    for side, language in enumerate(languages):
        rows = (sides for sides in reader.scan(split, name) if not any(s.reason for s in sides))
        lines = itertools.islice(rows, config.limit(split, name))
        title = f"{split} {name}" + (f" ({language})" if len(languages) > 1 else "")
        assert reader.held_out is not None
        reader.held_out.add(title, ((sides[side].place, sides[side].text) for sides in lines))


def _survey(reader: Reader, name: str) -> bytes:
    """Return the decision on each line of a training source, up to the last one that is used.

    Raises DataError if there are lines and all are dropped.
    """
    config = reader.config
    judge = Judge(
        config.cleaning,
        config.languages_of(name),
        partial(reader.held_out.look, name) if reader.held_out else lambda place, texts: False,
    )
    decisions = bytearray()
    limit, num_kept = config.limit("train", name), 0
    for sides in reader.scan("train", name):
        if num_kept == limit:
            break
        if any(side.reason for side in sides):
            continue
        reason = judge.reason(sides[0].place, tuple(side.text for side in sides))
        decisions.append(REASONS.index(reason))
        num_kept += not reason
    if decisions and not num_kept:
        counts = Counter(REASONS[own] for own in decisions)
        account = ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())
        raise DataError(
            f"{name}, train: cleaning drops all {len(decisions):,} lines ({account}): make "
            "cleaning in the recipe less strict, or check that the text is what its name "
            "says"
        )
    return bytes(decisions)


def scan(config: Prepare, split: str, name: str) -> Iterator[Sides]:
    """Return every line of a language, or pair of lines, with the languages' rules applied."""
    languages = config.languages_of(name)
    rows: Iterable[Sides]
    if len(languages) == 1:
        sources = [resolve(config, source) for source in config.text.sources(split, name)]
        rows = (
            (line,)
            for source in sources
            for line in scan_lines(source, config.invalid, config.max_bytes)
        )
    else:
        sources = [resolve(config, source) for source in getattr(config.pairs, split)[name]]
        both = (languages[0], languages[1])
        rows = scan_pairs(sources, both, config.invalid, config.max_bytes)
    yield from ruled(rows, config, languages)


def ruled(rows: Iterable[Sides], config: Prepare, languages: Sequence[str]) -> Iterator[Sides]:
    """Yield rows, a side for each of ``languages``, with the rules of the languages applied."""
    rules = [rules_of(config.normalization, language) for language in languages]
    if not any(own.active for own in rules):
        yield from rows
        return
    for sides in rows:
        yield tuple(map(_ruled, sides, rules, languages))


def _ruled(line: Line, rules: Rules, language: str) -> Line:
    if line.reason or not rules.active:
        return line
    text = apply_rules(rules, line.text, language)
    return Line(text, "" if text else EMPTY, line.place)


def resolve(config: Prepare, source: str) -> str:
    """Return a source with the root before a relative path, and ``sample:NAME`` made a path."""
    if source.startswith(sample.PREFIX):
        return sample.resolved(source)
    if source.startswith("datasets:") or Path(source).is_absolute():
        return source
    return str(Path(config.root) / source)
