"""Memory and time of ``prepare``, at one amount of text, and at 10 and 100 times as much.

    python -m benchmarks.speed.memory [--lines 30000] [--factors 10 100] [--workers 2]

RssAnon of the whole process tree is read from /proc every 20 ms; mapped files are not in it. The
peak is the highest level seen twice in a row: between fork and exec a process counts for two. The
text is random (a Zipf law over made-up words), in one language and one pair of languages. Measured
twice: with a vocabulary learnt first (on as many sentences, whatever the amount of text), whose
learning may hide the rest, and with one that is there already. Time in proportion to the text
is that of the clock, so the machine must be quiet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.support import record

INTERVAL = 0.02
SMALL = {"size": 4000, "num_draws": 20000}


def write_text(path: Path, num_lines: int, seed: int) -> None:
    """Lines of 1 to 30 words drawn by a Zipf law from 30,000 made-up ones."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, random.integers(1, 10))) for _ in range(30_000)]
    shares = 1 / np.arange(1, len(words) + 1)
    shares /= shares.sum()
    with open(path, "w") as file:
        for start in range(0, num_lines, 10_000):
            lengths = random.integers(1, 31, min(10_000, num_lines - start))
            drawn = iter(random.choice(len(words), lengths.sum(), p=shares).tolist())
            for length in lengths:
                file.write(" ".join(words[next(drawn)] for _ in range(length)) + "\n")


def prepare(folder: str, texts: str, vocabulary: str | None, num_workers: int) -> None:
    """Prepare one language and one pair; learn a vocabulary if none is given."""
    from xlm.prepare import Aligned, Prepare, Texts, Vocabulary
    from xlm.prepare import prepare as run

    sources = [f"{texts}/{side}.txt" for side in ("en", "hi")]
    wanted = Vocabulary(folder=vocabulary) if vocabulary else Vocabulary(kind="unigram", **SMALL)
    run(
        Prepare(
            folder=folder,
            text=Texts(train={"en": sources[0]}),
            pairs=Aligned(train={"en-hi": sources}),
            vocabulary=wanted,
            workers=num_workers,
        )
    )


def anonymous_kib(root: int) -> int:
    """RssAnon of a process and all its descendants, in KiB."""
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
        except OSError:  # it has just ended
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        parents[int(entry.name)] = int(fields["PPid"])
        sizes[int(entry.name)] = int(fields.get("RssAnon", "0 kB").split()[0])
    tree = {root}
    while grown := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    return sum(sizes.get(process, 0) for process in tree)


def measure(*arguments: str) -> dict[str, float]:
    """Run ``prepare`` in a process of its own; its peak in MiB, and seconds."""
    peak, done = 0, threading.Event()
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.speed.memory", "--child", json.dumps(arguments)]
    with subprocess.Popen(command) as process:

        def watch() -> None:
            nonlocal peak
            last = 0
            while not done.wait(INTERVAL):
                now = anonymous_kib(process.pid)
                peak, last = max(peak, min(last, now)), now

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        done.set()
        watcher.join()
    if code:
        raise SystemExit(f"prepare ended with {code}")
    return {"peak_anonymous_mib": peak / 1024, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=30_000)
    parser.add_argument("--factors", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="try it on 5,000 lines; only printed")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, texts, vocabulary, num_workers = json.loads(options.child)
        prepare(folder, texts, vocabulary or None, int(num_workers))
        return
    if options.quick:
        options.lines, options.factors, options.workers = 5000, [1], 1
    amounts = (options.lines, *(options.lines * factor for factor in options.factors))
    runs = []
    with tempfile.TemporaryDirectory() as place:
        for num_lines in dict.fromkeys(amounts):
            texts = Path(place, f"text-{num_lines}")
            texts.mkdir()
            for seed, side in enumerate(("en", "hi")):
                write_text(texts / f"{side}.txt", num_lines, seed)
            size = sum(file.stat().st_size for file in texts.iterdir())
            vocabulary = ""
            for what in ("vocabulary and binarizing", "binarizing alone"):
                folder = f"{place}/{num_lines}-{bool(vocabulary)}"
                figures = measure(folder, str(texts), vocabulary, str(options.workers))
                runs.append({"what": what, "lines": num_lines, "text_bytes": size, **figures})
                print(json.dumps(runs[-1]))
                vocabulary = vocabulary or folder
    peaks = {(run["what"], run["lines"]): run["peak_anonymous_mib"] for run in runs}
    rise = {
        run["what"]: peaks[run["what"], amounts[-1]] / run["peak_anonymous_mib"] - 1
        for run in runs
        if run["lines"] == options.lines
    }
    if not options.quick:
        record.write("memory", {"workers": options.workers, "runs": runs, "rise": rise})
    print(json.dumps({"rise": rise}))


if __name__ == "__main__":
    main()
