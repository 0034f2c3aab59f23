"""Score lines of text with a model: nats, perplexities and bits, to rank or filter a corpus.

    lines --window of them--> score --> a row of numbers each, in order, as windows are done

Use as ``xlm.load("runs/sample").score([...])`` on lists, ``xlm score MODEL FILE`` or ``python -m
xlm.score``. Memory is bounded by the window, however long the input (sorting keeps two numbers a
line), and a killed file resumes (``xlm.text.line_jobs``).
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from xlm.config.cli import run_verb
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.asking import CELLS, Kind
from xlm.model.digest import identity
from xlm.model.score import MEASURES, LineScore, Scoring, check_scoring, score
from xlm.text.line_jobs import LineCounts, LineJob
from xlm.text.line_settings import LineSettings, check_applies, check_positive
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD, to_standard_output
from xlm.text.readers import Line
from xlm.training.distributed.devices import usable_device
from xlm.training.precision import Precision, autocast

__all__ = ["Score", "main", "score_file", "score_lines"]

log = logging.getLogger("xlm")

COLUMNS = ("line", *LineScore._fields, "perplexity", "word_perplexity", "text")
"""Columns of a row, separated by tabs."""
_UNITS = LineScore._fields
_BAR = 40
"""Characters in the longest bar of the histogram."""


@dataclass(frozen=True, kw_only=True)
class Score(LineSettings):
    """Write how well a model expects each line: nats, subwords, words, characters, perplexities."""

    model: str
    """A causal or masked language model or a translator: a run's folder, a checkpoint, a model
    directory, or a transformers folder or hub name."""
    file: str = STANDARD
    """The lines: a text file, plain or .gz, .zst, .bz2, .xz (-: standard input)."""
    language: str | None = None
    """The language of the lines; models without language embeddings need none."""
    pairs: bool = False
    """Each line is a sentence, a tab and its translation, which is scored given the sentence: for
    translators, and for models that were trained on pairs (TLM)."""
    source_language: str | None = None
    """With pairs: the language of the sentences before the tab."""
    kind: Kind | None = None
    """masked, causal or translator (null: as the model records, else masked)."""
    ends: bool | None = None
    """Also score the end of each line (null: true for causal models and translators only)."""
    folds: int | None = None
    """For masked models: hide every n-th subword at once, which reads a line n times instead of
    once per subword, and overestimates its nats (null: one subword at a time)."""
    layout: str | None = None
    """With pairs, except for translators: tlm, tlm-run-on or merged, as in training (null: tlm;
    merged for the tokenizers of XLM-R and BERT)."""
    by: Literal["nats", "perplexity", "word_perplexity", "bits_per_character", "bits_per_byte"] = (
        "nats"
    )
    """The measure for sort and keep_below; nats are per subword."""
    sort: bool = False
    """Write the lines with the lowest measure first, once all are scored."""
    keep_below: float | None = None
    """Write only the lines below this value, as text; a histogram of kept and dropped lines goes to
    standard error."""
    json: bool = False
    """Write each line as a JSON object instead of numbers separated by tabs."""
    tokens: int = CELLS
    """Tokens in a batch, padding included."""
    precision: Precision = "fp32"
    """fp32, bf16 or fp16 (autocast)."""

    def __post_init__(self) -> None:
        self.check(self.file)
        check_positive(self, "tokens")
        check_applies(self, "pairs", "source_language", "layout")
        if self.keep_below is not None and self.json:
            raise ConfigError("keep_below writes the lines themselves: leave json out")

    def scoring(self) -> Scoring:
        """Return the settings of the scoring."""
        return Scoring(
            language=self.language, source_language=self.source_language, kind=self.kind,
            ends=self.ends, folds=self.folds, layout=self.layout,
        )  # fmt: skip


@dataclass
class _Counts(LineCounts):
    """Counts of lines; ``sums`` holds the text's units, the lines kept, and the lines by bin."""

    def describe(self, max_length: int | None, num_new: int, seconds: float) -> str:
        """Return a line of counts, then a line of figures of the whole text."""
        counts = super().describe(max_length, num_new, seconds)
        units = [int(self.sums.get(name, 0)) for name in _UNITS[1:]]
        if not self.sums.get("subwords"):
            return f"{counts}; no line has text, so there is nothing to score"
        total = LineScore(self.sums.get("nats", 0.0), *units)
        figures = ", ".join(
            f"{name.replace('_', ' ')} {own(total):,.4g}" for name, own in MEASURES.items()
        )
        return f"{counts}; all together: {figures}"


class _Job(LineJob):
    """A model and the lines that are left to score."""

    def __init__(self, config: Score) -> None:
        self.config, self.scoring = config, config.scoring()
        self.device = usable_device(config.device)
        self.model = model = load(config.model)
        check_scoring(model, self.scoring, given_sources=config.pairs)
        model.transformer.to(self.device)
        super().__init__(
            config.file,
            self._scored,
            noun="scoring",
            output=config.output,
            window=config.window,
            invalid=config.invalid,
            identity=lambda: identity(config, model),
            counts=_Counts(),
        )

    def _scored(self, lines: Iterator[Line], first: int) -> list[str]:
        config, part = self.config, list(lines)
        texts, sources = [line.text for line in part], None
        if config.pairs:
            parted = [_parted(line) for line in part]
            sources, texts = [one for one, _ in parted], [other for _, other in parted]
        with autocast(self.device, config.precision):
            found = score(
                self.model, texts, self.scoring, sources=sources, tokens=config.tokens,
                places=[line.place for line in part],
            )  # fmt: skip
        rows = []
        for at, (line, text, own) in enumerate(zip(part, texts, found, strict=True)):
            measure = MEASURES[config.by](own)
            self._count(own, text, measure)
            if config.keep_below is None:
                rows.append((measure, (as_json if config.json else as_row)(first + at, own, text)))
            elif measure < config.keep_below:
                rows.append((measure, line.text))
        return [f"{measure!r}\t{row}" if config.sort else row for measure, row in rows]

    def _count(self, own: LineScore, text: str, measure: float) -> None:
        self.counts.add(own._asdict())
        if not normalize(text):
            self.counts.num_empty += 1
        elif self.config.keep_below is not None:
            kept = measure < self.config.keep_below
            self.counts.add({f"{'kept' if kept else 'gone'} {_bin(self.config.by, measure)}": 1})

    def finish(self) -> LineCounts:
        """Write all rows, sorted if wanted; log the histogram; return the counts."""
        config = self.config
        if not config.sort:
            self.write()
        elif config.output is None:
            to_standard_output(_sorted(self.rows()))
        else:
            self.write(_sort_file)
        if config.keep_below is not None:
            log.info("%s", histogram(self.counts.sums, config.by, config.keep_below))
        return self.counts


def _parted(line: Line) -> tuple[str, str]:
    """Return the two sentences of a line; two empty ones if it has no text."""
    cells = line.text.split("\t")
    if len(cells) == 1 and not normalize(line.text):
        return "", ""
    if len(cells) != 2:
        raise DataError(
            f"{line.place}: found {len(cells)} cells, expected a sentence, a tab and its "
            "translation"
        )
    return cells[0], cells[1]


def as_row(number: int, own: LineScore, text: str) -> str:
    """Return the columns ``COLUMNS``; a line without text has zeros and no perplexities."""
    figures = [f"{own.perplexity:.6g}", f"{own.word_perplexity:.6g}"] if own.subwords else ["", ""]
    cells = [number, f"{own.nats:.6f}", *own[1:], *figures, normalize(text)]
    return "\t".join(str(cell) for cell in cells)


def as_json(number: int, own: LineScore, text: str) -> str:
    """Return an object with the columns and all measures; those of an empty line are null."""
    values = {name: measure(own) for name, measure in MEASURES.items()}
    values["nats_per_subword"] = values.pop("nats")
    measures = {n: value if math.isfinite(value) else None for n, value in values.items()}
    found = {"line": number, **own._asdict(), **measures, "text": normalize(text)}
    return json.dumps(found, ensure_ascii=False)


def _sorted(rows: Iterable[str]) -> Iterator[str]:
    """Yield rows by the number before their first tab, NaN last; a file holds them meanwhile."""
    keys, places = array("d"), array("q")
    with tempfile.TemporaryFile() as spooled:
        for row in rows:
            key, _, rest = row.partition("\t")
            keys.append(float(key))
            places.append(spooled.tell())
            spooled.write(rest.encode() + b"\n")
        order = np.argsort(np.array(keys), kind="stable")
        for at in order.tolist():
            spooled.seek(places[at])
            yield spooled.readline().removesuffix(b"\n").decode()


def _sort_file(written: Path, output: Path) -> None:
    """Sort the rows of a file by their keys."""
    with written.open(encoding="utf-8", newline="\n") as rows, output.open("wb") as file:
        for row in _sorted(row.removesuffix("\n") for row in rows):
            file.write(row.encode() + b"\n")


def _bin(by: str, measure: float) -> int:
    """Return the bin of a measure: halves of nats and bits, doublings of perplexities."""
    if by.endswith("perplexity"):
        return math.floor(math.log2(measure)) if math.isfinite(measure) else 1024
    return math.floor(measure * 2)


def histogram(sums: Mapping[str, float], by: str, keep_below: float) -> str:
    """Render the numbers of lines kept and dropped, by their measure, as lines for a person."""
    parts: dict[str, dict[int, int]] = {"kept": {}, "gone": {}}
    for name, number in sums.items():
        side, _, own_bin = name.partition(" ")
        if side in parts and own_bin:
            parts[side][int(own_bin)] = int(number)
    most = max((num for own in parts.values() for num in own.values()), default=1)
    totals = {side: sum(own.values()) for side, own in parts.items()}
    lines = []
    for side, relation in (("kept", "below"), ("gone", "not below")):
        lines.append(f"{side} {totals[side]:,} lines, {by} {relation} {keep_below:g}:")
        for at, num in sorted(parts[side].items()):
            edges = (
                (2.0**at, 2.0 ** (at + 1)) if by.endswith("perplexity") else (at / 2, at / 2 + 0.5)
            )
            bar = "#" * max(1, round(_BAR * num / most))
            lines.append(f"  {edges[0]:10,.4g} to {edges[1]:10,.4g} {num:12,} {bar}")
    return "\n".join(lines)


def score_lines(config: Score) -> Iterator[str]:
    """Yield the rows that ``xlm score`` writes, in order; see ``Score``.

    Raises ConfigError, DataError or CheckpointError in one line.
    """
    rows = _Job(config).rows()
    yield from _sorted(rows) if config.sort else rows


def score_file(config: Score) -> LineCounts:
    """Write or resume ``config.output``, or write to standard output; return the counts."""
    return _Job(config).finish()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm score``: see ``Score``."""

    def act(config: Score) -> None:
        score_file(config)

    run_verb(Score, "score", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
