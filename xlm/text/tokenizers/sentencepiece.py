"""SentencePiece models (Kudo and Richardson 2018): unigram or BPE, with byte fallback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor, sentencepiece_pb2

from xlm.errors import DataError, one_line
from xlm.text.tokenizers.tokenizer import Tokenizer, write_tokenizer

MODEL_FILE = "sentencepiece.model"


class SentencePieceTokenizer(Tokenizer):
    """A serialized SentencePiece model with ``</s>``, ``<pad>``, ``<unk>`` and ``<mask>``.

    ``<mask>`` must be a control symbol, as ``learn_sentencepiece`` makes it: a symbol that no text
    is ever segmented into, even if it spells it. Sentences begin with ``</s>`` as in XLM, or with
    ``<s>`` (``begins``) as in XLM-R and BERT; ``num_separators`` and ``begins_again`` as in
    ``Tokenizer``. Raises DataError for bytes that are not such a model.
    """

    def __init__(
        self,
        model: bytes,
        *,
        begins: bool = False,
        num_separators: int = 1,
        begins_again: bool = False,
    ):
        self.model = model
        self._layout = {
            "begins": int(begins),
            "num_separators": num_separators,
            "begins_again": int(begins_again),
        }
        self.num_separators, self.begins_again = num_separators, bool(begins_again)
        self._processor: Any = SentencePieceProcessor()
        try:
            if not model:  # which SentencePiece takes for a model of nothing
                raise RuntimeError("nothing is there")
            self._processor.LoadFromSerializedProto(model)
        except (RuntimeError, TypeError) as error:
            raise DataError(
                f"{len(model):,} bytes that are not a SentencePiece model: {one_line(error)}"
            ) from None
        self.vocab_size = int(self._processor.get_piece_size())
        self.pieces = tuple(str(self._processor.id_to_piece(at)) for at in range(self.vocab_size))
        self.end_id = self._control("</s>")
        self.pad_id = self._control("<pad>")
        self.mask_id = self._control("<mask>")
        self.unk_id = int(self._processor.unk_id())
        self._begin_id = self._control("<s>") if begins else self.end_id
        self.special_ids = frozenset(
            at
            for at in range(self.vocab_size)
            if self._processor.is_control(at) or self._processor.is_unknown(at)
        )
        layout = f" {json.dumps(self.settings, sort_keys=True)}" if self.settings else ""
        self._digest = hashlib.sha256(f"sentencepiece{layout}\n".encode() + model).hexdigest()

    def _control(self, piece: str) -> int:
        at = int(self._processor.piece_to_id(piece))
        if not self._processor.is_control(at):
            raise DataError(
                f"the SentencePiece model has no control symbol {piece}: expected a model "
                "learned by xlm, or one with pad_id and eos_id set and "
                "control_symbols=<mask>"
            )
        return at

    @property
    def digest(self) -> str:
        """SHA-256 of the model's bytes, and of the layout unless it is XLM's."""
        return self._digest

    @property
    def begin_id(self) -> int:
        """Opens every sentence."""
        return self._begin_id

    @property
    def settings(self) -> dict[str, int]:
        """The layout of rows; nothing if it is XLM's."""
        plain = {"begins": 0, "num_separators": 1, "begins_again": 0}
        return {} if self._layout == plain else self._layout

    def encode(self, text: str) -> list[int]:
        """Return the ids of one normalized line, without special tokens."""
        return self.encode_lines([text])[0]

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return ``encode`` of each line in one native call (one thread: workers are processes)."""
        encoded: list[list[int]] = self._processor.encode(list(lines), out_type=int, num_threads=1)
        return encoded

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ``encode(text)`` and the characters of ``text`` that each piece stands for."""
        return encode_spans(self._processor, text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return plain text; special tokens are left out."""
        pieces = [int(at) for at in ids if int(at) not in self.special_ids]
        text: str = self._processor.decode(pieces)
        return text

    def segment(self, text: str) -> list[str]:
        """Return the pieces of one normalized line, to look at."""
        return [self.pieces[at] for at in self.encode(text)]

    def save(self, folder: Path) -> None:
        """Write ``sentencepiece.model`` and ``tokenizer.json``."""
        write_tokenizer(folder, self, "sentencepiece", self.settings, {MODEL_FILE: self.model})

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.settings), (self.model,)  # type: ignore[arg-type]


def encode_spans(processor: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return SentencePiece's own ids of a line, and the characters that each piece stands for.

    Of the bytes of a character without a piece the last stands for it, the others for nothing.
    """
    protobuf: Any = sentencepiece_pb2
    message = protobuf.SentencePieceText()
    message.ParseFromString(processor.encode(text, out_type="serialized_proto"))
    opens = (np.frombuffer(text.encode(), dtype=np.uint8) & 0xC0) != 0x80  # a character, in UTF-8
    characters = [0, *np.cumsum(opens).tolist()]
    ids = [piece.id for piece in message.pieces]
    return ids, [(characters[piece.begin], characters[piece.end]) for piece in message.pieces]
