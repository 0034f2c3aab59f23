"""The tokenizer files of transformers directories: read, built from older ones, written.

tokenizer.json                                 as it stands
vocab.txt, tokenizer_config.json     (BERT)    --> tokenizer.json
vocab.json, merges.txt               (RoBERTa) --> tokenizer.json
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from xlm import strict_json
from xlm.errors import DataError, clipped, one_line
from xlm.storage import read_json
from xlm.text.normalize import normalize
from xlm.text.tokenizers.tokenizer import Tokenizer

SOURCE_FILE, CONFIG_FILE, SPECIALS_FILE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
MAX_BYTES = 1 << 28
"""Largest size of a file; the largest tokenizer.json is a tenth of it."""
ROLES = {
    # role: its usual names, if no file gives one
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}
SPELLED = (
    "text that spells a special token: transformers takes it for that token, unless it is called "
    "with split_special_tokens=True; here it stays text"
)

NOT_NORMALIZED = (
    "xlm's normal form (NFC, one space for white space and control characters): transformers takes "
    "text as it comes; pass it xlm.text.normalize.normalize(text)"
)
UNNORMALIZED = (
    "ल\u095cका प\u095dता है", "Tie\u0302\u0301ng Vie\u0323\u0302t", "deux\u00a0mots", "two  spaces",
    " at the ends ", "a tab\there", "水\u3000火", "\ufeffa mark", "cafe\u0301", "line\u2028ends",
    "एक\u00a0दुई\u00a0तीन", "soft\u0085control",
)  # fmt: skip
"""Text that xlm puts into another form before any tokenizer sees it."""


def keeps_normal_form(backend: Backend) -> bool:
    """Return whether a tokenizer gives text the same ids in xlm's normal form and as it comes."""
    pairs = [(text, normalize(text)) for text in UNNORMALIZED]
    return all(backend.encode(one).ids == backend.encode(other).ids for one, other in pairs)


def wordpiece_json(
    vocabulary: bytes, config: Mapping[str, Any], path: str | Path = "vocab.txt"
) -> bytes:
    """Make BERT's tokenizer.json from its ``vocab.txt`` (a piece a line) and tokenizer_config.json.

    ``do_lower_case`` must be stated: lower-casing for a cased model, or not for another, would give
    ids that look right and are not. Raises DataError if it is not, and for a duplicate piece.
    """
    if not isinstance(config.get("do_lower_case"), bool):
        raise DataError(
            f"{path}: {CONFIG_FILE} beside it has do_lower_case {config.get('do_lower_case')!r}: "
            f'write {{"do_lower_case": false}} there for a cased model, true for an uncased one'
        )
    ids = _number_lines(vocabulary, path)
    names = {role: token_name(config, f"{role}_token") for role in ("cls", "sep", *ROLES)}
    usual = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    tokens = {role: name or usual[role] for role, name in names.items()}
    if missing := [name for name in tokens.values() if name not in ids]:
        raise DataError(f"{path}: lacks {', '.join(missing)}: expected BERT's vocabulary")
    backend = Backend(models.WordPiece(ids, unk_token=tokens["unk"]))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config["do_lower_case"],
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    cls, sep = tokens["cls"], tokens["sep"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    return to_json(backend, tokens.values())


def _number_lines(vocabulary: bytes, path: str | Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    # lines end as in Python's text mode, by which the published vocabularies are numbered
    try:
        for number, line in enumerate(io.TextIOWrapper(io.BytesIO(vocabulary), encoding="utf-8")):
            piece = line.rstrip("\n")
            if piece in ids:
                raise DataError(
                    f"{path}:{number + 1}: {clipped(repr(piece))} appears a second time: "
                    "expected it once"
                )
            ids[piece] = number
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error})") from None
    return ids


def byte_level_json(vocabulary: bytes, merges: bytes, path: str | Path = "merges.txt") -> bytes:
    """Make RoBERTa's tokenizer.json from its ``vocab.json`` and ``merges.txt``; raise DataError."""
    try:
        ids = {str(piece): int(at) for piece, at in strict_json.parse(vocabulary).items()}
        rules = [tuple(line.split(" ")) for line in merges.decode().split("\n")]
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}, or vocab.json beside it: {one_line(error, most=300)}") from None
    pairs = [(rule[0], rule[1]) for rule in rules if len(rule) == 2 and rule[0] != "#version:"]
    specials = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    if missing := [name for name in specials if name not in ids]:
        raise DataError(f"{path}: vocab.json lacks {', '.join(missing)}: expected RoBERTa's")
    try:
        backend = Backend(models.BPE(ids, pairs, unk_token=None, fuse_unk=False))
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{path}: does not fit vocab.json ({one_line(error, most=300)})") from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    end, begin = ("</s>", ids["</s>"]), ("<s>", ids["<s>"])
    backend.post_processor = processors.RobertaProcessing(end, begin, True, False)
    return to_json(backend, specials)


def to_json(backend: Backend, specials: Iterable[str]) -> bytes:
    """Return the file of a tokenizer with ``specials`` as special tokens, found in raw text."""
    tokens = [tokenizers.AddedToken(name, special=True, normalized=False) for name in specials]
    backend.add_special_tokens(tokens)
    return (backend.to_str(pretty=True) + "\n").encode()


def config_json(tokenizer: Tokenizer, name: str, num_positions: int) -> bytes:
    """Return tokenizer_config.json for the class ``name`` and rows of ``num_positions`` tokens."""
    ids = {
        "bos": tokenizer.begin_id, "cls": tokenizer.begin_id, "eos": tokenizer.end_id,
        "sep": tokenizer.end_id, "pad": tokenizer.pad_id, "unk": tokenizer.unk_id,
        "mask": tokenizer.mask_id,
    }  # fmt: skip
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    if getattr(tokenizer, "num_segments", 1) == 1:
        inputs.remove("token_type_ids")
    content = {
        "tokenizer_class": name,
        "model_max_length": num_positions,
        "model_input_names": inputs,
        **{f"{role}_token": tokenizer.pieces[at] for role, at in ids.items()},
    }
    return (strict_json.dumps(content, indent=2) + "\n").encode()


def read_settings(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if there is no such file; raise DataError for a damaged one."""
    return read_json(path, error=DataError) if path.exists() else {}


def read_file(path: Path) -> bytes:
    """Return a file's bytes; raise DataError if it is unreadable or too large for a tokenizer."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size:,} bytes, expected a file of a tokenizer")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def token_name(config: Mapping[str, Any], key: str) -> str | None:
    """Return the token under ``key``, a string or an object with a ``content``; None if missing."""
    value = config.get(key)
    value = value.get("content") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else None
