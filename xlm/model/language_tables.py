"""The tables of further languages in a body that stays as it is (MonoTrans, Artetxe et al. 2020).

    words, output bias        always
    output matrix             if the model's is not its words
    positions                 if the language has its own
    language                  one vector, if the model has a table of languages
    adapters                  at will (``xlm.model.adapters``)

``Stack.reading`` puts them in place. The *symbols* (``ROLES``) belong to no table: while a model
with further tables trains, they are a parameter of the stack, and the rows that they have in each
table are zeros, which nothing reads and no optimizer moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xlm.errors import ConfigError
from xlm.model.adapters import AdapterConfig, Adapters
from xlm.model.config import ModelConfig
from xlm.text.tokenizers.tokenizer import Tokenizer

ROLES = ("end_id", "begin_id", "pad_id", "unk_id", "mask_id")
"""The symbols that every tokenizer has, by the names of their ids."""
SYMBOLS, OUTPUT_SYMBOLS = "symbols", "output_symbols"
"""Names of the parameters that hold the symbols' rows while a model trains."""
SHARED = {"words.weight": SYMBOLS, "output_weight": OUTPUT_SYMBOLS}
"""The parameter that holds the symbols' rows of each tensor of a table."""

OF_VOCABULARY = ("words.weight", "output_weight", "output_bias")
"""Names of the tensors that have a row a piece."""


class OneLanguage(nn.Module):
    """The vector of a table's only language, in the place of a table of languages."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, langs: Tensor) -> Tensor:
        """Return the vector ``[D]`` for int64 ids of any shape, which do not matter."""
        return self.weight


class Table(nn.Module):
    """The parameters of one further language; ``roles`` are the ids of ``ROLES`` in its words."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocab_size: int,
        roles: Sequence[int],
        with_language: bool,
        own_positions: bool,
        adapters: AdapterConfig | None = None,
    ):
        super().__init__()
        self.roles = tuple(roles)
        pad_id = self.roles[ROLES.index("pad_id")]
        self.words = nn.Embedding(vocab_size, config.word_width, padding_idx=pad_id)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))
        self.output_weight = None
        if not config.tied_output:
            self.output_weight = nn.Parameter(torch.zeros(vocab_size, config.dim))
        self.positions = None
        if own_positions:
            if config.positions != "learned":
                raise ConfigError(
                    "a table has its own positions, but model.positions is "
                    f"{config.positions}: expected learned; leave positions out (shared)"
                )
            self.positions = nn.Embedding(config.max_positions, config.dim)
        self.language = OneLanguage(config.dim) if with_language else None
        self.adapters = None
        if adapters is not None:
            self.adapters = Adapters(config.dim, config.num_layers, adapters)


def has_words_of(table: Table, stack: nn.Module) -> bool:
    """Return whether a table's words and output are equal to those of a stack, bit for bit."""
    here, there = table.state_dict(), stack.state_dict()
    return all(torch.equal(here[name], there[name]) for name in OF_VOCABULARY if name in here)


class Symbols:
    """The rows of the shared symbols in one table.

    ``ids`` int64 ``[K]`` are rows of the table, ``rows`` int64 ``[K]`` those of the shared
    parameter, ``place`` int64 ``[V]`` the row of the parameter of each id, -1 for other pieces.
    """

    def __init__(self, roles: Sequence[int], model_roles: Sequence[int], vocab_size: int):
        pairs = symbol_rows(roles, model_roles)
        self.ids = torch.tensor(list(pairs))
        self.rows = torch.tensor(list(pairs.values()))
        self.place = torch.full((vocab_size,), -1)
        self.place[self.ids] = self.rows

    def to(self, device: torch.device) -> Symbols:
        """Return the same on a device."""
        if self.ids.device == device:
            return self
        same = object.__new__(Symbols)
        same.ids, same.rows = self.ids.to(device), self.rows.to(device)
        same.place = self.place.to(device)
        return same


def roles_of(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids of ``ROLES``."""
    return tuple(int(getattr(tokenizer, role)) for role in ROLES)


def layout_of(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the numbers that decide how ``wrap`` lays rows out."""
    return {
        "begins_with_end": int(tokenizer.begin_id == tokenizer.end_id),
        "num_separators": int(tokenizer.num_separators),
        "begins_again": int(tokenizer.begins_again),
    }


def check_layouts(name: str, new: Tokenizer, model: Tokenizer) -> None:
    """Raise ConfigError if a language's tokenizer lays rows out differently than the model's."""
    here, there = layout_of(new), layout_of(model)
    if wrong := [setting for setting in here if here[setting] != there[setting]]:
        raise ConfigError(
            f"the vocabulary of {name} has {wrong[0]} {here[wrong[0]]}, but the model's has "
            f"{there[wrong[0]]}: learn it with the model's layout, as xlm add-language does"
        )


def symbol_rows(roles: Sequence[int], model_roles: Sequence[int]) -> dict[int, int]:
    """Return the row among the shared symbols of each id that has a role.

    The rows are the different ids of the model's own table, in the order of ``ROLES``. Raises
    ConfigError if one id of the table has two roles that are two symbols in the model.
    """
    rows = {at: row for row, at in enumerate(dict.fromkeys(model_roles))}
    found: dict[int, int] = {}
    for role, at, own in zip(ROLES, roles, model_roles, strict=True):
        if found.setdefault(at, rows[own]) != rows[own]:
            others = [name for name, id in zip(ROLES, roles, strict=True) if id == at]
            raise ConfigError(
                f"the new vocabulary uses one symbol for {' and '.join(others)}, but the "
                f"model has two: learn it with the model's symbols (begin and end: {role})"
            )
    return found


def folded_symbols(
    tensors: Mapping[str, Tensor], tokenizers: Mapping[str, Tokenizer]
) -> dict[str, Tensor]:
    """Return a transformer's tensors with the shared symbols back in the rows of each table.

    ``tokenizers`` are those of the tables, "" the model's own. Without shared symbols the tensors
    are the same.
    """
    folded = dict(tensors)
    for part, parameter in SHARED.items():
        symbols = folded.pop(f"encoder.{parameter}", None)
        if symbols is None:
            continue
        for name, tokenizer in tokenizers.items():
            where = f"encoder.tables.{name}.{part}" if name else f"encoder.{part}"
            rows = symbol_rows(roles_of(tokenizer), roles_of(tokenizers[""]))
            table = folded[where].clone()
            table[list(rows)] = symbols[list(rows.values())].to(table)
            folded[where] = table
    return folded
