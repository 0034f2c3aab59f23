"""Figures of held-out translations, of hypotheses by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.objectives.toys import TOKENIZER, corpora
from xlm.metrics.translation import corpus_scores, multi_bleu
from xlm.objectives.decoding import translation_figures
from xlm.objectives.translation import Translation
from xlm.text.tokenizers.fastbpe import UNKNOWN

CORPORA = corpora()
OBJECTIVE = Translation(pairs=["en-ne"], tokens=10_000, num_lengths=1)
(STREAM,) = OBJECTIVE.streams("mt", CORPORA, seed=0, split="valid")


def ids_of(side):
    rows = np.arange(len(STREAM.pairs))
    return [ids.tolist() for ids in STREAM.pairs.sides[side].sentences(rows)]


def figures(hypotheses):
    return translation_figures(STREAM, dict(enumerate(hypotheses)))


def test_the_references_themselves_are_perfect():
    found = figures(ids_of(1))
    assert found["bleu"] == pytest.approx(100) and found["chrf"] == pytest.approx(100)
    assert found["tokenized_bleu"] == pytest.approx(100) and found["length_ratio"] == 1
    assert found["copied"] == found["empty"] == 0


def test_the_sources_are_copies():
    found = figures(ids_of(0))
    assert found["copied"] == found["copied_tokens"] == 1 and found["bleu"] < 50
    source_nats, target_nats = STREAM.unigram
    right = [target_nats[ids].sum() < source_nats[ids].sum() for ids in ids_of(0)]
    assert found["in_language"] == pytest.approx(sum(right) / len(right))


def test_silence_is_counted_and_has_no_language():
    hypotheses = ids_of(1)
    hypotheses[3] = []
    found = figures(hypotheses)
    assert found["empty"] == pytest.approx(1 / len(hypotheses)) and found["bleu"] < 100
    assert "in_language" not in figures([[] for _ in hypotheses])


def test_translations_of_nothing_but_spaces_have_no_language(monkeypatch):
    monkeypatch.setattr(type(TOKENIZER), "decode", lambda self, ids: " ")
    found = figures(ids_of(1))
    assert found["empty"] == 1 and "in_language" not in found


def test_part_of_the_pairs_is_measured_against_its_own_references():
    hypotheses, references = ids_of(0), ids_of(1)
    decode = TOKENIZER.decode
    found = translation_figures(STREAM, {7: hypotheses[7], 2: hypotheses[2]})
    texts = [[decode(side[row]) for row in (2, 7)] for side in (hypotheses, references)]
    scores = corpus_scores(*texts)
    assert found["chrf"] == scores.chrf.score and found["bleu"] == scores.bleu.score
    assert found["tokenized_bleu"] == multi_bleu(*texts)


def test_an_unknown_piece_matches_nothing(monkeypatch):
    monkeypatch.setattr(type(TOKENIZER), "decode", lambda self, ids: " ".join([UNKNOWN] * 6))
    found = figures(ids_of(1))
    assert found["tokenized_bleu"] == found["bleu"] == 0
