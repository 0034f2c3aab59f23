"""Translate lines of text: one output line for each input line, in order.

    lines --chunk of them--> Translator --> a line each, in order, as chunks are done

Use as ``xlm.load("runs/mt").translate([...])`` on lists, ``xlm translate MODEL FILE`` or ``python
-m xlm.translate``. Memory is bounded by the chunk, however long the input, and a killed file
resumes (``xlm.text.line_jobs``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from xlm.config.cli import run_verb
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.digest import identity
from xlm.model.generate import Generation
from xlm.model.pretrained import PretrainedModel
from xlm.model.translation import BEAM, CELLS, Translated, Translator
from xlm.text.line_jobs import LineCounts, LineJob
from xlm.text.line_settings import WINDOW, Invalid, check_positive
from xlm.text.pipes import STANDARD, check_output
from xlm.text.readers import Line
from xlm.text.translation_table import read_table
from xlm.training.distributed.devices import usable_device
from xlm.training.precision import Precision, autocast

__all__ = ["Translate", "main", "translate", "translate_file", "translate_table"]

log = logging.getLogger("xlm")


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Translate each line of a file or of standard input: one output line for each, in order."""

    model: str
    """A translator: a run's folder, a checkpoint, or a model directory (xlm import makes one)."""
    file: str = STANDARD
    """The lines: a text file, plain or .gz, .zst, .bz2, .xz (-: standard input)."""
    source: str | None = None
    """The language of the lines; models without language embeddings need none."""
    target: str | None = None
    """The language to translate into."""
    pivot: str | None = None
    """Translate into this language first, such as en, and from there into the target."""
    table: str | None = None
    """Translate the source file of each row of this table into its output file; its columns,
    separated by tabs: source, target, source file, reference file, output file (and a tokenization,
    for xlm bleu --table). Rows whose output file exists are skipped."""
    output: str | None = None
    """Write here (null: standard output); the file appears when it is complete, and replaces an
    existing one. After a kill, the same command resumes from OUTPUT.partial."""
    generation: Generation = field(default_factory=lambda: BEAM)
    """Settings of the search or sampling that generates translations."""
    n_best: int = 1
    """Number of translations for each line; above 1, each is on its own line: the number of the
    source line, a tab, the text. A beam may find fewer."""
    scores: bool = False
    """Write a tab and the score after each text: the sum of the log-probabilities of its tokens,
    divided by its length to the power of length_penalty; 0 for a line without text."""
    tokens: int = CELLS
    """Tokens of the sources in a batch, padding included."""
    chunk: int = WINDOW
    """Number of lines that are read and sorted by length before the first is translated; 1 at a
    terminal."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""
    precision: Precision = "fp32"
    """fp32, bf16 or fp16 (autocast)."""
    invalid: Invalid = "error"
    """Handling of a line that is not UTF-8 or longer than 1 MiB. error: stop, and name the line.
    empty: write an empty line in its place, and count it."""
    seed: int = 0
    """The seed of sampling (generation.sample)."""

    def __post_init__(self) -> None:
        check_positive(self, "chunk")
        if self.pivot is not None and self.pivot in (self.source, self.target):
            side = "source" if self.pivot == self.source else "target"
            raise ConfigError(
                f"pivot is {self.pivot}, which is also the {side}: name a third language, or "
                "leave pivot out"
            )
        if self.table is not None:
            for name in ("source", "target", "output"):
                if getattr(self, name) is not None:
                    raise ConfigError(
                        f"{name} is {getattr(self, name)}, but table {self.table} names that "
                        "of every row: leave it out"
                    )
            if self.file != STANDARD:
                raise ConfigError(
                    f"file is {self.file}, but table {self.table} names the file of every "
                    "row: leave it out"
                )
        if self.output is not None:
            check_output(self.output, self.file)


class _Job(LineJob):
    """A translator, perhaps one into a pivot before it, and the lines that are left."""

    def __init__(self, config: Translate, model: PretrainedModel | None = None) -> None:
        self.config = config
        self.device = usable_device(config.device)
        model = load(config.model) if model is None else model

        def translator(source: str | None, target: str | None, n_best: int) -> Translator:
            return Translator(
                model, source, target, settings=config.generation, n_best=n_best,
                tokens=config.tokens, seed=config.seed,
            )  # fmt: skip

        self.before = None
        if config.pivot is not None:
            self.before = translator(config.source, config.pivot, 1)
        self.translator = translator(config.pivot or config.source, config.target, config.n_best)
        model.transformer.to(self.device)
        super().__init__(
            config.file,
            self._translated,
            noun="translation",
            output=config.output,
            window=config.chunk,
            invalid=config.invalid,
            identity=lambda: identity(config, model),
            max_length=self.translator.max_length,
        )

    def _translated(self, lines: Iterator[Line], first: int) -> list[str]:
        texts: Iterable[str] = (line.text for line in lines)
        with autocast(self.device, self.config.precision):
            if self.before is not None:
                between = self.before.translate(texts, first=first)
                self.counts.num_cut += sum(one.is_cut for one in between)
                texts = [one.texts[0] for one in between]
            found = self.translator.translate(texts, first=first)
        self.counts.num_empty += sum(one.num_tokens == 0 for one in found)
        self.counts.num_cut += sum(one.is_cut for one in found)
        return [row for at, one in enumerate(found, first) for row in self._rows(at, one)]

    def _rows(self, number: int, one: Translated) -> Iterator[str]:
        for text, score in zip(one.texts, one.scores, strict=True):
            cells = [str(number), text] if self.config.n_best > 1 else [text]
            yield "\t".join([*cells, f"{score:.4f}"] if self.config.scores else cells)


def translate(config: Translate) -> Iterator[str]:
    """Yield the lines that ``xlm translate`` writes, as chunks are done; see ``Translate``.

    Ignores ``config.output``: see ``translate_file``. Raises ConfigError, DataError or
    CheckpointError in one line.
    """
    if config.table is not None:
        raise ConfigError("table names the files to write: call translate_table")
    yield from _Job(config).rows()


def translate_file(config: Translate) -> LineCounts:
    """Write or resume ``config.output``; see ``translate`` for the errors."""
    if config.output is None:
        raise ConfigError("output is null: give a file")
    return _Job(config).write()


def translate_table(config: Translate) -> dict[str, LineCounts]:
    """Write the output file of each row of ``config.table``; return the counts of those written.

    The model is loaded once. A row whose output file is there is done, and one that was killed
    resumes. Raises DataError with file and line for a row that cannot be translated, before the
    first is.
    """
    if config.table is None:
        raise ConfigError("table is null: give a file")
    rows = read_table(config.table)
    model = load(config.model)
    jobs: list[_Job] = []
    for row in rows:
        try:
            own = replace(
                config, table=None, source=row.source, target=row.target, file=row.source_file,
                output=row.output_file,
            )  # fmt: skip
            if Path(row.output_file).exists():
                log.info("%s: %s is there already", row.place, row.output_file)
                continue
            jobs.append(_Job(own, model))
        except ConfigError as error:
            raise DataError(f"{row.place}: {error}") from None
    found = {}
    for job in jobs:
        own = job.config
        assert own.output is not None
        log.info("%s-%s: %s", own.source, own.target, own.output)
        found[own.output] = job.write()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm translate``: see ``Translate``."""

    def act(config: Translate) -> None:
        if config.table is not None:
            translate_table(config)
        else:
            _Job(config).write()

    run_verb(Translate, "translate", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
