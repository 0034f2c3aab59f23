"""Fine-tuned models that nobody trained: random bodies of three shapes, with the heads of tasks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from tests.interchange import peers
from xlm.config.cli import to_yaml
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.parsing import Parsing
from xlm.tasks.ranking import Ranking
from xlm.tasks.regression import Regression
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task
from xlm.text.tokenizers.hugging_face import read_hugging_face
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer

LANGUAGES = {"en": 0, "hi": 1, "ne": 2}
FILES = Files(train={"en": "train.tsv"})
LABELS = ["contradiction", "entailment", "neutral"]
TAGS = ["B-PER", "I-PER", "O"]
TASKS: dict[str, Task] = {
    "topic": Classification(files=FILES, labels=LABELS, length=64, rows=4),
    "nli": Classification(files=FILES, labels=LABELS, length=64, rows=4, format="plain-pair"),
    "likeness": Regression(files=FILES, length=64, rows=4, format="plain-pair"),
    "pages": Ranking(files=FILES, labels=["0", "1", "4"], length=64, rows=4),
    "names": Tagging(files=FILES, tags=TAGS, spans=True, length=24, context=8, rows=4),
    "trees": Parsing(
        files=FILES, labels=["root", "nsubj", "obj"], length=64, rows=4, arc_size=8, label_size=6
    ),
    "quiz": Answering(files=FILES, length=40, longest_question=12, stride=10, rows=4),
}
SHAPES = ("xlm", "xlm-roberta", "bert", "roformer", "modernbert")
_OF_BERT = {"language_embeddings": False, "output_transform": True}
_FIELDS: dict[str, dict[str, Any]] = {
    "xlm": {},
    "xlm-roberta": {**_OF_BERT, "num_segments": 1},
    "bert": {**_OF_BERT, "num_segments": 2},
    "roformer": {**_OF_BERT, "num_segments": 2, "positions": "rotary"},
    "modernbert": {"preset": "modernbert-tiny", "feed_forward": 48, "window": 8, "global_every": 2},
}
"""What of a body's shape is an architecture's own."""


@functools.cache
def tokenizer(shape: str) -> Tokenizer:
    """fastBPE, XLM-R's unigram model or (in the other shapes) WordPiece, learnt on the sample."""
    if shape == "xlm":
        return learn_fastbpe_tokenizer(list(peers.lines()), 400)
    if shape == "xlm-roberta":
        return XlmRobertaTokenizer(peers.unigram())
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = peers.write(Path(folder), vocab__txt=peers.wordpieces())
        peers.write(path, tokenizer_config__json={"do_lower_case": False})
        return read_hugging_face(path, vocab_size=700)


def body(shape: str = "xlm", strength: float = 1.0, **changes: Any) -> PretrainedModel:
    """A random model, every parameter away from where it starts.

    With more ``strength`` of the layers the first state depends more on the words behind it.
    """
    sizes: dict[str, Any] = {"dim": 32, "num_layers": 2, "num_heads": 4, "max_positions": 64}
    sizes |= _FIELDS[shape]
    languages = LANGUAGES if shape == "xlm" else {}
    own = tokenizer(shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Transformer(
            ModelConfig(**{**sizes, **changes}),
            vocab_size=own.vocab_size,
            num_languages=len(languages) or 1,
            pad_id=own.pad_id,
        )
    peers.shake(model)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and ".layers." in name:
                value.mul_(strength)
    return PretrainedModel(model.eval(), own, dict(languages))


def tuned(
    *names: str,
    shape: str = "xlm",
    tasks: dict[str, Task] | None = None,
    strength: float = 1.0,
) -> PretrainedModel:
    """A model with the heads of ``TASKS`` of these names, and of other ``tasks``."""
    model = body(shape, strength)
    chosen = {name: TASKS[name] for name in names} | (tasks or {})
    heads: dict[str, torch.Tensor] = {}
    for at, (name, task) in enumerate(chosen.items()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = task.head(model.transformer.config)
        assert head is not None
        peers.shake(head, seed=at + 1)
        heads |= {f"heads.{name}.{own}": tensor for own, tensor in head.state_dict().items()}
    saved = to_yaml({"objectives": chosen})
    return PretrainedModel(model.transformer, model.tokenizer, model.languages, {}, heads, saved)


def kind_of(shape: str, name: str) -> str:
    """What transformers' class for the task of that name has before its last layer."""
    if shape == "modernbert":
        return "transform"
    if name not in ("nli", "likeness", "pages"):
        return "linear"
    return {"xlm": "linear", "roformer": "dense"}.get(shape, "tanh")


def with_readout(name: str, **fields: Any) -> Task:
    """The task of that name with another readout."""
    from dataclasses import replace

    return replace(TASKS[name], readout=Readout(**fields))
