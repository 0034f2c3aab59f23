"""RunFolder: one process at a time, one recipe for good, and a journal that knows the end."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.pretrain import pretrain
from xlm.run.config import read_run
from xlm.run.folder import ORIGIN, RunFolder, locked
from xlm.training.distributed.processes import Parallel

ALONE = Parallel(torch.device("cpu"))


def test_making_one_touches_no_disk(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", ALONE)
    assert not (tmp_path / "run").exists()


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", ALONE)
    script = "import sys; from pathlib import Path; from xlm.run.folder import locked\n"
    script += "with locked(Path(sys.argv[1])): print('held')"
    command = [sys.executable, "-c", script, str(folder.path)]
    with folder.locked() as same:
        assert same is folder
        with pytest.raises(ConfigError, match="is being written by another run: wait for it"):
            with locked(folder.path):
                pass
        held = subprocess.run(command, capture_output=True, text=True)
        assert "ConfigError" in held.stderr and not held.stdout
    assert subprocess.run(command, capture_output=True, text=True).stdout == "held\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/run cannot be written .Not a directory"):
        with RunFolder(tmp_path / "file" / "run", ALONE).locked():
            pass


def test_the_config_is_written_if_something_is_left_to_train(tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path, steps=3)
    folder = RunFolder(tmp_path, ALONE)
    folder.open_journal(run, 3).close()
    assert not (tmp_path / "config.yaml").exists()
    folder.open_journal(run, 2).close()
    assert read_run(tmp_path).steps == 3


def test_the_end_is_known_by_the_last_line_of_the_journal(tmp_path: Path) -> None:
    run, folder = tiny.recipe(tmp_path, steps=3), RunFolder(tmp_path, ALONE)
    with folder.open_journal(run, 0) as journal:
        journal.record("train", 1, {})
        assert not folder.has_ended()
        journal.record("end", 3, {})
        assert folder.has_ended()


@pytest.mark.parametrize("best", ["bf16", "fp32"])
def test_auto_is_the_best_precision_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: str
) -> None:
    speeds = {"fp32": 1.0, "bf16": 3.0 if best == "bf16" else 1.1}
    monkeypatch.setattr(
        "xlm.training.speed.matmul_ceiling", lambda device, precision: speeds[precision]
    )
    run, folder = tiny.recipe(tmp_path, precision="auto"), RunFolder(tmp_path, ALONE)
    assert folder.resolve(run).precision == best
    assert folder.resolve(dataclasses.replace(run, precision="fp16")).precision == "fp16"


def test_a_run_that_is_resumed_keeps_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tiny.recipe(tmp_path, precision="auto", steps=2), RunFolder(tmp_path, ALONE)
    monkeypatch.setattr("xlm.run.build.best_precision", lambda device: "bf16")
    folder.check_same(run, {})
    pretrain(run, tiny.corpora(20))
    assert read_run(tmp_path).precision == "bf16"
    monkeypatch.setattr("xlm.run.build.best_precision", lambda device: "fp32")
    assert folder.resolve(run).precision == "bf16"
    folder.check_same(folder.resolve(run), {})
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="config.yaml cannot be read .* or set precision, which"):
        folder.resolve(run)


@pytest.mark.parametrize(
    ("device", "steps", "compiles"),
    [("cpu", 10**6, False), ("cuda", 1999, False), ("cuda", 2000, True)],
)
def test_long_runs_on_gpus_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, steps: int, compiles: bool
) -> None:
    monkeypatch.setattr("xlm.run.build.has_triton", lambda: True)
    parallel = Parallel(torch.device(device))
    run = tiny.recipe(tmp_path, steps=steps)
    assert run.compile == "auto"
    assert RunFolder(tmp_path, parallel).resolve(run).compile is compiles
    for given in (True, False):
        own = dataclasses.replace(run, compile=given)
        assert RunFolder(tmp_path, parallel).resolve(own).compile is given
        (tmp_path / "config.yaml").write_text(f"compile: {str(given).lower()}\n")
        assert RunFolder(tmp_path, parallel).resolve(run).compile is given  # that of the folder
    (tmp_path / "config.yaml").write_text("a: [")
    assert RunFolder(tmp_path, parallel).resolve(run).compile is compiles


def test_another_recipe_or_origin_is_refused(tmp_path: Path) -> None:
    run, folder = tiny.recipe(tmp_path, steps=3), RunFolder(tmp_path, ALONE)
    folder.check_same(run, {"the model": "a", "train.tsv": "b"})
    assert json.loads((tmp_path / ORIGIN).read_text()) == {"the model": "a", "train.tsv": "b"}
    folder.open_journal(run, 0).close()
    folder.check_same(run, {"the model": "a", "train.tsv": "b"})
    folder.check_same(dataclasses.replace(run, report_every=9), {"the model": "a"})
    with pytest.raises(ConfigError, match="holds a run of another recipe: another train.tsv; give"):
        folder.check_same(run, {"the model": "a", "train.tsv": "c"})
    other = dataclasses.replace(run, seed=1, steps=4, group_size=2, average=0.5)
    with pytest.raises(ConfigError, match=r"recipe: (\S+ \S+ \(was \S+\), ){2}.* and 1 more; give"):
        folder.check_same(other, {"the model": "a"})
    (tmp_path / ORIGIN).write_text("{")
    with pytest.raises(ConfigError, match="trained from cannot be read"):
        folder.check_same(run, {"the model": "a"})
