"""The text of a new language: sources, layouts of rows, and a folder that was begun with others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.adding.made import settings
from xlm import sample
from xlm.add_language import NewText, add_language, main
from xlm.describe import Describe, describe
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.model.adapters import AdapterConfig
from xlm.model.config import ModelConfig
from xlm.objectives.next_sentence import NextSentence
from xlm.plug import Plug, plug
from xlm.preparation.config import Prepare, Texts, Vocabulary
from xlm.prepare import prepare
from xlm.pretrain import pretrain
from xlm.run.config import Run

SAMPLE = NewText(train="sample:train.ne.txt")


def test_the_corpus_that_ships_is_held_out_from_as_well(pretrained: Path, tmp_path: Path) -> None:
    old = {"en": "sample:valid.en.txt"}
    config = settings(
        pretrained, tmp_path / "ne", tmp_path, old_text=old, steps=1,
        vocabulary=Vocabulary(size=400),
    )  # fmt: skip
    report = add_language(replace(config, text=SAMPLE))
    held_out = (tmp_path / "ne" / "held-out.txt").read_text(encoding="utf-8").splitlines()
    assert held_out == sample.path("train.ne.txt").read_text(encoding="utf-8").splitlines()[-200:]
    num = len(sample.path("valid.en.txt").read_text(encoding="utf-8").splitlines())
    assert report["proof"]["rows"]["en"] == {"rows": num, "of": "held-out text"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": Vocabulary(size=290)}, "vocabulary.size 284, but vocabulary.size is 290"),
        ({"text": SAMPLE}, "text.train .*ne.txt, but text.train is sample:train.ne.txt"),
        ({"old_text": {}}, "begun with old_text .*, but old_text is {}"),
    ],
)
def test_a_folder_belongs_to_one_text_and_vocabulary(
    added: Path, pretrained: Path, text: Path, changes: dict[str, Any], message: str
) -> None:
    before = (added / "report.json").stat().st_mtime_ns
    given = {"old_text": {"en": str(text)}, **changes}
    config = settings(
        pretrained, added, text, positions="copy", start="focus", adapters=AdapterConfig(size=4)
    )
    with pytest.raises(ConfigError, match=message):
        add_language(replace(config, **given))
    assert (added / "report.json").stat().st_mtime_ns == before


def test_a_folder_of_a_version_with_fewer_settings_goes_on(
    added: Path, pretrained: Path, text: Path
) -> None:
    """What it did not have is what is the default now; another value is another setting."""
    path = added / "text.json"
    kept = path.read_text(encoding="utf-8")
    older = json.loads(kept)
    assert older["vocabulary"].pop("alpha") == Vocabulary().alpha
    given = replace(
        settings(pretrained, added, text, positions="copy", start="focus",
                 adapters=AdapterConfig(size=4)),
        old_text={"en": str(text)},
    )  # fmt: skip
    path.write_text(json.dumps(older), encoding="utf-8")
    try:
        add_language(given)
        with pytest.raises(ConfigError, match="begun with vocabulary.alpha 0.5, but .* is 0.9"):
            add_language(replace(given, vocabulary=replace(given.vocabulary, alpha=0.9)))
    finally:
        path.write_text(kept, encoding="utf-8")


def test_a_table_that_did_not_converge_is_named_where_it_is_put_in(
    added: Path, pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plug(Plug(model=str(pretrained), module=str(added / "module"), folder=str(tmp_path / "p")))
    assert f"{added / 'module'}: the table of ne did not converge: not learnt" in caplog.text


@pytest.fixture(scope="module")
def reading_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with BERT's layout of rows, trained to predict masks and the next sentence."""
    folder = tmp_path_factory.mktemp("documents")
    text = Texts(
        train={"en": "sample:documents.train.en.txt"}, valid={"en": "sample:documents.valid.en.txt"}
    )
    vocabulary = Vocabulary(kind="wordpiece", size=300)
    prepare(Prepare(folder=str(folder / "data"), text=text, vocabulary=vocabulary, workers=1))
    shape = ModelConfig(dim=16, num_layers=1, num_heads=2, max_positions=48, num_segments=2)
    objective = NextSentence(languages=["en"], rows=8, length=32)
    pretrain(
        Run(
            data=str(folder / "data"), folder=str(folder / "run"), objectives={"nsp": objective},
            model=shape, steps=2, group_size=1, evaluate_every=2, save_every=2, device="cpu",
        )
    )  # fmt: skip
    return folder / "run"


def test_wordpiece_and_documents_for_a_model_of_both(
    reading_documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures that such text does not have are left out of the lines that are printed."""
    folder = tmp_path / "ne"
    words = [
        str(reading_documents), str(folder), "--language", "ne",
        "--text.train", "sample:documents.train.ne.txt",
        "--text.valid", "sample:documents.valid.ne.txt",
        "--old_text.en", "sample:documents.valid.en.txt",
        "--vocabulary.kind", "wordpiece", "--vocabulary.size", "400", "--steps", "2", "--rows", "8",
        "--length", "32", "--group_size", "1", "--evaluate_every", "2", "--workers", "1",
        "--device", "cpu", "--start", "copy", "--guard.least_gain", "0",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as caught:  # two updates teach nothing
        main(words)
    assert caught.value.code == 1
    said = capsys.readouterr().out
    assert said.startswith("ne: ") and "en: " in said and "before and after" in said
    model = load(folder / "model")
    assert "nsp" in model.tasks and type(model.tables["ne"].tokenizer) is type(model.tokenizer)


def test_a_vocabulary_of_another_layout_of_rows_is_refused_before_it_is_learned(
    pretrained: Path, text: Path, tmp_path: Path
) -> None:
    config = settings(
        pretrained, tmp_path / "ne", text, vocabulary=Vocabulary(kind="wordpiece", size=300)
    )
    with pytest.raises(ConfigError, match="vocabulary.kind is wordpiece, which arranges rows as"):
        add_language(config)
    assert not (tmp_path / "ne").exists()


def test_a_language_that_shares_the_models_words_is_described_so(
    pretrained: Path, text: Path, tmp_path: Path
) -> None:
    config = settings(
        pretrained, tmp_path / "ne", text, words="shared", start=None, vocabulary=Vocabulary(),
        adapters=AdapterConfig(size=4), steps=1, guard=None,
    )  # fmt: skip
    add_language(config)
    assert describe(Describe(path=str(tmp_path / "ne" / "module")))[0].startswith(
        "ne: the model's words, adapters of 4 (houlsby)"
    )
