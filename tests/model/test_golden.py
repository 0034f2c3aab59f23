"""By value against hidden states and logits that the original XLM computed on toy models.

The figures are not part of the project: they lie in the folder that XLM_GOLDEN names, or in
``../shared/golden`` beside the checkout; without it these tests are skipped.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.model.config import ModelConfig
from xlm.model.layers import sum_cross_entropy
from xlm.model.transformer import Transformer

BESIDE = Path(__file__).parents[2].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", BESIDE))
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)

PAD = 2
TABLES = {
    "embeddings.weight": "words.weight",
    "position_embeddings.weight": "positions.weight",
    "lang_embeddings.weight": "languages.weight",
    "pred_layer.proj.bias": "output_bias",
}


def read(path):
    """An original checkpoint, without running anything that it pickles."""
    from numpy._core import multiarray

    allowed = [multiarray.scalar, multiarray._reconstruct, np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


def ours(weights, num_layers):
    """The original's names, one side, as this library's."""
    named = {new: weights[old] for old, new in TABLES.items() if old in weights}

    def copy(old, new):
        for part in ("weight", "bias"):
            named[f"{new}.{part}"] = weights[f"{old}.{part}"]

    def fuse(old, parts, new):
        for part in ("weight", "bias"):
            named[f"{new}.{part}"] = torch.cat([weights[f"{old}.{p}_lin.{part}"] for p in parts])

    copy("layer_norm_emb", "embedding_norm")
    for at in range(num_layers):
        layer = f"layers.{at}"
        fuse(f"attentions.{at}", "qkv", f"{layer}.attention.query_key_value")
        copy(f"attentions.{at}.out_lin", f"{layer}.attention.output")
        copy(f"layer_norm1.{at}", f"{layer}.attention_norm")
        copy(f"ffns.{at}.lin1", f"{layer}.feed_forward.expand")
        copy(f"ffns.{at}.lin2", f"{layer}.feed_forward.contract")
        copy(f"layer_norm2.{at}", f"{layer}.feed_forward_norm")
        if f"encoder_attn.{at}.q_lin.weight" in weights:
            cross = f"{layer}.cross_attention"
            copy(f"encoder_attn.{at}.q_lin", f"{cross}.query")
            fuse(f"encoder_attn.{at}", "kv", f"{cross}.key_value")
            copy(f"encoder_attn.{at}.out_lin", f"{cross}.output")
            copy(f"layer_norm15.{at}", f"{cross}_norm")
    return named


def model_of(path):
    content = read(GOLDEN / path)
    params = content["params"]
    sides = {side: content[side] for side in ("encoder", "decoder") if side in content}
    sides = sides or {"encoder": content["model"]}
    config = ModelConfig(
        dim=params["emb_dim"],
        num_layers=params["n_layers"],
        num_heads=params["n_heads"],
        num_decoder_layers=params["n_layers"] if "decoder" in sides else 0,
        activation="gelu" if params["gelu_activation"] else "relu",
        language_embeddings=params["use_lang_emb"],
    )
    model = Transformer(
        config, vocab_size=params["n_words"], num_languages=params["n_langs"], pad_id=PAD
    )
    weights = {
        f"{side}.{name}": value
        for side, tensors in sides.items()
        for name, value in ours(tensors, params["n_layers"]).items()
    }
    model.load_state_dict(weights, strict=True)
    return model.eval()


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
