"""Write a corpus as a stream: its ids, offsets, counts, order by length and header."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus import DOCUMENTS, FILES, FORMAT_VERSION, count_ids, id_type
from xlm.data.lengths import index_files, write_lengths
from xlm.digests import digests, sealed
from xlm.metrics.scores import TextSize
from xlm.storage import HEADER, atomic_directory, map_array, write_json
from xlm.text.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Offsets:
    """The lengths of sentences whose ids are not there yet."""

    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, start: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """Return the lengths of sentences ``start`` to ``end`` (int64)."""
        end = len(self) if end is None else end
        return np.diff(self.offsets[start : end + 1]) - 1

    def lengths_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths of some sentences (int64)."""
        found: NDArray[np.int64] = self.offsets[indices + 1] - self.offsets[indices] - 1
        return found


class CorpusWriter:
    """A writer of a corpus as a stream; the folder appears when the ``with`` block ends well.

    With ``index`` the sentences' order by length is written too, which streams of sentences need.
    Raises DataError if ``path`` exists (unless ``replace``) and if the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        language: str,
        tokenizer: Tokenizer,
        replace: bool = False,
        index: bool = False,
    ):
        self._path = Path(path)
        self._index = index
        self._language = language
        self._digest = tokenizer.digest
        self._vocab_size = tokenizer.vocab_size
        self._replace = replace
        self._size = TextSize(0, 0, 0, 0, 0)
        self._counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        self._stack = contextlib.ExitStack()
        self.dropped: dict[str, int] = {}
        self.documents: NDArray[np.int64] | None = None
        """The first sentence of each document, to be set before the block ends; None: unknown."""

    def __enter__(self) -> CorpusWriter:
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(atomic_directory(self._path, replace=self._replace))
            self._files: dict[str, BinaryIO] = {
                name: stack.enter_context(open(self._folder / name, "wb")) for name in FILES
            }
            self._digests = {name: hashlib.sha256() for name in FILES}
            self._write("offsets.bin", np.zeros(1, dtype=np.int64).tobytes())
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, ids: NDArray[Any], lengths: NDArray[np.int64], text_size: TextSize) -> None:
        """Add sentences: their ids in a row, each with its end symbol, and their lengths with it.

        ``text_size`` is their size; its sentences and tokens are recomputed.
        """
        self._counts += count_ids(ids, self._vocab_size)
        self._write("ids.bin", ids.astype(id_type(self._vocab_size), copy=False).tobytes())
        offsets = self._size.tokens + np.cumsum(lengths, dtype=np.int64)
        self._write("offsets.bin", offsets.tobytes())
        self._size += TextSize(
            len(lengths), len(ids), text_size.words, text_size.characters, text_size.bytes
        )

    def _finish(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        self._write("counts.bin", self._counts.tobytes())
        documents = {}
        if self.documents is not None:
            content = self.documents.astype(np.int64).tobytes()
            (self._folder / DOCUMENTS).write_bytes(content)
            self._digests[DOCUMENTS] = hashlib.sha256(content)
            documents = {"documents": len(self.documents)}
        header: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "language": self._language,
            "dtype": id_type(self._vocab_size).name,
            "vocab_size": self._vocab_size,
            "tokenizer": self._digest,
            "sentences": self._size.sentences,
            "tokens": self._size.tokens,
            "words": self._size.words,
            "characters": self._size.characters,
            "bytes": self._size.bytes,
            "dropped": self.dropped,
            **documents,
        }
        files = {name: digest.hexdigest() for name, digest in self._digests.items()}
        if self._index:
            self._files["offsets.bin"].flush()
            offsets = map_array(self._folder / "offsets.bin", np.int64, self._size.sentences + 1)
            header["longest"] = write_lengths(self._folder, (_Offsets(offsets),), ("longer",))
            files |= digests(self._folder, index_files(("longer",)))
        header["files"] = files
        write_json(self._folder / HEADER, sealed(header))

    def _write(self, name: str, content: bytes) -> None:
        self._digests[name].update(content)
        self._files[name].write(content)
