"""Sources that hold both sides of aligned text: TMX, tables of two columns, Moses and OPUS folders.

corpus.tmx, pairs.tsv, pairs.jsonl?columns=translation.en,translation.ne  --> rows of two cells
OPUS/Tatoeba (a folder), OPUS/Tatoeba/Tatoeba.en-ne (shared by two names) --> two files
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from xml.parsers import expat

from xlm.errors import ConfigError, DataError
from xlm.text import files
from xlm.text.cells import MAX_ROW
from xlm.text.columns import NAMED_ONLY, Row, open_rows
from xlm.text.sources import COMPRESSED, ending, find_files, is_pattern, split_settings

_INDENTATION = re.compile(r"\s+")


def both_sides(source: str, pair: tuple[str, str], invalid: str) -> list[Iterator[Row]] | None:
    """Return the rows of each file of a source whose files hold both sides; None for a Moses one.

    ``pair`` names the languages as the file does, or as its ``xml:lang`` begins.
    """
    path, settings = split_settings(source, ("columns",))
    if not path.endswith("/") and not os.path.isdir(path) and ending(path) == ".tmx":
        if settings:
            raise ConfigError(f"{source}: a TMX file has no columns: give {path} alone")
        return [tmx_rows(name, pair) for name in find_files(path)]
    if ending(path) not in (*NAMED_ONLY, ".tsv", ".csv"):
        if settings:
            raise ConfigError(f"{source} has no columns: give {path} alone, or a table")
        return None
    columns = settings["columns"].split(",") if "columns" in settings else []
    if not columns and ending(path) in NAMED_ONLY or len(columns) not in (0, 2):
        raise ConfigError(
            f"{source}: expected the columns of both sides, such as "
            f"{path}?columns=translation.{pair[0]},translation.{pair[1]}"
        )
    return [
        open_rows(name, columns or ["1", "2"], invalid, only=not columns)
        for name in find_files(path)
    ]


def moses_files(source: str, pair: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the two files of each text of a Moses or OPUS source: ``NAME.en`` and ``NAME.ne``.

    The source is the folder that holds them, compressed or not, the shared part of their names
    (``folder/train``), or a pattern of that (``folder/*``). Raises DataError if there is no such
    text, or if a folder holds several: training text and held-out text may lie beside each other.
    """
    is_folder = os.path.isdir(source)
    start = source
    if is_folder:
        start = os.path.join(glob.escape(source), "**", "*")
    elif not is_pattern(source):
        start = glob.escape(source)
    stems: dict[str, tuple[str, str]] = {}
    for name in sorted(glob.glob(start + ".*", recursive=True)):
        plain = _without_compression(name)
        if not plain.endswith(f".{pair[0]}") or os.path.isdir(name):
            continue
        stem = plain.removesuffix(f".{pair[0]}")
        if not is_folder and not is_pattern(source) and stem != source:
            continue
        others = [f"{stem}.{pair[1]}{packed}" for packed in ("", *COMPRESSED)]
        other = next(filter(os.path.isfile, others), None)
        if other is not None:
            if stem in stems:
                raise DataError(f"{stems[stem][0]} and {name} are the same text: remove one")
            stems[stem] = (name, other)
    if not stems:
        raise DataError(
            f"{source} has no text in both languages: expected NAME.{pair[0]} and "
            f"NAME.{pair[1]}{_beside(source)}; or give two files"
        )
    if is_folder and len(stems) > 1:
        raise DataError(
            f"{source} holds {len(stems)} texts of {'-'.join(pair)} "
            f"({', '.join(sorted(stems))}): choose one of these, or give a pattern such as "
            f"{source.rstrip('/')}/*"
        )
    return list(stems.values())


def _without_compression(name: str) -> str:
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return name


def _beside(source: str) -> str:
    folder = source if os.path.isdir(source) else os.path.dirname(source) or "."
    if not os.path.isdir(folder):
        return f" (there is no folder {folder})"
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return f" (the folder has {', '.join(names[:8])[:200] or 'nothing'})"


def tmx_rows(path: str, pair: tuple[str, str]) -> Iterator[Row]:
    """Return the two segments of each translation unit of a TMX file, at the line where it ends.

    A language is matched by ``xml:lang`` (``lang`` in older files) without regard to case, exactly
    or as its beginning (en takes en-US). Text inside inline markup counts, white space of the
    layout is one space. A unit without one of the two has an empty side.

    Raises DataError for XML that does not parse, for entities that it declares, and if no unit has
    both languages.
    """
    reader = _Units(pair)
    number = both = 0
    for number, raw in enumerate(files.raw_lines(path, MAX_ROW, any_encoding=True), 1):
        if raw is None:
            raise DataError(
                f"{path}:{number}: a line has more than {MAX_ROW:,} bytes: break it into several"
            )
        try:
            reader.feed(raw if number == 1 else b"\n" + raw)
        except (expat.ExpatError, ValueError) as error:
            raise DataError(f"{path}:{number}: is not TMX ({error}): fetch it again") from None
        for cells in reader.take():
            both += all(cells)
            yield Row(cells, "", f"{path}:{number}")
    try:
        reader.feed(b"", final=True)
    except (expat.ExpatError, ValueError) as error:
        raise DataError(f"{path}:{number}: is not TMX ({error}): fetch it again") from None
    if not both:
        there = ", ".join(sorted(reader.languages))[:200] or "none"
        raise DataError(
            f"{path}: no unit has both {pair[0]} and {pair[1]}: found the languages {there}"
        )


class _Units:
    """The translation units of a TMX document that is fed piece by piece."""

    def __init__(self, pair: tuple[str, str]) -> None:
        self._pair = pair
        self._done: list[tuple[str, str]] = []
        self._unit: dict[str, str] = {}
        self._language = ""
        self._text: list[str] | None = None
        self.languages: set[str] = set()
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._entity

    def feed(self, data: bytes, final: bool = False) -> None:
        self._parser.Parse(data, final)

    def take(self) -> list[tuple[str, str]]:
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tu":
            self._unit = {}
        elif name == "tuv":
            self._language = attributes.get("xml:lang") or attributes.get("lang") or ""
            self.languages.add(self._language)
        elif name == "seg":
            self._text = []

    def _characters(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def _end(self, name: str) -> None:
        if name == "seg" and self._text is not None:
            self._unit.setdefault(self._language, _INDENTATION.sub(" ", "".join(self._text)))
            self._text = None
        elif name == "tu":
            self._done.append((self._side(self._pair[0]), self._side(self._pair[1])))

    def _side(self, language: str) -> str:
        wanted = _folded(language)
        exact = [text for name, text in self._unit.items() if _folded(name) == wanted]
        begun = [t for name, t in self._unit.items() if _folded(name).startswith(wanted + "-")]
        return (exact or begun or [""])[0]

    def _entity(self, name: str, *_: object) -> None:
        raise ValueError(f"it declares the entity {name[:100]}")


def _folded(language: str) -> str:
    return language.lower().replace("_", "-")


def one_side(source: str, language: str) -> Iterator[Row]:
    """Return the segments in one language of the units of a TMX file; see ``tmx_rows``."""
    for row in tmx_rows(source, (language, language)):
        yield Row(row.cells[:1], row.reason, row.place)
