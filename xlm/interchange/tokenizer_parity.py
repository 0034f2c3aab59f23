"""Count the lines of the sample that our tokenizer and a peer of transformers encode alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlm import sample
from xlm.text.normalize import normalize
from xlm.text.tokenizers.hugging_face_files import UNNORMALIZED
from xlm.text.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Lines:
    """Number of lines of the sample corpus that two tokenizers turn into the same ids."""

    what: str
    """Name of the peer and the way it was called."""
    lines: int
    identical: int
    first: str = ""
    """First line that differs, with the ids that differ."""

    def describe(self) -> str:
        """Return one line for a person to read."""
        differs = f"; the first that differs: {self.first}" if self.first else ""
        return f"{self.what}: {self.identical:,} of {self.lines:,} lines identical{differs}"


def compare_tokenizers(
    tokenizer: Tokenizer, peer: Any, ids: Tensor, classes: Tensor
) -> tuple[Lines, ...]:
    """Compare whole rows, with special tokens, for every line of the sample corpus (en, hi, ne).

    ``ids`` (int64 ``[V]``) maps our ids to the peer's; ``classes`` (int64) maps each id of the peer
    to the lowest id with the same vector, because an export may write a vector twice. XLMTokenizer
    is called a second time with ``bypass_tokenizer`` (which its ``tokenize`` does not pass on): by
    default it tokenizes by Moses' rules first, but the original and this library take text as it
    is.
    """
    lines = [normalize(line) for line in _sample_lines()]
    mapped, least = ids.tolist(), classes.tolist()
    ours = [
        [least[mapped[at]] for at in tokenizer.wrap(row).tokens.tolist()]
        for row in map(_array, tokenizer.encode_lines(lines))
    ]
    name = type(peer).__name__

    def compared(what: str, rows: Iterable[Sequence[int]]) -> Lines:
        theirs = [[least[at] for at in row] for row in rows]
        return compare_ids(f"{name} {what}", lines, ours, theirs)

    result = [compared("as it is", peer(lines)["input_ids"])]
    if name == "XLMTokenizer":
        bypassed = (
            peer.convert_tokens_to_ids(peer._tokenize(line, bypass_tokenizer=True))
            for line in lines
        )
        rows = map(peer.build_inputs_with_special_tokens, bypassed)
        result.append(compared("with bypass_tokenizer", rows))
    return tuple(result)


def compare_raw(tokenizer: Tokenizer, peer: Any, ids: Tensor, classes: Tensor) -> Lines:
    """Compare the lines of ``UNNORMALIZED``; only xlm normalizes them, the peer does not.

    The lines hold Indic letters with nukta, decomposed Vietnamese and no-break spaces; see
    ``compare_tokenizers``.
    """
    mapped, least = ids.tolist(), classes.tolist()
    rows = tokenizer.encode_lines(list(map(normalize, UNNORMALIZED)))
    ours = [
        [least[mapped[at]] for at in tokenizer.wrap(row).tokens.tolist()]
        for row in map(_array, rows)
    ]
    theirs = [[least[at] for at in row] for row in peer(list(UNNORMALIZED))["input_ids"]]
    what = f"{type(peer).__name__} on text that xlm normalizes"
    return compare_ids(what, UNNORMALIZED, ours, theirs)


def _array(ids: Sequence[int]) -> Any:
    return torch.tensor(ids, dtype=torch.int64).numpy()


def compare_ids(
    what: str, lines: Sequence[str], ours: Sequence[list[int]], theirs: Sequence[Sequence[int]]
) -> Lines:
    """Return how many of the lines have the same ids in both."""
    pairs = list(zip(ours, map(list, theirs), strict=True))
    differing = [at for at, (one, other) in enumerate(pairs) if one != other]
    first = ""
    if differing:
        one, other = pairs[differing[0]]
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
        first = (
            f"{lines[differing[0]][:60]!r} has {one[at : at + 3]} here and {other[at : at + 3]} "
            f"there from token {at} on"
        )
    return Lines(what, len(lines), len(lines) - len(differing), first)


def _sample_lines() -> Iterator[str]:
    for language in sample.LANGUAGES:
        for split in sample.SPLITS:
            text = sample.path(f"{split}.{language}.txt").read_text(encoding="utf-8")
            yield from text.splitlines()
