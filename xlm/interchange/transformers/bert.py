"""BERT and multilingual BERT in transformers' format, both ways (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xlm.errors import ConfigError
from xlm.interchange.transformers.encoder import Family, Kind, check_shape, read_model, write_model
from xlm.interchange.transformers.encoder_names import HeadNames
from xlm.interchange.transformers.sentencepiece_json import sentencepiece_json
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.hugging_face import from_json, read_hugging_face
from xlm.text.tokenizers.hugging_face_files import SOURCE_FILE
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.xlm_roberta import MODEL_FILE, read_xlm_roberta


def _read_tokenizer(folder: Path, vocab_size: int) -> Kind:
    """Return BERT's own tokenizer, or XLM-R's, which distilled models such as MiniLM have."""
    own = (SOURCE_FILE, "vocab.txt")
    if (folder / MODEL_FILE).exists() and not any((folder / name).exists() for name in own):
        return read_xlm_roberta(folder, vocab_size=vocab_size)
    return read_hugging_face(folder, vocab_size=vocab_size)


FAMILY = Family(
    name="BERT",
    model_types=("bert",),
    prefix="bert.",
    masked={"bert": "BertForMaskedLM"},
    bare={"bert": "BertModel"},
    head=HeadNames(
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        bias="cls.predictions.bias",
        output="cls.predictions.decoder.weight",
        output_bias="cls.predictions.decoder.bias",
    ),
    positions_after_padding=False,
    head_activation=None,
    pad_id=0,
    read_tokenizer=_read_tokenizer,
    next_sentence=True,
)


def read_transformers_bert(folder: str | Path) -> PretrainedModel:
    """Return a BERT model with any head (BertModel, BertForMaskedLM, BertForPreTraining, ...).

    Pooler and classes of next-sentence prediction become the head ``nsp``; other classifiers are
    left out: ``extra["lost"]`` lists them. Raises CheckpointError and DataError.
    """
    return read_model(folder, FAMILY)


def write_transformers_bert(model: PretrainedModel, folder: str | Path) -> list[str]:
    """Write a folder for ``AutoModelForMaskedLM`` and ``AutoTokenizer``.

    With the head of ``NextSentence`` it is one for ``BertForPreTraining`` too. Returns a line for
    each thing that is lost. A SentencePiece tokenizer of this library becomes a tokenizer.json with
    the same ids and our own layout of pairs. Raises ConfigError for a shape or a tokenizer that
    BERT has no place for.
    """
    lost: list[str] = []
    tokenizer = model.tokenizer
    if isinstance(tokenizer, SentencePieceTokenizer):
        check_shape(model, FAMILY, num_segments=2)
        content, lost = sentencepiece_json(tokenizer)
        model = replace(model, tokenizer=from_json(content, {}))
    elif not isinstance(tokenizer, Kind):
        raise ConfigError(
            f"a {type(tokenizer).__name__} cannot become a BERT model's tokenizer: expected "
            "WordPiece or SentencePiece; export to XLM's own format"
        )
    return lost + write_model(model, folder, FAMILY, "bert", num_segments=2)
