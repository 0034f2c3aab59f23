"""CKA against published values, all 4-tuples of rows, and another package."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from xlm.analysis import kernel_alignment as kernel_alignment_module
from xlm.analysis.kernel_alignment import Side, cka, cka_matrix, hsic, kernel_alignment, similarity
from xlm.analysis.nulls import permutations
from xlm.errors import ConfigError, DataError


def notebook():
    """The arrays of Kornblith et al.'s notebook."""
    draw = np.random.RandomState(1337)
    x = draw.randn(100, 10)
    return x, x + draw.randn(100, 10)


def test_values_of_the_authors_notebook() -> None:
    x, y = notebook()
    assert cka(x, y, "centered") == pytest.approx(0.55761, abs=5e-6)
    assert cka(x, y, "debiased") == pytest.approx(0.51346, abs=5e-6)


def test_the_debiased_hsic_is_a_mean_over_quadruples() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(7, 3)), draw.normal(size=(7, 5))
    k, m = x @ x.T, y @ y.T
    terms = [
        k[t, u] * m[t, u] + k[t, u] * m[v, w] - 2 * k[t, u] * m[t, v]
        for t, u, v, w in itertools.permutations(range(7), 4)
    ]
    assert hsic(x, y) == pytest.approx(np.mean(terms), abs=1e-12)


@pytest.mark.parametrize("kind", ["centered", "debiased", "uncentered"])
def test_features_and_gram_matrices_give_the_same(kind) -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(30, 8)) + 3
    y = x[:, :5] + draw.normal(size=(30, 5))
    wide = np.pad(x, ((0, 0), (0, 40))), np.pad(y, ((0, 0), (0, 40)))  # D > n: Gram matrices
    assert cka(x, y, kind) == pytest.approx(cka(*wide, kind), abs=1e-10)


def test_rotation_and_scale_make_no_difference() -> None:
    x, y = notebook()
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(10, 10)))
    for kind in ("centered", "debiased"):
        assert cka(3 * x @ turn + 7, y, kind) == pytest.approx(cka(x, y, kind), abs=1e-10)
        assert cka(x, 2 * x + 1, kind) == pytest.approx(1)


def test_independent_rows_of_many_dimensions() -> None:
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(2, 80, 1024))
    assert cka(x, y, "centered") == pytest.approx(1024 / (1024 + 80), abs=0.006)
    assert cka(x, y, "debiased") == pytest.approx(0, abs=0.06)
    assert cka(x + 20, y + 20, "uncentered") > 0.999
    assert min(cka(*draw.normal(size=(2, 80, 1024))) for _ in range(6)) < 0  # never clamped


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = notebook()
    expected = cka(x, y), cka(x.astype(np.float32), y)
    monkeypatch.setattr(Side.blocks, "__defaults__", (7,))
    assert cka(x, y) == pytest.approx(expected[0], abs=1e-12)
    assert expected[1] == pytest.approx(expected[0], abs=1e-6)


def test_another_package_gives_the_same() -> None:
    package = pytest.importorskip("cka.cka", reason="pytorch-cka is the reference")
    x, y = notebook()
    other = package.cka_from_features(torch.from_numpy(x), torch.from_numpy(y))
    assert cka(x, y) == pytest.approx(float(other), abs=1e-6)


def test_every_layer_with_every_layer() -> None:
    x, y = notebook()
    found = cka_matrix([x, y, np.ones((100, 3))], [y, x])
    assert found[0, 0] == pytest.approx(cka(x, y)) and found[1, 0] == pytest.approx(1)
    assert np.isnan(found[2]).all()


def test_nulls_of_rows_that_only_share_their_length() -> None:
    draw = np.random.default_rng(4)
    sizes = np.repeat(np.arange(10), 20)
    x = sizes[:, None] + 0.3 * draw.normal(size=(200, 6))
    y = sizes[:, None] + 0.3 * draw.normal(size=(200, 6))
    own = kernel_alignment(x, y, sizes.tolist())["debiased"]
    assert own.value > 0.9
    assert own.nulls["permuted"].value == pytest.approx(0, abs=0.02)
    assert own.nulls["length"].value == pytest.approx(own.value, abs=0.02)
    assert own.leaves("permuted") and not own.leaves("length")
    centered = kernel_alignment(x, y)["centered"].nulls
    assert set(centered) == {"permuted", "independent"}
    assert centered["independent"].value == pytest.approx(6 / 206)


def test_what_is_not_defined() -> None:
    x, _ = notebook()
    assert cka(x, np.ones((100, 2))) is None
    assert kernel_alignment(x, np.ones((100, 2)))["debiased"].reason == "one side does not vary"
    with pytest.raises(DataError, match="at least 4"):
        cka(x[:3], x[:3])
    with pytest.raises(DataError, match="100 rows on one side and 99"):
        cka(x, x[:99])
    with pytest.raises(ConfigError, match="expected centered"):
        cka(x, x, "biased")  # type: ignore[arg-type]
    assert similarity(Side(x, "centered"), Side(x, "centered")) > 0


@pytest.mark.parametrize("products", [0, 64])  # by Gram matrices, by features
def test_permuted_rows_are_measured_as_others_are(
    monkeypatch: pytest.MonkeyPatch, products: int
) -> None:
    monkeypatch.setattr(kernel_alignment_module, "_PRODUCTS", products)
    x, y = notebook()
    sizes = np.repeat(np.arange(10), 10).tolist()
    found = kernel_alignment(x, y, sizes)
    for kind in ("debiased", "centered"):
        for name, groups in (("permuted", None), ("length", sizes)):
            orders = permutations(100, 0, "cka", groups=groups)
            drawn = [cka(x, y[order], kind) for order in orders]
            null = found[kind].nulls[name]
            assert null.value == pytest.approx(np.mean(drawn), abs=1e-12)
            high = np.quantile(drawn, 0.975, method="weibull")
            assert null.high == pytest.approx(high, abs=1e-12)
    assert list(kernel_alignment(x, y, kinds=("debiased",))) == ["debiased"]
