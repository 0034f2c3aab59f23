"""SentencePiece models as ``tokenizer.json`` of Hugging Face's ``tokenizers`` library.

The pieces keep their scores, or the merges that they come from, and their ids. Text is first put
into xlm's normal form.
"""

from __future__ import annotations

import re
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from xlm.errors import ConfigError
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

SPACE = "\u2581"
"""Sign for a space in SentencePiece's pieces."""
CONTROLS = r"\x00-\x1f\x7f" + "\u0080-\u009f\u2028\u2029"
"""Characters that the normal form turns into spaces: C0, DEL, C1, line/paragraph separators."""
SPACES = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
MARK = "\ufeff"
"""Byte order mark."""
_NORMAL, _USER_DEFINED = 1, 4
_UNIGRAM, _BPE = 1, 2


def sentencepiece_json(tokenizer: SentencePieceTokenizer) -> tuple[bytes, list[str]]:
    """Return ``tokenizer.json``, and one line for each thing that is different.

    Sentences and pairs get the tokenizer's layout, by default XLM's ``</s> a </s>`` and ``</s> a
    </s> b </s>``. Raises ConfigError for
    models that xlm does not learn: with a normalization of their own, user-defined symbols, or
    pieces that are words or characters.
    """
    protobuf: Any = sentencepiece_model_pb2
    proto = protobuf.ModelProto.FromString(tokenizer.model)
    _check(proto)
    pieces = list(proto.pieces)
    made = Tokenizer(_unigram(proto, tokenizer) if _is_unigram(proto) else _bpe(proto, tokenizer))
    rules: list[Any] = [
        *_normal_form(),
        # the sign itself is stripped at the end, as spaces are, and gets a space at the start
        normalizers.Replace(Regex(rf"[ {SPACE}]+\z"), ""),
        normalizers.Replace(Regex(rf"\A{SPACE}"), f" {SPACE}"),
    ]
    cuts: list[Any] = [
        pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    ]
    if _is_unigram(proto) and (pattern := _spelled(pieces)):
        if proto.trainer_spec.byte_fallback:
            cuts.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
        else:  # adjacent unknown characters are one unknown piece, so do not cut between them
            rules.append(normalizers.Replace(Regex(pattern), _unknown_character(pieces)))
    made.normalizer = normalizers.Sequence(rules)
    made.pre_tokenizer = cuts[0] if len(cuts) == 1 else pre_tokenizers.Sequence(cuts)
    word = decoders.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    made.decoder = decoders.Sequence([decoders.ByteFallback(), word])
    made.post_processor = _layout(tokenizer)
    specials = [pieces[at].piece for at in sorted(tokenizer.special_ids)]
    made.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    lost = []
    if _is_unigram(proto):
        lost.append(
            "the unigram model adds scores in float64 there and in float32 in SentencePiece: of "
            "two segmentations with equal scores the other may win"
        )
    return made.to_str(pretty=True).encode(), lost


def _layout(tokenizer: SentencePieceTokenizer) -> Any:
    """Return the template of the tokenizer's sentences and merged pairs (``Tokenizer.wrap``)."""
    begin, end = tokenizer.pieces[tokenizer.begin_id], tokenizer.pieces[tokenizer.end_id]
    of_separators = 1 if begin == end else 0
    between = f" {end}:{of_separators}" * tokenizer.num_separators
    again = f" {begin}:1" if tokenizer.begins_again else ""
    return processors.TemplateProcessing(
        single=f"{begin}:0 $A:0 {end}:0",
        pair=f"{begin}:0 $A:0{between}{again} $B:1 {end}:1",
        special_tokens=sorted({(begin, tokenizer.begin_id), (end, tokenizer.end_id)}),
    )


def _normal_form() -> list[Any]:
    """Return the rules of ``xlm.text.normalize.normalize``.

    Text reaches a tokenizer.json without passing that function.
    """
    return [
        normalizers.Replace(Regex(f"[{CONTROLS}]"), " "),
        normalizers.NFC(),
        normalizers.Replace(Regex(f"[{SPACES}]+"), " "),
        normalizers.Replace(Regex(r"\A "), ""),
        normalizers.Replace(Regex(rf"\A{MARK}[{MARK} ]*"), ""),
    ]


def _check(proto: Any) -> None:
    normalizer, trainer = proto.normalizer_spec, proto.trainer_spec
    reasons = {
        "is made of words or characters": trainer.model_type not in (_UNIGRAM, _BPE),
        f"normalizes text ({normalizer.name})": bool(normalizer.precompiled_charsmap),
        "puts no space before the first word": not normalizer.add_dummy_prefix,
        "keeps repeated spaces": not normalizer.remove_extra_whitespaces,
        "does not mark spaces": not normalizer.escape_whitespaces,
        "marks spaces behind words": trainer.treat_whitespace_as_suffix,
        "lets pieces span words": not trainer.split_by_whitespace,
        "has user-defined symbols": any(piece.type == _USER_DEFINED for piece in proto.pieces),
    }
    for reason, found in reasons.items():
        if found:
            raise ConfigError(
                f"a SentencePiece model that {reason} cannot become a tokenizer.json here: "
                f"expected one as xlm learns it; keep this model in xlm's own format"
            )


def _is_unigram(proto: Any) -> bool:
    return bool(proto.trainer_spec.model_type == _UNIGRAM)


def _unigram(proto: Any, tokenizer: SentencePieceTokenizer) -> Any:
    """Return a unigram model that never segments text into symbols.

    Their score is lower than that of any path of characters.
    """
    lowest = min(piece.score for piece in proto.pieces if piece.type == _NORMAL)
    longest = max(len(piece.piece) for piece in proto.pieces if piece.type != _NORMAL)
    never = longest * min(lowest, 0.0) - 1.0
    return models.Unigram(
        [(piece.piece, piece.score if piece.type == _NORMAL else never) for piece in proto.pieces],
        unk_id=tokenizer.unk_id,
        byte_fallback=bool(proto.trainer_spec.byte_fallback),
    )


def _spelled(pieces: list[Any]) -> str:
    """Return a pattern for one character of each symbol that its score alone does not exclude.

    The score fails if a character of the symbol is in no piece: an unknown character costs more
    than any symbol. Such a character is in no longer piece either, so cutting there, or replacing
    it by another unknown character, changes nothing else.
    """
    known = {piece.piece for piece in pieces if piece.type == _NORMAL}
    after: dict[tuple[str, str], list[str]] = {}
    for piece in pieces:
        if piece.type == _NORMAL:
            continue
        symbol = piece.piece
        at = next((at for at, char in enumerate(symbol) if char not in known), None)
        if at is not None:
            after.setdefault((symbol[:at], symbol[at]), []).append(symbol[at + 1 :])
    return "|".join(
        f"{f'(?<={re.escape(before)})' if before else ''}{re.escape(char)}"
        f"(?={'|'.join(map(re.escape, rests))})"
        for (before, char), rests in after.items()
    )


def _unknown_character(pieces: list[Any]) -> str:
    known = set("".join(piece.piece for piece in pieces))
    return next(char for char in map(chr, range(0xFFFD, 0x10FFFF)) if char not in known)


def _bpe(proto: Any, tokenizer: SentencePieceTokenizer) -> Any:
    """Return a BPE model with a merge for every split of a piece in two, in the order of scores."""
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}
    merges = [
        (piece[:at], piece[at:])
        for piece in sorted(scores, key=lambda piece: -scores[piece])
        for at in range(1, len(piece))
        if piece[:at] in scores and piece[at:] in scores
    ]
    return models.BPE(
        {piece: at for at, piece in enumerate(tokenizer.pieces)},
        merges,
        unk_token=tokenizer.pieces[tokenizer.unk_id],
        fuse_unk=True,
        byte_fallback=bool(proto.trainer_spec.byte_fallback),
    )
