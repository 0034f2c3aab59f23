"""Adding a language: what stays, what is left, what travels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from xlm.add_language import AddLanguage, NewText, add_language
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.finetune import Finetune, finetune
from xlm.interchange.load import load
from xlm.model.adapters import AdapterConfig
from xlm.model.config import ModelConfig
from xlm.model.language_modules import KNOWN
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.plug import Plug, plug
from xlm.predict import load_task
from xlm.preparation.config import Vocabulary
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.task import Files
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.training.schedule import Schedule

NEW = "नेपाली भाषा नयाँ छ र यो पाठ सानो छ"
WORDS = NEW.split()


def lines(num: int, words: list[str]) -> list[str]:
    return [
        " ".join(words[(at * 7 + place * (at % 5 + 1)) % len(words)] for place in range(6))
        for at in range(num)
    ]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of en and hi that was never trained, with language vectors and a begin symbol."""
    folder = tmp_path_factory.mktemp("model") / "model"
    text = lines(60, "the language is new and this text is small as a house".split())
    tokenizer = learn_sentencepiece(text, 284, layout={"begins": 1, "num_separators": 2})
    torch.manual_seed(0)
    config = ModelConfig(
        dim=16, num_layers=2, num_heads=2, max_positions=32, dropout=0.0, attention_dropout=0.0
    )
    transformer = Transformer(
        config, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    PretrainedModel(transformer, tokenizer, {"en": 0, "hi": 1}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "ne.txt"
    path.write_text("".join(f"{line}\n" for line in lines(450, WORDS)), encoding="utf-8")
    return path


def settings(model: Path, folder: Path, text: Path, **changes: Any) -> AddLanguage:
    given: dict[str, Any] = {
        "model": str(model), "folder": str(folder), "language": "ne",
        "text": NewText(train=str(text)), "vocabulary": Vocabulary(size=284), "steps": 3,
        "rows": 4, "length": 16, "evaluate_every": 2, "workers": 1, "device": "cpu",
        "start": "copy", "schedule": Schedule(kind="constant", peak_lr=0.01, warmup_steps=0),
    }  # fmt: skip
    return AddLanguage(**{**given, **changes})


@pytest.fixture(scope="module")
def added(pretrained: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added") / "en-ne"
    config = settings(
        pretrained, folder, text, positions="copy", start="focus",
        adapters=AdapterConfig(size=4), old_text={"en": str(text)},
    )  # fmt: skip
    report = add_language(config)
    assert report["proof"]["unchanged"] and report["proof"]["rows"]["en"]["rows"] == 450
    assert report["tries"][0]["start_rule"] == "focus"
    assert report["likeness_measured"] and "unlikeness" in report["tries"][0]["signs"]
    assert not report["converged"]  # three updates teach nothing, and the guard says so
    assert any(line.startswith("not learnt") for line in report["tries"][0]["fired"])
    assert sum(report["tries"][0]["start"].values()) == 284
    assert json.loads((folder / "report.json").read_text()) == report
    before = (folder / "report.json").stat().st_mtime_ns
    assert add_language(config) == report  # nothing is done again
    assert (folder / "report.json").stat().st_mtime_ns == before
    return folder


def answers(model: PretrainedModel, texts: list[str], language: str) -> torch.Tensor:
    with torch.no_grad():
        return model.encode(model.batch(texts, language))


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


def test_two_languages_in_either_order_and_a_plain_model(
    pretrained: Path, text: Path, tmp_path: Path
) -> None:
    for first, second, name in (("ne", "sw", "a"), ("sw", "ne", "b")):
        one, two = tmp_path / f"{name}1", tmp_path / f"{name}2"
        add_language(settings(pretrained, one, text, language=first))
        report = add_language(settings(one / "model", two, text, language=second))
        assert report["proof"]["unchanged"] and set(report["proof"]["rows"]) == {"en", "hi", first}
    a, b = load(tmp_path / "a2" / "model"), load(tmp_path / "b2" / "model")
    for name, tensor in a.transformer.state_dict().items():
        assert torch.equal(b.transformer.state_dict()[name], tensor), name
    plain = a.only("ne")
    assert not plain.tables and plain.tokenizer.digest == a.tables["ne"].tokenizer.digest
    torch.testing.assert_close(answers(plain, [NEW], "ne"), answers(a, [NEW], "ne"))
    plain.save_pretrained(tmp_path / "plain")
    assert torch.equal(answers(load(tmp_path / "plain"), [NEW], "ne"), answers(plain, [NEW], "ne"))


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


def tuned(model: Path, folder: Path, rows: Path, **tested: str) -> Finetune:
    files = Files(train={"en": str(rows)}, valid={"en": str(rows)}, test=tested)
    task = Classification(
        files=files, labels=["a", "b"], rows=4, length=16, readout=Readout(dropout=0.0)
    )
    return Finetune(
        model=str(model), folder=str(folder), tasks={"topic": task}, epochs=1, device="cpu",
        frozen=["words", "positions"],
        schedule=Schedule(kind="constant", peak_lr=0.01, warmup_steps=0),
    )  # fmt: skip


def test_a_task_learnt_in_english_reads_the_new_language(
    added: Path, pretrained: Path, tmp_path: Path
) -> None:
    """Steps 3 and 4: words stay, symbols and body move; the module is plugged in afterwards."""
    rows, new_rows = tmp_path / "rows.tsv", tmp_path / "new.tsv"
    rows.write_text(
        "".join(
            f"{'ab'[at % 2]}\tthis is a {'new' if at % 2 else 'small'} house\n" for at in range(12)
        )
    )
    new_rows.write_text("".join(f"{kind}\t{NEW}\n" for kind in "abab"))
    finetune(tuned(pretrained, tmp_path / "plain", rows, en=str(rows)))
    model = tmp_path / "plain" / "seed-0" / "model"
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
