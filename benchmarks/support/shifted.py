"""Id-shifted English: a second language whose alignment with the first is known exactly.

Every ordinary id of the second language is that of the first plus a constant; nothing is shared but
the special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError
from xlm.reproduce.shifted import ShiftedTokenizer
from xlm.rng import Random
from xlm.text.tokenizers.fastbpe import END, INSIDE, FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.tokenizer import Tokenizer

FIRST, SECOND = "en", "xx"

PLANE = 0xF0000
"""A plane of Unicode for private use: the second language's alphabet, as text."""
LAST = 0xFFFD
"""Characters beyond the basic plane are written as this one: no vocabulary here has them."""


def respelled(text: str) -> str:
    """The same text in the second language, as text: another alphabet, the same spaces."""
    return "".join(c if c == " " else chr(PLANE + min(ord(c), LAST)) for c in text)


def with_twins(tokenizer: FastBpeTokenizer) -> FastBpeTokenizer:
    """Codes and vocabulary of both languages: each entry is followed by its respelled twin.

    So the ids of a respelled text are those of the text plus one; only special tokens are shared.
    """
    codes, vocabulary = [], []
    for line in tokenizer.codes.decode().splitlines():
        left, right, count = line.split(" ")
        codes += [line, f"{_twin(left, END)} {_twin(right, END)} {count}"]
    for line in tokenizer.vocabulary.decode().splitlines():
        entry, count = line.split(" ")
        vocabulary += [line, f"{_twin(entry, INSIDE)} {count}"]
    return FastBpeTokenizer(
        "".join(f"{line}\n" for line in codes).encode(),
        "".join(f"{line}\n" for line in vocabulary).encode(),
    )


def _twin(symbol: str, mark: str) -> str:
    return respelled(symbol.removesuffix(mark)) + (mark if symbol.endswith(mark) else "")


def check_twins(tokenizer: Tokenizer, lines: Iterable[str]) -> int:
    """How many tokens were compared; raises ConfigError where a respelled line is not shifted."""
    num = 0
    for line in lines:
        first, second = tokenizer.encode(line), tokenizer.encode(respelled(line))
        moved = [at if at in tokenizer.special_ids else at + 1 for at in first]
        if second != moved:
            raise ConfigError(f"ids of {line[:60]!r} are not shifted: {second} for {first}")
        num += len(first)
    return num


def crops(
    lines: Iterable[str], tokenizer: Tokenizer, num: int, shortest: int, longest: int, seed: int
) -> list[NDArray[np.int64]]:
    """``num`` pieces of ``shortest`` to ``longest`` tokens, cut at random from the running text."""
    text = np.concatenate([np.array(tokenizer.encode(line), dtype=np.int64) for line in lines])
    if len(text) <= longest:
        raise ConfigError(f"{len(text)} tokens of text: crops of {longest} need more")
    random = Random(seed, "crops")
    lengths = shortest + random.integers(num, longest - shortest + 1)
    starts = (random.uniform(num) * (len(text) - lengths)).astype(np.int64)
    return [text[s : s + n] for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)]


def corpora(
    train: Sequence[str],
    valid: Sequence[str],
    *,
    vocab_size: int,
    num: int,
    num_held_out: int = 500,
    seed: int = 0,
) -> Corpora:
    """Return texts and pairs of both languages, made of ``num`` training crops of 8 to 32 tokens.

    The ``valid`` pairs are true, the ``test`` pairs the same with the second sentences moved on by
    one: every sentence has the wrong partner.
    """
    tokenizer = ShiftedTokenizer(learn_sentencepiece(train, vocab_size))
    texts: dict[tuple[str, str], Corpus] = {}
    pairs: dict[tuple[str, str], Pairs] = {}
    for split, lines, size in (("train", train, num), ("valid", valid, num_held_out)):
        sentences = crops(lines, tokenizer, size, 8, 32, seed)
        first = Corpus.from_sentences(sentences, language=FIRST, tokenizer=tokenizer)
        second = [tokenizer.shifted(ids) for ids in sentences]
        texts[split, FIRST] = first
        texts[split, SECOND] = Corpus.from_sentences(second, language=SECOND, tokenizer=tokenizer)
        pairs[split, f"{FIRST}-{SECOND}"] = Pairs(first, texts[split, SECOND])
        if split == "valid":
            moved = Corpus.from_sentences(
                second[1:] + second[:1], language=SECOND, tokenizer=tokenizer
            )
            pairs["test", f"{FIRST}-{SECOND}"] = Pairs(first, moved)
    return Corpora(tokenizer, [FIRST, SECOND], texts=texts, pairs=pairs)
