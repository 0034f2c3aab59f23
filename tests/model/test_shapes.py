"""Shapes beyond that of 2019: rotary identities, first values, files, and transformers' Llama."""

import json
import math

import pytest
import torch

from xlm.model.config import ModelConfig
from xlm.model.first_values import TABLE_STD
from xlm.model.layers import Layer
from xlm.model.model_directory import load_model, save_model
from xlm.model.transformer import Transformer

VOCAB, PAD = 30, 2


def build(dtype=torch.float32, **fields):
    fields = {"dim": 32, "num_layers": 2, "num_heads": 4, "max_positions": 64, **fields}
    config = ModelConfig(dropout=0.0, attention_dropout=0.0, **fields)
    torch.manual_seed(0)
    return Transformer(config, vocab_size=VOCAB, num_languages=2, pad_id=PAD).to(dtype)


def tokens_of(rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, VOCAB, (rows, length), generator=generator)


@pytest.mark.parametrize("causal", [False, True])
def test_shifting_every_position_of_a_row_changes_nothing(causal):
    model, tokens, lengths = build(positions="rotary"), tokens_of(3, 20), torch.tensor([20, 7, 13])
    running = torch.arange(20).expand(3, -1)
    expected = model.encode(tokens, lengths, causal=causal)
    for shift in (1, 44, 300):
        found = model.encode(tokens, lengths, running + shift, causal=causal)
        assert (found - expected).abs().max() <= 1e-5
    # and a place does matter
    apart = model.encode(tokens, lengths, running * 2, causal=causal)
    assert (apart - expected).abs().max() > 1e-2


def test_sentences_of_a_pair_turn_by_their_own_positions():
    """TLM restarts the positions of the second sentence (XLM section 3.4)."""
    model = build(torch.float64, positions="rotary", language_embeddings=False)
    first, second = tokens_of(1, 9), tokens_of(1, 6, seed=1)
    places = [torch.arange(9)[None], torch.arange(6)[None]]
    row, restarted = torch.cat([first, second], 1), torch.cat(places, 1)
    turns = model.encoder.rotation(row, restarted)
    alone = [model.encoder.rotation(side, None) for side in (first, second)]
    for joined, left, right in zip(turns, *alone, strict=True):
        assert torch.equal(joined, torch.cat([left, right], dim=2))
    # so that the order of the two sentences in the row is nothing
    lengths = torch.tensor([15])
    found = model.encode(row, lengths, restarted)
    turned = model.encode(torch.cat([second, first], 1), lengths, torch.cat(places[::-1], 1))
    assert torch.allclose(found, torch.cat([turned[:, 6:], turned[:, :6]], 1), atol=1e-12, rtol=0)
    # which it is not where they run on
    other = model.encode(row, lengths)
    assert not torch.allclose(other, found, atol=1e-3)


def test_no_position_is_stored_but_learned_ones():
    learned, rotary, fixed = (
        set(build(positions=kind).state_dict()) for kind in ("learned", "rotary", "sinusoidal")
    )
    assert learned - rotary == learned - fixed == {"encoder.positions.weight"}
    assert rotary == fixed and rotary < learned


def test_longer_rows_than_the_model_s_are_refused_whatever_its_positions():
    for kind in ("rotary", "sinusoidal"):
        model = build(positions=kind, max_positions=8)
        with pytest.raises(ValueError, match="row of 9 tokens does not fit model.max_positions 8"):
            model.encode(tokens_of(1, 9), torch.tensor([9]))


def test_the_last_of_every_layer_is_what_encode_returns():
    model, tokens, lengths = build(norm="pre"), tokens_of(2, 8), torch.tensor([8, 5])
    states = model.encode_layers(tokens, lengths)
    assert len(states) == 3
    assert torch.equal(states[-1], model.encode(tokens, lengths))
    assert not states[-1][1, 5:].any()
    assert not torch.allclose(states[-1], states[-2])


@pytest.mark.parametrize("tied", [True, False])
def test_first_values_are_small_normal_ones(tied):
    model = build(
        dim=64, initialization="normal", num_layers=3, num_decoder_layers=2, tied_output=tied,
        output_transform=True, num_segments=2, biases=True,
    )  # fmt: skip
    seen = set()
    for name, value in model.named_parameters():
        part = name.split(".", 1)[1]
        if "norm" in name:
            assert value.eq(1.0 if name.endswith("weight") else 0.0).all(), name
            continue
        if value.dim() == 1:
            assert not value.any(), name
            continue
        if part in ("words.weight", "positions.weight", "languages.weight", "segments.weight",
                    "output_weight"):  # fmt: skip
            std = TABLE_STD
            if part == "words.weight":
                assert not value[PAD].any()
                value = torch.cat([value[:PAD], value[PAD + 1 :]])
        else:
            std = math.sqrt(2 / (5 * 64))
            if part.endswith(("attention.output.weight", "feed_forward.contract.weight")):
                # three layers of two parts, two layers of three
                std /= math.sqrt(6)
        if part == "output_transform.dense.weight":
            assert torch.equal(value, torch.eye(64))
            continue
        seen.add(std)
        assert abs(value.std().item() / std - 1) < 5 / math.sqrt(2 * value.numel()), name
        assert abs(value.mean().item()) < 5 * std / math.sqrt(value.numel()), name
    assert len(seen) == 3


def test_one_wrapper_places_every_norm(monkeypatch):
    model = build(num_decoder_layers=1)
    calls = []
    kept = Layer._residual

    def recorded(layer, x, norm, part, *adapters):
        calls.append(norm)
        return kept(layer, x, norm, part, *adapters)

    monkeypatch.setattr(Layer, "_residual", recorded)
    tokens, lengths = tokens_of(2, 5), torch.tensor([5, 5])
    model.decode(tokens, lengths, model.encode(tokens, lengths), lengths)
    assert len(calls) == len(set(calls)) == 2 * 2 + 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "fields",
    [
        {"positions": "rotary"},
        {"positions": "rotary", "norm": "pre", "norm_kind": "rms", "qk_norm": True},
        {"qk_norm": True, "activation": "swiglu"},
        {"positions": "sinusoidal", "embedding_norm": False, "norm": "pre"},
    ],
)
def test_autocast_stays_near_float32(dtype, fields):
    model, tokens, lengths = build(**fields), tokens_of(3, 9), torch.tensor([9, 4, 7])

    def loss():
        hidden = model.encode(tokens, lengths)
        return model.predict(hidden, torch.arange(9)).float().square().mean()

    exact = loss()
    with torch.autocast("cpu", dtype=dtype):
        found = loss()
    found.backward()
    assert found.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_model_comes_back_from_its_folder_in_every_shape(tmp_path):
    for at, fields in enumerate((
        {"positions": "rotary", "rotary_base": 500.0, "biases": False, "activation": "geglu"},
        {"positions": "sinusoidal", "norm": "pre", "norm_kind": "rms", "qk_norm": True},
    )):  # fmt: skip
        model = build(**fields).eval()
        save_model(model, tmp_path / str(at), {"en": 0, "hi": 1})
        found, _ = load_model(tmp_path / str(at))
        assert found.config == model.config
        tokens, lengths = tokens_of(2, 7), torch.tensor([7, 4])
        assert torch.equal(found.eval().encode(tokens, lengths), model.encode(tokens, lengths))


def test_a_folder_from_before_these_fields_is_a_model_of_2019(tmp_path):
    model = build().eval()
    save_model(model, tmp_path, {"en": 0, "hi": 1})
    path = tmp_path / "config.json"
    described = json.loads(path.read_text())
    new = ("positions", "rotary_base", "embedding_norm", "embedding_scale", "norm", "norm_kind",
           "qk_norm", "biases", "initialization")  # fmt: skip
    for name in new:
        del described["model"][name]
    path.write_text(json.dumps(described))
    found, _ = load_model(tmp_path)
    assert found.config == model.config


def llama(transformers, model):
    """A Llama of transformers with the weights of ``model``."""
    config = model.config
    peer = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB, hidden_size=config.dim, intermediate_size=config.inner_dim,
            num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads, rms_norm_eps=config.layer_norm_eps,
            rope_theta=config.rotary_base, tie_word_embeddings=True, hidden_act="silu",
            max_position_embeddings=config.max_positions, attn_implementation="eager",
        )
    )  # fmt: skip
    ours = dict(model.encoder.named_parameters())
    given = {"model.embed_tokens.weight": ours["words.weight"], "lm_head.weight":
             ours["words.weight"], "model.norm.weight": ours["final_norm.weight"]}  # fmt: skip
    for at in range(config.num_layers):
        here, there = f"layers.{at}.", f"model.layers.{at}."
        parts = ours[here + "attention.query_key_value.weight"].chunk(3)
        for name, part in zip("qkv", parts, strict=True):
            given[there + f"self_attn.{name}_proj.weight"] = part
        given[there + "self_attn.o_proj.weight"] = ours[here + "attention.output.weight"]
        gate, up = ours[here + "feed_forward.expand.weight"].chunk(2)
        given[there + "mlp.gate_proj.weight"], given[there + "mlp.up_proj.weight"] = gate, up
        given[there + "mlp.down_proj.weight"] = ours[here + "feed_forward.contract.weight"]
        given[there + "input_layernorm.weight"] = ours[here + "attention_norm.weight"]
        given[there + "post_attention_layernorm.weight"] = ours[here + "feed_forward_norm.weight"]
    peer.load_state_dict(given)
    return peer


def test_a_causal_model_of_llama_s_shape_is_transformers_llama():
    transformers = pytest.importorskip("transformers")
    model = build(
        positions="rotary", norm="pre", norm_kind="rms", activation="swiglu", biases=False,
        embedding_norm=False, language_embeddings=False, layer_norm_eps=1e-6, rotary_base=500_000.0,
    )  # fmt: skip
    with torch.no_grad():
        model.encoder.output_bias.zero_()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    peer, tokens = llama(transformers, model), tokens_of(3, 40)
    hidden = model.encode(tokens, torch.full((3,), 40), causal=True, padded=False)
    logits = model.predict(hidden, torch.arange(120)).view(3, 40, VOCAB)
    expected = peer(tokens).logits
    assert (logits - expected).abs().max() <= 1e-5
    for values in (logits, expected):
        values.square().mean().backward()
    for here, there in (
        ("layers.0.attention.output.weight", "layers.0.self_attn.o_proj.weight"),
        ("layers.1.feed_forward_norm.weight", "layers.1.post_attention_layernorm.weight"),
    ):
        ours = model.encoder.get_parameter(here).grad
        theirs = peer.model.get_parameter(there).grad
        assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("fields", [{"positions": "rotary", "norm": "pre"}, {"qk_norm": True}])
def test_a_stack_compiles_as_one_graph(fields):
    model, tokens, lengths = build(**fields), tokens_of(2, 8), torch.tensor([8, 5])
    expected = model.encode(tokens, lengths)
    model.encoder.compile(backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(model.encode(tokens, lengths), expected)
