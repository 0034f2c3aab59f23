"""Convert the files of transformers' ``XLMTokenizer`` from and to fastBPE's codes and vocabulary.

    codes   "t h</w> 512"  <->  merges.txt  "t h</w>"
    vocab   "th 90"        <->  vocab.json  "th</w>": 14     a piece that ends a word
            "th@@ 70"      <->              "th": 15         a piece inside a word

Ids do not change; counts have no place there. ``lost`` lists the differences of that class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from xlm import strict_json
from xlm.errors import ConfigError, DataError
from xlm.strict_json import JsonError
from xlm.text.tokenizers.fastbpe import END, INSIDE, SPECIALS, FastBpeTokenizer
from xlm.text.tokenizers.hugging_face_files import NOT_NORMALIZED, SPELLED

PIECES, MERGES, SETTINGS = "vocab.json", "merges.txt", "tokenizer_config.json"
MAX_BYTES = 1 << 28
"""Largest size of a file; the vocabularies of the released models are a twentieth of it."""

MOSES = (
    "XLMTokenizer runs the Moses tokenizer, normalizes punctuation and drops joiners before the "
    "codes, always; xlm applies the codes to the text as it is. Plain text gets other ids there: "
    "tokenizer._tokenize(text, bypass_tokenizer=True) gives the pieces of xlm"
)
OPENING = (
    "tokenizer_config.json says bos_token </s>: XLM opens a sentence with </s>, XLMTokenizer by "
    "itself with <s>, a row that was never trained"
)
COUNTS = "the counts of codes and vocabulary: merges.txt and vocab.json have no place for them"


def settings(languages: Mapping[str, int], max_positions: int) -> dict[str, Any]:
    """Return the content of tokenizer_config.json for every tokenizer of a model in XLM's shape."""
    content: dict[str, Any] = {
        **dict.fromkeys(("bos_token", "cls_token", "eos_token", "sep_token"), "</s>"),
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": max_positions,
        # XLM's model adds the *word* vector of each token type: they must not be passed on
        "model_input_names": ["input_ids", "attention_mask"],
    }
    if languages:
        content["lang2id"] = dict(languages)
        content["id2lang"] = {str(at): name for name, at in languages.items()}
    return content


def to_json(content: Mapping[str, Any]) -> bytes:
    """Return JSON as ``XLMTokenizer.save_pretrained`` writes vocab.json."""
    text = json.dumps(dict(content), indent=2, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


def xlm_tokenizer_files(
    tokenizer: FastBpeTokenizer, languages: Mapping[str, int], max_positions: int
) -> tuple[dict[str, bytes], list[str]]:
    """Return the files by name, and one line for each thing that is lost or changed.

    Raises ConfigError for a piece that vocab.json cannot hold beside another.
    """
    ids: dict[str, int] = {piece: at for at, piece in enumerate(SPECIALS)}
    for at, piece in enumerate(tokenizer.pieces[len(SPECIALS) :], len(SPECIALS)):
        key = _key(piece)
        if key in ids:
            raise ConfigError(
                f"vocab.json cannot hold the piece {piece!r} (id {at}): as {key!r} it would be "
                f"the piece {tokenizer.pieces[ids[key]]!r} (id {ids[key]}); keep this model in "
                f"xlm's own format"
            )
        ids[key] = at
    merges = _merges(tokenizer.codes)
    content = {
        **settings(languages, max_positions),
        "tokenizer_class": "XLMTokenizer",
        "mask_token": tokenizer.pieces[tokenizer.mask_id],
        "additional_special_tokens": [piece for piece in SPECIALS if piece.startswith("<special")],
        "do_lowercase_and_remove_accent": False,
    }
    files = {
        PIECES: to_json(ids),
        MERGES: b"".join(left + b" " + right + b"\n" for left, right in merges),
        SETTINGS: to_json(content),
    }
    return files, _lost(tokenizer, [(a.decode(), b.decode()) for a, b in merges])


def _key(piece: str) -> str:
    """Return the key of a piece: ``th@@`` is ``th``, ``th`` is ``th</w>``.

    The piece ``@@`` alone ends a word.
    """
    if piece.endswith(INSIDE) and piece != INSIDE:
        return piece.removesuffix(INSIDE)
    return piece + END


def _piece(key: str) -> str:
    return key.removesuffix(END) if key.endswith(END) else key + INSIDE


def _merges(codes: bytes) -> list[tuple[bytes, bytes]]:
    lines = [[field for field in line.split(b" ") if field] for line in codes.split(b"\n")]
    return [(fields[0], fields[1]) for fields in lines if fields]


def _lost(tokenizer: FastBpeTokenizer, merges: list[tuple[str, str]]) -> list[str]:
    lost = [MOSES, OPENING, SPELLED, NOT_NORMALIZED, COUNTS]
    known = {
        fields[0]
        for line in tokenizer.vocabulary.decode().split("\n")
        if len(fields := [field for field in line.split(" ") if field]) == 2
    }
    if lacking := _num_lacking(merges, known):
        lost.append(
            f"{lacking:,} of {len(merges):,} codes make a piece that the vocabulary lacks: where "
            f"one is left over, xlm takes it apart, as fastBPE does; XLMTokenizer gives <unk>"
        )
    if beyond := len(known - set(tokenizer.pieces)):
        lost.append(
            f"{beyond:,} pieces of the vocabulary file that have no id (max_vocab, min_count, or "
            f"lines that the original skips)"
        )
    if torn := sum(len(f"{left} {right}".split()) != 2 for left, right in merges):
        lost.append(f"{torn:,} codes hold white space: XLMTokenizer reads them as others")
    if repeated := len(merges) - len(set(merges)):
        lost.append(f"{repeated:,} codes are repeated: XLMTokenizer takes the later rank")
    if spelled := sorted({left + right for left, right in merges} & set(SPECIALS)):
        lost.append(
            f"codes make {', '.join(spelled)} inside a word: XLMTokenizer gives the special token"
        )
    return lost


def _num_lacking(merges: list[tuple[str, str]], known: Container[str]) -> int:
    return sum(_piece(left + right) not in known for left, right in merges)


def read_xlm_tokenizer(folder: str | Path) -> tuple[FastBpeTokenizer, list[str]]:
    """Return the tokenizer of vocab.json and merges.txt, and one line for each difference.

    The ids are the files'; text is segmented as the model's training text was, by fastBPE
    restricted to the vocabulary. Raises DataError, with file and line, for ids that are not 0, 1, 2
    ..., special tokens in another place than XLM's, pieces that a vocabulary file cannot hold, and
    merges that are not pairs.
    """
    folder = Path(folder)
    pieces = _read_pieces(folder / PIECES)
    codes = _read_merges(folder / MERGES)
    vocabulary = "".join(f"{piece} 0\n" for piece in pieces[len(SPECIALS) :])
    tokenizer = FastBpeTokenizer(codes, vocabulary.encode())
    assert tokenizer.pieces == tuple(pieces)
    return tokenizer, _different(folder, tokenizer, codes)


def _different(folder: Path, tokenizer: FastBpeTokenizer, codes: bytes) -> list[str]:
    merges = [(left.decode(), right.decode()) for left, right in _merges(codes)]
    told = _read_object(folder / SETTINGS)[0] if (folder / SETTINGS).exists() else {}
    mask = tokenizer.pieces[tokenizer.mask_id]
    if (named := _token(told, "mask_token", mask)) != mask:
        raise DataError(
            f"{folder / SETTINGS}: mask_token is {named!r}, expected {mask!r} as in XLM"
        )
    lines = [
        "XLMTokenizer runs the Moses tokenizer before the codes and xlm does not: give text that "
        "was prepared as the model's training text",
        "the counts of codes and vocabulary, which these files do not have: they are 0 here",
    ]
    if lacking := _num_lacking(merges, set(tokenizer.pieces)):
        lines.append(
            f"{lacking:,} of {len(merges):,} codes make a piece that the vocabulary lacks: "
            f"XLMTokenizer gives <unk> for it, xlm takes it apart as the original's fastBPE did"
        )
    if told.get("do_lowercase_and_remove_accent", True):
        lines.append(
            "XLMTokenizer lowercases text and strips accents for this model "
            "(do_lowercase_and_remove_accent) and xlm does not: do it to the text before"
        )
    if (begin := _token(told, "bos_token", "<s>")) != "</s>":
        lines.append(f"XLMTokenizer opens a sentence with {begin}; xlm with </s>, as the original")
    return lines


def _token(told: Mapping[str, Any], name: str, default: str) -> Any:
    """Return a special token of tokenizer_config.json: a string, or an object with its content."""
    value = told.get(name)
    value = value.get("content") if isinstance(value, Mapping) else value
    return default if value is None else value


def _read_pieces(path: Path) -> list[str]:
    ids, text = _read_object(path)

    def line(key: str) -> int:
        """Return the line of the key's first occurrence; 1 if it is written in another way."""
        spelled = (json.dumps(key, ensure_ascii=plain) for plain in (False, True))
        found = [at for s in spelled if (at := text.find(s + ":")) >= 0]
        return text[: found[0]].count("\n") + 1 if found else 1

    pieces: dict[int, str] = {}
    expected = f"expected 0 to {len(ids) - 1:,}, each once"
    for key, at in ids.items():
        if type(at) is not int or not 0 <= at < len(ids):
            raise DataError(f"{path}:{line(key)}: {key!r} has id {at!r}: {expected}")
        if at in pieces:
            raise DataError(
                f"{path}:{line(key)}: {key!r} has id {at}, which {pieces[at]!r} has too: {expected}"
            )
        pieces[at] = key
    return _checked_pieces(path, [pieces[at] for at in range(len(pieces))], line)


def _checked_pieces(path: Path, keys: list[str], line: Callable[[str], int]) -> list[str]:
    """Return the keys in the order of their ids, as pieces of a vocabulary file."""
    if len(keys) <= len(SPECIALS):
        raise DataError(
            f"{path}: found {len(keys)} pieces, expected more than XLM's 14 special tokens"
        )
    for at, (special, key) in enumerate(zip(SPECIALS, keys, strict=False)):
        if key != special:
            raise DataError(
                f"{path}:{line(key)}: id {at} is {key!r}: expected {special}, as in XLM's "
                f"vocabularies"
            )
    pieces = list(keys[: len(SPECIALS)])
    seen: dict[str, str] = {piece: piece for piece in pieces}
    for key in keys[len(SPECIALS) :]:
        piece = _piece(key)
        if not _can_be_written(piece) or (key.endswith(END) and _key(piece) != key):
            raise DataError(
                f"{path}:{line(key)}: {key!r} cannot be a piece in a vocabulary file: "
                f"expected Unicode without white space, and no word that ends in {INSIDE}"
            )
        if piece in seen:
            raise DataError(
                f"{path}:{line(key)}: {key!r} becomes the piece {piece!r} in a vocabulary "
                f"file, as does {seen[piece]!r}"
            )
        seen[piece] = key
        pieces.append(piece)
    return pieces


def _can_be_written(piece: str) -> bool:
    return piece.split() == [piece] and piece.encode("utf-8", "replace").decode() == piece


def _read_merges(path: Path) -> bytes:
    """Return the merges as codes: with the file's counts if it has them, else 0."""
    content = _read(path)
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    codes = []
    for number, line in enumerate(lines, 1):
        fields = [field for field in line.split(b" ") if field]
        found = line.decode("utf-8", "replace")
        is_pair = len(fields) == 2 or (len(fields) == 3 and fields[2].isdigit())
        if not is_pair or found.encode() != line:
            raise DataError(
                f"{path}:{number}: found {found[:80]!r}, expected 'left right' in UTF-8"
            )
        codes.append(b" ".join((*fields, b"0")[:3]) + b"\n")
    return b"".join(codes)


def _read_object(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = _read(path).decode()
        content = strict_json.parse(text)
    except JsonError as error:
        raise DataError(f"{path}{error.suffix}: is not JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content, text


def _read(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"{path}: {size:,} bytes, expected a file of a tokenizer")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}): a model in XLM's shape has {PIECES} and "
            f"{MERGES}"
        ) from None
