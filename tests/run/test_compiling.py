"""One handful of graphs for 15 languages and 14 pairs, evaluation included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.fx.experimental._config

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.data.pairs import Pairs
from xlm.objectives.masked import MaskedLM
from xlm.run import build as building
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.loop import train

LANGUAGES = [f"l{chr(97 + number)}" for number in range(15)]
WARM_UP, STEPS = 20, 60


def rows(num: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(14, 60, random.integers(2, 28)) for _ in range(num)]


def corpora() -> Corpora:
    texts, pairs = {}, {}
    for split, num in (("train", 60), ("valid", 9)):
        for at, language in enumerate(LANGUAGES):
            texts[split, language] = tiny._corpus(rows(num + 7 * at, at), language)
            if at:
                sides = [
                    tiny._corpus(rows(num + 5 * at, seed + at), name)
                    for seed, name in ((100, LANGUAGES[0]), (200, language))
                ]
                pairs[split, f"{LANGUAGES[0]}-{language}"] = Pairs(*sides)
    return Corpora(tiny.Words(), LANGUAGES, texts=texts, pairs=pairs)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The graphs that torch made, by a back end that runs them as they are."""
    found: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(str([tuple(tensor.shape) for tensor in inputs if hasattr(tensor, "shape")]))
        return graph.forward

    compile_layers = building.Transformer.compile_layers
    monkeypatch.setattr(
        building.Transformer,
        "compile_layers",
        lambda self, **_: compile_layers(self, backend=backend),
    )
    torch._dynamo.reset()
    with torch.fx.experimental._config.patch(use_duck_shape=True):
        yield found
    torch._dynamo.reset()


def test_graphs_of_masked_and_translation_language_models(graphs: list[str]) -> None:
    """Each padded length of each pair had its own before; after 128 all else ran eager."""
    pairs = [f"{LANGUAGES[0]}-{language}" for language in LANGUAGES[1:]]
    mlm = MaskedLM(languages=LANGUAGES, rows=8, length=16, evaluation_folds=1)
    tlm = MaskedLM(pairs=pairs, tokens=200, length=64, evaluation_folds=1)
    run = tiny.recipe(
        "", objectives={"mlm": mlm, "tlm": tlm}, order="rotate", group_size=2, steps=WARM_UP,
        model=tiny.model(max_positions=64, dropout=0.1, num_layers=3),
    )  # fmt: skip
    made, parallel = corpora(), Parallel(torch.device("cpu"))
    trainer = tiny.trainer(run, made, parallel)
    building.compile_model(trainer.learner.model)
    held_out = building.held_out_streams(run, made, "valid")
    train(trainer)
    evaluate(trainer.learner, held_out, parallel, seed=0)
    assert 0 < len(graphs) <= 6, graphs
    before = len(graphs)
    trainer.steps = STEPS
    train(trainer)
    evaluate(trainer.learner, held_out, parallel, seed=1)
    assert graphs[before:] == []


def test_compiled_layers_compute_the_same(graphs: list[str]) -> None:
    """Without dropout: losses of 4 updates, of single rows too."""
    objectives = {"mlm": tiny.MLM, "tlm": MaskedLM(pairs=["en-hi"], tokens=20, length=20)}
    run = tiny.recipe("", objectives=objectives, dtype="float64", steps=4)
    weights = []
    for compiled in (False, True):
        trainer = tiny.trainer(run, tiny.corpora(20), Parallel(torch.device("cpu")))
        if compiled:
            building.compile_model(trainer.learner.model)
        train(trainer)
        weights.append(dict(trainer.learner.named_parameters()))
    assert graphs
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-12)
