"""The control: the same text by ids of its own, so that only the special tokens are shared."""

from __future__ import annotations

import numpy as np

from xlm.reproduce.shifted import ShiftedTokenizer, moved
from xlm.reproduce.text import StudyText


def test_a_moved_text_shares_nothing_but_special_tokens(text: StudyText) -> None:
    base = text.base.tokenizer
    tokenizer = ShiftedTokenizer(base)
    own = text.base.text("train", "ne")
    other = moved(text.base.text("train", "hi"), tokenizer, shift=True)
    kept = moved(own, tokenizer, shift=False)
    assert set(np.unique(own.ids)) & set(np.unique(text.base.text("train", "hi").ids)) > {
        base.end_id
    }
    assert set(np.unique(kept.ids)) & set(np.unique(other.ids)) <= set(base.special_ids)
    assert np.array_equal(kept.ids, own.ids)
    assert tokenizer.vocab_size == 2 * base.vocab_size - tokenizer.first_ordinary


def test_a_moved_text_is_the_same_text(text: StudyText) -> None:
    tokenizer = ShiftedTokenizer(text.base.tokenizer)
    before = text.base.text("train", "hi")
    after = moved(before, tokenizer, shift=True)
    assert after.text_size == before.text_size and after.tokenizer_digest == tokenizer.digest
    for at in (0, len(before) - 1):
        assert tokenizer.decode(after[at].tolist()) == text.base.tokenizer.decode(
            before[at].tolist()
        )
    counted = np.bincount(after.ids, minlength=tokenizer.vocab_size)
    assert np.array_equal(after.counts, counted)
