"""Sentences of words: with tags (CoNLL, WikiANN, TSV) or with trees (CoNLL-U).

lines --blank lines--> blocks --columns--> words and tags, or words, parts of speech and heads
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from xlm.errors import ConfigError, DataError
from xlm.text import files
from xlm.text.normalize import normalize
from xlm.text.readers import DATASETS, ReadReport, decode_lines, parse_dataset

FORMATS = ("tsv", "conll", "wikiann", "conllu")
DOCUMENT_START = "-DOCSTART-"
COMMENT = "comment"
NO_SENTENCE = "found no sentence, expected words on lines of their own"

_TAG = re.compile(r"[BIESLUM]-\S+|[A-Z]{1,6}\$?")
_MULTIWORD = re.compile(r"[0-9]+-[0-9]+")
_EMPTY_NODE = re.compile(r"[0-9]+\.[0-9]+")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Words, normalized, and the tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    language: str
    place: str
    """``file:line`` of its first word."""


@dataclass(frozen=True, slots=True)
class ParsedSentence:
    """Syntactic words ``[n]``, normalized, and their tree."""

    words: tuple[str, ...]
    upos: tuple[str, ...]
    """Universal parts of speech."""
    heads: tuple[int, ...]
    """Number of the head of words 1 to n; 0 is the root."""
    labels: tuple[str, ...]
    """Relations to the head, with their subtypes."""
    language: str
    place: str
    """``file:line`` of its first word."""


class _Line(NamedTuple):
    place: str
    text: str


def read_tagged(
    source: str,
    format: str = "conll",
    *,
    language: str = "",
    word_column: int = 0,
    tag_column: int = -1,
    report: ReadReport | None = None,
) -> Iterator[TaggedSentence]:
    """Yield the tagged sentences of a file, or of ``datasets:NAME?words=tokens&tags=ner_tags``.

    ``tsv``: a word, a tab, its tag. ``conll``: columns separated by tabs, or else by white space,
    of which ``word_column`` and ``tag_column`` (from 0, or from -1 backwards) are taken; lines
    ``-DOCSTART-`` and comments (lines with ``#`` before a sentence that hold no word with a tag)
    are dropped, and counted in ``report``. ``wikiann``: ``language:word``, a tab, a tag; with
    ``language`` any other is an error. ``conllu``: see ``read_trees``; the tags are the universal
    parts of speech. Blank lines separate sentences. Raises ConfigError for another format;
    DataError, with file and line, for a line of another width than the first, a word or tag that is
    empty, and a file without a sentence.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    source, report = str(source), ReadReport() if report is None else report
    if format == "conllu":
        for tree in read_trees(source, language=language, report=report):
            yield TaggedSentence(tree.words, tree.upos, tree.language, tree.place)
    elif source.startswith(DATASETS):
        yield from _tagged_dataset(source, language, report)
    else:
        width = 2 if format != "conll" else 0
        is_empty = True
        for block in _blocks(source, report, comments=False):
            block = _without_comments(block, format, width, tag_column, report)
            if not block:
                continue
            is_empty = False
            rows = [_split(line, format) for line in block]
            width = width or len(rows[0])
            spoken = language
            if format == "wikiann":
                spoken = _strip_language(rows, block, language)
            _check_widths(rows, block, width, word_column, tag_column)
            yield _tagged(
                [row[word_column] for row in rows],
                [row[tag_column] for row in rows],
                [line.place for line in block],
                spoken,
                report,
            )
        if is_empty:
            raise DataError(f"{source}: {NO_SENTENCE}")


def read_trees(
    source: str, *, language: str = "", report: ReadReport | None = None
) -> Iterator[ParsedSentence]:
    """Yield the trees of a CoNLL-U file, or of a data set with tokens, upos, head and deprel.

    Words are the syntactic ones: lines of multiword tokens (``3-4``) and of empty nodes (``8.1``)
    are skipped, as are comments. Relations keep their subtypes. Raises DataError, with file and
    line, for a line without ten columns, an id out of turn, a head that is not a word of the
    sentence, a word without a part of speech or relation, heads that form a circle, a number of
    roots other than one, and a file without a sentence.
    """
    source, report = str(source), ReadReport() if report is None else report
    if source.startswith(DATASETS):
        yield from _parsed_dataset(source, language, report)
        return
    for block in _blocks(source, report, comments=True):
        places: list[str] = []
        rows: list[list[str]] = []
        for line in block:
            cells = line.text.split("\t")
            if len(cells) != 10:
                raise DataError(
                    f"{line.place}: found {len(cells)} columns separated by tabs, expected the 10 "
                    "of CoNLL-U"
                )
            if _MULTIWORD.fullmatch(cells[0]) or _EMPTY_NODE.fullmatch(cells[0]):
                continue
            if cells[0] != str(len(rows) + 1):
                raise DataError(
                    f"{line.place}: found the id {cells[0]!r}, expected {len(rows) + 1}"
                )
            places.append(line.place)
            rows.append(cells)
        if not rows:
            raise DataError(
                f"{block[0].place}: found a sentence without words, expected at least 1"
            )
        words, upos, heads, labels = ([row[k] for row in rows] for k in (1, 3, 6, 7))
        yield _parsed(words, upos, heads, labels, places, language, report)


def _parsed(
    words: Sequence[str],
    upos: Sequence[str],
    heads: Sequence[Any],
    labels: Sequence[str],
    places: Sequence[str],
    language: str,
    report: ReadReport,
) -> ParsedSentence:
    numbers: list[int] = []
    for place, tag, head, label in zip(places, upos, heads, labels, strict=True):
        for name, value in (("part of speech", tag), ("relation", label)):
            if value in ("", "_", None):
                raise DataError(f"{place}: found no {name}, expected one for every word")
        if not (str(head).isascii() and str(head).isdigit() and int(head) <= len(words)):
            raise DataError(
                f"{place}: found the head {head!r}, expected a number from 0 to {len(words)}"
            )
        numbers.append(int(head))
    if numbers.count(0) != 1:
        raise DataError(
            f"{places[0]}: found {numbers.count(0)} roots in a sentence, expected exactly one"
        )
    _check_tree(numbers, places)
    normal = tuple(_word(word, place) for word, place in zip(words, places, strict=True))
    report.keep(places[0], *normal)
    return ParsedSentence(normal, tuple(upos), tuple(numbers), tuple(labels), language, places[0])


def _check_tree(heads: Sequence[int], places: Sequence[str]) -> None:
    reached = {0}
    for word in range(1, len(heads) + 1):
        path: list[int] = []
        node = word
        while node not in reached:
            if node in path:
                raise DataError(
                    f"{places[node - 1]}: the heads from word {node} on form a cycle, "
                    "expected a tree"
                )
            path.append(node)
            node = heads[node - 1]
        reached.update(path)


def _blocks(source: str, report: ReadReport, *, comments: bool) -> Iterator[list[_Line]]:
    """Yield the filled lines between blank ones."""
    block: list[_Line] = []
    num = 0
    for line in decode_lines(source):
        if line.reason:
            raise DataError(f"{line.place}: the line is {line.reason}: expected one word a line")
        text = line.text.removesuffix("\r")
        if text.strip():
            if comments and text.startswith("#"):
                continue
            if not comments and text.split(maxsplit=1)[0] == DOCUMENT_START:
                report.drop(DOCUMENT_START, line.place)
                continue
            block.append(_Line(line.place, text))
        elif block:
            num += 1
            yield block
            block = []
    if block:
        num += 1
        yield block
    if not num:
        raise DataError(f"{source}: {NO_SENTENCE}")


def _without_comments(
    block: list[_Line], format: str, width: int, tag: int, report: ReadReport
) -> list[_Line]:
    """Return the lines of a sentence, without the comments before it."""
    num = next((at for at, line in enumerate(block) if not line.text.startswith("#")), len(block))
    words = block[num:]
    width = len(_split(words[0], format)) if words else width
    rows = [cells for line in words if len(cells := _split(line, format)) == width]
    tags = {cells[tag] for cells in rows if -width <= tag < width}
    kept: list[_Line] = []
    for line in block[:num]:
        if kept or (format != "wikiann" and _is_tagged(line, format, width, tag, tags)):
            kept.append(line)
        else:
            report.drop(COMMENT, line.place)
    return kept + words


def _is_tagged(line: _Line, format: str, width: int, tag: int, tags: Collection[str]) -> bool:
    """Return whether a line that begins with ``#`` is a word with a tag rather than a comment.

    It has as many columns as the words below, and tabs between them or a tag that is one of theirs
    or looks like one.
    """
    cells = _split(line, format)
    width = width or len(cells)
    if len(cells) != width or width < 2 or not -width <= tag < width:
        return False
    return "\t" in line.text or cells[tag] in tags or bool(_TAG.fullmatch(cells[tag]))


def _split(line: _Line, format: str) -> list[str]:
    if "\t" in line.text or format != "conll":
        return line.text.split("\t")
    return line.text.split()


def _strip_language(rows: Sequence[list[str]], block: Sequence[_Line], language: str) -> str:
    """Split ``en:word`` in place; return the language that all words share."""
    for row, line in zip(rows, block, strict=True):
        found, colon, row[0] = row[0].partition(":")
        if not colon or not found:
            raise DataError(f"{line.place}: found {found!r}, expected language:word, such as en:of")
        language = language or found
        if found != language:
            raise DataError(f"{line.place}: found a word of {found}, expected {language}")
    return language


def _check_widths(
    rows: Sequence[list[str]], block: Sequence[_Line], width: int, word: int, tag: int
) -> None:
    for row, line in zip(rows, block, strict=True):
        if len(row) != width or width < 2:
            expected = width if width > 1 else "a word and its tag, 2 or more"
            raise DataError(f"{line.place}: found {len(row)} columns, expected {expected}")
    for column in (word, tag):
        if not -width <= column < width:
            raise ConfigError(
                f"column is {column}, but {block[0].place} has {width} columns, counted from 0: "
                f"give 0 to {width - 1}"
            )
    if word % width == tag % width:
        raise ConfigError(
            f"column {word} for words is the same as column {tag} for tags: give two columns"
        )


def _tagged(
    words: Sequence[str],
    tags: Sequence[str],
    places: Sequence[str],
    language: str,
    report: ReadReport,
) -> TaggedSentence:
    normal = tuple(_word(word, place) for word, place in zip(words, places, strict=True))
    for tag, place in zip(tags, places, strict=True):
        if not isinstance(tag, str) or not tag.strip():
            raise DataError(f"{place}: the tag is empty: expected one for every word")
    report.keep(places[0], *normal)
    return TaggedSentence(normal, tuple(tag.strip() for tag in tags), language, places[0])


def _word(word: str, place: str) -> str:
    normal = normalize(word)
    if not normal:
        raise DataError(f"{place}: found the word {word!r}, expected one with visible characters")
    return normal


def _tagged_dataset(source: str, language: str, report: ReadReport) -> Iterator[TaggedSentence]:
    name, settings = parse_dataset(source, "words", "tags")
    columns = settings.pop("words", "tokens"), settings.pop("tags", "ner_tags")
    for number, row in enumerate(files.dataset_rows(name, **settings), 1):
        place = f"{DATASETS}{name}:{number}"
        words, tags = _lists(row, columns, place)
        yield _tagged(words, tags, [place] * len(words), language, report)


def _parsed_dataset(source: str, language: str, report: ReadReport) -> Iterator[ParsedSentence]:
    name, settings = parse_dataset(source)
    for number, row in enumerate(files.dataset_rows(name, **settings), 1):
        place = f"{DATASETS}{name}:{number}"
        words, upos, heads, labels = _lists(row, ("tokens", "upos", "head", "deprel"), place)
        yield _parsed(words, upos, heads, labels, [place] * len(words), language, report)


def _lists(row: dict[str, Any], columns: Sequence[str], place: str) -> list[list[Any]]:
    for column in columns:
        if not isinstance(row.get(column), list):
            raise DataError(
                f"{place}: found the columns {', '.join(row)}, expected a list in {column!r}"
            )
    lists = [row[column] for column in columns]
    lengths = [len(one) for one in lists]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise DataError(
            f"{place}: found {', '.join(map(str, lengths))} cells in {', '.join(columns)}, "
            "expected equally many, and at least one"
        )
    return lists
