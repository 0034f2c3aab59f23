"""Prepare corpora from text: normalize, learn one vocabulary for all languages, binarize.

    sources --read, normalize--> sentences drawn by q ~ p^alpha --> vocabulary
                             \\--> ids on disk, one corpus per language and pair, every split

Use as ``xlm.prepare.prepare(Prepare(...))``, ``xlm prepare`` or ``python -m xlm.prepare``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from xlm.config.cli import run_verb
from xlm.data.binarize import binarize, binarize_pairs
from xlm.data.corpora import DESCRIPTION, Corpora, write_header
from xlm.errors import ConfigError
from xlm.preparation.cleaning import Cleaning
from xlm.preparation.config import SPLITS, Aligned, Prepare, Texts, Vocabulary
from xlm.preparation.parts.pieces import is_regular
from xlm.preparation.parts.stages import (
    check_encoded,
    is_large,
    join,
    make_all,
    make_share,
    num_workers,
    remove,
    settled_now,
)
from xlm.preparation.parts.work import Work
from xlm.preparation.reading import Reader, open_reader
from xlm.preparation.report import write_report
from xlm.preparation.vocabulary import given_tokenizer, learn_tokenizer
from xlm.storage import atomic_directory, target_of
from xlm.text.kept_pipes import kept_pipes
from xlm.text.readers import ReadReport
from xlm.text.rules import Rules
from xlm.text.tokenizers.tokenizer import Tokenizer

__all__ = [
    "Aligned",
    "Cleaning",
    "Prepare",
    "Rules",
    "Texts",
    "Vocabulary",
    "main",
    "prepare",
    "prepare_part",
]

log = logging.getLogger("xlm")

WHAT_TO_DO = {
    "count": "cleaning.held_out: drop leaves these training lines out",
    "drop": "these training lines were left out",
    "refuse": "they are within cleaning.held_out_share",
}
"""The end of the warning about held-out lines in training text, by ``cleaning.held_out``."""


def prepare(config: Prepare) -> Corpora:
    """Write ``config.folder`` and open it; log the numbers of lines read and dropped.

    The folder appears whole or not at all. Much text is prepared in parts, by ``config.workers``
    processes; what a killed one has made is not made again. Raises ConfigError if the folder exists
    already or settings contradict each other, DataError for a source that cannot be read.
    """
    if config.part is not None or config.join:
        raise ConfigError("part and join go with xlm.prepare.prepare_part: leave them out")
    folder = Path(config.folder)
    _check_folder(folder, config.replace)
    with kept_pipes():
        resolved, tokenizer = given_tokenizer(config)
        if is_large(resolved):
            work = Work(resolved)
            work.begin(anew=True)
            make_all(work, tokenizer, num_workers(config))
            return _joined(work)
        with atomic_directory(folder, replace=config.replace) as staging:
            reader = open_reader(resolved)
            tokenizer = learn_tokenizer(reader) if tokenizer is None else tokenizer
            _write(staging, reader, tokenizer, lambda split, name, path: None)
    return Corpora.open(folder)


def prepare_part(config: Prepare) -> Corpora | None:
    """Make the share of the text that ``config.part`` names, or ``config.join`` what is there.

    Returns the corpora when the last join has written them, else None; what is to be done next is
    logged. Raises as ``prepare`` does, and DataError for a join if parts are missing.
    """
    _check_folder(Path(config.folder), config.replace)
    resolved, tokenizer = given_tokenizer(config)
    work = Work(resolved)
    if not is_regular(resolved):
        raise ConfigError("a source is a pipe, which other processes cannot read: give files")
    work.begin(anew=False)
    if not config.join:
        log.info(
            "part %s is done: %s", config.part, make_share(work, config.share, num_workers(config))
        )
        return None
    if settled_now(work, tokenizer):
        log.info("the vocabulary is there: run the parts again, which tokenize now; then join")
        return None
    check_encoded(work)
    return _joined(work)


def _joined(work: Work) -> Corpora:
    """Write the folder from its parts, and remove them."""
    config, reader = work.config, work.reader
    if reader.held_out is not None:
        reader.held_out.add_found(work.decided["met"], work.decided["num_found"])

    def joined(split: str, name: str, path: Path) -> ReadReport | None:
        return join(work, split, name, path) if (split, name) in reader.stored else None

    with atomic_directory(config.folder, replace=config.replace) as staging:
        _write(staging, reader, work.tokenizer, joined)
    remove(work)
    return Corpora.open(config.folder)


def _write(
    staging: Path,
    reader: Reader,
    tokenizer: Tokenizer,
    joined: Callable[[str, str, Path], ReadReport | None],
) -> None:
    """Fill the folder; ``joined`` writes a text that is there in parts, and returns its account."""
    config = reader.config
    tokenizer.save(staging / "tokenizer")
    reports: dict[str, ReadReport] = {}
    for split in SPLITS:
        for name in config.names(split):
            path = staging / split / name
            report = joined(split, name, path)
            if report is None:
                report = _binarize(reader, split, name, path, tokenizer)
            _account(f"{split} {name}", report)
            reports[f"{split} {name}"] = report
    write_header(staging, tokenizer, config.known)
    title = f"Text prepared in {Path(config.folder).name}"
    write_report(staging, title, Corpora.open(staging), reports, reader.held_out)
    for text in reader.held_out.leaks() if reader.held_out else ():
        log.warning("%s; %s", text.describe(), WHAT_TO_DO[config.cleaning.held_out])


def _check_folder(folder: Path, replace: bool) -> None:
    """Raise early if a folder may not be overwritten; an empty one, or a link to one, may be."""
    folder = target_of(folder)
    if (folder / DESCRIPTION).exists():
        if not replace:
            raise ConfigError(
                f"{folder} already holds a preparation: give another folder, or set replace"
            )
    elif folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            raise ConfigError(
                f"{folder} holds files that are not a preparation: give another folder"
            ) from None
    elif folder.exists():
        raise ConfigError(f"{folder} is a file: give the name of a folder")


def _binarize(
    reader: Reader, split: str, name: str, path: Path, tokenizer: Tokenizer
) -> ReadReport:
    """Write one corpus, or the pairs of a name; return the account of its lines."""
    languages = reader.config.languages_of(name)
    workers = num_workers(reader.config)
    with _progress(f"{split} {name}") as update:
        if len(languages) == 1:
            lines, report = reader.lines(split, name, look=True)
            binarize(
                lines,
                path,
                name,
                tokenizer,
                num_workers=workers,
                progress=update,
                documents=report.documents.starts,
            )
            return report
        pairs, report = reader.pairs(split, name, look=True)
        binarize_pairs(
            pairs,
            path,
            (languages[0], languages[1]),
            tokenizer,
            num_workers=workers,
            progress=update,
        )
    return report


def _account(what: str, report: ReadReport) -> None:
    """Log the lines read; dropped ones are a warning, which a script shows by default."""
    level = logging.WARNING if report.dropped else logging.INFO
    log.log(level, "%s: %s", what, report.describe())


class _progress:
    """A tqdm bar over lines; silent unless standard error is a terminal."""

    def __init__(self, what: str) -> None:
        self._bar = tqdm(desc=what, unit=" lines", disable=None, leave=False)

    def __enter__(self) -> Callable[[int], object]:
        update: Callable[[int], object] = self._bar.update
        return update

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm prepare``: see ``Prepare``."""

    def act(config: Prepare) -> None:
        in_parts = config.part is not None or config.join
        corpora = prepare_part(config) if in_parts else prepare(config)
        if corpora is not None:
            log.info("%s", corpora.describe())

    run_verb(Prepare, "prepare", act, arguments)


if __name__ == "__main__":
    main()
