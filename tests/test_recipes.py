"""Every recipe is read, comes back from what is printed, and those of recipes/debug are trained."""

from __future__ import annotations

import logging
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from xlm.command import parse, read, to_yaml
from xlm.evaluate import Evaluate, evaluate_run
from xlm.prepare import Prepare
from xlm.pretrain import Result, pretrain
from xlm.run import Run, read_run
from xlm.training.journal import read_metrics

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(str(path.relative_to(RECIPES)) for path in RECIPES.rglob("*.yaml"))
DEBUG = [name for name in NAMES if name.startswith("debug/") and name != "debug/prepare.yaml"]


def kind(name: str) -> type[Any]:
    return Prepare if Path(name).stem.startswith("prepare") else Run


def test_there_is_nothing_but_recipes() -> None:
    assert "debug/prepare.yaml" in NAMES and len(DEBUG) >= 7
    strange = [path for path in RECIPES.rglob("*") if path.is_file() and path.suffix != ".yaml"]
    assert not strange
    presets = ("xlm/paper", "xlm/code")
    deep = [name for name in NAMES if len(Path(name).parts) != 2 + name.startswith(presets)]
    assert not deep, "recipes lie at recipes/STUDY/RUN.yaml, presets at recipes/STUDY/PRESET/RUN.yaml"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_read_and_comes_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read(kind(name), RECIPES / name)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config), encoding="utf-8")
    assert read(kind(name), again) == config
    with pytest.raises(SystemExit) as caught:
        parse(kind(name), "x", [f"--config={RECIPES / name}", "--print_config"])
    assert caught.value.code == 0
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert read(kind(name), again) == config


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_names_folders_below_runs(name: str) -> None:
    text = (RECIPES / name).read_text(encoding="utf-8")
    assert text.startswith("# "), "the first line of a recipe is a comment"
    config = read(kind(name), RECIPES / name)
    folders = [config.folder] if kind(name) is Prepare else [config.folder, config.data]
    assert all(folder.startswith("runs/") for folder in folders), folders


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, debug_data: Path) -> Any:
    """A recipe's run, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def train(name: str, *flags: str) -> Result:
        here = [f"--data={debug_data}", f"--folder={folder / Path(name).stem}{len(flags)}"]
        settings = [f"--config={RECIPES / name}", *here, "--tensorboard=false", *flags]
        return pretrain(parse(Run, "pretrain", settings))

    return train


STREAMS = {
    "debug/mlm.yaml": {"mlm/en", "mlm/ne"},
    "debug/clm.yaml": {"clm/en", "clm/ne"},
    "debug/tlm.yaml": {"tlm/en-ne"},
    "debug/mlm+tlm.yaml": {"mlm/en", "mlm/ne", "tlm/en-ne"},
    "debug/causal-tlm.yaml": {"ctlm/en-ne", "ctlm/ne-en"},
    "debug/classification.yaml": {"follows/follows.en", "follows/follows.ne"},
    "debug/translation.yaml": {"mt/en-ne", "mt/ne-en"},
}


@pytest.mark.parametrize("name", DEBUG)
def test_a_debug_recipe_is_trained_and_evaluated(name: str, trained: Any) -> None:
    result = trained(name)
    run = read_run(result.folder)
    assert result.state.step == run.steps <= 50
    assert set(result.figures) == STREAMS[name]
    figures = evaluate_run(Evaluate(folder=str(result.folder), which="latest"))["figures"]
    assert figures == result.figures
    for own in figures.values():
        assert all(math.isfinite(value) for value in own.values())
        assert own["perplexity"] == pytest.approx(math.exp(own["nats"]))
        assert 0 <= own["accuracy"] <= 1
    lines = read_metrics(result.folder / "metrics.jsonl")
    first, last = (line for line in lines if line["event"] == "valid")
    assert last["score"] < first["score"], "nothing is learnt"


def test_classification_starts_from_a_pretrained_model(
    trained: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the new head is new: the model is that of the run, averaged weights where it has any."""
    source = trained("debug/mlm+tlm.yaml")
    with caplog.at_level(logging.INFO, "xlm"):
        result = trained(
            "debug/classification.yaml", f"--initialize.encoder={source.folder}", "--steps=1",
            "--schedule.kind=constant", "--schedule.warmup_steps=0", "--schedule.peak_lr=0",
        )  # fmt: skip
    assert "new heads: follows" in caplog.text
    averaged = dict(result.learner.model.named_parameters())
    plain = dict(source.learner.model.named_parameters())
    changed = [n for n, p in averaged.items() if not p.detach().equal(plain[n].detach())]
    assert changed  # the averaged weights, not the last ones
    for name in changed:
        difference = (averaged[name] - plain[name]).detach().abs().max()
        assert difference < 0.05
