"""Binarization of normalized text into corpora on disk, in constant memory, with all cores.

    rows --chunks--> worker processes (encode) --in order--> CorpusWriter(s) --> order.bin

At any time a bounded number of chunks is in flight, however long the text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus import Corpus, id_type
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.pairs import SIDES, Pairs, write_index
from xlm.data.processes import Processes
from xlm.errors import DataError
from xlm.metrics.scores import TextSize
from xlm.storage import atomic_directory
from xlm.text.tokenizers.tokenizer import Tokenizer

CHUNK_ROWS = 1000
CHUNK_CHARACTERS = 1 << 20
CHUNKS_AHEAD = 3
"""Chunks in flight for each worker: enough that none waits, few enough to need little memory."""
CHUNKS_HERE = 8
"""Largest number of chunks that this process encodes itself, faster than starting others."""

Row = tuple[str, ...]
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Encoded:
    """One side of a chunk: ids in a row, each sentence with its end symbol, and sizes by row."""

    ids: NDArray[Any]
    lengths: NDArray[np.int64]
    """int64 ``[rows]``, the end symbol included."""
    words: NDArray[np.int64]
    characters: NDArray[np.int64]
    bytes: NDArray[np.int64]

    def only(self, kept: NDArray[np.bool_]) -> Encoded:
        """Return the rows that are ``kept`` (bool ``[rows]``)."""
        return Encoded(
            self.ids[np.repeat(kept, self.lengths)],
            self.lengths[kept],
            self.words[kept],
            self.characters[kept],
            self.bytes[kept],
        )

    @property
    def size(self) -> TextSize:
        """The size of all rows together."""
        sums = (int(size.sum()) for size in (self.words, self.characters, self.bytes))
        return TextSize(len(self.lengths), len(self.ids), *sums)

    def write(self, writer: CorpusWriter) -> None:
        """Add these sentences to a corpus."""
        writer.add(self.ids, self.lengths, self.size)


def binarize(
    lines: Iterable[str],
    path: Path | str,
    language: str,
    tokenizer: Tokenizer,
    *,
    num_workers: int = 1,
    progress: Progress | None = None,
    replace: bool = False,
    documents: Callable[[int], NDArray[np.int64] | None] | None = None,
) -> Corpus:
    """Write normalized ``lines``, one sentence each, as a corpus in folder ``path``.

    ``num_workers`` processes encode (1 or less, or little text: this one); each receives
    ``tokenizer`` once, which must pickle. ``progress`` is called with the number of lines of each
    finished chunk. ``documents`` is called with the number of lines when all are read, and returns
    the first line of each document if the text has any. Raises DataError as ``CorpusWriter`` does,
    and if a worker is killed.
    """
    with CorpusWriter(
        path, language=language, tokenizer=tokenizer, replace=replace, index=True
    ) as writer:
        rows, num_lines = ((line,) for line in lines), 0
        for (encoded,) in _encode_all(rows, 1, tokenizer, num_workers, progress):
            encoded.write(writer)
            num_lines += len(encoded.lengths)
        writer.documents = documents(num_lines) if documents is not None else None
    return Corpus.open(path, tokenizer)


def binarize_pairs(
    rows: Iterable[tuple[str, str]],
    path: Path | str,
    languages: tuple[str, str],
    tokenizer: Tokenizer,
    *,
    num_workers: int = 1,
    progress: Progress | None = None,
    replace: bool = False,
) -> Pairs:
    """Write aligned sentences, one pair a row, as ``Pairs`` in folder ``path``.

    Pairs with an empty side are left out, as in the original (docs/fidelity.md, A2), and counted as
    ``empty side`` in ``dropped``. Otherwise as ``binarize``.
    """
    with pairs_writer(path, languages, tokenizer, replace) as (folder, writers, stack):
        num_empty = 0
        for sides in _encode_all(rows, 2, tokenizer, num_workers, progress):
            kept = (sides[0].lengths > 1) & (sides[1].lengths > 1)
            num_empty += len(kept) - int(kept.sum())
            for side, writer in zip(sides, writers, strict=True):
                side.only(kept).write(writer)
        stack.close()
        write_index(folder, tokenizer, dropped={"empty side": num_empty} if num_empty else {})
    return Pairs.open(path, tokenizer)


@contextmanager
def pairs_writer(
    path: Path | str, languages: Sequence[str], tokenizer: Tokenizer, replace: bool
) -> Iterator[tuple[Path, list[CorpusWriter], ExitStack]]:
    """Yield a staged folder, a writer for each side, and the stack that finishes the writers."""
    with atomic_directory(path, replace=replace) as folder, ExitStack() as stack:
        writers = [
            stack.enter_context(CorpusWriter(folder / side, language=name, tokenizer=tokenizer))
            for side, name in zip(SIDES, languages, strict=True)
        ]
        yield folder, writers, stack


def _encode_all(
    rows: Iterable[Row],
    num_sides: int,
    tokenizer: Tokenizer,
    num_workers: int,
    progress: Progress | None,
) -> Iterator[list[Encoded]]:
    """Yield the sides of every chunk in order."""
    waiting: deque[tuple[int, Future[list[Encoded]]]] = deque()

    def next_done() -> list[Encoded]:
        num_rows, future = waiting.popleft()
        sides = future.result()
        if progress is not None:
            progress(num_rows)
        return sides

    made = chunks(rows)
    head = list(islice(made, CHUNKS_HERE + 1)) if num_workers > 1 else []
    if len(head) <= CHUNKS_HERE:
        num_workers = 1
    with _executor(tokenizer, num_workers) as executor:
        try:
            for chunk in chain(head, made):
                texts = [[row[side] for row in chunk] for side in range(num_sides)]
                waiting.append((len(chunk), executor.submit(_encode_chunk, texts)))
                if len(waiting) >= CHUNKS_AHEAD * max(num_workers, 1):
                    yield next_done()
            while waiting:
                yield next_done()
        except BrokenProcessPool as error:
            raise DataError(
                "a tokenizing process was killed, perhaps for lack of memory: use fewer workers"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows some at a time: at most ``CHUNK_ROWS``, or ``CHUNK_CHARACTERS`` and one."""
    chunk: list[Row] = []
    num_characters = 0
    for row in rows:
        chunk.append(row)
        num_characters += sum(map(len, row))
        if len(chunk) >= CHUNK_ROWS or num_characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk


def _executor(tokenizer: Tokenizer, num_workers: int) -> Executor:
    if num_workers <= 1:
        return _Here(tokenizer)
    # the tokenizer's class may be the caller's own
    needs_main = type(tokenizer).__module__ == "__main__"
    return Processes(num_workers, _set_up_worker, (tokenizer,), needs_main=needs_main)


class _Here(Executor):
    """An executor that runs each chunk at once in this process."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer

    def submit(self, task: Any, /, texts: Any) -> Future[Any]:  # type: ignore[override]
        """Encode ``texts`` now; the future raises the errors, as it does with a process."""
        future: Future[list[Encoded]] = Future()
        try:
            future.set_result([encode_side(lines, self._tokenizer) for lines in texts])
        except Exception as error:
            future.set_exception(error)
        return future


_worker_tokenizer: Tokenizer | None = None


def _set_up_worker(tokenizer: Tokenizer) -> None:
    global _worker_tokenizer
    _worker_tokenizer = tokenizer


def _encode_chunk(texts: list[list[str]]) -> list[Encoded]:
    assert _worker_tokenizer is not None
    return [encode_side(lines, _worker_tokenizer) for lines in texts]


def encode_side(lines: Sequence[str], tokenizer: Tokenizer) -> Encoded:
    """Return ids and sizes of lines; each line end counts as one word, character and byte."""
    sentences = tokenizer.encode_lines(lines)
    lengths = np.array([len(ids) + 1 for ids in sentences], dtype=np.int64)
    flat = np.empty(int(lengths.sum()), dtype=np.int64)
    ends = np.cumsum(lengths) - 1
    is_end = np.zeros(len(flat), dtype=bool)
    is_end[ends] = True
    flat[ends] = tokenizer.end_id
    flat[~is_end] = np.fromiter(chain.from_iterable(sentences), np.int64, len(flat) - len(ends))
    if len(flat) and not 0 <= flat.min() <= flat.max() < tokenizer.vocab_size:
        raise DataError(
            f"the tokenizer gives ids from {flat.min()} to {flat.max()}, but its vocabulary "
            f"has {tokenizer.vocab_size} entries: the tokenizer is damaged"
        )
    return Encoded(
        flat.astype(id_type(tokenizer.vocab_size)),
        lengths,
        np.array([len(line.split()) + 1 for line in lines], dtype=np.int64),
        np.array([len(line) + 1 for line in lines], dtype=np.int64),
        np.array([len(line.encode()) + 1 for line in lines], dtype=np.int64),
    )
