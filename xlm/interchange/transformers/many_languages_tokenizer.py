"""Tokenizers of mBART, mBART-50, M2M-100 and NLLB: their files, both ways.

tokenizer.json                                     as it stands
sentencepiece.bpe.model              (mBART, NLLB) pieces in fairseq's order, languages, mask
sentencepiece.bpe.model, vocab.json  (M2M-100)     pieces in the order of vocab.json, languages
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from xlm import strict_json
from xlm.errors import ConfigError, DataError
from xlm.text.tokenizers.hugging_face import HuggingFaceTokenizer, contained
from xlm.text.tokenizers.hugging_face_files import (
    CONFIG_FILE,
    SOURCE_FILE,
    SPECIALS_FILE,
    read_file,
    read_settings,
)
from xlm.text.tokenizers.numbered import NumberedTokenizer, read_pieces
from xlm.text.tokenizers.published_tokens import M2M_100, MBART, MBART_50, language_of
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.text.tokenizers.xlm_roberta import MASK, MODEL_FILE, OPENING, SPECIALS

VOCABULARY = "vocab.json"
_NAMES_OF_SPECIALS = ("additional_special_tokens", "extra_special_tokens")


def read_tokenizer(folder: Path, model_type: str, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of a folder of mBART, M2M-100 or NLLB, with the tokens of its languages.

    Raises DataError if its files are missing or do not say which language has which token.
    """
    settings = {**read_settings(folder / SPECIALS_FILE), **read_settings(folder / CONFIG_FILE)}
    if (folder / SOURCE_FILE).exists():
        tokenizer: Tokenizer = _from_json(folder / SOURCE_FILE, vocab_size)
    elif (folder / MODEL_FILE).exists():
        tokenizer = _from_sentencepiece(folder, model_type, settings, vocab_size)
    else:
        raise DataError(
            f"{folder}: has no tokenizer: expected {SOURCE_FILE}, or {MODEL_FILE} (M2M-100: and "
            f"{VOCABULARY})"
        )
    if not tokenizer.language_tokens:
        raise DataError(
            f"{folder}: none of the tokenizer's special tokens stands for a language: "
            "expected tokens such as en_XX, __en__ or eng_Latn"
        )
    return tokenizer


def _from_json(path: Path, vocab_size: int) -> HuggingFaceTokenizer:
    content = read_file(path)
    with contained(content):
        description = strict_json.parse(content)
        vocabulary = description["model"]["vocab"]
        if not isinstance(vocabulary, Mapping):
            vocabulary = {piece: at for at, (piece, _) in enumerate(vocabulary)}
        ids = {**vocabulary, **{own["content"]: own["id"] for own in description["added_tokens"]}}
    if missing := [name for name in SPECIALS if name not in ids]:
        raise DataError(f"{path}: the token {' or '.join(missing)} is missing")
    begin, pad, end, unknown = (ids[name] for name in SPECIALS)
    try:
        return HuggingFaceTokenizer(
            content, begin_id=begin, end_id=end, pad_id=pad, unk_id=unknown,
            mask_id=ids.get(MASK, unknown), num_separators=1, num_segments=1,
            vocab_size=vocab_size,
        )  # fmt: skip
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _from_sentencepiece(
    folder: Path, model_type: str, settings: Mapping[str, Any], vocab_size: int
) -> NumberedTokenizer:
    model = read_file(folder / MODEL_FILE)
    languages = [
        str(name)
        for key in _NAMES_OF_SPECIALS
        for name in settings.get(key) or ()
        if language_of(str(name)) is not None
    ]
    if (folder / VOCABULARY).exists():
        languages = languages or M2M_100
        pieces = read_pieces(read_file(folder / VOCABULARY), str(folder / VOCABULARY))
        last: list[str] = []
    else:
        pieces, last = _in_fairseq_order(model, folder), [MASK]
    if model_type == "mbart" and not languages:
        num = vocab_size - len(pieces) - len(last)
        languages = {len(MBART): MBART, len(MBART_50): MBART_50}.get(num, [])
    if not languages:
        raise DataError(
            f"{folder}: neither {SPECIALS_FILE} and {CONFIG_FILE} nor {MODEL_FILE} have "
            "language tokens: copy the first from the published model"
        )
    pieces = [*pieces, *dict.fromkeys(languages), *last]
    unused = range(len(pieces), vocab_size)
    try:
        return NumberedTokenizer(model, [*pieces, *(f"<unused{at}>" for at in unused)])
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None


def _in_fairseq_order(model: bytes, folder: Path) -> list[str]:
    processor: Any = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, TypeError):
        raise DataError(f"{folder / MODEL_FILE}: not a SentencePiece model") from None
    known = [str(processor.id_to_piece(at)) for at in range(len(processor))]
    if tuple(known[:3]) != OPENING:
        raise DataError(
            f"{folder / MODEL_FILE}: begins with {' '.join(known[:3])}, expected "
            f"{' '.join(OPENING)}"
        )
    return [*SPECIALS, *known[3:]]


def tokenizer_files(tokenizer: Tokenizer, name: str, num_positions: int) -> dict[str, bytes]:
    """Return the files by which AutoTokenizer finds an imported tokenizer of class ``name``.

    Raises ConfigError for another one.
    """
    languages = {at: tokenizer.pieces[at] for at in tokenizer.language_tokens.values()}
    described = {
        "tokenizer_class": name,
        "model_max_length": num_positions,
        "additional_special_tokens": [languages[at] for at in sorted(languages)],
    }
    files = {CONFIG_FILE: (strict_json.dumps(described, indent=2) + "\n").encode()}
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return {**files, SOURCE_FILE: tokenizer.content}
    if isinstance(tokenizer, NumberedTokenizer):
        files[MODEL_FILE] = tokenizer.model
        if name == "M2M100Tokenizer":
            num = min(languages)
            listed = {piece: at for at, piece in enumerate(tokenizer.pieces[:num])}
            files[VOCABULARY] = strict_json.dumps(listed).encode()
        return files
    raise ConfigError(
        f"a {type(tokenizer).__name__} cannot become the tokenizer of a multilingual "
        "translation model in transformers, whose classes only know the published "
        "languages: expected an imported tokenizer; keep the model in this library's own "
        "format"
    )
