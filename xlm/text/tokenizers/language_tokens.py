"""A tokenizer with one more special token for each language, such as ``<2hi>`` for Hindi."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xlm.errors import ConfigError
from xlm.languages import is_language_name
from xlm.storage import read_json, write_json
from xlm.text.rules import as_json
from xlm.text.tokenizers.tokenizer import SETTINGS_FILE, Tokenizer

KIND = "language-tokens"


class LanguageTokens(Tokenizer):
    """``base``, any tokenizer, and behind its last id one special token for each language.

    The new ids follow the names in alphabetical order; the piece of ``hi`` is ``<2hi>`` (Johnson et
    al. 2017). ``encode`` never yields one, also of text that spells it, and ``decode`` leaves it
    out. Tokens that ``base`` has already stay, and are ``language_tokens`` too. Raises ConfigError
    for no language, for an invalid name, and for one that has a token already.
    """

    def __init__(self, base: Tokenizer, languages: Iterable[str]):
        names = sorted(set(languages))
        if not names:
            raise ConfigError(
                "language tokens were asked for, but for no language: name at least one, such "
                "as [en]"
            )
        for name in names:
            if not is_language_name(name):
                raise ConfigError(
                    f"language tokens: {name!r} is not the name of a language, such as en"
                )
            if name in base.language_tokens:
                raise ConfigError(
                    f"language tokens: the tokenizer already has one for {name}: leave it out"
                )
        self.base = base
        own = {name: base.vocab_size + at for at, name in enumerate(names)}
        self._own = own
        self.language_tokens = MappingProxyType({**base.language_tokens, **own})
        self.vocab_size = base.vocab_size + len(own)
        self.pieces = (*base.pieces, *map(token_piece, names))
        self.end_id, self.pad_id = base.end_id, base.pad_id
        self.unk_id, self.mask_id = base.unk_id, base.mask_id
        self.special_ids = base.special_ids | frozenset(own.values())
        self.counts = None if base.counts is None else [*base.counts, *(0 for _ in own)]
        self.rules = base.rules
        self.num_separators, self.begins_again = base.num_separators, base.begins_again
        content = json.dumps([KIND, base.digest, names])
        self._digest = hashlib.sha256(content.encode()).hexdigest()

    @property
    def begin_id(self) -> int:
        """The begin symbol of the base."""
        return self.base.begin_id

    @property
    def digest(self) -> str:
        """SHA-256 of the base's digest and the names of the languages."""
        return self._digest

    def encode(self, text: str) -> list[int]:
        """Return the ids of one normalized line: those of the base."""
        return self.base.encode(text)

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return ``encode`` of each line."""
        return self.base.encode_lines(lines)

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ``encode(text)`` and the characters of ``text`` that each piece stands for."""
        return self.base.encode_spans(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return plain text; special tokens, those of languages among them, are left out."""
        return self.base.decode([at for at in ids if int(at) < self.base.vocab_size])

    def save(self, folder: Path) -> None:
        """Write the base's files, and ``tokenizer.json`` with its description inside of ours."""
        folder = Path(folder)
        self.base.save(folder)
        at = folder / SETTINGS_FILE
        base = read_json(at)
        base.pop("normalization", None)  # ours holds the rules, which may have been set later
        described = {
            "format": base["format"],
            "kind": KIND,
            "settings": {"languages": list(self._own), "base": base},
            "digest": self.digest,
            "files": base["files"],
        }
        if rules := as_json(self.rules):
            described["normalization"] = rules
        write_json(at, described, indent=2)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.base, list(self._own))


def token_piece(language: str) -> str:
    """Return the piece of a language's token, such as ``<2hi>``."""
    return f"<2{language}>"


def with_language_tokens(tokenizer: Tokenizer, languages: Iterable[str]) -> Tokenizer:
    """Return ``tokenizer`` with a token for each of ``languages``; itself if it has them all."""
    having: Mapping[str, int] = tokenizer.language_tokens
    missing = sorted(set(languages) - set(having))
    return LanguageTokens(tokenizer, missing) if missing else tokenizer
