"""One interface over every subword tokenizer, and the layouts of special tokens.

    text --normalize--> str --encode--> ids (no specials) --wrap--> tokens, positions, segments

Special tokens never come out of ``encode``: text that happens to spell one is segmented like any
other text. They are added by ``wrap`` alone, so that no objective names a special id.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.storage import make_folder, write_json, write_whole
from xlm.text.rules import ANY, RulesByLanguage, as_json, normalize_by, rules_of

Ids = NDArray[np.int64]

SETTINGS_FILE = "tokenizer.json"
FORMAT = 1

LAYOUTS = {
    # layout: whether it takes one sentence, whether it takes a pair
    "xlm": (True, False),
    "tlm": (False, True),
    "tlm-run-on": (False, True),
    "merged": (True, True),
}


class Wrapped(NamedTuple):
    """One row with its special tokens; three int64 arrays of equal length."""

    tokens: Ids
    positions: Ids
    segments: Ids


class Frame(NamedTuple):
    """The special tokens around and between the sentences of a row."""

    before: list[int]
    between: list[int]
    """Ids behind the first sentence, before the second; none if there is no second."""
    after: list[int]
    opens: int
    """Place of the second segment's first token, from the first sentence's end."""
    restarts: bool
    """True if positions start again at 0 there."""


class Tokenizer(ABC):
    """A two-way map of text and ids, and the special tokens around it (by default XLM's)."""

    vocab_size: int
    pieces: Sequence[str]
    """The string of every id; how it marks the borders of words is the tokenizer's own."""
    end_id: int
    """Closes every sentence (``</s>``)."""
    pad_id: int
    unk_id: int
    mask_id: int
    special_ids: frozenset[int]
    """Every id that is not a piece of text; never a target chosen by frequency."""
    counts: Sequence[int] | None = None
    """Frequency of each id in the text that the vocabulary was made from; None if unknown."""
    rules: RulesByLanguage = MappingProxyType({})
    """Rules that normalized the text of each language before it was encoded; kept with the
    tokenizer, not part of its digest."""
    language_tokens: Mapping[str, int] = MappingProxyType({})
    """The id of each language's token by the language's name; empty if there are none. Layouts of
    translation place them (``xlm.text.tokenizers.layouts``)."""
    num_separators: int = 1
    """End symbols between the sentences of a merged pair."""
    begins_again: bool = False
    """True if the second sentence of a merged pair opens with the begin symbol as well."""

    @property
    def begin_id(self) -> int:
        """Opens every sentence; in XLM the end symbol does (docs/fidelity.md, A11)."""
        return self.end_id

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides the ids: tokenizers that agree on it are the same."""

    def normalize(self, text: str, language: str | None = None) -> str:
        """Return any text as the model's text was normalized; ``encode`` takes what this returns.

        Raises ConfigError if that depends on a language and none is given.
        """
        return normalize_by(self.rules, text, language)

    def in_language(self, language: str | None) -> Tokenizer:
        """Return this tokenizer with the rules of one language for all text; see ``normalize``."""
        if not self.rules:
            return self
        same = object.__new__(type(self))  # a copy would load the model again
        same.__dict__.update(self.__dict__)
        same.rules = {ANY: rules_of(self.rules, language)}
        return same

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of one normalized line, without special tokens."""

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return ``encode`` of each line; a subclass may do many at once."""
        return [self.encode(line) for line in lines]

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ``encode(text)`` and the characters of ``text`` that each piece stands for.

        A span ``(first, end)`` may hold the space before a word, or nothing if several pieces share
        a character. Here words are encoded one by one and their pieces laid along them by the
        lengths of what they decode to; a subclass that knows the place of its pieces overrides
        this.
        """
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for word in re.finditer("[^ ]+", text):
            own, at = self.encode(word.group()), word.start()
            for number in range(1, len(own) + 1):
                end = word.end()
                if number < len(own):
                    grown = len(self.decode(own[:number]).replace(" ", ""))
                    end = min(max(word.start() + grown, at), end)
                spans.append((at, end))
                at = end
            ids += own
        return ids, spans

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return plain text; special tokens are left out."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer's files and ``tokenizer.json`` (its kind, settings and digest)."""

    def wrap(self, first: Ids, second: Ids | None = None, layout: str = "xlm") -> Wrapped:
        """Add the special tokens of a sentence or pair; ``<`` is the begin, ``>`` the end symbol.

        - ``xlm``: ``< a >``
        - ``tlm``: ``< a > < b >``, positions restart at 0 with ``b`` (XLM section 3.4)
        - ``tlm-run-on``: the same, positions run on
        - ``merged``: the pair as the model's own tasks lay it out, positions run on; of one
          sentence ``< a >``

        In XLM both symbols are ``</s>``, and a merged pair is ``</s> a </s> b </s>``
        (docs/fidelity.md, A11, B3); in XLM-R ``<s> a </s></s> b </s>``, in BERT ``[CLS] a [SEP] b
        [SEP]``, in Gemma's tokenizers ``<bos> a <eos> <bos> b <eos>``. Segment 1 opens with the
        shared end symbol in XLM, as its language does, and after the end symbols elsewhere. Raises
        ConfigError for an unknown layout, or one for another number of sentences.
        """
        frame = self.frame(layout, pair=second is not None)
        last = [] if second is None else [second]
        parts: list[Any] = [frame.before, first, frame.between, *last, frame.after]
        tokens: Ids = np.concatenate(parts, dtype=np.int64, casting="unsafe")
        positions = np.arange(len(tokens))
        opens = len(frame.before) + len(first) + frame.opens
        segments = (positions >= opens).astype(np.int64)
        if frame.restarts:
            positions[opens:] -= opens
        return Wrapped(tokens, positions, segments)

    def frame(self, layout: str, *, pair: bool) -> Frame:
        """Return the special tokens that ``wrap`` adds; raise ConfigError as it does."""
        check_layout(layout, pair=pair)
        begin, end = [self.begin_id], [self.end_id]
        if not pair:
            return Frame(begin, [], end, opens=1, restarts=layout == "tlm")
        if layout != "merged":
            return Frame(begin, end + begin, end, opens=1, restarts=layout == "tlm")
        separators = end * self.num_separators
        opens = 0 if begin == end else len(separators)
        between = separators + (begin if self.begins_again else [])
        return Frame(begin, between, end, opens=opens, restarts=False)

    def num_specials(self, layout: str, *, pair: bool) -> int:
        """Return the number of special tokens of ``wrap``; raise ConfigError if it does not fit."""
        check_layout(layout, pair=pair)
        if not pair:
            return 2
        return 2 + self.num_separators + self.begins_again if layout == "merged" else 4


def check_layout(layout: str, *, pair: bool) -> None:
    """Raise ConfigError for an unknown layout, or one that takes another number of sentences."""
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    if not LAYOUTS[layout][1 if pair else 0]:
        found = "a pair" if pair else "one sentence"
        raise ConfigError(f"layout {layout!r} does not take {found}")


def write_tokenizer(
    folder: Path,
    tokenizer: Tokenizer,
    kind: str,
    settings: Mapping[str, int],
    files: Mapping[str, bytes],
) -> None:
    """Write ``files`` and, last, ``tokenizer.json``, which names everything needed to load them."""
    folder = Path(folder)
    make_folder(folder)
    for name, content in files.items():
        write_whole(folder / name, content)
    description: dict[str, Any] = {
        "format": FORMAT,
        "kind": kind,
        "settings": dict(settings),
        "digest": tokenizer.digest,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    if rules := as_json(tokenizer.rules):
        description["normalization"] = rules
    write_json(folder / SETTINGS_FILE, description, indent=2)
