"""A file that grows window by window, and resumes, byte for byte, after a kill.

    OUTPUT.partial       whole windows, and perhaps a part of one more
    OUTPUT.partial.json  of what they are, and how many

A window counts once the file beside says so, which is replaced after the window is on the disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from xlm import disk, strict_json
from xlm.errors import ConfigError, DataError
from xlm.storage import MAX_JSON, read_file, refusing, whole_file, write_json

log = logging.getLogger("xlm")

Rows = Sequence[str] | bytes
"""The output of a window: texts, each a line, or bytes as they are."""
Convert = Callable[[Path, Path], None]
"""A function that reads the partial file and writes the output, each given by its path."""


class Job(Protocol):
    """Lines that are left, such as ``LineJob``."""

    counts: Any
    """A dataclass of numbers, ``num_lines`` among them."""
    digest: Any
    """A hash of the lines that were read."""

    def skip(self, num_lines: int) -> int:
        """Read lines that are done already; return how many there were."""


class Partial:
    """The output while it grows, from ``open`` (``with``) to ``finish``.

    ``identity`` is all that decides the bytes, ``noun`` names them. ``head`` are bytes in front
    of the windows.
    """

    def __init__(
        self, output: Path, identity: Mapping[str, Any], noun: str, *, head: bytes = b""
    ) -> None:
        # a link stays, and its target is replaced
        self.output = output.resolve() if output.is_symlink() else output
        self.identity, output = dict(identity), self.output
        self.path = output.with_name(output.name + ".partial")
        self.beside = output.with_name(output.name + ".partial.json")
        self.digest = hashlib.sha256()
        self.num_bytes = 0
        """Number of bytes of whole windows."""
        self._format, self._head = f"xlm-pretrain {noun} 1", head

    def __enter__(self) -> Partial:
        if self.output.is_dir():
            raise ConfigError(f"output {self.output} is a directory: give a file")
        if not self.beside.exists() and self.path.exists() and os.path.getsize(self.path):
            raise DataError(
                f"{self.path} exists without {self.beside.name}, so its origin is unknown: "
                "remove it, or give another output"
            )
        with refusing(self.output):
            self._file: IO[bytes] = open(self.path, "a+b")  # closed on leaving
        try:
            disk.lock(self._file)
        except BlockingIOError:
            self._file.close()
            raise DataError(
                f"{self.path} is being written by another process: wait for it, or give another "
                "output"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path.exists() and os.path.getsize(self.path) <= len(self._head):
            # nothing to go on with
            self.path.unlink()
            self.beside.unlink(missing_ok=True)
        self._file.close()

    def resume(self, job: Job) -> None:
        """Go on behind the last whole window: the lines that are done are read and compared.

        Raises DataError if the settings, the lines or the output have changed.
        """
        done = self._done(job)
        if not done:
            with refusing(self.output):
                self._file.truncate(0)
                self._file.write(self._head)
            self._save(job)
            return
        job.counts = done["account"]
        num_read = job.skip(job.counts.num_lines)
        if num_read < job.counts.num_lines or job.digest.hexdigest() != done["lines"]:
            raise self._refused(
                f"the first {job.counts.num_lines:,} lines of the input are not those that were "
                "read"
            )
        self._file.seek(len(self._head))
        while self.num_bytes < done["bytes"]:
            piece = self._file.read(min(1 << 20, done["bytes"] - self.num_bytes))
            if not piece:
                break
            self.digest.update(piece)
            self.num_bytes += len(piece)
        if self.digest.hexdigest() != done["written"]:
            raise self._refused(f"{self.path} is not what was written")
        with refusing(self.output):
            self._file.truncate(len(self._head) + self.num_bytes)
        log.info("%s holds %s lines: going on", self.path, f"{job.counts.num_lines:,}")

    def _done(self, job: Job) -> dict[str, Any]:
        """Return the progress that the file beside records; {} if there is none."""
        if os.path.getsize(self.path) <= len(self._head):
            return {}  # begun anew, or killed before the first window was there
        try:
            found = strict_json.parse(read_file(self.beside, MAX_JSON, error=DataError))
            was, done = dict(found["of"]), dict(found["done"])
            if found["format"] != self._format or not {"lines", "bytes", "written"} <= set(done):
                raise ValueError(f"format {found['format']!r}, expected {self._format!r}")
            done["account"] = type(job.counts)(**done["account"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._refused(f"{self.beside} cannot be read ({error})") from None
        now = json.loads(json.dumps(self.identity))
        different = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if was.get("invalid") == "error" and "invalid" in different:
            different.remove("invalid")  # the finished part has no such line
        if different:
            parts = [f"{name} was {was.get(name)}, is {now.get(name)}" for name in different]
            raise self._refused("; ".join(parts))
        return done

    def _refused(self, reason: str) -> DataError:
        return DataError(
            f"{self.path} was started with other settings: {reason}; start it as before, "
            f"remove {self.path} and {self.beside.name}, or give another output"
        )

    def add(self, rows: Rows, job: Job) -> None:
        """Append the rows of a window."""
        data = rows if isinstance(rows, bytes) else "".join(f"{row}\n" for row in rows).encode()
        with refusing(self.output):
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        self.digest.update(data)
        self.num_bytes += len(data)
        self._save(job)

    def _save(self, job: Job) -> None:
        done = {
            "account": dataclasses.asdict(job.counts),
            "lines": job.digest.hexdigest(),
            "bytes": self.num_bytes,
            "written": self.digest.hexdigest(),
        }
        content = {"format": self._format, "of": self.identity, "done": done}
        write_json(self.beside, content)

    def finish(self, convert: Convert | None = None, head: bytes | None = None) -> None:
        """Let the output appear: what was written, or what ``convert`` makes of it.

        ``head`` replaces the first bytes, as many as were there.
        """
        self._file.flush()
        if head is not None:
            assert len(head) == len(self._head)
            with refusing(self.output), self.path.open("r+b") as file:
                file.write(head)
                os.fsync(file.fileno())
        if convert is None:
            with refusing(self.output):
                os.replace(self.path, self.output)
        else:
            with whole_file(self.output) as beside:
                convert(self.path, beside)
            self.path.unlink()
        self.beside.unlink()
