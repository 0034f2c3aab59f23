"""Write a vector for each line of text, in order.

    lines --window of them--> embed --> rows of a .npy or Parquet file, as windows are done

Use as ``xlm.load("runs/sample").embed([...])`` on lists, ``xlm embed MODEL FILE OUTPUT`` or
``python -m xlm.embed``. Memory is bounded by the window, however long the input, and a killed file
resumes (``xlm.text.line_jobs``). ``xlm search`` searches the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xlm.config.cli import run_verb
from xlm.interchange.load import load
from xlm.model.asking import CELLS
from xlm.model.digest import identity, model_digest
from xlm.model.embed import Embedding, embed
from xlm.model.pooling import Pooling
from xlm.text.line_jobs import LineCounts, LineJob
from xlm.text.line_settings import Invalid, LineSettings, check_positive
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD
from xlm.text.readers import Line
from xlm.text.resuming import Rows
from xlm.text.vector_files import (
    HEAD,
    NPY,
    check_name,
    npy_head,
    write_description,
    write_parquet,
)
from xlm.training.distributed.devices import usable_device
from xlm.training.precision import Precision, autocast

__all__ = ["Embed", "embed_file", "main"]


@dataclass(frozen=True, kw_only=True)
class Embed(LineSettings):
    """Write a vector for each line: the states of a layer, pooled over the line's tokens."""

    model: str
    """Any model: a run's folder, a checkpoint, a model directory, or a transformers or
    sentence-transformers folder or hub name."""
    file: str = STANDARD
    """The lines: a text file, plain or .gz, .zst, .bz2, .xz (-: standard input)."""
    language: str | None = None
    """The language of the lines; models without language embeddings need none."""
    layer: int | None = None
    """The layer whose states are used; 0 is the embeddings (null: the last)."""
    pooling: Pooling | None = None
    """mean, max or first, over a line's tokens (null: as the model records, else mean)."""
    normalize: bool | None = None
    """Scale vectors to length 1 (null: as the model records, else true)."""
    length: int | None = None
    """Largest number of tokens read from a line, special ones included (null: the model's
    positions)."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the numbers in the file."""
    output: str | None = None
    """File for the vectors, .npy or .parquet (null: rows of JSON to standard output). It appears
    when it is complete, and replaces an existing one. After a kill, the same command resumes from
    OUTPUT.partial. OUTPUT.json beside it records how it was made."""
    tokens: int = CELLS
    """Tokens in a batch, padding included."""
    invalid: Invalid = "error"
    """Handling of a line that is not UTF-8 or longer than 1 MiB. error: stop, and name the line.
    empty: write a vector of zeros in its place, and count it."""
    precision: Precision = "fp32"
    """fp32, bf16 or fp16 (autocast)."""

    def __post_init__(self) -> None:
        self.check(self.file)
        check_positive(self, "tokens")
        self.embedding()
        if self.output is not None:
            check_name(self.output)

    def embedding(self) -> Embedding:
        """Return the settings that turn a line into a vector."""
        return Embedding(
            layer=self.layer, pooling=self.pooling, normalize=self.normalize, length=self.length
        )


class _Job(LineJob):
    """A model and the lines that are left to embed."""

    def __init__(self, config: Embed) -> None:
        self.config, self.device = config, usable_device(config.device)
        self.model = model = load(config.model)
        model.language_id(config.language)
        self.settings = config.embedding().settled(model)
        self.width = model.transformer.config.dim
        model.transformer.to(self.device)
        super().__init__(
            config.file,
            self._embedded,
            noun="embedding",
            output=config.output,
            window=config.window,
            invalid=config.invalid,
            identity=lambda: identity(config, model),
            max_length=self.settings.length,
        )

    def _embedded(self, lines: Iterator[Line], first: int) -> Rows:
        config, part = self.config, list(lines)
        texts = [line.text for line in part]
        with autocast(self.device, config.precision):
            found = embed(
                self.model, texts, config.language, self.settings, tokens=config.tokens,
                places=[line.place for line in part],
            )  # fmt: skip
        self.counts.num_empty += sum(not normalize(text) for text in texts)
        self.counts.num_cut += found.num_cut
        vectors = found.vectors.astype(config.dtype)
        if config.output is not None:
            return vectors.tobytes()
        return [json.dumps([round(value, 6) for value in row]) for row in vectors.tolist()]

    def finish(self) -> LineCounts:
        """Write all vectors, and their record beside them; return the counts."""
        config = self.config
        if config.output is None:
            return self.write()
        empty = npy_head(0, self.width, config.dtype)
        if Path(config.output).suffix == NPY:
            counts = self.write(
                head=empty,
                last_head=lambda: npy_head(self.counts.num_lines, self.width, config.dtype),
            )
        else:
            counts = self.write(
                lambda raw, output: write_parquet(raw, self.width, config.dtype, output), empty
            )
        assert len(empty) == HEAD
        settings = self.settings
        write_description(
            config.output,
            {
                "model": os.path.abspath(config.model)
                if os.path.exists(config.model)
                else config.model,
                "digest": model_digest(self.model),
                "lines": counts.num_lines,
                "width": self.width,
                "language": config.language,
                "layer": settings.layer,
                "pooling": settings.pooling,
                "normalize": settings.normalize,
                "length": settings.length,
                "texts": self.digest.hexdigest(),
                "file": STANDARD if config.file == STANDARD else os.path.abspath(config.file),
            },
        )
        return counts


def embed_file(config: Embed) -> LineCounts:
    """Write or resume ``config.output``, or write to standard output; return the counts."""
    return _Job(config).finish()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm embed``: see ``Embed``."""

    def act(config: Embed) -> None:
        embed_file(config)

    run_verb(Embed, "embed", act, arguments, positional="model file output")


if __name__ == "__main__":
    main()
