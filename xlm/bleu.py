"""Score files of translations by ``xlm.metrics.translation``, and compare systems.

Use as ``xlm.bleu.score_files(Bleu(...))``, ``xlm bleu HYPOTHESES REFERENCES`` or ``python -m
xlm.bleu``. Files are aligned line by line: empty lines count.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, get_args

from xlm import strict_json
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import ConfigError, DataError
from xlm.metrics.language_shares import Trigrams
from xlm.metrics.translation import (
    SEED,
    chrf_name,
    copied_tokens,
    copy_rate,
    corpus_scores,
    empty_rate,
    paired_bootstrap,
)
from xlm.metrics.translation_table import METRICS, means, row_figures, table_lines, with_baseline
from xlm.metrics.words import Tokenization, Words, choose_words, script_words
from xlm.storage import read_json, write_whole
from xlm.tables import aligned
from xlm.text.readers import MAX_BYTES, decode_lines
from xlm.text.translation_table import TableRow, read_table

__all__ = ["Bleu", "main", "score_files", "score_table"]

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

    hypotheses: str = ""
    """The translations, one a line: a text file, plain or .gz, .zst, .bz2, .xz."""
    references: str = ""
    """The reference translations, line by line; empty lines count."""
    table: str | None = None
    """Score the rows of this table instead; its columns, separated by tabs: source, target, source
    file, reference file, output file and optionally a tokenization (as xlm translate --table reads
    them)."""
    center: str | None = None
    """With table: show means of the rows into this language, out of it, and of the others; null: of
    all."""
    baseline: str | None = None
    """With table: the JSON file of another table's figures; each row's difference from it is
    added."""
    other: list[str] = field(default_factory=list, metadata={"repeated": True})
    """Translations of another system (--other FILE --other FILE ... or [FILE, FILE]): test by the
    paired bootstrap whether the difference from the first exceeds chance."""
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
    chrf_words: int = 0
    """Word n-grams that chrF counts too: 2 gives chrF++."""
    resamples: int = 1000
    """Resamples of the lines for intervals and for the paired bootstrap (0: no intervals)."""
    seed: int = SEED
    """The seed of the resamples; the default is sacreBLEU's, but SACREBLEU_SEED is not read."""

    def __post_init__(self) -> None:
        if self.chrf_words < 0:
            raise ConfigError(f"chrf_words is {self.chrf_words}: expected 0, or 2 for chrF++")
        if self.table is not None:
            self._check_table()
            return
        for name in ("center", "baseline"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, but it only applies with table: leave it out"
                )
        for name in ("hypotheses", "references"):
            if not getattr(self, name):
                raise ConfigError(
                    f"{name} missing: give it in the file of --config, or as --{name}=..., or give "
                    "a table of several files"
                )
        systems = [self.hypotheses, *self.other]
        twice = [path for path in systems if systems.count(path) > 1]
        if twice:
            raise ConfigError(f"{twice[0]} is given twice: give every system once")
        if self.other and not self.resamples:
            raise ConfigError("other needs resamples: found 0, expected 2 or more (1000 is usual)")

    def _check_table(self) -> None:
        for name in ("hypotheses", "references", "other", "source", "language"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, but table {self.table} gives the "
                    "files and languages of every row: leave it out"
                )


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
        chrf_words=config.chrf_words,
        num_resamples=config.resamples,
        seed=config.seed,
    )
    result = {
        "hypotheses": config.hypotheses,
        "references": config.references,
        "num_lines": len(references),
        "chrf": chrf_name(config.chrf_words),
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


def score_table(config: Bleu) -> dict[str, Any]:
    """Return the figures of each row of ``config.table`` under ``rows``, and ``means`` over them.

    A row's ``in_target`` is the share of its lines with text that look like the target language to
    models of the languages' characters, fitted on the table's sources and references. ``notes``
    warn of anything that looks wrong. Raises ConfigError or DataError in one line.
    """
    assert config.table is not None
    rows = read_table(config.table)
    read: dict[str, list[str]] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for path in (row.source_file, row.reference_file, row.output_file):
            if path not in read:
                read[path] = _lines_of_row(path, row)
        texts.setdefault(row.source, {})[row.source_file] = read[row.source_file]
        texts.setdefault(row.target, {})[row.reference_file] = read[row.reference_file]
    models = Trigrams(
        {language: chain.from_iterable(own.values()) for language, own in texts.items()}
    )
    found, notes = [], []
    for row in rows:
        figures, own_notes = _row_scores(config, row, read, models)
        found.append(figures)
        notes += own_notes
    if config.baseline is not None:
        found = with_baseline(found, _baseline_rows(config.baseline))
    return {
        "table": config.table,
        "chrf": chrf_name(config.chrf_words),
        "rows": found,
        "means": means(found, config.center),
        "notes": list(dict.fromkeys(notes)),
    }


def _lines_of_row(path: str, row: TableRow) -> list[str]:
    try:
        return read_lines(path)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _row_scores(
    config: Bleu, row: TableRow, read: Mapping[str, list[str]], models: Trigrams
) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of a row, and warnings about it."""
    paths = (row.source_file, row.reference_file, row.output_file)
    sources, references, hypotheses = (read[path] for path in paths)
    try:
        _check_aligned(row.output_file, hypotheses, row.reference_file, references)
        _check_aligned(row.source_file, sources, row.output_file, hypotheses)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None
    tokenize = config.tokenize if row.tokenization is None else row.tokenization
    if tokenize not in (*get_args(Tokenization), "auto"):
        raise DataError(
            f"{row.place}: tokenization {tokenize!r}: expected one of "
            f"{', '.join(get_args(Tokenization))}, or auto"
        )
    own = dataclasses.replace(
        config, table=None, center=None, baseline=None, hypotheses=row.output_file,
        references=row.reference_file, language=row.target,
        tokenize=tokenize,  # type: ignore[arg-type]
    )  # fmt: skip
    words, note = _words(own, references)
    scores = corpus_scores(
        hypotheses, references, tokenize=words, chrf_words=config.chrf_words,
        num_resamples=config.resamples, seed=config.seed,
    )  # fmt: skip
    figures = {
        "source": row.source,
        "target": row.target,
        "hypotheses": row.output_file,
        "references": row.reference_file,
        **row_figures(scores, sources, hypotheses, models.shares(hypotheses, row.target)),
    }
    notes = [*_notes(row.output_file, hypotheses), *_notes(row.reference_file, references)]
    return figures, [*notes, *([f"{row.direction}: {note}"] if note else [])]


def _baseline_rows(path: str) -> list[dict[str, Any]]:
    """Return the rows of another table's JSON file; ConfigError for a file of another kind."""
    found = read_json(path, error=ConfigError)
    rows = found.get("rows")
    needed = {"source", "target", "references", *METRICS}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and needed <= row.keys() for row in rows
    ):
        raise ConfigError(
            f"baseline {path} holds no rows of a table: expected the file that xlm bleu "
            "--table ... --json wrote"
        )
    return rows


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
            f"{path} has {len(lines):,} lines and {other} has {len(others):,}: expected "
            "aligned files with the same number of lines; check where they diverge"
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
    names = {**_NAMES, "chrf": result.get("chrf", _NAMES["chrf"])}
    for name, shown in names.items():
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
        has_table = config.table is not None
        result = score_table(config) if has_table else score_files(config)
        if config.json is not None:
            write_whole(config.json, strict_json.dumps(result, indent=1) + "\n")
        say("\n".join(table_lines(result)) if has_table else report(result))

    run_verb(Bleu, "bleu", act, arguments, positional="hypotheses references")


if __name__ == "__main__":
    main()
