"""Tokenizers of the Hugging Face ``tokenizers`` library: BERT's WordPiece, RoBERTa's bytes, any.

    tokenizer.json --made inert--> model, normalizer, pre-tokenizer --> ids without specials
                   \\--an empty pair through its template--> begin, end, number of separators

The file is kept byte for byte. A copy of it runs, in which no text can spell a special
token: that library matches them in the text, and its unigram model takes them for pieces.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer as Backend

from xlm import strict_json
from xlm.errors import DataError, one_line
from xlm.text.tokenizers.hugging_face_files import (
    CONFIG_FILE,
    NOT_NORMALIZED,
    ROLES,
    SOURCE_FILE,
    SPECIALS_FILE,
    SPELLED,
    byte_level_json,
    config_json,
    keeps_normal_form,
    read_file,
    read_settings,
    token_name,
    wordpiece_json,
)
from xlm.text.tokenizers.published_tokens import published_tokens
from xlm.text.tokenizers.tokenizer import Tokenizer, write_tokenizer

JSON_FILE = "hugging_face.json"
"""The file's name in our folder, in which ``tokenizer.json`` is our own description."""
INERT = "\0"
"""Opens the names of special tokens in the copy that runs; no normalized line holds it."""
MAX_UNUSED = 1 << 20
"""More ids than that have no meaning in no model: they would only fill the memory."""


class HuggingFaceTokenizer(Tokenizer):
    """A ``tokenizer.json`` and the ids of its special tokens by role.

    There are ``num_separators`` end symbols between the sentences of a pair, of which the second
    opens with a begin symbol too if ``begins_again``, and ``num_segments`` (1 or 2) token types
    tell them apart. ``vocab_size`` may exceed the file's: the rest are rows of a model
    that no text has. Raises DataError for bytes that are not such a tokenizer, one that segments at
    random, or ids that it does not know.
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
        begins_again: bool = False,
    ):
        self.content = content
        self._begin_id, self.end_id, self.pad_id = begin_id, end_id, pad_id
        self.unk_id, self.mask_id = unk_id, mask_id
        self.num_separators, self.num_segments = num_separators, num_segments
        self.begins_again = begins_again
        with contained(content):
            self._fill(vocab_size)
        self.settings = {
            "begin_id": begin_id, "end_id": end_id, "pad_id": pad_id, "unk_id": unk_id,
            "mask_id": mask_id, "num_separators": num_separators, "num_segments": num_segments,
            "vocab_size": self.vocab_size,
            **({"begins_again": True} if begins_again else {}),
        }  # fmt: skip
        self._digest = hashlib.sha256(
            f"hugging-face\n{sorted(self.settings.items())}\n".encode() + content
        ).hexdigest()

    def _fill(self, vocab_size: int) -> None:
        description, backend = _parse(self.content)
        ids = backend.get_vocab(with_added_tokens=True)
        known = {at: piece for piece, at in ids.items()}
        size = max(known) + 1 if known else 0
        if 0 < vocab_size < size:
            raise DataError(
                f"a tokenizer of {size} ids does not fit a vocabulary of {vocab_size} ids"
            )
        self.vocab_size = max(vocab_size, size)
        check_unused(self.vocab_size, len(known))
        self.pieces = tuple(known.get(at, f"<unused{at}>") for at in range(self.vocab_size))
        roles = {self.begin_id, self.end_id, self.pad_id, self.unk_id, self.mask_id}
        if strange := sorted(roles - set(known)):
            raise DataError(
                f"the special ids are {strange}, but the tokenizer knows 0 to {size - 1}"
            )
        added = description.get("added_tokens", [])
        names = {token["content"] for token in added if token["special"]}
        names |= {known[at] for at in roles}
        unknown = set(range(self.vocab_size)) - set(known)
        self.special_ids = frozenset({ids[name] for name in names} | unknown)
        tokens = published_tokens((known[at], at) for at in self.special_ids if at in known)
        self.language_tokens = MappingProxyType(tokens)
        self._backend = _inert(description, names)
        self._backend.encode("\U00020b9f")  # fails now if the unknown token is missing

    @property
    def begin_id(self) -> int:
        """Opens every sentence (``[CLS]``, ``<s>``)."""
        return self._begin_id

    @property
    def digest(self) -> str:
        """SHA-256 of the settings and the file."""
        return self._digest

    def encode(self, text: str) -> list[int]:
        """Return the ids of one normalized line, without special tokens (but the unknown one)."""
        text = text.replace(INERT, " ")
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ``encode(text)`` and the characters of ``text`` that each piece stands for."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Return plain text; special tokens are left out."""
        kept = [int(at) for at in ids if int(at) not in self.special_ids]
        return self._backend.decode(kept, skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        """Write ``hugging_face.json``, the bytes that were given, and ``tokenizer.json``."""
        write_tokenizer(folder, self, "hugging-face", self.settings, {JSON_FILE: self.content})

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.content, self.settings)


def check_unused(vocab_size: int, num_known: int) -> None:
    """Raise DataError for a size that no model has beside a tokenizer of ``num_known`` ids."""
    if vocab_size > num_known + MAX_UNUSED:
        raise DataError(
            f"the vocabulary has {vocab_size:,} ids, but the tokenizer knows {num_known:,}: "
            f"expected at most {MAX_UNUSED:,} more"
        )


def _rebuild(content: bytes, settings: dict[str, Any]) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(content, **settings)


def read_hugging_face(folder: Path | str, *, vocab_size: int = 0) -> HuggingFaceTokenizer:
    """Read the tokenizer of a transformers directory: tokenizer.json, or BERT's or RoBERTa's files.

    ``vocab_size`` is the model's, at least as large. If there is no tokenizer.json, it is built:
    from ``vocab.txt`` and the ``do_lower_case`` of tokenizer_config.json as BERT's WordPiece, from
    ``vocab.json`` and ``merges.txt`` as RoBERTa's byte-level BPE. Raises DataError naming the
    missing or unclear part.
    """
    folder = Path(folder)
    config = read_settings(folder / CONFIG_FILE)
    roles = {**read_settings(folder / SPECIALS_FILE), **config}
    if (folder / SOURCE_FILE).exists():
        path = folder / SOURCE_FILE
        content = read_file(path)
    elif (folder / "vocab.txt").exists():
        path = folder / "vocab.txt"
        content = wordpiece_json(read_file(path), config, path)
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        path = folder / "merges.txt"
        content = byte_level_json(read_file(folder / "vocab.json"), read_file(path), path)
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
    """Read a tokenizer.json: layout from its template, pad, unk and mask as ``roles`` name them.

    ``roles``: ``pad_token`` and so on, strings or objects with a ``content``, as in
    tokenizer_config.json; those not named go by their usual names. A tokenizer that knows every
    text needs no unknown token: its id is that of padding. Raises DataError for a layout that is
    neither ``begin a end.. b end`` nor ``begin a end begin b end``, or a role that no token has.
    """
    with contained(content):
        description, backend = _parse(content)
        backend.no_padding()
        backend.no_truncation()
        pair = backend.encode("", "", add_special_tokens=True)
    ids = [at for at, special in zip(pair.ids, pair.special_tokens_mask, strict=True) if special]
    begins_again = len(ids) == 4 and ids[:2] == ids[2:] and ids[0] != ids[1]
    if not begins_again and (len(ids) < 3 or len(set(ids[1:])) != 1):
        names = " ".join(str(backend.id_to_token(at)) for at in ids) or "nothing"
        raise DataError(
            f"an empty pair becomes {names}: expected a begin symbol and two or more end symbols, "
            f"as BERT's and RoBERTa's templates (post_processor) have them, or both twice, as "
            f"Gemma's"
        )
    found = {f"{role}_id": _find(backend, role, roles) for role in ROLES if role != "unk"}
    needs_unknown = description["model"].get("unk_token") is not None
    if needs_unknown or token_name(roles, "unk_token") or _has_any(backend, ROLES["unk"]):
        found["unk_id"] = _find(backend, "unk", roles)
    else:
        found["unk_id"] = found["pad_id"]
    return HuggingFaceTokenizer(
        content,
        begin_id=ids[0],
        end_id=ids[-1],
        num_separators=1 if begins_again else len(ids) - 2,
        begins_again=begins_again,
        num_segments=max(pair.type_ids) + 1,
        vocab_size=vocab_size,
        **found,
    )


def transformers_files(
    tokenizer: HuggingFaceTokenizer, num_positions: int
) -> tuple[dict[str, bytes], list[str]]:
    """Return the files by which AutoTokenizer finds ``tokenizer``, and how it differs from ours."""
    files = {
        SOURCE_FILE: tokenizer.content,
        CONFIG_FILE: config_json(tokenizer, "PreTrainedTokenizerFast", num_positions),
    }
    kept = keeps_normal_form(Backend.from_str(tokenizer.content.decode()))
    return files, [SPELLED] if kept else [SPELLED, NOT_NORMALIZED]


@contextlib.contextmanager
def contained(content: bytes) -> Iterator[None]:
    """Raise DataError for any error of the library over a file: it has one class for everything.

    Its panics do not derive from ``Exception``.
    """
    try:
        yield
    except (DataError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        reason = one_line(error, most=300)
        raise DataError(
            f"the tokenizers library cannot read a tokenizer from these {len(content):,} "
            f"bytes: {reason}"
        ) from None


def _parse(content: bytes) -> tuple[dict[str, Any], Backend]:
    """Return the description, and the tokenizer exactly as in the file."""
    description = strict_json.parse(content)
    if dropout := description["model"].get("dropout"):
        raise DataError(
            f"the BPE model has dropout {dropout}, which makes segmentation random: set it to null"
        )
    return description, Backend.from_str(content.decode())


def _inert(description: Mapping[str, Any], specials: set[str]) -> Backend:
    """Return the tokenizer with special tokens under names that no line holds; it adds nothing."""
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
    return Backend.from_str(json.dumps(copy))


def _renamed(name: str, specials: set[str]) -> str:
    return INERT + name if name in specials else name


def _has_any(backend: Backend, names: Sequence[str]) -> bool:
    return any(backend.token_to_id(name) is not None for name in names)


def _find(backend: Backend, role: str, roles: Mapping[str, Any]) -> int:
    name = token_name(roles, f"{role}_token")
    for candidate in (name,) if name else ROLES[role]:
        at = backend.token_to_id(candidate)
        if at is not None:
            return int(at)
    expected = name or " or ".join(ROLES[role])
    raise DataError(f"no token {expected} for the role {role}: name it in {CONFIG_FILE}")
