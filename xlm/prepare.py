"""Prepare corpora from text: normalize, learn one vocabulary for all languages, binarize.

    sources --read, normalize--> sentences drawn by q ~ p^alpha --> vocabulary
                             \\--> ids on disk, one corpus per language and pair, every split

Use as ``xlm.prepare.prepare(Prepare(...))``, ``xlm prepare`` or ``python -m xlm.prepare``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from xlm.config.cli import run_verb
from xlm.data.binarize import binarize, binarize_pairs
from xlm.data.corpora import DESCRIPTION, Corpora, write_header
from xlm.errors import ConfigError
from xlm.preparation.cleaning import Cleaning
from xlm.preparation.config import SPLITS, Aligned, Prepare, Texts, Vocabulary
from xlm.preparation.reading import Reader, open_reader
from xlm.preparation.report import write_report
from xlm.preparation.vocabulary import given_tokenizer, learn_tokenizer
from xlm.storage import atomic_directory, target_of
from xlm.text.kept_pipes import kept_pipes
from xlm.text.readers import ReadReport
from xlm.text.rules import Rules
from xlm.text.tokenizers.tokenizer import Tokenizer

__all__ = ["Aligned", "Cleaning", "Prepare", "Rules", "Texts", "Vocabulary", "main", "prepare"]

log = logging.getLogger("xlm")

WHAT_TO_DO = {
    "count": "cleaning.held_out: drop leaves these training lines out",
    "drop": "these training lines were left out",
    "refuse": "they are within cleaning.held_out_share",
}
"""The end of the warning about held-out lines in training text, by ``cleaning.held_out``."""


def prepare(config: Prepare) -> Corpora:
    """Write ``config.folder`` and open it; log the numbers of lines read and dropped.

    The folder appears whole or not at all. Raises ConfigError if it exists already or settings
    contradict each other, DataError for a source that cannot be read.
    """
    folder = Path(config.folder)
    _check_folder(folder, config.replace)
    with kept_pipes(), atomic_directory(folder, replace=config.replace) as staging:
        config, tokenizer = given_tokenizer(config)
        reader = open_reader(config)
        tokenizer = learn_tokenizer(reader) if tokenizer is None else tokenizer
        tokenizer.save(staging / "tokenizer")
        workers = config.workers or len(os.sched_getaffinity(0))
        reports: dict[str, ReadReport] = {}
        for split in SPLITS:
            reports |= _binarize_split(reader, split, staging / split, tokenizer, workers)
        write_header(staging, tokenizer, config.known)
        title = f"Text prepared in {folder.name}"
        write_report(staging, title, Corpora.open(staging), reports, reader.held_out)
        for text in reader.held_out.leaks() if reader.held_out else ():
            log.warning("%s; %s", text.describe(), WHAT_TO_DO[config.cleaning.held_out])
    return Corpora.open(folder)


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


def _binarize_split(
    reader: Reader, split: str, folder: Path, tokenizer: Tokenizer, workers: int
) -> dict[str, ReadReport]:
    """Write the corpora of a split; return a report for each."""
    config, reports = reader.config, {}
    for name in config.names(split):
        languages = config.languages_of(name)
        with _progress(f"{split} {name}") as update:
            if len(languages) == 1:
                lines, report = reader.lines(split, name, look=True)
                binarize(
                    lines,
                    folder / name,
                    name,
                    tokenizer,
                    num_workers=workers,
                    progress=update,
                    documents=report.documents.starts,
                )
            else:
                pairs, report = reader.pairs(split, name, look=True)
                binarize_pairs(
                    pairs,
                    folder / name,
                    (languages[0], languages[1]),
                    tokenizer,
                    num_workers=workers,
                    progress=update,
                )
        _account(f"{split} {name}", report)
        reports[f"{split} {name}"] = report
    return reports


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
        corpora = prepare(config)
        log.info("%s", corpora.describe())

    run_verb(Prepare, "prepare", act, arguments)


if __name__ == "__main__":
    main()
