"""The measurement of the two commands in a fresh clone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import demo
from benchmarks.support import record

ROOT = Path(__file__).parents[2]
needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git repository")


def run_quick(*words: str) -> None:
    """Run the script with ``--quick``; results must stay as they are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(record, "write", None)
        patched.setattr(sys, "argv", [str(demo.__file__), "--quick", *words])
        demo.main()


@needs_git
def test_the_tests_of_a_clone_run(capsys: pytest.CaptureFixture[str]) -> None:
    run_quick("--only", "tests")
    found = json.loads(capsys.readouterr().out)["tests"]
    assert " passed in " in found["closing_line"]
    assert found["install_seconds"] == 0 and found["tests_seconds"] >= 0


@needs_git
@pytest.mark.slow
def test_the_demo_of_a_clone_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_quick("--only", "demo")
    found = json.loads(capsys.readouterr().out)["demo"]
    assert {"mlm/en", "mlm/hi", "mlm/ne"} <= set(found["figures"])
    assert found["run_seconds"] > 0


def test_the_demo_is_made_short(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    shutil.copytree(ROOT / "recipes/sample", tmp_path / "recipes/sample")
    demo.shorten(tmp_path)
    for name in ("pretrain.yaml", "writer.yaml"):
        short = (tmp_path / "recipes/sample" / name).read_text(encoding="utf-8")
        assert "\nsteps: 4\n" in short and "\nevaluate_every: 4\n" in short
    with pytest.raises(SystemExit, match="adapt SHORT"):
        demo.shorten(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("echo 'install: 3 s, tests: 41 s'", ""),
        ("echo 'install: 3 s, tests: 41 s'; exit 7", "tools/some.sh failed with status 7"),
        ("echo done", "ended without a line"),
    ],
)
def test_the_seconds_are_those_of_the_closing_line(
    line: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "tools/some.sh"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho $1\n{line}\n")
    script.chmod(0o755)
    if message:
        with pytest.raises(SystemExit, match=message):
            demo.command(tmp_path, "some.sh")
    else:
        output, seconds = demo.command(tmp_path, "some.sh", "word")
        assert output.startswith("word\n")
        assert seconds == {"install_seconds": 3, "tests_seconds": 41}
    assert capfd.readouterr().err


def test_a_model_hardly_better_than_a_unigram_model_is_refused() -> None:
    good = {"perplexity": 33.0, "unigram_perplexity": 100.0}
    bad = {"perplexity": 34.0, "unigram_perplexity": 100.0}
    demo.check_gains({"mlm/en": good, "tlm/en-ne": bad})
    with pytest.raises(SystemExit, match="mlm/ne: only 66.0%"):
        demo.check_gains({"mlm/en": good, "mlm/ne": bad})
