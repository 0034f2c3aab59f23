"""Skip-gram vectors: pieces that occur in the same places are neighbors."""

import numpy as np
import pytest

from xlm.analysis.neighbors import unit
from xlm.analysis.skip_gram import SkipGram, learn_vectors
from xlm.errors import ConfigError


def text(lines: int = 500) -> list[np.ndarray]:
    """Return lines on one of four subjects, each with ten pieces of its own, ids 1 to 40."""
    random = np.random.RandomState(0)
    return [1 + 10 * random.randint(4) + random.randint(0, 10, 12) for _ in range(lines)]


def test_pieces_of_one_subject_are_neighbors_and_rare_ones_have_no_vector():
    lines = [*text(), np.array([41, 41, 42])]
    settings = SkipGram(dim=16, epochs=2, subsample=1.0)
    vectors = learn_vectors(lines, 50, settings)
    assert vectors.shape == (50, 16) and vectors.dtype == np.float32
    assert not vectors[0].any() and not vectors[41:].any()
    own = unit(vectors[1:41])
    cosines = own @ own.T
    np.fill_diagonal(cosines, -2)
    subject = np.repeat(np.arange(4), 10)
    assert (subject[cosines.argmax(1)] == subject).mean() >= 0.95


def test_equal_seeds_give_equal_vectors():
    settings = SkipGram(dim=4, epochs=1, batch=512)
    first, again = (learn_vectors(text(100), 50, settings) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(learn_vectors(text(100), 50, settings, seed=1), first)


def test_text_without_frequent_pieces_gives_no_vectors():
    assert not learn_vectors([np.array([3, 4])], 6).any()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="window is 0"):
        SkipGram(window=0)
