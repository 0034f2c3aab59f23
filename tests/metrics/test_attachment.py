"""Attachment scores against counts by hand."""

import numpy as np
import pytest

from xlm.errors import DataError
from xlm.metrics.attachment import (
    attachment_figures,
    attachment_scores,
    without_punctuation,
    without_upos,
)
from xlm.metrics.scores import Scores

GOLD = [2, 0, 2, 3, 2], ["nsubj:pass", "root", "obj", "amod", "punct"]
FOUND = [2, 0, 2, 2, 3], ["nsubj", "root", "obl", "amod", "punct"]
UPOS = ["NOUN", "VERB", "NOUN", "SYM", "PUNCT"]


def test_attachment_by_hand():
    # heads right: words 1, 2, 3; labels right with them: 1 (but for its subtype), 2
    figures = attachment_figures(attachment_scores(*GOLD, *FOUND))
    assert (figures["uas"], figures["las"]) == (3 / 5, 2 / 5)
    strict = attachment_figures(attachment_scores(*GOLD, *FOUND, subtypes=True))
    assert (strict["uas"], strict["las"]) == (3 / 5, 1 / 5)
    fewer = attachment_scores(*GOLD, *FOUND, scored=without_upos(UPOS))
    assert (fewer["words"], fewer["heads"], fewer["labels"]) == (4, 3, 2)
    study = attachment_scores(*GOLD, *FOUND, scored=without_upos(UPOS, ("PUNCT", "SYM")))
    assert (study["words"], study["heads"], study["labels"]) == (3, 3, 2)
    assert (study["trees"], study["labeled_trees"]) == (1, 0)


def test_scores_of_sentences_add():
    one = attachment_scores(*GOLD, *FOUND)
    two = attachment_scores([0], ["root"], [0], ["root"])
    figures = attachment_figures(one + two)
    assert figures["uas"] == 4 / 6 and figures["las"] == 3 / 6
    assert figures["uem"] == figures["lem"] == 1 / 2
    assert attachment_figures(Scores({**one + two, "words": 0.0, "sentences": 0.0}))["uas"] == 0


def test_conll_x_punctuation_is_by_characters():
    forms = ["word", ",", "...", "।", "$", "+", "U.S.", "«", "？"]
    assert without_punctuation(forms).tolist() == [
        True, False, False, False, True, True, True, False, False,
    ]  # fmt: skip


def test_lengths_must_agree():
    with pytest.raises(DataError, match="2 gold heads, 1 gold labels"):
        attachment_scores([0, 1], ["root"], [0, 1], ["root", "obj"])
    with pytest.raises(DataError):
        attachment_scores([0], ["root"], [0], ["root"], scored=np.array([True, False]))
