"""A dump of Wikipedia as text, on a dump that is written here."""

from __future__ import annotations

import bz2
import importlib.util
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from types import ModuleType
from xml.sax.saxutils import escape

import pytest

from xlm.errors import ConfigError, DataError
from xlm.text.readers import ReadReport, open_lines

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/wikipedia.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("wikipedia", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wikipedia"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SITEINFO = (
    "<siteinfo><sitename>विकिपिडिया</sitename><dbname>newiki</dbname><namespaces>"
    '<namespace key="0" case="first-letter"/><namespace key="6">चित्र</namespace>'
    '<namespace key="14">श्रेणी</namespace><namespace key="1">वार्तालाप</namespace>'
    "</namespaces></siteinfo>"
)
"""All on one line, at which a widely used extractor finds no article and says nothing."""
NEPAL = """\
{{Infobox country|name=नेपाल|{{nested|x}}}}
'''नेपाल''' ([[अङ्ग्रेजी भाषा|अङ्ग्रेजी]]) दक्षिण एसियाको एउटा [[देश]] हो।\
<ref name="a">a footnote</ref> यसको राजधानी [[काठमाडौँ]] हो। \
[[चित्र:Flag.svg|thumb|नेपालको [[झन्डा]]]]
== इतिहास ==
* पहिलो राजा पृथ्वीनारायण शाह थिए।
{| class="wikitable"
|-
| a cell || another cell of it
|}
<gallery>
चित्र:a.jpg|a picture of it
</gallery>
यो <!-- a comment --> अर्को&nbsp;वाक्य हो। [[श्रेणी:देश]] [[en:Nepal]] __NOTOC__
"""
LINES = [
    "नेपाल (अङ्ग्रेजी) दक्षिण एसियाको एउटा देश हो।", "यसको राजधानी काठमाडौँ हो।",
    "पहिलो राजा पृथ्वीनारायण शाह थिए।", "यो अर्को वाक्य हो।",
]  # fmt: skip


def page(title: str, text: str, ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    return (
        f"<page><title>{escape(title)}</title><ns>{ns}</ns><id>1</id>{extra}<revision><id>2</id>"
        f"<contributor><username>x</username></contributor><model>{model}</model>"
        f'<format>text/x-wiki</format><text bytes="9" xml:space="preserve">{escape(text)}</text>'
        "</revision></page>\n"
    )


def dump(*pages: str) -> bytes:
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">'
    return f"{head}{SITEINFO}\n{''.join(pages)}</mediawiki>\n".encode()


PAGES = (
    page("नेपाल", NEPAL),
    page("वार्तालाप:नेपाल", "कुरा गरौं यहाँ सबैले।", ns=1),
    page("Nepal", "#REDIRECT [[नेपाल]]", extra='<redirect title="नेपाल"/>'),
    page("json", "{}", model="json"),
    page("खाली", "{{stub}}\n"),
)


def write(folder: Path, content: bytes, name: str = "newiki.xml.bz2") -> str:
    path = folder / name
    path.write_bytes(bz2.compress(content) if name.endswith(".bz2") else content)
    return str(path)


def convert(tool: ModuleType, source: str, folder: Path, **settings: object) -> Counter[str]:
    defaults = {
        "valid": 0.0, "test": 0.0, "min_words": 3, "workers": 1, "whole_paragraphs": False
    }  # fmt: skip
    counts: Counter[str] = tool.convert(source, str(folder), **{**defaults, **settings})
    return counts


def test_an_article_becomes_its_sentences(tool: ModuleType, tmp_path: Path) -> None:
    counts = convert(tool, write(tmp_path, dump(*PAGES)), tmp_path / "ne")
    text = (tmp_path / "ne/train.txt").read_text(encoding="utf-8")
    assert text.splitlines() == LINES
    assert (tmp_path / "ne/train.docs.tsv").read_text(encoding="utf-8") == "नेपाल\t4\n"
    assert counts["articles"] == 2 and counts["articles without text"] == 1
    assert counts["redirects"] == counts["of another namespace"] == counts["without wikitext"] == 1
    assert sorted(p.name for p in (tmp_path / "ne").iterdir()) == ["train.docs.tsv", "train.txt"]
    assert list(open_lines(str(tmp_path / "ne/*.txt"), ReadReport())) == LINES


def test_the_borders_of_documents_and_splits(tool: ModuleType, tmp_path: Path) -> None:
    titles = [f"लेख {number}" for number in range(300)]
    articles = [page(t, f"यो {t} को पहिलो वाक्य हो। दोस्रो वाक्य {t} मा छ।") for t in titles]
    source = write(tmp_path, dump(*articles))
    convert(tool, source, tmp_path / "a", valid=0.2, test=0.1)
    found: dict[str, list[str]] = {}
    for split in ("train", "valid", "test"):
        lines = (tmp_path / f"a/{split}.txt").read_text(encoding="utf-8").splitlines()
        documents = (tmp_path / f"a/{split}.docs.tsv").read_text(encoding="utf-8").splitlines()
        start = 0
        for row in documents:
            title, number = row.split("\t")
            own = lines[start : start + int(number)]
            assert len(own) == 2 and all(title in line for line in own)
            found.setdefault(split, []).append(title)
            start += int(number)
        assert start == len(lines)
    assert sorted(sum(found.values(), [])) == sorted(titles)
    assert abs(len(found["valid"]) - 60) < 4 * 7 and abs(len(found["test"]) - 30) < 4 * 6
    # an article stays in its split, whatever else the next dump holds
    convert(
        tool, write(tmp_path, dump(*articles[::2]), "b.xml"), tmp_path / "b", valid=0.2, test=0.1
    )
    again = (tmp_path / "b/valid.docs.tsv").read_text(encoding="utf-8").splitlines()
    assert {row.split("\t")[0] for row in again} <= set(found["valid"])


def test_several_processes_give_the_same_text(tool: ModuleType, tmp_path: Path) -> None:
    source = write(
        tmp_path, dump(*(page(f"{k}", f"{NEPAL}\nलेख {k} को अन्तिम वाक्य।") for k in range(150)))
    )
    for number, folder in ((1, "one"), (2, "two")):
        command = [sys.executable, str(SCRIPT), source, str(tmp_path / folder)]
        done = subprocess.run(
            [*command, f"--workers={number}"], capture_output=True, text=True, check=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert "750 lines in train" in done.stdout
    one, two = ((tmp_path / f / "train.txt").read_bytes() for f in ("one", "two"))
    assert one == two


def test_the_streams_of_a_multistream_dump_are_one(tool: ModuleType, tmp_path: Path) -> None:
    content = dump(*PAGES)
    path = tmp_path / "multi.xml.bz2"
    path.write_bytes(
        b"".join(bz2.compress(content[k : k + 500]) for k in range(0, len(content), 500))
    )
    convert(tool, str(path), tmp_path / "ne")
    assert (tmp_path / "ne/train.txt").read_text(encoding="utf-8").splitlines() == LINES


def test_pages_are_streamed(tool: ModuleType) -> None:
    """The first article comes before the dump has been read."""

    class Counting(BytesIO):
        read_so_far = 0

        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            Counting.read_so_far += len(piece)
            return piece

    content = dump(*(page(f"{k}", "क" * 10_000) for k in range(300)))
    found = tool.pages(Counting(content), Counter(), set())
    assert next(found).title == "0"
    assert Counting.read_so_far < len(content) / 4


def test_sentences(tool: ModuleType) -> None:
    assert tool.sentences("One is 3.5 km. Two is J. Smith's? Three! \"Four\" is. five") == [
        "One is 3.5 km.", "Two is J. Smith's?", "Three!", '"Four" is. five'
    ]  # fmt: skip
    assert tool.sentences("पहिलो हो।दोस्रो हो ॥ तेस्रो") == ["पहिलो हो।", "दोस्रो हो ॥", "तेस्रो"]
    assert tool.sentences("我们。你们！") == ["我们。", "你们！"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (dump(), "gave no training text (nothing found): expected a dump of"),
        (dump(PAGES[1], PAGES[2]), "gave no training text (1 of another namespace, 1 redirects)"),
        (dump(*PAGES)[:-40], "the dump breaks off after 4 pages"),
        (b"", "the dump breaks off after 0 pages"),
        (b"no xml", "the dump breaks off after 0 pages"),
    ],
)
def test_a_dump_without_articles_is_an_error(
    tool: ModuleType, tmp_path: Path, content: bytes, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        convert(tool, write(tmp_path, content), tmp_path / "ne")
    assert expected in str(caught.value)
    assert not list((tmp_path / "ne").iterdir())


def test_a_cut_file_and_shares_that_cannot_be(tool: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "cut.xml.bz2"
    path.write_bytes(bz2.compress(dump(*PAGES))[:-20])
    with pytest.raises(DataError, match="the dump breaks off after 0 pages"):
        convert(tool, str(path), tmp_path / "ne")
    with pytest.raises(DataError, match="gone.xml: No such file"):
        convert(tool, str(tmp_path / "gone.xml"), tmp_path / "ne")
    with pytest.raises(ConfigError, match="expected shares that leave some to train"):
        convert(tool, str(path), tmp_path / "ne", valid=0.6, test=0.5)
