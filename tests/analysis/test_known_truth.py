"""Id-shifted English with tied tables and language vectors: both languages have the same states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.analysis.models import LANGUAGES, lines, tokenizer
from xlm.analysis.alignment import Gold, cosines, link, link_scores
from xlm.analysis.geometry import separability
from xlm.analysis.kernel_alignment import cka
from xlm.analysis.lexicon import Entries, word_translation
from xlm.analysis.probes import language_probe
from xlm.analysis.retrieval import retrieval
from xlm.analysis.states import num_layers, piece_states, row_states
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.reproduce.shifted import ShiftedTokenizer

SHIFTED = ShiftedTokenizer(tokenizer())
FIRST, SECOND = "en", "hi"
NUM = 24


def model(*, tied: bool) -> PretrainedModel:
    """Random weights; ``tied`` gives shifted pieces, and the second language, equal vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = Transformer(
            ModelConfig(dim=16, num_layers=2, num_heads=2, max_positions=256),
            vocab_size=SHIFTED.vocab_size, num_languages=3, pad_id=SHIFTED.pad_id,
        )  # fmt: skip
    languages = transformer.encoder.languages
    assert tied is False or languages is not None
    if tied:
        words, size = transformer.encoder.words.weight, SHIFTED.base.vocab_size
        with torch.no_grad():
            words[size:] = words[SHIFTED.first_ordinary : size].clone()
            languages.weight[LANGUAGES[SECOND]] = languages.weight[LANGUAGES[FIRST]]
    return PretrainedModel(transformer.eval(), SHIFTED, dict(LANGUAGES))


ROWS = [np.array(SHIFTED.encode(line), np.int64) for line in lines(FIRST, NUM)]
SIDES = ((ROWS, FIRST), ([SHIFTED.shifted(ids) for ids in ROWS], SECOND))


def by_layer(own: PretrainedModel) -> list[dict[str, float | None]]:
    """Return the figures of each layer whose values are known."""
    x, y = (
        row_states(own, [SHIFTED.wrap(ids) for ids in rows], language) for rows, language in SIDES
    )
    pieces = [piece_states(own, rows, language) for rows, language in SIDES]
    links = [frozenset((at, at) for at in range(len(ids))) for ids in ROWS]
    found = []
    for layer in range(num_layers(own)):
        retrieved = retrieval(x[layer], y[layer])
        made = [link(cosines(a[layer], b[layer])) for a, b in zip(*pieces, strict=True)]
        scatter = separability(np.stack([x[layer], y[layer]]))
        told = language_probe({FIRST: x[layer], SECOND: y[layer]}, center=False)
        found.append(
            {
                "raw @1": retrieved["raw @1"].value,
                "centered @1": retrieved["centered @1"].value,
                "alignment F1": link_scores(made, [Gold(own, own) for own in links])["F1"].value,
                "CKA": cka(x[layer], y[layer]),
                "sentence": scatter["sentence without language"].value,
                "language": scatter["language"].value,
                "language probe": told.figures["accuracy"].value,
            }
        )
    return found


def by_table(own: PretrainedModel) -> float | None:
    """Return P@1 of each ordinary piece and its shifted twin."""
    table = own.transformer.encoder.words.weight.detach().numpy()
    places = np.arange(SHIFTED.first_ordinary, SHIFTED.base.vocab_size)
    names = [str(at) for at in places]
    gold = [[at] for at in range(len(places))]
    x, y = table[places], table[places + SHIFTED.shift]
    return word_translation(Entries(names, x, names, y, gold, len(names)))["raw nearest P@1"].value


def test_equal_states_are_found_and_told_apart_by_nothing() -> None:
    pytest.importorskip("sklearn", reason="probes need scikit-learn")
    own = model(tied=True)
    for found in by_layer(own):
        expected = {**dict.fromkeys(found, 1.0), "language": 0.0, "language probe": 0.5}
        assert found == pytest.approx(expected, abs=1e-6)
    assert by_table(own) == 1


def test_other_vectors_of_pieces_and_languages_hide_it() -> None:
    pytest.importorskip("sklearn", reason="probes need scikit-learn")
    own = model(tied=False)
    for found in by_layer(own):
        assert found["language probe"] == 1 and found["language"] > 0.01
        assert max(found["raw @1"], found["sentence"], found["CKA"]) < 1
    assert by_table(own) < 0.05
