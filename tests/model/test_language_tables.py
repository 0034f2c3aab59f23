"""Further tables of a body: what they compute, and that nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.language_tables import ROLES, folded_symbols, symbol_rows
from xlm.model.transformer import Transformer

ROLES_HERE = (1, 0, 2, 3, 5)
"""End, begin, padding, unknown and mask of the models of this file."""
V, T = 40, 9


def model(**changes: Any) -> Transformer:
    torch.manual_seed(3)
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 12}
    config = ModelConfig(**{**sizes, "dropout": 0.0, "attention_dropout": 0.0, **changes})
    made = Transformer(config, vocab_size=V, num_languages=2, pad_id=2).eval()
    made.roles, made.encoder.begin_id = ROLES_HERE, 0
    return made


def add(made: Transformer, name: str = "ne", **changes: Any) -> None:
    given = {"vocab_size": V, "roles": ROLES_HERE, "own_positions": False, "seed": 0, **changes}
    made.add_table(name, **given)
    made.eval()


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(6, V, (4, T), generator=random)
    tokens[:, 0] = 0
    lengths = torch.tensor([T, T - 1, T, 3])
    for row, length in enumerate(lengths.tolist()):
        tokens[row, length - 1] = 1
        tokens[row, length:] = 2
    return tokens, lengths


def answers(made: Transformer, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """States and logits of every cell."""
    with torch.no_grad():
        hidden = made.encode(tokens, lengths, langs=torch.zeros_like(tokens))
        return hidden, made.predict(hidden, torch.arange(tokens.numel()))


@pytest.mark.parametrize("tied", [True, False])
def test_an_added_table_changes_no_old_tensor_and_no_old_answer(tied: bool) -> None:
    made = model(tied_output=tied)
    tensors = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    before = answers(made, *rows())
    for name in ("ne", "to", "zh-Hans"):
        add(made, name, vocab_size=30)
        after = answers(made, *rows())
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert [n for n in made.encoder.tables] == ["ne", "to", "zh-Hans"]
    assert all(torch.equal(made.state_dict()[name], own) for name, own in tensors.items())
    assert answers(made.reading("to"), *[r.clamp(max=29) for r in rows()])[1].shape == (36, 30)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_permuted_ids_give_equal_answers_bit_for_bit(shared: bool, tied: bool) -> None:
    """L2 is L1 under other ids, and its table is the true one: states and logits are L1's."""
    made = model(tied_output=tied)
    before = answers(made, *rows())
    order = torch.randperm(V, generator=torch.Generator().manual_seed(1))  # new id of each old one
    add(made, roles=[int(order[at]) for at in ROLES_HERE])
    table, own = made.encoder.table("ne"), made.encoder
    with torch.no_grad():
        table.words.weight[order] = own.words.weight
        table.output_bias[order] = own.output_bias
        if table.output_weight is not None and own.output_weight is not None:
            table.output_weight[order] = own.output_weight
        assert table.language is not None and own.languages is not None
        table.language.weight.copy_(own.languages.weight[0])  # type: ignore[union-attr]
    if shared:
        made.share_symbols(ROLES_HERE)
        assert not table.words.weight[int(order[5])].any()
    hidden, logits = answers(made.reading("ne"), order[rows()[0]], rows()[1])
    assert torch.equal(hidden, before[0])
    assert torch.equal(logits[:, order], before[1])
    back = answers(made, *rows())
    assert torch.equal(back[0], before[0]) and torch.equal(back[1], before[1])


def test_reversed_text_with_the_true_positions_is_the_same_text() -> None:
    made = model(language_embeddings=False)
    tokens = rows()[0].clamp(min=6)
    lengths = torch.full((4,), T)
    add(made, own_positions=True)
    table, own = made.encoder.table("ne"), made.encoder
    with torch.no_grad():
        table.words.weight.copy_(own.words.weight)
        table.output_bias.copy_(own.output_bias)
        assert table.positions is not None and own.positions is not None
        table.positions.weight[:T] = own.positions.weight[:T].flip(0)
    before, after = (
        answers(made, tokens, lengths),
        answers(made.reading("ne"), tokens.flip(1), lengths),
    )
    assert (before[0] - after[0].flip(1)).abs().max() <= 1e-5


def test_first_values_depend_on_seed_and_name_alone() -> None:
    one, other = model(), model()
    add(one, "ne")
    add(one, "hi")
    torch.manual_seed(99)
    add(other, "hi")
    for name, tensor in one.encoder.table("hi").state_dict().items():
        assert torch.equal(tensor, other.encoder.table("hi").state_dict()[name]), name
    assert not torch.equal(
        one.encoder.table("ne").words.weight, one.encoder.table("hi").words.weight
    )
    state = torch.random.get_rng_state()
    add(other, "sw")
    assert torch.equal(state, torch.random.get_rng_state())


def test_shared_symbols_get_gradients_of_both_tables_and_rows_none() -> None:
    made = model()
    add(made)
    at = list(ROLES_HERE)
    with torch.no_grad():
        made.encoder.table("ne").words.weight[at] = made.encoder.words.weight[at]
    plain = copy.deepcopy(made)
    made.share_symbols(ROLES_HERE)
    tokens, lengths = rows()
    for one in (made, plain):
        for table in ("", "ne"):
            reading = one.reading(table)
            hidden = reading.encode(tokens, lengths, langs=torch.zeros_like(tokens))
            reading.predict(hidden, torch.arange(12)).logsumexp(1).sum().backward()
    for stack in (made.encoder, made.encoder.table("ne")):
        assert not stack.words.weight.grad[at].any()
        others = [row for row in range(V) if row not in at]
        reference = plain.encoder if stack is made.encoder else plain.encoder.table("ne")
        torch.testing.assert_close(
            stack.words.weight.grad[others], reference.words.weight.grad[others]
        )
    both = [plain.encoder.words, plain.encoder.table("ne").words]
    summed = sum(words.weight.grad[at] for words in both)  # type: ignore[index,misc]
    torch.testing.assert_close(made.encoder.symbols.grad, summed)  # type: ignore[union-attr]


def test_symbols_fold_back_into_every_table() -> None:
    class Ids:
        def __init__(self, roles: tuple[int, ...]):
            for role, at in zip(ROLES, roles, strict=True):
                setattr(self, role, at)

    made = model()
    add(made, roles=(7, 8, 9, 10, 11))
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.share_symbols(ROLES_HERE)
    tokenizers: Any = {"": Ids(ROLES_HERE), "ne": Ids((7, 8, 9, 10, 11))}
    folded = folded_symbols(made.state_dict(), tokenizers)
    assert set(folded) == set(before)
    assert torch.equal(folded["encoder.words.weight"], before["encoder.words.weight"])
    table, own = folded["encoder.tables.ne.words.weight"], before["encoder.words.weight"]
    assert torch.equal(table[[7, 8, 9, 10, 11]], own[list(ROLES_HERE)])


def test_one_symbol_for_two_of_the_model_is_refused() -> None:
    assert symbol_rows((1, 1, 2, 3, 5), (4, 4, 6, 7, 8)) == {1: 0, 2: 1, 3: 2, 5: 3}
    assert symbol_rows((0, 1, 2, 3, 5), (4, 4, 6, 7, 8)) == {0: 0, 1: 0, 2: 1, 3: 2, 5: 3}
    with pytest.raises(ConfigError, match="one symbol for end_id and begin_id"):
        symbol_rows((1, 1, 2, 3, 5), ROLES_HERE)


def test_refusals_name_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="decoder"):
        add(model(num_decoder_layers=1))
    with pytest.raises(ConfigError, match="already has a table ne"):
        made = model()
        add(made)
        add(made)
    with pytest.raises(ConfigError, match="expected learned"):
        add(model(positions="rotary"), own_positions=True)
    with pytest.raises(ConfigError, match="no table hi: it has ne"):
        made.reading("hi")


def test_the_opening_symbol_has_neither_position_nor_segment() -> None:
    made = model(plain_first=True, num_segments=2)
    alone, length = torch.zeros(1, 1, dtype=torch.int64), torch.tensor([1])
    before = answers(made, alone, length)[0]
    inner = answers(made, *rows())[0]
    with torch.no_grad():
        made.encoder.positions.weight.add_(1.0)  # type: ignore[union-attr]
        made.encoder.segments.weight.mul_(-3.0)  # type: ignore[union-attr]
    assert torch.equal(answers(made, alone, length)[0], before)
    assert not torch.allclose(answers(made, *rows())[0], inner)


def test_noise_has_the_variance_of_the_tables_that_are_added() -> None:
    made = model(plain_first=True, num_segments=2, embedding_noise=0.075, embedding_norm=False)
    made.train()
    tokens = torch.zeros(1, 2, dtype=torch.int64).expand(3200, 2)  # 51,200 draws a cell
    with torch.no_grad():
        noise = made.encoder.embed(tokens, None, None) - made.eval().encoder.embed(
            tokens, None, None
        )
    found = noise.var(dim=(0, 2)) / 0.075**2
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0]), rtol=0.03, atol=0.0)
