"""Vocabulary of an original XLM file: its dictionary, and the tokenizer that gives its ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.text.tokenizers.fastbpe import SPECIALS, FastBpeTokenizer


class Dictionary(NamedTuple):
    """Ids and counts, as the original keeps them in checkpoints and data."""

    pieces: tuple[str, ...]
    """String of every id; the special tokens come first."""
    counts: tuple[int, ...]
    """Count of each piece when the vocabulary was made; 0 for special tokens."""


def read_dictionary(path: Path, content: Mapping[str, Any], prefix: str = "dico_") -> Dictionary:
    """Return the dictionary in ``content``'s tables ``id2word``, ``word2id`` and ``counts``.

    The names of the tables in ``content`` begin with ``prefix``. Raises CheckpointError if they are
    missing, contradict each other, or do not begin with the original's special tokens.
    """
    tables = [content.get(prefix + name) for name in ("id2word", "word2id", "counts")]
    if not all(isinstance(table, dict) for table in tables):
        raise CheckpointError(
            f"{path} lacks {prefix}id2word, {prefix}word2id or {prefix}counts, which tell "
            "what its ids mean: the file of the original is incomplete"
        )
    words, ids, counts = (dict(table) for table in tables if table is not None)
    pieces = []
    for at in range(len(words)):
        piece = words.get(at)
        if type(piece) is not str or ids.get(piece) != at:
            other = ascii(ids.get(piece)) if type(piece) is str else "no string"
            raise CheckpointError(
                f"{path}: item {at} of its dictionary is {ascii(piece)[:60]}, but its id is "
                f"{other[:20]}: the file contradicts itself"
            )
        if at < len(SPECIALS) and piece != SPECIALS[at]:
            raise CheckpointError(
                f"{path}: item {at} of its dictionary is {piece[:60]!r}, expected {SPECIALS[at]!r}"
            )
        pieces.append(piece)
    if len(ids) != len(words) or len(words) <= len(SPECIALS):
        raise CheckpointError(
            f"{path}: its dictionary has {len(words)} ids for {len(ids)} words, expected the "
            f"same number, and more than the {len(SPECIALS)} special tokens"
        )
    numbers = [counts.get(piece) for piece in pieces]
    for at, count in enumerate(numbers):
        if type(count) is not int or count < 0:
            raise CheckpointError(
                f"{path}: the count of item {at}, {pieces[at][:60]!r}, is {ascii(count)[:20]}, "
                "expected 0 or more"
            )
    return Dictionary(tuple(pieces), tuple(int(count) for count in numbers if count is not None))


def build_tokenizer(
    path: Path,
    dictionary: Dictionary,
    codes: str | Path | None,
    vocabulary: str | Path | None,
) -> tuple[FastBpeTokenizer, list[str]]:
    """Return the tokenizer with the dictionary's ids, and its differences from the original's.

    The differences are given as lines. ``codes`` and ``vocabulary`` are files; if not given, they
    are looked for beside ``path`` as ``codes``, ``codes_*`` and ``vocab``, ``vocab_*``. Without any
    vocabulary file, the vocabulary is made from the dictionary. Raises CheckpointError if no
    codes or several are found, and, naming the first item that differs, if the vocabulary belongs
    to another model.
    """
    codes_file = _find(path, "codes", codes, "codes")
    if codes_file is None:
        raise CheckpointError(
            f"{path} needs its BPE codes, but there is no file 'codes' or 'codes_*' beside "
            "it: give codes"
        )
    file = _find(path, "vocab", vocabulary, "vocabulary")
    codes_bytes = _read(codes_file)
    if file is not None:
        tokenizer = _build(codes_file, codes_bytes, file, _read(file), 0)
        if tokenizer.vocab_size > len(dictionary.pieces):
            size = len(dictionary.pieces)
            tokenizer = _build(codes_file, codes_bytes, file, _read(file), size)
        _compare(path, dictionary, file, tokenizer)
        return tokenizer, []
    items = list(zip(dictionary.pieces, dictionary.counts, strict=True))[len(SPECIALS) :]
    made = "".join(f"{piece} {count}\n" for piece, count in items)
    tokenizer = _build(codes_file, codes_bytes, path, made.encode("utf-8", "surrogatepass"), 0)
    _compare(path, dictionary, path, tokenizer)
    return tokenizer, [
        "vocabulary file: made from the checkpoint; the original's may have had more lines, and "
        "then left a piece beyond the model's whole and unknown where it is now split"
    ]


def _find(path: Path, name: str, given: str | Path | None, argument: str) -> Path | None:
    """Return the given file, or else the only file of that name beside the checkpoint."""
    if given is not None:
        return Path(given)
    beside = {*path.parent.glob(name), *path.parent.glob(f"{name}_*")}
    found = sorted(file for file in beside if file.is_file())
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:10])
        raise CheckpointError(f"{path.parent} holds {names}: say which belongs to {path.name} "
                              f"({argument})")  # fmt: skip
    return found[0] if found else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error


def _build(
    codes_file: Path, codes: bytes, file: Path, vocabulary: bytes, max_vocab: int
) -> FastBpeTokenizer:
    try:
        return FastBpeTokenizer(codes, vocabulary, max_vocab=max_vocab)
    except (DataError, ConfigError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{codes_file} and {file} do not make a tokenizer: {error}"
        ) from error


def _compare(path: Path, dictionary: Dictionary, file: Path, tokenizer: FastBpeTokenizer) -> None:
    """Raise CheckpointError, naming the first item that differs."""
    found = list(zip(tokenizer.pieces, tokenizer.counts or (), strict=True))
    expected = list(zip(*dictionary, strict=True))
    if found == expected:
        return
    at = next((k for k, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    at = min(len(found), len(expected)) if at is None else at
    here, there = (
        f"{items[at][0][:60]!r} (count {items[at][1]})" if at < len(items) else "nothing"
        for items in (expected, found)
    )
    if file == path:
        advice = "no vocabulary file can say so: give vocabulary, the file it was made with"
    else:
        advice = "give the file it was made with, or none (vocabulary)"
    raise CheckpointError(f"id {at} is {here} in {path} and {there} in {file}: {advice}")
