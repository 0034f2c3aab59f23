"""Translators that nobody trained: random encoder-decoders with the sample's tokenizer."""

from __future__ import annotations

from typing import Any

import torch

from tests import tuned
from tests.interchange import peers
from xlm.model.generate import Generation
from xlm.model.pretrained import PretrainedModel
from xlm.text.normalize import normalize

SENTENCES = [line[: 5 + 9 * (at % 9)].strip() for at, line in enumerate(peers.lines()[::7])]
"""Of many lengths and all languages, none empty."""
SHORT = Generation(ratio=0.5, extra=6)


def translator(*, double: bool = True, **changes: Any) -> PretrainedModel:
    """An encoder-decoder of the languages en, hi and ne whose next tokens are far from alike.

    What it says depends on the source, and a row ends early or late.
    """
    model = tuned.body(**{"num_decoder_layers": 2, "strength": 3.0, **changes})
    decoder = model.transformer.decoder
    assert decoder is not None
    with torch.no_grad():
        decoder.words.weight.mul_(3.0)
        decoder.output_bias[model.tokenizer.end_id] += 6.0
    if double:
        model.transformer.double()
    return model


def with_nothing(lines: list[str]) -> list[str]:
    """The lines with empty ones among them: at the third place, the seventh and the last."""
    found = list(lines)
    for at, nothing in ((2, ""), (6, " \u2028\u00a0\t")):
        found.insert(at, nothing)
    return [*found, ""]


def is_nothing(line: str) -> bool:
    return not normalize(line)
