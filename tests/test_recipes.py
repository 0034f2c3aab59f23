"""Every recipe is read, comes back from what is printed, and those of recipes/debug are trained."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import xlm
from xlm.add_language import AddLanguage, add_language
from xlm.analyze import Analyze
from xlm.config.cli import parse, read, to_yaml
from xlm.data.corpora import Corpora
from xlm.evaluate import Evaluate, evaluate_run
from xlm.finetune import REPORT, Finetune, finetune
from xlm.model.generate import Generation
from xlm.prepare import Prepare, prepare
from xlm.pretrain import Result, pretrain
from xlm.run.build import build_mixture, training_streams
from xlm.run.config import Run, read_run
from xlm.training.journal import read_metrics

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(str(path.relative_to(RECIPES)) for path in RECIPES.rglob("*.yaml"))


def kind(name: str) -> type[Any]:
    """What a recipe is of, by its keys."""
    if name.startswith("analysis/"):
        return Analyze
    keys = yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))
    if "language" in keys:
        return AddLanguage
    return Finetune if "tasks" in keys else Run if "objectives" in keys else Prepare


@cache
def recipe(name: str) -> Any:
    """Return what a recipe holds; reading one takes a tenth of a second."""
    return read(kind(name), RECIPES / name)


DEBUG = [name for name in NAMES if name.startswith("debug/") and kind(name) is Run]
TASKS = [name for name in NAMES if name.startswith("debug/") and kind(name) is Finetune]


def test_there_is_nothing_but_recipes() -> None:
    assert "debug/prepare.yaml" in NAMES and len(DEBUG) >= 6 and TASKS
    assert all(kind(name) is Prepare for name in NAMES if Path(name).stem.startswith("prepare"))
    strange = [
        path
        for path in RECIPES.rglob("*")
        if path.is_file() and path.suffix != ".yaml" and "__pycache__" not in path.parts
    ]
    assert strange == [RECIPES / "cluster/prepare_parts.py"]  # a program that runs parts of one
    presets = ("xlm/paper", "xlm/original")
    deep = [name for name in NAMES if len(Path(name).parts) != 2 + name.startswith(presets)]
    assert not deep, (
        "recipes lie at recipes/STUDY/RUN.yaml, presets at recipes/STUDY/PRESET/RUN.yaml"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_read_and_comes_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recipe(name)
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
    config = recipe(name)
    folders = [config.folder, *([config.data] if kind(name) is Run else [])]
    assert all(folder.startswith("runs/") for folder in folders), folders


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, debug_data: Path) -> Any:
    """A recipe's run, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def data_of(name: str) -> Path:
        if recipe(name).data == "runs/debug/data":
            return debug_data
        which = Path(recipe(name).data).name
        prepared, own = folder / which, RECIPES / f"debug/prepare-{which}.yaml"
        settings = [f"--config={own}", f"--folder={prepared}"]
        prepare(parse(Prepare, "prepare", settings))
        return prepared

    @cache
    def train(name: str, *flags: str) -> Result:
        here = [f"--data={data_of(name)}", f"--folder={folder / Path(name).stem}{len(flags)}"]
        settings = [f"--config={RECIPES / name}", *here, "--tensorboard=false", *flags]
        return pretrain(parse(Run, "pretrain", settings))

    return train


STREAMS = {
    "debug/mlm.yaml": {"mlm/en", "mlm/ne"},
    "debug/clm.yaml": {"clm/en", "clm/ne"},
    "debug/tlm.yaml": {"tlm/en-ne"},
    "debug/mlm+tlm.yaml": {"mlm/en", "mlm/ne", "tlm/en-ne"},
    "debug/causal-tlm.yaml": {"ctlm/en-ne", "ctlm/ne-en"},
    "debug/backtranslation.yaml": {"ae/en", "ae/ne", "bt/en-ne", "bt/ne-en"},
    "debug/denoising.yaml": {"ae/en", "ae/ne"},
    "debug/infilling.yaml": {"ae/en", "ae/ne"},
    "debug/translation.yaml": {"mt/en-ne", "mt/ne-en"},
    "debug/target.yaml": {"mt/en-ne", "mt/ne-en"},
    "debug/target-apart.yaml": {"mt/en-ne", "mt/ne-en"},
    "debug/next-sentence.yaml": {"nsp/en", "nsp/ne"},
    "debug/rotary.yaml": {"mlm/en", "mlm/ne", "tlm/en-ne"},
    "debug/modernbert.yaml": {"mlm/en", "mlm/ne", "clm/en", "clm/ne"},
}


def test_debug_recipes_have_every_shape() -> None:
    shapes = [recipe(name).model for name in DEBUG]
    assert any(shape.positions == "learned" and shape.norm == "post" for shape in shapes)
    assert any(shape.positions == "rotary" and shape.window is None for shape in shapes)
    assert any(shape.window is not None and shape.activation == "geglu" for shape in shapes)


@pytest.mark.parametrize("name", ["small/mlm+clm.yaml", "debug/modernbert.yaml"])
def test_masked_and_causal_updates_are_three_to_one(name: str, debug_data: Path) -> None:
    objectives = recipe(name).objectives
    languages = {key: ["en", "ne"] for key in objectives}
    here = {key: replace(own, languages=languages[key]) for key, own in objectives.items()}
    run = replace(recipe(name), objectives=here)
    corpora = Corpora.open(debug_data)
    mixture = build_mixture(run, training_streams(run, corpora))
    drawn = [mixture.plan(step, {})[0].objective for step in range(400)]
    assert drawn.count("mlm") == 3 * drawn.count("clm") == 300
    assert {stream.name for stream in mixture.streams["mlm"]} == {
        stream.name for stream in mixture.streams["clm"]
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
        assert name != "debug/infilling.yaml" or own["perplexity"] < own["unigram_perplexity"]
    lines = read_metrics(result.folder / "metrics.jsonl")
    first, last = (line for line in lines if line["event"] == "valid")
    assert last["score"] < first["score"], "nothing is learnt"


def test_a_language_is_added_to_what_a_debug_recipe_trains(trained: Any, tmp_path: Path) -> None:
    config = recipe("debug/add-language.yaml")
    model = trained("debug/mlm.yaml").folder
    report = add_language(replace(config, model=str(model), folder=str(tmp_path / "hi")))
    assert report["proof"]["unchanged"] and report["likeness_measured"]
    found = xlm.load(tmp_path / "hi" / "model")
    assert [*found.known_languages, *found.tables] == ["en", "ne", "hi"]
    (one,) = report["tries"]
    assert one["nats"] < one["before"]["nats"]


@pytest.fixture(scope="module")
def tuned(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A recipe's fine-tuning of what debug/mlm+tlm.yaml trains; its folder and its report."""
    folder = tmp_path_factory.mktemp("tuned")
    source = trained("debug/mlm+tlm.yaml").folder

    def tune(name: str, *flags: str) -> tuple[Path, Any]:
        to = folder / f"{Path(name).stem}{len(flags)}"
        settings = [f"--config={RECIPES / name}", f"--model={source}", f"--folder={to}", *flags]
        return to, finetune(parse(Finetune, "finetune", settings))

    return tune


TUNED = {"debug/classification.yaml": ({"follows/en", "follows/ne"}, "accuracy")}


@pytest.mark.parametrize("name", TASKS)
def test_a_debug_recipe_is_fine_tuned(name: str, tuned: Any) -> None:
    folder, report = tuned(name)
    streams, metric = TUNED[name]
    assert set(report.streams) == streams
    assert json.loads((folder / REPORT).read_text())["rule"].startswith(f"best {metric}")
    for own in report.streams.values():
        assert set(own) == {"chosen", "target", "last"}
        assert all(0 <= figure.mean <= 1 for figure in own.values())
    lines = read_metrics(folder / "seed-0" / "metrics.jsonl")
    losses = [next(iter(line["loss"].values())) for line in lines if line["event"] == "train"]
    assert losses[-1] < losses[0], "nothing is learnt"
    heads = xlm.load(folder / "seed-0").heads
    assert {name.split(".")[1] for name in heads} == {next(iter(streams)).split("/")[0]}


@pytest.mark.parametrize("name", ["debug/target.yaml", "debug/target-apart.yaml"])
def test_a_debug_translator_is_used_with_its_layout(name: str, trained: Any) -> None:
    """By the model directory and by the checkpoint alike; the layout is said nowhere else."""
    folder = trained(name).folder
    lines = ["The water is warm.", "", "A dog"]
    settings = Generation(ratio=0, extra=8)
    found = []
    for source in (folder, folder / "model"):
        model = xlm.load(source)
        assert model.extra["layout"] == Path(name).stem
        assert model.extra["directions"] == ["en-ne", "ne-en"]
        found += [
            model.translate(lines, source="en", target=own, settings=settings)
            for own in ("ne", "en")
        ]
    assert found[:2] == found[2:] and found[0][1] == ""
    described = json.loads((folder / "model/config.json").read_text(encoding="utf-8"))
    assert described["extra"]["layout"] == Path(name).stem


def test_fine_tuning_starts_from_a_pretrained_model(trained: Any, tuned: Any) -> None:
    """Only the new head is new: the model is that of the run, averaged weights where it has any."""
    source = trained("debug/mlm+tlm.yaml")
    folder, _ = tuned("debug/classification.yaml", "--steps=1", "--schedule.peak_lr=0")
    found = dict(xlm.load(folder / "seed-0").transformer.named_parameters())
    averaged = dict(xlm.load(source.folder).transformer.named_parameters())
    last = dict(source.learner.model.named_parameters())
    assert all(p.equal(averaged[name]) for name, p in found.items())
    assert any(not p.equal(last[name]) for name, p in found.items())
