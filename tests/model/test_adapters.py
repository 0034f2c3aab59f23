"""Bottleneck and invertible adapters: their values, and a model that does not notice them."""

import copy
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.errors import ConfigError
from xlm.interchange.transformers.bert import FAMILY
from xlm.interchange.transformers.encoder_names import (
    UnreadTensors,
    build,
    give_encoder,
    give_head,
    take_encoder,
    take_head,
)
from xlm.model.adapters import AdapterConfig, Adapters, Coupling, num_adapter_parameters
from xlm.model.cached import CachedStack
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "adapters.json").read_text("utf-8"))
"""Written by tests/golden/make_adapters.py, which says how."""
SHAPE = {
    "dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward": 32,
    "max_positions": 12,
    "num_segments": 2,
    "output_transform": True,
    "language_embeddings": False,
}
TOKENS = torch.tensor([[3, 7, 1, 12, 19], [5, 5, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
KINDS = {
    "houlsby": AdapterConfig(size=4),
    "pfeiffer": AdapterConfig(size=4, place="pfeiffer", activation="relu"),
    "mad-x": AdapterConfig(
        size=4, place="pfeiffer", activation="relu", last_layer=False, invertible=True
    ),
}


def drawn(name: str, shape: torch.Size) -> torch.Tensor:
    """Return the values that ``make_adapters.py`` gives the parameter of that name."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape)) * 0.2
    return torch.tensor(values + ("LayerNorm.weight" in name))


def small_model(**changes: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig(**{**SHAPE, **changes}), vocab_size=20, num_languages=1, pad_id=0
    )
    return model.double().eval()


def bert() -> Transformer:
    """Return the model of the golden values, by the names that transformers gives its tensors."""
    model = small_model()
    names, side = FAMILY.names, model.encoder
    theirs = give_encoder(model, names, "bert.")
    theirs |= give_head(model, FAMILY.head, side.output_bias.detach(), None)
    theirs["bert." + names.words] = side.words.weight.detach()
    theirs["bert." + names.positions] = side.positions.weight.detach()
    theirs["bert." + names.segments] = side.segments.weight.detach()
    source = UnreadTensors("golden", {n: drawn(n, t.shape) for n, t in theirs.items()})
    tensors = take_encoder(source, names, "bert.", num_layers=2, num_heads=2)
    tensors |= take_head(source, FAMILY.head, tensors["encoder.words.weight"], tied=True)
    return build("golden", SHAPE, tensors, pad_id=0)


def adapters_of(config: AdapterConfig) -> Adapters:
    """Return adapters with the golden values, by the names that ``adapters`` gives them."""
    adapters = Adapters(16, 2, config).double()
    for name, parameter in adapters.named_parameters():
        parts = name.split(".")
        if parts[0] == "layers":
            place = "attention.output" if parts[2] == "attention" else "output"
            linear = {"down": "adapter_down.0", "up": "adapter_up"}[parts[-2]]
            theirs = f"bert.encoder.layer.{parts[1]}.{place}.adapters.ne.{linear}"
        else:
            function = {"to_first": "F", "to_second": "G"}[parts[1]]
            linear = {"down": "0", "up": "2"}[parts[-2]]
            theirs = f"bert.invertible_adapters.ne.{function}.{linear}"
        with torch.no_grad():
            parameter.copy_(drawn(f"{theirs}.{parts[-1]}", parameter.shape))
    return adapters


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_package_adapters(kind):
    model, adapters = bert(), adapters_of(KINDS[kind])
    with torch.no_grad():
        hidden = model.encoder(TOKENS, LENGTHS, None, None, False, True, adapters=adapters)
        logits = model.encoder.project(hidden.flatten(0, 1), adapters).view(2, 5, 20)
        plain = model.encode(TOKENS, LENGTHS)
    real = torch.arange(5)[None] < LENGTHS[:, None]
    expected = torch.tensor(GOLDEN[kind]["hidden"], dtype=torch.float64).view(2, 5, 16)
    torch.testing.assert_close(hidden[real], expected[real], rtol=0, atol=1e-7)
    expected = torch.tensor(GOLDEN[kind]["logits"], dtype=torch.float64).view(2, 5, 20)
    torch.testing.assert_close(logits[real], expected[real], rtol=0, atol=1e-7)
    assert (hidden - plain).abs().max() > 0.1


@pytest.mark.parametrize("dim", [16, 7])
def test_the_coupling_and_back_is_the_identity(dim):
    torch.manual_seed(1)
    coupling = Coupling(dim, AdapterConfig(invertible=True))
    x = torch.randn(50, dim)
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter.normal_()
        assert (coupling(x) - x).abs().max() > 0.1
        y = copy.deepcopy(coupling).double()(x.double())
        torch.testing.assert_close(
            copy.deepcopy(coupling).double().inverse(y), x.double(), rtol=0, atol=1e-6
        )


def test_first_values_are_nearly_the_identity():
    torch.manual_seed(2)
    adapters = Adapters(64, 3, AdapterConfig(size=32))
    weights = torch.cat([p.flatten() for p in adapters.parameters() if p.dim() == 2])
    biases = torch.cat([p for p in adapters.parameters() if p.dim() == 1])
    assert weights.abs().max() <= 2e-3 and not biases.any()
    # a normal cut at two deviations has 0.8796 of its deviation left
    assert float(weights.detach().std()) == pytest.approx(0.8796e-3, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_adapters_that_add_nothing_change_no_value(kind, norm):
    model = small_model(norm=norm)
    adapters = Adapters(16, 2, KINDS[kind]).double()
    with torch.no_grad():
        for name, parameter in adapters.named_parameters():
            if ".up." in name:
                parameter.zero_()
        hidden = model.encoder(TOKENS, LENGTHS, None, None, False, True, adapters=adapters)
        assert torch.equal(hidden, model.encode(TOKENS, LENGTHS))


@pytest.mark.parametrize("kind", KINDS)
def test_text_continued_token_by_token_reads_them_too(kind):
    model, adapters = bert(), adapters_of(KINDS[kind])
    tokens, lengths = TOKENS[:1], LENGTHS[:1]
    with torch.no_grad():
        hidden = model.encoder(tokens, lengths, None, None, True, True, adapters=adapters)
        expected = model.encoder.project(hidden[0], adapters)
        cached = CachedStack(model.encoder, torch.zeros(1, dtype=torch.long), adapters=adapters)
        for at in range(5):
            torch.testing.assert_close(cached.step(tokens[:, at])[0], expected[at])


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_parameters_is_the_formula(kind):
    for dim in (16, 7):
        adapters = Adapters(dim, 3, KINDS[kind])
        found = sum(parameter.numel() for parameter in adapters.parameters())
        assert num_adapter_parameters(dim, 3, KINDS[kind]) == found


def test_adapters_that_fit_no_model_are_refused():
    with pytest.raises(ConfigError, match="last_layer is false, but the model has only 1 layer"):
        Adapters(16, 1, AdapterConfig(last_layer=False))
    with pytest.raises(ConfigError, match="adapters.size is 0"):
        AdapterConfig(size=0)
    with pytest.raises(ConfigError, match="adapters.place"):
        AdapterConfig(place="prefix")
