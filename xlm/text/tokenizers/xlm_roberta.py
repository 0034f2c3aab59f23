"""XLM-R's tokenizer: a unigram SentencePiece model under fairseq's numbers.

    <s> 0, <pad> 1, </s> 2, <unk> 3, then the pieces (SentencePiece's id + 1, or in the order of
    fairseq's dict.txt), <mask> last

The file is called ``sentencepiece.bpe.model`` wherever it is published; it is a unigram model.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from xlm.errors import ConfigError, DataError
from xlm.text.tokenizers.hugging_face import check_unused
from xlm.text.tokenizers.hugging_face_files import (
    CONFIG_FILE,
    NOT_NORMALIZED,
    SOURCE_FILE,
    SPELLED,
    config_json,
    keeps_normal_form,
    to_json,
)
from xlm.text.tokenizers.renumbered import RenumberedTokenizer, sentencepiece_processor
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.tokenizer import write_tokenizer

MODEL_FILE, DICTIONARY_FILE = "sentencepiece.bpe.model", "dict.txt"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
OPENING = ("<unk>", "<s>", "</s>")
"""SentencePiece's own first pieces in XLM-R."""
UNIGRAM = 1
"""``trainer_spec.model_type`` of SentencePiece's format."""
BYTE = 6
"""The kind of a piece that stands for a byte, in SentencePiece's format."""
NEVER = -1e6
"""The score, in nats, of pieces that the tokenizers library must not segment text into."""


class XlmRobertaTokenizer(RenumberedTokenizer):
    """A serialized SentencePiece model, and fairseq's ``dict.txt`` if its order is not the same.

    ``vocab_size`` may exceed theirs: the rest are rows of a model that no text has. A piece
    that dict.txt lacks is ``<unk>``. Raises DataError for bytes that are not such files, a model
    whose first pieces are not XLM-R's if there is no dict.txt, and a dict.txt with duplicates.
    """

    num_separators = 2
    num_segments = 1
    """Token types that it gives."""

    def __init__(self, model: bytes, dictionary: bytes | None = None, *, vocab_size: int = 0):
        self.model, self.dictionary = model, dictionary
        self._processor = sentencepiece_processor(model)
        known = [str(self._processor.id_to_piece(at)) for at in range(len(self._processor))]
        if dictionary is not None:
            entries = _read_dictionary(dictionary)
        elif tuple(known[:3]) == OPENING:
            entries = known[3:]
        else:
            raise DataError(
                f"{MODEL_FILE}: begins with {' '.join(known[:3])}, expected "
                f"{' '.join(OPENING)} (XLM-R's order): put fairseq's {DICTIONARY_FILE} "
                "beside it"
            )
        pieces = [*SPECIALS, *entries, MASK]
        if 0 < vocab_size < len(pieces):
            raise DataError(
                f"a tokenizer of {len(pieces)} ids does not fit a vocabulary of {vocab_size} ids"
            )
        size = len(pieces)
        self.vocab_size = max(vocab_size, size)
        check_unused(self.vocab_size, size)
        self.pieces = (*pieces, *(f"<unused{at}>" for at in range(size, self.vocab_size)))
        self.pad_id, self.end_id, self.unk_id, self.mask_id = 1, 2, 3, size - 1
        self.special_ids = frozenset([0, 1, 2, 3, *range(size - 1, self.vocab_size)])
        ids = {piece: at for at, piece in enumerate(entries, len(SPECIALS))}
        self._ids = [ids.get(piece, self.unk_id) for piece in known]
        self._back = {at: source for source, at in enumerate(self._ids) if at != self.unk_id}
        self.settings = {"vocab_size": self.vocab_size}
        self._digest = hashlib.sha256(
            f"xlm-roberta\n{self.vocab_size}\n{len(model)}\n".encode() + model + (dictionary or b"")
        ).hexdigest()

    @property
    def begin_id(self) -> int:
        """Opens every sentence: ``<s>``."""
        return 0

    @property
    def digest(self) -> str:
        """SHA-256 of the model, the dictionary and the size."""
        return self._digest

    def save(self, folder: Path) -> None:
        """Write ``sentencepiece.bpe.model``, ``dict.txt`` if given, and ``tokenizer.json``."""
        files = {MODEL_FILE: self.model}
        if self.dictionary is not None:
            files[DICTIONARY_FILE] = self.dictionary
        write_tokenizer(folder, self, "xlm-roberta", self.settings, files)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.model, self.dictionary, self.vocab_size)


def _rebuild(model: bytes, dictionary: bytes | None, vocab_size: int) -> XlmRobertaTokenizer:
    return XlmRobertaTokenizer(model, dictionary, vocab_size=vocab_size)


def read_xlm_roberta(folder: Path | str, *, vocab_size: int = 0) -> XlmRobertaTokenizer:
    """Read ``sentencepiece.bpe.model`` in ``folder``, and ``dict.txt`` if it exists.

    Raises DataError, with the path, if the model is missing or does not fit.
    """
    folder = Path(folder)
    at = folder / DICTIONARY_FILE
    try:
        model = (folder / MODEL_FILE).read_bytes()
        dictionary = at.read_bytes() if at.exists() else None
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    try:
        return XlmRobertaTokenizer(model, dictionary, vocab_size=vocab_size)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None


def from_sentencepiece(tokenizer: SentencePieceTokenizer) -> tuple[XlmRobertaTokenizer, list[int]]:
    """Return our unigram model as XLM-R's, and for each of its ids the id it has in ours.

    The segmentation stays as it is, byte fallback included; ``<s>`` and ``</s>`` both are our end
    symbol, with which our sentences open too. Raises ConfigError for a BPE model: as an
    XLMRobertaTokenizer, which scores pieces as a unigram model, it would segment
    otherwise without an error.
    """
    proto = _unigram(tokenizer.model)
    skipped = {"<s>", "</s>", "<pad>", "<unk>", MASK}
    kept = [at for at, piece in enumerate(tokenizer.pieces) if piece not in skipped]
    unknown, begin, end = (proto.pieces[tokenizer.pieces.index(name)] for name in OPENING)
    order = [unknown, begin, end, *(proto.pieces[at] for at in kept)]
    renumbered = _with_pieces(proto, order)
    old = [tokenizer.end_id, tokenizer.pad_id, tokenizer.end_id, tokenizer.unk_id]
    return XlmRobertaTokenizer(renumbered), [*old, *kept, tokenizer.mask_id]


def in_own_order(tokenizer: XlmRobertaTokenizer) -> XlmRobertaTokenizer:
    """Return the same ids without a dict.txt: the model's pieces are put in its order.

    Raises ConfigError if the two do not list the same pieces.
    """
    if tokenizer.dictionary is None:
        return tokenizer
    proto = _proto(tokenizer.model)
    by_name = {piece.piece: piece for piece in proto.pieces}
    entries = tokenizer.pieces[len(SPECIALS) : tokenizer.mask_id]
    if set(entries) != set(by_name) - set(OPENING):
        raise ConfigError(
            f"{DICTIONARY_FILE} has {len(entries)} pieces, but the SentencePiece model has "
            f"{len(by_name) - len(OPENING)} besides {' '.join(OPENING)}: expected the same, "
            f"since transformers does not read {DICTIONARY_FILE}"
        )
    order = [by_name[name] for name in (*OPENING, *entries)]
    return XlmRobertaTokenizer(_with_pieces(proto, order), vocab_size=tokenizer.vocab_size)


def tokenizer_json(tokenizer: XlmRobertaTokenizer) -> bytes:
    """Return a tokenizer.json of the ``tokenizers`` library that segments as ``tokenizer`` does.

    Bytes that stand for characters without a piece, and special tokens, get a score that keeps them
    out of text that spells them. Raises ConfigError for a BPE model.
    """
    proto = _unigram(in_own_order(tokenizer).model)
    scores = [
        (piece.piece, NEVER if piece.type == BYTE else piece.score)
        for piece in proto.pieces[len(OPENING) :]
    ]
    specials = [(name, NEVER) for name in SPECIALS]
    fallback = _has_bytes(proto)
    backend = Backend(models.Unigram([*specials, *scores, (MASK, NEVER)], 3, fallback))
    if charsmap := proto.normalizer_spec.precompiled_charsmap:
        backend.normalizer = normalizers.Precompiled(charsmap)
    spaces = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
    metaspace = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bytes_too = decoders.Sequence([decoders.ByteFallback(), metaspace])
    backend.decoder = bytes_too if fallback else metaspace
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return to_json(backend, [*SPECIALS, MASK])


def transformers_files(
    tokenizer: XlmRobertaTokenizer, num_positions: int
) -> tuple[dict[str, bytes], list[str]]:
    """Return the files by which AutoTokenizer finds ``tokenizer``, and how it differs from ours.

    Raises ConfigError for a dict.txt that is not the model's own pieces, and for a BPE model.
    """
    tokenizer = in_own_order(tokenizer)
    fallback = _has_bytes(_proto(tokenizer.model))
    # rebuilt by XLMRobertaTokenizer, a tokenizer.json would lose its byte fallback
    name = "PreTrainedTokenizerFast" if fallback else "XLMRobertaTokenizer"
    files = {
        MODEL_FILE: tokenizer.model,
        SOURCE_FILE: tokenizer_json(tokenizer),
        CONFIG_FILE: config_json(tokenizer, name, num_positions),
    }
    kept = keeps_normal_form(Backend.from_str(files[SOURCE_FILE].decode()))
    lines = [SPELLED] if kept else [SPELLED, NOT_NORMALIZED]
    if fallback:
        lines.append(
            "byte fallback in XLMRobertaTokenizer, which makes characters without a piece <unk>; "
            "AutoTokenizer has it, except in text that spells the name of a byte (<0x41>)"
        )
    return files, lines


def _has_bytes(proto: Any) -> bool:
    return any(piece.type == BYTE for piece in proto.pieces)


def _read_dictionary(dictionary: bytes) -> list[str]:
    """Read the pieces of fairseq's dict.txt, lines ``piece count``; errors name file and line."""
    entries: dict[str, None] = {}
    lines = io.TextIOWrapper(io.BytesIO(dictionary), encoding="utf-8", newline="\n")
    try:
        for number, line in enumerate(lines, 1):
            # fairseq's mark behind an entry that is meant to occur twice
            fields = line.rstrip("\r\n").removesuffix(" #fairseq:overwrite").rsplit(" ", 1)
            if len(fields) != 2 or not fields[1].isdecimal():
                raise DataError(
                    f"{DICTIONARY_FILE}:{number}: found {line.rstrip()[:80]!r}, expected 'piece "
                    f"count'"
                )
            if fields[0] in entries or fields[0] in (*SPECIALS, MASK):
                raise DataError(
                    f"{DICTIONARY_FILE}:{number}: {fields[0]!r} appears a second time: "
                    "expected it once"
                )
            entries[fields[0]] = None
    except UnicodeDecodeError as error:
        raise DataError(f"{DICTIONARY_FILE}: is not UTF-8 ({error})") from None
    return list(entries)


def _proto(model: bytes) -> Any:
    """Parse a SentencePiece model; its pieces have a name, a score in nats and a kind."""
    message: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    message.ParseFromString(model)
    return message


def _unigram(model: bytes) -> Any:
    proto = _proto(model)
    if proto.trainer_spec.model_type != UNIGRAM:
        raise ConfigError(
            "a SentencePiece BPE model cannot become an XLMRobertaTokenizer, which would "
            "silently segment text differently: train with a unigram vocabulary (kind: "
            "unigram), or export to XLM's own format"
        )
    return proto


def _with_pieces(proto: Any, pieces: Sequence[Any]) -> bytes:
    """Return the model with ``pieces`` as its own; the ids that its settings name move along."""
    changed = type(proto)()
    changed.CopyFrom(proto)
    del changed.pieces[:]
    changed.pieces.extend(pieces)
    settings = changed.trainer_spec
    settings.unk_id, settings.bos_id, settings.eos_id, settings.pad_id = 0, 1, 2, -1
    settings.vocab_size = len(pieces)
    if MASK in settings.control_symbols:
        settings.control_symbols.remove(MASK)
    content: bytes = changed.SerializeToString(deterministic=True)
    return content
