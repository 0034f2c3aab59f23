"""Readers of dictionaries, scored pairs, alignments, words in context, minimal pairs, vectors.

Upper case, several translations, tabs or spaces, byte order marks and CRLF are accepted; errors
give file and line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.analysis.alignment import Gold
from xlm.errors import DataError
from xlm.storage import read_json
from xlm.text.normalize import normalize
from xlm.text.readers import decode_lines

_LINK = re.compile(r"(\d+)([-p])(\d+)")
_MARKED = re.compile(r"<b>\s*(.*?)\s*</b>")


class Scored(NamedTuple):
    """Two words or phrases and their similarity as people rate it."""

    first: str
    second: str
    score: float


class InContext(NamedTuple):
    """Two sentences of words, the word in question in each, and the answer."""

    first: list[str]
    first_at: int
    second: list[str]
    second_at: int
    answer: float
    """WiC: 1 or 0 (the same sense, another); SCWS: the mean rating."""


class MinimalPair(NamedTuple):
    """A grammatical sentence and an ungrammatical one."""

    construction: str
    right: str
    wrong: str


def cells(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and the cells between tabs, normalized; skip empty lines."""
    for line in decode_lines(str(path)):
        if line.reason:
            raise DataError(f"{line.place}: the line is {line.reason}: expected text")
        if line.text.strip():
            yield line.place, [normalize(cell) for cell in line.text.rstrip("\r\n").split("\t")]


def read_dictionary(path: str | Path) -> dict[str, list[str]]:
    """Return the translations of each source word, in the order of the file.

    A line holds a word and a translation, separated by a tab, or by spaces if neither has one.
    """
    found: dict[str, list[str]] = {}
    for place, own in cells(path):
        words = own if len(own) > 1 else own[0].split()
        if len(words) != 2 or not all(words):
            raise DataError(
                f"{place}: found {len(words)} words in {' '.join(own)[:40]!r}: expected a "
                "word and its translation; separate phrases by a tab"
            )
        translations = found.setdefault(words[0], [])
        if words[1] not in translations:
            translations.append(words[1])
    return found


def read_scored_pairs(path: str | Path) -> list[Scored]:
    """Return pairs of words or phrases and their scores: three cells a line."""
    found = []
    for place, own in cells(path):
        if len(own) != 3 or not all(own):
            raise DataError(
                f"{place}: found {len(own)} cells: expected two words or phrases and a "
                "score, separated by tabs"
            )
        found.append(Scored(own[0], own[1], _number(own[2], place)))
    return found


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{place}: the score {text[:40]!r} is not a number: expected one such as 3.25"
        )
    return value


def read_alignments(path: str | Path, *, first_index: int = 0) -> list[Gold]:
    """Return the links of each line: ``0-1`` is sure, ``0p1`` possible; a line may open with an id.

    ``first_index`` is the number of the first word. Raises DataError for anything else.
    """
    found = []
    for line in decode_lines(str(path)):
        words = line.text.split()
        if words and words[0].isdigit():
            words = words[1:]
        sure, possible = set(), set()
        for word in words:
            match = _LINK.fullmatch(word)
            if match is None:
                raise DataError(
                    f"{line.place}: found {word[:40]!r}: expected links such as 0-1 0p1"
                )
            own = int(match[1]) - first_index, int(match[3]) - first_index
            if min(own) < 0:
                raise DataError(
                    f"{line.place}: {word} is smaller than the number of the first word, "
                    f"{first_index}: set first_index to 0"
                )
            possible.add(own)
            if match[2] == "-":
                sure.add(own)
        found.append(Gold(frozenset(sure), frozenset(possible)))
    return found


def check_alignments(
    path: str | Path, gold: Sequence[Gold], sizes: Sequence[tuple[int, int]]
) -> None:
    """Raise DataError unless the links are as many as ``sizes``, and inside their sentences."""
    if len(gold) != len(sizes):
        raise DataError(
            f"{path} has {len(gold):,} lines of links for {len(sizes):,} sentence pairs: "
            "expected one line per pair"
        )
    for number, (own, size) in enumerate(zip(gold, sizes, strict=True), 1):
        outside = [
            link for link in sorted(own.possible) if link[0] >= size[0] or link[1] >= size[1]
        ]
        if outside:
            i, j = outside[0]
            links = [link for each in gold for link in each.possible]
            from_one = all(min(link) > 0 for link in links)
            advice = (
                "no link has a 0, so the file seems to count from 1: read it with first_index 1"
                if from_one
                else "check that the lines belong to these sentences"
            )
            raise DataError(
                f"{path}:{number}: the link {i}-{j} is outside of sentences with {size[0]} "
                f"and {size[1]} words; {advice}"
            )


def read_wic(data: str | Path, gold: str | Path) -> list[InContext]:
    """Return WiC's rows: word, part of speech, ``i-j`` and two sentences; ``gold`` has T or F."""
    answers = [(place, own[0]) for place, own in cells(gold)]
    rows = list(cells(data))
    if len(rows) != len(answers):
        raise DataError(
            f"{data} has {len(rows):,} rows and {gold} has {len(answers):,}: expected one for each"
        )
    found = []
    for (place, own), (gold_place, answer) in zip(rows, answers, strict=True):
        at = re.fullmatch(r"(\d+)-(\d+)", own[2]) if len(own) == 5 else None
        if at is None:
            raise DataError(
                f"{place}: found {len(own)} cells: expected five (word, part of speech, "
                "places such as 2-4, and two sentences)"
            )
        if answer not in ("T", "F"):
            raise DataError(f"{gold_place}: found {answer[:20]!r}: expected T or F")
        first, second = own[3].split(), own[4].split()
        places = int(at[1]), int(at[2])
        if places[0] >= len(first) or places[1] >= len(second):
            raise DataError(
                f"{place}: the word's places are {own[2]}, but the sentences have "
                f"{len(first)} and {len(second)} words: expected places inside them, counted "
                "from 0"
            )
        found.append(InContext(first, places[0], second, places[1], float(answer == "T")))
    return found


def read_scws(path: str | Path) -> list[InContext]:
    """Return SCWS's rows: the words that ``<b>`` marks in their contexts, and the mean rating."""
    found = []
    for place, own in cells(path):
        if len(own) < 8:
            raise DataError(
                f"{place}: found {len(own)} cells: expected the 18 of SCWS, with the two "
                "contexts in the 6th and 7th and the mean rating in the 8th"
            )
        sides = [_marked_word(text, place) for text in own[5:7]]
        found.append(InContext(*sides[0], *sides[1], _number(own[7], place)))
    return found


def _marked_word(text: str, place: str) -> tuple[list[str], int]:
    """Return the words of a context, split at the marked phrase, and the phrase's place."""
    match = _MARKED.search(text)
    if match is None or not match[1]:
        raise DataError(f"{place}: no word is marked: expected one between <b> and </b>")
    before = text[: match.start()].split()
    marked = "_".join(match[1].split()) if " " in match[1] else match[1]
    return [*before, marked, *text[match.end() :].split()], len(before)


def read_minimal_pairs(path: str | Path) -> list[MinimalPair]:
    """Return minimal pairs: a construction first, the right and the wrong sentence last.

    Cells between them are ignored.
    """
    found = []
    for place, own in cells(path):
        if len(own) < 3 or not all((own[0], own[-2], own[-1])):
            raise DataError(
                f"{place}: found {len(own)} cells: expected a construction, the right "
                "sentence and the wrong one, separated by tabs"
            )
        found.append(MinimalPair(own[0], own[-2], own[-1]))
    return found


def read_vectors(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of a ``.vec`` file by word: a header with two numbers, or none.

    The first of two vectors of a word is kept.
    """
    found: dict[str, NDArray[np.float32]] = {}
    width = 0
    for number, line in enumerate(decode_lines(str(path)), 1):
        parts = line.text.rstrip().split(" ")
        if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
            width = int(parts[1])
            continue
        if not line.text.strip():
            continue
        width = width or len(parts) - 1
        word, values = " ".join(parts[:-width]), parts[-width:]
        try:
            vector = np.array([float(value) for value in values], dtype=np.float32)
        except ValueError:
            vector = np.zeros(0, dtype=np.float32)
        if not word or len(vector) != width or not np.isfinite(vector).all():
            raise DataError(
                f"{line.place}: found {len(parts)} parts: expected a word and {width} "
                "numbers, separated by single spaces"
            )
        found.setdefault(normalize(word), vector)
    if not found:
        raise DataError(f"{path} holds no vector: expected a word and its numbers on each line")
    return found


def read_scores(path: str | Path) -> dict[str, float]:
    """Return a score for each language from a TSV, or from a ``report.json`` of ``xlm finetune``.

    A report gives means over its seeds with the checkpoint that English chose; scores are named
    after their streams (``nli/hi``) if there is more than one task.
    """
    if Path(path).suffix == ".json":
        return _report_scores(Path(path))
    found = {}
    for place, own in cells(path):
        parts = own if len(own) > 1 else own[0].split()
        if len(parts) != 2:
            raise DataError(f"{place}: found {len(parts)} cells: expected a language and a score")
        found[parts[0]] = _number(parts[1], place)
    return found


def _report_scores(path: Path) -> dict[str, float]:
    streams: Any = read_json(path, error=DataError).get("streams")
    try:
        means = {name: float(own["chosen"]["mean"]) for name, own in streams.items()}
    except (AttributeError, TypeError, ValueError, KeyError) as damage:
        raise DataError(
            f"{path} has no mean for each stream: expected the report.json of xlm finetune"
        ) from damage
    if len({name.split("/")[0] for name in means}) > 1:
        return means
    return {name.rpartition("/")[2]: value for name, value in means.items()}
