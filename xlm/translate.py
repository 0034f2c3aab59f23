"""Translate lines of text: as many lines out as in, each in its place.

    lines --chunk of them--> Translator --> a line each, in order, as chunks are done

Use as ``xlm.load("runs/mt").translate([...])`` on lists, ``xlm translate MODEL FILE`` or ``python
-m xlm.translate``. Memory is bounded by the chunk, however long the input. What is written into a
file goes on where it was killed: ``FILE.partial`` holds whole chunks, ``FILE.partial.json`` of what
and how many.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import torch
from tqdm import tqdm

from xlm.config.cli import run_verb
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.generate import Generation
from xlm.model.pretrained import PretrainedModel
from xlm.model.translation import BEAM, CELLS, Translated, Translator
from xlm.storage import refusing, write_json
from xlm.text.pipes import STANDARD, check_output, every_line, to_standard_output
from xlm.training.distributed.devices import usable_device
from xlm.training.precision import Precision, autocast

log = logging.getLogger("xlm")

CHUNK = 1000
"""Lines that are sorted by length together."""
_FORMAT = "xlm-pretrain translation 1"


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Translate each line of a file or of standard input: as many lines out as in, in order."""

    model: str
    """A translator: a run's folder, a checkpoint, or a model directory (xlm import makes one)."""
    file: str = STANDARD
    """The lines: a text file, plain or .gz, .zst, .bz2, .xz (-: standard input)."""
    source: str | None = None
    """The language of the lines; models without language embeddings need none."""
    target: str | None = None
    """The language to translate into."""
    output: str | None = None
    """Write here (null: standard output); the file appears when all is done, and a start after a
    kill goes on with what OUTPUT.partial holds."""
    generation: Generation = field(default_factory=lambda: BEAM)
    """How translations are generated."""
    n_best: int = 1
    """Translations of each line; above 1 each is a line: the number of the line, a tab, the text.
    A beam may find fewer."""
    scores: bool = False
    """A tab and the score after each text: the sum of the log-probabilities of its tokens over its
    length to the power of length_penalty; 0 for a line without text."""
    tokens: int = CELLS
    """Tokens of the sources of a batch, padding included."""
    chunk: int = CHUNK
    """Lines that are read before the first of them is translated, sorted by length together; 1 at
    a terminal."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a GPU."""
    precision: Precision = "fp32"
    """fp32, bf16 or fp16 (autocast)."""
    invalid: Literal["error", "empty"] = "error"
    """A line that is no UTF-8 or has more than 1 MiB: error ends with its place; empty leaves an
    empty line in its place, and counts it."""
    seed: int = 0
    """Of sampling (generation.sample)."""

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ConfigError(f"chunk is {self.chunk}: expected 1 or more lines")
        if self.output is not None:
            check_output(self.output, self.file)


@dataclass
class LineCounts:
    """Counts of translated lines; those of an interrupted start are included."""

    num_lines: int = 0
    num_empty: int = 0
    """Lines without text, those that are invalid included."""
    num_invalid: int = 0
    """Lines that are no UTF-8 or too long to be read, which ``invalid: empty`` leaves empty."""
    num_cut: int = 0
    """Lines longer than the model's positions, whose end was not read."""

    def add(self, found: Sequence[Translated]) -> None:
        """Count the translations of a chunk."""
        self.num_lines += len(found)
        self.num_empty += sum(one.num_tokens == 0 for one in found)
        self.num_cut += sum(one.is_cut for one in found)

    def describe(self, max_length: int, num_new: int, seconds: float) -> str:
        """One line for a person; ``num_new`` lines were translated in ``seconds``."""
        invalid = f" ({self.num_invalid:,} of them invalid)" if self.num_invalid else ""
        speed = num_new / max(seconds, 1e-9)
        return (
            f"{self.num_lines:,} lines, {speed:,.1f} lines/s, {self.num_empty:,} empty{invalid}, "
            f"{self.num_cut:,} cut at {max_length} tokens"
        )


class _Job:
    """A model, the lines that are left, and what was done."""

    def __init__(self, config: Translate) -> None:
        self.config, self.counts = config, LineCounts()
        self.device = usable_device(config.device)
        self.model = load(config.model)
        self.translator = Translator(
            self.model,
            config.source,
            config.target,
            settings=config.generation,
            n_best=config.n_best,
            tokens=config.tokens,
            seed=config.seed,
        )
        self.model.transformer.to(self.device)
        self.digest = hashlib.sha256()
        self._lines = every_line(config.file)

    def chunks(self) -> Iterator[list[str]]:
        """What is written for each chunk of lines; then the counts in the log."""
        begun, start = self.counts.num_lines, time.perf_counter()
        num_lines = self.config.chunk
        if self.config.file == STANDARD and sys.stdin.isatty():
            num_lines = 1
        hidden = not sys.stderr.isatty() or (self.config.output is None and sys.stdout.isatty())
        with tqdm(unit=" lines", initial=begun, disable=hidden) as bar:
            while found := self._translated(num_lines):
                first = self.counts.num_lines + 1
                self.counts.add(found)
                bar.update(len(found))
                yield [row for at, one in enumerate(found, first) for row in self._rows(at, one)]
        num_new, seconds = self.counts.num_lines - begun, time.perf_counter() - start
        log.info("%s", self.counts.describe(self.translator.max_length, num_new, seconds))

    def skip(self, num_lines: int) -> int:
        """Read lines that are done already; how many there were."""
        num_invalid = self.counts.num_invalid
        num_read = sum(1 for _ in self._take(num_lines))
        self.counts.num_invalid = num_invalid  # they are in the counts that were kept
        return num_read

    def _translated(self, num_lines: int) -> list[Translated]:
        with autocast(self.device, self.config.precision):
            lines = self._take(num_lines)
            return self.translator.translate(lines, first=self.counts.num_lines + 1)

    def _take(self, num_lines: int) -> Iterator[str]:
        for line in islice(self._lines, num_lines):
            self.digest.update(f"{line.reason}\0{line.text}\n".encode())
            if line.reason:
                if self.config.invalid == "error":
                    raise DataError(
                        f"{line.place}: the line is {line.reason}: mend it, or give invalid empty, "
                        "which leaves an empty line in its place"
                    )
                self.counts.num_invalid += 1
            yield line.text

    def _rows(self, number: int, one: Translated) -> Iterator[str]:
        for text, score in zip(one.texts, one.scores, strict=True):
            cells = [str(number), text] if self.config.n_best > 1 else [text]
            yield "\t".join([*cells, f"{score:.4f}"] if self.config.scores else cells)

    def identity(self) -> dict[str, Any]:
        """All that decides what is written."""
        config = self.config
        settings = dataclasses.asdict(config)
        for name in ("model", "file", "output"):
            del settings[name]
        return {
            "model": _digest(self.model),
            "tokenizer": self.model.tokenizer.digest,
            "file": STANDARD if config.file == STANDARD else os.path.abspath(config.file),
            **settings,
            "device": self.device.type,
        }


def _digest(model: PretrainedModel) -> str:
    """SHA-256 (hex) of a model's shape, languages and weights."""
    shape = [dataclasses.asdict(model.transformer.config), model.languages]
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, tensor in sorted(model.transformer.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(values.numpy())
    return digest.hexdigest()


class _Partial:
    """The output while it grows: whole chunks, and beside them of what they are.

    A chunk counts once the file beside says so, which is replaced after the chunk is on the disk.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any]) -> None:
        self.output, self.identity = output, dict(identity)
        self.path = output.with_name(output.name + ".partial")
        self.beside = output.with_name(output.name + ".partial.json")
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def __enter__(self) -> _Partial:
        if self.output.is_dir():
            raise ConfigError(f"output {self.output} is a directory: give a file")
        if not self.beside.exists() and self.path.exists() and os.path.getsize(self.path):
            raise DataError(
                f"{self.path} is there without {self.beside.name}, so nobody knows of what it is: "
                "remove it, or give another output"
            )
        with refusing(self.output):
            self._file: IO[bytes] = open(self.path, "a+b")  # closed on leaving
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
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
        self._file.close()

    def resume(self, job: _Job) -> None:
        """Go on behind the last whole chunk: the lines that are done are read and compared.

        Raises DataError where the settings, the lines or what was written are not what they were.
        """
        done = self._done()
        if not done:
            self._save(job)
            return
        job.counts = LineCounts(**done["account"])
        num_read = job.skip(job.counts.num_lines)
        if num_read < job.counts.num_lines or job.digest.hexdigest() != done["lines"]:
            raise self._refused(
                f"the first {job.counts.num_lines:,} lines of the input are not those that were "
                "translated"
            )
        self._file.seek(0)
        while self.num_bytes < done["bytes"]:
            piece = self._file.read(min(1 << 20, done["bytes"] - self.num_bytes))
            if not piece:
                break
            self.digest.update(piece)
            self.num_bytes += len(piece)
        if self.digest.hexdigest() != done["written"]:
            raise self._refused(f"{self.path} is not what was written")
        with refusing(self.output):
            self._file.truncate(self.num_bytes)
        log.info("%s holds %s lines: going on", self.path, f"{job.counts.num_lines:,}")

    def _done(self) -> dict[str, Any]:
        """What the file beside says is done; {} where nothing is."""
        if os.path.getsize(self.path) == 0:
            return {}  # begun anew, or killed before the first chunk was there
        try:
            found = json.loads(self.beside.read_text(encoding="utf-8"))
            was, done = dict(found["of"]), dict(found["done"])
            if found["format"] != _FORMAT or not {"lines", "bytes", "written"} <= set(done):
                raise ValueError(f"format {found['format']!r}, expected {_FORMAT!r}")
            LineCounts(**done["account"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._refused(f"{self.beside} cannot be read ({error})") from None
        now = json.loads(json.dumps(self.identity))
        different = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if was.get("invalid") == "error" and "invalid" in different:
            different.remove("invalid")  # what is done has no such line
        if different:
            parts = [f"{name} was {was.get(name)}, is {now.get(name)}" for name in different]
            raise self._refused("; ".join(parts))
        return done

    def _refused(self, reason: str) -> DataError:
        return DataError(
            f"{self.path} was begun otherwise: {reason}; start it as before, or remove {self.path} "
            f"and {self.beside.name}, or give another output"
        )

    def add(self, rows: Sequence[str], job: _Job) -> None:
        """Append the rows of a chunk."""
        data = "".join(f"{row}\n" for row in rows).encode()
        with refusing(self.output):
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        self.digest.update(data)
        self.num_bytes += len(data)
        self._save(job)

    def _save(self, job: _Job) -> None:
        done = {
            "account": dataclasses.asdict(job.counts),
            "lines": job.digest.hexdigest(),
            "bytes": self.num_bytes,
            "written": self.digest.hexdigest(),
        }
        content = {"format": _FORMAT, "of": self.identity, "done": done}
        write_json(self.beside, content)

    def finish(self) -> None:
        """All is there: the output appears."""
        with refusing(self.output):
            os.replace(self.path, self.output)
            self.beside.unlink()


def translate(config: Translate) -> Iterator[str]:
    """What ``xlm translate`` writes, line by line, in order, as chunks are done; see ``Translate``.

    ``config.output`` is ``translate_file``'s. Raises ConfigError, DataError or CheckpointError in
    one line.
    """
    for rows in _Job(config).chunks():
        yield from rows


def translate_file(config: Translate) -> LineCounts:
    """Translate into ``config.output``, or go on with it; see ``translate`` for what is raised."""
    if config.output is None:
        raise ConfigError("output is null: give a file")
    job = _Job(config)
    with _Partial(Path(config.output), job.identity()) as partial:
        partial.resume(job)
        for rows in job.chunks():
            partial.add(rows, job)
        partial.finish()
    return job.counts


def main(arguments: Sequence[str] | None = None) -> None:
    """``xlm translate``: see ``Translate``."""

    def act(config: Translate) -> None:
        if config.output is None:
            to_standard_output(translate(config))
        else:
            translate_file(config)

    run_verb(Translate, "translate", act, arguments, positional="model file")


if __name__ == "__main__":
    main()
