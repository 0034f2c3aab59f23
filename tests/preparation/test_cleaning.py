"""Training text that is cleaned: what goes, what stays, what is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from xlm import sample
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.prepare import Aligned, Cleaning, Prepare, Texts, Vocabulary, prepare

LINES = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()[:80]
NEPALI = sample.path("train.ne.txt").read_text(encoding="utf-8").splitlines()[:80]
HELD_OUT = sample.path("valid.en.txt").read_text(encoding="utf-8").splitlines()[:40]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, lines: list[str]) -> str:
    Path(name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return name


def made(folder: str = "data", **settings: Any) -> Corpora:
    settings = {"vocabulary": Vocabulary(kind="fastbpe", size=100), "workers": 1} | settings
    return prepare(Prepare(folder=folder, **settings))


def lines_of(corpora: Corpora, language: str = "en") -> list[str]:
    corpus = corpora.text("train", language)
    return [corpora.tokenizer.decode(corpus[i].tolist()) for i in range(len(corpus))]


def report(folder: str = "data") -> dict[str, Any]:
    return json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))


def plain(**settings: Any) -> tuple[Corpora, dict[str, int]]:
    """English text that ``settings`` clean: what it became, and how many lines were dropped."""
    found = made(text=Texts(train={"en": "en.txt"}), cleaning=Cleaning(**settings))
    return found, report()["read"]["train en"]["dropped"]


def test_exact_duplicates() -> None:
    write("en.txt", [LINES[0], LINES[1], LINES[0], LINES[2], LINES[1], LINES[0].upper()])
    found, dropped = plain(duplicates="exact")
    assert dropped == {"duplicate": 2}
    assert lines_of(found)[:3] == LINES[:3] and len(found.text("train", "en")) == 4


def test_near_duplicates() -> None:
    copy = LINES[0] + " indeed"
    write("en.txt", [LINES[0], LINES[1], copy, LINES[0]])
    found, dropped = plain(duplicates="near")
    assert lines_of(found) == LINES[:2]
    assert dropped == {"near duplicate": 1, "duplicate": 1}
    own = report()["read"]["train en"]
    assert own["read"] == 4 and own["kept"] == 2 and own["first"]["duplicate"] == "en.txt:4"
    assert own["examples"]["near duplicate"] == [f"en.txt:3: {copy}"]


def test_another_script() -> None:
    write("en.txt", [LINES[0], NEPALI[0], f"{LINES[1]} {NEPALI[1]}", "123 456"])
    found, dropped = plain(min_script=0.9)
    assert lines_of(found) == LINES[:1] and dropped == {"another script": 3}
    with pytest.raises(ConfigError, match="the usual script of xx is unknown: name it, such as"):
        made(folder="b", text=Texts(train={"xx": "en.txt"}), cleaning=Cleaning(min_script=0.5))
    both = Cleaning(min_script=0.5, scripts={"xx": ["latin", "Devanagari"]})
    found = made(folder="b", text=Texts(train={"xx": "en.txt"}), cleaning=both)
    assert len(lines_of(found, "xx")) == 3


def test_pairs() -> None:
    write("en.txt", [LINES[0], LINES[1], "the same", "a", LINES[0], LINES[2]])
    write("ne.txt", [NEPALI[0], LINES[2], "the same", NEPALI[3] * 5, NEPALI[0], NEPALI[2]])
    found = made(
        pairs=Aligned(train={"en-ne": ["en.txt", "ne.txt"]}),
        cleaning=Cleaning(
            min_script=0.5, max_length_ratio=3, equal_sides="drop", duplicates="exact",
            scripts={"ne": ["Devanagari"]},
        ),
    )  # fmt: skip
    assert len(found.pairs("train", "en-ne")) == 2
    dropped = report()["read"]["train en-ne"]["dropped"]
    assert dropped == {"another script": 2, "unlike lengths": 1, "duplicate": 1}


def test_equal_sides_and_lengths_without_a_script() -> None:
    write("en.txt", ["same text", "ab", LINES[0]])
    write("ne.txt", ["same text", "abcdefg", NEPALI[0]])
    made(
        pairs=Aligned(train={"en-ne": ["en.txt", "ne.txt"]}),
        cleaning=Cleaning(max_length_ratio=3, equal_sides="drop"),
    )
    dropped = report()["read"]["train en-ne"]["dropped"]
    assert dropped == {"equal sides": 1, "unlike lengths": 1}


def test_the_limit_counts_lines_that_stay() -> None:
    write("en.txt", [LINES[0]] * 5 + LINES[1:6])
    found = made(
        text=Texts(train={"en": "en.txt"}),
        max_sentences={"en": 3},
        cleaning=Cleaning(duplicates="exact"),
    )
    assert lines_of(found) == LINES[:3]


def test_the_vocabulary_is_learned_on_the_text_that_stays() -> None:
    write("clean.txt", LINES)
    write("en.txt", [line for line in LINES for _ in range(3)] + NEPALI)
    found, _ = plain(duplicates="exact", min_script=0.5)
    wanted = made(folder="clean", text=Texts(train={"en": "clean.txt"}))
    assert len(set(LINES)) == len(LINES)
    assert found.tokenizer.digest == wanted.tokenizer.digest


# Held-out text.


def leaking(**settings: Any) -> Corpora:
    """Training text that holds ten lines of held-out text, and ten that were edited."""
    exact = [line.upper() + " !!" for line in HELD_OUT[:10]]
    edited = [line + " as well" for line in HELD_OUT[10:20]]
    write("en.txt", LINES[:30] + exact + edited + LINES[30:])
    write("valid.txt", [*HELD_OUT, "Yes."])
    return made(
        text=Texts(train={"en": "en.txt"}, valid={"en": "valid.txt"}), cleaning=Cleaning(**settings)
    )


def test_exact_copies_of_held_out_lines_are_said_by_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "xlm")
    assert len(lines_of(leaking())) == 100
    (own,) = report()["held_out"]
    assert (own["name"], own["lines"], own["short"]) == ("valid en", 40, 1)
    assert (own["exact"], own["edited"]) == (10, 0) and own["share"] == 0.25
    assert own["examples"][0].startswith("valid.txt:1 ~ en.txt:31 (exact): ")
    assert report()["found_in_held_out"] == {"en": 10}
    assert "valid en: 10 of 40 lines (25.00%) stand in training text" in caplog.text
    assert "cleaning.held_out: drop leaves these training lines out" in caplog.text


def test_edited_copies_are_found(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "xlm")
    leaking(held_out_similarity=0.6)
    (own,) = report()["held_out"]
    assert (own["exact"], own["edited"]) == (10, 10)
    assert "10 with the same letters, 10 edited; first valid.txt:1 ~ en.txt:31" in caplog.text


def test_text_of_another_script_alone_is_refused_with_the_reason() -> None:
    nepali = write("ne.txt", sample.path("train.ne.txt").read_text("utf-8").splitlines()[:50])
    with pytest.raises(DataError, match=r"en, train: cleaning drops all 50 lines \(.*: 50\)"):
        made(text=Texts(train={"en": nepali}), cleaning=Cleaning(min_script=0.9))
    assert not Path("data").exists()


def test_leaking_lines_are_dropped() -> None:
    found = leaking(held_out="drop", held_out_similarity=0.6)
    assert lines_of(found) == LINES
    assert report()["read"]["train en"]["dropped"] == {"held-out text": 20}


def test_leaking_text_is_refused_above_a_share() -> None:
    with pytest.raises(DataError, match=r"valid en: 10 of 40 lines \(25.00%\).*at most 5.00%"):
        leaking(held_out="refuse", held_out_share=0.05)
    assert not Path("data").exists()
    leaking(held_out="refuse", held_out_share=0.25)


def test_held_out_pairs_are_looked_for_in_text_and_sides() -> None:
    write("en.txt", LINES + HELD_OUT[:4])
    write("one.txt", LINES[:5] + HELD_OUT[4:5])
    write("two.txt", NEPALI[:6])
    write("test.en", HELD_OUT)
    write("test.ne", [NEPALI[2]] + NEPALI[40:79])
    made(
        text=Texts(train={"en": "en.txt"}),
        pairs=Aligned(
            train={"en-ne": ["one.txt", "two.txt"]}, test={"en-ne": ["test.en", "test.ne"]}
        ),
    )
    english, nepali = report()["held_out"]
    assert (english["name"], english["exact"]) == ("test en-ne (en)", 5)
    assert (nepali["name"], nepali["exact"]) == ("test en-ne (ne)", 1)
    assert report()["found_in_held_out"] == {"en": 4, "en-ne": 2}


def test_text_without_leaks_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "xlm")
    made(text=Texts(train={"en": write("en.txt", LINES)}, valid={"en": write("v.txt", HELD_OUT)}))
    assert not caplog.records and report()["held_out"][0]["share"] == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"similarity": 0.0}, r"cleaning.similarity must be in \(0, 1\]: found 0.0"),
        ({"held_out_similarity": 2.0}, "cleaning.held_out_similarity must be in"),
        ({"min_script": 1.5}, r"cleaning.min_script must be in \[0, 1\]: found 1.5"),
        ({"held_out_share": -0.1}, "cleaning.held_out_share must be in"),
        ({"max_length_ratio": 0.5}, "cleaning.max_length_ratio must be at least 1: found 0.5"),
        ({"held_out_letters": -1}, "cleaning.held_out_letters must be at least 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        Cleaning(**settings)
