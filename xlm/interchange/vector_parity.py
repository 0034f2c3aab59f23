"""Compare the vectors of lines with those of sentence-transformers, opened from the same folder."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xlm import sample
from xlm.errors import one_line
from xlm.interchange.parity import quiet
from xlm.model.pretrained import PretrainedModel

_EVERY = 10
"""Every tenth line of the sample's held-out text is compared."""


@dataclass(frozen=True)
class Vectors:
    """Result of comparing vectors: the largest difference, or why nothing was compared."""

    difference: float | None = None
    """Largest absolute difference between the same number of two vectors."""
    num_lines: int = 0
    peer: str = ""
    note: str = ""

    def describe(self) -> str:
        """Return one line for a person to read."""
        if self.difference is None:
            return self.note
        return (
            f"parity with {self.peer}: max |difference| of vectors {self.difference:.2g} over "
            f"{self.num_lines:,} lines"
        )


def measure_vectors(model: PretrainedModel, folder: str | Path) -> Vectors:
    """Compare the vectors of lines of the sample corpus with those that a folder's model gives.

    Needs sentence-transformers; without it, and for a folder that it cannot open, the result says
    that nothing was compared, and why.
    """
    try:
        library = importlib.import_module("sentence_transformers")
        transformers = importlib.import_module("transformers")
    except ImportError:
        return Vectors(note="vectors were not compared: sentence-transformers is not installed")
    paths = [sample.path(f"valid.{language}.txt") for language in sample.LANGUAGES]
    lines = [
        line for path in paths for line in path.read_text(encoding="utf-8").split("\n")[::_EVERY]
    ]
    lines = [line for line in lines if line]
    with quiet(transformers):
        try:
            peer = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            theirs = peer.encode(lines, convert_to_numpy=True, show_progress_bar=False)
        except Exception as error:  # other libraries raise anything over a folder
            reason = one_line(error, most=200)
            return Vectors(note=f"vectors were not compared: it cannot open {folder} ({reason})")
    found = float(np.abs(model.embed(lines) - theirs).max())
    return Vectors(
        found if math.isfinite(found) else math.inf,
        len(lines),
        f"SentenceTransformer of sentence-transformers {library.__version__}",
    )
