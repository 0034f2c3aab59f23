"""Text through a SentencePiece model whose pieces have other ids in the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentencepiece import SentencePieceProcessor

from xlm.errors import DataError, one_line
from xlm.text.tokenizers.sentencepiece import encode_spans
from xlm.text.tokenizers.tokenizer import Tokenizer


def sentencepiece_processor(model: bytes) -> Any:
    """Return SentencePiece's own reader of a serialized model; raise DataError if it is none."""
    processor: Any = SentencePieceProcessor()
    try:
        if not model:
            raise RuntimeError("nothing is there")
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"{len(model):,} bytes that are not a SentencePiece model: {one_line(error)}"
        ) from None
    return processor


class RenumberedTokenizer(Tokenizer):
    """The base of tokenizers with a SentencePiece model and ids of their own."""

    _processor: Any
    _ids: list[int]
    """The id of each of the model's pieces."""
    _back: dict[int, int]
    """The model's piece of each id that stands for text."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of one normalized line, without special tokens (but the unknown one)."""
        return self.encode_lines([text])[0]

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return ``encode`` of each line in one native call (one thread: workers are processes)."""
        encoded = self._processor.encode(list(lines), out_type=int, num_threads=1)
        return [[self._ids[at] for at in row] for row in encoded]

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ``encode(text)`` and the characters of ``text`` that each piece stands for."""
        ids, spans = encode_spans(self._processor, text)
        return [self._ids[at] for at in ids], spans

    def decode(self, ids: Sequence[int]) -> str:
        """Return plain text; special tokens are left out."""
        kept = [self._back[int(at)] for at in ids if int(at) in self._back]
        text: str = self._processor.decode(kept)
        return text
