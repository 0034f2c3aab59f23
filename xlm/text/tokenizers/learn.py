"""Learning a shared vocabulary, on sentences that favor small languages.

    sources by language --count--> p --(p^alpha)--> draws --second pass--> lines --> learner

XLM section 3.1: sentences are drawn with q_i proportional to p_i^alpha, alpha = 0.5, p_i the share
of language i among all sentences.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from sentencepiece import SentencePieceTrainer

from xlm.errors import ConfigError, DataError, clipped, one_line
from xlm.rng import Permutation
from xlm.text.readers import ReadReport, open_lines
from xlm.text.tokenizers.learn_fastbpe import (
    count_words,
    fastbpe_vocabulary,
    learn_fastbpe,
    learn_fastbpe_tokenizer,
)
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

__all__ = [
    "allocate_draws",
    "count_lines",
    "count_words",
    "fastbpe_vocabulary",
    "learn_fastbpe",
    "learn_fastbpe_tokenizer",
    "learn_sentencepiece",
    "sample_lines",
]

_BLOCK = 1 << 13
_MAX_SENTENCE = 1 << 24
"""Bytes; no reader passes on a longer line, so that SentencePiece drops none in silence."""
_NUM_THREADS = 16
"""A fixed number (not that of the machine): sums over threads decide which piece is pruned."""

Source = str | Callable[[], Iterable[str]]
"""A source (see ``xlm.text.readers``), or a function that opens one anew."""
Sources = Mapping[str, Sequence[Source]]
"""The sources of each language."""


def _open(source: Source, report: ReadReport) -> Iterable[str]:
    return open_lines(source, report) if isinstance(source, str) else source()


def count_lines(sources: Sources, report: ReadReport | None = None) -> dict[str, int]:
    """Return the number of usable sentences of each language."""
    report = ReadReport() if report is None else report
    counts = {
        language: sum(1 for source in names for _ in _open(source, report))
        for language, names in sources.items()
    }
    for language, count in counts.items():
        if not count:
            account = f": {report.describe()}" if report.num_read else ""
            raise DataError(f"language {language!r} has no usable line of text{account}")
    return counts


def allocate_draws(counts: Mapping[str, int], alpha: float, num_draws: int) -> dict[str, int]:
    """Split ``num_draws`` with q_i proportional to p_i^alpha, by largest remainder.

    The split is exact (each share is the expected number rounded down or up) and adds up; of equal
    remainders the first language by name gets the sentence.
    """
    if num_draws < 1 or alpha < 0:
        raise ConfigError(f"num_draws {num_draws} and alpha {alpha}: expected >= 1 and >= 0")
    languages = sorted(counts)
    p = np.array([counts[language] for language in languages], dtype=np.float64)
    q = (p / p.sum()) ** alpha
    expected = q / q.sum() * num_draws
    draws = np.floor(expected).astype(np.int64)
    by_remainder = np.argsort(-np.round(expected - draws, 9), kind="stable")
    draws[by_remainder[: num_draws - int(draws.sum())]] += 1
    return {language: int(number) for language, number in zip(languages, draws, strict=True)}


def sample_lines(
    sources: Sources,
    *,
    alpha: float = 0.5,
    num_draws: int | None = None,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    report: ReadReport | None = None,
) -> Iterator[str]:
    """Draw ``num_draws`` sentences, by language as ``allocate_draws`` says.

    More draws than there are sentences would only repeat the text, and mean as many.

    Within a language sentences are drawn without replacement as far as they last: every sentence is
    served once per whole pass, and the rest of the draws fall on different sentences, chosen by a
    permutation at the address (seed, "vocabulary", language). Reads twice (once if the ``counts``
    of ``count_lines`` are given), in file order, in bounded memory. Raises DataError if a language
    has no usable line, or a source changed between the two readings.
    """
    if counts is None:
        counts = count_lines(sources, report)
        report = None
    total = sum(counts.values())
    draws = allocate_draws(counts, alpha, total if num_draws is None else min(num_draws, total))
    for language, names in sources.items():
        count = counts[language]
        num_passes, num_rest = divmod(draws[language], count)
        if not draws[language]:
            continue
        order = Permutation(count, seed, "vocabulary", language)
        report = ReadReport() if report is None else report
        lines = itertools.chain.from_iterable(_open(source, report) for source in names)
        start = 0
        while block := list(itertools.islice(lines, _BLOCK)):
            if start + len(block) > count:
                break
            chosen = order(np.arange(start, start + len(block))) < num_rest
            for line, extra in zip(block, chosen.tolist(), strict=True):
                yield from itertools.repeat(line, num_passes + extra)
            start += len(block)
        if start != count or block:
            raise DataError(
                f"the text of language {language!r} changed: first it had {count:,} lines, "
                f"now {'more' if block else f'{start:,}'}; let nothing write to it meanwhile"
            )


def learn_sentencepiece(
    lines: Iterable[str],
    vocab_size: int,
    *,
    kind: str = "unigram",
    byte_fallback: bool = True,
    character_coverage: float = 1.0,
    layout: Mapping[str, int] | None = None,
) -> SentencePieceTokenizer:
    """Learn a SentencePiece model (``unigram`` or ``bpe``) of ``vocab_size`` pieces.

    Ids as in XLM: ``<s>`` 0, ``</s>`` 1, ``<pad>`` 2, ``<unk>`` 3, ``<mask>`` 4; then 256 bytes
    (with ``byte_fallback``) and the pieces. ``character_coverage`` is the share of the text's
    characters that get a piece of their own, 0.98 or more, ``layout`` the settings of
    ``SentencePieceTokenizer``. Lines should be normalized; the same
    lines give the same model, byte for byte.
    Raises ConfigError for a size that the text cannot give, with the largest or smallest possible.
    """
    if kind not in ("unigram", "bpe"):
        raise ConfigError(f"kind {kind!r}: expected 'unigram' or 'bpe'")
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        raise DataError("there is no line to learn a vocabulary from")
    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=itertools.chain([first], lines),
            model_writer=written,
            model_type=kind,
            vocab_size=vocab_size,
            byte_fallback=byte_fallback,
            character_coverage=character_coverage,
            normalization_rule_name="identity",
            add_dummy_prefix=True,
            remove_extra_whitespaces=True,
            bos_id=0,
            eos_id=1,
            pad_id=2,
            unk_id=3,
            control_symbols=["<mask>"],
            max_sentence_length=_MAX_SENTENCE,
            num_threads=_NUM_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _explain(vocab_size, error) from None
    return SentencePieceTokenizer(written.getvalue(), **(layout or {}))  # type: ignore[arg-type]


def _explain(vocab_size: int, error: RuntimeError) -> ConfigError:
    message = one_line(error)
    if found := re.search(r"set it to a value <= (\d+)", message):
        return ConfigError(
            f"vocabulary.size {vocab_size}: the text yields at most {found[1]}: lower it, or "
            "add text"
        )
    if found := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return ConfigError(
            f"vocabulary.size {vocab_size}: characters, bytes and special tokens alone take "
            f"{found[1]}: raise it above that"
        )
    refused = clipped(message)
    return ConfigError(f"vocabulary.size {vocab_size}: SentencePiece rejects it: {refused}")
