"""A Wikipedia dump as text: one sentence a line, whole articles in train, valid or test.

    python tools/wikipedia.py newiki-latest-pages-articles.xml.bz2 wiki/ne --valid 0.02 --test 0.02

writes ``wiki/ne/{train,valid,test}.txt`` for ``xlm prepare``, and beside each ``*.docs.tsv`` with
the borders of its articles: title, a tab, number of lines, in the order of the text. The dump
streams, packed or not. Needs the extra wiki (``pip install 'xlm-pretrain[wiki]'``).
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import multiprocessing
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from xlm.errors import ConfigError, DataError, XlmError, one_line
from xlm.storage import make_folder, whole_file
from xlm.text.normalize import normalize

SPLITS = ("train", "valid", "test")
KINDS = ("articles", "redirects", "of another namespace", "without wikitext")
BATCH = 64
"""Articles that a process reads at a time."""

_DROPPED_TAGS = frozenset(
    "ref references table gallery math chem timeline score syntaxhighlight source imagemap "
    "categorytree templatedata mapframe maplink graph hiero poem inputbox".split()
)
_MAGIC = re.compile(r"__[^\W\d_]+__")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z-]+)?$")
_INDENT = re.compile(r"^[*#:;\s]+")
_BRACKETS = re.compile(r"\(\s*[,;:]*\s*\)|\[\s*\]")
_SENTENCE = re.compile(
    r"(?<=[।॥؟۔。！？])\s*|(?<=[!?…])\s+|(?<=[^\W\d_]{2}\.)\s+(?=[^\Wa-z\d_]|[\"“(«])"
)


@dataclass(frozen=True)
class Page:
    """An article as the dump has it."""

    title: str
    wikitext: str


def pages(stream: IO[bytes], counts: Counter[str], namespaces: set[str]) -> Iterator[Page]:
    """Return the articles of a dump: pages of namespace 0 that lead nowhere else.

    ``counts`` tells how many pages there were of each kind; ``namespaces`` receives the names of
    all other namespaces, in lower case, before the first page. Raises DataError for XML that breaks
    off.
    """
    try:
        events = ET.iterparse(stream, events=("start", "end"))
        _, root = next(events)
        for event, element in events:
            if event == "start":
                continue
            tag = _local(element.tag)
            if tag == "namespace" and element.get("key") != "0":
                namespaces.add((element.text or "").lower())
            elif tag == "page":
                kind, page = _page(element)
                counts[kind] += 1
                if page is not None:
                    yield page
                root.clear()
    except (ET.ParseError, EOFError, OSError) as error:
        num = sum(counts[kind] for kind in KINDS)
        raise DataError(
            f"the dump breaks off after {num:,} pages ({one_line(error, 200)}): fetch it again"
        ) from None
    except StopIteration:
        raise DataError("the dump is empty: expected pages-articles.xml, packed or not") from None


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _page(element: ET.Element) -> tuple[str, Page | None]:
    fields: dict[str, str] = {}
    for part in element.iter():
        fields.setdefault(_local(part.tag), part.text or "")
    if fields.get("ns", "0") != "0":
        return "of another namespace", None
    if "redirect" in fields:
        return "redirects", None
    if fields.get("model", "wikitext") != "wikitext" or not fields.get("text", "").strip():
        return "without wikitext", None
    return "articles", Page(fields.get("title", ""), fields["text"])


def plain_lines(wikitext: str, namespaces: frozenset[str]) -> list[str]:
    """Return the paragraphs of an article as plain lines.

    Templates, tables, references, formulas, galleries, headings, comments and links to files,
    categories and other languages go; of other links and markup the text stays.
    """
    import mwparserfromhell

    code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
    for node in list(code.ifilter(recursive=True, forcetype=None)):
        if _is_dropped(node, namespaces):
            try:
                code.remove(node)
            except ValueError:  # it lay in one that went before
                continue
    text = _MAGIC.sub(" ", code.strip_code(normalize=True, collapse=True))
    text = text.replace("'''", "").replace("''", "")
    lines = (normalize(_BRACKETS.sub("", _INDENT.sub("", line))) for line in text.split("\n"))
    return [line for line in lines if line]


def _is_dropped(node: Any, namespaces: frozenset[str]) -> bool:
    from mwparserfromhell import nodes

    if isinstance(node, nodes.Template | nodes.Comment | nodes.Heading):
        return True
    if isinstance(node, nodes.Tag):
        return str(node.tag).strip().lower() in _DROPPED_TAGS
    if isinstance(node, nodes.Wikilink):
        prefix, colon, _ = str(node.title).strip().lower().partition(":")
        return bool(colon) and (prefix in namespaces or bool(_LANGUAGE.match(prefix)))
    return False


def sentences(line: str) -> list[str]:
    """Cut a paragraph after dandas, full stops before a capital, question and exclamation marks."""
    return [part for part in map(str.strip, _SENTENCE.split(line)) if part]


def split_of(title: str, valid: float, test: float) -> str:
    """Return the split of an article: by a hash of its title, so that it stays there for ever."""
    place = int.from_bytes(hashlib.sha1(title.encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"


@dataclass(frozen=True)
class Reader:
    """Turns pages into lines, in a process of its own."""

    namespaces: frozenset[str]
    min_words: int
    whole_paragraphs: bool

    def __call__(self, page: Page) -> tuple[str, list[str], int]:
        """Return the title, the lines, and how many were too short."""
        lines = plain_lines(page.wikitext, self.namespaces)
        if not self.whole_paragraphs:
            lines = [sentence for line in lines for sentence in sentences(line)]
        kept = [line for line in lines if len(line.split()) >= self.min_words]
        return page.title, kept, len(lines) - len(kept)


def convert(
    dump: str, folder: str, *, valid: float, test: float, min_words: int, workers: int,
    whole_paragraphs: bool,
) -> Counter[str]:  # fmt: skip
    """Write the text of ``dump`` into ``folder``; return what was counted.

    Raises DataError for a dump that cannot be read or has no article, ConfigError for shares that
    cannot be.
    """
    if not (0 <= valid and 0 <= test and valid + test < 1):
        raise ConfigError(
            f"valid {valid} and test {test}: expected shares that leave some to train"
        )
    counts: Counter[str] = Counter()
    namespaces: set[str] = set()
    make_folder(folder)
    used = [split for split, share in zip(SPLITS, (1, valid, test), strict=True) if share]
    with ExitStack() as stack:
        files = {
            (split, kind): stack.enter_context(
                stack.enter_context(whole_file(Path(folder) / f"{split}.{kind}")).open(
                    "w", encoding="utf-8"
                )
            )
            for split in used
            for kind in ("txt", "docs.tsv")
        }
        with _open(dump) as stream:
            for title, lines, num_short in _read(
                pages(stream, counts, namespaces), namespaces, min_words, workers, whole_paragraphs
            ):
                counts["lines too short"] += num_short
                if not lines:
                    counts["articles without text"] += 1
                    continue
                split = split_of(title, valid, test)
                counts[f"lines in {split}"] += len(lines)
                files[split, "txt"].writelines(f"{line}\n" for line in lines)
                files[split, "docs.tsv"].write(f"{normalize(title)}\t{len(lines)}\n")
        if not counts["lines in train"]:
            raise DataError(
                f"{dump} gave no training text ({_listed(counts)}): expected a dump of "
                "pages-articles with articles of namespace 0"
            )
    return counts


def _open(dump: str) -> IO[bytes]:
    try:
        return bz2.open(dump) if dump.endswith(".bz2") else open(dump, "rb")
    except OSError as error:
        raise DataError(f"{dump}: {error.strerror}: expected a dump, packed or not") from None


def _read(
    articles: Iterator[Page], namespaces: set[str], min_words: int, workers: int, whole: bool
) -> Iterator[tuple[str, list[str], int]]:
    """The lines of every article in order; a bounded number of articles is held at a time."""
    first = next(articles, None)
    if first is None:
        return
    reader = Reader(frozenset(namespaces), min_words, whole)
    yield reader(first)
    if workers <= 1:
        yield from map(reader, articles)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        while batch := list(islice(articles, BATCH * workers)):
            yield from pool.map(reader, batch, chunksize=BATCH // 4)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counts.items()) or "nothing found"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and convert a dump."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("dump", help="LANGwiki-DATE-pages-articles.xml.bz2, packed or not")
    parser.add_argument("folder", help="where train.txt, valid.txt and test.txt are written")
    parser.add_argument("--valid", type=float, default=0.0, help="share of articles in valid")
    parser.add_argument("--test", type=float, default=0.0, help="share of articles in test")
    parser.add_argument("--min-words", type=int, default=3, help="shorter lines are dropped")
    parser.add_argument("--paragraphs", action="store_true", help="do not cut into sentences")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args(arguments)
    try:
        counts = convert(
            given.dump,
            given.folder,
            valid=given.valid,
            test=given.test,
            min_words=given.min_words,
            workers=given.workers,
            whole_paragraphs=given.paragraphs,
        )
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error.name} is missing: pip install 'xlm-pretrain[wiki]'\n")
        raise SystemExit(2) from None
    except XlmError as error:
        sys.stderr.write(f"{one_line(error)}\n")
        raise SystemExit(2) from None
    sys.stdout.write(f"{given.folder}: {_listed(counts)}\n")


if __name__ == "__main__":
    main()
