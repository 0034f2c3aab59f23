"""Fill the masks of lines of text: as many lines out as in, each in its place.

    lines --window of them--> fill --> a line each, in order, as windows are done

Use as ``xlm.load("runs/sample").fill([...])`` on lists, ``xlm fill MODEL FILE`` or ``python -m
xlm.fill``. Memory is bounded by the window, however long the input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from xlm.config.cli import run_verb
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.model.fill import CELLS, Candidate, check_masked, fill
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD, check_output, placed_lines, write_answers
from xlm.training.distributed.devices import usable_device

WINDOW = 1000
"""Lines that are sorted by length together."""

Masks = list[list[Candidate]]
"""The candidates of each mask of a line."""


@dataclass(frozen=True, kw_only=True)
class Fill:
    """Write the most probable subwords for the masks of each line: as many lines out as in."""

    model: str
    """A masked language model: a run's folder, a checkpoint, a model directory, or a transformers
    folder or hub name."""
    file: str = STANDARD
    """The lines, each with one mask or more, written <mask> or ___: a text file, plain or .gz,
    .zst, .bz2, .xz (-: standard input)."""
    language: str | None = None
    """The language of the lines; models without language embeddings need none."""
    top: int = 5
    """Candidates of each mask."""
    output: str | None = None
    """Write here (null: standard output); the file appears when all is done."""
    json: bool = False
    """Write each line as a JSON object with its text and the candidates of its masks."""
    tokens: int = CELLS
    """Tokens of a batch, padding included."""
    window: int = WINDOW
    """Lines that are read before the first of them is filled, sorted by length together; 1 at a
    terminal."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a GPU."""

    def __post_init__(self) -> None:
        for name in ("top", "tokens", "window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.output is not None:
            check_output(self.output, self.file)


def fill_lines(config: Fill) -> Iterator[str]:
    """Yield what is written of each line of ``config.file``, in order, as it is ready.

    A line without text becomes an empty one (in JSON: one without masks). Raises ConfigError,
    DataError or CheckpointError in one line, which names the place of a line that has no mask.
    """
    device = usable_device(config.device)
    model = load(config.model)
    check_masked(model)
    model.language_id(config.language)
    model.transformer.to(device)
    window = 1 if config.file == STANDARD and sys.stdin.isatty() else config.window
    lines = placed_lines(config.file)
    while part := list(islice(lines, window)):
        asked = [(text, place) for text, place in part if normalize(text)]
        found = fill(
            model,
            [text for text, _ in asked],
            config.language,
            top=config.top,
            tokens=config.tokens,
            places=[place for _, place in asked],
        )
        filled = iter(found)
        for text, _ in part:
            masks = next(filled) if normalize(text) else []
            yield as_json(text, masks) if config.json else as_text(masks)


def as_text(masks: Masks) -> str:
    """Return ``the=0.4711 a=0.2433``, and a tab between masks."""
    return "\t".join(
        " ".join(f"{shown(own)}={own.probability:.4f}" for own in one) for one in masks
    )


def shown(candidate: Candidate) -> str:
    """Return the candidate's text, or its piece if that is a part of a character alone."""
    text = candidate.text
    return text if text and "\ufffd" not in text else candidate.piece


def as_json(text: str, masks: Masks) -> str:
    """Return an object with the normalized text and its masks' candidates."""
    found = [[own._asdict() for own in one] for one in masks]
    return json.dumps({"text": normalize(text), "masks": found}, ensure_ascii=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """``xlm fill``: see ``Fill``."""

    def act(config: Fill) -> None:
        write_answers(fill_lines(config), config.output)

    run_verb(Fill, "fill", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
