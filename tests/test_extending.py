"""A new objective and a new task: one file each, outside the package, named by a recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlm import evaluate, pretrain
from xlm.config.cli import read
from xlm.finetune import Finetune, finetune
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.rng import Random
from xlm.training.journal import read_metrics

RECIPE = """\
data: {data}
folder: run
objectives:
  mine:
    class_path: {class_path}
    init_args: {{{arguments}}}
  mlm:
    class_path: MaskedLM
    init_args: {{languages: [en], rows: 4, length: 32}}
model: {{dim: 16, num_layers: 1, num_heads: 2, dropout: 0.0, attention_dropout: 0.0}}
steps: 24
group_size: 2
schedule: {{peak_lr: 1.0e-2, warmup_steps: 2}}
stopping: {{metric: {metric}, streams: [{watched}]}}
report_every: 12
evaluate_every: 12
tensorboard: false
"""


TUNE = """\
model: run
folder: tuned
tasks:
  alike:
    class_path: similarity.Similarity
    init_args: {files: {train: {en: train.tsv}, valid: {en: valid.tsv}}, rows: 16, length: 64}
schedule: {kind: linear, peak_lr: 1.0e-2}
"""


def console_script(root: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program ``xlm``, which lies elsewhere than the working directory and its classes."""
    script = cwd / "bin" / "xlm"
    script.parent.mkdir(exist_ok=True)
    script.write_text("from xlm.__main__ import main\nmain()\n")
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def figures_of(folder: Path, code: Path) -> dict[str, dict[str, float]]:
    """What ``xlm evaluate`` writes of the run, which is what the run saw at its end."""
    flags = [f"--json={folder / 'f.json'}", "--which=latest", f"--trust={code}"]
    evaluate.main([str(folder / "run"), *flags])
    figures: dict[str, dict[str, float]] = json.loads((folder / "f.json").read_text())["figures"]
    lines = read_metrics(folder / "run/metrics.jsonl")
    last = [line for line in lines if line["event"] == "valid"][-1]
    assert {name: last[name] for name in figures} == figures
    losses = [line["loss"]["mine"] for line in lines if line["event"] == "train"]
    assert losses[-1] < losses[0]
    return figures


@pytest.fixture
def outside(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and the two files where Python finds them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(root / "tests/extending"))
    return tmp_path


def test_an_objective(
    root: Path, outside: Path, debug_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.format(
        data=debug_data, class_path="replaced_token.ReplacedToken", metric="nats",
        arguments="languages: [en, ne], rate: 0.3", watched="mine/en, mine/ne",
    )  # fmt: skip
    (outside / "recipe.yaml").write_text(recipe)
    source = (root / "tests/extending/replaced_token.py").read_text()
    (outside / "replaced_token.py").write_text(source)
    done = console_script(root, outside, "pretrain", "--config=recipe.yaml")
    assert done.returncode == 0, done.stderr
    figures = figures_of(outside, root / "tests/extending")
    assert set(figures) == {"mine/en", "mine/ne", "mlm/en"}
    assert 0 < figures["mine/ne"]["nats"] < 1 and figures["mine/ne"]["correct"] > 0.6
    with pytest.raises(SystemExit):
        pretrain.main(["--objectives.help=replaced_token.ReplacedToken"])
    assert "Share of the tokens that are replaced." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        pretrain.main(["--config=recipe.yaml", "--objectives.mine.rat=1"])
    assert capsys.readouterr().err == (
        "xlm pretrain: --objectives.mine.rat: no such flag; did you mean --objectives.mine.rate?\n"
    )


def test_a_task(root: Path, outside: Path, debug_data: Path) -> None:
    """Labels that are numbers: how alike two lengths are, of pairs made on the spot."""
    words = (root / "xlm/sample/train.en.txt").read_text(encoding="utf-8").split()
    for split, num in (("train", 60), ("valid", 20)):
        random = Random(0, "similarity", split)
        sizes = random.integers(2 * num, 9).reshape(num, 2) + 1
        with open(outside / f"{split}.tsv", "w", encoding="utf-8") as file:
            for one, other in sizes.tolist():
                first, second = words[:one], words[20 : 20 + other]
                alike = min(one, other) / max(one, other)
                file.write(f"{alike:.2f}\t{' '.join(first)}\t{' '.join(second)}\n")
    prepare(
        Prepare(
            folder=str(outside / "data"),
            text=Texts(train={"en": "sample:train.en.txt"}, valid={"en": "sample:valid.en.txt"}),
            vocabulary=Vocabulary(folder=str(debug_data)),
            root=str(outside),
        )
    )
    recipe = RECIPE.format(
        data="data", class_path="similarity.Similarity", metric="squared_error",
        arguments="files: {train: {en: train.tsv}, valid: {en: valid.tsv}}, rows: 16, length: 64",
        watched="mine/en",
    )  # fmt: skip
    (outside / "recipe.yaml").write_text(recipe)
    pretrain.main(["--config=recipe.yaml"])
    figures = figures_of(outside, root / "tests/extending")
    assert 0 < figures["mine/en"]["squared_error"] < 1
    assert set(figures) == {"mine/en", "mlm/en"}
    (outside / "tune.yaml").write_text(TUNE)
    report = finetune(read(Finetune, Path("tune.yaml")))
    assert report.streams["alike/en"]["chosen"].mean < 0.1


@pytest.mark.parametrize("source", ["replaced_token.py", "similarity.py"])
def test_each_is_one_short_file(root: Path, source: str) -> None:
    text = (root / "tests/extending" / source).read_text()
    assert len(text.splitlines()) < 80


def test_a_class_that_came_with_a_run_is_imported_if_it_is_trusted(
    root: Path, tmp_path: Path, debug_data: Path
) -> None:
    """Evaluating from the very folder that is measured, where the code lies too."""
    source = (root / "tests/extending/replaced_token.py").read_text()
    (tmp_path / "replaced_token.py").write_text(source)
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.format(
            data=debug_data,
            class_path="replaced_token.ReplacedToken",
            metric="nats",
            arguments="languages: [en, ne], rate: 0.3",
            watched="mine/en, mine/ne",
        )  # fmt: skip
    )
    done = console_script(root, tmp_path, "pretrain", "--config=recipe.yaml", "--steps=2")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "replaced_token.py").open("a") as file:
        file.write("\nopen('ran', 'w').close()\n")
    refused = console_script(root, tmp_path, "evaluate", "run")
    assert refused.returncode == 2 and "say --trust FOLDER" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1 and not (tmp_path / "ran").exists()
    done = console_script(root, tmp_path, "evaluate", "run", "--trust=.")
    assert done.returncode == 0, done.stderr
    assert "mine/ne" in done.stdout and (tmp_path / "ran").exists()
