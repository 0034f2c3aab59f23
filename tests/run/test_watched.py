"""Held-out pairs that are watched while a run trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from xlm.analysis.loading import prepared_pairs
from xlm.analysis.retrieval import best_layer
from xlm.analysis.states import sentence_states
from xlm.analysis.tlm_gap import tlm_gap
from xlm.config.cli import parse
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.objectives import CausalLM, MaskedLM
from xlm.pretrain import pretrain
from xlm.run.config import Run
from xlm.run.watched import Watched, WatchedPairs
from xlm.training.journal import read_metrics

RECIPE = Path(__file__).parents[2] / "recipes/debug/mlm+tlm.yaml"
WATCH = ["--watch.pairs=[en-ne]", "--watch.sentences=20"]


def recipe(debug_data: Path, folder: Path, *flags: str) -> Run:
    words = [
        f"--config={RECIPE}", f"--data={debug_data}", f"--folder={folder}", "--steps=6",
        "--evaluate_every=3", "--save_every=6", "--tensorboard=false", "--device=cpu",
    ]  # fmt: skip
    return parse(Run, "pretrain", [*words, *flags])


@pytest.fixture(scope="module")
def runs(debug_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run without and with watched pairs."""
    folder = tmp_path_factory.mktemp("watched")
    flags = {"without": [], "with": WATCH}
    return {
        name: (folder / name, pretrain(recipe(debug_data, folder / name, *own)))
        for name, own in flags.items()
    }


def test_figures_join_each_evaluation(runs: dict[str, Any], debug_data: Path) -> None:
    folder, result = runs["with"]
    figures = result.figures["watch/en-ne"]
    assert set(figures) == {
        "retrieval_at_1", "layer", "chance", "nats_true", "nats_wrong", "nats_alone", "gain_nats",
        "gap_nats", "gain_accuracy", "gap_accuracy",
    }  # fmt: skip
    assert -1 <= figures["gap_accuracy"] <= 1
    assert figures["gap_nats"] == pytest.approx(figures["nats_wrong"] - figures["nats_true"])
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["event"] == "valid"]
    assert [line["step"] for line in lines] == [3, 6]
    assert lines[-1]["watch/en-ne"] == pytest.approx(figures)
    assert "watch/en-ne" not in lines[-1]["streams"]  # the score is the languages' as before
    # the model that is left behind, asked from outside
    (pair, own), *_ = prepared_pairs(Corpora.open(debug_data), "valid", 20).items()
    model = load(folder)
    sides = zip(pair, (own.first, own.second), strict=True)
    x, y = (sentence_states(model, lines, language) for language, lines in sides)
    layer, expected = best_layer(x, y)
    assert (figures["retrieval_at_1"], figures["layer"]) == (expected.value, layer)
    assert figures["chance"] == 1 / expected.num
    gap = tlm_gap(model, own.first[::5], own.second[::5], (pair.first, pair.second))
    for name in ("true", "wrong", "alone"):
        assert figures[f"nats_{name}"] == pytest.approx(gap[name].value, rel=1e-6)


def test_models_without_languages_are_read_together(debug_data: Path) -> None:
    corpora, model = Corpora.open(debug_data), Transformer(
        ModelConfig(dim=16, num_layers=2, num_heads=2, language_embeddings=False),
        vocab_size=Corpora.open(debug_data).tokenizer.vocab_size, num_languages=3, pad_id=2,
    )  # fmt: skip
    settings = WatchedPairs(pairs=["en-ne", "ne-en"], sentences=20)
    looks = Watched.of(settings, corpora, {}).measure(model, first_look=False)
    assert model.training  # as it was
    model.eval()
    alone = PretrainedModel(model, corpora.tokenizer, dict(corpora.languages))
    (own, *_) = prepared_pairs(corpora, "valid", 20).values()
    for first, second, name in (
        (own.first, own.second, "en-ne"), (own.second, own.first, "ne-en"),
    ):  # fmt: skip
        layer, expected = best_layer(*(sentence_states(alone, side) for side in (first, second)))
        figures = looks[f"watch/{name}"]
        assert (figures["retrieval_at_1"], figures["layer"]) == (expected.value, layer)
        gap = tlm_gap(alone, first[::5], second[::5], (None, None))
        for part in ("true", "wrong", "alone"):
            assert figures[f"nats_{part}"] == pytest.approx(gap[part].value, rel=1e-6)


def test_weights_are_the_same_with_and_without(runs: dict[str, Any]) -> None:
    without, watched = (own[1].learner.state_dict() for own in runs.values())
    assert all(torch.equal(value, watched[name]) for name, value in without.items())


def test_the_other_direction_is_a_pair_too(debug_data: Path, tmp_path: Path) -> None:
    stopping = ["--stopping.metric=retrieval_at_1", "--stopping.streams=[watch/ne-en]"]
    flags = ["--watch.pairs=[ne-en]", "--watch.sentences=12", "--watch.layers=[1]", *stopping]
    result = pretrain(recipe(debug_data, tmp_path, *flags))
    assert result.figures["watch/ne-en"]["layer"] == 1
    assert result.state.best == -result.figures["watch/ne-en"]["retrieval_at_1"]


def test_pairs_without_text_are_refused(debug_data: Path, tmp_path: Path) -> None:
    bare = Corpora.open(debug_data)
    bare._pairs.clear()
    with pytest.raises(DataError, match="watch.pairs names en-ne, but its valid text"):
        Watched.of(WatchedPairs(pairs=["en-ne"]), bare, {})
    with pytest.raises(ConfigError, match="'de-en' is not a pair of known languages"):
        pretrain(recipe(debug_data, tmp_path, "--watch.pairs=[de-en]"))
    with pytest.raises(ConfigError, match="stopping.streams names watch/en-ne"):
        pretrain(recipe(debug_data, tmp_path, "--stopping.streams=[watch/en-ne]"))
    with pytest.raises(ConfigError, match="watch.layers has 7: expected layers of the model, 0 to"):
        watched = ["--watch.pairs=[en-ne]", "--watch.layers=[7]"]
        pretrain(recipe(debug_data, tmp_path / "a", *watched))
    with pytest.raises(ConfigError, match="watch.sentences is 3: expected 10 or more"):
        recipe(debug_data, tmp_path, "--watch.sentences=3")


def test_the_log_says_once_what_causal_models_lack(
    debug_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpora = Corpora.open(debug_data)
    model = Transformer(
        ModelConfig(dim=16, num_layers=1, num_heads=2), vocab_size=corpora.tokenizer.vocab_size,
        num_languages=3, pad_id=2,
    )  # fmt: skip
    settings = WatchedPairs(pairs=["en-ne"], sentences=20)
    said = "watch: the model is causal, so en-ne get retrieval alone, not the gap"
    for objective, expected in (
        (CausalLM(languages=["en"]), [said]),
        (MaskedLM(languages=["en"]), []),
    ):
        caplog.clear()
        watched = Watched.of(settings, corpora, {"own": objective})
        with caplog.at_level("INFO", logger="xlm"):
            for first_look in (True, False):
                (figures,) = watched.measure(model, first_look=first_look).values()
        assert [line for line in caplog.messages if "watch" in line] == expected
        assert ("gap_nats" in figures) == (not expected)
