"""Fill the masks of lines of text: one output line for each input line, in order.

    lines --window of them--> fill --> a line each, in order, as windows are done

Use as ``xlm.load("runs/sample").fill([...])`` on lists, ``xlm fill MODEL FILE`` or ``python -m
xlm.fill``. Memory is bounded by the window, however long the input, and a killed file resumes
(``xlm.text.line_jobs``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xlm import strict_json
from xlm.config.cli import run_verb
from xlm.errors import DataError
from xlm.interchange.load import load
from xlm.model.asking import CELLS, check_masked
from xlm.model.digest import identity
from xlm.model.fill import Beside, Candidate, fill
from xlm.model.fill_words import Word, fill_words
from xlm.text.line_jobs import LineJob
from xlm.text.line_settings import LineSettings, check_applies, check_positive
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD
from xlm.text.readers import Line
from xlm.training.distributed.devices import usable_device

__all__ = ["Fill", "fill_lines", "main"]

Masks = Sequence[Sequence[Candidate | Word]]
"""The candidates of each mask of a line."""


@dataclass(frozen=True, kw_only=True)
class Fill(LineSettings):
    """Write the most probable subwords for the masks of each line: one output line for each."""

    model: str
    """A masked language model: a run's folder, a checkpoint, a model directory, or a transformers
    folder or hub name."""
    file: str = STANDARD
    """The lines, each with one mask or more, written <mask> or ___: a text file, plain or .gz,
    .zst, .bz2, .xz (-: standard input)."""
    language: str | None = None
    """The language of the lines; models without language embeddings need none."""
    top: int = 5
    """Number of candidates for each mask."""
    words: int = 1
    """Above 1: fill in whole words of up to this many subwords, by beam search; the probability
    of a word is the geometric mean of those of its subwords."""
    pairs: bool = False
    """Each line is a sentence with masks, a tab and its translation, as in TLM; candidates without
    the translation are shown too."""
    translation_language: str | None = None
    """With pairs: the language of the translations."""
    layout: str | None = None
    """With pairs: tlm, tlm-run-on or merged, as in training (null: tlm; merged for the tokenizers
    of XLM-R and BERT)."""
    json: bool = False
    """Write each line as a JSON object with its text and the candidates of its masks."""
    tokens: int = CELLS
    """Tokens in a batch, padding included."""

    def __post_init__(self) -> None:
        self.check(self.file)
        check_positive(self, "top", "words", "tokens")
        check_applies(self, "pairs", "translation_language", "layout")


class _Job(LineJob):
    """A masked model and the lines that are left to fill."""

    def __init__(self, config: Fill) -> None:
        self.config, device = config, usable_device(config.device)
        self.model = model = load(config.model)
        check_masked(model)
        model.language_id(config.language)
        model.transformer.to(device)
        super().__init__(
            config.file,
            self._filled,
            noun="filling",
            output=config.output,
            window=config.window,
            invalid=config.invalid,
            identity=lambda: identity(config, model),
        )

    def _filled(self, lines: Iterator[Line], first: int) -> list[str]:
        part = list(lines)
        asked = [line for line in part if normalize(line.text)]
        self.counts.num_empty += len(part) - len(asked)
        texts, seconds = [line.text for line in asked], list[str]()
        if self.config.pairs:
            parted = [_parted(line) for line in asked]
            texts, seconds = [one for one, _ in parted], [other for _, other in parted]
        places = [line.place for line in asked]
        found = iter(self._candidates(texts, seconds, places))
        alone = iter(self._candidates(texts, [], places) if self.config.pairs else [])
        rows = []
        for line in part:
            has_text = bool(normalize(line.text))
            masks = next(found) if has_text else []
            without: Masks | None = None
            if self.config.pairs:
                without = next(alone) if has_text else []
            write = as_json if self.config.json else as_text
            rows.append(write(line.text, masks, without))
        return rows

    def _candidates(
        self, texts: list[str], seconds: list[str], places: list[str]
    ) -> Sequence[Masks]:
        config = self.config
        beside = Beside(seconds, config.translation_language, config.layout) if seconds else None
        if config.words > 1:
            return fill_words(
                self.model, texts, config.language, pieces=config.words, top=config.top,
                beside=beside, tokens=config.tokens, places=places,
            )  # fmt: skip
        return fill(
            self.model, texts, config.language, top=config.top, beside=beside,
            tokens=config.tokens, places=places,
        )  # fmt: skip


def _parted(line: Line) -> tuple[str, str]:
    """Return a sentence and its translation; raise DataError unless there are two cells."""
    cells = line.text.split("\t")
    if len(cells) != 2:
        raise DataError(
            f"{line.place}: found {len(cells)} cells, expected a sentence with masks, a tab and "
            "its translation"
        )
    return cells[0], cells[1]


def fill_lines(config: Fill) -> Iterator[str]:
    """Yield the output for each line of ``config.file``, in order, as it is ready.

    An empty line gives an empty one (in JSON: one without masks). Raises ConfigError, DataError or
    CheckpointError in one line, which names the place of a line that has no mask.
    """
    yield from _Job(config).rows()


def as_text(text: str, masks: Masks, alone: Masks | None = None) -> str:
    """Return candidates such as ``the=0.4711 a=0.2433``, with a tab between masks.

    The candidates without a translation follow in parentheses.
    """
    cells = [_listed(one) for one in masks]
    if alone is not None:
        cells = [f"{c} (alone: {_listed(one)})" for c, one in zip(cells, alone, strict=True)]
    return "\t".join(cells)


def _listed(candidates: Sequence[Candidate | Word]) -> str:
    return " ".join(f"{shown(own)}={own.probability:.4f}" for own in candidates)


def shown(candidate: Candidate | Word) -> str:
    """Return the candidate's text, or its pieces if it is only a part of a character."""
    text = candidate.text
    if text and "\ufffd" not in text:
        return text
    return candidate.piece if isinstance(candidate, Candidate) else "".join(candidate.pieces)


def as_json(text: str, masks: Masks, alone: Masks | None = None) -> str:
    """Return an object with the normalized text and its masks' candidates."""
    found = {"text": normalize(text), "masks": _plain(masks)}
    if alone is not None:
        first, _, second = text.partition("\t")
        found |= {"text": normalize(first), "translation": normalize(second)}
        found["alone"] = _plain(alone)
    return strict_json.dumps(found)


def _plain(masks: Masks) -> list[list[dict[str, object]]]:
    return [[own._asdict() for own in one] for one in masks]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm fill``: see ``Fill``."""

    def act(config: Fill) -> None:
        _Job(config).write()

    run_verb(Fill, "fill", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
