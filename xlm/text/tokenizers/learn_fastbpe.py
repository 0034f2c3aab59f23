"""Learning fastBPE's codes and vocabulary: the same files, byte for byte, as fastBPE writes.

Merges are chosen by count and, among equals, by the numbers of the two symbols; symbols are
numbered in the order in which fastBPE meets them, which is that of a C++ hash table (of the GNU
library, 64 bits). Ties are many; so that order is computed here.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.text.tokenizers.fastbpe import END, FastBpeTokenizer, Segmenter

_BITS = (1 << 64) - 1
_MULTIPLIER = 0xC6A4A7935BD1E995
_SEED = 0xC70F6907
_NUM_BUCKETS = (
    # The sizes that a std::unordered_map takes as it grows: each the next listed prime after twice
    # the last.
    *(13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933),
    *(351061, 712697, 1447153, 2938679, 5967347, 12117689, 24607243, 49969847),
    *(101473717, 206062531),
)

Pair = tuple[int, int]


def count_words(lines: Iterable[str]) -> Counter[str]:
    """Count each word (between U+0020), in the order of first occurrence."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(word for word in line.split(" ") if word)
    return counts


def learn_fastbpe(word_counts: Mapping[str, int], num_merges: int) -> bytes:
    """Return the codes of ``fast learnbpe num_merges`` for the same words: ``left right count``.

    ``word_counts`` must be in the order of first occurrence in the text (as of ``count_words``).
    Fewer codes come back if nothing is left to merge (fastBPE would repeat empty merges).
    """
    if num_merges < 1 or not word_counts:
        raise ConfigError(
            f"{num_merges} merges from {len(word_counts)} words: expected at least one of each"
        )
    learner = _Learner(word_counts)
    lines = []
    for _ in range(num_merges):
        best = learner.best()
        if best is None:
            break
        left, right = (learner.symbols[at] for at in best)
        lines.append(f"{left} {right} {learner.counts[best]}\n")
        learner.merge(best)
    return "".join(lines).encode()


def fastbpe_vocabulary(word_counts: Mapping[str, int], codes: bytes) -> bytes:
    """Return the output of ``fast getvocab`` for text after ``fast applybpe``: ``piece count``."""
    segment = Segmenter(codes)
    counts: Counter[str] = Counter()
    for word, number in word_counts.items():
        for piece in segment(word):
            counts[piece] += number
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0].encode()))
    return "".join(f"{piece} {number}\n" for piece, number in ordered).encode()


def learn_fastbpe_tokenizer(
    lines: Iterable[str], num_merges: int, *, max_vocab: int = 0, min_count: int = 0
) -> FastBpeTokenizer:
    """Learn codes and vocabulary from normalized lines; return the tokenizer."""
    words = count_words(lines)
    codes = learn_fastbpe(words, num_merges)
    vocabulary = fastbpe_vocabulary(words, codes)
    return FastBpeTokenizer(codes, vocabulary, max_vocab=max_vocab, min_count=min_count)


class _Learner:
    """Words as lists of symbols, pairs with their counts, and the words of each pair."""

    def __init__(self, word_counts: Mapping[str, int]):
        words = list(word_counts)
        numbers = list(word_counts.values())
        self.symbols: list[str] = []
        self.counts: dict[Pair, int] = {}
        self._where: dict[Pair, set[int]] = {}
        self._words: list[list[int]] = []
        self._numbers: list[int] = []
        ids: dict[str, int] = {}
        for at in _hash_order(words):
            word = words[at]
            symbols = [ids.setdefault(s, len(ids)) for s in (*word[:-1], word[-1] + END)]
            self._words.append(symbols)
            self._numbers.append(numbers[at])
            for pair in zip(symbols, symbols[1:], strict=False):
                self.counts[pair] = self.counts.get(pair, 0) + numbers[at]
                self._where.setdefault(pair, set()).add(len(self._words) - 1)
        self.symbols = list(ids)
        self._heap = [(-number, pair) for pair, number in self.counts.items()]
        heapq.heapify(self._heap)

    def best(self) -> Pair | None:
        """Return the most frequent pair, of equals that of the smallest symbols; None at last."""
        while self._heap:
            number, pair = self._heap[0]
            current = self.counts.get(pair, 0)
            if current == -number:
                return pair
            # Counts that fell are mended here; those that rose were pushed when they did.
            heapq.heappop(self._heap)
            if 0 < current < -number:
                heapq.heappush(self._heap, (-current, pair))
        return None

    def merge(self, pair: Pair) -> None:
        """Replace ``pair`` by a new symbol everywhere, from the left."""
        new = len(self.symbols)
        self.symbols.append(self.symbols[pair[0]] + self.symbols[pair[1]])
        changes: dict[Pair, int] = {}
        for at in self._where.pop(pair):
            self._words[at] = self._merge_word(at, pair, new, changes)
        del self.counts[pair]
        changes.pop(pair, None)
        for changed, change in changes.items():
            number = self.counts.get(changed, 0) + change
            if number > 0:
                self.counts[changed] = number
                if change > 0:
                    heapq.heappush(self._heap, (-number, changed))
            else:
                self.counts.pop(changed, None)
                self._where.pop(changed, None)

    def _merge_word(self, at: int, pair: Pair, new: int, changes: dict[Pair, int]) -> list[int]:
        old, number = self._words[at], self._numbers[at]
        merged: list[int] = []
        position = 0
        while position < len(old):
            if old[position] == pair[0] and tuple(old[position : position + 2]) == pair:
                merged.append(new)
                position += 2
            else:
                merged.append(old[position])
                position += 1
        if len(merged) == len(old):
            return old  # the pair has gone into other merges since
        for before in zip(old, old[1:], strict=False):
            changes[before] = changes.get(before, 0) - number
        for after in zip(merged, merged[1:], strict=False):
            changes[after] = changes.get(after, 0) + number
            if new in after:
                self._where.setdefault(after, set()).add(at)
        return merged


def _hash_order(words: list[str]) -> Iterator[int]:
    """Yield ``words`` in the order of a ``std::unordered_map`` that met them one by one.

    A node goes to the front of its bucket's group, a new group to the front of the list; growing
    puts all nodes into an empty table in the order of the list.
    """
    hashes = np.fromiter((_hash(word.encode()) for word in words), np.uint64, len(words))
    order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    start = 0
    for num_buckets in _NUM_BUCKETS:
        end = min(num_buckets, len(words))
        met = np.concatenate([order, np.arange(start, end)])
        _, first, group = np.unique(
            hashes[met] % np.uint64(num_buckets), return_index=True, return_inverse=True
        )
        order = met[np.lexsort((-np.arange(len(met)), -first[group.reshape(-1)]))]
        start = end
        if end == len(words):
            break
    return iter(order.tolist())


def _hash(text: bytes) -> int:
    """Return GNU's ``std::hash`` of a string: MurmurHash64A (Appleby), with its seed."""
    value = _SEED ^ (len(text) * _MULTIPLIER & _BITS)
    whole = len(text) & ~7
    for at in range(0, whole, 8):
        data = int.from_bytes(text[at : at + 8], "little") * _MULTIPLIER & _BITS
        data = (data ^ (data >> 47)) * _MULTIPLIER & _BITS
        value = (value ^ data) * _MULTIPLIER & _BITS
    if len(text) > whole:
        value = (value ^ int.from_bytes(text[whole:], "little")) * _MULTIPLIER & _BITS
    value = (value ^ (value >> 47)) * _MULTIPLIER & _BITS
    return value ^ (value >> 47)
