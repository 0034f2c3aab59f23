"""XLM-R, RoBERTa and CamemBERT in transformers' format, both ways.

Their positions start after the padding id, their tokenizers give no token types, and their head is
dense, GELU, normalization (Liu et al. 2019; Conneau et al. 2020).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from xlm.errors import ConfigError
from xlm.interchange.transformers.encoder import Family, Kind, check_shape, read_model, write_model
from xlm.interchange.transformers.encoder_names import HeadNames
from xlm.interchange.transformers.files import read_config
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.hugging_face import HuggingFaceTokenizer, read_hugging_face
from xlm.text.tokenizers.hugging_face_files import SOURCE_FILE
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.xlm_roberta import (
    MODEL_FILE,
    XlmRobertaTokenizer,
    from_sentencepiece,
    in_own_order,
    read_xlm_roberta,
)

XLM_ROBERTA = "xlm-roberta"
MERGED = (
    "pairs: an XLM-R tokenizer lays them out as <s> a </s></s> b </s>, the model's own tasks with "
    "one symbol between the two"
)
ENDS = (
    "the row of <s>, which no text of ours has: <s> and </s> both are our end symbol, which the "
    "output therefore has twice"
)


def _read_tokenizer(folder: Path, vocab_size: int) -> Kind:
    """Return XLM-R's SentencePiece model if it is the whole tokenizer, else tokenizer.json."""
    config = read_config(folder)
    # CamemBERT's file of the same name has other ids
    if config["model_type"] != XLM_ROBERTA or not (folder / MODEL_FILE).exists():
        return read_hugging_face(folder, vocab_size=vocab_size)
    tokenizer = read_xlm_roberta(folder, vocab_size=vocab_size)
    if (folder / SOURCE_FILE).exists():
        other = read_hugging_face(folder, vocab_size=vocab_size)
        if other.pieces != tokenizer.pieces:  # tokens were added to it
            return other
    return tokenizer


FAMILY = Family(
    name="XLM-R",
    model_types=(XLM_ROBERTA, "roberta", "camembert"),
    prefix="roberta.",
    masked={
        XLM_ROBERTA: "XLMRobertaForMaskedLM",
        "roberta": "RobertaForMaskedLM",
        "camembert": "CamembertForMaskedLM",
    },
    bare={
        XLM_ROBERTA: "XLMRobertaModel",
        "roberta": "RobertaModel",
        "camembert": "CamembertModel",
    },
    head=HeadNames(
        dense="lm_head.dense",
        norm="lm_head.layer_norm",
        bias="lm_head.bias",
        output="lm_head.decoder.weight",
        output_bias="lm_head.decoder.bias",
    ),
    positions_after_padding=True,
    head_activation="gelu",
    pad_id=1,
    read_tokenizer=_read_tokenizer,
)


def read_transformers_roberta(folder: str | Path) -> PretrainedModel:
    """Return an XLM-R, RoBERTa or CamemBERT model with any head, and its tokenizer.

    Row pad + 1 of its positions is our row 0; of its token types only the row that its tokenizer
    uses is kept. ``extra["lost"]`` lists everything that was left out. Raises CheckpointError and
    DataError.
    """
    return read_model(folder, FAMILY)


def write_transformers_roberta(model: PretrainedModel, folder: str | Path) -> list[str]:
    """Write a folder for ``AutoModelForMaskedLM`` and ``AutoTokenizer``.

    Returns a line for each thing that is lost. A model with our unigram tokenizer is renumbered as
    XLM-R (see ``as_xlm_roberta``). Raises ConfigError for a shape or a tokenizer that XLM-R has no
    place for.
    """
    lost = []
    if isinstance(model.tokenizer, SentencePieceTokenizer):
        lost += [MERGED, ENDS]
    ready = as_xlm_roberta(model)
    kind = ready.extra.get("model_type")
    if kind not in FAMILY.model_types:
        kind = XLM_ROBERTA
        if isinstance(ready.tokenizer, HuggingFaceTokenizer):
            kind = "roberta"
    return lost + write_model(ready, folder, FAMILY, kind, num_segments=1)


def as_xlm_roberta(model: PretrainedModel) -> PretrainedModel:
    """Return the same model with a tokenizer that XLM-R can have, renumbered if it has our own.

    Renumbered rows are in XLM-R's order, with our end symbol for both ``<s>`` and ``</s>``; hidden
    states do not change. Raises ConfigError for another tokenizer, and for a shape that XLM-R has
    no place for.
    """
    tokenizer = model.tokenizer
    check_shape(model, FAMILY, num_segments=1)
    if isinstance(tokenizer, XlmRobertaTokenizer):
        return replace(model, tokenizer=in_own_order(tokenizer))
    if isinstance(tokenizer, HuggingFaceTokenizer):
        if tokenizer.num_segments > 1:
            raise ConfigError(
                "a tokenizer with token types cannot become XLM-R's: export the model as BERT"
            )
        return model
    if not isinstance(tokenizer, SentencePieceTokenizer):
        raise ConfigError(
            f"a {type(tokenizer).__name__} cannot become XLM-R's tokenizer, which is a "
            "unigram SentencePiece model: train with such a vocabulary, or export to XLM's "
            "own format"
        )
    renumbered, order = from_sentencepiece(tokenizer)
    transformer = _renumbered(model.transformer, torch.tensor(order), renumbered.pad_id)
    return replace(model, transformer=transformer, tokenizer=renumbered)


def _renumbered(model: Transformer, order: Tensor, pad_id: int) -> Transformer:
    """Return a copy whose id ``i`` is ``order[i]`` of ``model``."""
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name in ("words.weight", "output_bias", "output_weight"):
        if f"encoder.{name}" in tensors:
            tensors[f"encoder.{name}"] = tensors[f"encoder.{name}"][order]
    with torch.device("meta"):
        copy = Transformer(
            model.config, vocab_size=len(order), num_languages=model.num_languages, pad_id=pad_id
        )
    copy.load_state_dict(tensors, assign=True)
    return copy.eval()
