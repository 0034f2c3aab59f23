"""Near duplicates against exact set similarity, and the keys of exact ones."""

from __future__ import annotations

import random
import sys

import pytest

from xlm import sample
from xlm.errors import ConfigError
from xlm.text.duplicates import NUM_HASHES, NearLines, fingerprint, letters, ngrams, num_bands
from xlm.text.scripts import script_of, script_share, scripts_of


def jaccard(one: str, other: str) -> float:
    a, b = ngrams(one), ngrams(other)
    return len(a & b) / len(a | b)


def edited(line: str, num: int, chance: random.Random) -> str:
    words = line.split(" ")
    for at in chance.sample(range(len(words)), min(num, len(words))):
        words[at] = chance.choice(["नयाँ", "other", "फरक"])
    return " ".join(words)


@pytest.mark.parametrize("language", ["en", "ne"])
def test_near_lines_are_those_of_high_similarity(language: str) -> None:
    lines = sample.path(f"train.{language}.txt").read_text(encoding="utf-8").splitlines()[:150]
    near, chance = NearLines(0.6, "x"), random.Random(1)
    for line in lines:
        near.add(line)
    missed = false = asked = 0
    for number in range(300):
        text = edited(chance.choice(lines), number % 6, chance)
        similarity, best = max((jaccard(text, line), -at) for at, line in enumerate(lines))
        found = near.find(text)
        if abs(similarity - 0.6) < 0.15:  # three standard errors of the estimate
            continue
        asked += 1
        missed += similarity > 0.6 and found is None
        false += similarity < 0.6 and found is not None
        assert found is None or similarity < 0.75 or found == -best
    assert asked > 150 and missed == false == 0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_bands_miss_no_more_than_one_in_a_hundred(threshold: float) -> None:
    bands = num_bands(threshold)
    rows = NUM_HASHES // bands
    assert rows * bands == NUM_HASHES
    assert (1 - threshold**rows) ** bands <= 0.01


def test_only_the_first_is_added() -> None:
    near = NearLines(0.8, "x")
    assert near.find_or_add("the cat sat on the mat") is None
    assert near.find_or_add("the cat sat on the mat!") == 0 and len(near) == 1
    assert near.find_or_add("something else altogether") is None and len(near) == 2


def test_keys() -> None:
    assert letters("The CAT, सात्!_५ é") == "thecatसात्५é"
    assert letters("“।”…") == ""
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")


def test_what_near_lines_need(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="similarity must be above 0 and at most 1: found 1.5"):
        NearLines(1.5, "similarity")
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(ConfigError, match=r"duplicates: near needs .*rensa.*xlm-pretrain\[clean\]"):
        NearLines(0.5, "duplicates: near")


def test_scripts() -> None:
    found = {sign: script_of(sign) for sign in "aéжकि中ひカ한ไعא1 .\u0301"}
    assert list(found.values()) == [
        "Latin", "Latin", "Cyrillic", "Devanagari", "Devanagari", "Cjk", "Hiragana", "Katakana",
        "Hangul", "Thai", "Arabic", "Hebrew", "", "", "", "",
    ]  # fmt: skip
    assert script_share("abक 12", {"Latin"}) == 2 / 3
    assert script_share("123 ...", {"Latin"}) == 0
    assert scripts_of("zh-Hans") == {"Cjk"} and scripts_of("xx") is None
    for language in ("en", "hi", "ne"):
        text = sample.path(f"train.{language}.txt").read_text(encoding="utf-8")
        assert script_share(text, scripts_of(language) or ()) > 0.95
