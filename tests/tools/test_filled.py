"""The masked sentences of the demo: held-out text, filled in by two models."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests import tuned
from xlm import sample

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/filled.py"


@pytest.fixture(scope="module")
def filled() -> ModuleType:
    """The script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("filled", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sentences_are_held_out_text(filled: ModuleType) -> None:
    assert list(filled.SENTENCES) == list(sample.LANGUAGES)
    for language, (text, word) in filled.SENTENCES.items():
        lines = sample.path(f"valid.{language}.txt").read_text(encoding="utf-8").split("\n")
        assert text.replace("___", word) in lines


def test_two_models_fill_each_sentence(filled: ModuleType) -> None:
    model = tuned.body("xlm", max_positions=128)
    draws = torch.get_rng_state()
    lines = filled.lines(model)
    assert torch.equal(torch.get_rng_state(), draws)
    assert lines == filled.lines(model)
    assert len(lines) == 9
    for at, (language, (text, word)) in enumerate(filled.SENTENCES.items()):
        title, before, after = lines[3 * at : 3 * at + 3]
        assert title == f"{language}: {text}  ({word})"
        assert re.fullmatch(r"    before (\S+ \d+\.\d%, ){3}\S+ \d+\.\d%", before)
        assert re.fullmatch(r"    after  (\S+ \d+\.\d%, ){3}\S+ \d+\.\d%", after)
        assert before.split()[1:] != after.split()[1:]
        best = model.fill([text], language, top=1)[0][0][0]
        assert f"{best.probability:.1%}" == after.split()[2].rstrip(",")


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("filled.py: ") and done.stderr.count("\n") == 1
