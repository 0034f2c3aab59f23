"""The text of a new language: held-out lines put aside, a vocabulary, and corpora."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from xlm import sample
from xlm.adding.config import AddLanguage
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.errors import ConfigError, DataError
from xlm.model.language_tables import check_layouts, layout_of, roles_of, symbol_rows
from xlm.preparation.config import Prepare, Texts, Vocabulary
from xlm.prepare import prepare
from xlm.storage import make_folder, read_json, write_json, write_whole
from xlm.text.readers import ReadReport, open_lines
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm")

FEWEST_HELD_OUT = 200
HELD_OUT_SHARE = 0.01
DATA, HELD_OUT, SETTINGS = "data", "held-out.txt", "text.json"
LAYOUTS = {
    "fastbpe": {"begins_with_end": 1, "num_separators": 1, "begins_again": 0},
    "wordpiece": {"begins_with_end": 0, "num_separators": 1, "begins_again": 0},
}
"""How a vocabulary that has one layout of rows alone arranges them."""


def prepare_text(config: AddLanguage, model: Tokenizer, *, documents: bool = False) -> None:
    """Prepare the language's text in ``folder/data``, unless it is there.

    ``model`` is the model's tokenizer, whose layout of rows the new vocabulary takes over; an
    objective that reads ``documents`` needs held-out text of its own. Raises ConfigError or
    DataError for text that cannot be read, or is too short to hold some out.
    """
    if documents and not config.text.valid:
        raise ConfigError(
            "text.valid is missing: a model that was pretrained with next-sentence "
            "prediction is evaluated on documents separated by empty lines; give held-out "
            "text of that form"
        )
    folder = Path(config.folder) / DATA
    if not (folder / DESCRIPTION).exists():
        _check_kind(config, model)
        make_folder(config.folder, error=ConfigError)
        prepare(_settings(config, model, folder))
        write_json(Path(config.folder) / SETTINGS, _kept(config), indent=1, error=ConfigError)
    found = Corpora.open(folder)
    if config.language not in found.own_languages:
        raise ConfigError(
            f"{config.folder} was begun for {', '.join(found.own_languages)}, not for "
            f"{config.language}: give another folder"
        )
    _check_same(config)
    here = found.tokenizer
    symbol_rows(roles_of(here), roles_of(model))
    check_layouts(config.language, here, model)


def _kept(config: AddLanguage) -> dict[str, Any]:
    """Return the settings that the text was prepared by, which no run's recipe holds."""
    return {
        "text": asdict(config.text), "vocabulary": asdict(config.vocabulary),
        "old_text": config.old_text,
    }  # fmt: skip


def _check_same(config: AddLanguage) -> None:
    """Raise ConfigError if the folder was begun with other text, or another vocabulary."""
    path = Path(config.folder) / SETTINGS
    if not path.exists():  # of a version that did not keep them
        return
    found = read_json(path)
    for name, was, now in _changes(found, config):
        raise ConfigError(
            f"{config.folder} was begun with {name} {was}, but {name} is {now}: give another "
            "folder, or the same settings"
        )


def _changes(found: Mapping[str, Any], config: AddLanguage) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each setting that is another than was kept, its value then and now.

    A field that an earlier version did not have is taken for its default. Parts that it did not
    keep at all are not compared.
    """
    kept = _kept(config)
    for name, own in (("text", config.text), ("vocabulary", config.vocabulary)):
        for field in fields(own) if name in found else ():
            default = field.default if field.default_factory is MISSING else field.default_factory()
            was, now = found[name].get(field.name, default), kept[name][field.name]
            if was != now:
                yield f"{name}.{field.name}", was, now
    if "old_text" in found and found["old_text"] != config.old_text:
        yield "old_text", found["old_text"], config.old_text


def _check_kind(config: AddLanguage, model: Tokenizer) -> None:
    """Raise ConfigError for a kind of vocabulary that has one layout of rows, not the model's."""
    kind, layout = config.vocabulary.kind, layout_of(model)
    if kind in LAYOUTS and layout != LAYOUTS[kind]:
        raise ConfigError(
            f"vocabulary.kind is {kind}, which arranges rows as {LAYOUTS[kind]}, but "
            f"{config.model} as {layout}: take unigram or bpe"
        )


def _settings(config: AddLanguage, model: Tokenizer, folder: Path) -> Prepare:
    language, text = config.language, config.text
    valid, most = text.valid, {}
    if not valid:
        num, lines = _tail(_sources(text.train))
        held_out = Path(config.folder) / HELD_OUT
        write_whole(held_out, "".join(f"{line}\n" for line in lines), error=ConfigError)
        valid, most = str(held_out.resolve()), {language: num - len(lines)}
        log.info("held out: the last %d of %d lines of %s", len(lines), num, language)
    layout, vocabulary = layout_of(model), config.vocabulary
    if config.words == "shared":
        vocabulary = Vocabulary(folder=config.model)
    if vocabulary.folder is None and vocabulary.codes is None and vocabulary.kind not in LAYOUTS:
        vocabulary = replace(
            vocabulary,
            begins=not layout["begins_with_end"],
            num_separators=layout["num_separators"],
            begins_again=bool(layout["begins_again"]),
        )
    return Prepare(
        folder=str(folder),
        text=Texts(train={language: text.train}, valid={language: valid}),
        vocabulary=vocabulary,
        max_sentences=most,
        workers=config.workers,
        seed=config.seed,
    )


def _sources(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _tail(sources: list[str]) -> tuple[int, list[str]]:
    """Return the number of usable lines, and the last of them, which are held out.

    Raises DataError if fewer than half would be left.
    """
    num = sum(1 for _ in _lines(sources))
    held_out = max(FEWEST_HELD_OUT, int(num * HELD_OUT_SHARE))
    if num < 2 * held_out:
        raise DataError(
            f"{', '.join(sources)}: found {num} usable lines, but {held_out} would be held "
            "out: give more text, or separate held-out text (text.valid)"
        )
    return num, list(deque(_lines(sources), maxlen=held_out))


def _lines(sources: list[str]) -> Iterator[str]:
    report = ReadReport()
    return chain.from_iterable(open_lines(sample.resolved(name), report) for name in sources)
