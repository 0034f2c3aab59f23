"""A recipe, and the command line as the tests of this folder call it."""

from __future__ import annotations

import importlib

import pytest

from xlm.config.cli import parse
from xlm.run.config import Run

RECIPE = """\
data: d
folder: f
objectives:
  mlm:
    class_path: MaskedLM
    init_args: {languages: [en], length: 64}
model: {preset: tiny}
"""


def fails(capsys: pytest.CaptureFixture[str], verb: str, *arguments: str) -> str:
    """The one line that a verb says when it exits with 2."""
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"xlm.{verb}").main(list(arguments))
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    prefix = f"xlm {verb}: "
    assert err.startswith(prefix) and err.endswith("\n") and err.count("\n") == 1, err
    return err[len(prefix) : -1]


def run(*arguments: str) -> Run:
    return parse(Run, "pretrain", arguments)
