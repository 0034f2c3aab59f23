"""The README.md of a model directory: a card with everything that is known of the model.

It is no part of the directory's sums, so that people may complete it: the license, above all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlm.errors import CheckpointError
from xlm.model.asking import OBJECTIVES
from xlm.model.transformer import Transformer
from xlm.storage import write_whole
from xlm.text.tokenizers.tokenizer import Tokenizer

CARD = "README.md"
MARK = (
    "<!-- Written by xlm. Remove this line when you edit the card: it is then kept if the model is "
    "written again. -->"
)
_TO_FILL_IN = {
    "License": "Fill in the license of the model, and those of the texts that it was trained on.",
    "Limits": (
        "The model repeats what its training text says, mistakes and prejudices included. Fill in "
        "what it should not be used for."
    ),
}


def write_card(
    folder: Path,
    transformer: Transformer,
    tokenizer: Tokenizer,
    languages: Mapping[str, int],
    extra: Mapping[str, Any],
    details: Mapping[str, str],
) -> None:
    """Write the card of a model, unless somebody has made one their own.

    ``details`` gives further sections, Markdown by heading. Raises CheckpointError if the disk
    refuses.
    """
    path = folder / CARD
    if path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        return
    names = list(languages) or list(extra.get("languages") or {})
    text = [*_front_matter(names), MARK, "", "# Model card", ""]
    text += [f"- {line}" for line in _facts(transformer, tokenizer, names, extra)]
    for heading, own in {**details, "Use": _use(names, languages), **_TO_FILL_IN}.items():
        text += ["", f"## {heading}", "", own.strip()]
    write_whole(path, "\n".join(text) + "\n", error=CheckpointError)


def _front_matter(names: list[str]) -> list[str]:
    listed = [f"- {name}" for name in names]
    return [
        "---", *(["language:", *listed] if listed else []), "library_name: xlm-pretrain",
        "license: unknown", "tags:", "- cross-lingual", "---",
    ]  # fmt: skip


def _facts(
    transformer: Transformer, tokenizer: Tokenizer, names: list[str], extra: Mapping[str, Any]
) -> list[str]:
    config = transformer.config
    num = sum(parameter.numel() for parameter in transformer.parameters())
    decoder = f", a decoder of {config.num_decoder_layers}" if config.num_decoder_layers else ""
    kind = type(tokenizer).__name__.removesuffix("Tokenizer")
    facts = [
        f"Languages: {', '.join(names) or 'not told apart'}",
        f"Shape: {config.num_layers} layers{decoder}, {config.dim} wide, {config.num_heads} heads, "
        f"{config.max_positions} positions; {num:,} parameters",
        f"Vocabulary: {tokenizer.vocab_size:,} subwords ({kind})",
    ]
    if objectives := extra.get(OBJECTIVES):
        facts.append(f"Objectives: {', '.join(map(str, objectives))}")
    if "step" in extra:
        averaged = ", averaged weights" if extra.get("averaged") else ""
        facts.append(f"Updates: {extra['step']:,}{averaged}")
    return facts


def _use(names: list[str], languages: Mapping[str, int]) -> str:
    language = f', "{names[0]}"' if languages else ""
    return (
        "```python\nimport xlm\n\n"
        'model = xlm.load("this folder")\n'
        f'vectors = model.embed(["A sentence."]{language})\n```'
    )
