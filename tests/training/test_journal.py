"""The journal: valid JSON whatever the numbers, and the same file after any interruption."""

import errno
import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from xlm.errors import ConfigError, DataError
from xlm.training.journal import METRICS, Journal, read_metrics


def _run(folder: Path, first: int, last: int) -> None:
    """Report every 2 steps, evaluate every 5, as a training run does."""
    with Journal.open(folder, step=first, progress=False) as journal:
        for step in range(first + 1, last + 1):
            if step % 2 == 0:
                journal.record("train", step, {"loss": {"mlm": 10 / step}})
            if step % 5 == 0:
                journal.record("evaluate", step, {"mlm/en": {"perplexity": 100 / step}})


def test_the_same_file_after_an_interruption_at_any_step(tmp_path: Path) -> None:
    _run(tmp_path / "whole", 0, 20)
    whole = (tmp_path / "whole" / METRICS).read_bytes()
    for saved in range(0, 20, 3):
        for killed in range(saved, 21):
            folder = tmp_path / f"{saved}-{killed}"
            _run(folder, 0, killed)
            with (folder / METRICS).open("ab") as file:
                file.write(b'{"step": 9, "event": "tra')  # half a line of the crash
            _run(folder, saved, 20)
            assert (folder / METRICS).read_bytes() == whole
            assert sorted(p.name for p in folder.iterdir()) == [METRICS]


def test_power_cut_leaves_zeros(tmp_path: Path) -> None:
    _run(tmp_path, 0, 10)
    whole = (tmp_path / METRICS).read_bytes()
    (tmp_path / METRICS).write_bytes(whole + b"\0" * 100)
    Journal.open(tmp_path, step=10).close()
    assert (tmp_path / METRICS).read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    _run(tmp_path, 0, 10)
    lines = (tmp_path / METRICS).read_text().splitlines(keepends=True)
    for damaged in ("oops\n", '{"event": "train"}\n', "[1]\n"):
        (tmp_path / METRICS).write_text("".join([lines[0], damaged, *lines[1:]]))
        with pytest.raises(DataError, match=r"metrics.jsonl:2: expected a JSON object") as caught:
            Journal.open(tmp_path, step=4)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_metrics(tmp_path / "absent.jsonl")


def test_numbers_that_json_cannot_write(tmp_path: Path) -> None:
    values = {"a": math.nan, "b": {"c": math.inf}, "d": [-math.inf, 0.1], "language": "हिन्दी"}
    with Journal.open(tmp_path) as journal:
        journal.record("train", 1, values)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = (tmp_path / METRICS).read_text(encoding="utf-8")
    assert json.loads(line, parse_constant=refuse) == {
        "step": 1, "event": "train", "a": None, "b": {"c": None}, "d": [None, 0.1],
        "language": "हिन्दी",
    }  # fmt: skip


def test_lines_are_there_before_the_end(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.record("train", 1, {"loss": 1.0})
    assert len(read_metrics(tmp_path / METRICS)) == 1
    journal.close()
    journal.close()


def test_other_ranks_write_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="xlm")
    with Journal.open(tmp_path / "run", active=False, tensorboard=True) as journal:
        journal.record("train", 1, {"loss": 1.0})
        journal.say("hello")
        journal.advance(1, loss=1.0)
    assert not (tmp_path / "run").exists()
    assert not caplog.records


def test_lines_go_to_the_log_without_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="xlm")
    with Journal.open(tmp_path, total_steps=5) as journal:
        journal.say("step 1: 100 % sure")
        journal.advance(1, loss=2.0)
    assert [record.getMessage() for record in caplog.records] == ["step 1: 100 % sure"]
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Journal.open(tmp_path, step=2, total_steps=5) as journal:
        journal.advance(5, loss=2.5)
        journal.say("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err
    assert "loss=2.5" in err
    assert "done" in err


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    script = f"""
import sys, warnings
from xlm.training.journal import Journal
assert not any(name.startswith("tensorboard") for name in sys.modules)
with Journal.open({str(tmp_path)!r}, tensorboard=True) as journal:
    journal.record("train", 3, {{"loss": {{"mlm": 1.5}}, "lr": float("inf"), "name": "x"}})
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator({str(tmp_path / "tensorboard")!r}); events.Reload()
print({{tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert eval(done.stdout, {"inf": math.inf}) == {
        "train/loss/mlm": [(3, 1.5)],
        "train/lr": [(3, math.inf)],
    }


def test_tensorboard_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        Journal.open(tmp_path, tensorboard=True)


def test_weights_and_biases_has_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    tracker = SimpleNamespace(
        log=lambda values, step: seen.append((step, values)), finish=lambda: seen.append("end")
    )
    fake = SimpleNamespace(init=lambda **settings: seen.append(settings) or tracker)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        with Journal.open(tmp_path / "run", wandb="nepali") as journal:
            journal.record("train", 3, {"loss": {"mlm": 1.5}, "lr": 0.1, "name": "x"})
    settings, logged, end = seen[:3]
    assert isinstance(settings, dict) and settings["project"] == "nepali"
    assert settings["name"] == "run" and settings["resume"] == "allow"
    assert (logged, end) == ((3, {"train/loss/mlm": 1.5, "train/lr": 0.1}), "end")
    assert seen[3] == settings  # the same run goes on
    with Journal.open(tmp_path / "other", wandb="nepali"):
        assert seen[-1] != settings
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        Journal.open(tmp_path / "third", wandb="nepali")


class FullDisk:
    """Lets a file's writes fail, after a part of a line, while it is full."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.is_full = file, True

    def write(self, data: memoryview) -> int:
        if not self.is_full:
            return self.file.write(data)
        if len(data) > 5:
            return self.file.write(data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.file.close()


def test_a_disk_that_is_full_for_a_while_loses_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal.open(tmp_path) as journal:
        journal.record("train", 1, {"loss": 1.0})
        disk = journal._file._file = FullDisk(journal._file._file)
        for step in (2, 3):
            journal.record("train", step, {"loss": 0.5})
            assert [line["step"] for line in read_metrics(tmp_path / METRICS)] == [1]
        disk.is_full = False
        journal.record("train", 4, {"loss": 0.2})
    assert [line["step"] for line in read_metrics(tmp_path / METRICS)] == [1, 2, 3, 4]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "No space left on device; free or choose a disk" in said[0]
    assert "can be written again" in said[1]


def test_a_disk_that_stays_full_is_said_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal.open(tmp_path) as journal:
        journal.record("train", 1, {"loss": 1.0})
        journal._file._file = FullDisk(journal._file._file)
        journal.record("train", 2, {"loss": 0.5})
    assert len(read_metrics(tmp_path / METRICS)) == 1
    assert "lacks 1 lines that could not be written" in caplog.text


def test_a_tensorboard_that_cannot_be_written_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Writer:
        def add_scalar(self, *_: object) -> None:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with Journal.open(tmp_path) as journal:
        journal._writer = Writer()
        for step in (1, 2):
            journal.record("train", step, {"loss": 1.0})
    assert len(read_metrics(tmp_path / METRICS)) == 2
    assert caplog.text.count("TensorBoard's files cannot be written") == 1


def test_lines_after_the_step_are_cut_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(tmp_path) as journal:
        for step in (1, 2, 3):
            journal.record("train", step, {"loss": 1.0})
    monkeypatch.setattr(os, "replace", None)  # no second file is written
    with Journal.open(tmp_path, step=2):
        pass
    assert [line["step"] for line in read_metrics(tmp_path / METRICS)] == [1, 2]
