"""Readouts: what is on the encoder, against numpy, row by row."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.tasks import toys
from tests.tuned import TASKS
from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.tasks.heads import Reader, Readout, SentenceHead, WordHead, pool

LENGTHS = (7, 3, 1, 5)


def network(**changes):
    torch.manual_seed(0)
    shape = toys.config(**changes)
    model = Transformer(shape, vocab_size=60, num_languages=2, pad_id=2).double()
    with torch.no_grad():  # away from where it starts, biases and norms too
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), shape


def batch(lengths=LENGTHS, pad_to=9, seed=1):
    """Rows of random tokens; three cells to predict."""
    random = np.random.default_rng(seed)
    tokens = torch.full((len(lengths), pad_to), 2)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.from_numpy(random.integers(14, 60, length))
    return Batch(
        tokens=tokens,
        positions=torch.arange(pad_to).repeat(len(lengths), 1),
        langs=torch.ones_like(tokens),
        segments=torch.zeros_like(tokens),
        lengths=torch.tensor(lengths),
        rows=torch.arange(len(lengths)),
        predict=torch.tensor([2, pad_to + 1, 0]),
        targets=torch.zeros(3, dtype=torch.int64),
    )


def rows_of(whole):
    """Each row in a batch of its own, without padding."""
    for row, length in enumerate(whole.lengths.tolist()):
        part = (slice(row, row + 1), slice(0, length))
        yield Batch(
            tokens=whole.tokens[part], positions=whole.positions[part], langs=whole.langs[part],
            segments=whole.segments[part], lengths=whole.lengths[row : row + 1],
            rows=whole.rows[row : row + 1], predict=torch.tensor([0]), targets=torch.tensor([0]),
        )  # fmt: skip


def made(cls, readout, shape, outputs=3):
    torch.manual_seed(3)
    head = cls(readout, shape, outputs).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


KINDS = {
    "linear": Readout(),
    "mean": Readout(pooling="mean"),
    "tanh": Readout(kind="tanh", pooling="first"),
    "tanh max": Readout(kind="tanh", pooling="max"),
    "dense": Readout(kind="dense"),
    "transform": Readout(kind="transform", pooling="mean"),
    "mmte": Readout(kind="feed-forward", pooling="max", size=11),
    "features": Readout(features=True, lstm_size=5),
    "features mean": Readout(features=True, pooling="mean", kind="feed-forward"),
    "causal": Readout(causal=True, pooling="mean"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_row_reads_alone_as_it_does_in_a_padded_batch(name):
    model, shape = network()
    whole = batch()
    head = made(SentenceHead, KINDS[name], shape).eval()
    found = head(model, whole)
    assert found.shape == (4, 3) and len({tuple(row) for row in found.tolist()}) == 4
    for row, single in enumerate(rows_of(whole)):
        assert torch.allclose(head(model, single)[0], found[row], rtol=0, atol=1e-12)


def test_the_defaults_are_one_linear_layer_on_the_first_state():
    model, shape = network()
    whole = batch()
    head = made(SentenceHead, Readout(), shape).eval()
    names = [name for name, _ in head.named_parameters()]
    assert names == ["output.weight", "output.bias"] and head.dropout.p == 0.1
    for row, length in enumerate(LENGTHS):
        states = toys.alone(model, whole.tokens[row, :length].tolist(), language=1)
        assert np.allclose(linear(head.output, states[0]), head(model, whole)[row].detach())


def test_tanh_is_the_head_of_xlm_r_and_bert():
    model, shape = network()
    head = made(SentenceHead, Readout(kind="tanh", dropout=0.4), shape).eval()
    drops = [module.p for module in head.modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.4, 0.4]
    (dense,) = [module for module in head.after if isinstance(module, nn.Linear)]
    for row, length in enumerate(LENGTHS):
        states = toys.alone(model, batch().tokens[row, :length].tolist(), language=1)
        expected = linear(head.output, np.tanh(linear(dense, states[0])))
        assert np.allclose(expected, head(model, batch())[row].detach())


def test_mmte_is_a_layer_a_maximum_and_a_layer():
    """Before the maximum padding is no zero any more: the layer has a bias."""
    model, shape = network()
    readout = Readout(kind="feed-forward", pooling="max", size=11)
    head = made(SentenceHead, readout, shape).eval()
    assert head.before[0].weight.shape == (11, 16) and head.after[0].weight.shape == (11, 11)
    for row, length in enumerate(LENGTHS):
        states = toys.alone(model, batch().tokens[row, :length].tolist(), language=1)
        hidden = np.maximum(linear(head.before[0], states), 0).max(0)
        expected = linear(head.output, np.maximum(linear(head.after[0], hidden), 0))
        assert np.allclose(expected, head(model, batch())[row].detach())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5).flatmap(
    lambda num: st.tuples(st.lists(st.integers(1, 8), min_size=num, max_size=num),
                          st.integers(0, 2**31))
))  # fmt: skip
def test_pooling_never_looks_at_padding(drawn):
    lengths, seed = drawn
    random = np.random.default_rng(seed)
    states = random.normal(size=(len(lengths), 8, 4))
    for row, length in enumerate(lengths):
        states[row, length:] = random.choice([1e6, -1e6])
    tensor, sizes = torch.from_numpy(states), torch.tensor(lengths)
    for row, length in enumerate(lengths):
        real = states[row, :length]
        for pooling, expected in (("first", real[0]), ("max", real.max(0)), ("mean", real.mean(0))):
            assert np.allclose(pool(tensor, sizes, pooling)[row], expected)


# Words.


def gelu(x):
    return x * np.vectorize(math.erf)(x / math.sqrt(2)) / 2 + x / 2


def normalized(layer, x):
    return linear_like(layer, (x - x.mean()) / np.sqrt(x.var() + layer.eps))


def linear_like(layer, x):
    return x * layer.weight.detach().numpy() + layer.bias.detach().numpy()


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("kind", ["dense", "transform"])
def test_heads_of_roformer_and_modernbert(kind, pooling):
    """A layer with the model's activation, which ModernBERT normalizes."""
    model, shape = network()
    head = made(SentenceHead, Readout(kind=kind, pooling=pooling), shape).eval()
    dense = head.after.dense if kind == "transform" else head.after[1]
    for row, length in enumerate(LENGTHS):
        states = toys.alone(model, batch().tokens[row, :length].tolist(), language=1)
        hidden = gelu(linear(dense, states[0] if pooling == "first" else states.mean(0)))
        if kind == "transform":
            hidden = normalized(head.after.norm, hidden)
        expected = linear(head.output, hidden)
        assert np.allclose(expected, head(model, batch())[row].detach())


def test_a_transform_is_as_wide_as_the_model():
    with pytest.raises(ConfigError, match="readout.kind is transform, .*readout.features"):
        Readout(kind="transform", features=True)


@pytest.mark.parametrize("kind", ["linear", "tanh", "dense", "transform", "feed-forward"])
def test_words_are_read_at_their_cells(kind):
    model, shape = network()
    whole = batch()
    head = made(WordHead, Readout(kind=kind, size=13), shape, outputs=5).eval()
    found = head(model, whole)
    assert found.shape == (3, 5)
    for cell, scores in zip(whole.predict.tolist(), found, strict=True):
        row, place = divmod(cell, 9)
        x = toys.alone(model, whole.tokens[row, : LENGTHS[row]].tolist(), language=1)[place]
        if kind == "transform":
            x = normalized(head.hidden.norm, gelu(linear(head.hidden.dense, x)))
        elif kind != "linear":
            x = linear(head.hidden[0], x)
            x = {"tanh": np.tanh, "dense": gelu}.get(kind, lambda x: np.maximum(x, 0))(x)
            assert len(x) == (13 if kind == "feed-forward" else 16)
        assert np.allclose(linear(head.output, x), scores.detach())


# Features.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def one_direction(weights, suffix, x):
    """An LSTM over ``[T, D]`` by its equations; gates in torch's order."""
    w, u, b, c = (
        weights[f"{part}_{suffix}"].detach().numpy()
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = cell = np.zeros(u.shape[1])
    found = []
    for step in x:
        i, f, g, o = np.split(w @ step + b + u @ hidden + c, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        found.append(hidden)
    return np.array(found)


def test_features_are_a_mix_of_all_layers_through_two_layers_of_an_lstm():
    model, shape = network()
    torch.manual_seed(3)
    reader = Reader(Readout(features=True, lstm_size=5), shape).double()
    assert reader.width == 10 and reader.mix.shape == (3,) and reader.scale.item() == 1
    assert len(set(reader.mix.tolist())) == 1, "at the start all layers weigh the same"
    whole = batch()
    for mix in ((0.0, 0.0, 0.0), (1.0, -2.0, 0.5)):
        with torch.no_grad():
            reader.mix.copy_(torch.tensor(mix))
            reader.scale.fill_(1 + abs(mix[0]))
        shares = np.exp(mix) / np.exp(mix).sum()
        found = reader(model, whole)
        for row, single in enumerate(rows_of(whole)):
            inputs = (single.tokens, single.lengths, single.positions, single.langs)
            layers = [layer[0].detach().numpy() for layer in model.encode_layers(*inputs)]
            assert len(layers) == 3
            x = (1 + abs(mix[0])) * sum(s * layer for s, layer in zip(shares, layers, strict=True))
            weights = dict(reader.lstm.named_parameters())
            for layer in ("l0", "l1"):
                there = one_direction(weights, layer, x)
                back = one_direction(weights, f"{layer}_reverse", x[::-1])[::-1]
                x = np.concatenate([there, back], axis=1)
            assert np.allclose(x, found[row, : len(x)].detach(), atol=1e-12)
            assert not found[row, len(x) :].any()


def test_features_are_pooled_by_the_maximum_unless_told():
    _, shape = network()
    poolings = {
        (features, pooling): SentenceHead(Readout(features=features, pooling=pooling), shape, 2)
        for features in (False, True)
        for pooling in (None, "first", "mean")
    }
    assert {key: head.pooling for key, head in poolings.items()} == {
        (False, None): "first", (False, "first"): "first", (False, "mean"): "mean",
        (True, None): "max", (True, "first"): "first", (True, "mean"): "mean",
    }  # fmt: skip
    assert Reader(Readout(features=True), shape).width == 16


def test_a_frozen_encoder_is_the_same_after_updates():
    model, shape = network(dropout=0.5, embedding_noise=0.5)
    head = made(SentenceHead, Readout(features=True, dropout=0.0), shape)
    model.train()
    head.train()
    before = copy.deepcopy(model.state_dict())
    start = copy.deepcopy(head.state_dict())
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=0.1)
    assert head(model, batch()).equal(head(model, batch())), "no dropout and no noise in it"
    for _ in range(3):
        head(model, batch()).square().sum().backward()
        optimizer.step()
    assert model.training and all(module.training for module in model.modules())
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(tensor.equal(start[name]) for name, tensor in head.state_dict().items())


# Causality and noise.


@pytest.mark.parametrize("features", [False, True])
def test_a_causal_reading_sees_nothing_of_what_comes_later(features):
    model, shape = network()
    one, other = batch(seed=1), batch(seed=2)
    other.tokens[:, 0] = one.tokens[:, 0]
    for causal in (True, False):
        torch.manual_seed(0)
        reader = Reader(Readout(causal=causal, features=features), shape).double()
        if features:  # the LSTM reads both ways: look before it
            reader.lstm.forward = lambda packed: (packed, None)
        firsts = [reader(model, given)[:, 0] for given in (one, other)]
        same = [torch.allclose(a, b) for a, b in zip(*firsts, strict=True)]
        assert same == [causal or length == 1 for length in LENGTHS]


@pytest.mark.parametrize(("num_segments", "num_tables"), [(0, 2), (2, 3)])
def test_noise_on_embeddings_is_in_training_alone(num_segments, num_tables):
    """Independent on each table's row, so that the variances add."""
    model, _ = network(embedding_noise=0.075, num_segments=num_segments, dim=64)
    stack = model.encoder
    stack.embedding_norm = nn.Identity()
    tokens = torch.full((40, 30), 20)
    segments = torch.zeros_like(tokens)
    plain = stack.embed(tokens, None, None, segments)
    assert plain.equal(stack.embed(tokens, None, None, segments))
    stack.train()
    noise = (stack.embed(tokens, None, None, segments) - plain).detach().numpy()
    expected = 0.075 * num_tables**0.5
    num = noise.size  # 76,800 cells: the deviation of a standard deviation is sigma / sqrt(2 n)
    assert abs(noise.std() - expected) < 5 * expected / (2 * num) ** 0.5
    assert abs(noise.mean()) < 5 * expected / num**0.5
    across = np.corrcoef(noise.reshape(-1, 64), rowvar=False)
    assert np.abs(across - np.eye(64)).max() < 0.15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "readout.size must be at least 1: found 0"),
        ({"lstm_size": -1}, "readout.lstm_size must be at least 0: found -1"),
        ({"lstm_size": 4}, "readout.lstm_size is 4, but it only applies with readout.features"),
        ({"dropout": 1.0}, r"readout.dropout must be in \[0, 1\): found 1.0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Readout(**settings)


@pytest.mark.parametrize("task", ["names", "trees", "quiz"])
def test_a_readout_that_a_task_would_not_listen_to_is_refused(task):
    with pytest.raises(ConfigError, match="readout.pooling is max, .* pools nothing: leave it out"):
        dataclasses.replace(TASKS[task], readout=Readout(pooling="max"))
    if task == "names":
        assert dataclasses.replace(TASKS[task], readout=Readout(kind="tanh")).readout.kind == "tanh"
        return
    with pytest.raises(ConfigError, match="readout.kind is tanh, .* its own scorer"):
        dataclasses.replace(TASKS[task], readout=Readout(kind="tanh"))
