"""Runs over several vocabularies: groups of one table, frozen parts, resuming, what is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import pretrain
from xlm.run.build import build_mixture, training_streams
from xlm.run.config import Initialization, Run
from xlm.run.language_tables import LanguageTable
from xlm.training.optimizers.config import Optimizer

BOTH = MaskedLM(languages=["en", "ne"], rows=4, length=12)
NEW = MaskedLM(languages=["ne"], rows=4, length=12)


@pytest.fixture(autouse=True)
def tokenizers_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``tiny``'s tokenizers write is read back by the folder's name."""

    def load_tokenizer(folder: Path) -> tiny.Words:
        return tiny.Others() if "tables" in str(folder) else tiny.Words()

    for module in ("interchange.load", "model.pretrained", "model.language_modules", "run.text"):
        monkeypatch.setattr(f"xlm.{module}.load_tokenizer", load_tokenizer)
    monkeypatch.setattr(
        tiny.Words, "save",
        lambda self, folder: (folder.mkdir(parents=True, exist_ok=True), (folder / "w").touch()),
    )  # fmt: skip


def recipe(folder: Path, **changes: Any) -> Run:
    settings = {
        "tables": {"ne": LanguageTable(data="in memory")}, "objectives": {"mlm": BOTH},
        "optimizer": Optimizer(weight_decay=0.1, max_grad_norm=1.0), "steps": 4,
    }  # fmt: skip
    return tiny.recipe(folder, **{**settings, **changes})


def test_a_group_is_of_one_table_and_shares_stay(tmp_path: Path) -> None:
    made, run = tiny.two_tables(), recipe(tmp_path, group_size=4)
    mixture = build_mixture(run, training_streams(run, made))
    shares = mixture.probabilities("mlm")
    counts = np.zeros(2)
    names = [stream.name for stream in mixture.streams["mlm"]]
    for step in range(4000):
        (group,) = mixture.plan(step, {})
        drawn = [names.index(stream.name) for stream, _ in group.micro_batches]
        assert len(set(drawn)) == 1  # each language is a table
        counts[drawn[0]] += 1
    expected = 4000 * shares
    assert ((counts - expected) ** 2 / expected).sum() < 6.6  # chi-square, 1 degree, p = 0.01


def test_shares_stay_with_several_languages_in_one_table(tmp_path: Path) -> None:
    """Tables are drawn as often as their languages together, and these as often as they should."""
    both, new = tiny.corpora(40), tiny.two_tables()
    texts = {("train", name): both.text("train", name) for name in ("en", "hi")}
    made = Corpora(both.tokenizer, ["en", "hi"], texts=texts).with_tables(new.tables)
    three = MaskedLM(languages=["en", "hi", "ne"], rows=4, length=12)
    run = recipe(tmp_path, group_size=4, objectives={"mlm": three})
    mixture = build_mixture(run, training_streams(run, made))
    shares = mixture.probabilities("mlm")
    place = {stream.name: at for at, stream in enumerate(mixture.streams["mlm"])}
    groups, drawn = np.zeros(2), np.zeros(3)
    for step in range(3000):
        (group,) = mixture.plan(step, {})
        names = [stream.name for stream, _ in group.micro_batches]
        assert len({name == "ne" for name in names}) == 1
        groups[int(names[0] == "ne")] += 1
        for name in names:
            drawn[place[name]] += 1
    own = [place["en"], place["hi"]]
    of_tables = np.array([shares[own].sum(), shares[place["ne"]]])
    assert stats.chisquare(groups, 3000 * of_tables).pvalue > 0.001
    # given its table, the micro-batches of a group are drawn independently
    expected = drawn[own].sum() * shares[own] / shares[own].sum()
    assert stats.chisquare(drawn[own], expected).pvalue > 0.001


def test_a_mixture_of_one_table_draws_as_ever(tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path)
    mixture = build_mixture(run, training_streams(run, tiny.corpora(40)))
    from xlm.rng import Random

    for step in range(50):
        group = mixture.plan(step, {})[0]
        drawn = Random(run.seed, "plan", step, "mlm").choice(mixture.probabilities("mlm"), 4)
        assert [s.name for s, _ in group.micro_batches] == [["en", "hi"][at] for at in drawn]


def test_steps_2_and_3_leave_what_is_frozen_bit_for_bit(tmp_path: Path) -> None:
    """Weight decay is on: a row that is masked out of a trained parameter would move."""
    made = tiny.two_tables()
    english = Corpora(
        made.tokenizer, ["en"], texts={(s, "en"): made.text(s, "en") for s in ("train", "valid")}
    )
    only_english = MaskedLM(languages=["en"], rows=4, length=12)
    pretrain(recipe(tmp_path / "en", tables={}, objectives={"mlm": only_english}), english)
    before = load(tmp_path / "en")

    step_2 = recipe(
        tmp_path / "ne", objectives={"mlm": NEW}, model=None,
        frozen=["body", "words", "positions", "symbols"],
        initialize=Initialization(encoder=str(tmp_path / "en")),
    )  # fmt: skip
    result = pretrain(step_2, made)
    after = load(tmp_path / "ne")
    old = before.transformer.state_dict()
    for name, tensor in old.items():
        assert torch.equal(after.transformer.state_dict()[name], tensor), name
    table = after.transformer.encoder.table("ne")
    rows = table.words.weight[[1, 2, 3, 5]]
    assert torch.equal(rows, before.transformer.encoder.words.weight[[1, 2, 3, 5]])
    trained = {name for name, p in result.learner.named_parameters() if p.requires_grad}
    assert trained == {f"model.encoder.tables.ne.{n}" for n in ("words.weight", "output_bias")}
    assert set(result.learner.model.encoder.tables) == {"ne"}

    step_3 = recipe(
        tmp_path / "tuned", objectives={"mlm": only_english}, model=None,
        tables={"ne": LanguageTable()}, frozen=["words", "positions"],
        initialize=Initialization(encoder=str(tmp_path / "ne" / "model")),
    )  # fmt: skip
    pretrain(step_3, made)
    tuned = load(tmp_path / "tuned")
    own = [n for n in range(tiny.VOCAB_SIZE) if n not in (1, 2, 3, 5)]
    now, then = tuned.transformer.encoder, after.transformer.encoder
    assert torch.equal(now.words.weight[own], then.words.weight[own])
    assert torch.equal(now.positions.weight, then.positions.weight)  # type: ignore[union-attr]
    assert not torch.equal(now.words.weight[1], then.words.weight[1])  # symbols moved
    assert torch.equal(now.table("ne").words.weight[1], now.words.weight[1])  # in both tables
    assert torch.equal(now.table("ne").words.weight[own], then.table("ne").words.weight[own])
    assert not torch.equal(now.state_dict()["layers.0.attention.output.weight"],
                           then.state_dict()["layers.0.attention.output.weight"])  # fmt: skip
    assert after.bodies[-1] in tuned.bodies and tuned.bodies[-1] not in after.bodies


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_resumed_bit_for_bit(tmp_path: Path, optimizer: Any) -> None:
    changes: dict[str, Any] = {
        "steps": 6, "save_every": 2, "average": 0.9, "keep_last": 9,
        "optimizer": Optimizer(kind=optimizer, weight_decay=0.1),
        "tables": {"ne": LanguageTable(data="in memory", positions="copy")},
    }  # fmt: skip
    made = tiny.two_tables()
    whole = pretrain(recipe(tmp_path / "whole", **changes), made)
    pretrain(recipe(tmp_path / "cut", **{**changes, "steps": 4}), made)
    resumed = pretrain(recipe(tmp_path / "cut", **changes), made)
    assert resumed.state.step == 6
    for name, tensor in whole.learner.state_dict().items():
        assert torch.equal(resumed.learner.state_dict()[name], tensor), name
    one, other = load(tmp_path / "whole"), load(tmp_path / "cut")
    for name, tensor in one.transformer.state_dict().items():
        assert torch.equal(other.transformer.state_dict()[name], tensor), name


def test_users_objectives_train_on_two_tables(tmp_path: Path) -> None:
    mine = dataclasses.replace(tiny.RANKED, languages=["en", "ne"])
    result = pretrain(recipe(tmp_path, objectives={"mine": mine}, steps=2), tiny.two_tables())
    assert result.state.step == 2


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frozen names hi"):
        recipe(tmp_path, frozen=["hi"])
    with pytest.raises(ConfigError, match="named after its language"):
        recipe(tmp_path, tables={"body": LanguageTable(data="x")})
    with pytest.raises(ConfigError, match="decoder cannot have further tables"):
        pretrain(recipe(tmp_path / "a", model=tiny.model(num_decoder_layers=1)), tiny.two_tables())
    with pytest.raises(ConfigError, match="model.positions is rotary"):
        rotary = tiny.model(positions="rotary")
        pretrain(recipe(tmp_path / "b", model=rotary, frozen=["positions"]), tiny.two_tables())
    tlm = MaskedLM(pairs=["en-ne"], tokens=200, length=20)
    with pytest.raises(ConfigError, match="en and ne have separate vocabularies"):
        pretrain(recipe(tmp_path / "c", objectives={"tlm": tlm}), tiny.two_tables())
    with pytest.raises(ConfigError, match="data is null"):
        recipe(tmp_path, data=None)
