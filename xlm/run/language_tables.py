"""Languages with a vocabulary of their own in a run: settings, and frozen parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from xlm.config.hints import check_types
from xlm.errors import ConfigError
from xlm.languages import is_language_name
from xlm.model.adapters import AdapterConfig
from xlm.training.learner import Learner

Rule = Literal["random", "copy", "pieces", "focus", "aligned", "mapped", "oracle"]
BODY, WORDS, POSITIONS, SYMBOLS = "body", "words", "positions", "symbols"
HEADS = "heads"
PARTS = (BODY, WORDS, POSITIONS, SYMBOLS, HEADS)
"""Parts of a model that ``frozen`` may name, beside its tables."""
_OF_WORDS = ("words.", "output_bias", "output_weight", "languages.")


@dataclass(frozen=True, kw_only=True)
class LanguageTable:
    """One language's vocabulary, in a body that other languages share."""

    data: str | None = None
    """The folder that `xlm prepare` wrote, with text of this language; null: no text, and the table
    is one of those in initialize.encoder."""
    positions: Literal["shared", "copy", "random"] = "shared"
    """shared: use the model's positions. copy, random: positions for this language alone, which
    start as a copy of the model's or at random (MonoTrans, section 2.2); the model's must be
    learned ones."""

    words: Literal["own", "shared"] = "own"
    """own: words and output of this language alone. shared: those of the model, which stay as they
    are (frozen names words), for a language that its vocabulary covers; adapters learn it."""
    adapters: AdapterConfig | None = None
    """Adapters inside the layers, used for this language only; null: none."""
    start: Rule = "random"
    """Rule for the first rows (``xlm.model.table_starts``). random: drawn (MonoTrans). copy: pieces
    that the model has keep their rows. pieces: the others get the mean of their sub-pieces. focus:
    the others get a mixture of shared pieces, by vectors learned on the text. aligned: by pairs or
    a dictionary, else as focus. mapped: skip-gram vectors, learned on the text and mapped onto the
    model's words (MonoTrans, section 3.1, CLWE). oracle: by a list."""
    pairs: dict[str, list[str]] = field(default_factory=dict)
    """With start aligned: sentences of this language aligned with one of the model's, as xlm
    prepare takes them, such as {en-ne: [train.en, train.ne]}."""
    dictionary: str | None = None
    """With start aligned: a file with a word of this language, a tab (or space) and a word of one
    of the model's on each line."""
    oracle: str | None = None
    """With start oracle: a file with a piece of this vocabulary, a tab and one of the model's
    pieces on each line."""
    shuffled: bool = False
    """Permute the first rows: the control that a start is compared with."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.start == "aligned" and not self.pairs and self.dictionary is None:
            raise ConfigError(
                "start is aligned, which needs translations: give pairs or a dictionary, or "
                "set start to focus"
            )
        if (self.start == "oracle") != (self.oracle is not None):
            raise ConfigError(
                f"start is {self.start} and oracle is {self.oracle}: expected both or neither"
            )
        if self.start != "aligned" and (self.pairs or self.dictionary is not None):
            raise ConfigError(
                f"pairs and a dictionary only apply to start aligned: found {self.start}"
            )
        if self.words == "shared":
            if self.adapters is None:
                raise ConfigError(
                    "words is shared, so adapters are all that could learn the language, and "
                    "there are none: give adapters, or set words to own"
                )
            if self.start not in ("random", "copy") or self.shuffled:
                raise ConfigError(
                    f"words is shared, so no row is started, but start is {self.start}"
                    f"{' and shuffled is true' if self.shuffled else ''}: leave both out"
                )
        if self.shuffled and self.start in ("random", "mapped"):
            raise ConfigError(
                f"shuffled is true, but start is {self.start}, which takes no rows of the model: "
                "there is nothing to permute"
            )


def check_tables(tables: Mapping[str, LanguageTable], frozen: Sequence[str]) -> None:
    """Raise ConfigError for a name that no table may have, and for a part that is not there."""
    for name in tables:
        if not is_language_name(name) or name in PARTS:
            raise ConfigError(
                f"tables.{name}: a table is named after its language, such as ne, and not one of "
                f"{', '.join(PARTS)}"
            )
    shared = [name for name, own in tables.items() if own.words == "shared"]
    if shared and WORDS not in frozen:
        raise ConfigError(
            f"tables.{shared[0]}.words is shared, so the model's words must stay as they are: let "
            "frozen name words, or set tables."
            f"{shared[0]}.words to own"
        )
    if strange := [name for name in frozen if name not in (*PARTS, *tables)]:
        raise ConfigError(
            f"frozen names {', '.join(strange)}: expected some of {', '.join([*PARTS, *tables])}"
        )


def shares_symbols(tables: Mapping[str, LanguageTable], frozen: Sequence[str]) -> bool:
    """Return whether the symbols are a parameter of their own."""
    return bool(tables) or ((WORDS in frozen) != (SYMBOLS in frozen))


def freeze_parts(
    learner: Learner, frozen: Sequence[str], tables: Mapping[str, LanguageTable] | None = None
) -> None:
    """Freeze the named parts of the model, and the words of ``tables`` that share the model's.

    Raises ConfigError for a part that it does not have.
    """
    for table, settings in (tables or {}).items():
        if settings.words == "shared":
            own = learner.model.encoder.table(table)
            for matrix in (own.words.weight, own.output_bias, own.output_weight):
                if matrix is not None:
                    matrix.requires_grad_(False)
    for name, parameter in learner.model.named_parameters():
        if part_of(name) in frozen:
            parameter.requires_grad_(False)
    if HEADS in frozen:
        learner.heads.requires_grad_(False)
    if POSITIONS in frozen and learner.model.encoder.positions is None:
        raise ConfigError(
            f"frozen names positions, and model.positions is {learner.model.config.positions}: "
            "there is no table of them; leave it out"
        )


def part_of(name: str) -> str:
    """Return the part, or the table, that a parameter of the transformer belongs to."""
    side, _, name = name.partition(".")
    if name.startswith("tables."):
        return name.split(".")[1]
    if name in ("symbols", "output_symbols"):
        return SYMBOLS
    if name.startswith("positions."):
        return POSITIONS
    return WORDS if name.startswith(_OF_WORDS) else BODY
