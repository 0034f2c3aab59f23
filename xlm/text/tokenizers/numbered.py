"""A SentencePiece model whose pieces have the numbers of another list: mBART's, NLLB's, M2M-100's.

<s> <pad> </s> <unk>, then the pieces, tokens of languages, <mask>, in the order of the list
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xlm import strict_json
from xlm.errors import DataError
from xlm.strict_json import JsonError
from xlm.text.tokenizers.published_tokens import published_tokens
from xlm.text.tokenizers.renumbered import RenumberedTokenizer, sentencepiece_processor
from xlm.text.tokenizers.tokenizer import write_tokenizer
from xlm.text.tokenizers.xlm_roberta import MASK, MODEL_FILE, SPECIALS

KIND = "numbered"
PIECES_FILE = "pieces.json"
"""The list of pieces in the order of their ids, in our folder."""


class NumberedTokenizer(RenumberedTokenizer):
    """A serialized SentencePiece model, and every piece in the order of its id.

    Pieces that the model does not have are special: the tokens of languages among them. A piece of
    the model that the list lacks is ``<unk>``. Without ``<mask>`` the unknown token masks. Raises
    DataError for bytes that are not such a model, and for a list without ``<s>``, ``<pad>``,
    ``</s>`` and ``<unk>`` or with a piece twice.
    """

    num_segments = 1
    """Token types that it gives."""

    def __init__(self, model: bytes, pieces: Sequence[str]):
        self.model, self.pieces = model, tuple(pieces)
        self._processor = sentencepiece_processor(model)
        ids = {piece: at for at, piece in enumerate(self.pieces)}
        if len(ids) != len(self.pieces):
            raise DataError(f"{len(self.pieces) - len(ids)} of the pieces appear twice")
        if missing := [piece for piece in SPECIALS if piece not in ids]:
            raise DataError(f"the list of pieces lacks {', '.join(missing)}")
        self.vocab_size = len(self.pieces)
        self._begin_id, self.pad_id, self.end_id, self.unk_id = (ids[name] for name in SPECIALS)
        self.mask_id = ids.get(MASK, self.unk_id)
        number = range(len(self._processor))
        known = [str(self._processor.id_to_piece(at)) for at in number]
        plain = [at for at in number if not self._processor.is_control(at)]
        self._ids = [ids.get(piece, self.unk_id) for piece in known]
        self._back = {self._ids[at]: at for at in plain if self._ids[at] != self.unk_id}
        self.special_ids = frozenset(set(range(self.vocab_size)) - set(self._back))
        specials = ((self.pieces[at], at) for at in self.special_ids)
        self.language_tokens = MappingProxyType(published_tokens(specials))
        listed = json.dumps(self.pieces, ensure_ascii=False).encode()
        self._listed = listed
        self._digest = hashlib.sha256(f"{KIND}\n{len(model)}\n".encode() + model + listed)

    @property
    def begin_id(self) -> int:
        """The symbol ``<s>``."""
        return self._begin_id

    @property
    def digest(self) -> str:
        """SHA-256 of the model and the list."""
        return self._digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write ``sentencepiece.bpe.model``, ``pieces.json`` and ``tokenizer.json``."""
        files = {MODEL_FILE: self.model, PIECES_FILE: self._listed}
        write_tokenizer(folder, self, KIND, {}, files)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self.pieces)


def read_pieces(content: bytes, name: str) -> list[str]:
    """Return the pieces of a JSON list, or of an object of ids by piece; DataError for another."""
    try:
        found = strict_json.parse(content)
    except JsonError as error:
        raise DataError(f"{name}{error.suffix}: {error}") from None
    if isinstance(found, dict):
        if sorted(found.values(), key=str) != sorted(range(len(found)), key=str):
            raise DataError(f"{name}: the ids are not 0 to {len(found) - 1}, each once")
        found = sorted(found, key=found.__getitem__)
    if not isinstance(found, list) or not all(isinstance(piece, str) for piece in found):
        raise DataError(f"{name}: expected a list of pieces, or an object of ids by piece")
    return found
