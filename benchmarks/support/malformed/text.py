"""Files of text and of tasks as people have them, and as they should not be."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.support.malformed import Case
from xlm.tasks.readers.labeled import read_rows
from xlm.tasks.readers.questions import read_questions
from xlm.tasks.readers.tagged import read_tagged, read_trees
from xlm.text.readers import ReadReport, open_lines, open_pairs

LINES = ["one two three", "मानिस रोटी खान्छ ।", "水火山石田", "four five"]
TEXT = "".join(f"{line}\n" for line in LINES)
WORDS = "a\tO\nb\tB-X\n\nc\tO\n"
TREE = "# text = a b\n1\ta\t_\tNOUN\t_\t_\t0\troot\t_\t_\n2\tb\t_\tVERB\t_\t_\t1\tdep\t_\t_\n"
SQUAD: dict[str, Any] = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "The hill is green.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "What?",
                            "answers": [{"text": "hill", "answer_start": 4}],
                        }
                    ],
                }
            ],
        }
    ]
}


def cases() -> Iterator[Case]:
    """Text by its path, aligned text, and the files of tasks."""
    yield from _plain()
    yield from _names()
    yield from _pairs()
    yield from _labeled()
    yield from _tagged()
    yield from _trees()
    yield from _questions()


def lines(path: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(open_lines(path, ReadReport()))


def _tar(mode: str) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode=mode) as archive:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(TEXT.encode())
        archive.addfile(entry, io.BytesIO(TEXT.encode()))
    return written.getvalue()


def _plain() -> Iterator[Case]:
    content = TEXT.encode()
    read: dict[str, tuple[bytes, list[str]]] = {
        "plain": (content, LINES),
        "no line feed at the end": (content[:-1], LINES),
        "CRLF": (content.replace(b"\n", b"\r\n"), LINES),
        "a mark": (b"\xef\xbb\xbf" + content, LINES),
        "blank lines": (b"\n\n" + content + b"\n \t\n", LINES),
        "a carriage return inside": (b"a\rb\nc\n", ["a b", "c"]),
        "separators of Unicode": ("a\u2028b\u2029c\x85d\n".encode(), ["a b c d"]),
        "form feeds": (b"a\x0cb\x0bc\n", ["a b c"]),
        "decomposed": ("cafe\u0301\n".encode(), ["caf\u00e9"]),
        "joiners": ("क\u200dष न\u200cम\n".encode(), ["क\u200dष न\u200cम"]),
        "white space of all kinds": ("a\u00a0\u3000 b\u2003\n".encode(), ["a b"]),
        "quotes and tabs": (b'"a\tb\n\'c"\n', ['"a b', "'c\""]),
        "a NUL by accident": (b"a" * 99 + b"\0b\n", ["a" * 99 + " b"]),
        "symbols of ours": (b"</s> <mask> <0x41> [MASK]\n", ["</s> <mask> <0x41> [MASK]"]),
        "an astral letter": ("𐍈 😀\n".encode(), ["𐍈 😀"]),
        "a number": (b"1e999\n007\n", ["1e999", "007"]),
        "words of YAML": (b"no\nnull\n~\n", ["no", "null", "~"]),
        "gzip": (gzip.compress(content), LINES),
        "bzip2": (bz2.compress(content), LINES),
        "xz": (lzma.compress(content), LINES),
        "gzip in two parts": (gzip.compress(content) * 2, LINES * 2),
    }  # fmt: skip
    for name, (written, value) in read.items():
        yield Case(f"text, {name}", {"a.txt": written}, lines("a.txt"), value=value)
    refused: dict[str, tuple[bytes, str]] = {
        "nothing": (b"", r"a\.txt is empty"),
        "latin-1": ("one\ncaf\xe9\n".encode("latin-1"), r"a\.txt:2: byte 0xe9"),
        "a surrogate": (b"a\n\xed\xa0\x80\n", r"a\.txt:2: byte 0xed"),
        "cut inside of a letter": ("a\nक".encode()[:-1], r"a\.txt:2: byte"),
        "UTF-16 with a mark": (TEXT.encode("utf-16"), r"a\.txt looks like UTF-16"),
        "UTF-16LE": (TEXT.encode("utf-16-le"), r"a\.txt looks like UTF-16"),
        "UTF-16BE": (TEXT.encode("utf-16-be"), r"a\.txt looks like UTF-16"),
        "UTF-32": (TEXT.encode("utf-32"), r"a\.txt looks like UTF-32"),
        "carriage returns": (TEXT.replace("\n", "\r").encode(), r"a\.txt has 4 carriage returns"),
        "zeros": (bytes(5000), r"a\.txt"),
        "tar": (_tar("w"), r"a\.txt is a tar"),
        "tar.gz": (_tar("w:gz"), r"a\.txt is a tar"),
        "zip": (b"PK\x03\x04\x14\0\0\0", r"a\.txt is a zip"),
        "a PDF": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", r"a\.txt is a PDF"),
        "Parquet": (b"PAR1\x15\x04\x15\0", r"a\.txt is a Parquet"),
        "gzip in gzip": (gzip.compress(gzip.compress(content)), r"a\.txt holds gzip"),
        "gzip that is cut": (gzip.compress(content)[:-9], r"a\.txt:\d+: .*truncated"),
        "gzip that is damaged": (
            gzip.compress(content)[:20] + b"xxx" + gzip.compress(content)[23:], r"a\.txt",
        ),
        "xz that is cut": (lzma.compress(content)[:-20], r"a\.txt:\d+: "),
        "bzip2 that is cut": (bz2.compress(content)[:-9], r"a\.txt:\d+: "),
    }  # fmt: skip
    for name, (written, message) in refused.items():
        yield Case(f"text, {name}", {"a.txt": written}, lines("a.txt"), message)


def _names() -> Iterator[Case]:
    content = {"a.txt": TEXT.encode()}
    for name in (
        "a b.txt",
        "क.txt",
        "a'b",
        "a;b",
        "a&b",
        "-a",
        "a%20b",
        "a\nb",
        "...",
        "a=b",
        "a#b",
    ):
        yield Case(f"text called {name!r}", {name: TEXT.encode()}, lines(name), value=LINES)
    for name in ("a.gz", "a.bz2", "a.xz", "a.zst"):
        yield Case(
            f"text called {name}", {name: TEXT.encode()}, lines(name), f"{name} has the name of a"
        )
    yield Case("text, missing", {}, lines("none.txt"), "none.txt does not exist")
    yield Case(
        "text, a NUL in the name", {}, lines("a\0b"), "a name cannot contain a NUL character"
    )
    yield Case("text, a long name", {}, lines("n" * 5000), "n: cannot|too long")
    yield Case("text, through a file", content, lines("a.txt/b"), "a.txt/b")
    yield Case("text, a link", content, lines("l"), value=LINES, make=_link("a.txt", "l"))
    yield Case("text, a link to nothing", {}, lines("l"), "l does not exist", make=_link("x", "l"))
    yield Case("text, a link to itself", {}, lines("l"), "l", make=_link("l", "l"))
    yield Case("text, a folder of links", content, lines("d"), value=LINES, make=_linked_folder)
    yield Case("text, an empty folder", {}, lines("."), "without files")
    yield Case("text, no source", {}, lines("datasets:"), "found no name")
    yield Case("text, a pattern without files", {}, lines("*.txt"), "no file matches")
    unknown = "found setting 'splti'"
    yield Case("text, an unknown setting", {}, lines("datasets:a?splti=x"), unknown)


def _link(target: str, name: str) -> Callable[[Path], None]:
    return lambda folder: os.symlink(target, folder / name)


def _linked_folder(folder: Path) -> None:
    (folder / "real").mkdir()
    os.symlink("../a.txt", folder / "real" / "b.txt")
    os.symlink("real", folder / "d")


def _pairs() -> Iterator[Case]:
    def pairs(folder: Path) -> list[tuple[str, str]]:
        return list(open_pairs(["a", "b"], ("en", "ne"), ReadReport()))

    def case(name: str, one: str, two: str, refused: str = "", value: Any = None) -> Case:
        return Case(f"pairs, {name}", {"a": one.encode(), "b": two.encode()}, pairs, refused, value)

    yield case("aligned", "x\ny\n", "u\nv\n", value=[("x", "u"), ("y", "v")])
    yield case("one side empty", "x\n\nz\n", "u\nv\nw\n", value=[("x", "u"), ("z", "w")])
    yield case("CRLF on one side", "x\r\ny\r\n", "u\nv\n", value=[("x", "u"), ("y", "v")])
    yield case("one line more", "x\ny\n", "u\n", "a has 2 lines and b has 1")
    yield case("one file empty", "x\n", "", "b is empty")
    yield case("a line feed at the end of one", "x\ny", "u\nv\n", value=[("x", "u"), ("y", "v")])


def _labeled() -> Iterator[Case]:
    def case(name: str, text: str | bytes, refused: str = "", value: Any = None, *,
             path: str = "t.tsv", layout: str = "label-text") -> Case:  # fmt: skip
        def rows(folder: Path) -> list[tuple[str, str]]:
            return [(row.label, row.first) for row in read_rows(path, layout)]

        content = text if isinstance(text, bytes) else text.encode()
        return Case(f"rows, {name}", {path: content}, rows, refused, value)

    head = "label\ttext\n"
    yield case("TSV", head + "1\ta\n", value=[("1", "a")])
    yield case("quotes", head + '1\t"a\n0\tb"\n', value=[("1", '"a'), ("0", 'b"')])
    yield case("CRLF", head.replace("\n", "\r\n") + "1\ta\r\n", value=[("1", "a")])
    yield case("a mark", "\ufeff" + head + "1\ta\n", value=[("1", "a")])
    yield case("other columns", "x\ttext\tlabel\n7\ta\t1\n", value=[("1", "a")])
    yield case("an empty sentence", head + "1\t\n", value=[("1", "")])
    yield case("a number as label", head + "1.0\ta\n", value=[("1.0", "a")])
    yield case("words of pandas", head + "NA\tnull\n", value=[("NA", "null")])
    yield case("header alone", head, r"t\.tsv: found no row")
    yield case("no header", "1\ta\n", r"t\.tsv:1: found the columns 1, a")
    yield case("spaces for tabs", "label text\n1 a\n", r"t\.tsv:1: found the columns label text")
    yield case("commas for tabs", "label,text\n1,a\n", r"t\.tsv:1: ")
    yield case("a column more", head + "1\ta\tb\n", r"t\.tsv:2: found 3 columns")
    yield case("a column less", head + "1\n", r"t\.tsv:2: found 1 columns")
    yield case("an empty label", head + "\ta\n", r"t\.tsv:2: the label is empty")
    yield case(
        "a name twice", "label\ttext\ttext\n1\ta\tb\n", r"t\.tsv:1: the header has text twice"
    )
    yield case("not UTF-8", head.encode() + b"1\t\xff\n", r"t\.tsv:2: byte 0xff")
    yield case("a long header", "x" * 100_000 + "\n1\n", r"t\.tsv:1: found the columns x")
    jsonl = {"path": "t.jsonl"}
    for name, line, refused in (
        ("cut", '{"label": "1", "text": "a"', r"t\.jsonl:1: found no JSON"),
        ("a list", '["1", "a"]', r"t\.jsonl:1: found JSON of list"),
        ("a number", "7", r"t\.jsonl:1: found JSON of int"),
        ("a missing key", '{"label": "1"}', r"t\.jsonl:1: found label, expected text"),
        ("null", '{"label": "1", "text": null}', r"t\.jsonl:1: found NoneType"),
        ("true as label", '{"label": true, "text": "a"}', r"t\.jsonl:1: found bool"),
        ("NaN as label", '{"label": NaN, "text": "a"}', r"t\.jsonl:1: found nan"),
        ("infinity as label", '{"label": 1e999, "text": "a"}', r"t\.jsonl:1: found inf"),
        ("a list as text", '{"label": "1", "text": ["a"]}', r"t\.jsonl:1: found list"),
        ("a key twice", '{"label": 1, "label": 2, "text": "a"}', r"t\.jsonl:1: .*appears twice"),
        ("nested", '{"label": ' + "[" * 100_000, r"t\.jsonl:1: .*are nested too deep"),
        ("5,000 digits", '{"label": ' + "9" * 5000 + ', "text": "a"}', r"t\.jsonl:1: .*digits"),
        ("long keys", '{"' + "k" * 100_000 + '": 1}', r"t\.jsonl:1: found kkk"),
        ("an empty object", "{}", r"t\.jsonl:1: "),
    ):  # fmt: skip
        yield case(f"JSONL, {name}", line + "\n", refused, **jsonl)
    lone = '{"label": 1, "text": "a\\ud800b"}\n'
    yield case("JSONL, a surrogate", lone, value=[("1", "a\ufffdb")], **jsonl)
    yield case("JSONL, numbers", '{"label": 1, "text": 2.5}\n', value=[("1", "2.5")], **jsonl)


def _tagged() -> Iterator[Case]:
    def case(
        name: str, text: str, refused: str = "", value: Any = None, format: str = "tsv"
    ) -> Case:
        def words(folder: Path) -> list[str]:
            return [" ".join(one.words) for one in read_tagged("w.txt", format)]

        return Case(f"tags, {name}", {"w.txt": text.encode()}, words, refused, value)

    yield case("TSV", WORDS, value=["a b", "c"])
    yield case("CRLF", WORDS.replace("\n", "\r\n"), value=["a b", "c"])
    yield case("spaces on the blank line", WORDS.replace("\n\n", "\n  \n"), value=["a b", "c"])
    yield case("documents", "-DOCSTART-\tO\n\n" + WORDS, value=["a b", "c"])
    yield case("comments", "# x = 1\n" + WORDS, value=["a b", "c"])
    yield case("columns", "# id 1 x=2\na _ _ O\nb _ _ B-X\n", value=["a b"], format="conll")
    yield case("a hash", "#\tO\na\tO\n", value=["# a"])
    yield case("a word without a tag", "a\tO\nb\n", r"w\.txt:2: found 1 columns")
    yield case("an empty tag", "a\t\n", r"w\.txt:1: the tag is empty")
    yield case("an empty word", "\tO\n", r"w\.txt:1: found the word ''")
    yield case("three columns", "a\tb\tO\n", r"w\.txt:1: found 3 columns")
    yield case("nothing", "\n\n", r"w\.txt: found no sentence")
    yield case("comments alone", "# a\n\n# b\n", r"w\.txt: found no sentence")
    yield case("another width", "a b O\nc O\n", r"w\.txt:2: found 2 columns", format="conll")
    yield case("another language", "en:a\tO\nhi:b\tO\n", r"w\.txt:2: ", format="wikiann")
    yield case("no language", "a\tO\n", r"w\.txt:1: ", format="wikiann")


def _trees() -> Iterator[Case]:
    def case(name: str, text: str, refused: str = "", value: Any = None) -> Case:
        def trees(folder: Path) -> list[tuple[int, ...]]:
            return [one.heads for one in read_trees("t.conllu")]

        return Case(f"trees, {name}", {"t.conllu": text.encode()}, trees, refused, value)

    at = r"t\.conllu:"
    yield case("right", TREE, value=[(0, 1)])
    yield case(
        "a multiword", TREE.replace("1\ta", "1-2\tab" + "\t_" * 8 + "\n1\ta"), value=[(0, 1)]
    )
    yield case("an empty node", TREE + "2.1\tx" + "\t_" * 8 + "\n", value=[(0, 1)])
    yield case("nine columns", TREE.replace("\troot\t_", "\troot"), at + "2: found 9 columns")
    yield case("an id out of turn", TREE.replace("2\tb", "3\tb"), at + "3: found the id '3'")
    yield case("a head too far", TREE.replace("\t1\tdep", "\t9\tdep"), at + "3: found the head '9'")
    yield case("a head that is a word", TREE.replace("\t1\tdep", "\tx\tdep"), at + "3: ")
    yield case("a negative head", TREE.replace("\t1\tdep", "\t-1\tdep"), at + "3: ")
    yield case("a circle", TREE.replace("\t0\troot", "\t2\tdep"), at + "2: found 0 roots")
    yield case("two roots", TREE.replace("\t1\tdep", "\t0\troot"), at + "2: found 2 roots")
    yield case("no part of speech", TREE.replace("NOUN", "_"), at + "2: found no part of speech")
    yield case("no relation", TREE.replace("\tdep\t", "\t_\t"), at + "3: found no relation")
    yield case("comments alone", "# a\n\n", r"t\.conllu: found no sentence")
    yield case("a digit of another script", TREE.replace("\t1\tdep", "\t१\tdep"), at + "3: ")


def _questions() -> Iterator[Case]:
    def case(name: str, content: Any, refused: str = "", value: Any = None) -> Case:
        def questions(folder: Path) -> list[str]:
            return [one.id for one in read_questions("q.json")]

        written = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Case(f"questions, {name}", {"q.json": written}, questions, refused, value)

    def changed(key: str, own: Any) -> Any:
        copy = json.loads(json.dumps(SQUAD))
        paragraph = copy["data"][0]["paragraphs"][0]
        (paragraph if key in paragraph else paragraph["qas"][0])[key] = own
        return copy

    at = r"q\.json"
    yield case("right", SQUAD, value=["q1"])
    yield case("a number as id", changed("id", 7), value=["7"])
    yield case("a list", [], at + ": found list")
    yield case("no data", {}, at + ": found")
    yield case("data is a word", {"data": "x"}, at)
    yield case("an article is a word", {"data": ["x"]}, at + r": data\[0\]")
    yield case("cut", b'{"data": [', at + ":1: found no JSON")
    yield case("not UTF-8", b'{"data":\n"\xff"}', at + ":2: byte 0xff")
    yield case("nested", b'{"data": ' + b"[" * 100_000, at + ": .*are nested too deep")
    yield case("a key twice", b'{"data": [], "data": []}', at + ": .*'data' appears twice")
    for key, values in {
        "context": (None, 3, ["x"]),
        "id": (None, True, 1.5, ["x"]),
        "question": (None, 3),
        "answers": ("x", [3], [{"text": "hill"}], [{"text": "hill", "answer_start": "4"}],
                    [{"text": "hill", "answer_start": True}], [{"text": "", "answer_start": 4}],
                    [{"text": "dale", "answer_start": 4}], [{"text": "hill", "answer_start": -1}],
                    [{"text": "hill", "answer_start": 10**9}], [],
                    [{"text": "h" * 10**5, "answer_start": 4}],
                    [{"text": 5, "answer_start": "x" * 10**5}]),
        "qas": (None, "x", [3]),
    }.items():  # fmt: skip
        for own in values:
            yield case(f"{key} is {str(own)[:30]}", changed(key, own), at)
