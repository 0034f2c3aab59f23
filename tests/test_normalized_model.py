"""A model whose text was normalized by language reads every later text in the same way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import xlm
from tests.run.test_shares import run_of
from xlm import sample
from xlm.convert import Export, export_model
from xlm.errors import ConfigError
from xlm.model.embed import embed
from xlm.model.fill import fill
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import Scoring, score
from xlm.prepare import Prepare, Rules, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.tasks.answering import Answering
from xlm.tasks.task import encode

RULES = {"en": Rules(lowercase=True, strip_accents=True), "ne": Rules(indic="canonical")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    """A model of the sample in lower case."""
    folder = tmp_path_factory.mktemp("normalized")
    prepare(
        Prepare(
            folder=str(folder / "data"),
            text=Texts(train={"en": "sample:train.en.txt", "ne": "sample:train.ne.txt"}),
            vocabulary=Vocabulary(kind="unigram", size=800),
            normalization=RULES,
        )
    )
    pretrain(run_of(folder / "data", folder / "run", steps=2))
    return xlm.load(folder / "run")


def test_the_rules_come_with_the_model(model: PretrainedModel, tmp_path: Path) -> None:
    assert model.tokenizer.rules == RULES
    model.save_pretrained(tmp_path / "model")
    assert xlm.load(tmp_path / "model").tokenizer.rules == RULES
    line = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()[0]
    assert line != line.lower()
    assert model.tokenizer.decode(model.tokenizer.encode(line.lower())) == line.lower()


def test_batches(model: PretrainedModel) -> None:
    one, two = (model.batch([text], "en") for text in ("The Cat, Éva", "the cat, eva"))
    assert torch.equal(one.tokens, two.tokens)
    nepali, kept = (model.batch([text], "ne") for text in ("क\u200dख", "कख"))
    assert torch.equal(nepali.tokens, kept.tokens)
    pair = model.batch(["The Cat"], "en", ["क\u200dख"], "ne")
    assert torch.equal(pair.tokens, model.batch(["the cat"], "en", ["कख"], "ne").tokens)
    assert not torch.equal(
        model.batch(["The Cat"], "ne").tokens, model.batch(["The Cat"], "en").tokens
    )


def test_filled_masks(model: PretrainedModel) -> None:
    one, two = (
        fill(model, [text], "en") for text in ("The <mask> Sat ___.", "the <mask> sat ___.")
    )
    assert one == two and len(one[0]) == 2


def test_vectors_and_scores(model: PretrainedModel) -> None:
    one, two = (embed(model, [text], "en").vectors for text in ("The Éva", "the eva"))
    assert (one == two).all()
    other = embed(model, ["The Éva"], "ne").vectors
    assert (one != other).any()
    scores = [score(model, [text], Scoring(language="en")) for text in ("The Éva", "the eva")]
    assert scores[0] == scores[1]


def test_tasks_read_in_the_language_of_their_text(model: PretrainedModel) -> None:
    tokenizer = model.tokenizer
    english, nepali = tokenizer.in_language("en"), tokenizer.in_language("ne")
    assert encode(english, "The Cat").tolist() == tokenizer.encode("the cat")
    assert encode(nepali, "The Cat").tolist() == tokenizer.encode("The Cat")
    assert english.digest == tokenizer.digest and tokenizer.rules == RULES
    with pytest.raises(ConfigError, match=r"normalized by language \(en, ne\): name the language"):
        encode(tokenizer, "The Cat")


def test_answers_cannot_be_traced(model: PretrainedModel) -> None:
    task = Answering.__new__(Answering)
    with pytest.raises(ConfigError, match="shifts the positions of answers: use a model without"):
        task.rows_of(None, 0, model.tokenizer)


def export(source: Path, folder: Path) -> Export:
    return Export(source=str(source), folder=str(folder), format="xlm", parity=False)


def test_an_export_says_that_the_rules_are_lost(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    done = export_model(
        Export(
            source=str(tmp_path / "model"), folder=str(tmp_path / "out"), format="xlm", parity=False
        )
    )
    assert any("rules of normalization by language" in line for line in done.lost)
    plain = dataclasses.replace(model)
    plain.tokenizer.rules = {}
    plain.save_pretrained(tmp_path / "plain")
    done = export_model(
        Export(
            source=str(tmp_path / "plain"),
            folder=str(tmp_path / "out2"),
            format="xlm",
            parity=False,
        )
    )
    assert not any("normalization" in line for line in done.lost)
