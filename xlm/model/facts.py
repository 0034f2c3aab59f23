"""The facts of a model that a comparison of models should state beside their scores."""

from __future__ import annotations

from typing import Any

from xlm.model.asking import DIRECTIONS, Askable, layout_of, trained_with

TOKENS_SEEN = "tokens_seen"
"""Key of ``extra``: the real tokens that a run had read, over all processes, at the checkpoint."""


def facts_of(model: Askable) -> dict[str, Any]:
    """Return counts of parameters, shape and training of a model, as JSON.

    ``encoder`` and ``decoder`` count all that a side needs, its table of words among it; a table
    of both sides is in ``encoder`` alone. ``tables`` are the tables of words. ``objectives``,
    ``directions``, ``updates`` and ``tokens_seen`` are empty or None if the model does not say.
    """
    transformer = model.transformer
    shape, decoder = transformer.config, transformer.decoder
    counted = {
        "parameters": sum(p.numel() for p in transformer.parameters()),
        "encoder": sum(p.numel() for p in transformer.encoder.parameters()),
        "decoder": sum(p.numel() for p in decoder.parameters()) if decoder else 0,
        "tables": sum(
            own.numel() for name, own in transformer.named_parameters() if "words." in name
        ),
    }
    facts = {
        **counted,
        "layers": shape.num_layers,
        "decoder_layers": shape.num_decoder_layers,
        "heads": shape.num_heads,
        "width": shape.dim,
        "feed_forward": shape.inner_dim,
        "norm": shape.norm,
        "positions": shape.positions,
        "vocabulary": transformer.vocab_size,
        "languages": sorted(model.languages or model.tokenizer.language_tokens),
        "objectives": trained_with(model),
        "layout": layout_of(model).name if decoder else None,
        "directions": [str(way) for way in model.extra.get(DIRECTIONS) or []],
        "updates": model.extra.get("step"),
        "tokens_seen": model.extra.get(TOKENS_SEEN),
    }
    return facts


def facts_in_words(facts: dict[str, Any]) -> list[str]:
    """Return facts as lines for a person to read."""
    sides = f"encoder {_millions(facts['encoder'])}"
    if facts["decoder"]:
        sides += f", decoder {_millions(facts['decoder'])}"
    numbers = [
        f"{facts['updates']:,} updates" if facts["updates"] is not None else "",
        f"{facts['tokens_seen']:,} tokens" if facts["tokens_seen"] is not None else "",
    ]
    trained = [
        " and ".join(own for own in numbers if own),
        f"of {', '.join(facts['objectives'])}" if facts["objectives"] else "",
    ]
    depth = f"{facts['layers']}"
    if facts["decoder_layers"]:
        depth += f" + {facts['decoder_layers']}"
    said = " ".join(own for own in trained if own)
    return [
        f"{_millions(facts['parameters'])} parameters ({sides}; of these {facts['vocabulary']:,} "
        f"words {_millions(facts['tables'])})",
        f"{depth} layers, {facts['width']} wide, {facts['feed_forward']} inside, "
        f"{facts['heads']} heads, {facts['norm']}-norm",
        *([f"pretrained with {said}"] if said else []),
        *([f"directions: {', '.join(facts['directions'])}"] if facts["directions"] else []),
    ]


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M"
