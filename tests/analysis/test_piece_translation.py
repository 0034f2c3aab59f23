"""P@1 of new pieces among old ones, against a search by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xlm.analysis.piece_translation import (
    Known,
    from_tensors,
    known_translations,
    precision,
    to_tensors,
)
from xlm.analysis.translation_model import Translations


def test_the_likeliest_translation_of_each_piece_is_known() -> None:
    found = Translations(
        new=np.array([5, 5, 6, 7, 8]), old=np.array([9, 4, 9, 3, 0]),
        product=np.array([0.2, 0.6, 0.5, 0.05, 0.9]), num_pairs=3,
    )  # fmt: skip
    known = known_translations(found, np.arange(2, 12))
    # the translation of 7 is too unlikely, that of 8 is no piece of text
    assert dict(zip(known.new.tolist(), known.old.tolist(), strict=True)) == {5: 4, 6: 9}
    assert known.chance == pytest.approx(0.1)


def test_precision_is_that_of_a_search_by_hand() -> None:
    torch.manual_seed(0)
    new, old = torch.randn(30, 6), torch.randn(40, 6)
    known = Known(np.arange(10, 30), np.arange(20, 40), np.arange(3, 40))
    new[10:18] = 3 * old[20:28] + 0.01 * torch.randn(8, 6)  # lengths do not count
    cosines = torch.nn.functional.cosine_similarity(new[10:, None], old[None, 3:], dim=-1)
    expected = (cosines.argmax(1) + 3 == torch.arange(20, 40)).float().mean()
    assert precision(new, old, known) == pytest.approx(float(expected)) and expected >= 0.4
    again = from_tensors(to_tensors(known))
    assert precision(new, old, again) == pytest.approx(float(expected))
    nothing = np.zeros(0, dtype=np.int64)
    assert precision(new, old, Known(nothing, nothing, known.candidates)) is None
