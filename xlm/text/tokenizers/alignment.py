"""The characters of a text that each piece stands for: answers are spans of characters.

text --normalize--> line --Tokenizer.encode_spans--> ids, spans of the line --> of the text
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xlm.text.normalize import normalize_traced
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer


@lru_cache(maxsize=8)  # the questions on a text follow one another
def align(tokenizer: Tokenizer, text: str) -> tuple[Ids, NDArray[np.int64]]:
    """Return the pieces of any text and the characters of each; both arrays are read-only.

    Returns int64 ``[n]`` and ``[n, 2]``: piece k stands for ``text[first:end]``, at least one
    character, without white space around it. The bytes of one character all stand for it, and a
    piece of white space alone for the first character after it.
    """
    line, places = normalize_traced(text)
    ids, spans = tokenizer.encode_spans(line) if line else ([], [])
    tokens = np.array(ids, dtype=np.int64)
    settled = _settled(line, np.array(spans, dtype=np.int64).reshape(-1, 2))
    characters = np.stack([places[settled[:, 0], 0], places[settled[:, 1] - 1, 1]], axis=1)
    tokens.flags.writeable = characters.flags.writeable = False
    return tokens, characters


def _settled(line: str, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the spans without spaces around them; empty ones get the next character."""
    if not len(spans):
        return spans
    visible = np.array([character != " " for character in line], dtype=bool)
    at = np.arange(len(line))
    last = len(line) - 1  # a normalized line ends with a visible character
    following = np.minimum.accumulate(np.where(visible, at, last)[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(visible, at, 0))
    first = following[np.minimum(spans[:, 0], last)]
    end = preceding[np.maximum(spans[:, 1] - 1, 0)] + 1
    return np.stack([first, np.maximum(end, first + 1)], axis=1)
