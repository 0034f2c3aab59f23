"""A language that the model's vocabulary covers: its adapters alone are learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.adding.made import lines, settings
from xlm.add_language import main
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.model.adapters import AdapterConfig
from xlm.objectives.masked import MaskedLM
from xlm.preparation.config import Vocabulary
from xlm.pretrain import pretrain
from xlm.run.config import Run
from xlm.run.language_tables import LanguageTable
from xlm.training.initialization import Initialization

ADAPTERS = AdapterConfig(size=4)
OF_WORDS = ("words.weight", "output_bias")


@pytest.fixture(scope="module")
def covered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("covered") / "text.txt"
    words = "a house is small and this text is new".split()
    path.write_text("".join(f"{line}\n" for line in lines(420, words)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared(pretrained: Path, covered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "en-ne"
    words = [
        str(pretrained), str(folder), "--language", "ne", "--text.train", str(covered),
        "--words", "shared", "--adapters.size", "4", "--steps", "3", "--rows", "4", "--length",
        "16", "--evaluate_every", "3", "--workers", "1", "--device", "cpu", "--guard", "null",
        "--schedule.peak_lr", "0.05",
    ]  # fmt: skip
    main(words)
    return folder


def test_its_words_are_the_models_and_its_module_has_none(shared: Path, pretrained: Path) -> None:
    old, new = load(pretrained), load(shared / "model")
    here, there = new.transformer.encoder, old.transformer.encoder
    table = here.table("ne")
    assert new.tables["ne"].tokenizer.digest == old.tokenizer.digest
    for name in OF_WORDS:
        assert torch.equal(table.state_dict()[name], there.state_dict()[name])
    stored = load_file(shared / "module" / "table.safetensors")
    assert stored.keys() == {n for n in table.state_dict() if n not in OF_WORDS}
    assert all(name.startswith(("adapters.", "language.")) for name in stored)
    with torch.no_grad():
        rows = old.batch(["a small house"], "hi"), new.batch(["a small house"], "ne")
        before, after = (own.encode(row) for own, row in zip((old, new), rows, strict=True))
    assert torch.equal(rows[0].tokens, rows[1].tokens)
    assert float((before - after).abs().max()) > 1e-3  # the adapters learned something


def test_it_reads_the_words_of_the_model_that_it_is_plugged_into(
    shared: Path, pretrained: Path
) -> None:
    other = load(pretrained)
    text = [at for at in range(other.tokenizer.vocab_size) if at not in other.tokenizer.special_ids]
    with torch.no_grad():
        other.transformer.encoder.words.weight[text] += 1.0
    plugged = other.plugged(shared / "module").transformer.encoder
    assert torch.equal(plugged.table("ne").words.weight, other.transformer.encoder.words.weight)


def test_words_that_were_trained_on_are_written(shared: Path, tmp_path: Path) -> None:
    model = load(shared / "model")
    with torch.no_grad():
        model.transformer.encoder.table("ne").words.weight[9] += 1.0
    model.save_pretrained(tmp_path)
    again = load(tmp_path).transformer.encoder
    for name, tensor in model.transformer.encoder.table("ne").state_dict().items():
        assert torch.equal(again.table("ne").state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "there are none: give adapters"),
        ({"adapters": ADAPTERS, "start": "focus"}, "no row is started, but start is focus"),
        ({"adapters": ADAPTERS, "vocabulary": Vocabulary(size=300)}, "but vocabulary is given"),
    ],
)  # fmt: skip
def test_settings_that_contradict_shared_words_are_refused(
    pretrained: Path, covered: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"vocabulary": Vocabulary(), "start": None, **changes}
    with pytest.raises(ConfigError, match=message):
        settings(pretrained, tmp_path, covered, words="shared", **given)


def test_a_run_shares_words_that_are_frozen_and_of_the_same_vocabulary(
    pretrained: Path, added: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "data": None, "folder": str(tmp_path / "run"), "steps": 1,
        "objectives": {"mlm": MaskedLM(languages=["ne"], rows=4, length=16)}, "device": "cpu",
        "initialize": Initialization(encoder=str(pretrained)),
        "tables": {
            "ne": LanguageTable(data=str(added / "data"), words="shared", adapters=ADAPTERS)
        },
    }  # fmt: skip
    with pytest.raises(ConfigError, match="let frozen name words"):
        Run(**given)
    with pytest.raises(ConfigError, match="prepared with another vocabulary than the model's"):
        pretrain(Run(**given, frozen=["words"]))
