"""One normal form for every line of text, whichever file or data set it comes from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_REPLACEMENT = {code: "\ufffd" for code in range(0xD800, 0xE000)}


def normalize(line: str) -> str:
    """Return ``line`` in NFC, without control characters, with single U+0020 as white space.

    Control characters (C0 with NUL, tab and CR; DEL; C1 with U+0085) and the separators U+2028 and
    U+2029 become a space; white space of every kind (no-break and ideographic spaces too) is
    squeezed to one space and stripped; byte order marks at the start are removed (files joined
    together leave them at the start of lines). Joiners (U+200C, U+200D), on which Indic spelling
    rests, are kept. A lone surrogate, which no encoder can take, becomes U+FFFD.
    Idempotent: ``normalize(normalize(line)) == normalize(line)``.
    """
    line = " ".join(_composed(_without_unwanted(line)).split())
    while line.startswith("\ufeff"):
        line = line.lstrip("\ufeff ")
    return line


def normalize_traced(text: str) -> tuple[str, NDArray[np.int64]]:
    """Return ``normalize(text)`` and the span of ``text`` behind each of its characters.

    int64 ``[n, 2]``: character k of the line stands for ``text[first:end]``. Characters that
    compose stand for all that they are made of, a space for everything between two words.
    """
    line = normalize(text)
    if line == text:
        first = np.arange(len(line))
        return line, np.stack([first, first + 1], axis=1)
    places: list[tuple[int, int]] = []
    end = 0
    for word in re.finditer(r"\S+", _without_unwanted(text)):
        if places:
            places.append((end, word.start()))
        places += [(word.start() + a, word.start() + b) for a, b in _traced(word.group())]
        end = word.end()
    # the missing characters are byte order marks, which were at the start
    return line, np.array(places, dtype=np.int64).reshape(-1, 2)[len(places) - len(line) :]


def _without_unwanted(line: str) -> str:
    """Replace each unwanted character by one other, so that the line keeps its length."""
    if _UNWANTED.search(line):
        line = _UNWANTED.sub(lambda match: match[0].translate(_REPLACEMENT), line)
        line = _UNWANTED.sub(" ", line)
    return line


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _traced(word: str) -> list[tuple[int, int]]:
    """Return the span that each character of the composed word comes from."""
    if _composed(word) == word:
        return [(at, at + 1) for at in range(len(word))]
    places: list[tuple[int, int]] = []
    made = ""
    for first, end in _clusters(word):
        part = _composed(word[first:end])
        made += part
        if part == word[first:end]:
            places += [(at, at + 1) for at in range(first, end)]
        else:
            places += [(first, end)] * len(part)
    if made != _composed(word):
        return [(0, len(word))] * len(_composed(word))
    return places


def _clusters(word: str) -> Iterator[tuple[int, int]]:
    """Yield stretches that compose each by itself: a mark belongs to the character before it."""
    first = 0
    for at in range(1, len(word)):
        if unicodedata.combining(word[at]):
            continue
        before = _composed(word[first:at])
        if _composed(word[first : at + 1]) == before + _composed(word[at]):
            yield first, at
            first = at
    yield first, len(word)
