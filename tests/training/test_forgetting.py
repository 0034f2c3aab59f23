"""Words that start anew every so many updates."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.model.language_tables import roles_of
from xlm.pretrain import pretrain
from xlm.run import build as building
from xlm.run.config import Run
from xlm.training.distributed.processes import Parallel
from xlm.training.forgetting import build_forgetting
from xlm.training.loop import train
from xlm.training.optimizers.config import Optimizer

SYMBOLS = sorted(set(roles_of(tiny.Words())))
OTHERS = [at for at in range(tiny.VOCAB_SIZE) if at not in SYMBOLS]


def trainer_of(run: Run):
    made = tiny.corpora(40)
    mixture = building.build_mixture(run, building.training_streams(run, made))
    return building.build_trainer(run, made, mixture, Parallel(torch.device("cpu")))


def recipe(folder="", **changes):
    return tiny.recipe(folder, objectives={"mlm": tiny.MLM}, forget_every=3, **changes)


@pytest.mark.parametrize("kind", ["adamw", "xlm-adam", "lamb", "muon"])
def test_words_and_their_moments_start_anew_and_all_else_goes_on(kind):
    trainer = trainer_of(recipe(steps=4, optimizer=Optimizer(kind=kind)))
    words = trainer.learner.model.encoder.words.weight
    seen = {}

    def look(step, optimizer):
        before = {n: p.detach().clone() for n, p in trainer.learner.named_parameters()}
        others = {id(p): dict(state) for p, state in optimizer.state.items() if p is not words}
        forgetting(step, optimizer)
        seen[step] = before, words.detach().clone()
        changed = [
            name
            for name, own in trainer.learner.named_parameters()
            if not torch.equal(own, before[name])
        ]
        assert changed == (["model.encoder.words.weight"] if step == 3 else [])
        assert (words in optimizer.state) == (step not in (0, 3))
        after = {id(p): dict(state) for p, state in optimizer.state.items() if p is not words}
        assert after == others and (others or step == 0)

    forgetting = trainer.forgetting
    assert forgetting is not None
    trainer.forgetting = look
    train(trainer)
    assert sorted(seen) == [0, 1, 2, 3]
    before, after = seen[3]
    trained = before["model.encoder.words.weight"]
    assert torch.equal(after[SYMBOLS], trained[SYMBOLS])
    assert not torch.isclose(after[OTHERS], trained[OTHERS]).all(1).any()
    # 16 wide: a deviation of 1/4, of 880 drawn values
    assert float(after[OTHERS].std()) == pytest.approx(0.25, rel=0.1)


def test_a_run_that_is_resumed_forgets_the_same(tmp_path):
    made = tiny.corpora(40)
    pretrain(recipe(tmp_path / "whole", steps=7), made)
    for steps in (3, 5, 7):
        pretrain(recipe(tmp_path / "parts", steps=steps), made)
    whole, parts = (
        load_file(sorted((tmp_path / name / "checkpoints").glob("*/model.safetensors"))[-1])
        for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    again = tiny.recipe(tmp_path / "never", objectives={"mlm": tiny.MLM}, steps=7)
    pretrain(again, made)
    never = load_file(sorted((tmp_path / "never" / "checkpoints").glob("*/model.safetensors"))[-1])
    assert not torch.equal(whole["model.encoder.words.weight"], never["model.encoder.words.weight"])


def test_what_cannot_be_forgotten_is_refused():
    with pytest.raises(ConfigError, match="forget_every must be at least 0"):
        tiny.recipe("", forget_every=-1)
    with pytest.raises(ConfigError, match="averaging words that are reset"):
        recipe(average=0.9)
    with pytest.raises(ConfigError, match="all words are frozen"):
        trainer_of(recipe(frozen=["words"]))
    decoder = tiny.recipe("", objectives={"mlm": tiny.MLM}, model=tiny.model(num_decoder_layers=1))
    model = building.build_learner(decoder, tiny.corpora(10)).model
    with pytest.raises(ConfigError, match="the model has a decoder"):
        build_forgetting(model, decoder.shape, SYMBOLS, 3, 0)
