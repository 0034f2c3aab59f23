"""By value against hidden states and logits that the original XLM computed on toy models.

The figures are not part of the project: they lie in the folder that XLM_GOLDEN names, or in
``../shared/golden`` beside the checkout; without it these tests are skipped.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.interchange.original.checkpoint import read_original
from xlm.model.cross_entropy import sum_cross_entropy

BESIDE = Path(__file__).parents[3].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", BESIDE))
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)


def model_of(path):
    return read_original(GOLDEN / path, codes=GOLDEN / "data/codes").transformer


class Figures:
    """One batch of a file of figures, turned batch-first."""

    def __init__(self, path, name):
        with np.load(GOLDEN / path) as arrays:
            prefix = name + "."
            self.arrays = {
                key.removeprefix(prefix): torch.from_numpy(arrays[key])
                for key in arrays.files
                if key.startswith(prefix)
            }

    def __getitem__(self, name):
        value = self.arrays[name]
        return value.transpose(0, 1) if value.ndim > 1 and name != "logits" else value

    def inputs(self, side=""):
        names = {"tokens": side or "tokens", "lengths": f"{side}_lengths" if side else "lengths"}
        for name in ("positions", "langs"):
            names[name] = f"{side}_{name}" if side else name
        return {new: self[old] for new, old in names.items() if old in self.arrays}

    def cells(self):
        """Flat cells (row * T + position), in the time-major order of the logits."""
        position, row = torch.nonzero(self.arrays["cells"], as_tuple=True)
        return row * self.arrays["cells"].shape[0] + position

    def check(self, model, hidden, tolerance, side="encoder"):
        logits = model.predict(hidden, self.cells(), side=side)
        assert (logits - self["logits"]).abs().max() < tolerance
        loss = sum_cross_entropy(logits, self["targets"]) / len(self["targets"])
        assert loss.item() == pytest.approx(self["loss"].item(), abs=tolerance)


MLM = [
    ("mlm/best-valid_mlm_ppl.pth", "mlm/forward.npz", batch)
    for batch in (
        "stream_en",
        "sent_hi",
        "mixed_rows",
        "tlm_en_hi",
        "tlm_hi_en",
        "merged_en_fr",
        "merged_en_en",
        "no_language_ids",
    )
]
MLM += [("mlm/checkpoint.pth", "mlm/forward_checkpoint.npz", "tlm_en_hi")]
for kind in ("relu", "nolang"):
    for batch in ("sent_hi", "tlm_en_hi"):
        MLM.append((f"mlm/{kind}.best-valid_mlm_ppl.pth", f"mlm/forward_{kind}.npz", batch))


@pytest.mark.parametrize("weights, figures, batch", MLM)
@torch.no_grad()
def test_masked_models(weights, figures, batch):
    model, expected = model_of(weights), Figures(figures, batch)
    hidden = model.encode(**expected.inputs())
    assert (hidden - expected["hidden"]).abs().max() < 1e-5
    expected.check(model, hidden, 1e-5)


@torch.no_grad()
def test_each_layer_of_a_masked_model():
    model, expected = model_of(MLM[0][0]), Figures(MLM[0][1], "tlm_en_hi")
    batch = expected.inputs()
    real = torch.arange(batch["tokens"].shape[1]) < batch["lengths"][:, None]
    seen = []
    modules = [model.encoder.embedding_norm, *model.encoder.layers]
    for module in modules:
        module.register_forward_hook(lambda module, given, result: seen.append(result))
    model.encode(**batch)
    names = ["after_embeddings"] + [f"after_layer_{at}" for at in range(len(model.encoder.layers))]
    for name, found in zip(names, seen, strict=True):
        assert (found - expected[name])[real].abs().max() < 1e-5, name


@pytest.mark.parametrize(
    "batch", ["stream_en", "sent_fr", "pair_en_fr_reset", "pair_en_fr_default_positions"]
)
@torch.no_grad()
def test_causal_model(batch):
    model = model_of("clm/best-valid_clm_ppl.pth")
    expected = Figures("clm/forward.npz", batch)
    hidden = model.encode(**expected.inputs(), causal=True)
    assert (hidden - expected["hidden"]).abs().max() < 1e-5
    expected.check(model, hidden, 1e-5)


@pytest.mark.parametrize("batch", ["en_fr", "hi_en", "fr_en"])
@torch.no_grad()
def test_translation_model(batch):
    model = model_of("mt/periodic-8.pth")
    expected = Figures("mt/forward_and_decode.npz", batch)
    source = expected.inputs("source")
    memory = model.encode(**source)
    assert (memory - expected["encoder_hidden"]).abs().max() < 2e-5
    hidden = model.decode(
        source_hidden=memory, source_lengths=source["lengths"], **expected.inputs("target")
    )
    assert (hidden - expected["decoder_hidden"]).abs().max() < 2e-5
    expected.check(model, hidden, 2e-5, side="decoder")
