"""Adding a language: what stays, what is left, what travels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.adding.made import NEW, WORDS, answers, settings, tuned
from xlm.add_language import add_language, render
from xlm.analysis.convergence import Signs, States, to_tensors
from xlm.check import Check, check
from xlm.describe import Describe, describe
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.finetune import finetune
from xlm.interchange.load import load
from xlm.model.language_modules import KNOWN
from xlm.plug import Plug, plug
from xlm.predict import load_task
from xlm.preparation.config import Vocabulary
from xlm.training.schedule import Schedule


def test_the_model_knows_the_new_language_beside_the_old(
    added: Path, pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = load(pretrained), load(added / "model")
    assert "the table of ne did not converge: not learnt" in caplog.text
    assert [*new.known_languages, *new.tables] == ["en", "hi", "ne"]
    for name, tensor in old.transformer.state_dict().items():
        assert torch.equal(new.transformer.state_dict()[name], tensor), name
    english = ["this is a new text", "a house"]
    assert torch.equal(answers(new, english, "hi"), answers(old, english, "hi"))
    assert new.reading("ne").tokenizer.pieces != new.tokenizer.pieces
    assert (
        new.reading("ne")
        .tokenizer.wrap(new.reading("ne").batch([NEW], "ne").tokens[0].numpy()[1:-1], None)
        .tokens[0]
        == 0
    )
    assert answers(new, [NEW], "ne").shape[-1] == 16
    table = new.transformer.encoder.table("ne")
    assert table.adapters is not None and table.positions is not None
    for language, message in ((None, "name the language"), ("sw", "does not know the language sw")):
        with pytest.raises(ConfigError, match=message):
            new.batch([NEW], language)
    with pytest.raises(ConfigError, match="these ids mean other pieces"):
        new.batch_rows([new.tokenizer.wrap(torch.tensor([9]).numpy())], "ne")
    with pytest.raises(ConfigError, match="separate vocabularies"):
        new.batch([NEW], "ne", ["a house"], "en")


def test_positions_that_no_row_of_training_reached_are_named(added: Path) -> None:
    report = json.loads((added / "report.json").read_text(encoding="utf-8"))
    assert "positions 16 to 31 were reached by no row of training" in render(report, added)
    model = load(added / "model").transformer.encoder
    own, old = model.table("ne").positions, model.positions
    assert own is not None and old is not None
    moved = ((own.weight - old.weight).norm(dim=1) / old.weight.norm(dim=1)).detach()
    assert float(moved[16:].max()) < 0.001 < 0.01 < float(moved[:16].min())


def test_an_existing_sentencepiece_model_gets_the_layout_of_rows_of_the_model(
    added: Path, pretrained: Path, text: Path, tmp_path: Path
) -> None:
    existing = Vocabulary(model=str(added / "data/tokenizer/sentencepiece.model"))
    config = settings(pretrained, tmp_path / "again", text, vocabulary=existing, guard=None)
    add_language(config)
    first, again = (load(folder / "model").tables["ne"] for folder in (added, tmp_path / "again"))
    assert again.tokenizer.digest == first.tokenizer.digest


def test_a_module_travels_to_what_descends_from_its_body(
    added: Path, pretrained: Path, tmp_path: Path
) -> None:
    old = load(pretrained)
    plugged = plug(
        Plug(model=str(pretrained), module=str(added / "module"), folder=str(tmp_path / "p"))
    )
    new, again = load(added / "model"), load(tmp_path / "p")
    for one in (plugged, again):
        assert torch.equal(answers(one, [NEW], "ne"), answers(new, [NEW], "ne"))
    assert set(again.without("ne").transformer.state_dict()) == set(old.transformer.state_dict())
    module = added / "model" / "tables" / "ne"
    assert torch.equal(answers(old.plugged(module), [NEW], "ne"), answers(new, [NEW], "ne"))

    with torch.no_grad():
        other = load(pretrained)
        other.transformer.encoder.layers[0].attention.output.weight.add_(0.01)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="was learned on the body .* has "):
        other.plugged(module)
    other.plugged(module, unrelated=True)
    tuned = replace(other, extra={"bodies": [old.bodies[-1]]})
    assert "ne" in tuned.plugged(module).tables
    with pytest.raises(ConfigError, match="already has the language ne"):
        new.plugged(module)
    with pytest.raises(ConfigError, match="has adapters"):
        new.only("ne")


@pytest.mark.parametrize("damage", ["cut", "flipped", "renamed"])
def test_a_damaged_module_is_refused(
    added: Path, pretrained: Path, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(added / "module", tmp_path / "module")
    path = tmp_path / "module" / "table.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-4])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        described = tmp_path / "module" / "table.json"
        described.write_text(described.read_text().replace('"dim": 16', '"dim": 8'))
    with pytest.raises(CheckpointError):
        load(pretrained).plugged(tmp_path / "module")


def test_a_change_on_purpose_is_accepted(added: Path, tmp_path: Path) -> None:
    """Of a module alone, and of one inside a model, whose sums and the model's are renewed."""
    for name, inside in (("module", "."), ("model", "tables/ne")):
        folder = tmp_path / name
        shutil.copytree(added / name, folder)
        assert [one.is_sound for one in check(Check(path=str(folder)))] == [True]
        described = folder / inside / "table.json"
        content = json.loads(described.read_text())
        described.write_text(json.dumps({**content, "license": "ours"}))
        (found,) = check(Check(path=str(folder)))
        assert not found.is_sound and "xlm check FOLDER --accept true" in found.line
        check(Check(path=str(folder), accept=True))
        assert [one.is_sound for one in check(Check(path=str(folder)))] == [True]
    assert load(tmp_path / "model").tables["ne"].description["license"] == "ours"


def test_modules_are_described_and_told_from_models(
    added: Path, pretrained: Path, text: Path, tmp_path: Path
) -> None:
    lines = describe(Describe(path=str(added / "module")))
    assert lines[0].startswith("ne: a vocabulary of its own of 284, positions of its own, adapters")
    assert lines[1].startswith("ne did not converge: not learnt")
    assert load(pretrained).bodies[-1][:12] in lines[-1]
    told = describe(Describe(path=str(added / "model")))
    assert "languages: en, hi" in told and lines[0] in told
    with pytest.raises(ConfigError, match="module is a language module: put it into a model"):
        load(added / "module")
    with pytest.raises(CheckpointError, match="holds no table.json: expected a language module"):
        load(pretrained).plugged(pretrained)
    with pytest.raises(ConfigError, match="was begun for ne, not for sw: give another folder"):
        add_language(settings(pretrained, added, text, language="sw"))


def test_a_model_that_has_signs_needs_no_old_text(
    pretrained: Path, text: Path, tmp_path: Path
) -> None:
    model = load(pretrained)
    states = States(np.zeros((3, 16)), np.stack([np.eye(16)] * 3))
    signs = to_tensors(Signs(2.0, 1.0, 1.5, states))
    replace(model, signs=signs).save_pretrained(tmp_path / "model")
    report = add_language(settings(tmp_path / "model", tmp_path / "ne", text, steps=1))
    assert report["likeness_measured"] and report["old"]["gain"] == 1.5
    assert set(load(tmp_path / "ne" / "model").signs) == set(signs)  # for the next language


def test_mapped_vectors_that_are_not_trained(pretrained: Path, text: Path, tmp_path: Path) -> None:
    """CLWE's step 2: no update moves what the map gives."""
    still = Schedule(kind="constant", peak_lr=0.0, warmup_steps=0)
    config = settings(
        pretrained, tmp_path, text, start="mapped", steps=1, schedule=still, guard=None
    )
    report = add_language(config)
    rows = report["tries"][0]["start"]
    assert rows["mapped"] > 5 and sum(rows.values()) == 284
    model = load(tmp_path / "model")
    new, old = model.transformer.encoder.table("ne").words.weight, load(pretrained).transformer
    there = old.encoder.words.weight
    plain = [at for at in range(284) if at not in model.tokenizer.special_ids]
    middle = there[plain].mean(0)
    lengths = (new - middle).norm(dim=1)
    expected = (there[plain] - middle).norm(dim=1).mean()
    same = torch.isclose(lengths, expected, rtol=1e-4)
    assert int(same.sum()) >= rows["mapped"]
    assert torch.equal(new[0], there[0])


def test_refusals(pretrained: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="already has the language hi"):
        add_language(settings(pretrained, tmp_path / "a", text, language="hi"))
    with pytest.raises(ConfigError, match="start is aligned, which needs translations"):
        settings(pretrained, tmp_path / "a", text, start="aligned")
    with pytest.raises(ConfigError, match="expected a name such as ne"):
        settings(pretrained, tmp_path / "a", text, language="a/b")
    short = tmp_path / "short.txt"
    short.write_text("one line\n")
    with pytest.raises(DataError, match="but 200 would be held out"):
        add_language(settings(pretrained, tmp_path / "b", short))
    model = load(pretrained)
    tuned = replace(model, heads={"heads.x": torch.zeros(1)}, tasks="objectives: {}")
    tuned.save_pretrained(tmp_path / "tuned")
    with pytest.raises(ConfigError, match="was fine-tuned: add the language to the pretrained"):
        add_language(settings(tmp_path / "tuned", tmp_path / "c", text))
    assert KNOWN not in model.extra


def test_a_task_learnt_in_english_reads_the_new_language(
    added: Path, pretrained: Path, topic: Path, tmp_path: Path
) -> None:
    """Steps 3 and 4: words stay, symbols and body move; the module is plugged in afterwards."""
    rows, new_rows, model = (topic.parents[1] / "rows.tsv", topic.parents[1] / "new.tsv", topic)
    before, after = load(pretrained), load(model)
    here, there = after.transformer.encoder, before.transformer.encoder
    symbols = sorted({0, 1, 2, 3, 4})
    others = [at for at in range(284) if at not in symbols]
    assert torch.equal(here.words.weight[others], there.words.weight[others])
    assert torch.equal(here.positions.weight, there.positions.weight)  # type: ignore[union-attr]
    assert not torch.equal(here.words.weight[0], there.words.weight[0])
    assert before.bodies[-1] in after.bodies

    plug(Plug(model=str(model), module=str(added / "module"), folder=str(tmp_path / "both")))
    alone, both = load_task(model), load_task(tmp_path / "both")
    english = ["this is a new house", "a small house"]
    assert both.scores(english, "en") == alone.scores(english, "en")
    assert set(both.predict([NEW, WORDS[0]], "ne")) <= {"a", "b"}
    assert both.scores([NEW], "ne") != both.scores([NEW], "en")
    with pytest.raises(ConfigError, match="does not know the language sw"):
        both.predict([NEW], "sw")

    report = finetune(
        tuned(added / "model", tmp_path / "with", rows, en=str(rows), ne=str(new_rows))
    )
    assert set(report.streams) == {"topic/en", "topic/ne"}
    grown = load(tmp_path / "with" / "seed-0")
    assert [*grown.tables] == ["ne"] and grown.heads
    table, old = grown.transformer.encoder.table("ne"), load(added / "model").transformer
    text = [at for at in range(284) if at not in table.roles]
    assert torch.equal(table.words.weight[text], old.encoder.table("ne").words.weight[text])
    assert torch.equal(table.words.weight[0], grown.transformer.encoder.words.weight[0])
