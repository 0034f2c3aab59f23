"""The list of runs: state, step, best, last line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from xlm.errors import ConfigError
from xlm.run.folder import locked
from xlm.runs import Runs, main, runs

SETTINGS = "steps: 200\nstopping: {metric: perplexity}\n"
TRAIN = {"step": 50, "event": "train", "loss": {"mlm": 2.5}, "tokens_per_second": 12345.6}


def write(folder: Path, *lines: dict[str, Any], end: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(SETTINGS)
    (folder / ".lock").touch()
    text = "".join(json.dumps(line) + "\n" for line in lines) + end
    if text:
        (folder / "metrics.jsonl").write_text(text)
    return folder


def test_states_best_and_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = [
        {"step": step, "event": "valid", "score": score, "mlm/ne": {"perplexity": score}}
        for step, score in ((100, 9.5), (150, 7.25), (200, 8.0))
    ]
    write(tmp_path / "a", TRAIN, *scores, {"step": 200, "event": "end", "seconds": 3})
    write(tmp_path / "deep/b", TRAIN, end='{"step": 60, "eve')
    held = write(tmp_path / "c", TRAIN, {**TRAIN, "step": 100})
    write(tmp_path / "d")
    write(tmp_path / "a/before-restart-1", TRAIN)
    write(tmp_path / "a/checkpoints/step-00000200", TRAIN)
    with locked(held):
        found = {run.path.name: run for run in runs(Runs(folder=str(tmp_path)))}
        assert found["c"].state == "running" and found["c"].step == 100
    assert list(found) == ["a", "c", "d", "b"]
    assert (found["a"].state, found["a"].best) == ("ended", "perplexity 7.25 at 150")
    assert (found["b"].state, found["b"].step, found["b"].steps) == ("stopped", 50, 200)
    assert found["b"].last.startswith("train mlm 2.5000 12,346 tokens/s, ")
    assert (found["d"].state, found["d"].last) == ("not begun", "")
    os.utime(tmp_path / "deep/b/metrics.jsonl", (0, 0))
    main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "step", "best", "last", "line"]
    assert lines[-1].startswith("deep/b  stopped") and lines[-1].endswith(" d ago")
    main([str(held)])
    assert capsys.readouterr().out.splitlines()[1].startswith("c    stopped  100/200")


def test_a_rising_figure_has_its_own_sign(tmp_path: Path) -> None:
    lines = [{"step": at, "event": "valid", "score": -at / 10} for at in (1, 3, 2)]
    (run,) = runs(Runs(folder=str(write(tmp_path / "a", *lines))))
    assert run.best == "perplexity 0.3 at 3"


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run: expected folders with a config.yaml"):
        runs(Runs(folder=str(tmp_path)))
    with pytest.raises(ConfigError, match="is not a folder"):
        runs(Runs(folder=str(tmp_path / "none")))
