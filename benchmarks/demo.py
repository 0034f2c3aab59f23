"""The two commands in a fresh clone: how long, and what the demo's model reached.

    python -m benchmarks.demo            # tools/demo.sh, then tools/test.sh

Clones the repository's last commit into an empty folder, without a virtual environment and without
anything beside it. Fails where a command fails, or where a language's held-out perplexity is not
10 % below its unigram model's on the same cells.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.support import record

ROOT = Path(__file__).parent.parent
LEAST_GAIN = 0.10


def command(clone: Path, script: str) -> tuple[str, dict[str, int]]:
    """The output of a script, and the seconds that its closing line tells."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    process = subprocess.Popen(
        [str(clone / "tools" / script)], cwd=clone, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        sys.stderr.write(line)
        lines.append(line)
    if process.wait():
        sys.exit(f"tools/{script} failed with status {process.returncode}")
    output = "".join(lines)
    found = re.search(r"install: (\d+) s, (run|tests): (\d+) s", output)
    assert found is not None, "no closing line with the seconds"
    return output, {"install_seconds": int(found[1]), f"{found[2]}_seconds": int(found[3])}


def figures(clone: Path) -> dict[str, Any]:
    """The demo's held-out figures by stream."""
    path = clone / "runs" / "sample" / "evaluation.json"
    subprocess.run(
        [str(clone / ".venv/bin/xlm"), "evaluate", "runs/sample", "--json", str(path)],
        cwd=clone, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return dict(json.loads(path.read_text())["figures"])


def measure_demo(clone: Path) -> None:
    """The demo, its figures, and how long a second start takes."""
    _, seconds = command(clone, "demo.sh")
    demo = {**seconds, "figures": figures(clone)}
    if not (clone / "runs/sample/curves.png").exists():
        sys.exit("the demo drew no curves.png")
    for stream, own in demo["figures"].items():
        gain = 1 - own["perplexity"] / own["unigram_perplexity"]
        if stream.startswith("mlm/") and gain < LEAST_GAIN:
            sys.exit(f"{stream}: only {gain:.1%} below the unigram model")
    _, again = command(clone, "demo.sh")
    demo["second_run_seconds"] = again["install_seconds"] + again["run_seconds"]
    record.write("demo", demo)


def measure_tests(clone: Path) -> None:
    """The tests' closing line, and the seconds that they and their set-up took."""
    output, seconds = command(clone, "test.sh")
    closing = re.findall(r"^.*\d+ passed.*$", output, flags=re.MULTILINE)[-1]
    record.write("tests", {**seconds, "closing_line": closing})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("demo", "tests"), help="one of the two commands")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "xlm"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        if arguments.only != "tests":
            measure_demo(clone)
        if arguments.only != "demo":
            measure_tests(clone)


if __name__ == "__main__":
    main()
