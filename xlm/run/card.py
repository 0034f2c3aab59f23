"""The sections of a model's card that only its run knows: text, held-out figures, recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xlm.config.cli import to_yaml
from xlm.data.streams import Stream
from xlm.errors import DataError
from xlm.run.config import Run
from xlm.training.journal import METRICS, read_metrics

_SHOWN = ("perplexity", "unigram_perplexity", "word_perplexity", "accuracy", "f1", "bleu", "chrf")
"""The figures of the card, in this order, if the run measured them."""


def card_details(
    run: Run, streams: Mapping[str, Iterable[Stream]], folder: Path, step: int
) -> dict[str, str]:
    """Return Markdown by heading; ``step`` is that of the model's weights."""
    details = {"Training text": _text(streams)}
    if figures := _figures(folder, step):
        details["Held-out figures"] = figures
    details["Recipe"] = f"```yaml\n{to_yaml(run).strip()}\n```"
    return details


def _text(streams: Mapping[str, Iterable[Stream]]) -> str:
    rows = [
        [stream.id, f"{stream.text_size.sentences:,}", f"{stream.text_size.tokens:,}"]
        for own in streams.values()
        for stream in own
    ]
    return _table(["stream", "sentences", "subwords"], rows)


def _figures(folder: Path, step: int) -> str:
    """Return the figures of the evaluation at ``step``; "" if there was none."""
    try:
        lines = read_metrics(folder / METRICS) if (folder / METRICS).exists() else []
    except DataError:
        return ""  # the model is no worse for a damaged record
    found = [line for line in lines if line.get("event") == "valid" and line.get("step") == step]
    if not found:
        return ""
    streams: dict[str, dict[str, Any]] = {
        name: own for name, own in found[-1].items() if "/" in name and isinstance(own, dict)
    }
    shown = [name for name in _SHOWN if any(name in own for own in streams.values())]
    rows = [[name, *(_number(own.get(key)) for key in shown)] for name, own in streams.items()]
    return _table(["stream", *(name.replace("_", " ") for name in shown)], rows)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _table(heads: list[str], rows: list[list[str]]) -> str:
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ruler, *rows))
