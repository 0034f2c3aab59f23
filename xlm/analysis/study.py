"""The models of a study, as its ``models.json`` lists them.

[{"arm": "m2m", "seed": 0, "parent": "base", "directions": ["en-hi"], "updates": 1000,
  "folder": "m2m-0"}, ...]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xlm import strict_json
from xlm.errors import DataError
from xlm.storage import MAX_JSON, read_file

FILE = "models.json"


class StudyModel(NamedTuple):
    """A model of a study."""

    name: str
    """Arm and seed, with the number of updates if several models share these."""
    source: Path
    parent: Path | None
    """The model that this one began from."""


def read_study(path: str | Path) -> list[StudyModel]:
    """Return the models of a study's ``models.json``, or of the folder that holds one.

    Folders are relative to the file. A parent is the arm of another model of the list, which then
    has the same seed if there are several, or a folder. Raises DataError, with the file and the
    entry, for anything else.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        entries = strict_json.parse(read_file(path, MAX_JSON, error=DataError))
    except strict_json.JsonError as error:
        raise DataError(f"{path}: found no JSON ({error}), expected a list of models") from None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list of models, each with arm, seed and folder")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), kind)
            for name, kind in (("arm", str), ("seed", int), ("folder", str))
        ):
            raise DataError(
                f"{path}: model {number} is {str(entry)[:60]}: expected arm, seed and "
                "folder, and optionally parent, directions and updates"
            )
    names = [f"{entry['arm']}, seed {entry['seed']}" for entry in entries]
    times = Counter(names)
    found = []
    for entry, name in zip(entries, names, strict=True):
        if times[name] > 1:
            name += f", {entry.get('updates')} updates"
        source = path.parent / entry["folder"]
        found.append(StudyModel(name, source, _parent(entry, entries, path)))
    if twice := [name for name, num in Counter(own.name for own in found).items() if num > 1]:
        raise DataError(
            f"{path}: {twice[0]!r} is listed twice: expected different arms, seeds or updates"
        )
    return found


def compared_with(
    study: Sequence[StudyModel], model: Path, compare: Mapping[str, str], parent: str | None
) -> tuple[dict[str, str], str | None]:
    """Return the models to compare ``model`` with by name, those of its study too, and its parent.

    A given ``parent`` comes before that of the study.
    """
    found = dict(compare)
    for own in study:
        if own.source.resolve() != model.expanduser().resolve():
            found[own.name] = str(own.source)
        elif parent is None and own.parent is not None:
            parent = str(own.parent)
    return found, parent


def _parent(entry: dict[str, object], entries: list[dict[str, object]], path: Path) -> Path | None:
    name = entry.get("parent")
    if name is None:
        return None
    arms = [own for own in entries if own["arm"] == name]
    same = [own for own in arms if own["seed"] == entry["seed"]] or arms
    return path.parent / str(same[-1]["folder"] if same else name)
