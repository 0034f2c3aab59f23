"""Score files of translations against their references, and systems against each other.

Use as ``xlm.bleu.score_files(Bleu(...))``, ``xlm bleu HYPOTHESES REFERENCES`` or ``python -m
xlm.bleu``. Files are aligned line by line: empty lines count.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xlm import strict_json
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import ConfigError, DataError
from xlm.metrics.translation import (
    SEED,
    copied_tokens,
    copy_rate,
    corpus_scores,
    empty_rate,
    paired_bootstrap,
)
from xlm.metrics.words import Tokenization, Words, choose_words, script_words
from xlm.storage import write_whole
from xlm.tables import aligned
from xlm.text.readers import MAX_BYTES, decode_lines

_DETACHED = re.compile(r"\S\s+[.?!\u0964\u3002]\s*$")
_NAMES = {"bleu": "BLEU", "chrf": "chrF2", "tokenized_bleu": "tokenized BLEU"}


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """Score translations against references, and systems against each other.

    BLEU and chrF are sacreBLEU's, with signatures and 95 % intervals: give plain text, as a person
    would read it, not subwords or tokens. Tokenized BLEU counts the tokens between whitespace as
    Moses' multi-bleu.perl does, which XLM's papers report: compare it only between texts of one
    tokenizer.
    """

    hypotheses: str
    """The translations, one a line: a text file, plain or .gz, .zst, .bz2, .xz."""
    references: str
    """The reference translations, line by line; empty lines count."""
    other: list[str] = field(default_factory=list, metadata={"repeated": True})
    """Translations of another system (--other FILE --other FILE ... or [FILE, FILE]): test by the
    paired bootstrap if it differs from the first by more than chance."""
    source: str | None = None
    """The source text; adds the share of translations copied from it."""
    json: str | None = None
    """Write the figures into this file too."""
    tokenize: Literal[Tokenization, "auto"] = "auto"
    """Word splitting of sacreBLEU's BLEU: 13a, intl (by Unicode's classes), zh (Chinese), ja-mecab,
    ko-mecab, flores200 (subwords, which sacreBLEU fetches), char (every character), none (at
    whitespace); auto: by the language, or by the script of the references."""
    language: str | None = None
    """The language of the translations, such as zh, for tokenize: auto."""
    resamples: int = 1000
    """Resamples of the lines for intervals and for the paired bootstrap (0: no intervals)."""
    seed: int = SEED
    """The seed of the resamples; the default is sacreBLEU's, whose SACREBLEU_SEED is not read."""

    def __post_init__(self) -> None:
        systems = [self.hypotheses, *self.other]
        twice = [path for path in systems if systems.count(path) > 1]
        if twice:
            raise ConfigError(f"{twice[0]} is given twice: give every system once")
        if self.other and not self.resamples:
            raise ConfigError("other needs resamples: found 0, expected 2 or more (1000 is usual)")


def score_files(config: Bleu) -> dict[str, Any]:
    """Return the figures of ``config.hypotheses`` under ``scores`` and ``rates``.

    ``num_lines`` counts the lines, ``systems`` has the figures of every file in the paired
    bootstrap, and ``notes`` warns of anything that looks wrong. Raises ConfigError or DataError in
    one line.
    """
    references = read_lines(config.references)
    systems = {path: read_lines(path) for path in (config.hypotheses, *config.other)}
    for path, lines in systems.items():
        _check_aligned(path, lines, config.references, references)
    hypotheses = systems[config.hypotheses]
    rates = {"empty": empty_rate(hypotheses)}
    notes = [*_notes(config.hypotheses, hypotheses), *_notes(config.references, references)]
    if config.source is not None:
        sources = read_lines(config.source)
        _check_aligned(config.source, sources, config.hypotheses, hypotheses)
        rates["copied_lines"] = copy_rate(sources, hypotheses)
        rates["copied_tokens"] = copied_tokens(sources, hypotheses)
    tokenize, note = _words(config, references)
    notes += [note] if note else []
    scores = corpus_scores(
        hypotheses,
        references,
        tokenize=tokenize,
        num_resamples=config.resamples,
        seed=config.seed,
    )
    result = {
        "hypotheses": config.hypotheses,
        "references": config.references,
        "num_lines": len(references),
        "scores": dataclasses.asdict(scores),
        "rates": rates,
        "notes": notes,
    }
    if config.other:
        compared = paired_bootstrap(
            systems,
            references,
            tokenize=tokenize,
            num_resamples=config.resamples,
            seed=config.seed,
        )
        result["systems"] = {
            path: {name: dataclasses.asdict(one) for name, one in own.items()}
            for path, own in compared.items()
        }
    return result


def _words(config: Bleu, references: Sequence[str]) -> Words:
    """Return BLEU's tokenizer and the note about it."""
    found = choose_words(config.language, references)
    if config.tokenize == "auto":
        return found
    if config.tokenize in ("13a", "intl", "none") and script_words(references) != "13a":
        return Words(
            config.tokenize,
            f"{config.references} is written without spaces, and tokenize {config.tokenize} parts "
            f"words there: BLEU is near 0 for any translation; try {found.tokenize}",
        )
    return Words(config.tokenize, "")


def read_lines(path: str) -> list[str]:
    """Return all lines of a text file, unchanged; raise DataError, with its place, if invalid."""
    lines = []
    for line in decode_lines(path):
        if line.reason:
            raise DataError(
                f"{line.place}: the line is {line.reason} (more than {MAX_BYTES:,} bytes): cut it"
            )
        lines.append(line.text)
    return lines


def _check_aligned(path: str, lines: list[str], other: str, others: list[str]) -> None:
    if len(lines) != len(others):
        raise DataError(
            f"{path} has {len(lines):,} lines and {other} has {len(others):,}: expected aligned "
            "files with the same number of lines; check where they went apart"
        )


def _notes(path: str, lines: list[str]) -> list[str]:
    """Return signs that these lines are not plain text."""
    notes = []
    for mark, kind in (("@@ ", "fastBPE"), ("\u2581", "SentencePiece")):
        if num := sum(mark in line for line in lines):
            notes.append(
                f"{path}: {num:,} lines hold {mark.strip()!r}, the mark of {kind}'s subwords: join "
                "them to words first, else no figure is right"
            )
    if sum(bool(_DETACHED.search(line)) for line in lines) > len(lines) / 2:
        notes.append(
            f"{path} looks tokenized (most lines end in a stop that stands alone): BLEU and chrF "
            "are of plain text; tokenized BLEU is right"
        )
    return notes


def report(result: Mapping[str, Any]) -> str:
    """Render the result of ``score_files`` as lines for a person."""
    scores, rates = result["scores"], result["rates"]
    rows = [["", "score", "mean ± 95 %"]]
    for name, shown in _NAMES.items():
        rows.append([shown, f"{scores[name]['score']:.2f}", _interval(scores[name])])
    signatures = ["signature", *(scores[name]["signature"] for name in _NAMES)]
    said = [
        f"{result['hypotheses']} against {result['references']}, {result['num_lines']:,} lines",
        *map("  ".join, zip(aligned(rows), signatures, strict=True)),
        f"length: {scores['length_ratio']:.3f} of the references' tokens",
        f"empty: {rates['empty']:.1%} of the lines",
    ]
    if "copied_lines" in rates:
        said.append(
            f"copied from the source: {rates['copied_lines']:.1%} of the lines, "
            f"{rates['copied_tokens']:.1%} of the tokens"
        )
    said += [f"note: {note}" for note in result["notes"]]
    if "systems" in result:
        said += ["", "paired bootstrap: p-values against the first", *_table(result["systems"])]
    return "\n".join(said)


def _table(systems: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> list[str]:
    metrics = list(next(iter(systems.values())))
    rows = [["", *(head for metric in metrics for head in (metric, "mean ± 95 %", "p"))]]
    for path, own in systems.items():
        cells = []
        for metric in metrics:
            one = own[metric]
            p_value = one["p_value"]
            cells += [f"{one['score']:.2f}", _interval(one)]
            cells.append("" if p_value is None else f"{p_value:.4f}")
        rows.append([path, *cells])
    return [line.rstrip() for line in aligned(rows)]


def _interval(score: Mapping[str, Any]) -> str:
    return "" if score["mean"] is None else f"{score['mean']:.2f} ± {score['interval']:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm bleu``: see ``Bleu``."""

    def act(config: Bleu) -> None:
        result = score_files(config)
        if config.json is not None:
            write_whole(config.json, strict_json.dumps(result, indent=1) + "\n")
        say(report(result))

    run_verb(Bleu, "bleu", act, arguments, positional="hypotheses references")


if __name__ == "__main__":
    main()
