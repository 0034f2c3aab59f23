"""One interface over every subword tokenizer, and the layouts of special tokens.

    text --normalize--> str --encode--> ids (no specials) --wrap--> tokens, positions, segments

Special tokens never come out of ``encode``: text that happens to spell one is segmented like any
other text. They are added by ``wrap`` alone, so that no objective names a special id.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError, DataError

Ids = NDArray[np.int64]

SETTINGS_FILE = "tokenizer.json"
FORMAT = 1

NUM_SPECIALS = {
    # layout: special tokens around one sentence, around a pair (None: it does not take one)
    "xlm": (2, None),
    "tlm": (None, 4),
    "tlm-run-on": (None, 4),
    "merged": (2, 3),
}


class Wrapped(NamedTuple):
    """One row with its special tokens; three int64 arrays of equal length."""

    tokens: Ids
    positions: Ids
    segments: Ids


class Tokenizer(ABC):
    """Text to ids and back, with XLM's special tokens (algorithms A11: EOS opens and closes)."""

    vocab_size: int
    end_id: int
    """Opens and closes every sentence (``</s>``)."""
    pad_id: int
    unk_id: int
    mask_id: int
    special_ids: frozenset[int]
    """Every id that is no piece of text; never a target chosen by frequency."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides the ids: tokenizers that agree on it are the same."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of one normalized line, without special tokens."""

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """``encode`` of each line; a subclass may do many at once."""
        return [self.encode(line) for line in lines]

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Plain text; special tokens are left out."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer's files and ``tokenizer.json`` (its kind, settings and digest)."""

    def wrap(self, first: Ids, second: Ids | None = None, layout: str = "xlm") -> Wrapped:
        """The special tokens of one sentence or pair.

        - ``xlm``: ``</s> a </s>`` (algorithms A11)
        - ``tlm``: ``</s> a </s> </s> b </s>``, positions restart at 0 with ``b`` (XLM section 3.4)
        - ``tlm-run-on``: the same, positions run on
        - ``merged``: ``</s> a </s> b </s>``, positions run on (XLM's XNLI layout, B3); of one
          sentence ``</s> a </s>``

        Raises ConfigError for an unknown layout, or one that takes another number of sentences.
        """
        num_specials(layout, pair=second is not None)
        end = np.array([self.end_id], dtype=np.int64)
        left = np.concatenate([end, first, end])
        if second is None:
            return Wrapped(left, np.arange(len(left)), np.zeros(len(left), dtype=np.int64))
        right = np.concatenate([second, end] if layout == "merged" else [end, second, end])
        positions = np.arange(len(left) + len(right))
        if layout == "tlm":
            positions[len(left) :] -= len(left)
        segments = (np.arange(len(left) + len(right)) >= len(left)).astype(np.int64)
        return Wrapped(np.concatenate([left, right]), positions, segments)


def num_specials(layout: str, *, pair: bool) -> int:
    """How many special tokens ``wrap`` adds; raises ConfigError where the layout does not fit."""
    if layout not in NUM_SPECIALS:
        raise ConfigError(f"unknown layout {layout!r}: expected one of {', '.join(NUM_SPECIALS)}")
    number = NUM_SPECIALS[layout][1 if pair else 0]
    if number is None:
        found = "a pair" if pair else "one sentence"
        raise ConfigError(f"layout {layout!r} does not take {found}")
    return number


def write_tokenizer(
    folder: Path,
    tokenizer: Tokenizer,
    kind: str,
    settings: Mapping[str, int],
    files: Mapping[str, bytes],
) -> None:
    """Write ``files`` and, last, ``tokenizer.json``, which says what is needed to load them."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        description = {
            "format": FORMAT,
            "kind": kind,
            "settings": dict(settings),
            "digest": tokenizer.digest,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        (folder / SETTINGS_FILE).write_text(json.dumps(description, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise DataError(f"{folder}: the tokenizer cannot be written ({error.strerror})") from error
