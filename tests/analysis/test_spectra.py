"""Spectra: norms, bounds that always hold, and the matrices of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.support.ledger import read
from tests.analysis.models import tiny
from xlm.analysis.nulls import untrained
from xlm.analysis.spectra import drift, matrices, spectra, spectrum, within_bounds
from xlm.errors import ConfigError


def test_the_norm_of_the_spectrum_is_the_matrixs() -> None:
    for name, matrix in matrices(tiny(num_decoder_layers=1)).items():
        own = spectrum(matrix)
        assert own.norm == pytest.approx(np.linalg.norm(matrix), rel=1e-10), name
        assert (np.diff(own.values) <= 0).all()
        assert 1 <= own.stable_rank <= min(matrix.shape)
    assert spectrum(np.zeros((2, 3))).stable_rank is None


def test_distances_by_hand() -> None:
    one, two = np.diag([3.0, 1]), np.diag([1.0, 2])
    own = drift(one, two)
    assert own.norms == pytest.approx(np.sqrt(10) - np.sqrt(5))
    assert own.spectra == pytest.approx(np.sqrt(1 + 0))  # (3, 1) and (2, 1)
    assert own.weights == pytest.approx(np.sqrt(4 + 1))
    assert within_bounds(own)
    itself = drift(one, one)
    assert (itself.norms, itself.spectra, itself.weights) == (0, 0, 0)
    assert drift(5 * one, one).spectra == pytest.approx(4 * np.sqrt(10))
    with pytest.raises(ConfigError, match="expected the same"):
        drift(one, np.eye(3))


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold(seed: int) -> None:
    draw = np.random.default_rng(seed)
    shape = draw.integers(1, 12, 2)
    assert within_bounds(drift(draw.normal(size=shape), draw.normal(size=shape)))


def test_blocks_make_up_the_fused_matrix() -> None:
    model = tiny(num_decoder_layers=1)
    own = matrices(model)
    fused = model.transformer.encoder.layers[1].attention.query_key_value.weight
    blocks = np.concatenate([own[f"encoder 2 {name}"] for name in "QKV"])
    assert np.array_equal(blocks, fused.detach().double().numpy())
    fused = model.transformer.decoder.layers[0].cross_attention.key_value.weight
    blocks = np.concatenate([own[f"decoder 1 cross {name}"] for name in "KV"])
    assert np.array_equal(blocks, fused.detach().double().numpy())
    assert own["encoder table of languages"].shape == (3, 16)
    assert {"encoder 1 Out", "encoder 1 FC1", "encoder 2 FC2"} <= own.keys()


def test_queries_are_first_in_the_fused_matrix() -> None:
    """With queries of 0 every position is attended alike, whatever the keys are."""
    model = tiny(language_embeddings=False, num_layers=1)
    attention = model.transformer.encoder.layers[0].attention
    x = torch.randn(1, 5, 16)
    with torch.no_grad():
        attention.query_key_value.weight[:16] = 0
        attention.query_key_value.bias[:16] = 0
        same = attention(x, None, False)
        np.testing.assert_allclose(same[0], same[0, :1].expand(5, -1), atol=1e-6)
    assert not matrices(model)["encoder 1 Q"].any()


def test_a_model_and_its_parent() -> None:
    model, parent = tiny(), untrained(tiny(), 5)
    found = spectra(model, parent, untrained(model, 6))
    for figures in found.values():
        assert abs(figures["Δ‖σ‖"].value) <= figures["d"].value + 1e-9
        assert figures["d"].value <= figures["‖ΔW‖"].value + 1e-9
        assert figures["d"].nulls["untrained"].value > 0
    assert all(own["d"].value == 0 for own in spectra(model, model).values())
    with pytest.raises(ConfigError, match="expected a parent of the same shape"):
        spectra(model, tiny(num_layers=1))


def test_norms_and_distances_of_the_paper_keep_the_bound() -> None:
    """Tables 2 and 5 of the study of continued pretraining: |Δ‖σ‖| ≤ d but for their rounding."""
    tables = {table.number: table for table in read("mt-continued-pretraining-2024").tables}
    num_pairs = 0
    for number in (2, 5):
        parents = {}
        for row in tables[number].rows:
            if row.name == "mBART":
                parents[row.group] = row.values
                continue
            for norm, before, d in zip(
                row.values[::2], parents[row.group][::2], row.values[1::2], strict=True
            ):
                assert abs(norm - before) <= d + 0.011
                num_pairs += 1
    assert num_pairs == 216
