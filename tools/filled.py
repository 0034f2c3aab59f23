"""Print what a model of the demo puts behind a mask, before and after its training.

    python tools/filled.py RUN

The sentences are held-out text of the sample; before training, a model of the same shape has random
weights.
"""

from __future__ import annotations

import dataclasses
import sys

import torch

import xlm
from xlm.errors import XlmError
from xlm.fill import shown
from xlm.model.fill import Candidate
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer

SENTENCES = {
    "en": ("She borrowed gloves, shovels and jute sacks from ___ ward office.", "the"),
    "hi": ("उनका कहना ___ कि फूल टमाटरों से कीड़ों को दूर रखते हैं।", "है"),
    "ne": ("दुर्गन्ध असह्य थियो, ___ कसैले ठट्टा गरेपछि सबैको गनगन हाँसोमा बिलायो।", "तर"),
}
"""A sentence of each language, and the word that is hidden in it."""
TOP = 4


def untrained(model: PretrainedModel) -> PretrainedModel:
    """Return a model of the same shape with random weights, the same ones at every call."""
    own = model.transformer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = Transformer(
            own.config,
            vocab_size=own.vocab_size,
            num_languages=own.num_languages,
            pad_id=own.pad_id,
        )
    return dataclasses.replace(model, transformer=fresh.eval())


def listed(candidates: list[Candidate]) -> str:
    """Return candidates in a line: text, and the probability in percent."""
    return ", ".join(f"{shown(own)} {own.probability:.1%}" for own in candidates)


def lines(model: PretrainedModel) -> list[str]:
    """Return the lines to print of each sentence."""
    found = []
    before = untrained(model)
    for language, (text, word) in SENTENCES.items():
        found.append(f"{language}: {text}  ({word})")
        for name, own in (("before", before), ("after", model)):
            ((candidates,),) = own.fill([text], language, top=TOP)
            found.append(f"    {name:6} {listed(candidates)}")
    return found


def main(folder: str) -> None:
    """Print the lines of the model in ``folder``."""
    try:
        sys.stdout.write("\n".join(lines(xlm.load(folder))) + "\n")
    except XlmError as error:
        sys.exit(f"filled.py: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
