"""Figures of prepared text: sizes, fertility, unknown pieces, lengths, shared vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpora import SPLITS, Corpora
from xlm.data.corpus import Corpus
from xlm.storage import CHUNK
from xlm.text.tokenizers.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
BORDERS = (0, 4, 8, 16, 32, 64, 128, 256, 512)
"""Lengths in subwords at which the bars of a histogram begin."""
PERCENTILES = (1, 50, 90, 99)


def corpora_figures(corpora: Corpora) -> list[dict[str, Any]]:
    """Return the figures of every corpus and every side of pairs, by split and name."""
    found = []
    for split in SPLITS:
        names = corpora.names(split)
        for name in names["texts"]:
            corpus = corpora.text(split, name)
            found.append({"split": split, "name": name} | corpus_figures(corpus, corpora.tokenizer))
        for name in names["pairs"]:
            for side in corpora.pairs(split, name).sides:
                own = corpus_figures(side, corpora.tokenizer)
                found.append({"split": split, "name": name} | own)
    return found


def corpus_figures(corpus: Corpus, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the figures of one corpus; ratios are null if the text is empty.

    Fertility is subwords per word between spaces; end symbols count as neither.
    """
    size, num = corpus.text_size, len(corpus)
    tokens, words = size.tokens - num, size.words - num
    characters = size.characters - num
    pieces = byte_pieces(tokenizer)
    histogram, longest = _lengths(corpus)
    return {
        "language": corpus.language,
        "sentences": num,
        "tokens": size.tokens,
        "words": size.words,
        "characters": size.characters,
        "bytes": size.bytes,
        "fertility": _ratio(tokens, words),
        "characters_per_token": _ratio(characters, tokens),
        "unknown_rate": _ratio(int(corpus.counts[tokenizer.unk_id]), tokens),
        "byte_rate": _ratio(int(corpus.counts[pieces].sum()), tokens),
        "lengths": histogram,
        "percentiles": {str(at): _percentile(corpus, at) for at in PERCENTILES} if num else {},
        "longest": longest,
    }


def byte_pieces(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the ids of pieces that stand for one byte (int64)."""
    found = [at for at, piece in enumerate(tokenizer.pieces) if _BYTE.fullmatch(piece)]
    return np.array(found, dtype=np.int64)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _lengths(corpus: Corpus) -> tuple[list[int], int]:
    """Count the sentences in each bar of ``BORDERS``; return also the longest, in subwords."""
    counts = np.zeros(len(BORDERS), dtype=np.int64)
    longest = 0
    for start in range(0, len(corpus), CHUNK):
        lengths = corpus.lengths(start, min(start + CHUNK, len(corpus)))
        bars = np.searchsorted(BORDERS, lengths, side="right") - 1
        counts += np.bincount(bars, minlength=len(BORDERS))
        longest = max(longest, int(lengths.max()))
    return counts.tolist(), longest


def _percentile(corpus: Corpus, percent: int) -> int:
    """Return a percentile of the lengths, of an even sample if the corpus is large."""
    step = max(1, len(corpus) // 1_000_000)
    lengths = np.diff(corpus.offsets)[::step] - 1
    return int(np.percentile(lengths, percent, method="lower"))


def vocabulary_overlap(corpora: Corpora) -> dict[str, Any]:
    """Return, for each two languages of training text, the share of the first's subwords (end
    symbols apart) whose piece the second's text has too.

    The shares lie in rows by the first language; languages without training text are left out.
    """
    counts = _training_counts(corpora)
    names = sorted(counts)
    special = sorted(corpora.tokenizer.special_ids)
    for own in counts.values():
        own[special] = 0
    shares = [
        [_ratio(int(counts[one][counts[two] > 0].sum()), int(counts[one].sum())) for two in names]
        for one in names
    ]
    return {
        "languages": names,
        "shares": shares,
        "pieces": {name: int((counts[name] > 0).sum()) for name in names},
        "vocabulary": corpora.tokenizer.vocab_size,
    }


def _training_counts(corpora: Corpora) -> Mapping[str, NDArray[np.int64]]:
    found: dict[str, NDArray[np.int64]] = {}
    names = corpora.names("train")
    sides = [corpora.text("train", name) for name in names["texts"]]
    for name in names["pairs"]:
        sides += corpora.pairs("train", name).sides
    for corpus in sides:
        own = found.setdefault(corpus.language, np.zeros(len(corpus.counts), dtype=np.int64))
        own += corpus.counts
    return found
