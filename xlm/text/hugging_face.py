"""Tokenizers of the Hugging Face ``tokenizers`` library: BERT's WordPiece, RoBERTa's bytes, any.

    tokenizer.json --made inert--> model, normalizer, pre-tokenizer --> ids without specials
                   \\--an empty pair through its template--> begin, end, number of separators

The file is kept byte for byte. What runs is a copy of it in which no text can spell a special
token: that library matches them in the text, and its unigram model takes them for pieces.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from xlm.errors import DataError
from xlm.text.tokenizer import Tokenizer, write_tokenizer

JSON_FILE = "hugging_face.json"
"""In our folder, where ``tokenizer.json`` is our own description."""
SOURCE_FILE, CONFIG_FILE, SPECIALS_FILE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
ROLES = {
    # role: the names it goes by where no file says which
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}
INERT = "\0"
"""Opens the names of special tokens in the copy that runs; no normalized line holds it."""
SPELLED = (
    "text that spells a special token: transformers takes it for that token, unless it is called "
    "with split_special_tokens=True; here it stays text"
)


class HuggingFaceTokenizer(Tokenizer):
    """A ``tokenizer.json`` and the ids of its special tokens by role.

    ``num_separators`` end symbols stand between the sentences of a pair, and ``num_segments`` (1 or
    2) token types tell them apart. ``vocab_size`` may exceed what the file knows: the rest are rows
    of a model that no text has. Raises DataError for bytes that are no such tokenizer, one that
    segments at random, or ids that it does not know.
    """

    def __init__(
        self,
        content: bytes,
        *,
        begin_id: int,
        end_id: int,
        pad_id: int,
        unk_id: int,
        mask_id: int,
        num_separators: int,
        num_segments: int = 2,
        vocab_size: int = 0,
    ):
        self.content = content
        description, backend = _parse(content)
        known = {at: piece for piece, at in backend.get_vocab(with_added_tokens=True).items()}
        size = max(known) + 1 if known else 0
        self.vocab_size = max(vocab_size, size)
        if 0 < vocab_size < size:
            raise DataError(f"a tokenizer of {size} ids does not fit a vocabulary of {vocab_size}")
        self.pieces = tuple(known.get(at, f"<unused{at}>") for at in range(self.vocab_size))
        self._begin_id, self.end_id, self.pad_id = begin_id, end_id, pad_id
        self.unk_id, self.mask_id = unk_id, mask_id
        self.num_separators, self.num_segments = num_separators, num_segments
        roles = {begin_id, end_id, pad_id, unk_id, mask_id}
        if strange := sorted(roles - set(known)):
            raise DataError(f"special ids {strange}: the tokenizer knows 0 to {size - 1}")
        added = description.get("added_tokens", [])
        specials = {int(token["id"]) for token in added if token["special"]} | roles
        self.special_ids = frozenset(specials.union(set(range(self.vocab_size)) - set(known)))
        self._backend = _inert(description, {self.pieces[at] for at in specials})
        self.settings = {
            "begin_id": begin_id, "end_id": end_id, "pad_id": pad_id, "unk_id": unk_id,
            "mask_id": mask_id, "num_separators": num_separators, "num_segments": num_segments,
            "vocab_size": self.vocab_size,
        }  # fmt: skip
        self._digest = hashlib.sha256(
            f"hugging-face\n{sorted(self.settings.items())}\n".encode() + content
        ).hexdigest()

    @property
    def begin_id(self) -> int:
        """Opens every sentence (``[CLS]``, ``<s>``)."""
        return self._begin_id

    @property
    def digest(self) -> str:
        """SHA-256 of the settings and the file."""
        return self._digest

    def encode(self, text: str) -> list[int]:
        """The ids of one normalized line, without special tokens (but the unknown one)."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Plain text; special tokens are left out."""
        kept = [int(at) for at in ids if int(at) not in self.special_ids]
        return self._backend.decode(kept, skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        """Write ``hugging_face.json``, the bytes that were given, and ``tokenizer.json``."""
        write_tokenizer(folder, self, "hugging-face", self.settings, {JSON_FILE: self.content})

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.content, self.settings)


def _rebuild(content: bytes, settings: dict[str, int]) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(content, **settings)


def read_hugging_face(folder: Path | str, *, vocab_size: int = 0) -> HuggingFaceTokenizer:
    """The tokenizer of a transformers directory: tokenizer.json, or BERT's or RoBERTa's files.

    ``vocab_size`` is the model's, at least as large. Where there is no tokenizer.json it is built:
    from ``vocab.txt`` and the ``do_lower_case`` of tokenizer_config.json as BERT's WordPiece, from
    ``vocab.json`` and ``merges.txt`` as RoBERTa's byte-level BPE. Raises DataError naming what is
    missing or cannot be told.
    """
    folder = Path(folder)
    config = _read_settings(folder / CONFIG_FILE)
    roles = {**_read_settings(folder / SPECIALS_FILE), **config}
    if (folder / SOURCE_FILE).exists():
        path = folder / SOURCE_FILE
        content = _read(path)
    elif (folder / "vocab.txt").exists():
        path = folder / "vocab.txt"
        content = wordpiece_json(_read(path), config, path)
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        path = folder / "merges.txt"
        content = byte_level_json(_read(folder / "vocab.json"), _read(path), path)
    else:
        raise DataError(
            f"{folder}: has no tokenizer: expected {SOURCE_FILE}, vocab.txt, or vocab.json and "
            f"merges.txt"
        )
    try:
        return from_json(content, roles, vocab_size=vocab_size)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def from_json(
    content: bytes, roles: Mapping[str, Any], *, vocab_size: int = 0
) -> HuggingFaceTokenizer:
    """A tokenizer.json, its layout from its own template, pad, unk and mask as ``roles`` name them.

    ``roles``: ``pad_token`` and so on, strings or objects with a ``content``, as in
    tokenizer_config.json; those not named go by their usual names. Raises DataError for a layout
    that is not ``begin a end.. b end``, or a role that no token has.
    """
    _, backend = _parse(content)
    backend.no_padding()
    backend.no_truncation()
    pair = backend.encode("", "", add_special_tokens=True)
    ids = [at for at, special in zip(pair.ids, pair.special_tokens_mask, strict=True) if special]
    if len(ids) < 3 or len(set(ids[1:])) != 1:
        names = " ".join(str(backend.id_to_token(at)) for at in ids) or "nothing"
        raise DataError(
            f"an empty pair becomes {names}: expected a begin symbol and two or more end symbols, "
            f"as BERT's and RoBERTa's templates (post_processor) have them"
        )
    found = {f"{role}_id": _find(backend, role, roles) for role in ROLES}
    return HuggingFaceTokenizer(
        content,
        begin_id=ids[0],
        end_id=ids[-1],
        num_separators=len(ids) - 2,
        num_segments=max(pair.type_ids) + 1,
        vocab_size=vocab_size,
        **found,
    )


def wordpiece_json(
    vocabulary: bytes, config: Mapping[str, Any], path: str | Path = "vocab.txt"
) -> bytes:
    """BERT's tokenizer.json from its ``vocab.txt`` (a piece a line) and tokenizer_config.json.

    ``do_lower_case`` must be stated: lower-casing for a cased model, or not for another, would give
    ids that look right and are not. Raises DataError where it is not, and for a piece that comes
    twice.
    """
    if not isinstance(config.get("do_lower_case"), bool):
        raise DataError(
            f"{path}: {CONFIG_FILE} beside it has do_lower_case {config.get('do_lower_case')!r}: "
            f'write {{"do_lower_case": false}} there for a cased model, true for an uncased one'
        )
    ids: dict[str, int] = {}
    # lines end as in Python's text mode, by which the published vocabularies are numbered
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(vocabulary), encoding="utf-8")):
        piece = line.rstrip("\n")
        if piece in ids:
            raise DataError(f"{path}:{number + 1}: {piece!r} is there already: expected it once")
        ids[piece] = number
    names = {role: _name(config, f"{role}_token") for role in ("cls", "sep", *ROLES)}
    usual = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    tokens = {role: name or usual[role] for role, name in names.items()}
    if missing := [name for name in tokens.values() if name not in ids]:
        raise DataError(f"{path}: has no {', '.join(missing)}: expected BERT's vocabulary")
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


def byte_level_json(vocabulary: bytes, merges: bytes, path: str | Path = "merges.txt") -> bytes:
    """RoBERTa's tokenizer.json from its ``vocab.json`` and ``merges.txt``; raises DataError."""
    try:
        ids = {str(piece): int(at) for piece, at in json.loads(vocabulary).items()}
        rules = [tuple(line.split(" ")) for line in merges.decode().split("\n")]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{path}, or vocab.json beside it: {_one_line(error)}") from None
    pairs = [(rule[0], rule[1]) for rule in rules if len(rule) == 2 and rule[0] != "#version:"]
    specials = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    if missing := [name for name in specials if name not in ids]:
        raise DataError(f"{path}: vocab.json has no {', '.join(missing)}: expected RoBERTa's")
    try:
        backend = Backend(models.BPE(ids, pairs, unk_token=None, fuse_unk=False))
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{path}: does not fit vocab.json ({_one_line(error)})") from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    end, begin = ("</s>", ids["</s>"]), ("<s>", ids["<s>"])
    backend.post_processor = processors.RobertaProcessing(end, begin, True, False)
    return to_json(backend, specials)


def to_json(backend: Backend, specials: Iterable[str]) -> bytes:
    """The file of a tokenizer in which ``specials`` are special tokens; ``<mask>`` eats a space."""
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in specials])
    return (backend.to_str(pretty=True) + "\n").encode()


def transformers_files(
    tokenizer: HuggingFaceTokenizer, num_positions: int
) -> tuple[dict[str, bytes], list[str]]:
    """The files by which AutoTokenizer finds ``tokenizer``, and what is not as it is here."""
    files = {
        SOURCE_FILE: tokenizer.content,
        CONFIG_FILE: config_json(tokenizer, "PreTrainedTokenizerFast", num_positions),
    }
    return files, [SPELLED]


def config_json(tokenizer: Tokenizer, name: str, num_positions: int) -> bytes:
    """tokenizer_config.json for the class ``name``; rows may be ``num_positions`` tokens long."""
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
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _parse(content: bytes) -> tuple[dict[str, Any], Backend]:
    """The description, and the tokenizer as it stands in the file."""
    try:
        description = json.loads(content)
        model = description["model"]
        backend = Backend.from_str(content.decode())
    except Exception as error:  # the library raises nothing narrower
        raise DataError(
            f"no tokenizer of the tokenizers library in {len(content):,} bytes: {_one_line(error)}"
        ) from None
    if model.get("dropout"):
        raise DataError(
            f"the BPE model has dropout {model['dropout']} and segments at random: set it to null"
        )
    return description, backend


def _inert(description: Mapping[str, Any], specials: set[str]) -> Backend:
    """The tokenizer with special tokens under names that no line holds, and nothing it adds."""
    model = dict(description["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        model["vocab"] = {_renamed(name, specials): at for name, at in vocabulary.items()}
    else:
        model["vocab"] = [[_renamed(name, specials), score] for name, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = _renamed(model["unk_token"], specials)
    added = [
        {**token, "content": _renamed(token["content"], specials)}
        for token in description.get("added_tokens", [])
    ]
    nothing = {"post_processor": None, "padding": None, "truncation": None}
    copy = {**description, **nothing, "model": model, "added_tokens": added}
    backend = Backend.from_str(json.dumps(copy))
    backend.encode_special_tokens = True
    return backend


def _renamed(name: str, specials: set[str]) -> str:
    return INERT + name if name in specials else name


def _find(backend: Backend, role: str, roles: Mapping[str, Any]) -> int:
    name = _name(roles, f"{role}_token")
    for candidate in (name,) if name else ROLES[role]:
        at = backend.token_to_id(candidate)
        if at is not None:
            return int(at)
    expected = name or " or ".join(ROLES[role])
    raise DataError(f"no token {expected} for the role {role}: name it in {CONFIG_FILE}")


def _name(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    value = value.get("content") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else None


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({_one_line(error)})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
