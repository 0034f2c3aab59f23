"""What needs no model starts without torch, whose import takes seconds."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = """
import sys
{}
assert "torch" not in sys.modules
"""
EVERY_MODULE = """
import importlib, pkgutil
import xlm.{0} as room
names = [one.name for one in pkgutil.iter_modules(room.__path__)]
assert len(names) > 2
for name in names:
    importlib.import_module("xlm.{0}." + name)
"""
HELP = """
from xlm.__main__ import run
try:
    run("{}", ["--help"])
except SystemExit as end:
    assert end.code == 0
"""


@pytest.mark.parametrize(
    "code",
    [
        *[HELP.format(verb) for verb in ("bleu", "prepare")],
        *[EVERY_MODULE.format(room) for room in ("config", "metrics")],
    ],
)
def test_no_torch(code):
    command = [sys.executable, "-c", WITHOUT_TORCH.format(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: xlm" in done.stdout or "--help" not in code
