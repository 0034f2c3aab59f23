"""Scores of translations: BLEU, chrF, and rates that expose copying or silent translators.

BLEU and chrF are sacreBLEU's, which splits both sides into words itself, so that figures of
different papers are comparable. Tokenized BLEU takes the tokens between whitespace, as Moses'
multi-bleu.perl does, whose figures the papers of XLM report.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import get_args

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest, Result

from xlm.errors import ConfigError, DataError, first_line
from xlm.metrics.words import Tokenization

SEED = 12345
"""Default seed of sacreBLEU, so that intervals are those of its command line."""
SEED_VARIABLE = "SACREBLEU_SEED"
MOST_DRAWS = 20_000_000
"""Most lines times resamples: sacreBLEU holds the counts of all of them at once, 80 bytes each."""

UNKNOWN = "<unk>"
_NO_TOKEN = "\U0010ffff"
"""A token that no text contains: Unicode will never make it a character."""
_NO_SPACES = {
    ord(space): chr(0x10FF00 + at)
    for at, space in enumerate(filter(str.isspace, map(chr, range(0x3001))))
    if not space.encode().isspace()
}
"""Whitespace to Python, such as U+00A0, but not to programs that read bytes: mapped to others."""


@dataclass(frozen=True)
class Score:
    """A metric of one system's translations."""

    score: float
    """The score, 0 to 100."""
    mean: float | None
    """The mean over resamples of the lines; None if there were none."""
    interval: float | None
    """Half the width of the resamples' 95 % interval; None if there were none."""
    signature: str
    """Everything that the figure depends on, as sacreBLEU writes it."""


@dataclass(frozen=True)
class TranslationScores:
    """Every figure of one system's translations."""

    bleu: Score
    """BLEU of sacreBLEU."""
    chrf: Score
    """sacreBLEU's chrF2: n-grams of up to 6 characters, recall weighing twice; or chrF++."""
    tokenized_bleu: Score
    """BLEU of ``multi_bleu``."""
    length_ratio: float
    """Tokens of the hypotheses over those of the references, between whitespace; 0 without any."""


@dataclass(frozen=True)
class Compared:
    """A metric of one system, beside the baseline's."""

    score: float
    mean: float
    """The mean over resamples of the lines."""
    interval: float
    """Half the width of the resamples' 95 % interval."""
    p_value: float | None
    """Probability of such a difference from the baseline by chance; None for the baseline."""


def multi_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return corpus BLEU of 1 to 4 tokens in percent, by value as Moses' multi-bleu.perl prints it.

    Tokens are separated by ASCII whitespace, case counts, matches are clipped and summed over all
    lines, nothing is smoothed: 0 if n-grams of some length never match. A token of a reference with
    ``<unk>`` in it matches nothing (docs/fidelity.md, A9). Raises DataError if the numbers of lines
    differ or are 0, ConfigError for a text in place of lines.
    """
    _check(hypotheses, references)
    return float(_token_bleu().corpus_score(*_as_tokens(hypotheses, references)).score)


def corpus_scores(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: Tokenization = "13a",
    chrf_words: int = 0,
    num_resamples: int = 0,
    seed: int = SEED,
) -> TranslationScores:
    """Return BLEU and chrF of plain text, BLEU of tokens, and the length ratio.

    chrF counts n-grams of up to ``chrf_words`` words too (2: chrF++, Popović 2017).
    ``num_resamples`` of the lines give 95 % intervals (0: none). Raises DataError and ConfigError
    as ``multi_bleu``, and for too few or too many lines or resamples.
    """
    _check(hypotheses, references)
    if num_resamples:
        _check_resampling(len(references), num_resamples, seed)
    metrics = _metrics(tokenize, chrf_words)
    scores = _scores(metrics, hypotheses, [references], num_resamples, seed)
    tokens, expected = _as_tokens(hypotheses, references)
    tokenized = _scores({"BLEU": _token_bleu()}, tokens, expected, num_resamples, seed)["BLEU"]
    drawn = f"bs:{num_resamples}|seed:{seed}|" if num_resamples else ""
    signature = f"nrefs:1|{drawn}case:mixed|eff:no|tok:white-space|smooth:none|as:multi-bleu.perl"
    num_found, num_expected = (
        sum(len(line.split()) for line in own) for own in (tokens, *expected)
    )
    return TranslationScores(
        bleu=scores["BLEU"],
        chrf=scores["chrF2"],
        tokenized_bleu=replace(tokenized, signature=signature),
        length_ratio=num_found / num_expected if num_expected else 0.0,
    )


def chrf_name(chrf_words: int) -> str:
    """Return the name of chrF that counts n-grams of so many words too, as sacreBLEU has it."""
    return "chrF2" + "+" * chrf_words


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    tokenize: Tokenization = "13a",
    num_resamples: int = 1000,
    seed: int = SEED,
) -> dict[str, dict[str, Compared]]:
    """Compare systems with the first by sacreBLEU's paired bootstrap (Koehn, 2004).

    The result, by system and then by metric (``BLEU`` and ``chrF2``), tells if they differ by more
    than chance. For equal scores the p-value is 1 (sacreBLEU would give its smallest to two equal
    systems). Raises DataError and ConfigError as ``corpus_scores``, and for fewer than two systems.
    """
    if len(systems) < 2:
        raise ConfigError(
            f"found {len(systems)} system, expected a baseline and at least one to compare with it"
        )
    for name, hypotheses in systems.items():
        _check(hypotheses, references, f"hypotheses of {name}")
    _check_resampling(len(references), num_resamples, seed)
    _, found = _test(_metrics(tokenize), systems, [references], num_resamples, seed)
    return {
        name: {
            metric: Compared(*_numbers(own[at]), _p_value(own[at], own[0]))
            for metric, own in found.items()
        }
        for at, name in enumerate(systems)
    }


def copy_rate(sources: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the share of hypotheses, 0 to 1, that equal their source except for whitespace.

    An empty one is not a copy. Raises as ``multi_bleu``.
    """
    _check(hypotheses, sources, others="sources")
    pairs = [(one.split(), two.split()) for one, two in zip(sources, hypotheses, strict=True)]
    return sum(bool(two) and one == two for one, two in pairs) / len(pairs)


def copied_tokens(sources: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the share of all the hypotheses' tokens, 0 to 1, that are in their source.

    Tokens are separated by whitespace; each counts at most as often as the source has it. 0 without
    tokens. Raises as ``multi_bleu``.
    """
    _check(hypotheses, sources, others="sources")
    num_copied = num_tokens = 0
    for source, hypothesis in zip(sources, hypotheses, strict=True):
        tokens = Counter(hypothesis.split())
        num_tokens += tokens.total()
        num_copied += (tokens & Counter(source.split())).total()
    return num_copied / num_tokens if num_tokens else 0.0


def empty_rate(hypotheses: Sequence[str]) -> float:
    """Return the share of hypotheses, 0 to 1, of whitespace alone. Raises as ``multi_bleu``."""
    _check(hypotheses, hypotheses)
    return sum(not hypothesis.split() for hypothesis in hypotheses) / len(hypotheses)


def _check(
    hypotheses: Sequence[str],
    lines: Sequence[str],
    name: str = "hypotheses",
    others: str = "references",
) -> None:
    for what, found in ((name, hypotheses), (others, lines)):
        if isinstance(found, str):
            raise ConfigError(f"{what}: found one text, expected a list of lines")
    if len(hypotheses) != len(lines):
        raise DataError(
            f"{len(hypotheses):,} {name} and {len(lines):,} {others}: expected the same "
            "number; check where they diverge"
        )
    if not hypotheses:
        raise DataError(f"found no {name}: expected at least one line")


def _check_resampling(num_lines: int, num_resamples: int, seed: int) -> None:
    if num_resamples < 2 or seed < 1:
        raise ConfigError(
            f"{num_resamples} resamples, seed {seed}: expected at least 2 resamples (1000 is "
            "usual), and a seed of at least 1 (sacreBLEU takes 0 for none)"
        )
    if num_lines < 2:
        raise DataError(
            "a single line cannot be resampled: give more lines, or leave the intervals out "
            "(resamples 0)"
        )
    if num_lines * num_resamples > MOST_DRAWS:
        raise ConfigError(
            f"{num_resamples:,} resamples of {num_lines:,} lines do not fit in memory at "
            f"once: expected at most {MOST_DRAWS // num_lines:,} resamples, or 0 for no "
            "intervals"
        )


def _as_tokens(
    hypotheses: Sequence[str], references: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return hypotheses, and references in sacreBLEU's order, for Python's ``split``."""
    expected = [
        " ".join(_NO_TOKEN if UNKNOWN in token else token for token in line.split())
        for line in _without_other_spaces(references)
    ]
    return _without_other_spaces(hypotheses), [expected]


def _without_other_spaces(lines: Sequence[str]) -> list[str]:
    return [line.translate(_NO_SPACES) for line in lines]


def _token_bleu() -> BLEU:
    """Return the BLEU of tokens between whitespace, as multi-bleu.perl computes it."""
    return BLEU(tokenize="none", smooth_method="none", force=True)


def _metrics(tokenize: Tokenization, chrf_words: int = 0) -> dict[str, Metric]:
    """Return the metrics by the names of their results."""
    if tokenize not in get_args(Tokenization):
        raise ConfigError(
            f"tokenize {tokenize!r}: expected one of {', '.join(get_args(Tokenization))}"
        )
    try:
        # force: no warning, at each pass, that text looks tokenized
        return {"BLEU": BLEU(tokenize=tokenize, force=True), "chrF2": CHRF(word_order=chrf_words)}
    except (ImportError, RuntimeError, OSError) as error:  # a package, a dictionary, a download
        raise ConfigError(
            f"tokenize {tokenize}: sacreBLEU cannot use it here ({first_line(error)}); "
            "install its requirements, or choose char"
        ) from None


def _scores(
    metrics: Mapping[str, Metric],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    num_resamples: int,
    seed: int,
) -> dict[str, Score]:
    """Return the score of one system by each metric, with intervals if there are resamples."""
    if num_resamples:
        signatures, found = _test(metrics, {"": hypotheses}, references, num_resamples, seed)
        return {name: Score(*_numbers(own), signatures[name]) for name, (own,) in found.items()}
    scores = {}
    for name, metric in metrics.items():
        score = float(metric.corpus_score(hypotheses, references).score)
        scores[name] = Score(score, None, None, str(metric.get_signature()))
    return scores


def _test(
    metrics: Mapping[str, Metric],
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, str], dict[str, list[Result]]]:
    """Return signatures by metric, and results by metric in the order of the systems."""
    with _seeded(seed), _quiet():
        test = PairedTest(list(systems.items()), dict(metrics), references, "bs", num_resamples)
        signatures, results = test()
    found = {name: [own for own in results[name] if isinstance(own, Result)] for name in signatures}
    return {name: str(signature) for name, signature in signatures.items()}, found


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence sacreBLEU, which logs each pass."""
    logger = logging.getLogger("sacrebleu")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Set the seed in the environment, the only place where sacreBLEU reads it, then restore it."""
    before = os.environ.get(SEED_VARIABLE)
    os.environ[SEED_VARIABLE] = str(seed)
    try:
        yield
    finally:
        del os.environ[SEED_VARIABLE]
        if before is not None:
            os.environ[SEED_VARIABLE] = before


def _numbers(result: Result) -> tuple[float, float, float]:
    """Return score, mean and half the width of the interval."""
    assert result.mean is not None and result.ci is not None
    return float(result.score), float(result.mean), float(result.ci)


def _p_value(result: Result, baseline: Result) -> float | None:
    if result is baseline:
        return None
    assert result.p_value is not None
    return 1.0 if result.score == baseline.score else float(result.p_value)
