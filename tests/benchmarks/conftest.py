"""Benchmark scripts run as their users run them, with ``--quick``, on data that is made once."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.support import downstream, record, toy


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the task files and the models that ``--quick`` works on."""
    folder = tmp_path_factory.mktemp("quick")
    toy.data(folder)
    toy.models(folder / "models")
    return folder


@pytest.fixture
def run_quick(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    """Return a function that runs a script with ``--quick`` and further words.

    The test fails if the script writes into benchmarks/results.
    """
    results = tmp_path / "results"
    monkeypatch.setattr(record, "RESULTS", results)
    monkeypatch.setattr(toy, "data", lambda folder: toy_folder / "toy")
    monkeypatch.setattr(toy, "models", lambda folder: toy_folder / "models")
    monkeypatch.setattr(toy, "corpora", lambda folder: toy_folder / "models/data")
    monkeypatch.setattr(downstream, "begin", lambda threads: None)  # nor a louder log
    monkeypatch.setattr(logging.getLogger("xlm"), "setLevel", lambda level: None)

    def run(module: str, *words: object) -> object:
        script = importlib.import_module(f"benchmarks.{module}")
        monkeypatch.setattr(sys, "argv", [str(script.__file__), "--quick", *map(str, words)])
        status: object = script.main()
        assert not results.exists(), "a trial was written into benchmarks/results"
        return status

    return run
