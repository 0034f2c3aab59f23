"""The stages of a preparation in parts, each by any number of processes."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from xlm.data.binarize import pairs_writer
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.pairs import write_index
from xlm.data.processes import Processes
from xlm.errors import DataError
from xlm.preparation.config import Prepare
from xlm.preparation.parts.encoding import Encoding
from xlm.preparation.parts.pieces import is_regular, total_size
from xlm.preparation.parts.work import Work, encode, read_piece, settle
from xlm.text.read_report import ReadReport
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")

IN_PARTS_FROM = 64 << 20
"""Bytes of text from which on a preparation is made in parts, whatever the number of workers."""


def is_large(config: Prepare) -> bool:
    """Return whether a preparation of these sources is worth parts."""
    return total_size(config) >= IN_PARTS_FROM and is_regular(config)


def make_share(work: Work, share: tuple[int, int], num_workers: int) -> str:
    """Make this process's share of the parts that can be made now; return what is to be done next.

    ``share`` is (k, n): of all parts number k, k + n, ....
    """
    first, step = share
    _run(
        "reading", read_piece, work, [at for at in work.unread() if at % step == first], num_workers
    )
    if not work.is_settled:
        return (
            "when all parts are read, --join true learns the vocabulary; then run the parts again"
        )
    todo = [at for at in work.unencoded() if at % step == first]
    _run("tokenizing", encode, work, todo, num_workers)
    return "when all parts are tokenized, --join true writes the folder"


def settled_now(work: Work, tokenizer: Tokenizer | None) -> bool:
    """Settle what needs all text; return False if it was settled before.

    Raises DataError if parts are not read yet.
    """
    if work.is_settled:
        return False
    _refuse_missing(work.unread(), "read")
    settle(work, tokenizer)
    return True


def check_encoded(work: Work) -> None:
    """Raise DataError if parts are not tokenized yet."""
    _refuse_missing(work.unencoded(), "tokenized")


def make_all(work: Work, tokenizer: Tokenizer | None, num_workers: int) -> None:
    """Make all parts in processes of this machine."""
    _run("reading", read_piece, work, work.unread(), num_workers)
    if not work.is_settled:
        settle(work, tokenizer)
    _run("tokenizing", encode, work, work.unencoded(), num_workers)


def join(work: Work, split: str, name: str, folder: Path) -> ReadReport:
    """Write the corpus or the pairs of a text from its parts; return the account of its lines."""
    tokenizer, reader = work.tokenizer, work.reader
    languages = work.config.languages_of(name)
    report, num_empty = ReadReport(), 0
    parts = [
        Encoding.open(work.ids(at))
        for at, own in enumerate(work.stretches)
        if (own.split, own.name) == (split, name)
    ]

    def write(writers: list[CorpusWriter]) -> None:
        nonlocal num_empty
        for part in parts:
            report.add(part.report())
            part.write(writers, tokenizer)
            num_empty += part.num_empty
            if reader.held_out is not None:
                reader.held_out.add_found(part.content["met"], part.content["num_found"])

    if len(languages) == 1:
        with CorpusWriter(folder, language=name, tokenizer=tokenizer, index=True) as writer:
            write([writer])
            writer.documents = report.documents.starts(report.num_kept)
        return report
    with pairs_writer(folder, languages, tokenizer, False) as (staging, writers, stack):
        write(writers)
        stack.close()
        write_index(staging, tokenizer, dropped={"empty side": num_empty} if num_empty else {})
    return report


def remove(work: Work) -> None:
    """Remove the parts of a preparation that is there."""
    shutil.rmtree(work.folder, ignore_errors=True)


def _refuse_missing(missing: Sequence[int], done: str) -> None:
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise DataError(
            f"{len(missing)} pieces are not {done} yet (number {shown}): run the parts that have "
            "not ended well again; what they have made is not made twice"
        )


def _run(
    what: str,
    make: Callable[[Work, int], None],
    work: Work,
    todo: Sequence[int],
    num_workers: int,
) -> None:
    """Call ``make`` for each number, in as many processes as are of use."""
    if not todo:
        return
    bar = tqdm(total=len(todo), desc=what, unit=" parts", disable=None, leave=False)
    with ExitStack() as stack:
        stack.callback(bar.close)
        if min(num_workers, len(todo)) <= 1:
            for number in todo:
                make(work, number)
                bar.update()
            return
        executor = stack.enter_context(
            Processes(min(num_workers, len(todo)), _set_up, (work.config,))
        )
        futures = [executor.submit(_make, make, number) for number in todo]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            executor.shutdown(cancel_futures=True)
        for future in futures:
            if future.cancelled():
                continue
            try:
                future.result()
            except BrokenProcessPool as error:
                raise DataError(
                    "a process that prepares text was killed, perhaps for memory: use fewer "
                    "workers; the same command goes on with the parts that are missing"
                ) from error


_work: Work | None = None


def _set_up(config: Prepare) -> None:
    global _work
    _work = Work(config)


def _make(make: Callable[[Work, int], None], number: int) -> None:
    assert _work is not None
    make(_work, number)


def num_workers(config: Prepare) -> int:
    """Return the number of processes to use."""
    return config.workers or len(os.sched_getaffinity(0))
