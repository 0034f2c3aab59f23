"""The pieces of several vocabularies under one numbering, so that languages can be compared.

A piece is its string: what two vocabularies spell alike is one piece, and symbols are those of the
first vocabulary. Vocabularies of a model with tables (``xlm.model.language_tables``) are joined so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError
from xlm.model.language_tables import ROLES
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Tokenizer


def pieces_of(model: PretrainedModel) -> Tokenizer:
    """Return the model's tokenizer; if it has several, one of all their pieces."""
    if not model.tables:
        return model.tokenizer
    return JoinedPieces(
        model.tokenizer, {name: own.tokenizer for name, own in model.tables.items()}
    )


class JoinedPieces(Tokenizer):
    """``in_language`` encodes by the vocabulary of a language, into the numbers of all."""

    def __init__(self, first: Tokenizer, others: Mapping[str, Tokenizer]):
        self.first, self.others = first, dict(others)
        self.base, self.places = first, np.arange(first.vocab_size)
        number = {piece: at for at, piece in enumerate(first.pieces)}
        self.maps = {name: _places(other, first, number) for name, other in others.items()}
        self.pieces = list(number)
        self.vocab_size = len(number)
        self.end_id, self.pad_id = first.end_id, first.pad_id
        self.unk_id, self.mask_id = first.unk_id, first.mask_id
        self.special_ids = first.special_ids

    @property
    def digest(self) -> str:
        """The digests of all."""
        return " ".join([self.first.digest, *(other.digest for other in self.others.values())])

    def normalize(self, text: str, language: str | None = None) -> str:
        """Normalize as the vocabulary in use does."""
        return self.base.normalize(text, language)

    def in_language(self, language: str | None) -> Tokenizer:
        """Return the same, which encodes by the vocabulary of ``language``."""
        same = object.__new__(type(self))
        same.__dict__.update(self.__dict__)
        same.base = self.others.get(language or "", self.first).in_language(language)
        same.places = self.maps.get(language or "", self.places)
        return same

    def encode(self, text: str) -> list[int]:
        """Return the joined numbers of one line's pieces."""
        return [int(self.places[at]) for at in self.base.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the pieces themselves, one after another."""
        return "".join(self.pieces[at] for at in ids)

    def save(self, folder: Path) -> None:
        """Raise ConfigError: it is made of tokenizers that are saved each on its own."""
        raise ConfigError("pieces of several vocabularies are not saved: save each vocabulary")


def _places(other: Tokenizer, first: Tokenizer, number: dict[str, int]) -> NDArray[np.int64]:
    """Return the joined number of each id of ``other``, and enter its new pieces in ``number``."""
    symbols = {getattr(other, role): getattr(first, role) for role in ROLES}
    places = np.zeros(other.vocab_size, dtype=np.int64)
    for at, piece in enumerate(other.pieces):
        places[at] = symbols[at] if at in symbols else number.setdefault(piece, len(number))
    return places
