"""The lines of a file by their number, however it is stored."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from types import TracebackType

from xlm.errors import DataError
from xlm.text.pipes import every_line


class LineStore:
    """The lines of a text file, compressed or not, from number 0; they lie in a temporary file.

    Memory is 8 bytes a line. Use it as a context: the temporary file goes with it.
    """

    def __init__(self, file: str) -> None:
        self._name, self._places = file, array("q")
        self._stored = tempfile.TemporaryFile()
        digest = hashlib.sha256()
        try:
            for line in every_line(file):
                digest.update(line.as_bytes())
                self._places.append(self._stored.tell())
                self._stored.write(line.text.encode() + b"\n")
        except BaseException:
            self._stored.close()
            raise
        self.digest = digest.hexdigest()
        """The digest of the lines, as a ``LineJob`` has it of those that it read."""

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> str:
        """Return a line as it is; raise DataError if there are fewer."""
        if not 0 <= number < len(self):
            raise DataError(
                f"{self._name} has {len(self):,} lines, so there is no line {number + 1:,}"
            )
        self._stored.seek(self._places[number])
        return self._stored.readline().removesuffix(b"\n").decode()

    def __enter__(self) -> LineStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stored.close()
