"""The transformer against a slow one written from the paper, and what each model must obey."""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.model.slow import Slow
from xlm.errors import ConfigError
from xlm.model import attention, layers
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.transformer import Transformer

VOCAB, LANGUAGES, PAD = 23, 3, 2
LENGTHS = torch.tensor([9, 4, 1, 7])
ROWS, LENGTH = len(LENGTHS), 9


SHAPES = [
    {"positions": "rotary"},
    {"positions": "sinusoidal", "embedding_scale": True},
    {"norm": "pre"},
    {"positions": "rotary", "norm": "pre", "norm_kind": "rms", "activation": "swiglu",
     "biases": False, "embedding_norm": False, "rotary_base": 50.0},
    {"positions": "rotary", "qk_norm": True, "activation": "geglu", "biases": False,
     "output_transform": True},
    {"norm_kind": "rms", "activation": "silu", "qk_norm": True},
    {"norm": "pre", "embedding_norm": False, "embedding_scale": True},
    {"window": 4, "global_every": 2, "norm": "pre", "first_norm": False},
    {"positions": "rotary", "window": 3, "global_every": 2, "local_rotary_base": 20.0},
]  # fmt: skip
"""Shapes that together give every field each of its values."""


def build(dtype=torch.float64, seed=0, **fields):
    fields = {
        "dim": 16,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward": 24,
        "max_positions": 12,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        **fields,
    }
    torch.manual_seed(seed)
    model = Transformer(
        ModelConfig(**fields), vocab_size=VOCAB, num_languages=LANGUAGES, pad_id=PAD
    )
    for name, parameter in model.named_parameters():
        if "norm" in name:  # away from 1 and 0, or nothing would tell them from no norm at all
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model.to(dtype)


def inputs(seed=1, lengths=LENGTHS, length=LENGTH):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), length)
    tokens = torch.randint(5, VOCAB, shape, generator=generator)
    tokens[torch.arange(length) >= lengths[:, None]] = PAD
    positions = torch.randint(0, 12, shape, generator=generator)
    langs = torch.randint(0, LANGUAGES, shape, generator=generator)
    return {"tokens": tokens, "lengths": lengths, "positions": positions, "langs": langs}


def real_cells(lengths=LENGTHS, length=LENGTH):
    return torch.arange(len(lengths) * length)[(torch.arange(length) < lengths[:, None]).flatten()]


def slow_rows(batch):
    for at in range(ROWS):
        yield {name: value[at] for name, value in batch.items()}, int(batch["lengths"][at])


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(params=["plain", "fused"])
def implementation(request, monkeypatch):
    monkeypatch.setattr(
        attention, "prefers_plain", lambda query, rate=0.0: request.param == "plain"
    )


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize(
    "causal, fields",
    [
        (False, {}),
        (True, {}),
        (False, {"activation": "relu", "tied_output": False}),
        (False, {"language_embeddings": False, "layer_norm_eps": 0.1}),
        *((causal, fields) for fields in SHAPES for causal in (False, True)),
    ],
)
def test_encoder_is_the_slow_one_in_values_and_gradients(causal, fields):
    model, batch = build(**fields), inputs()
    cells = real_cells()
    targets = torch.randint(0, VOCAB, (len(cells),), generator=torch.Generator().manual_seed(3))
    hidden = model.encode(**batch, causal=causal)
    logits = model.predict(hidden, cells)
    found = gradients(model, sum_cross_entropy(logits, targets))

    slow = Slow(model, "encoder")
    parts = [slow(row, length, causal) for row, length in slow_rows(batch)]
    expected = torch.cat([logit for logit, _ in parts])
    assert torch.allclose(logits, expected, atol=1e-10, rtol=0)
    states = torch.cat([state for _, state in parts])
    assert torch.allclose(hidden.flatten(0, 1)[cells], states, atol=1e-10, rtol=0)
    log_shares = expected - expected.exp().sum(-1, keepdim=True).log()
    reference = gradients(model, -log_shares[torch.arange(len(cells)), targets].sum())
    assert found.keys() == reference.keys() == dict(model.named_parameters()).keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, reference[name], atol=1e-10, rtol=0), name


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("fields", [{}, *SHAPES])
def test_decoder_is_the_slow_one_in_values_and_gradients(fields):
    model, target = build(num_decoder_layers=2, **fields), inputs()
    source = inputs(seed=5, lengths=torch.tensor([3, 6, 2, 6]), length=6)
    cells = real_cells()
    memory = model.encode(**source)
    hidden = model.decode(source_hidden=memory, source_lengths=source["lengths"], **target)
    logits = model.predict(hidden, cells, side="decoder")
    found = gradients(model, logits.square().sum())

    encode, decode = Slow(model, "encoder"), Slow(model, "decoder")
    parts = []
    for (row, length), (left, size) in zip(slow_rows(target), slow_rows(source), strict=True):
        parts.append(decode(row, length, True, encode(left, size, False)[1])[0])
    expected = torch.cat(parts)
    assert torch.allclose(logits, expected, atol=1e-10, rtol=0)
    reference = gradients(model, expected.square().sum())
    assert found.keys() == reference.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, reference[name], atol=1e-9, rtol=1e-10), name
    # the encoder's own output serves MLM alone: nothing else of the model goes without a gradient
    others = {name for name in dict(model.named_parameters()) if name not in found}
    assert {name for name in others if "output_transform" not in name} == {"encoder.output_bias"}


def test_defaults_are_running_positions_and_no_language():
    model, batch = build(), inputs()
    running = torch.arange(LENGTH).expand(ROWS, -1)
    tokens, lengths, langs = batch["tokens"], batch["lengths"], batch["langs"]
    assert torch.equal(
        model.encode(tokens, lengths, langs=langs), model.encode(tokens, lengths, running, langs)
    )
    with_languages = model.encode(tokens, lengths)
    model.encoder.languages.weight.data.zero_()
    without = model.encode(tokens, lengths, langs=langs)
    assert torch.allclose(with_languages, without, atol=1e-12)


def test_one_language_has_no_language_table():
    config = ModelConfig(dim=8, num_layers=1, num_heads=2)
    model = Transformer(config, vocab_size=9, num_languages=1, pad_id=2)
    assert model.encoder.languages is None
    tokens = torch.tensor([[3, 4]])
    model.encode(tokens, torch.tensor([2]), langs=torch.zeros_like(tokens))


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fields", [{}, *SHAPES])
def test_padding_changes_nothing_and_is_zero(causal, fields):
    model, batch = build(**fields), inputs()
    hidden = model.encode(**batch, causal=causal)
    for at, length in enumerate(LENGTHS.tolist()):
        alone = {n: v[at : at + 1, :length] for n, v in batch.items() if n != "lengths"}
        alone["lengths"] = torch.tensor([length])
        full = model.encode(**alone, causal=causal, padded=False)
        assert torch.allclose(hidden[at, :length], full[0], atol=1e-12, rtol=0)
        assert torch.equal(full, model.encode(**alone, causal=causal, padded=True))
        assert not hidden[at, length:].any()
    # whatever stands in the padding
    others = {n: v.clone() for n, v in batch.items()}
    outside = torch.arange(LENGTH) >= LENGTHS[:, None]
    for name, value in (("tokens", 7), ("positions", 11), ("langs", 1)):
        others[name][outside] = value
    assert torch.equal(hidden, model.encode(**others, causal=causal))


def test_source_padding_changes_nothing():
    model, target = build(num_decoder_layers=1), inputs()
    lengths = torch.tensor([3, 6, 2, 5])
    source = inputs(seed=5, lengths=lengths, length=6)
    memory = model.encode(**source)
    hidden = model.decode(source_hidden=memory, source_lengths=lengths, **target)
    memory = memory.masked_fill((torch.arange(6) >= lengths[:, None])[:, :, None], 99.0)
    again = model.decode(source_hidden=memory, source_lengths=lengths, **target)
    assert torch.equal(hidden, again)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_causal_model_never_sees_the_future(side, dtype):
    model = build(dtype, num_decoder_layers=1)
    full = torch.full((2,), LENGTH)
    batch = inputs(lengths=full)

    def logits(tokens):
        if side == "encoder":
            hidden = model.encode(tokens, full, causal=True, padded=False)
        else:
            memory = model.encode(batch["tokens"], full)
            hidden = model.decode(tokens, full, memory, full)
        return model.predict(hidden, torch.arange(2 * LENGTH), side=side).view(2, LENGTH, VOCAB)

    before = logits(batch["tokens"])
    for at in range(LENGTH - 1):
        changed = batch["tokens"].clone()
        changed[:, at + 1] = (changed[:, at + 1] + 1) % VOCAB
        after = logits(changed)
        assert torch.equal(before[:, : at + 1], after[:, : at + 1])
        assert not torch.equal(before[:, at + 1], after[:, at + 1])


def test_a_bidirectional_model_sees_both_sides():
    model = build()
    batch = inputs(lengths=torch.tensor([LENGTH]))
    before = model.encode(**batch)
    batch["tokens"][0, 4] = (batch["tokens"][0, 4] + 1) % VOCAB
    assert (before != model.encode(**batch)).any(-1).all()


def test_only_predicted_cells_are_projected():
    model, batch = build(), inputs()
    hidden = model.encode(**batch)
    everywhere = F.linear(hidden, model.encoder.words.weight, model.encoder.output_bias)
    cells = torch.tensor([30, 0, 12, 12, 5])
    logits = model.predict(hidden, cells)
    assert logits.shape == (5, VOCAB)
    assert torch.allclose(logits, everywhere.flatten(0, 1)[cells], atol=1e-12, rtol=0)
    assert model.predict(hidden, torch.zeros(0, dtype=torch.int64)).shape == (0, VOCAB)


@pytest.mark.usefixtures("implementation")
def test_an_empty_row_stays_finite():
    model = build(num_decoder_layers=1)
    lengths = torch.tensor([4, 0])
    batch = inputs(lengths=lengths, length=4)
    memory = model.encode(**batch)
    hidden = model.decode(source_hidden=memory, source_lengths=lengths, **batch)
    hidden.square().sum().backward()
    assert not hidden[1].any()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_dropout_acts_in_training_only_and_is_repeated_by_the_seed():
    model, batch = build(torch.float32, dropout=0.1, attention_dropout=0.1), inputs()
    torch.manual_seed(4)
    first = model.encode(**batch)
    assert not torch.equal(first, model.encode(**batch))
    torch.manual_seed(4)
    assert torch.equal(first, model.encode(**batch))
    model.eval()
    assert torch.equal(model.encode(**batch), model.encode(**batch))


@pytest.mark.parametrize("fields", [{}, {"norm": "pre", "num_decoder_layers": 2}])
def test_recomputed_layers_give_the_same_gradients(fields):
    """With dropout, which draws the same again; and each layer is computed twice."""
    found, calls = [], []
    for recompute in (False, True):
        model, batch = build(torch.float32, dropout=0.2, attention_dropout=0.2, **fields), inputs()
        if recompute:
            model.recompute_layers()
        for layer in model.encoder.layers:
            layer.register_forward_pre_hook(lambda *_, which=recompute: calls.append(which))
        torch.manual_seed(4)
        hidden = model.encode(**batch)
        if model.decoder is not None:
            lengths = batch["lengths"]
            hidden = model.decode(source_hidden=hidden, source_lengths=lengths, **batch)
        after = torch.rand(())
        found.append((after, gradients(model, hidden.square().sum())))
    (first, plain), (second, again) = found
    assert first == second and plain.keys() == again.keys()
    assert all(torch.equal(own, again[name]) for name, own in plain.items())
    assert calls.count(True) == 2 * calls.count(False) == 2 * len(model.encoder.layers)
    model.eval()
    model.encode(**batch)
    assert calls.count(True) == 3 * calls.count(False)


@pytest.mark.parametrize("which", ["dropout", "attention_dropout"])
def test_each_dropout_acts(which):
    model, batch = build(torch.float32, **{which: 0.5}), inputs()
    assert not torch.equal(model.encode(**batch), model.encode(**batch))


def test_dropout_takes_its_share_at_the_embeddings_and_after_each_sub_layer(monkeypatch):
    model = build(torch.float32, dropout=0.25, num_decoder_layers=2)
    tokens = torch.randint(5, VOCAB, (40, 12))
    embedded = model.encoder.embed(tokens, None, None)
    assert embedded.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    shares = []
    kept = layers.Layer._dropped

    def recorded(layer, x):
        dropped = kept(layer, x)
        shares.append(dropped.eq(0).float().mean().item())
        return dropped

    monkeypatch.setattr(layers.Layer, "_dropped", recorded)
    lengths = torch.full((40,), 12)
    model.decode(tokens, lengths, model.encode(tokens, lengths), lengths)
    assert shares == pytest.approx([0.25] * (2 * 2 + 2 * 3), abs=0.02)


def test_first_values():
    config = ModelConfig(dim=64, num_layers=2, num_heads=4, num_decoder_layers=1)
    torch.manual_seed(0)
    model = Transformer(config, vocab_size=2000, num_languages=40, pad_id=PAD)
    for name, value in model.state_dict().items():
        if "norm" in name:
            assert value.eq(1.0 if name.endswith("weight") else 0.0).all(), name
        elif any(table in name for table in ("words", "positions", "languages")):
            if "words" in name:
                assert not value[PAD].any()
                value = torch.cat([value[:PAD], value[PAD + 1 :]])
            count = value.numel()
            # five standard errors of a normal's deviation and mean
            assert abs(value.std().item() * 8 - 1) < 5 / math.sqrt(2 * count), name
            assert abs(value.mean().item() * 8) < 5 / math.sqrt(count), name
            fourth = (value * 8).pow(4).mean().item()
            assert abs(fourth - 3) < 5 * math.sqrt(96 / count), name
        else:
            bound = 1 / math.sqrt(256 if "contract" in name else 64)
            largest = value.abs().max().item() / bound
            # of n uniform draws, none beyond 1 - 20/n has a probability of exp(-20)
            assert 1 - 20 / value.numel() < largest <= 1, name
            mean = value.mean().item() / bound
            assert abs(mean) < 5 / math.sqrt(3 * value.numel()), name


def test_first_values_follow_the_default_generator():
    one, other, third = build(seed=0), build(seed=0), build(seed=1)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
        assert not torch.equal(value, third.state_dict()[name])


def test_the_tied_matrix_is_one_parameter():
    tied, apart = build(), build(tied_output=False)
    assert set(apart.state_dict()) - set(tied.state_dict()) == {"encoder.output_weight"}
    batch = inputs()
    tied.predict(tied.encode(**batch), real_cells()).square().sum().backward()
    # the softmax reaches the row of padding, the lookup never does (B6)
    assert tied.encoder.words.weight.grad[PAD].any()
    apart.predict(apart.encode(**batch), real_cells()).square().sum().backward()
    assert not apart.encoder.words.weight.grad[PAD].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
def test_autocast_stays_near_float32(dtype, causal):
    model, batch = build(torch.float32, num_decoder_layers=1), inputs()
    cells = real_cells()
    targets = torch.randint(0, VOCAB, (len(cells),), generator=torch.Generator().manual_seed(3))

    def loss():
        memory = model.encode(**batch, causal=causal)
        hidden = model.decode(source_hidden=memory, source_lengths=LENGTHS, **batch)
        return sum(
            sum_cross_entropy(model.predict(states, cells, side=side), targets)
            for states, side in ((memory, "encoder"), (hidden, "decoder"))
        )

    exact = loss()
    exact_gradient = gradients(model, exact)
    with torch.autocast("cpu", dtype=dtype):
        low = loss()
    low_gradient = gradients(model, low)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(exact.item(), rel=0.01)
    for name, gradient in low_gradient.items():
        assert gradient.dtype == torch.float32
        difference = (gradient - exact_gradient[name]).norm() / exact_gradient[name].norm()
        assert difference < 0.1, name


def test_the_whole_model_is_one_graph_without_waiting():
    """No data-dependent shape or value on the way, or a meta tensor could not pass."""
    model = build(torch.float32, num_decoder_layers=1).to("meta")
    batch = {name: value.to("meta") for name, value in inputs().items()}
    memory = model.encode(**batch)
    hidden = model.decode(source_hidden=memory, source_lengths=batch["lengths"], **batch)
    logits = model.predict(hidden, torch.arange(4, device="meta"), side="decoder")
    loss = sum_cross_entropy(logits, torch.zeros(4, dtype=torch.int64, device="meta"))
    loss.backward()
    assert loss.shape == ()


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("causal", [False, True])
def test_tracing_breaks_nowhere(causal):
    model, batch = build(torch.float32, num_layers=1), inputs()
    cells = real_cells()

    def logits(batch):
        return model.predict(model.encode(**batch, causal=causal), cells)

    traced = torch.compile(logits, backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(traced(batch), logits(batch))


def test_misuse_is_named():
    config = ModelConfig(dim=8, num_layers=1, num_heads=2, max_positions=4)
    model = Transformer(config, vocab_size=9, num_languages=1, pad_id=2)
    tokens, lengths = torch.full((1, 5), 3), torch.tensor([5])
    with pytest.raises(ConfigError, match="row of 5 tokens.*max_positions 4"):
        model.encode(tokens, lengths)
    hidden = model.encode(tokens[:, :4], lengths - 1)
    with pytest.raises(ConfigError, match="no decoder.*num_decoder_layers"):
        model.decode(tokens[:, :4], lengths - 1, hidden, lengths - 1)
    with pytest.raises(ConfigError, match="no decoder"):
        model.predict(hidden, torch.tensor([0]), side="decoder")
    with pytest.raises(ConfigError, match="padding id 9.*vocabulary of 9"):
        Transformer(config, vocab_size=9, num_languages=1, pad_id=9)
    with pytest.raises(ConfigError, match="0 languages"):
        Transformer(config, vocab_size=9, num_languages=0, pad_id=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnAGraphicsCard:
    def build(self, **fields):
        shape = {"dim": 128, "num_heads": 2, "num_decoder_layers": 1, "feed_forward": 256}
        return build(torch.float32, **shape, **fields).cuda()

    @pytest.mark.parametrize("causal", [False, True])
    def test_values_are_the_processor_s(self, causal):
        model, batch = self.build(), inputs()
        there = {name: value.cuda() for name, value in batch.items()}
        hidden = model.encode(**there, causal=causal)
        decoded = model.decode(source_hidden=hidden, source_lengths=there["lengths"], **there)
        model.cpu()
        expected = model.encode(**batch, causal=causal)
        assert torch.allclose(hidden.cpu(), expected, atol=1e-4, rtol=0)
        expected = model.decode(source_hidden=expected, source_lengths=LENGTHS, **batch)
        assert torch.allclose(decoded.cpu(), expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("padded", [False, True])
    def test_a_training_step_never_waits_for_the_device(self, dtype, padded):
        model = self.build(dropout=0.1, attention_dropout=0.1)
        batch = {name: value.cuda() for name, value in inputs().items()}
        cells = torch.arange(8, device="cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            for causal in (False, True):
                with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
                    memory = model.encode(**batch, causal=causal, padded=padded)
                    hidden = model.decode(
                        source_hidden=memory,
                        source_lengths=batch["lengths"],
                        padded=padded,
                        **batch,
                    )
                    logits = model.predict(hidden, cells, side="decoder")
                loss = sum_cross_entropy(logits, cells)
                loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert loss.isfinite().item()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    def test_compiled_is_one_graph_and_the_same(self):
        model = self.build()
        batch = {name: value.cuda() for name, value in inputs().items()}
        cells = torch.arange(8, device="cuda")

        def logits(batch, cells):
            return model.predict(model.encode(**batch), cells)

        compiled = torch.compile(logits, fullgraph=True, dynamic=False)
        difference = (compiled(batch, cells) - logits(batch, cells)).abs().max()
        assert difference < 1e-4


@pytest.mark.parametrize("fields", [{}, *SHAPES], ids=str)
def test_states_of_cells_alone(fields):
    """An update with dropout, here of a rate that drops nothing, finishes only the cells."""
    model = build(**fields).train()
    given, cells = inputs(), torch.tensor([0, 3, 8, 10, 15, 18, 33])
    sizes, found = [], []
    model.encoder.layers[-1].feed_forward.register_forward_hook(
        lambda _, given, __: sizes.append(tuple(given[0].shape))
    )
    for rate, own in ((0.0, None), (1e-13, cells)):
        model.encoder.dropout = rate
        model.zero_grad()
        states = model.encode(**given, cells=own)
        states = states if own is not None else states.flatten(0, 1)[cells]
        model.cross_entropy(states, None, cells % VOCAB).backward()
        found.append([states, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert sizes == [(ROWS, LENGTH, 16), (len(cells), 16)]
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_states_of_cells_are_the_same_bits_without_dropout():
    model, given = build().train(), inputs()
    cells = torch.tensor([0, 3, 10, 33])
    whole = model.encode(**given)
    for _ in range(2):
        assert torch.equal(model.encode(**given, cells=cells), whole.flatten(0, 1)[cells])
        model.eval()
        model.encoder.dropout = 0.1
