"""Layouts of translation: the special tokens in the rows of encoder and decoder.

``B`` opens and ``E`` closes as the tokenizer says, ``[s]`` and ``[t]`` are the tokens of the
source's and the target's language.

layout         encoder reads            decoder reads -> predicts
xlm            B s E                    B t -> t E
target         [t] s E                  E t -> t E        (Siddhant et al. 2020, section 2.2)
target-apart   B s E, and [t] apart     E t -> t E        (the same, section 4)
decoder        B s E                    [t] t -> t E
mbart          s E [s]                  [t] t -> t E      (mBART-25, Liu et al. 2020)
source-first   [s] s E                  E [t] t -> t E    (mBART-50, M2M-100, NLLB; [t] is forced)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xlm.errors import ConfigError
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

LayoutName = Literal["xlm", "target", "target-apart", "decoder", "mbart", "source-first"]

_Symbol = Literal["B", "E", "[s]", "[t]"]
MOST_SHOWN = 12
"""Ids of a row that an example shows."""


@dataclass(frozen=True)
class TranslationLayout:
    """The special tokens around the sentences of an encoder-decoder.

    Denoising has one language: ``[s]`` and ``[t]`` are the same token there.
    """

    name: LayoutName
    source_opens: tuple[_Symbol, ...]
    """Symbols before the sentence in the encoder's row."""
    source_closes: tuple[_Symbol, ...]
    """Symbols behind it; with those before it there are two in every layout."""
    target_opens: tuple[_Symbol, ...]
    """Symbols before the sentence in the decoder's row: none of them is predicted."""
    apart: bool = False
    """True if the encoder also reads ``[t]`` alone, as a row of its own."""

    @property
    def has_tokens(self) -> bool:
        """True if the tokenizer must have language tokens."""
        return self.name != "xlm"

    @property
    def num_opening(self) -> int:
        """Number of ids that the decoder is given before it predicts, 1 or 2."""
        return len(self.target_opens)

    @property
    def names_source(self) -> bool:
        """True if the token of the source's language is in the rows."""
        return "[s]" in (*self.source_opens, *self.source_closes)

    def placed(self, source: str, target: str) -> list[str]:
        """Return the languages whose tokens the rows of a direction have."""
        own = [source] * self.names_source
        return [*own, target] if self.has_tokens else own

    def check(self, tokenizer: Tokenizer, languages: Iterable[str]) -> None:
        """Raise ConfigError if a language, whose token the layout places, has none."""
        if not self.has_tokens:
            return
        having = tokenizer.language_tokens
        if not having:
            raise ConfigError(
                f"layout is {self.name}, which needs language tokens, but the tokenizer has "
                "none: prepare the text with vocabulary.language_tokens true, or use layout "
                "xlm"
            )
        if missing := sorted(set(languages) - set(having)):
            raise ConfigError(
                f"layout is {self.name}, but the tokenizer has no token for "
                f"{', '.join(missing)}, only for {', '.join(having)}: name the others in "
                "vocabulary.language_tokens"
            )

    def source_row(self, tokenizer: Tokenizer, ids: Ids, source: str, target: str) -> Wrapped:
        """Return the encoder's row for a sentence of ``source`` to be written in ``target``."""
        opens = _symbols(self.source_opens, tokenizer, source, target)
        closes = _symbols(self.source_closes, tokenizer, source, target)
        return _row(opens, ids, closes)

    def apart_row(self, tokenizer: Tokenizer, target: str) -> Wrapped | None:
        """Return the row of one token that the encoder reads apart; None if there is none."""
        if not self.apart:
            return None
        return _row([tokenizer.language_tokens[target]], np.zeros(0, dtype=np.int64), [])

    def opening(self, tokenizer: Tokenizer, target: str) -> list[int]:
        """Return the ids that the decoder is given before it predicts."""
        return _symbols(self.target_opens, tokenizer, target, target)

    def target_row(self, tokenizer: Tokenizer, ids: Ids, target: str) -> Wrapped:
        """Return what the decoder reads and, one place on, predicts: ``opening``, ids, ``E``."""
        return _row(self.opening(tokenizer, target), ids, [tokenizer.end_id])


LAYOUTS = {
    layout.name: layout
    for layout in (
        TranslationLayout("xlm", ("B",), ("E",), ("B",)),
        TranslationLayout("target", ("[t]",), ("E",), ("E",)),
        TranslationLayout("target-apart", ("B",), ("E",), ("E",), apart=True),
        TranslationLayout("decoder", ("B",), ("E",), ("[t]",)),
        TranslationLayout("mbart", (), ("E", "[s]"), ("[t]",)),
        TranslationLayout("source-first", ("[s]",), ("E",), ("E", "[t]")),
    )
}


def layout_named(name: LayoutName | None) -> TranslationLayout:
    """Return the layout of a name; None is that of XLM."""
    return LAYOUTS[name or "xlm"]


def _symbols(
    symbols: Sequence[_Symbol], tokenizer: Tokenizer, source: str, target: str
) -> list[int]:
    tokens = tokenizer.language_tokens
    return [
        tokenizer.begin_id if symbol == "B"
        else tokenizer.end_id if symbol == "E"
        else tokens[source if symbol == "[s]" else target]
        for symbol in symbols
    ]  # fmt: skip


def _row(opens: Sequence[int], ids: Ids, closes: Sequence[int]) -> Wrapped:
    parts = [np.array(part, dtype=np.int64) for part in (opens, ids, closes)]
    tokens = np.concatenate(parts)
    return Wrapped(tokens, np.arange(len(tokens)), np.zeros(len(tokens), dtype=np.int64))


def shown(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return a row's ids with their pieces, such as ``8001 <2hi>, 17 ▁the, 1 </s>``.

    Of a long row the first and the last.
    """
    pieces = getattr(tokenizer, "pieces", None)
    cells = [f"{at} {pieces[at]}" if pieces is not None else str(at) for at in map(int, ids)]
    if len(cells) > MOST_SHOWN:
        cells = [*cells[: MOST_SHOWN - 4], "...", *cells[-3:]]
    return ", ".join(cells)
