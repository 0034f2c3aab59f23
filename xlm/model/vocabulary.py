"""Two vocabularies compared, and the tables of one carried over to the other.

pieces of both        --> the row there
new pieces            --> the mean of the rows of the sub-pieces there of their text
nothing to take apart --> the mean of all rows of text
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm.errors import ConfigError
from xlm.model.language_tables import ROLES
from xlm.text.tokenizers.tokenizer import Tokenizer

MOST_SHOWN = 3

STARTS = ("\u2581", "\u0120")
"""First characters of a piece that begins a word: of SentencePiece, of byte-level BPE."""
INSIDE_WORDPIECE, INSIDE_BPE = "##", "@@"
"""First characters of a piece inside of a word (BERT), or its last ones (fastBPE)."""
UNDECODED = "\ufffd"
"""The character that replaces a part of a letter's bytes in the text of a piece."""


@dataclass(frozen=True)
class VocabularyMap:
    """A map from each id of one vocabulary to the rows of another's tables that it starts from."""

    rows: tuple[tuple[int, ...], ...]
    """For each id here the ids there whose mean it gets; empty: the mean of all text."""
    text_rows: tuple[int, ...]
    """The ids there that are pieces of text."""
    num_kept: int
    num_averaged: int
    num_unknown: int
    """New pieces without any sub-piece there."""
    unused: tuple[str, ...]
    """Pieces there that no piece here starts from."""

    def apply(self, table: Tensor) -> Tensor:
        """Map ``[V there, ...]`` -> ``[V here, ...]``; a row that is kept is equal bit for bit."""
        single = torch.tensor([row[0] if row else 0 for row in self.rows])
        carried = table.index_select(0, single).clone()
        whole = table[list(self.text_rows)].mean(0)
        for at, row in enumerate(self.rows):
            if not row:
                carried[at] = whole
            elif len(row) > 1:
                carried[at] = table[list(row)].mean(0)
        return carried

    def describe(self) -> str:
        """Return one line about the map."""
        return (
            f"vocabulary of {len(self.rows):,} pieces: {self.num_kept:,} kept their rows, "
            f"{self.num_averaged:,} new ones got the mean of their sub-pieces, "
            f"{self.num_unknown:,} without any the mean of all; {len(self.unused):,} pieces of the "
            "source are used by none"
        )


def describe_difference(here: Tokenizer, there: Tokenizer) -> str:
    """Describe the difference of two vocabularies: numbers, and the first items, with their ids."""
    only_here = set(here.pieces) - set(there.pieces)
    only_there = set(there.pieces) - set(here.pieces)
    different = [
        f"id {at} is {mine!r} here and {other!r} there"
        for at, (mine, other) in enumerate(zip(here.pieces, there.pieces, strict=False))
        if mine != other
    ]
    if not different and len(here.pieces) == len(there.pieces):
        return (
            f"both have the same {len(here.pieces):,} pieces, but cut text into them differently "
            "(merges or settings differ)"
        )
    first = "; ".join(different[:MOST_SHOWN]) or "the shorter is the beginning of the longer"
    return (
        f"{len(here.pieces):,} pieces here, {len(there.pieces):,} there; {len(only_here):,} only "
        f"here{_some(here.pieces, only_here)}, {len(only_there):,} only there"
        f"{_some(there.pieces, only_there)}; {first}"
    )


def _some(pieces: Sequence[str], chosen: set[str]) -> str:
    shown = [repr(piece) for piece in pieces if piece in chosen][:MOST_SHOWN]
    return f" ({', '.join(shown)}{', ...' if len(chosen) > len(shown) else ''})" if shown else ""


def extend_vocabulary(here: Tokenizer, there: Tokenizer) -> VocabularyMap:
    """Return the rows of ``there`` that each id of ``here`` starts from.

    Special symbols go by their role (begin, end, padding, unknown, mask), tokens of languages by
    the language, others by their name; pieces of text by their string. A new token of a language
    gets the mean of those there, of all text if there are none; a new piece is taken apart by the
    tokenizer ``there``. Raises ConfigError if the two mark the borders of words differently: the
    same string would be another piece of text.
    """
    marks = marking(here), marking(there)
    if marks[0] != marks[1]:
        raise ConfigError(
            f"the vocabularies mark word boundaries differently ({marks[0]} here, {marks[1]} "
            "there): extending only works between two SentencePiece or two fastBPE "
            "vocabularies; train from scratch, or learn the new vocabulary in the source's "
            "way"
        )
    known = {piece: at for at, piece in enumerate(there.pieces) if at not in there.special_ids}
    roles: dict[int, int] = {}
    for role in ROLES:  # a symbol of several roles here goes by the first of them
        roles.setdefault(getattr(here, role), getattr(there, role))
    named = {there.pieces[at]: at for at in there.special_ids}
    tokens = {at: language for language, at in here.language_tokens.items()}
    of_languages = tuple(there.language_tokens.values())
    kept: dict[int, int] = {}
    new: dict[int, tuple[int, ...]] = {}
    for at, piece in enumerate(here.pieces):
        special = at in here.special_ids
        row = roles.get(at, named.get(piece)) if special else known.get(piece)
        if at in tokens:
            row = there.language_tokens.get(tokens[at])
        if row is not None:
            kept[at] = row
        elif at in tokens:
            new[at] = of_languages
        else:
            new[at] = () if special else _parts(at, here, there, known, marks[1])
    rows = [(kept[at],) if at in kept else new[at] for at in range(len(here.pieces))]
    used = {at for row in rows for at in row}
    return VocabularyMap(
        rows=tuple(rows),
        text_rows=tuple(known.values()),
        num_kept=len(kept),
        num_averaged=sum(bool(row) for row in new.values()),
        num_unknown=sum(not row for row in new.values()),
        unused=tuple(piece for at, piece in enumerate(there.pieces) if at not in used),
    )


def marking(tokenizer: Tokenizer) -> str:
    """Return the mark by which most pieces show that a word begins or ends."""
    seen: Counter[str] = Counter()
    for at, piece in enumerate(tokenizer.pieces):
        if at not in tokenizer.special_ids:
            marks = (*STARTS, INSIDE_WORDPIECE)
            seen.update([mark for mark in marks if piece.startswith(mark)])
            seen.update([INSIDE_BPE] if piece.endswith(INSIDE_BPE) else [])
    return seen.most_common(1)[0][0] if seen else "not at all"


def _parts(
    at: int, here: Tokenizer, there: Tokenizer, known: Mapping[str, int], mark: str
) -> tuple[int, ...]:
    """Return the ids of the pieces that the tokenizer ``there`` cuts the text of piece ``at`` into.

    A tokenizer encodes whole words; if the piece is a part of one, the sub-piece at its open end is
    exchanged for the one with the same text inside of a word, if there is such a piece.
    """
    piece = here.pieces[at]
    text = here.decode([at]).removeprefix("##").strip()
    if not text or UNDECODED in text:
        return ()
    ids = [one for one in there.encode(text) if one not in there.special_ids]
    if not ids:
        return ()
    first, last = there.pieces[ids[0]], there.pieces[ids[-1]]
    if mark == INSIDE_BPE and piece.endswith(mark):
        ids[-1] = known.get(last + mark, ids[-1])
    elif mark == INSIDE_WORDPIECE and piece.startswith(mark):
        ids[0] = known.get(mark + first, ids[0])
    elif mark in STARTS and not piece.startswith(mark):
        if first == mark and len(ids) > 1:
            del ids[0]
        ids[0] = known.get(there.pieces[ids[0]].removeprefix(mark), ids[0])
    return tuple(ids)
