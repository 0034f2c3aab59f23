"""``xlm translate`` on 100,000 lines through a pipe: their order, lines without text, memory.

    python -m benchmarks.speed.translate_pipe [--lines 10000 100000]

The lines are those of the sample, numbered round and round, with empty lines, invalid UTF-8, NUL,
U+2028 and CRLF at known places. The model is tiny, of random weights: what it says is no language,
but differs from line to line. Each line that comes out is compared with the translation of the same
line by itself. Memory is RssAnon of the process, as in ``memory.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.memory import INTERVAL, anonymous_kib
from benchmarks.support import record
from xlm.model.config import ModelConfig
from xlm.model.generate import Generation
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.model.translation import Translator
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

SAMPLE = Path(__file__).parents[2] / "xlm" / "sample" / "train.en.txt"
SETTINGS = Generation(ratio=0, extra=6)
ODD = {7: b"", 19: b"\xff\xfe\xff", 31: b"a\x00b", 43: "a\u2028b".encode(), 57: b"water\r"}
"""What stands at these places of every hundred lines."""
LOST = (7, 19)
"""Those of them that have no text."""


def random_model(lines: list[str]) -> PretrainedModel:
    """One layer a side, 16 wide, weights large enough that translations differ."""
    torch.manual_seed(0)
    tokenizer = learn_fastbpe_tokenizer(lines, 400)
    shape = ModelConfig(dim=16, num_layers=1, num_decoder_layers=1, num_heads=2, max_positions=64)
    model = Transformer(
        shape, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.7)
    return PretrainedModel(model.eval(), tokenizer, {"en": 0, "ne": 1})


def line_at(at: int, sample: list[bytes]) -> bytes:
    return ODD[at % 100] if at % 100 in ODD else sample[at % len(sample)]


def piped(model: str, source: Path, output: Path) -> dict[str, float]:
    """Seconds and the peak in MiB of one ``xlm translate``, fed by a pipe and read by another."""
    command = [
        sys.executable, "-m", "xlm.translate", model, "-", "--source=en", "--target=ne",
        "--generation.beam=1", f"--generation.ratio={SETTINGS.ratio}",
        f"--generation.extra={SETTINGS.extra}", "--invalid=empty",
    ]  # fmt: skip
    peak, start = 0, time.perf_counter()
    with (
        subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as feeding,
        subprocess.Popen(command, stdin=feeding.stdout, stdout=subprocess.PIPE) as process,
        output.open("wb") as file,
    ):
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
        raise SystemExit(f"xlm translate ended with {process.returncode}")
    return {"seconds": time.perf_counter() - start, "peak_anonymous_mib": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--quick", action="store_true", help="try it on 100 lines; only printed")
    options = parser.parse_args()
    sample = SAMPLE.read_bytes().splitlines()
    if options.quick:
        options.lines, sample = [100], sample[:30]
    texts = [line.decode() for line in sample]
    model = random_model(texts)
    odd = {at: "" if at in LOST else line.decode() for at, line in ODD.items()}
    alone = Translator(model, "en", "ne", settings=SETTINGS, tokens=1)
    of_sample = [one.texts[0] for one in alone.translate(texts)]
    of_odd = dict(zip(odd, [one.texts[0] for one in alone.translate(odd.values())], strict=True))
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(f"{place}/model")
        for num_lines in options.lines:
            source, output = Path(place, "source"), Path(place, "output")
            with source.open("wb") as file:
                file.writelines(line_at(at, sample) + b"\n" for at in range(num_lines))
            measured = piped(f"{place}/model", source, output)
            found = output.read_bytes().decode().removesuffix("\n").split("\n")
            expected = [
                of_odd[at % 100] if at % 100 in ODD else of_sample[at % len(sample)]
                for at in range(num_lines)
            ]
            runs.append(
                {
                    "lines": num_lines,
                    "lines_out": len(found),
                    "in_their_places": sum(map(str.__eq__, found, expected)),
                    "empty_expected": sum(not text for text in expected),
                    "empty_in_their_places": sum(
                        not one and not other for one, other in zip(found, expected, strict=False)
                    ),
                    "lines_per_second": num_lines / measured["seconds"],
                    **measured,
                }
            )
            print(runs[-1], flush=True)
    rise = runs[-1]["peak_anonymous_mib"] / runs[0]["peak_anonymous_mib"] - 1
    figures = {"different_translations": len({*of_sample}), "runs": runs, "rise": rise}
    if not options.quick:
        record.write("translate_pipe", figures)


if __name__ == "__main__":
    main()
