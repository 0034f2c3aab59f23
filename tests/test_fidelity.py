"""The two presets of XLM, and the table of agreement with the original's figures."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.equality import golden, golden_training
from benchmarks.support import agreement, record
from xlm.config.cli import parse, read, to_yaml
from xlm.model.transformer import Transformer
from xlm.prepare import Prepare
from xlm.pretrain import pretrain
from xlm.run.config import Run, read_run

ROOT = Path(__file__).parents[1]
PRESETS = ROOT / "recipes" / "xlm"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", ROOT.parent / "shared" / "golden"))
NAMES = sorted(path.name for path in (PRESETS / "paper").glob("*.yaml"))
RUNS = [name for name in NAMES if not name.startswith("prepare")]
FIFTEEN = "ar bg de el en es fr hi ru sw th tr ur vi zh".split()


def recipe(preset: str, name: str) -> Run:
    return read(Run, PRESETS / preset / name)


def test_the_presets_are_pairs_of_recipes() -> None:
    assert NAMES == sorted(path.name for path in (PRESETS / "original").glob("*.yaml"))
    assert set(NAMES) == {
        "prepare-15.yaml", "prepare-en-fr.yaml", "mlm-15.yaml", "mlm+tlm-15.yaml",
        "mlm-en-fr.yaml", "clm-en-fr.yaml",
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["paper", "original"])
def test_a_run_reads_what_its_preset_prepares(preset: str) -> None:
    for name in RUNS:
        run = recipe(preset, name)
        which = "en-fr" if "en-fr" in name else "15"
        prepared = read(Prepare, PRESETS / preset / f"prepare-{which}.yaml")
        assert run.data == prepared.folder == f"runs/xlm/{preset}/data-{which}"
        assert list(prepared.known) == (["en", "fr"] if which == "en-fr" else FIFTEEN)
        there = {"-".join(sorted(pair.split("-"))) for pair in prepared.pairs.train}
        for objective in run.objectives.values():
            assert set(objective.languages) <= set(prepared.text.train)
            assert {"-".join(sorted(pair.split("-"))) for pair in objective.pairs} <= there
            assert objective.languages or len(there) == 14


SETTINGS = {
    # XLM sections 3.1 to 3.5 and 5.1
    "paper": {
        "rows": 64, "length": 256, "mask_rate": 0.15, "mask": 0.8, "keep": 0.1, "random": 0.1,
        "frequency_exponent": 0.5,
    },
    # docs/fidelity.md, A2, A3, B1, B2, B8
    "original": {
        "rows": 32, "length": 256, "stream_layout": "original", "evaluation": "original",
        "mask_rate": 0.15, "mask": 0.8, "keep": 0.1, "random": 0.1, "frequency_exponent": 0.0,
        "masks": "original", "random_from_all": True, "counts": "vocabulary",
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", SETTINGS)
def test_the_fields_are_those_of_the_paper_and_of_the_program(preset: str) -> None:
    for name in RUNS:
        run = recipe(preset, name)
        for key, objective in run.objectives.items():
            if objective.languages:
                assert type(objective).__name__.startswith("Original") == (preset == "original")
                for field, value in SETTINGS[preset].items():
                    if hasattr(objective, field):
                        assert getattr(objective, field) == value, (name, key, field)
            rule = "alpha" if preset == "paper" else "uniform"
            assert objective.sampling.rule == rule and objective.sampling.alpha == 0.7
        assert run.order == ("rotate" if preset == "paper" else "original")
        assert run.optimizer.kind == ("adam" if preset == "paper" else "xlm-adam")
        assert run.optimizer.max_grad_norm == 5 and run.schedule.peak_lr == 1e-4
        assert run.precision == "fp16" and run.group_size == 64
    tlm = recipe(preset, "mlm+tlm-15.yaml").objectives["tlm"]
    assert tlm.layout == "tlm"
    if preset == "paper":
        assert (tlm.tokens, len(tlm.pairs)) == (4000, 14)
        assert read(Prepare, PRESETS / preset / "prepare-15.yaml").vocabulary.alpha == 0.5
    else:
        assert (tlm.tokens, tlm.rows, tlm.longest_side, len(tlm.pairs)) == (None, 32, 100, 28)
        assert tlm.pair_order == "original"


def test_rates_at_the_start_and_after_the_warm_up() -> None:
    """The program starts at 1e-7, or at the peak if it is constant (docs/fidelity.md, B7)."""
    for name in RUNS:
        paper, original = (recipe(each, name).schedule for each in ("paper", "original"))
        assert paper.lr(0) == 0.0 and paper.lr(2000) == pytest.approx(0.5e-4)
        assert paper.lr(16000) == pytest.approx(0.5e-4)
        if "en-fr" in name:
            assert original.lr(0) == original.lr(10**6) == 1e-4
        else:
            assert original.lr(0) == 1e-7 and original.lr(16000) == pytest.approx(0.5e-4)


@pytest.mark.parametrize("preset", ["paper", "original"])
@pytest.mark.parametrize("name", RUNS)
def test_the_model_is_the_one_of_section_5_1(preset: str, name: str) -> None:
    shape = recipe(preset, name).shape
    layers = 6 if "en-fr" in name else 12
    assert (shape.dim, shape.num_layers, shape.num_heads) == (1024, layers, 8)
    assert (shape.num_decoder_layers, shape.dropout, shape.activation) == (0, 0.1, "gelu")
    languages, vocabulary = (2, 64_000) if "en-fr" in name else (15, 95_000)
    with torch.device("meta"):
        model = Transformer(shape, vocab_size=vocabulary, num_languages=languages, pad_id=2)
    found = sum(parameter.numel() for parameter in model.parameters())
    # 12 d^2 a layer and the tables: the released 15-language model has 250 M
    assert found == pytest.approx((layers * 12 * 1024 + vocabulary + 512) * 1024, rel=0.01)


@pytest.mark.parametrize("preset", ["paper", "original"])
@pytest.mark.parametrize("name", ["mlm+tlm-15.yaml", "clm-en-fr.yaml"])
def test_a_preset_trains_once_it_is_small(
    preset: str, name: str, debug_data: Path, tmp_path: Path
) -> None:
    flags = [
        f"--config={PRESETS / preset / name}", f"--data={debug_data}", f"--folder={tmp_path / 'x'}",
        "--model.dim=16", "--model.num_layers=1", "--model.num_heads=2", "--precision=fp32",
        "--steps=2", "--evaluate_every=2", "--save_every=0", "--group_size=2",
        "--tensorboard=false", "--device=cpu", "--schedule.warmup_steps=2",
    ]  # fmt: skip
    for key in recipe(preset, name).objectives:
        pairs = key == "tlm"
        own = {"rows": 4, "length": 128 if pairs else 32}
        own |= {"pairs": ["en-ne"]} if pairs else {"languages": ["en", "ne"]}
        own |= {"counts": "corpora"} if preset == "original" and key != "clm" else {}
        flags += [f"--objectives.{key}.{field}={value}" for field, value in own.items()]
    result = pretrain(parse(Run, "pretrain", flags))
    assert result.state.step == 2
    streams = {"mlm/en", "mlm/ne", "tlm/en-ne"} if "tlm" in name else {"clm/en", "clm/ne"}
    assert set(result.figures) == streams
    assert all(math.isfinite(own["perplexity"]) for own in result.figures.values())
    assert read_run(result.folder).optimizer == recipe(preset, name).optimizer
    order = "rotate" if preset == "paper" else preset
    assert f"order: {order}" in to_yaml(read_run(result.folder))


# The rows of docs/fidelity.md that comments point to.

KEY = r"\b[A-D]\d{1,2}(?:\.\d{1,2})?\b"
POINTING = [
    path
    for room in ("xlm", "recipes", "tests", "benchmarks")
    for path in sorted((ROOT / room).rglob("*"))
    if path.suffix in (".py", ".yaml") and "fidelity.md" in path.read_text(encoding="utf-8")
]


def pointers(text: str) -> set[str]:
    """The keys of a text: all in comments of a recipe, those after the page's name elsewhere."""
    lists = re.findall(rf"docs/fidelity\.md[,):]*\s+((?:{KEY}(?:,\s+|\s+and\s+)?)+)", text)
    lists += re.findall(rf"\(((?:{KEY}(?:,\s+)?)+)\)", text)
    comments = re.findall(r"# (.*)", text) if text.startswith("#") else []
    return {key for part in lists + comments for key in re.findall(KEY, part)}


def test_every_pointer_leads_to_a_row_of_the_page() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    rows = set(re.findall(rf"^### ({KEY})\. ", page, re.MULTILINE))
    rows |= set(re.findall(rf"^\| ({KEY}) \|", page, re.MULTILINE))
    found = {
        str(path.relative_to(ROOT)): pointers(path.read_text(encoding="utf-8")) for path in POINTING
    }
    lost = {path: keys - rows for path, keys in found.items() if keys - rows}
    assert not lost
    assert {key for keys in found.values() for key in keys} >= {"A1", "A11", "B9", "B10", "C1.12"}
    name = "docs/fidelity.md"
    assert pointers(f"see {name}, B9 and D10: A1") == {"B9", "D10"}
    assert pointers(" ".join(["by chance", "(A4,", "C1.7)", "A1"])) == {"A4", "C1.7"}


# The table of agreement.

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """The table, computed now."""
    return golden.compare(GOLDEN).rows


def test_a_table_notices_what_differs() -> None:
    table = agreement.Table()
    one = np.array([1.0, 2.0])
    table.exact("same", "", [(one, one), ("a", "a"), ([[1], [2, 3]], [[1], [2, 3]]), ({}, {})])
    table.close("near", "", [(one + 1e-6, one)], 1e-5)
    table.close("relative", "", [(one * 100 + 5e-4, one * 100)], 1e-5, relative=True)
    table.chance("likely", "", [1.0, -4.4], 4.5)
    assert [row["agrees"] for row in table.rows] == ["yes"] * 4
    assert [row["values"] for row in table.rows] == [6, 2, 2, 2]
    table.rows.clear()
    table.exact("value", "", [(one, one), (one + 1e-12, one)])
    table.exact("shape", "", [(one[:1], one)])
    table.exact("text", "", [(["7"], ["07"])])
    table.exact("nothing", "", [])
    table.close("far", "", [(one + 2e-5, one)], 1e-5)
    table.close("relative", "", [(one + 1e-3, one)], 1e-5, relative=True)
    table.close("not a number", "", [(one * math.nan, one)], 1e-5)
    table.chance("unlikely", "", [1.0, -4.6], 4.5)
    assert [row["agrees"] for row in table.rows] == ["no"] * 8
    json.dumps(table.rows, allow_nan=False)


@needs_golden
def test_every_figure_of_the_original_agrees(rows: list[dict[str, Any]]) -> None:
    assert not [row for row in rows if row["agrees"] != "yes"]
    # eval.json's 276 values; 18 BLEUs once more, of the texts that are there, which are 18 files
    translated = sum(row["values"] for row in rows if "files of translations" in row["compared"])
    metrics = sum(row["values"] for row in rows if row["file"] == "eval.json")
    assert metrics - translated == 276 + 18


@needs_golden
def test_no_file_of_the_original_is_left_out(rows: list[dict[str, Any]]) -> None:
    read = [row["file"] for row in rows]
    said = " ".join(row["compared"] for row in rows)
    for path in GOLDEN.rglob("*"):
        name = str(path.relative_to(GOLDEN))
        if path.is_dir() or name in ("README.md", "arrays.txt"):
            continue
        is_text = path.with_name(path.name + ".pth").exists()  # data/binarised.npz has its ids
        assert is_text or path.name in said or any(fnmatch(name, file) for file in read), name


@needs_golden
def test_the_recorded_table_is_the_one_of_this_code(rows: list[dict[str, Any]]) -> None:
    recorded = json.loads((ROOT / "benchmarks" / "results" / "golden.json").read_text())["rows"]
    keys = ("file", "compared", "values", "tolerance", "agrees")
    assert [[row[k] for k in keys] for row in recorded] == [[row[k] for k in keys] for row in rows]


@needs_golden
def test_a_changed_figure_is_noticed(tmp_path: Path) -> None:
    with np.load(GOLDEN / "optim.npz") as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["adam.wd_0.w"] = changed["adam.wd_0.w"] + np.float32(1e-5)
    np.savez(tmp_path / "optim.npz", **changed)
    table = agreement.Table()
    golden_training.optimizers(tmp_path, table)
    assert [row["agrees"] for row in table.rows] == ["yes", "no"]


def test_the_command_fails_where_a_row_disagrees(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = agreement.Table()
    monkeypatch.setattr(golden, "compare", lambda folder, families: table)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["golden.py", f"--golden={tmp_path}"])
    monkeypatch.setattr(logging.getLogger("xlm"), "setLevel", lambda level: None)  # others listen
    table.exact("a.npz", "values", [(1, 1)])
    assert golden.main() == 0
    recorded = json.loads((tmp_path / "golden.json").read_text())
    assert recorded["rows"] == table.rows and recorded["values_that_agree"] == 1
    table.exact("b.npz", "values", [(1, 2)])
    assert golden.main() == 1 and "1 do not" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["golden.py", f"--golden={tmp_path / 'none'}"])
    with pytest.raises(SystemExit, match="2"):
        golden.main()
