"""Find the lines whose vectors are nearest to those of queries, exactly, in any language.

    queries --window of them--> embed --> inner products with all of the index --> the largest

Use as ``xlm search INDEX QUERIES`` or ``python -m xlm.search`` on the output of ``xlm embed``. The
index is mapped and read in blocks, so it may be larger than the memory; no other index is needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xlm.analysis.neighbors import nearest_in_blocks
from xlm.config.cli import run_verb
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.asking import CELLS
from xlm.model.digest import made_by, model_digest
from xlm.model.embed import Embedding, embed
from xlm.model.pretrained import PretrainedModel
from xlm.text.line_jobs import LineCounts, LineJob
from xlm.text.line_settings import LineSettings, check_positive
from xlm.text.line_store import LineStore
from xlm.text.normalize import normalize
from xlm.text.pipes import STANDARD
from xlm.text.readers import Line
from xlm.text.vector_files import NPY, PARQUET, description_of, read_description, read_vectors
from xlm.training.distributed.devices import usable_device

__all__ = ["Search", "main", "search_file", "search_lines"]

log = logging.getLogger("xlm")

NO_TEXTS = "none"
"""The value of ``texts`` that shows no lines."""


@dataclass(frozen=True, kw_only=True)
class Search(LineSettings):
    """Find the lines of an index that are nearest to each query: one output line for each query."""

    index: str
    """Vectors written by xlm embed, .npy or .parquet."""
    queries: str = STANDARD
    """The queries, one per line: a text file, plain or .gz, .zst, .bz2, .xz (-: standard input); or
    their vectors, .npy or .parquet."""
    language: str | None = None
    """The language of the queries (null: that of the index); models without language embeddings
    need none."""
    top: int = 5
    """Number of lines found for each query."""
    above: float | None = None
    """Show only lines whose score is at least this (null: all)."""
    model: str | None = None
    """The model that makes the queries' vectors (null: the one recorded in INDEX.json)."""
    texts: str | None = None
    """The lines that the index was made from, needed to show the hits (null: the file recorded in
    INDEX.json, if it exists; none: show numbers only)."""
    json: bool = False
    """Write each query as a JSON object with its hits."""
    tokens: int = CELLS
    """Tokens in a batch of queries, padding included."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU; only the model runs there, the search runs on the CPU."""

    def __post_init__(self) -> None:
        self.check(self.queries)
        check_positive(self, "top", "tokens")


class _Job(LineJob):
    """An index and the queries that are left to search."""

    def __init__(self, config: Search) -> None:
        self.config = config
        self.vectors, self.said = read_vectors(config.index), read_description(config.index)
        self.given = read_vectors(config.queries) if _are_vectors(config.queries) else None
        self.model = model = None if self.given is not None else self._model()
        if self.given is not None and self.given.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"{config.queries} holds vectors of {self.given.shape[1]} numbers, but "
                f"{config.index} holds vectors of {self.vectors.shape[1]}: expected both "
                "from one model"
            )
        self.texts = self._texts()
        places = None
        if self.given is not None:
            places = (Line("", "", f"row {at}") for at in range(1, len(self.given) + 1))
        super().__init__(
            config.queries,
            self._found,
            noun="search",
            output=config.output,
            window=config.window,
            invalid=config.invalid,
            identity=lambda: self._identity(model),
            source=places,
        )

    def _model(self) -> PretrainedModel:
        config, said = self.config, self.said
        name = config.model or said.get("model")
        if name is None:
            raise ConfigError(
                f"{description_of(config.index).name}, which names the model of {config.index}, is "
                "missing beside it: give model, or the queries as vectors"
            )
        model = load(name)
        width = model.transformer.config.dim
        if width != self.vectors.shape[1]:
            raise DataError(
                f"{name} makes vectors of {width} numbers, but {config.index} holds vectors "
                f"of {self.vectors.shape[1]}: give the model that made the index"
            )
        if said and not made_by(model, said.get("digest")):
            log.warning(
                "%s is not the model that made %s: its vectors may mean nothing for that "
                "index",
                name, config.index,
            )  # fmt: skip
        model.language_id(config.language or said.get("language"))
        model.transformer.to(usable_device(config.device))
        return model

    def _texts(self) -> LineStore | None:
        asked, named = self.config.texts, self.said.get("file", STANDARD)
        if asked == NO_TEXTS:
            return None
        if asked is None and (named == STANDARD or not os.path.exists(named)):
            return None
        found = LineStore(asked or named)
        if len(found) != len(self.vectors):
            raise DataError(
                f"{asked or named} has {len(found):,} lines, but {self.config.index} has "
                f"{len(self.vectors):,} vectors: expected the file that the index was made "
                f"from; give texts, a file or {NO_TEXTS}"
            )
        if asked is None and found.digest != self.said.get("texts", found.digest):
            raise DataError(
                f"{named} is no longer the text that {self.config.index} was made of: embed it "
                f"anew, or give texts, a file or {NO_TEXTS}"
            )
        return found

    def _identity(self, model: PretrainedModel | None) -> dict[str, Any]:
        settings = dataclasses.asdict(self.config)
        for name in ("index", "queries", "output", "model", "texts"):
            del settings[name]
        if model is not None:
            settings["model"] = model_digest(model)
        sampled = np.ascontiguousarray(self.vectors[:: max(len(self.vectors) // 1000, 1)])
        settings["vectors"] = [
            list(self.vectors.shape), hashlib.sha256(sampled.tobytes()).hexdigest()
        ]  # fmt: skip
        return settings

    def _found(self, lines: Iterator[Line], first: int) -> list[str]:
        part = list(lines)
        if not part:
            return []
        texts = [line.text for line in part]
        if self.given is not None:
            queries = np.asarray(self.given[first - 1 : first - 1 + len(part)], dtype=np.float32)
            asked = np.flatnonzero(queries.any(1)).tolist()
        else:
            queries = self._embedded(part)
            asked = [at for at, text in enumerate(texts) if normalize(text)]
        self.counts.num_empty += len(part) - len(asked)
        hits: list[list[tuple[int, float]]] = [[] for _ in part]
        found = nearest_in_blocks(queries[asked], self.vectors, self.config.top)
        for row, column in np.argwhere(np.isnan(found.scores))[:1].tolist():
            raise DataError(
                f"the scores for {part[asked[row]].place} are not numbers: its vector, or that of "
                f"line {found.ids[row, column] + 1} in {self.config.index}, holds values that are "
                "not numbers; embed the lines anew"
            )
        least = np.finfo(np.float32).min if self.config.above is None else self.config.above
        for at, ids, scores in zip(asked, found.ids.tolist(), found.scores.tolist(), strict=True):
            hits[at] = [
                (number, score) for number, score in zip(ids, scores, strict=True) if score >= least
            ]
        return [self._row(text, own) for text, own in zip(texts, hits, strict=True)]

    def _embedded(self, part: list[Line]) -> NDArray[np.float32]:
        assert self.model is not None
        said = self.said
        settings = Embedding(
            layer=said.get("layer"), pooling=said.get("pooling"), normalize=said.get("normalize"),
            length=said.get("length"),
        )  # fmt: skip
        language = self.config.language or said.get("language")
        found = embed(
            self.model, [line.text for line in part], language, settings,
            tokens=self.config.tokens, places=[line.place for line in part],
        )  # fmt: skip
        return found.vectors

    def _row(self, query: str, hits: list[tuple[int, float]]) -> str:
        store = self.texts
        shown = [
            (number + 1, score, "" if store is None else normalize(store[number]))
            for number, score in hits
        ]
        if self.config.json:
            found = [
                {"line": number, "score": score, **({} if store is None else {"text": text})}
                for number, score, text in shown
            ]
            return json.dumps({"query": normalize(query), "hits": found}, ensure_ascii=False)
        return "\t".join(f"{score:.4f} {number} {text}".rstrip() for number, score, text in shown)


def _are_vectors(path: str) -> bool:
    return Path(path).suffix in (NPY, PARQUET)


def search_lines(config: Search) -> Iterator[str]:
    """Yield the lines that ``xlm search`` writes, one a query, as windows are done; see ``Search``.

    Raises ConfigError, DataError or CheckpointError in one line.
    """
    yield from _Job(config).rows()


def search_file(config: Search) -> LineCounts:
    """Write or resume ``config.output``, or write to standard output; return the counts."""
    return _Job(config).write()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm search``: see ``Search``."""

    def act(config: Search) -> None:
        search_file(config)

    run_verb(Search, "search", act, arguments, positional="index queries")


if __name__ == "__main__":
    main()
