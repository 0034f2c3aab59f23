"""The two commands in a fresh clone: how long they take, and what the demo's model reaches.

    python -m benchmarks.demo            # tools/demo.sh, then tools/test.sh

Clones the repository's last commit into an empty folder, without a virtual environment and without
anything beside it. Fails if a command fails, or if a language's held-out perplexity is more than a
third of its unigram model's on the same cells. ``--quick`` runs both scripts with four updates, one
file of tests and the packages of this interpreter.
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
LEAST_GAIN = 2 / 3
NOT_INSTALLED = """\
set -euo pipefail
root=$(cd "$(dirname "${{BASH_SOURCE[0]}}")/.." && pwd)
venv=$root/.venv
install_seconds=0
stop() {{ printf '%s\\n' "$*" >&2; exit 1; }}
python() {{ PYTHONPATH=$root "{python}" "$@"; }}
xlm() {{ python -m xlm "$@"; }}
prepare_environment() {{ :; }}
"""
"""tools/setup.sh of ``--quick``: nothing is installed, {python} runs the clone."""
SHORT = {
    "pretrain.yaml": {
        "steps: 1500": "steps: 4",
        "_every: 500": "_every: 4",
        "warmup_steps: 100": "warmup_steps: 1",
    },
    "writer.yaml": {
        "steps: 150": "steps: 4",
        "_every: 150": "_every: 4",
        "warmup_steps: 30": "warmup_steps: 1",
    },
}
"""Changes to recipes of recipes/sample for ``--quick``."""


def shorten(clone: Path) -> None:
    """Make the scripts of a clone run in seconds, without installing anything."""
    setup = NOT_INSTALLED.format(python=sys.executable)
    (clone / "tools/setup.sh").write_text(setup, encoding="utf-8")
    for name, changes in SHORT.items():
        recipe = clone / "recipes/sample" / name
        text = recipe.read_text(encoding="utf-8")
        for old, new in changes.items():
            if old not in text:
                sys.exit(f"{recipe.name} has no {old!r}: adapt SHORT")
            text = text.replace(old, new)
        recipe.write_text(text, encoding="utf-8")


def command(clone: Path, script: str, *words: str) -> tuple[str, dict[str, int]]:
    """Run a script; return its output and the seconds in its closing line."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    process = subprocess.Popen(
        [str(clone / "tools" / script), *words], cwd=clone, env=environment, text=True,
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
    if found is None:
        sys.exit(f"tools/{script} ended without a line such as 'install: 1 s, run: 2 s'")
    return output, {"install_seconds": int(found[1]), f"{found[2]}_seconds": int(found[3])}


def figures(clone: Path, python: Path) -> dict[str, Any]:
    """Return the demo's held-out figures by stream."""
    path = clone / "runs" / "sample" / "evaluation.json"
    subprocess.run(
        [str(python), "-m", "xlm", "evaluate", "runs/sample", "--json", str(path)],
        cwd=clone, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return dict(json.loads(path.read_text(encoding="utf-8"))["figures"])


def check_gains(own_figures: dict[str, Any]) -> None:
    """Exit if a language's perplexity is not far enough below its unigram model's."""
    for stream, own in own_figures.items():
        gain = 1 - own["perplexity"] / own["unigram_perplexity"]
        if stream.startswith("mlm/") and gain < LEAST_GAIN:
            sys.exit(f"{stream}: only {gain:.1%} below the unigram model")


def measure_demo(clone: Path, quick: bool = False) -> dict[str, Any]:
    """Run the demo twice: its figures, and how long each start takes."""
    _, seconds = command(clone, "demo.sh")
    python = Path(sys.executable) if quick else clone / ".venv/bin/python"
    demo = {**seconds, "figures": figures(clone, python)}
    if not (clone / "runs/sample/curves.png").exists():
        sys.exit("the demo drew no curves.png")
    if quick:
        return demo
    check_gains(demo["figures"])
    _, again = command(clone, "demo.sh")
    return {**demo, "second_run_seconds": again["install_seconds"] + again["run_seconds"]}


def measure_tests(clone: Path, *words: str) -> dict[str, Any]:
    """Run the tests: their closing line, and the seconds that they and their set-up take."""
    output, seconds = command(clone, "test.sh", *words)
    closing = re.findall(r"^.*\d+ passed.*$", output, flags=re.MULTILINE)[-1]
    return {**seconds, "closing_line": closing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("demo", "tests"), help="one of the two commands")
    parser.add_argument("--quick", action="store_true", help="try it; only printed")
    arguments = parser.parse_args()
    quick = arguments.quick
    file = ["tests/test_errors.py"] if quick else []
    measures = {
        "demo": lambda: measure_demo(clone, quick),
        "tests": lambda: measure_tests(clone, *file),
    }
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "xlm"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        if quick:
            shorten(clone)
        for name, measure in measures.items():
            if arguments.only not in (None, name):
                continue
            found = measure()
            if quick:
                print(json.dumps({name: found}))
            else:
                record.write(name, found)


if __name__ == "__main__":
    main()
