"""Pieces that languages share, and how a vocabulary cuts them.

p_type = |V_train ∩ V_test| / |V_test| (mBERT study, section 5.2), p_token the same weighted by
counts in the test text, both in percent.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xlm.analysis.intervals import Estimate, share, undefined
from xlm.text.tokenizers.tokenizer import Tokenizer

PERCENT = 100.0
_BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Pieces:
    """Counts of the pieces of one text."""

    counts: Counter[int]
    num_words: int
    num_unknown: int

    @property
    def num_tokens(self) -> int:
        """Number of pieces of the text."""
        return self.counts.total()


def count_pieces(tokenizer: Tokenizer, lines: Sequence[str]) -> Pieces:
    """Return the counts of the pieces of normalized lines; words are separated by spaces."""
    counts: Counter[int] = Counter()
    texts = [tokenizer.normalize(line) for line in lines]
    for ids in tokenizer.encode_lines(texts):
        counts.update(ids)
    return Pieces(counts, sum(len(text.split()) for text in texts), counts[tokenizer.unk_id])


def has_letter(piece: str) -> bool:
    """Return whether a piece has a letter or a mark of one, such as Devanagari's vowel signs.

    A piece that stands for one byte, such as ``<0xE4>``, has none.
    """
    if _BYTE.fullmatch(piece):
        return False
    return any(unicodedata.category(sign)[0] in "LM" for sign in piece)


def overlap(
    train: Counter[int], test: Counter[int], keep: Callable[[int], bool] = lambda piece: True
) -> dict[str, Estimate]:
    """Return p_type and p_token of two texts' pieces, in percent; ``keep`` selects pieces."""
    types = [piece for piece, num in test.items() if num and keep(piece)]
    shared = [piece for piece in types if train[piece]]
    return {
        "p_type": _percent(share(len(shared), len(types))),
        "p_token": _percent(share(sum(test[p] for p in shared), sum(test[p] for p in types))),
    }


def _percent(own: Estimate) -> Estimate:
    if own.value is None or own.low is None or own.high is None:
        return undefined("no piece in the test text")
    return Estimate(PERCENT * own.value, PERCENT * own.low, PERCENT * own.high, own.num)


def overlaps(
    tokenizer: Tokenizer, train: Mapping[str, Sequence[str]], test: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], dict[str, Estimate]]:
    """Return the overlap of every ordered pair of languages, and without pieces that lack letters.

    ``train`` and ``test`` are lines by language. The unknown piece and special tokens never count.
    """
    learned, asked = (
        {
            name: count_pieces(tokenizer.in_language(name), lines).counts
            for name, lines in texts.items()
        }
        for texts in (train, test)
    )
    ordinary = _ordinary(tokenizer)
    lettered = {piece for piece in ordinary if has_letter(tokenizer.pieces[piece])}
    found = {}
    for one, own in learned.items():
        for two, others in asked.items():
            figures = overlap(own, others, ordinary.__contains__)
            letters = overlap(own, others, lettered.__contains__)
            figures.update({f"{name} of letters": value for name, value in letters.items()})
            found[one, two] = figures
    return found


def _ordinary(tokenizer: Tokenizer) -> set[int]:
    """Return the ids of pieces that stand for text of their own."""
    without = {tokenizer.unk_id, *tokenizer.special_ids}
    return {piece for piece in range(len(tokenizer.pieces)) if piece not in without}


def cutting(tokenizer: Tokenizer, lines: Sequence[str]) -> dict[str, Estimate]:
    """Return pieces per word and the share of unknown pieces, in percent."""
    own = count_pieces(tokenizer, lines)
    if not own.num_words:
        return {name: undefined("no word") for name in ("fertility", "unknown rate")}
    return {
        "fertility": Estimate(own.num_tokens / own.num_words, num=own.num_words),
        "unknown rate": _percent(share(own.num_unknown, own.num_tokens)),
    }
