"""The console script and the verbs as programs, each in a process of its own."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path


def program(root: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_console_script_lists_its_verbs(root: Path, tmp_path: Path) -> None:
    names = list(importlib.import_module("xlm.__main__").VERBS)
    assert {"prepare", "pretrain", "evaluate", "import", "export"} <= set(names)
    for arguments in ([], ["--help"], ["-h"]):
        done = program(root, "xlm", *arguments, cwd=tmp_path)
        assert done.returncode == 0 and not done.stderr
        assert all(verb in done.stdout for verb in names)
    done = program(root, "xlm", "pretrian", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"xlm: unknown verb 'pretrian': expected one of {', '.join(names)}; did you mean "
        "pretrain?\n"
    )


def test_a_mistake_in_a_program_is_one_line_without_traceback(root: Path, tmp_path: Path) -> None:
    for name in ("xlm.pretrain", "xlm"):
        arguments = ["pretrain"] if name == "xlm" else []
        done = program(root, name, *arguments, "--stepz=3", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "xlm pretrain: --stepz: no such flag; did you mean --steps?\n"


def test_a_recipe_is_trained_and_evaluated_from_the_shell(
    root: Path, tmp_path: Path, debug_data: Path
) -> None:
    config = root / "recipes/debug/mlm.yaml"
    here = [f"--data={debug_data}", "--folder=run", "--evaluate_every=10", "--save_every=10"]
    done = program(
        root, "xlm.pretrain", "--config", str(config), "--steps", "20", *here, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "step      20  mlm" in done.stderr and "probability" in done.stderr
    assert (tmp_path / "run/config.yaml").is_file()
    measured = program(root, "xlm", "evaluate", "run", "--json=figures.json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert "run step-00000020, valid text" in measured.stdout
    assert re.search(r"mlm/en: perplexity [\d.]+, unigram model [\d.]+ on the same \d+ cells",
                     measured.stdout)  # fmt: skip
    assert (tmp_path / "figures.json").is_file()
