"""Names of heads, and which parameters which objective trains."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.training import tiny
from xlm.batch import Batch, Loss
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.run import build as building
from xlm.training.learner import Learner, parameter_sets_differ

TRANSLATION = Translation(pairs=["en-hi"], tokens=96, length=12)


@dataclass(frozen=True, kw_only=True)
class PerLanguageLM(MaskedLM):
    """MLM with a bias of its own for each language."""

    def head(self, config: ModelConfig) -> nn.Module:
        return nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(2))

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        loss = MaskedLM.loss(self, model, None, batch)
        assert isinstance(head, nn.ParameterList)
        return Loss(loss.total + head[int(batch.langs[0, 0])], loss.count)


def probe(objectives: dict[str, Objective], decoder: int = 0) -> tuple[bool, set[str], Learner]:
    """The answer, the parameters that were frozen, and the learner."""
    run = tiny.recipe("", objectives=objectives, model=tiny.model(num_decoder_layers=decoder))
    made = tiny.corpora(20)
    learner = building.build_learner(run, made)
    mixture = building.build_mixture(run, building.training_streams(run, made))
    before = torch.get_rng_state()
    differ = parameter_sets_differ(learner, mixture)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in learner.parameters())
    frozen = {name for name, p in learner.named_parameters() if not p.requires_grad}
    return differ, frozen, learner


def test_one_objective_uses_all_that_is_not_frozen() -> None:
    assert probe({"mlm": tiny.MLM})[:2] == (False, set())
    differ, frozen, _ = probe({"mt": TRANSLATION}, decoder=1)
    assert not differ
    assert frozen == {"model.encoder.output_bias"}  # the encoder's words are embedded
    differ, frozen, learner = probe({"mlm": tiny.MLM}, decoder=1)
    assert not differ
    assert frozen == {n for n, _ in learner.named_parameters() if n.startswith("model.decoder.")}


def test_objectives_on_the_same_parameters() -> None:
    assert probe({"mlm": tiny.MLM, "tlm": tiny.TLM})[:2] == (False, set())


def test_objectives_that_differ() -> None:
    assert probe({"mlm": tiny.MLM, "nli": tiny.NLI})[:2] == (True, set())
    assert probe({"mlm": tiny.MLM, "mt": TRANSLATION}, decoder=1)[:2] == (True, set())


def test_languages_with_parameters_of_their_own_are_not_frozen() -> None:
    """They are used by one stream each, so that the sets differ within one objective."""
    objective = PerLanguageLM(languages=["en", "hi"], rows=8, length=12)
    assert probe({"own": objective})[:2] == (True, set())


@dataclass(frozen=True, kw_only=True)
class Alike(MaskedLM):
    """A class of another package that says of its streams what those here say."""

    streams_differ = False


@pytest.mark.parametrize(("made", "expected"), [(MaskedLM, 1), (PerLanguageLM, 2), (Alike, 1)])
def test_streams_that_are_alike_are_tried_once(
    made: type[MaskedLM], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    plain = Learner.forward

    def forward(learner: Learner, name: str, batch: Batch) -> Loss:
        tried.append(name)
        return plain(learner, name, batch)

    monkeypatch.setattr(Learner, "forward", forward)
    probe({"own": made(languages=["en", "hi"], rows=8, length=12)})
    assert len(tried) == expected


def test_names_of_objectives() -> None:
    run = tiny.recipe("", objectives={"bad name": tiny.MLM})
    with pytest.raises(ConfigError, match="objective name 'bad name': .* must consist of letters"):
        building.build_learner(run, tiny.corpora(20))
    _, _, learner = probe({"nli": tiny.NLI, "ranked": tiny.RANKED})
    assert {name.split(".")[1] for name, _ in learner.named_parameters() if "heads." in name} == {
        "nli",
        "ranked",
    }
