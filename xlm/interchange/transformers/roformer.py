"""RoFormer in transformers' format, both ways (Su et al. 2021): the shape of the rotary presets.

Its layers are BERT's. It rotates neighboring features (2k, 2k + 1) of queries and keys, and this
library the pairs (k, k + width / 2), so conversion reorders the rows of their matrices.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xlm.errors import ConfigError, DataError
from xlm.interchange.transformers.encoder import Family, Kind, check_shape, read_model, write_model
from xlm.interchange.transformers.encoder_names import HeadNames, Names
from xlm.interchange.transformers.sentencepiece_json import sentencepiece_json
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.hugging_face import from_json, read_hugging_face
from xlm.text.tokenizers.hugging_face_files import SOURCE_FILE
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

PAIRS = (
    "pairs whose positions restart, as TLM's: RoFormer takes no positions, and numbers a row's "
    "tokens from its start"
)


def _read_tokenizer(folder: Path, vocab_size: int) -> Kind:
    """Return the tokenizer of tokenizer.json; the published models' own needs another segmenter."""
    if not (folder / SOURCE_FILE).exists():
        raise DataError(
            f"{folder}: {SOURCE_FILE} is missing: a RoFormer vocab.txt needs a Chinese word "
            "segmenter (jieba), which this library does not have; save a fast tokenizer "
            "there"
        )
    return read_hugging_face(folder, vocab_size=vocab_size)


FAMILY = Family(
    name="RoFormer",
    model_types=("roformer",),
    prefix="roformer.",
    masked={"roformer": "RoFormerForMaskedLM"},
    bare={"roformer": "RoFormerModel"},
    names=Names(positions=None, sinusoids="encoder.embed_positions.weight"),
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
)


def read_transformers_roformer(folder: str | Path) -> PretrainedModel:
    """Return a RoFormer model with any head, as a model with rotary positions.

    Poolers and classifiers are left out: ``extra["lost"]`` lists them. Raises CheckpointError for
    embeddings of another width than the layers and for values that are rotated too
    (``rotary_value``), DataError if it has no tokenizer.json.
    """
    return read_model(folder, FAMILY)


def write_transformers_roformer(model: PretrainedModel, folder: str | Path) -> list[str]:
    """Write a folder for ``AutoModelForMaskedLM`` and ``AutoTokenizer``.

    Returns a line for each thing that is lost. A SentencePiece tokenizer becomes a tokenizer.json
    with the same ids and our own layout of pairs. Raises ConfigError for a shape or a tokenizer
    that RoFormer has no place for.
    """
    lost = [PAIRS]
    tokenizer = model.tokenizer
    check_shape(model, FAMILY, num_segments=2)
    if isinstance(tokenizer, SentencePieceTokenizer):
        content, lines = sentencepiece_json(tokenizer)
        lost += lines
        model = replace(model, tokenizer=from_json(content, {}))
    elif not isinstance(tokenizer, Kind):
        raise ConfigError(
            f"a {type(tokenizer).__name__} cannot become a RoFormer model's tokenizer: expected "
            "WordPiece or SentencePiece; keep the model in this library's own format"
        )
    return lost + write_model(model, folder, FAMILY, "roformer", num_segments=2)
