"""Generate text with a causal language model: continue lines, or write from nothing.

    lines --window of them--> write --> a text each, in order, as windows are done

Use as ``xlm.load("runs/clm").generate([...])`` on lists, ``xlm generate MODEL FILE`` or ``python -m
xlm.generate``. Memory is bounded by the window, however long the input, and a killed file resumes
(``xlm.text.line_jobs``). On a terminal each text is shown while it is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xlm.config.cli import run_verb
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.model.asking import check_causal
from xlm.model.continuation import ROWS, Writing, Written, write
from xlm.model.digest import identity
from xlm.text.line_jobs import LineCounts, LineJob
from xlm.text.line_settings import LineSettings, check_positive
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD
from xlm.text.readers import Line
from xlm.training.distributed.devices import usable_device
from xlm.training.precision import Precision, autocast

__all__ = ["Generate", "generate_file", "generate_lines", "main"]


@dataclass(frozen=True, kw_only=True)
class Generate(LineSettings):
    """Continue each line with a causal language model, or write lines from nothing."""

    model: str
    """A causal language model: a run's folder, a checkpoint, a model directory, or a transformers
    folder or hub name."""
    file: str = STANDARD
    """The beginnings, one per line: a text file, plain or .gz, .zst, .bz2, .xz (-: standard input).
    A line without text stays empty."""
    lines: int = 0
    """Write this many lines from nothing; no file is read (0: continue those of file)."""
    language: str | None = None
    """The language to write; models without language embeddings need none."""
    length: int = 50
    """Largest number of subwords added to a line."""
    sample: bool | None = None
    """Draw each subword instead of taking the likeliest (null: with lines, or if one of the next
    three is set)."""
    temperature: float = 1.0
    """With sample: divide logits by this; below 1 favors likely subwords."""
    top_k: int = 0
    """With sample: draw from this many of the most probable subwords (0: all)."""
    top_p: float = 1.0
    """With sample: draw from the fewest most probable subwords that have this share together."""
    repetition_penalty: float = 1.0
    """Above 1: make subwords that already occur in the text less likely."""
    beam: int = 1
    """Number of hypotheses in the beam search."""
    length_penalty: float = 1.0
    """Exponent of the number of added subwords by which a hypothesis's score is divided."""
    early_stopping: bool = False
    """With beam: stop when the number of finished hypotheses reaches the beam."""
    seed: int = 0
    """The seed of sampling; a line's random numbers depend only on it and on the line's number."""
    json: bool = False
    """Write each line as a JSON object: its prompt, text, score and number of added subwords."""
    rows: int = ROWS
    """Number of lines continued in one batch."""
    precision: Precision = "fp32"
    """fp32, bf16 or fp16 (autocast)."""

    def __post_init__(self) -> None:
        self.check(self.file)
        check_positive(self, "rows")
        if self.lines < 0:
            raise ConfigError(f"lines is {self.lines}: expected 0 or more")
        if self.lines and self.file != STANDARD:
            raise ConfigError(
                f"lines is {self.lines}, which writes from nothing, but file is {self.file}: "
                "give one of the two"
            )
        self.writing()

    def writing(self) -> Writing:
        """Return the settings of the generation."""
        asks = (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0)
        sample = self.sample
        if sample is None:
            sample = asks or (self.lines > 0 and self.beam == 1)
        return Writing(
            length=self.length, sample=sample, temperature=self.temperature, top_k=self.top_k,
            top_p=self.top_p, repetition_penalty=self.repetition_penalty, beam=self.beam,
            length_penalty=self.length_penalty, early_stopping=self.early_stopping,
        )  # fmt: skip


class _Job(LineJob):
    """A causal model and the lines that are left to continue."""

    def __init__(self, config: Generate) -> None:
        self.config, self.writing = config, config.writing()
        self.device = usable_device(config.device)
        self.model = model = load(config.model)
        check_causal(model)
        model.language_id(config.language)
        model.transformer.to(self.device)
        nothing = (Line("", "", f"line {at}") for at in range(1, config.lines + 1))
        self.is_shown = _is_shown(config)
        super().__init__(
            config.file,
            self._written,
            noun="generation",
            output=config.output,
            window=1 if self.is_shown else config.window,
            invalid=config.invalid,
            identity=lambda: identity(config, model),
            max_length=model.transformer.config.max_positions,
            source=nothing if config.lines else None,
        )

    def _written(self, lines: Iterator[Line], first: int) -> list[str]:
        config, part = self.config, list(lines)
        asked = [at for at, line in enumerate(part) if config.lines or normalize(line.text)]
        self.counts.num_empty += len(part) - len(asked)
        rows = [_row(line.text, None, config.json) for line in part]
        screen = _Screen() if self.is_shown else None
        with autocast(self.device, config.precision):
            found = write(
                self.model,
                [part[at].text for at in asked],
                config.language,
                self.writing,
                seed=config.seed,
                numbers=[first + at for at in asked],
                rows=config.rows,
                places=[part[at].place for at in asked],
                show=screen,
            )
        for at, one in zip(asked, found, strict=True):
            rows[at] = _row(part[at].text, one, config.json)
            self.counts.num_cut += one.is_cut
        if screen is None:
            return rows
        for row in rows:
            screen.finish(row)
        return []


class _Screen:
    """A terminal on which a text is shown while it is written."""

    def __init__(self) -> None:
        self._text = ""

    def __call__(self, text: str) -> None:
        """Show the new part of a text; the first bytes of a character wait for the rest."""
        text = text.rstrip("\ufffd")
        if text.startswith(self._text):
            sys.stdout.write(text[len(self._text) :])
            sys.stdout.flush()
            self._text = text

    def finish(self, text: str) -> None:
        """Show the rest of a text and end its line."""
        again = "" if text.startswith(self._text) else "\n"
        rest = text if again else text[len(self._text) :]
        sys.stdout.write(f"{again}{rest}\n")
        sys.stdout.flush()


def _is_shown(config: Generate) -> bool:
    """Return whether texts are shown while they are written: on a terminal, greedy or sampled."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return on_terminal and config.output is None and not config.json and config.beam == 1


def _row(prompt: str, one: Written | None, as_json: bool) -> str:
    """Return a text, or an object with it; an empty one for a line without text."""
    if not as_json:
        return one.text if one else ""
    found = {"prompt": normalize(prompt), **(one or Written("", 0.0, 0, False, False))._asdict()}
    return json.dumps(found, ensure_ascii=False)


def generate_lines(config: Generate) -> Iterator[str]:
    """Yield the lines that ``xlm generate`` writes, as windows are done; see ``Generate``.

    Raises ConfigError, DataError or CheckpointError in one line.
    """
    yield from _Job(config).rows()


def generate_file(config: Generate) -> LineCounts:
    """Write or resume ``config.output``, or write to standard output; return the counts."""
    return _Job(config).write()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm generate``: see ``Generate``."""

    def act(config: Generate) -> None:
        generate_file(config)

    run_verb(Generate, "generate", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
