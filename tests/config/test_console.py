"""Standard output that nobody reads, or that is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def piped(root: Path, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, text=True, capture_output=True
    )


@pytest.mark.parametrize("arguments", ["--help", "--version", "prepare --help", "bleu --help"])
def test_help_that_nobody_reads(root: Path, tmp_path: Path, arguments: str) -> None:
    command = f'"$PYTHON" -m xlm {arguments} | true; echo ${{PIPESTATUS[0]}}'
    done = piped(root, command, tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_figures_that_nobody_reads_are_in_the_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one two three four five\nsix seven eight nine ten\n")
    command = '"$PYTHON" -m xlm bleu a a --json b.json | true; echo ${PIPESTATUS[0]}'
    done = piped(root, command.replace("a a", "a ./a"), tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert (tmp_path / "b.json").exists()


def test_standard_output_that_is_closed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one two three four five\nsix seven eight nine ten\n")
    done = piped(root, '"$PYTHON" -m xlm bleu a ./a --json b.json >&-', tmp_path)
    assert done.returncode == 2
    assert done.stderr == "xlm bleu: standard output is closed: open it, or write to a file\n"
    assert (tmp_path / "b.json").exists()


def test_characters_that_the_locale_lacks(root: Path, tmp_path: Path) -> None:
    (tmp_path / "मा").write_text("one two three four five\nsix seven eight nine ten\n")
    command = 'PYTHONIOENCODING=ascii "$PYTHON" -m xlm bleu मा ./मा'
    done = piped(root, command, tmp_path)
    assert done.returncode == 0 and r"\u092e\u093e" in done.stdout
