"""Languages that are added one after the other: the order does not matter, and old ones stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.adding.made import NEW, WORDS, answers, lines, settings
from xlm.add_language import add_language
from xlm.interchange.load import load
from xlm.model.language_modules import read_module
from xlm.model.pretrained import PretrainedModel

OLD = "the language is new and this text is small as a house".split()
OF_LANGUAGE = {"en": OLD, "hi": OLD, "ne": WORDS, "sw": WORDS[::-1], "yo": WORDS[1::2]}
ORDERS = {"a": ("ne", "sw", "yo"), "b": ("yo", "ne", "sw")}


def held_out(language: str) -> list[str]:
    """Return 1,000 lines of a language, four words each."""
    return [" ".join(line.split()[:4]) for line in lines(1000, OF_LANGUAGE[language])]


@pytest.fixture(scope="module")
def folder(pretrained: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three languages added in either order, a folder for each step."""
    folder = tmp_path_factory.mktemp("several")
    for language in OF_LANGUAGE:
        rows = "".join(f"{line}\n" for line in held_out(language))
        (folder / f"{language}.txt").write_text(rows, encoding="utf-8")
    for order, languages in ORDERS.items():
        model, old = pretrained, ["en", "hi"]
        for number, language in enumerate(languages):
            given = {name: str(folder / f"{name}.txt") for name in old}
            place = folder / f"{order}{number}"
            config = settings(
                model, place, text, language=language, old_text=given, steps=1, evaluate_every=1
            )
            add_language(config)
            model, old = place / "model", [*old, language]
    return folder


def equal(one: PretrainedModel, other: PretrainedModel, language: str) -> bool:
    """Return whether states and scores of 1,000 rows are equal, bit for bit."""
    same = True
    for first in range(0, 1000, 250):
        rows = held_out(language)[first : first + 250]
        states = [answers(model, rows, language) for model in (one, other)]
        cells = torch.arange(0, states[0].shape[0] * states[0].shape[1], 5)
        with torch.no_grad():
            scores = [
                model.reading(language).transformer.predict(own, cells)
                for model, own in zip((one, other), states, strict=True)
            ]
        same = same and torch.equal(*states) and torch.equal(*scores)
    return same


@pytest.mark.parametrize("order", ORDERS)
def test_what_was_there_stays_after_one_two_and_three(
    folder: Path, pretrained: Path, order: str
) -> None:
    before, old = load(pretrained), ["en", "hi"]
    for number, language in enumerate(ORDERS[order]):
        after = load(folder / f"{order}{number}" / "model")
        tensors = after.transformer.state_dict()
        for name, tensor in before.transformer.state_dict().items():
            assert torch.equal(tensors[name], tensor), name
        if order == "a":  # the report says so for both
            assert all(equal(before, after, name) for name in old)
        report = json.loads((folder / f"{order}{number}" / "report.json").read_text())
        expected = {"rows": 1000, "of": "held-out text"}
        assert report["proof"]["rows"] == dict.fromkeys(old, expected)
        for name in old:
            own = report["languages"][name]
            assert own["before"] == own["after"] and own["before"]["bits_per_byte"] > 0
        assert report["languages"][language]["after"]["nats"] == report["tries"][0]["nats"]
        before, old = after, [*old, language]


def test_the_order_changes_neither_modules_nor_models(folder: Path) -> None:
    for language in ("ne", "sw", "yo"):
        places = [folder / f"{n}{own.index(language)}" / "module" for n, own in ORDERS.items()]
        one, other = map(read_module, places)
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
        assert one.tokenizer.digest == other.tokenizer.digest
    a, b = (load(folder / f"{order}2" / "model") for order in ORDERS)
    for name, tensor in a.transformer.state_dict().items():
        assert torch.equal(b.transformer.state_dict()[name], tensor), name


def test_languages_are_taken_out_again(folder: Path, pretrained: Path, tmp_path: Path) -> None:
    three, one = load(folder / "a2" / "model"), load(folder / "a0" / "model")
    again = three.without("yo").without("sw")
    assert list(again.tables) == ["ne"] and equal(one, again, "ne")
    assert equal(load(pretrained), three.without_tables(), "en")
    plain = three.only("ne")
    assert not plain.tables and plain.tokenizer.digest == three.tables["ne"].tokenizer.digest
    torch.testing.assert_close(answers(plain, [NEW], "ne"), answers(three, [NEW], "ne"))
    plain.save_pretrained(tmp_path / "plain")
    assert torch.equal(answers(load(tmp_path / "plain"), [NEW], "ne"), answers(plain, [NEW], "ne"))


def test_the_next_language_is_compared_with_what_the_first_was(folder: Path) -> None:
    """The signs of English are kept with the model, whose run is not at hand any more."""
    first, second = (load(folder / f"a{number}" / "model") for number in (0, 1))
    assert first.signs and first.signs.keys() == second.signs.keys()
    assert all(torch.equal(first.signs[name], second.signs[name]) for name in first.signs)
