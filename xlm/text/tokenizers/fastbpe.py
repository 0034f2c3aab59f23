"""fastBPE's codes and vocabulary, applied exactly as fastBPE and the original XLM do.

    word --merge in the order of the codes--> pieces --split what the vocabulary lacks--> pieces
    piece "un" inside a word is the entry "un@@", at its end "un"; entries get ids in file order

Segmentation is restricted by the whole vocabulary file; ids by XLM's reading of it.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xlm.errors import ConfigError, DataError
from xlm.text.tokenizers.tokenizer import Tokenizer, write_tokenizer

CODES_FILE = "codes"
VOCABULARY_FILE = "vocab"
END = "</w>"
"""Closes the last symbol of a word, in the codes."""
SUBWORD_NMT = b"#version:"
"""First bytes of the codes of subword-nmt."""
INSIDE = "@@"
"""Closes every piece but the last of a word, in the vocabulary and in segmented text."""
SPECIALS = ("<s>", "</s>", "<pad>", "<unk>", *(f"<special{k}>" for k in range(10)))
UNKNOWN = "\u2047"
"""The decoded form of an unknown piece, as in SentencePiece."""
MAX_CACHED = 1 << 16
MAX_CACHED_LENGTH = 64


class Segmenter:
    """A segmenter of words, identical to fastBPE's ``applybpe``, with or without a vocabulary.

    ``codes``: lines ``left right count``. ``vocabulary``: lines ``piece count``; if it is given, a
    piece that it lacks is taken apart again along the merges that made it, down to characters.
    Raises DataError, with the line, for codes of another form; such lines of a vocabulary are
    skipped.
    """

    def __init__(self, codes: bytes, vocabulary: bytes | None = None):
        self._ranks: dict[tuple[str, str], int] = {}
        self._parts: dict[str, tuple[str, str]] = {}
        for number, fields in _read_fields(codes, "codes"):
            if len(fields) != 3 or not fields[2].isdecimal():
                found = " ".join(fields)[:80]
                raise DataError(
                    f"codes:{number}: found {found!r}, expected 'left right count' of fastBPE, or "
                    "'#version: 0.2' and lines 'left right' of subword-nmt"
                )
            pair = (fields[0], fields[1])
            self._ranks[pair] = len(self._ranks)
            self._parts[fields[0] + fields[1]] = pair
        self._entries: set[str] = set()
        if vocabulary is not None:
            lines = _read_fields(vocabulary, "vocabulary")
            self._entries = {fields[0] for _, fields in lines if len(fields) == 2}

    def __call__(self, word: str) -> tuple[str, ...]:
        """Return the pieces of one word (not empty), all but the last closed by ``@@``."""
        symbols = self._merge([*word[:-1], word[-1] + END])
        last = len(symbols) - 1
        pieces: list[str] = []
        for at, symbol in enumerate(symbols):
            pieces += self._restrict(symbol, at == last) if self._entries else [symbol]
        return (*(piece + INSIDE for piece in pieces[:-1]), pieces[-1].removesuffix(END))

    def line(self, text: str) -> list[str]:
        """Return the pieces of a line, whose words are separated by U+0020."""
        return [piece for word in text.split(" ") if word for piece in self(word)]

    def _merge(self, symbols: list[str]) -> list[str]:
        """Merge the pair that is first in the codes, everywhere from the left, until none is left.

        A linked list and a heap of (rank, place): n log n also for a "word" of a million letters.
        """
        following = [*range(1, len(symbols)), -1]
        preceding = [*range(-1, len(symbols) - 1)]
        alive = [True] * len(symbols)
        ranks = self._ranks
        pairs = enumerate(zip(symbols, symbols[1:], strict=False))
        heap = [(ranks[pair], at) for at, pair in pairs if pair in ranks]
        heapq.heapify(heap)
        while heap:
            rank = heap[0][0]
            changed = []
            while heap and heap[0][0] == rank:
                at = heapq.heappop(heap)[1]
                after = following[at]
                if not alive[at] or after < 0 or ranks.get((symbols[at], symbols[after])) != rank:
                    continue  # gone into an earlier merge
                symbols[at] += symbols[after]
                alive[after] = False
                following[at] = following[after]
                if following[at] >= 0:
                    preceding[following[at]] = at
                changed.append(at)
            for at in changed:
                for left, right in ((preceding[at], at), (at, following[at])):
                    if left >= 0 and right >= 0 and alive[left] and alive[right]:
                        found = ranks.get((symbols[left], symbols[right]))
                        if found is not None:
                            heapq.heappush(heap, (found, left))
        return [symbol for symbol, here in zip(symbols, alive, strict=True) if here]

    def _restrict(self, symbol: str, is_last: bool) -> Iterator[str]:
        """Return ``symbol`` if the vocabulary has it, else its parts by the codes, recursively."""
        pending = [(symbol, is_last)]
        while pending:
            symbol, is_last = pending.pop()
            entry = symbol.removesuffix(END) if is_last else symbol + INSIDE
            parts = None if entry in self._entries else self._parts.get(symbol)
            if parts is None:
                yield symbol
            else:
                pending += [(parts[1], is_last), (parts[0], False)]


def from_subword_nmt(codes: bytes) -> bytes:
    """Return the codes of subword-nmt 0.2 as fastBPE has them; other codes as they are.

    Both segment alike. fastBPE's lines have a count, which means nothing when codes are applied and
    is 0 here. Raises DataError, with the line, for merges of another program under that header.
    """
    header, _, rest = codes.partition(b"\n")
    if not header.startswith(SUBWORD_NMT):
        return codes
    version = header.removeprefix(SUBWORD_NMT).split()
    if version != [b"0.2"]:
        raise DataError(
            f"codes:1: found codes of subword-nmt {header[10:40].decode(errors='replace')}, "
            "expected 0.2, in which </w> belongs to the last letter: learn them again"
        )
    lines = [line.rstrip(b"\r ") for line in rest.split(b"\n")]
    for number, line in enumerate(lines, 2):
        if line and len(line.split(b" ")) != 2:
            found = line[:80].decode(errors="replace")
            raise DataError(
                f"codes:{number}: found {found!r}, expected 'left right' of subword-nmt"
            )
    if not any(line.endswith(END.encode()) for line in lines):
        raise DataError(
            f"codes:1: no merge ends with {END}: expected codes of subword-nmt or fastBPE, "
            "not the merges.txt of a byte-level tokenizer (for that, give its folder as "
            "vocabulary.folder)"
        )
    return b"".join(line + b" 0\n" for line in lines if line)


def _read_fields(content: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line, separated by U+0020 alone: a no-break space is a symbol."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            yield number, [field for field in line.decode("utf-8").split(" ") if field]
        except UnicodeDecodeError as error:
            raise DataError(f"{name}:{number}: invalid UTF-8 ({error.reason})") from None


class FastBpeTokenizer(Tokenizer):
    """XLM's own tokenizer: fastBPE pieces with the ids of the original's dictionary.

    See docs/fidelity.md, A11.

    ``<s>`` 0, ``</s>`` 1, ``<pad>`` 2, ``<unk>`` 3, ``<special0..9>`` 4..13 (the mask is
    ``<special1>``, 5), then the vocabulary in file order. As in the original, vocabulary lines that
    hold U+2028, are malformed or repeat an earlier entry (or a special token) get no id, and those
    after them move up; ``num_skipped`` counts them. ``max_vocab`` (0: no limit) keeps that many
    ids, specials included, ``min_count`` the entries at least so frequent; other pieces become
    ``<unk>``. Text that spells a special token is segmented like any other (the original drops
    it); a piece that spells one is ``<unk>``. Raises DataError for codes of another form, and for
    a vocabulary that is not ordered by count or has no usable line.
    """

    def __init__(self, codes: bytes, vocabulary: bytes, *, max_vocab: int = 0, min_count: int = 0):
        if max_vocab and max_vocab <= len(SPECIALS):
            raise ConfigError(
                f"max_vocab {max_vocab}: expected 0 (no limit) or more than the {len(SPECIALS)} "
                "special tokens, which it includes"
            )
        codes = from_subword_nmt(codes)
        self.codes, self.vocabulary = codes, vocabulary
        self.settings = {"max_vocab": max_vocab, "min_count": min_count}
        self.segment = Segmenter(codes, vocabulary)
        entries, counts, self.num_skipped = _read_dictionary(vocabulary)
        if not entries:
            raise DataError("vocabulary: no usable line: expected lines 'piece count'")
        num = sum(count >= min_count for count in counts)
        num = min(num, max_vocab - len(SPECIALS)) if max_vocab else num
        self.pieces = (*SPECIALS, *entries[:num])
        """The string of every id."""
        self.counts = (*([0] * len(SPECIALS)), *counts[:num])
        """Frequency of each in the text that the vocabulary was made from; 0 for special tokens."""
        self.vocab_size = len(self.pieces)
        self.end_id, self.pad_id, self.unk_id, self.mask_id = 1, 2, 3, 5
        self.special_ids = frozenset(range(len(SPECIALS)))
        self._ids = {piece: at for at, piece in enumerate(self.pieces) if at >= len(SPECIALS)}
        self._words: dict[str, tuple[int, ...]] = {}
        self._digest = self._compute_digest()

    def _compute_digest(self) -> str:
        digest = hashlib.sha256(f"fastbpe\n{sorted(self.settings.items())}\n".encode())
        for content in (self.codes, self.vocabulary):
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 of codes, vocabulary and settings."""
        return self._digest

    def encode(self, text: str) -> list[int]:
        """Return the ids of one normalized line, without special tokens."""
        ids: list[int] = []
        for word in text.split(" "):
            known = self._words.get(word)
            ids += self._encode_word(word) if known is None else known
        return ids

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if len(self._words) >= MAX_CACHED:
            self._words.clear()  # bounded memory; frequent words are soon back
        pieces = self.segment(word) if word else ()
        ids = tuple(self._ids.get(piece, self.unk_id) for piece in pieces)
        if len(word) <= MAX_CACHED_LENGTH:
            self._words[word] = ids
        return ids

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ``encode(text)`` and the characters of ``text`` that each piece stands for."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for word in re.finditer("[^ ]+", text):
            own, at = self._words.get(word.group()) or self._encode_word(word.group()), word.start()
            pieces = self.segment(word.group()) if len(own) > 1 else (word.group(),)
            for place, piece in enumerate(pieces, 1):
                end = at + len(piece) - (len(INSIDE) if place < len(pieces) else 0)
                spans.append((at, end))
                at = end
            ids += own
        return ids, spans

    def decode(self, ids: Sequence[int]) -> str:
        """Return plain text; special tokens are left out, an unknown piece is shown as U+2047."""
        kept = [int(at) for at in ids if int(at) == self.unk_id or int(at) not in self.special_ids]
        pieces = [UNKNOWN if at == self.unk_id else self.pieces[at] for at in kept]
        text = "".join(
            piece.removesuffix(INSIDE) if piece.endswith(INSIDE) else f"{piece} "
            for piece in pieces
        )
        return text.removesuffix(" ")

    def save(self, folder: Path) -> None:
        """Write ``codes``, ``vocab`` and ``tokenizer.json``."""
        files = {CODES_FILE: self.codes, VOCABULARY_FILE: self.vocabulary}
        write_tokenizer(folder, self, "fastbpe", self.settings, files)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.codes, self.vocabulary, self.settings)


def _rebuild(codes: bytes, vocabulary: bytes, settings: dict[str, int]) -> FastBpeTokenizer:
    return FastBpeTokenizer(codes, vocabulary, **settings)


def _read_dictionary(vocabulary: bytes) -> tuple[list[str], list[int], int]:
    """Return the entries with an id, their counts, and the number of lines the original skips.

    The original reads in Python's text mode and splits at any white space, so that a carriage
    return ends a line and an entry that is white space is malformed; ids depend on it.
    """
    entries: dict[str, int] = {}
    num_skipped = 0
    known = set(SPECIALS)
    # io.open's universal newlines, on bytes in memory
    lines = io.TextIOWrapper(io.BytesIO(vocabulary), encoding="utf-8")
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if "\u2028" in line or len(fields) != 2 or fields[0] in known or not fields[1].isdecimal():
            num_skipped += 1
            continue
        entry, count = fields[0], int(fields[1])
        last = next(reversed(entries.values())) if entries else count
        if count > last:
            raise DataError(
                f"vocabulary:{number}: {entry!r} has count {count}, more than the {last} "
                "before it: expected the most frequent first, as fastBPE's getvocab writes "
                "it"
            )
        known.add(entry)
        entries[entry] = count
    return list(entries), list(entries.values()), num_skipped
