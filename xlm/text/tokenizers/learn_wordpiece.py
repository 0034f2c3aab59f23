"""Learning a WordPiece vocabulary as BERT has one: cased, accents kept, ``##`` inside words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from xlm.errors import ConfigError, DataError
from xlm.text.tokenizers.hugging_face import HuggingFaceTokenizer, from_json
from xlm.text.tokenizers.hugging_face_files import wordpiece_json

SYMBOLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
"""The first ids."""
INSIDE = "##"
MOST_CHARACTERS = 1000
"""Characters that may be pieces, the most frequent ones; words with others are unknown (the
default of the package ``tokenizers``)."""


def learn_wordpiece(lines: Iterable[str], vocab_size: int) -> HuggingFaceTokenizer:
    """Return a tokenizer of ``vocab_size`` entries, symbols included, learned on normalized lines.

    The same lines give the same vocabulary. Raises ConfigError for a size that the text cannot
    give, with the largest or smallest possible, DataError if there is no line.
    """
    lines = list(lines)
    learner = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    first, inside = _characters(lines, learner)
    # characters inside words are given as symbols: else their ids, and by them the choice between
    # equally frequent pieces, would follow the order of a hash table
    learner.train_from_iterator(
        lines,
        vocab_size=vocab_size,
        min_frequency=1,
        limit_alphabet=len(first),
        initial_alphabet=first,
        special_tokens=SYMBOLS + [INSIDE + character for character in inside],
        show_progress=False,
    )
    ids = learner.get_vocab()
    if len(ids) == len(SYMBOLS):
        raise DataError("there is no line to learn a vocabulary from")
    if len(ids) != vocab_size:
        problem = (
            f"the text yields at most {len(ids)}: lower it, or add text"
            if len(ids) < vocab_size
            else f"characters and special tokens alone take {len(ids)}: raise it to that"
        )
        raise ConfigError(f"vocabulary.size {vocab_size}: {problem}")
    listed = "".join(f"{piece}\n" for piece in sorted(ids, key=ids.__getitem__))
    settings = {"do_lower_case": False, "strip_accents": False}
    content = wordpiece_json(listed.encode(), settings, Path("vocab.txt"))
    return from_json(content, {})


def _characters(lines: list[str], learner: BertWordPieceTokenizer) -> tuple[list[str], list[str]]:
    """Return the most frequent characters, and those of them that stand inside words."""
    words: Counter[str] = Counter()
    for line in lines:
        text = learner.normalizer.normalize_str(line)
        words.update(word for word, _ in learner.pre_tokenizer.pre_tokenize_str(text))
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for word, count in words.items():
        counts.update(dict.fromkeys(word, count))
        inside.update(word[1:])
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    chosen = sorted(ordered[:MOST_CHARACTERS])
    return chosen, [character for character in chosen if character in inside]
