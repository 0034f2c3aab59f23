"""Directories of transformers' ``XLMModel`` and ``XLMWithLMHeadModel``, masked or causal.

    config.json, model.safetensors, tokenizer files  <-->  PretrainedModel

Both have the arithmetic of the original XLM (docs/fidelity.md, B5): tensors are renamed, and query,
key and value become one product here. The package transformers is not needed for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.interchange.shape import settings_without_place
from xlm.interchange.transformers import xlm_tokenizer as vocabularies
from xlm.interchange.transformers.files import (
    CONFIG,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from xlm.interchange.transformers.sentencepiece_json import sentencepiece_json
from xlm.interchange.transformers.xlm_tensors import (
    check_layers,
    fill,
    renamed,
    sort_out,
    take_tied_copy,
)
from xlm.model.asking import NO_HEAD, kind_of
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.storage import read_json, write_whole
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.hugging_face import read_hugging_face
from xlm.text.tokenizers.hugging_face_files import SPELLED
from xlm.text.tokenizers.sentencepiece import MODEL_FILE, SentencePieceTokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

MODEL_TYPE = "xlm"
FORMAT = "transformers xlm"
"""Value of ``extra["format"]`` for a model that was read from such a directory."""
HEADED = "XLMWithLMHeadModel"
GENERATION, TOKENIZER_JSON = "generation_config.json", "tokenizer.json"
_OLD_NAMES = {
    # current name: names in older and hand-written files
    "vocab_size": ("n_words",),
    "emb_dim": ("hidden_size",),
    "n_heads": ("num_attention_heads",),
    "n_layers": ("num_hidden_layers",),
    "pad_token_id": ("pad_index",),
}
_DEFAULTS: dict[str, Any] = {
    # defaults of transformers' XLMConfig for settings that a file leaves out
    "vocab_size": 30145,
    "emb_dim": 2048,
    "n_layers": 12,
    "n_heads": 16,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "gelu_activation": True,
    "sinusoidal_embeddings": False,
    "causal": False,
    "asm": False,
    "n_langs": 1,
    "use_lang_emb": True,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "is_encoder": True,
    "pad_token_id": 2,
    "tie_word_embeddings": True,
}


def read_transformers_xlm(folder: str | Path) -> PretrainedModel:
    """Return the model in a transformers directory, in evaluation mode and the saved precision.

    ``extra`` has ``causal`` (an argument of ``encode`` here) and ``lost``, a line for each thing
    that changed. Raises CheckpointError for another architecture (encoder-decoder, adaptive
    softmax, product-key memory), for tensors that do not fit config.json, and for languages without
    names; DataError for its tokenizer.
    """
    folder = Path(folder)
    path = folder / CONFIG
    config = read_config(folder)
    value = _checked(config, path)
    languages, lost = _languages(config, value, folder)
    tensors, heads = sort_out(read_weights(folder), folder)
    with_head = "pred_layer.proj.bias" in tensors
    tied = take_tied_copy(tensors, value, folder, with_head)
    check_layers(tensors, value["n_layers"], folder)
    model = _built(value, tied, path)
    lost += heads
    if not with_head:
        words = tensors.get("embeddings.weight", torch.zeros(0))
        tensors["pred_layer.proj.bias"] = words.new_zeros(model.vocab_size)
        lost.append(
            "no output onto the vocabulary was in the file: the word embeddings with a bias of 0 "
            "stand in for it, and predict nothing before they are trained"
        )
    fill(model, tensors, folder)
    if value["sinusoidal_embeddings"]:
        lost.append("sinusoidal positions: they are here as a learned table with the same values")
    tokenizer, lines = _read_tokenizer(folder, model.vocab_size)
    for name, found, said in (
        ("ids", tokenizer.vocab_size, model.vocab_size),
        ("padding id", tokenizer.pad_id, model.pad_id),
    ):
        if found != said:
            raise CheckpointError(
                f"{folder}: {name} of the tokenizer is {found}, but {CONFIG} says {said}: "
                "one of the two belongs to another model"
            )
    extra = {"format": FORMAT, "causal": value["causal"], "lost": lost + lines}
    if not with_head:
        extra[NO_HEAD] = True
    with_table = model.encoder.languages is not None
    if languages and not with_table:
        extra["languages"] = languages
    return PretrainedModel(model.eval(), tokenizer, languages if with_table else {}, extra)


def write_transformers_xlm(
    model: PretrainedModel, folder: str | Path, *, causal: bool | None = None
) -> list[str]:
    """Write the directory of an ``XLMWithLMHeadModel``; return a line per thing lost or changed.

    ``causal`` (None: the value in the model's ``extra``, else False) is an argument of ``encode``
    here and part of the configuration there. Raises ConfigError naming everything that has no place
    there.
    """
    _refuse(model)
    folder = Path(folder)
    causal = kind_of(model) == "causal" if causal is None else causal
    languages = _named_languages(model)
    files, lost = _tokenizer_files(model, languages)
    _refuse_remains(folder, files)
    content = _config(model, languages, causal)
    if model.transformer.config.fused_layer_norm:
        lost.append("fused_layer_norm: the same normalization, not fused there")
    if causal:
        lost.append(
            "generate() of transformers appends the token mask_token_id to a causal XLM and reads "
            "what is predicted there; the next token is predicted at the last token itself"
        )
    write_weights(folder, dict(renamed(model.transformer)))
    for name, written in files.items():
        write_whole(folder / name, written, error=CheckpointError)
    ids = {name: content[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_config(folder, {"_from_model_config": True, **ids}, GENERATION)
    write_config(folder, content)
    return lost


def _checked(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return every setting we use, of the right type; CheckpointError for another architecture."""
    if config["model_type"] != MODEL_TYPE:
        raise CheckpointError(f"{path}: model_type is {config['model_type']!r}, expected 'xlm'")
    value = {}
    for name, default in _DEFAULTS.items():
        found = next((config[n] for n in (name, *_OLD_NAMES.get(name, ())) if n in config), None)
        found = default if found is None else found
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if type(found) not in kinds:
            raise CheckpointError(
                f"{path}: {name} is {found!r}, expected {type(default).__name__}, as in {default!r}"
            )
        value[name] = found
    if not value["is_encoder"]:
        raise CheckpointError(
            f"{path}: is_encoder is false, so this is the decoder of an encoder-decoder, for "
            "which transformers has no XLM model either; import the original's .pth, which "
            "holds both sides"
        )
    if value["asm"]:
        raise CheckpointError(
            f"{path}: asm is true (adaptive softmax), which our models do not have; import a "
            "model with a full output layer"
        )
    return value


def _built(value: Mapping[str, Any], tied: bool, path: Path) -> Transformer:
    """Return the model that config.json describes, without values yet."""
    try:
        shape = ModelConfig(
            dim=value["emb_dim"],
            num_layers=value["n_layers"],
            num_heads=value["n_heads"],
            num_decoder_layers=0,
            language_embeddings=value["use_lang_emb"],
            max_positions=value["max_position_embeddings"],
            dropout=float(value["dropout"]),
            attention_dropout=float(value["attention_dropout"]),
            activation="gelu" if value["gelu_activation"] else "relu",
            tied_output=tied,
            layer_norm_eps=float(value["layer_norm_eps"]),
        )
        with torch.device("meta"):
            return Transformer(
                shape,
                vocab_size=value["vocab_size"],
                num_languages=value["n_langs"],
                pad_id=value["pad_token_id"],
            )
    except ConfigError as error:
        raise CheckpointError(f"{path}: the model cannot be built ({error})") from error


def _languages(
    config: Mapping[str, Any], value: Mapping[str, Any], folder: Path
) -> tuple[dict[str, int], list[str]]:
    """Return the id of each language by name, in the order of ids, and a line for an unused map.

    A model that has a table of languages must name them: otherwise its rows could not be told
    apart.
    """
    num, path = value["n_langs"], folder / CONFIG
    maps = list(_language_maps(config, path))
    if not maps and (folder / vocabularies.SETTINGS).exists():
        beside = folder / vocabularies.SETTINGS
        maps = list(_language_maps(read_json(beside), beside))
    needed = value["use_lang_emb"] and num > 1
    if not maps:
        if needed:
            raise CheckpointError(
                f"{path}: n_langs is {num}, but there is no lang2id and no id2lang, so the "
                'languages of the rows are unknown: add "lang2id": {"en": 0, ...} as '
                "in the model's training"
            )
        return {}, []
    languages = maps[0]
    wrong = next((other for other in maps[1:] if other != languages), None)
    if wrong is not None:
        differ = sorted({name for name, _ in languages.items() ^ wrong.items()})
        problem = f"lang2id and id2lang disagree about {', '.join(differ)}"
    elif sorted(languages.values()) != list(range(num)):
        problem = f"lang2id {languages} does not fit n_langs {num}: expected 0 to {num - 1}"
    else:
        return dict(sorted(languages.items(), key=lambda item: item[1])), []
    if needed:
        raise CheckpointError(f"{path}: {problem}")
    return {}, [f"the names of its languages ({problem}), of which the model has no table"]


def _language_maps(content: Mapping[str, Any], path: Path) -> Iterator[dict[str, int]]:
    """Yield lang2id, and id2lang inverted (JSON makes its keys strings), if they are present."""
    for key in ("lang2id", "id2lang"):
        told = content.get(key)
        if told is None:
            continue
        items = list(told.items()) if isinstance(told, Mapping) else []
        if key == "id2lang":
            items = [(name, _number(at)) for at, name in items]
        names = {name: at for name, at in items if isinstance(name, str) and type(at) is int}
        if len(names) != len(told if isinstance(told, Mapping) else "?"):
            found = str(told)[:80]
            raise CheckpointError(f"{path}: {key} is {found}, expected names and their numbers")
        yield names


def _number(key: Any) -> Any:
    return int(key) if isinstance(key, str) and key.isdecimal() else key


def _read_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer, list[str]]:
    """Return fastBPE (vocab.json and merges.txt), else the SentencePiece model, else any other."""
    if (folder / vocabularies.PIECES).exists() and (folder / vocabularies.MERGES).exists():
        return vocabularies.read_xlm_tokenizer(folder)
    if (folder / MODEL_FILE).exists():
        return SentencePieceTokenizer((folder / MODEL_FILE).read_bytes()), []
    if (folder / TOKENIZER_JSON).exists():
        return read_hugging_face(folder, vocab_size=vocab_size), []
    raise DataError(
        f"{folder}: has no tokenizer: expected {vocabularies.PIECES} and {vocabularies.MERGES}, "
        f"{MODEL_FILE}, or {TOKENIZER_JSON}"
    )


def _refuse(model: PretrainedModel) -> None:
    """Raise ConfigError naming everything that XLM's architecture in transformers cannot hold."""
    config, tokenizer = model.transformer.config, model.tokenizer
    problems = settings_without_place(config)
    if config.num_decoder_layers:
        problems.append(f"a decoder (num_decoder_layers {config.num_decoder_layers}: give 0)")
    if config.inner_dim != 4 * config.dim:
        problems.append(f"feed_forward {config.inner_dim} (give {4 * config.dim}, 4 x dim)")
    if config.num_segments:
        problems.append(f"num_segments {config.num_segments} (give 0)")
    if config.output_transform:
        problems.append("an output transform (output_transform true: give false)")
    if problems:
        raise ConfigError(
            "the model cannot become an XLM model of transformers, which does not support "
            f"{'; '.join(problems)}: train with these settings of model, export it as bert "
            "or xlm-roberta if it has their shape, or keep it in xlm's own format"
        )
    if tokenizer.vocab_size != model.transformer.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} ids but the model has "
            f"{model.transformer.vocab_size}: expected the tokenizer that it was trained with"
        )


def _refuse_remains(folder: Path, files: Mapping[str, bytes]) -> None:
    """Raise ConfigError if files of another tokenizer would remain beside those written."""
    known = (vocabularies.PIECES, vocabularies.MERGES, MODEL_FILE, TOKENIZER_JSON)
    if remains := [name for name in known if name not in files and (folder / name).exists()]:
        raise ConfigError(
            f"{folder} holds {', '.join(remains)} from another tokenizer: choose an empty folder"
        )


def _named_languages(model: PretrainedModel) -> dict[str, int]:
    """Return names for lang2id.

    For a model without a table of languages they are those it was trained on, if it lists them.
    """
    languages = dict(model.languages or model.extra.get("languages") or {})
    num = model.transformer.num_languages
    if sorted(languages.values()) == list(range(num)):
        return languages
    if model.has_languages:
        raise ConfigError(
            f"language ids {languages} do not fit a model of {num} languages: expected the ids 0 "
            f"to {num - 1}, each once"
        )
    return {}


def _tokenizer_files(
    model: PretrainedModel, languages: Mapping[str, int]
) -> tuple[dict[str, bytes], list[str]]:
    tokenizer, most = model.tokenizer, model.transformer.config.max_positions
    if isinstance(tokenizer, FastBpeTokenizer):
        return vocabularies.xlm_tokenizer_files(tokenizer, languages, most)
    if not isinstance(tokenizer, SentencePieceTokenizer):
        raise ConfigError(
            f"a tokenizer of class {type(tokenizer).__name__} cannot go with an XLM model of "
            f"transformers: expected fastBPE or SentencePiece; keep the model in xlm's own format"
        )
    content, lost = sentencepiece_json(tokenizer)
    settings = {
        **vocabularies.settings(languages, most),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "mask_token": tokenizer.pieces[tokenizer.mask_id],
        "clean_up_tokenization_spaces": False,
    }
    files = {
        TOKENIZER_JSON: content,
        MODEL_FILE: tokenizer.model,  # the same tokenizer is read back from it
        vocabularies.SETTINGS: vocabularies.to_json(settings),
    }
    return files, [SPELLED, *lost]


def _config(model: PretrainedModel, languages: Mapping[str, int], causal: bool) -> dict[str, Any]:
    shape, tokenizer = model.transformer.config, model.tokenizer
    content = {
        "architectures": [HEADED],
        "asm": False,
        "attention_dropout": shape.attention_dropout,
        "bos_token_id": tokenizer.begin_id,
        "causal": causal,
        "dropout": shape.dropout,
        "dtype": str(model.transformer.encoder.words.weight.dtype).removeprefix("torch."),
        "emb_dim": shape.dim,
        "embed_init_std": shape.dim**-0.5,
        "eos_token_id": tokenizer.end_id,
        "gelu_activation": shape.activation == "gelu",
        "is_encoder": True,
        "layer_norm_eps": shape.layer_norm_eps,
        "mask_index": tokenizer.mask_id,
        "mask_token_id": tokenizer.mask_id,
        "max_position_embeddings": shape.max_positions,
        "model_type": MODEL_TYPE,
        "n_heads": shape.num_heads,
        "n_langs": model.transformer.num_languages,
        "n_layers": shape.num_layers,
        "pad_token_id": model.transformer.pad_id,
        "sinusoidal_embeddings": False,
        "tie_word_embeddings": shape.tied_output,
        "unk_index": tokenizer.unk_id,
        "use_lang_emb": bool(shape.language_embeddings),
        "vocab_size": model.transformer.vocab_size,
    }
    if languages:
        content["lang2id"] = dict(languages)
        content["id2lang"] = {str(at): name for name, at in languages.items()}
    return content
