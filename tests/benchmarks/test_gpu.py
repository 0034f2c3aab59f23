"""The benchmark of a GPU, tried on a CPU: every case, limits, and what its figures count."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.speed import gpu
from benchmarks.support import gpu_cases, gpu_place
from xlm.batch import Batch
from xlm.objectives import MaskedLM

Run = Callable[..., object]
Output = pytest.CaptureFixture[str]


def test_cases_of_one_gpu(run_quick: Run, tmp_path: Path, capsys: Output) -> None:
    words = ("--device", "cpu", "--out", tmp_path)
    run_quick("speed.gpu", *words)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["case"] for line in lines if line.get("done")] == list(gpu_cases.CASES)
    trained = [line for line in lines if "tokens_per_second" in line]
    assert all(line["tokens_per_second"] > 0 for line in trained)
    own = [line for line in trained if "utilization" in line]
    assert all(line["utilization"] > 0 and line["memory_gib"] is None for line in own)
    measured = [line for line in own if "first_update_s" in line]
    assert {(line["objective"], bool(line["compiled"])) for line in measured} >= {
        (name, compiled) for name in ("mlm", "clm", "tlm", "translation")
        for compiled in (True, False)
    }  # fmt: skip
    assert all(line["recompiles_after_warm_up"] == 0 for line in measured)
    assert all(line["waits"] is None for line in measured)  # no count of a CPU
    peers = [line for line in lines if "peer" in line]
    assert [line["peer"] for line in peers if "skipped" not in line][:4] == [
        "XLMWithLMHeadModel", "XLMWithLMHeadModel", "ModernBertForMaskedLM",
        "ModernBertForMaskedLM",
    ]  # fmt: skip
    assert all(line["times_faster"] > 0 for line in peers if "times_faster" in line)
    assert [line["bits"] for line in lines if "resumed" in line] == ["equal", "equal"]
    assert len([line for line in lines if "waits_of" in line]) == 6
    saves = [line for line in lines if "save" in line]
    assert [line["save"] for line in saves] == ["waited for", "in the background"]
    assert all(line["stall_ms"] > 0 and line["copy_ms"] > 0 for line in saves)
    assert json.loads((tmp_path / "gpu-quick.json").read_text())["rows"] == trained
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) > len(trained) + len(peers) and "- resumed, compiled: bits equal." in table
    capsys.readouterr()
    run_quick("speed.gpu", *words, "--cases", "ceilings")
    assert capsys.readouterr().out.startswith("ceilings: passed over, is done\n")


def test_a_case_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = argparse.Namespace(
        out=tmp_path, preset="xlm-15", vocab=100, device="cpu", quick=True
    )
    assert gpu.in_a_process("surroundings", 120, arguments) == ""
    first, done = gpu.read(tmp_path)
    assert first["torch"] == torch.__version__ and done["case"] == "surroundings"
    assert gpu.in_a_process("mlm", 0.05, arguments) == "took too long"
    assert gpu.in_a_process("profile", 120, argparse.Namespace(**vars(arguments) | {"vocab": "x"}))
    assert len(gpu.read(tmp_path)) == 2


def test_a_case_that_fails_leaves_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(place: gpu_place.Place) -> gpu_place.Figures:
        yield {"figure": 1}
        raise RuntimeError

    monkeypatch.setitem(gpu_cases.CASES, "clm", (1, failing))
    with pytest.raises(RuntimeError):
        gpu.run_case("clm", gpu_place.Place.made("cpu", "xlm-15", 100, True, tmp_path))
    assert gpu.read(tmp_path) == [{"case": "clm", "figure": 1}]


def test_waits_are_counted_as_torch_warns_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work() -> None:
        warnings.warn("something else", stacklevel=1)
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    assert gpu_place.waits(torch.device("cuda"), work) == 3
    assert modes == ["warn", "default"]


def test_a_recompilation_after_the_warm_up_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that are timed are others than those of the warm-up, of every stream."""
    place = gpu_place.Place.made("cpu", "xlm-15", 100, True, tmp_path)
    data = place.data(4)
    own = MaskedLM(pairs=["la-lb", "la-lc", "la-ld"], tokens=128, length=64)
    updates = gpu_place.Updates(place, own, data)
    seen: list[int] = []
    monkeypatch.setattr(updates.learner, "forward", partial(counted, seen, updates.learner.forward))
    monkeypatch.setattr(gpu_place, "graphs", lambda: len(set(seen)))
    found = updates.measured(1e9)
    langs = [set(batch.langs.unique().tolist()) for batch in updates.batches]
    assert set.union(*langs[: updates.num_warm]) == set.union(*langs[updates.num_warm :])
    assert found["recompiles_after_warm_up"] == len(updates.batches) - updates.num_warm > 2


def counted(seen: list[int], forward: Callable[..., object], name: str, batch: Batch) -> object:
    """Note which batch a learner is given."""
    seen.append(id(batch))
    return forward(name, batch)
