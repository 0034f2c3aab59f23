"""Minimal pairs of Marvin and Linzen (2018) from the pickles of their program, without unpickling.

FOLDER/simple_agrmt.pickle    {"sing_MS_MV": [("the author laughs", "the author laugh"), ...], ...}
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from xlm.analysis.readers import MinimalPair
from xlm.errors import CheckpointError, DataError
from xlm.interchange.safe_torch.pickle_machine import Machine, Refused
from xlm.storage import read_file
from xlm.text.normalize import normalize

ENDING = ".pickle"
_MOST_BYTES = 1 << 28


class _PlainMachine(Machine):
    """A machine that knows no names: strings, numbers and containers alone."""

    def find(self, module: str, name: str) -> Any:
        raise KeyError(name)

    def call(self, known: Any, arguments: tuple[Any, ...]) -> Any:
        raise Refused("calls something: expected sentences alone")

    def give_state(self, target: Any, state: Any) -> None:
        raise Refused("gives an object a state: expected sentences alone")

    def refer(self, reference: Any) -> Any:
        raise Refused("refers to something outside: expected sentences alone")


def read_marvin_linzen(folder: str | Path) -> list[MinimalPair]:
    """Return the pairs of all ``.pickle`` files of a folder; constructions are their names.

    A sentence with several wrong versions, as those with "ever" have, gives a pair for each. No
    code in a file runs. Raises DataError, with the file, for anything but sentences.
    """
    paths = sorted(Path(folder).glob(f"*{ENDING}"))
    if not paths:
        raise DataError(f"{folder} has no file *{ENDING}: expected the files of Marvin and Linzen")
    return [pair for path in paths for pair in _of_file(path)]


def _of_file(path: Path) -> list[MinimalPair]:
    try:
        content = _PlainMachine().read(io.BytesIO(read_file(path, _MOST_BYTES)), str(path))
    except CheckpointError as error:
        raise DataError(str(error)) from None
    found = []
    for kind, rows in content.items() if isinstance(content, dict) else [("", None)]:
        for row in rows if isinstance(rows, list) else [None]:
            if not isinstance(row, list | tuple) or len(row) < 2:
                raise DataError(
                    f"{path}: {str(kind)[:40]!r} holds {str(row)[:60]!r}: expected a dictionary of "
                    "lists of sentences, the right one first"
                )
            texts = [" ".join(own) if isinstance(own, list | tuple) else own for own in row]
            if not all(isinstance(text, str) and normalize(text) for text in texts):
                raise DataError(f"{path}: {str(row)[:60]!r}: expected sentences with words")
            right, *wrong = map(normalize, texts)
            found += [MinimalPair(path.name.removesuffix(ENDING), right, other) for other in wrong]
    return found
