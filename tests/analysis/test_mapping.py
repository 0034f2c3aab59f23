"""Orthogonal maps: a planted rotation is recovered."""

import numpy as np
import pytest

from xlm.analysis.mapping import learn_map, normalized
from xlm.errors import DataError


def planted(noise: float, num: int = 400, dim: int = 20):
    """Return vectors in clusters, and the same turned, permuted among rows of like frequency."""
    random = np.random.RandomState(0)
    centers = random.standard_normal((15, dim))
    x = centers[random.randint(0, 15, num)] + random.standard_normal((num, dim))
    x *= random.gamma(2, 1, (1, dim))
    turn = np.linalg.qr(random.standard_normal((dim, dim)))[0]
    return x, x @ turn + noise * random.standard_normal((num, dim)), turn


@pytest.mark.parametrize("seeded", [True, False])
def test_a_planted_rotation_is_recovered(seeded):
    x, y, turn = planted(0.05)
    seed_pairs = np.stack([np.arange(30)] * 2, axis=1) if seeded else None
    found = learn_map(x, y, seed_pairs)
    np.testing.assert_allclose(found.matrix @ found.matrix.T, np.eye(20), atol=1e-9)
    np.testing.assert_allclose(found.matrix, turn, atol=0.02)
    nearest = (normalized(x) @ found.matrix @ normalized(y).T).argmax(1)
    assert (nearest == np.arange(400)).mean() >= 0.99 and found.similarity > 0.99


def test_without_self_learning_the_map_is_that_of_the_seed():
    x, y, turn = planted(0.0)
    found = learn_map(x, y, np.stack([np.arange(40)] * 2, axis=1), self_learning=False)
    np.testing.assert_allclose(found.matrix, turn, atol=1e-6)
    assert found.num_rounds == 0 and found.num_pairs == 40


def test_unrelated_vectors_are_not_said_to_be_alike():
    random = np.random.RandomState(1)
    x, y = random.standard_normal((2, 300, 20))
    assert learn_map(x, y).similarity < 0.8


def test_what_cannot_be_mapped_is_refused():
    with pytest.raises(DataError, match="vectors of 3 and of 4 features"):
        learn_map(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(DataError, match="no row of one language is paired"):
        learn_map(np.ones((5, 3)), np.ones((5, 3)), np.zeros((0, 2), dtype=np.int64))
