"""Loading of a tokenizer of any kind from the folder it was saved to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlm import strict_json
from xlm.errors import ConfigError, DataError, clipped
from xlm.storage import MAX_JSON, read_file
from xlm.strict_json import JsonError
from xlm.text.rules import from_json
from xlm.text.tokenizers import (
    fastbpe,
    hugging_face,
    language_tokens,
    numbered,
    sentencepiece,
    xlm_roberta,
)
from xlm.text.tokenizers.tokenizer import FORMAT, SETTINGS_FILE, Tokenizer


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load the tokenizer that ``save`` wrote to ``folder``.

    Raises DataError if a file is missing, or is not the one that ``tokenizer.json`` names (by
    digest: a changed vocabulary would silently change what every id means).
    """
    folder = Path(folder)
    at = folder / SETTINGS_FILE
    try:
        description: dict[str, Any] = strict_json.parse(_read(at))
        expected_format, kind = description["format"], description["kind"]
        for name in description["files"]:
            if name in ("", ".", "..") or Path(name).name != name:
                raise ValueError(f"file {name!r}: expected the name of a file beside it")
        files = {name: _read(folder / name) for name in description["files"]}
        settings, expected = description["settings"], description["digest"]
    except DataError:
        raise
    except JsonError as error:
        raise DataError(f"{at}{error.suffix}: does not describe a tokenizer ({error})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{at}: does not describe a tokenizer ({clipped(repr(error))})") from None
    if expected_format != FORMAT:
        raise DataError(f"{at}: has format {expected_format!r}, expected {FORMAT}")
    for name, content in files.items():
        _compare(folder / name, hashlib.sha256(content).hexdigest(), description["files"][name])
    tokenizer = _build(kind, settings, files, at)
    if "normalization" in description:
        tokenizer.rules = from_json(description["normalization"], str(at))
    _compare(folder, tokenizer.digest, expected)
    return tokenizer


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MAX_JSON, error=DataError)
    except DataError as error:
        raise DataError(
            f"{error}: expected a tokenizer folder with {SETTINGS_FILE} and the files it names"
        ) from None


def _compare(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"{path}: digest {found} found, but {SETTINGS_FILE} says {expected}: the "
            "tokenizer was changed after it was saved; restore it"
        )


def _build(
    kind: str, settings: Mapping[str, Any], files: Mapping[str, bytes], at: Path
) -> Tokenizer:
    try:
        if kind == "sentencepiece":
            content = files[sentencepiece.MODEL_FILE]
            return sentencepiece.SentencePieceTokenizer(content, **settings)
        if kind == "fastbpe":
            codes, vocabulary = files[fastbpe.CODES_FILE], files[fastbpe.VOCABULARY_FILE]
            return fastbpe.FastBpeTokenizer(codes, vocabulary, **settings)
        if kind == "hugging-face":
            content = files[hugging_face.JSON_FILE]
            return hugging_face.HuggingFaceTokenizer(content, **settings)
        if kind == "xlm-roberta":
            model = files[xlm_roberta.MODEL_FILE]
            dictionary = files.get(xlm_roberta.DICTIONARY_FILE)
            return xlm_roberta.XlmRobertaTokenizer(model, dictionary, **settings)
        if kind == numbered.KIND:
            pieces = numbered.read_pieces(files[numbered.PIECES_FILE], numbered.PIECES_FILE)
            return numbered.NumberedTokenizer(files[xlm_roberta.MODEL_FILE], pieces)
        if kind == language_tokens.KIND:
            base = settings["base"]
            inner = _build(base["kind"], base["settings"], files, at)
            _compare(at, inner.digest, base["digest"])
            return language_tokens.LanguageTokens(inner, settings["languages"])
    except (KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{at}: does not fit a tokenizer of kind {kind!r} ({error})") from None
    known = (
        f"'sentencepiece', 'fastbpe', 'hugging-face', 'xlm-roberta', '{numbered.KIND}' or "
        f"'{language_tokens.KIND}'"
    )
    raise DataError(f"{at}: unknown kind {kind!r}: expected {known}")
