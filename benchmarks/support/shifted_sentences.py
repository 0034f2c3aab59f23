"""English and its shift as text without pairs: the corpora of unsupervised_shifted.py.

Words are lower-cased and parted from marks and digits, so that all letters can be respelled
(shifted.py); what is held out is in exact pairs, and no training sentence's translation is read.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.finetuning_shifted import AWKWARD, BOTH, PAIR, spoken
from benchmarks.support import downstream, shifted
from xlm.errors import DataError
from xlm.metrics.translation import corpus_scores
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
CLAUSE = re.compile(r"(?<=[,.;:!?])\W*\s")
DIRECTIONS = (PAIR, "-".join(reversed(BOTH)))
MOST_SHARED = 0.1
"""Of the running tokens: with more, the two languages are told from what they share."""


def moved(words: Sequence[str], every: int) -> list[str]:
    """The middle two of each ``every`` words change places; twice gives the words again."""
    found = list(words)
    for start in range(0, len(found) - every + 1, every):
        at = start + every // 2
        found[at - 1], found[at] = found[at], found[at - 1]
    return found


def word_by_word(line: str) -> str:
    """A line of words in the second language's alphabet, in the first one's order."""
    return " ".join(shifted.respelled(w) if w.isalpha() else w for w in line.split(" "))


def translated(line: str, every: int) -> str:
    """A line of words in the second language: words of letters respelled, order changed."""
    return " ".join(moved(word_by_word(line).split(" "), every))


def clauses(lines: Iterable[str]) -> list[tuple[str, ...]]:
    """The words of lower-cased lines, parted after marks, without marks at the ends; each once."""
    found: dict[tuple[str, ...], None] = {}
    for line in lines:
        for part in CLAUSE.split(line.lower()):
            words = WORD.findall(part)
            letters = [at for at, word in enumerate(words) if word.isalpha()]
            if letters and not AWKWARD.search(part):
                found[tuple(words[letters[0] : letters[-1] + 1])] = None
    return list(found)


def sentences(
    lines: Iterable[str], shortest: int, longest: int, num_words: int, seed: int
) -> list[str]:
    """Clauses of so many words, all of them among the ``num_words`` commonest, in random order.

    At most one word in five is of anything but letters.
    """
    found = clauses(lines)
    counts = Counter(word for own in found for word in own if word.isalpha())
    common = {word for word, _ in counts.most_common(num_words)}
    kept = []
    for words in found:
        others = [word for word in words if word not in common]
        fits = shortest <= len(words) <= longest and 5 * len(others) <= len(words)
        if fits and not any(word.isalpha() for word in others):
            kept.append(" ".join(words))
    random.Random(seed).shuffle(kept)
    return kept


def shared(tokenizer: Tokenizer, first: Iterable[str], second: Iterable[str]) -> float:
    """The share of both sides' running tokens whose id the other side's text has too."""
    sides = [[at for line in lines for at in tokenizer.encode(line)] for lines in (first, second)]
    common = set(sides[0]) & set(sides[1])
    return sum(at in common for side in sides for at in side) / sum(map(len, sides))


def copy_bleu(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    """What the source, taken for its translation, is worth, by direction."""
    sides = ((first, second), (second, first))
    return {
        direction: corpus_scores(source, target).bleu.score
        for direction, (source, target) in zip(DIRECTIONS, sides, strict=True)
    }


def files(folder: Path, data: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Text, vocabulary and corpora of both languages, and what is to be known of them.

    ``sizes``: lines read, words of the shortest and longest, how many words there are, pairs held
    out (valid, test), most sentences a side, merges, words that hold one change of order. Raises
    DataError for too little text or too much that is shared.
    """
    facts = folder / "data.json"
    if facts.exists():
        known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        return known
    english = downstream.lines_of(data / "mono/en/train.txt", sizes["lines"])
    kept = sentences(english, sizes["shortest"], sizes["longest"], sizes["words"], 0)
    num_held = sizes["valid"] + sizes["test"]
    size = min(sizes["most"], (len(kept) - num_held) // 2)
    if size < num_held:
        raise DataError(
            f"found {len(kept)} sentences, expected at least {3 * num_held}: read more lines, "
            "or allow longer ones or more words"
        )
    held = {"valid": kept[: sizes["valid"]], "test": kept[sizes["valid"] : num_held]}
    first, other = kept[num_held : num_held + size], kept[num_held + size : num_held + 2 * size]
    every = sizes["every"]
    second = [translated(line, every) for line in other]
    tokenizer = shifted.with_twins(learn_fastbpe_tokenizer(first + other, sizes["merges"]))
    letters = (" ".join(w for w in line.split(" ") if w.isalpha()) for line in first)
    shifted.check_twins(tokenizer, letters)
    share = shared(tokenizer, first, second)
    if share > MOST_SHARED:
        raise DataError(
            f"{share:.1%} of the running tokens are shared, expected at most {MOST_SHARED:.0%}: "
            "take shorter sentences or fewer merges"
        )
    sides = {"train": (first, second)}
    sides |= {split: (own, [translated(x, every) for x in own]) for split, own in held.items()}
    tokenizer.save(folder / "tokenizer")
    prepared(folder, sides)
    known = {
        "sentences_a_side": size,
        "tokens_a_side": sum(len(tokenizer.encode(line)) for line in first),
        "vocabulary": tokenizer.vocab_size,
        "shared_tokens": share,
        "copy_bleu": copy_bleu(*sides["test"]),
        "word_by_word_bleu": corpus_scores(
            [word_by_word(line) for line in held["test"]], sides["test"][1]
        ).bleu.score,
    }
    facts.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def prepared(folder: Path, sides: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
    """Write the text of each split and binarize it; training text is in no pair."""
    (folder / "text").mkdir(parents=True, exist_ok=True)
    names: dict[str, dict[str, str]] = {}
    for split, both in sides.items():
        names[split] = {}
        for language, lines in zip(BOTH, both, strict=True):
            path = spoken(folder / "text" / split, language)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            names[split][language] = str(path)
    held = {split: {PAIR: [*names[split].values()]} for split in ("valid", "test")}
    prepare(
        Prepare(
            folder=str(folder / "corpora"),
            text=Texts(train=names["train"], valid=names["valid"], test=names["test"]),
            pairs=Aligned(**held),
            vocabulary=Vocabulary(
                kind="fastbpe",
                codes=str(folder / "tokenizer/codes"),
                vocab=str(folder / "tokenizer/vocab"),
            ),
            workers=1,
            replace=True,
        )
    )
