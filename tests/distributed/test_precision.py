"""torchrun with two processes in every precision; and what an overflow on one of them does."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.distributed import prepared
from tests.distributed.pool import REPOSITORY, Pool
from tests.training import tiny


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision")
    return prepared.write_recipe(folder, prepared.write_corpora(folder))


def launch(recipe: Path, precision: str, num_processes: int, device: str) -> dict[str, Any]:
    """torchrun; the evaluation after 200 updates, and under ``train`` what was reported."""
    folder = recipe.parent / f"{precision}-{num_processes}-{device}"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc_per_node={num_processes}", "-m", "xlm.pretrain", "--config", str(recipe),
        "--precision", precision, "--device", device, "--folder", str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, env=environment, cwd=recipe.parent, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert f"{num_processes} process(es) on {device}, {precision}" in done.stderr
    assert device != "cpu" or "Warning" not in done.stderr, done.stderr
    return {**tiny.journal(folder, "valid")[200], "train": tiny.journal(folder)}


@pytest.fixture(scope="module")
def launched(pool: Pool, recipe: Path) -> dict[str, dict[str, Any]]:
    """On two processes; bf16 by torchrun, the others, to save time, in its environment."""
    found = {"bf16": launch(recipe, "bf16", 2, "cpu")}
    for precision in ("fp32", "fp16"):
        folder = recipe.parent / precision
        pool.run("by_recipe", 2, path=str(recipe), folder=str(folder), precision=precision)
        found[precision] = {**tiny.journal(folder, "valid")[200], "train": tiny.journal(folder)}
    return found


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_ends_where_single_does(
    launched: dict[str, dict[str, Any]], precision: str
) -> None:
    for stream in ("mlm/en", "mlm/hi", "tlm/en-hi"):
        expected, found = launched["fp32"][stream]["nats"], launched[precision][stream]["nats"]
        assert found == pytest.approx(expected, rel=0.02)
        assert found != expected  # it was another precision
    tlm = launched[precision]["tlm/en-hi"]
    assert tlm["nats"] < 0.8 * math.log(tlm["unigram_perplexity"])  # something was learnt
    assert ("scale" in launched[precision]["train"][200]) == (precision == "fp16")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_one_process_on_nccl(
    launched: dict[str, dict[str, Any]], recipe: Path, precision: str
) -> None:
    figures = launch(recipe, precision, 1, "cuda")
    for stream in ("mlm/en", "mlm/hi", "tlm/en-hi"):
        expected = launched["fp32"][stream]["nats"]
        assert figures[stream]["nats"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_overflow_on_one_rank_skips_the_update_on_both(
    pool: Pool, tmp_path: Path, precision: str
) -> None:
    """Place 1 of a step is rank 1's; of 6 updates, the third and the fourth are skipped."""
    arguments = {"precision": precision, "at": [[2, 1], [3, 1]], "steps": 6}
    one, other = pool.run("overflow", 2, folder=str(tmp_path / "two"), **arguments)
    assert [s["weights"] for s in one["steps"]] == [s["weights"] for s in other["steps"]]
    assert [s["averages"] for s in one["steps"]] == [s["averages"] for s in other["steps"]]
    assert all(step["finite"] for step in one["steps"])
    for what in ("weights", "averages", "moments"):
        after = [step[what] for step in one["steps"]]
        assert after[1] == after[2] == after[3]
        assert len(set(after)) == 4  # all others moved
    states = [step["state"] for step in one["steps"]]
    assert [state["step"] for state in states] == [1, 2, 3, 4, 5, 6]
    assert [state["cursors"]["mlm/en"] for state in states] == [4, 8, 12, 16, 20, 24]
    assert [state["skipped"] for state in states] == [0, 0, 1, 2, 2, 2]
    assert [state["skipped_in_a_row"] for state in states] == [0, 0, 1, 2, 0, 0]
    scales = [scale for _, scale in one["reports"]]
    assert [skipped for skipped, _ in one["reports"]] == [0, 0, 1, 2, 2, 2]
    if precision == "fp16":
        assert scales == [2.0**16, 2.0**16, 2.0**15, 2.0**14, 2.0**14, 2.0**14]
        assert states[-1]["scaler"]["scale"] == 2.0**14 and states[-1]["scaler"]["skipped"] == 2
    else:
        assert scales == [None] * 6
    (alone,) = pool.run("overflow", 1, folder=str(tmp_path / "one"), **arguments)
    counted = [{**state, "unreported": None} for state in states]
    assert [{**step["state"], "unreported": None} for step in alone["steps"]] == counted


def test_watched_pairs_do_not_depend_on_the_number_of_processes(
    pool: Pool, recipe: Path, tmp_path: Path
) -> None:
    watching = tmp_path / "watching.yaml"
    text = recipe.read_text().replace("\nsteps: 200", "\nsteps: 12")
    text = text.replace("evaluate_every: 200", "evaluate_every: 6")
    settings = yaml.safe_load(text)
    settings["watch"] = {"pairs": ["en-hi"], "sentences": 20}
    watching.write_text(yaml.safe_dump(settings))
    found = []
    for num in (1, 2):
        folder = tmp_path / f"{num}"
        pool.run("by_recipe", num, path=str(watching), folder=str(folder), precision="fp32")
        found.append([line["watch/en-hi"] for line in tiny.journal(folder, "valid").values()])
    one, two = found
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=0, abs=1e-6)
