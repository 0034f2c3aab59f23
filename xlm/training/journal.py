"""The record of a run: ``metrics.jsonl`` always, TensorBoard beside it, a bar on a terminal.

One JSON object a line. After a resume at step s, lines of later steps are cut off, so that the file
is that of a run that was never interrupted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xlm import disk, strict_json
from xlm.errors import ConfigError, DataError
from xlm.storage import write_whole
from xlm.strict_json import is_whole

METRICS = "metrics.jsonl"

_log = logging.getLogger("xlm")


class _Lines:
    """Lines at the end of a file; those that the disk refuses wait, and are tried again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._waiting: list[bytes] = []

    def add(self, line: str) -> None:
        """Append a line, or say once that the disk refuses it."""
        had_failed = bool(self._waiting)
        self._waiting.append(line.encode() + b"\n")
        refused = self._write()
        if refused and not had_failed:
            _log.warning(
                "%s: cannot be written (%s; %s): the run continues and will write its lines "
                "later",
                self._path, refused.strerror, disk.advice(refused),
            )  # fmt: skip
        elif had_failed and not refused:
            _log.warning("%s: can be written again; the waiting lines were added", self._path)

    def _write(self) -> OSError | None:
        """Write the waiting lines, all or nothing; return the error if there is one."""
        size = os.fstat(self._file.fileno()).st_size
        left = memoryview(b"".join(self._waiting))
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as refused:
            with suppress(OSError):  # of a part of a line the next start gets rid
                os.ftruncate(self._file.fileno(), size)
            return refused
        self._waiting.clear()
        return None

    def close(self) -> None:
        """Close the file; say how many lines it lacks, if some are still refused."""
        if self._waiting and self._write():
            _log.warning(
                "%s: lacks %d lines that could not be written", self._path, len(self._waiting)
            )
        self._file.close()


class Journal:
    """Writes on the rank that is ``active`` (rank 0), and does nothing on the others."""

    def __init__(
        self, file: Any = None, writer: Any = None, bar: Any = None, tracker: Any = None
    ) -> None:
        """Write to what is given; see :meth:`open`."""
        self._file = file
        self._writer = writer
        self._bar = bar
        self._tracker = tracker

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        step: int = 0,
        total_steps: int | None = None,
        tensorboard: bool = False,
        wandb: str | None = None,
        progress: bool = True,
        active: bool = True,
    ) -> Journal:
        """Open or continue the journal in ``folder`` (made if missing).

        ``step``: the run starts or resumes here. ``progress``: show a bar up to ``total_steps``,
        if standard error is a terminal; otherwise :meth:`say` writes lines to the logger "xlm".
        Raises ConfigError if TensorBoard is asked for and missing, DataError for a damaged file.
        """
        if not active:
            return cls()
        path = Path(folder) / METRICS
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut(path, step)
        # before the file is opened: TensorBoard may be missing
        writer = _summary_writer(path.parent / "tensorboard", step) if tensorboard else None
        bar = None
        if progress and total_steps is not None and sys.stderr.isatty():
            from tqdm import tqdm

            bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True)
        tracker = _tracker(path.parent, wandb) if wandb is not None else None
        return cls(_Lines(path), writer, bar, tracker)

    def record(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write a line ``{"step": ..., "event": ..., **values}``; numbers go to TensorBoard too.

        Values may be nested mappings. Numbers that are not finite are null. A disk that refuses
        ends no run: the line waits for the next one, and the log says so.
        """
        if self._file is None:
            return
        line = {"step": step, "event": event, **values}
        self._file.add(strict_json.dumps(line))
        if self._writer is not None:
            try:
                for name, value in numbers(values):
                    self._writer.add_scalar(f"{event}/{name}", value, step)
            except OSError as refused:
                self._writer = None
                _log.warning(
                    "TensorBoard's files cannot be written (%s): no more will be",
                    refused.strerror,
                )

        if self._tracker is not None:
            found = {f"{event}/{name}": value for name, value in numbers(values)}
            self._tracker.log(found, step=step)

    def say(self, line: str) -> None:
        """Log one line for the person who watches: above the bar, or to the logger "xlm"."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._file is not None:
            _log.info("%s", line)

    def advance(self, step: int, **figures: float) -> None:
        """Move the bar to ``step`` and show ``figures`` beside it."""
        if self._bar is not None:
            self._bar.set_postfix({n: f"{v:.4g}" for n, v in figures.items()}, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Close all files; calling it twice does no harm."""
        for thing in (self._file, self._writer, self._bar):
            if thing is not None:
                with suppress(OSError):  # of TensorBoard's files; `_Lines` raises none
                    thing.close()
        if self._tracker is not None:
            self._tracker.finish()
        self._file = self._writer = self._bar = self._tracker = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


SHOWN = (
    "nats", "perplexity", "word_perplexity", "bits_per_byte", "unigram_perplexity", "accuracy",
    "f1", "exact", "uas", "las", "ndcg", "pearson", "spearman", "bleu", "chrf", "copied", "empty",
    "in_language",
)  # fmt: skip
"""Figures that a line shows."""


def short(figures: Mapping[str, float], before: Mapping[str, float] | None = None) -> str:
    """Return a stream's chief figures in a line; of both evaluations if ``before`` is given."""
    parts = []
    for name in (name for name in figures if name in SHOWN or name.startswith("like_")):
        form = ".1%" if name == "accuracy" else ".4g"
        was = f"{before[name]:{form}} -> " if before and name in before else ""
        parts.append(f"{name.replace('_', ' ')} {was}{figures[name]:{form}}")
    return "  ".join(parts)


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """Read the lines of a ``metrics.jsonl``; raise DataError with the place of a damaged one."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a metrics.jsonl"
        ) from error
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"TensorBoard is asked for but cannot be imported ({error}): pip install "
            "tensorboard, or turn it off, since metrics.jsonl holds the same numbers"
        ) from error
    # Events of steps after the one resumed from are hidden, as they are cut from metrics.jsonl.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _tracker(folder: Path, project: str) -> Any:
    """Return a run of Weights & Biases, that of the folder if it was there before."""
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            f"wandb names the project {project}, but Weights & Biases cannot be imported "
            f"({error}); pip install wandb (the extra `wandb` of this package), or leave it out"
        ) from error
    own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return wandb.init(project=project, name=folder.name, id=own, resume="allow", dir=str(folder))


def _cut(path: Path, step: int) -> None:
    """Drop the lines after ``step``, and a half-written line that a crash left at the end."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    while lines and not _is_whole(lines[-1]):
        lines.pop()
    kept = [
        line
        for number, line in enumerate(lines, start=1)
        if _parse(path, number, line)["step"] <= step
    ]
    content = b"".join(kept)
    if lines[: len(kept)] == kept:
        os.truncate(path, len(content))  # no room is needed, as on a full disk there is none
    else:
        write_whole(path, content)


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(strict_json.parse(line), dict)
    except ValueError:
        return False


def _parse(path: Path | str, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = strict_json.parse(line)
        if isinstance(value, dict) and is_whole(value.get("step")):
            return value
    except ValueError:
        pass
    raise DataError(
        f"{path}:{number}: expected a JSON object with a step, found {line[:40]!r}; remove the line"
    )


def numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number below ``values``, under its path joined by "/"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}/")
        elif value in ("nan", "inf", "-inf"):  # as journals had them before they were null
            yield f"{prefix}{name}", float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
