"""100,000 lines through each verb that answers lines: their places, memory, a kill, ``| head``.

    python -m benchmarks.speed.pipes [--lines 10000 100000] [--verbs fill score]

The lines are those of the sample, numbered round and round, with empty lines, invalid UTF-8, NUL,
U+2028 and CRLF at known places. The models are tiny, of random weights in double precision: what
they say is no language, but differs from line to line. Each row that comes out is compared with
that of the same line by itself. Then the same file is written anew, killed in its middle, and gone
on with: its bytes are compared. Memory is RssAnon of the process, as in ``memory.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.memory import INTERVAL, anonymous_kib
from benchmarks.support import record
from xlm.config.cli import to_yaml
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.tasks.classification import Classification
from xlm.tasks.task import Files
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

SAMPLE = Path(__file__).parents[2] / "xlm" / "sample" / "train.en.txt"
ODD = {7: b"", 19: b"\xff\xfe\xff", 31: b"a\x00b", 43: "a\u2028b".encode(), 57: b"water\r"}
"""What stands at these places of every hundred lines."""
CLOSE = 1e-6
"""How near numbers of a vector must be."""


@dataclass(frozen=True)
class Verb:
    """A verb that is fed lines."""

    name: str
    flags: tuple[str, ...]
    model: str = "encoder"
    mask: bool = False
    """Whether each line ends with a mask."""
    numbered: bool = False
    """Whether a row begins with the number of its line."""
    vectors: bool = False
    """Whether rows are vectors in a .npy file."""


VERBS = [
    Verb(
        "translate",
        ("--source=en", "--target=ne", "--generation.beam=1", "--generation.ratio=0",
         "--generation.extra=6"),
        model="translator",
    ),
    Verb("fill", ("--language=en",), mask=True),
    Verb("generate", ("--language=en", "--length=6")),
    Verb("score", ("--language=en", "--kind=causal"), numbered=True),
    Verb("embed", ("--language=en",), vectors=True),
    Verb("search", ("--language=en",), model="index.npy"),
    Verb("predict", ("--language=en",), model="tuned"),
]  # fmt: skip


def random_model(tokenizer: Tokenizer, num_decoder_layers: int) -> PretrainedModel:
    """One layer a side, 16 wide, weights large enough that answers differ."""
    torch.manual_seed(0)
    shape = ModelConfig(
        dim=16, num_layers=1, num_decoder_layers=num_decoder_layers, num_heads=2, max_positions=64
    )
    model = Transformer(
        shape, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.7)
    return PretrainedModel(model.double().eval(), tokenizer, {"en": 0, "ne": 1})


def fine_tuned(model: PretrainedModel) -> PretrainedModel:
    """Return the model with the head of a classification, of random weights."""
    task = Classification(
        files=Files(train={"en": "train.tsv"}), labels=[f"label-{at:02}" for at in range(40)],
        length=64, rows=64,
    )  # fmt: skip
    torch.manual_seed(0)
    head = task.head(model.transformer.config)
    assert head is not None
    heads = {
        f"heads.topic.{name}": torch.randn_like(value) for name, value in head.state_dict().items()
    }
    tasks = to_yaml({"objectives": {"topic": task}})
    return replace(model, heads=heads, tasks=tasks)


def command(verb: Verb, place: Path, source: Path | str, *more: str) -> list[str]:
    """Return the words that run a verb on a file, or on standard input."""
    return [
        sys.executable, "-m", f"xlm.{verb.name}", str(place / verb.model), str(source),
        *verb.flags, "--invalid=empty", *more,
    ]  # fmt: skip


def line_at(at: int, sample: list[bytes], verb: Verb) -> bytes:
    """Return a line of the input, which repeats."""
    line = ODD[at % 100] if at % 100 in ODD else sample[at % len(sample)]
    return line + b" ___" if verb.mask and line not in (ODD[7], ODD[19]) else line


def piped(verb: Verb, place: Path, source: Path, output: Path) -> dict[str, float]:
    """Return seconds and the peak in MiB of one verb, fed by a pipe and read by another."""
    peak, start = 0, time.perf_counter()
    more = [f"--output={output}"] if verb.vectors else []
    with (
        subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as feeding,
        subprocess.Popen(
            command(verb, place, "-", *more), stdin=feeding.stdout, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
        output.with_suffix(".piped").open("wb") as file,
    ):  # fmt: skip
        assert process.stdout is not None

        def watch() -> None:
            nonlocal peak
            while process.poll() is None:
                peak = max(peak, anonymous_kib(process.pid))
                time.sleep(INTERVAL * 5)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for line in process.stdout:
            file.write(line)
        watcher.join()
    if process.returncode:
        raise SystemExit(f"xlm {verb.name} ended with {process.returncode}")
    if not verb.vectors:
        output.with_suffix(".piped").replace(output)
    return {"seconds": time.perf_counter() - start, "peak_anonymous_mib": peak / 1024}


def answers(verb: Verb, output: Path) -> list[Any]:
    """Return what was written of each line; without its number."""
    if verb.vectors:
        return list(np.load(output))
    rows = output.read_bytes().decode().removesuffix("\n").split("\n")
    return [row.partition("\t")[2] for row in rows] if verb.numbered else rows


def are_same(one: Any, other: Any) -> bool:
    """Return whether two answers are the same; vectors, up to rounding."""
    if isinstance(one, str):
        return bool(one == other)
    return bool(np.abs(one - other).max() <= CLOSE)


def go_on(verb: Verb, place: Path, source: Path, straight: Path) -> bool:
    """Return whether a file that was killed in its middle and gone on with has the same bytes."""
    output = place / f"killed{straight.suffix}"
    words = command(verb, place, source, f"--output={output}", "--window=200")
    if verb.name == "translate":
        words[-1] = "--chunk=200"
    beside, total = Path(f"{output}.partial.json"), source.read_bytes().count(b"\n")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            done = json.loads(beside.read_text())["done"] if beside.exists() else {}
            if done and done["account"]["num_lines"] >= total // 2:
                process.kill()
                process.wait()
                break
            time.sleep(0.01)
    if output.exists():
        raise SystemExit(f"xlm {verb.name} was done before it was killed: give more lines")
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    found = output.read_bytes()
    output.unlink()
    if verb.vectors:
        # windows of another size round otherwise: a straight run with the same
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        return output.read_bytes() == found
    return found == straight.read_bytes()


def is_quiet(verb: Verb, place: Path, source: Path) -> bool:
    """Return whether a reader that takes three lines sees them, and no complaint."""
    with (
        subprocess.Popen(
            command(verb, place, source), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        subprocess.Popen(["head", "-n", "3"], stdin=process.stdout, stdout=subprocess.PIPE) as head,
    ):
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        seen = head.communicate()[0]
        said = process.stderr.read()
    # progress, and the example of a row that a translator reads, are no complaints
    expected = (b"lines/s", b"layout ")
    lines = [line for line in said.splitlines() if not any(part in line for part in expected)]
    return process.returncode == 0 and seen.count(b"\n") == 3 and not lines


def measure(verb: Verb, place: Path, sample: list[bytes], sizes: list[int]) -> list[dict[str, Any]]:
    """Return a row for each number of lines; the last one is killed too."""
    suffix = ".npy" if verb.vectors else ".txt"
    source, output, rows = place / "source", place / f"output{suffix}", list[dict[str, Any]]()
    period = 100 * len(sample)
    distinct = sorted({line_at(at, sample, verb) for at in range(min(period, max(sizes)))})
    source.write_bytes(b"".join(line + b"\n" for line in distinct))
    window = "--chunk=1" if verb.name == "translate" else "--window=1"
    words = command(verb, place, source, window, f"--output={output}")
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    alone = dict(zip(distinct, answers(verb, output), strict=True))
    for num_lines in sizes:
        lines = [line_at(at, sample, verb) for at in range(num_lines)]
        source.write_bytes(b"".join(line + b"\n" for line in lines))
        measured = piped(verb, place, source, output)
        found = answers(verb, output)
        same = sum(are_same(one, alone[line]) for one, line in zip(found, lines, strict=False))
        rows.append(
            {
                "verb": verb.name,
                "lines": num_lines,
                "lines out": len(found),
                "in their places": same,
                "lines a second": round(num_lines / measured["seconds"]),
                "peak anonymous, MiB": round(measured["peak_anonymous_mib"]),
            }
        )
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()
    rows[-1]["killed and gone on"] = "same bytes" if go_on(verb, place, source, output) else "no"
    rows[-1]["head"] = "quiet" if is_quiet(verb, place, source) else "no"
    rows[-1]["different answers"] = len({str(one) for one in alone.values()})
    sys.stdout.write(f"{rows[-1]}\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--verbs", nargs="+", choices=[verb.name for verb in VERBS])
    parser.add_argument(
        "--quick", action="store_true", help="try one verb on 600 lines; only printed"
    )
    options = parser.parse_args()
    sample = SAMPLE.read_bytes().splitlines()
    if options.quick:
        options.lines, sample = [600], sample[:20]
        options.verbs = options.verbs or ["score"]
    texts = [line.decode() for line in sample]
    tokenizer, rows = learn_fastbpe_tokenizer(texts, 400), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        random_model(tokenizer, 0).save_pretrained(place / "encoder")
        fine_tuned(random_model(tokenizer, 0)).save_pretrained(place / "tuned")
        random_model(tokenizer, 1).save_pretrained(place / "translator")
        (place / "indexed").write_bytes(b"".join(line + b"\n" for line in sample))
        words = command(VERBS[4], place, place / "indexed", f"--output={place / 'index.npy'}")
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        for verb in VERBS:
            if options.verbs is None or verb.name in options.verbs:
                rows += measure(verb, place, sample, options.lines)
                if not options.quick:
                    record.write("pipes", {"rows": rows})


if __name__ == "__main__":
    main()
