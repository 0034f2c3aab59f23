"""The console script ``xlm``: each verb is an entry module."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from xlm import __version__
from xlm.config.console import console, say
from xlm.errors import clipped

VERBS = {
    "prepare": "learn a vocabulary and binarize text into a folder of corpora",
    "describe": "summarize prepared text, a model or a recipe, with the cost of a training",
    "pretrain": "train a model by a recipe, or resume an interrupted run",
    "evaluate": "measure a run on held-out text, per language",
    "add-language": "teach a model a further language; the rest of it stays the same, bit for bit",
    "plug": "put a language module into a model that descends from the same one",
    "finetune": "fine-tune a model on tasks, and report every language",
    "predict": "write a fine-tuned model's prediction for each line of a file",
    "fill": "write the most probable subwords for the masks of lines",
    "generate": "continue lines with a causal language model, or write lines from nothing",
    "score": "write how well a model expects each line: nats and perplexities",
    "embed": "write a vector for each line",
    "search": "find the lines of an index whose vectors are nearest to those of queries",
    "translate": "translate the lines of a file or of standard input",
    "bleu": "score translations against references, and systems against each other",
    "analyze": "report how the languages of a model relate to each other, beside nulls",
    "reproduce": "repeat a study of the papers on your own text, and write its page",
    "recipes": "list the recipes that ship with xlm, or copy one to edit it",
    "check": "verify prepared text, a run, a model or a recipe: every hash and number",
    "doctor": "look at this machine: versions, devices, back ends, and a check of each",
    "runs": "list the runs below a folder: state, step, best score, last line",
    "import": "bring in a model or binarized data of another library",
    "export": "write a model as a directory of transformers",
}
_MAINS = {
    "add-language": "add_language:main",
    "import": "convert:import_main",
    "export": "convert:export_main",
}
"""Verbs whose entry function is not ``xlm.<verb>.main``."""


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run a verb of ``VERBS`` in this process."""
    module, _, name = _MAINS.get(verb, f"{verb}:main").partition(":")
    getattr(importlib.import_module(f"xlm.{module}"), name)(arguments)


def main() -> None:
    """Run ``xlm VERB ...``."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in VERBS:
        run(verb, sys.argv[2:])
        return
    lines = [f"  {name:12} {what}" for name, what in VERBS.items()]
    usage = "\n".join(
        [
            "usage: xlm VERB [--config RECIPE.yaml] [--FIELD VALUE ...]",
            "",
            *lines,
            "",
            "`xlm VERB --help` explains every field. Train on several GPUs with",
            "`torchrun --nproc_per_node=8 -m xlm.pretrain --config RECIPE.yaml`.",
        ]
    )
    if verb in ("-h", "--help", "--version"):
        with console():
            say(f"xlm {__version__}" if verb == "--version" else usage)
        return
    close = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    sys.stderr.write(
        f"xlm: unknown verb {clipped(repr(verb))}: expected one of {', '.join(VERBS)}{hint}\n"
    )
    raise SystemExit(2)


if __name__ == "__main__":
    main()
