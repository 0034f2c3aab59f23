"""Checkpoints of the original XLM (``.pth``), with their codes and vocabulary.

    FILE.pth --read_torch_file--> model, or encoder and decoder --renamed--> Transformer
                                  dico_* + codes [+ vocab] -----------------> FastBpeTokenizer
                                  params ----------------------> ModelConfig, languages by name

The dictionary inside the file decides the ids: the released vocabulary files have more lines than
the models have rows. Product-key memories and adaptive softmax are refused by name. Adam's state is
not read.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.original.vocabulary import Dictionary, build_tokenizer, read_dictionary
from xlm.interchange.safe_torch.files import read_torch_file
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer

FORMAT = "original XLM"
"""Value of ``extra["format"]`` for a model that was read from such a file."""
OPTIMIZERS = tuple(f"{name}_optimizer" for name in ("model", "memory", "encoder", "decoder"))
PAD = 2
_SIDES = ("encoder", "decoder")
_PROGRESS = ("epoch", "n_total_iter", "best_metrics", "best_stopping_criterion")
_IDS = {"bos_index": 0, "eos_index": 1, "pad_index": PAD, "unk_index": 3, "mask_index": 5}

_Kind = TypeVar("_Kind", bool, int, float)


def read_original(
    path: str | Path, *, codes: str | Path | None = None, vocabulary: str | Path | None = None
) -> PretrainedModel:
    """Return the model in a checkpoint of the original XLM, in evaluation mode and float32.

    ``codes`` are the BPE codes (default: the one file ``codes`` or ``codes_*`` beside ``path``),
    ``vocabulary`` is the ``vocab`` file (default: ``vocab`` or ``vocab_*`` beside it, or else a
    vocabulary made from the checkpoint's dictionary, which gives the same ids). In ``extra``,
    ``lost`` lists the contents of the file that the model has no place for, ``causal`` is True if
    it was trained on CLM alone, and ``languages`` names the languages of a model without a table of
    languages. Raises CheckpointError for a file that is not such a checkpoint, for content that has
    no counterpart in this library, and for a tensor, a language or a piece of the vocabulary that
    does not fit.
    """
    path = Path(path)
    content = read_torch_file(path, without=OPTIMIZERS)
    sides = _find_sides(path, content)
    params = _Params(path, content.get("params"))
    _refuse_what_has_no_counterpart(params, sides)
    dictionary = read_dictionary(path, content)
    tokenizer, lost = build_tokenizer(path, dictionary, codes, vocabulary)
    config, num_languages = _read_config(params, sides, dictionary)
    languages = _read_languages(params, num_languages, config.language_embeddings is True)
    model = _build(params, config, len(dictionary.pieces), num_languages)
    extra: dict[str, Any] = {
        "format": FORMAT,
        "file": path.name,
        # only the run's training steps show how an encoder was trained; a decoder is always causal
        "causal": params.has_steps("clm_steps") and not params.has_steps("mlm_steps"),
        **{name: content[name] for name in _PROGRESS[:2] if type(content.get(name)) is int},
        "lost": [*lost, *_list_lost(content, sides, params)],
    }
    if languages and not config.language_embeddings:
        extra["languages"], languages = languages, {}
    content.clear()  # frees each tensor once renamed: two copies would take too much memory
    weights: dict[str, Tensor] = {}
    for side, tensors in sides.items():
        renamed = _rename(path, side, tensors, config, model)
        weights.update({f"{side}.{name}": tensor for name, tensor in renamed.items()})
    model.load_state_dict(weights, strict=True, assign=True)
    return PretrainedModel(model.eval(), tokenizer, languages, extra)


def _build(
    params: _Params, config: ModelConfig, vocab_size: int, num_languages: int
) -> Transformer:
    try:
        with torch.device("meta"):
            # spend no memory and no random numbers on values that are about to be replaced
            return Transformer(
                config, vocab_size=vocab_size, num_languages=num_languages, pad_id=PAD
            )
    except ConfigError as error:
        raise CheckpointError(f"{params.path}: {error}") from error


class _Params:
    """Settings that the file's model was trained with."""

    def __init__(self, path: Path, values: Any):
        values = vars(values) if isinstance(values, argparse.Namespace) else values
        if not isinstance(values, dict):
            raise CheckpointError(
                f"{path}: params is {_describe(values)}, expected the settings that the "
                "original saves: the checkpoint is incomplete"
            )
        self.path, self.values = path, values

    def get(self, name: str, kind: type[_Kind], default: _Kind | None = None) -> _Kind:
        """Return a setting; CheckpointError for a wrong type, or if it is missing and required."""
        value = self.values.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise CheckpointError(
                f"{self.path}: params.{name} is {_describe(value)}, expected {kind.__name__}"
            )
        return value

    def check(self, name: str, found: int) -> None:
        """Compare a setting, if there is one, with the value that the tensors show."""
        said = self.get(name, int, found)
        if said != found:
            raise CheckpointError(
                f"{self.path}: params.{name} is {said}, but the tensors have {found}: the "
                "file contradicts itself"
            )

    def has_steps(self, name: str) -> bool:
        """Return True if the model was trained with this kind of step at all."""
        steps = self.values.get(name)
        return isinstance(steps, list | tuple | str) and len(steps) > 0


def _describe(value: Any) -> str:
    if value is None:
        return "missing"
    return ascii(value)[:40] if type(value) in (str, bool, float) else type(value).__name__


def _find_sides(path: Path, content: Any) -> dict[str, dict[str, Tensor]]:
    """Return the encoder's tensors, and the decoder's if there is one, by the original's names."""
    keys = list(content) if isinstance(content, dict) else []
    if "model" in keys:
        found = {"encoder": content["model"]}
    elif set(_SIDES) <= set(keys):
        found = {side: content[side] for side in _SIDES}
    else:
        named = ", ".join(ascii(key)[:30] for key in keys[:10]) or _describe(content)
        raise CheckpointError(
            f"{path} holds {named}: expected 'model', or 'encoder' and 'decoder', as the original "
            "XLM saves"
        )
    return {
        side: _named_tensors(path, key, tensors)
        for key, (side, tensors) in zip(_keys(found), found.items(), strict=True)
    }


def _named_tensors(path: Path, key: str, found: Any) -> dict[str, Tensor]:
    """Return tensors without the prefix of models that were trained on several GPUs."""
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: {key} is {_describe(found)}, expected tensors by name")
    named = {}
    for name, tensor in found.items():
        is_tensor = isinstance(tensor, Tensor) and tensor.is_floating_point()
        if type(name) is not str or not is_tensor:
            kind = tensor.dtype if isinstance(tensor, Tensor) else _describe(tensor)
            raise CheckpointError(
                f"{path}: {key} holds {ascii(name)[:60]}, {kind}: expected floating-point "
                "tensors by name"
            )
        named[name.removeprefix("module.")] = tensor
    return named


def _keys(sides: Collection[str]) -> list[str]:
    """Return the keys of the sides in the file."""
    return ["model"] if list(sides) == ["encoder"] else list(sides)


def _refuse_what_has_no_counterpart(
    params: _Params, sides: Mapping[str, Mapping[str, Tensor]]
) -> None:
    names = [name for tensors in sides.values() for name in tensors]
    reasons = {
        "a product-key memory (use_memory)": (
            params.get("use_memory", bool, False) or any("memories." in name for name in names)
        ),
        "an adaptive softmax (asm)": (
            params.get("asm", bool, False)
            or any(re.match(r"pred_layer\.proj\.(head|tail)\.", name) for name in names)
        ),
    }
    for reason, is_there in reasons.items():
        if is_there:
            raise CheckpointError(
                f"{params.path} has {reason}, which this library's model does not have: it "
                "cannot be imported; train or fetch one without"
            )
    for name, index in _IDS.items():
        found = params.get(name, int, index)
        if found != index:
            raise CheckpointError(
                f"{params.path}: params.{name} is {found}, expected {index} as in every file of "
                "the original"
            )


def _read_config(
    params: _Params, sides: Mapping[str, Mapping[str, Tensor]], dictionary: Dictionary
) -> tuple[ModelConfig, int]:
    """Return the shape of the model and its number of languages."""
    encoder = sides["encoder"]
    words = _table(params.path, encoder, "embeddings.weight")
    positions = _table(params.path, encoder, "position_embeddings.weight")
    inner = _table(params.path, encoder, "ffns.0.lin1.weight")
    with_table = "lang_embeddings.weight" in encoder
    num_languages = params.get("n_langs", int, 1)
    if with_table:
        num_languages = _table(params.path, encoder, "lang_embeddings.weight")[0]
        params.check("n_langs", num_languages)
    params.check("n_words", words[0])
    params.check("emb_dim", words[1])
    num_layers = {side: _count_layers(tensors) for side, tensors in sides.items()}
    params.check("n_layers", num_layers["encoder"])
    if "decoder" in num_layers:
        name = "n_dec_layers" if "n_dec_layers" in params.values else "n_layers"
        params.check(name, num_layers["decoder"])
    if len(dictionary.pieces) != words[0]:
        raise CheckpointError(
            f"{params.path}: its dictionary has {len(dictionary.pieces)} items, but its word "
            f"table has {words[0]} rows: the file contradicts itself"
        )
    try:
        config = ModelConfig(
            dim=words[1],
            num_layers=num_layers["encoder"],
            num_heads=params.get("n_heads", int),
            num_decoder_layers=num_layers.get("decoder", 0),
            language_embeddings=with_table and num_languages > 1,
            feed_forward=inner[0],
            max_positions=positions[0],
            dropout=params.get("dropout", float, 0.0),
            attention_dropout=params.get("attention_dropout", float, 0.0),
            activation="gelu" if params.get("gelu_activation", bool, False) else "relu",
            tied_output=params.get("share_inout_emb", bool, True),
        )
    except ConfigError as error:
        raise CheckpointError(f"{params.path}: {error}") from error
    return config, num_languages


def _table(path: Path, tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in tensors or tensors[name].ndim != 2:
        found = list(tensors[name].shape) if name in tensors else "missing"
        raise CheckpointError(f"{path}: tensor {name} is {found}, expected a matrix")
    return tensors[name].shape[0], tensors[name].shape[1]


def _count_layers(tensors: Mapping[str, Tensor]) -> int:
    found = (re.match(r"attentions\.(\d{1,4})\.", name) for name in tensors)
    return len({match[1] for match in found if match})


def _read_languages(params: _Params, num_languages: int, with_table: bool) -> dict[str, int]:
    """Return a mapping from language to id, read from the file's settings."""
    found = params.values.get("lang2id")
    by_id = params.values.get("id2lang")
    if found is None and isinstance(by_id, dict):
        found = {name: at for at, name in by_id.items()}
    if found is None and not with_table:
        return {}
    languages = found if isinstance(found, dict) else {}
    plain = all(type(name) is str and type(at) is int for name, at in languages.items())
    if not plain or sorted(languages.values()) != list(range(num_languages)):
        raise CheckpointError(
            f"{params.path} has {num_languages} languages, but params.lang2id "
            f"({_describe(found)} of {len(languages)}) does not number each of them once: "
            "the file contradicts itself"
        )
    return dict(sorted(languages.items(), key=lambda item: item[1]))


def _parts(
    config: ModelConfig, cross: bool, shape: tuple[int, int, int]
) -> Iterator[tuple[str, list[str], list[tuple[int, ...]]]]:
    """Yield our name of each tensor, the original's names of its parts, and the parts' shapes.

    A tensor is its parts, concatenated along the rows. ``shape`` is the number of words, positions
    and languages.
    """
    d, inner = config.dim, config.inner_dim
    yield "words.weight", ["embeddings.weight"], [(shape[0], d)]
    yield "positions.weight", ["position_embeddings.weight"], [(shape[1], d)]
    if config.language_embeddings:
        yield "languages.weight", ["lang_embeddings.weight"], [(shape[2], d)]
    yield "output_bias", ["pred_layer.proj.bias"], [(shape[0],)]
    if not config.tied_output:
        yield "output_weight", ["pred_layer.proj.weight"], [(shape[0], d)]
    modules: list[tuple[str, list[str], tuple[int, ...]]]
    modules = [("embedding_norm", ["layer_norm_emb"], (d,))]
    for at in range(config.num_decoder_layers if cross else config.num_layers):
        ours, theirs = f"layers.{at}.", f"attentions.{at}."
        modules += [
            (ours + "attention.query_key_value", [f"{theirs}{p}_lin" for p in "qkv"], (d, d)),
            (ours + "attention.output", [theirs + "out_lin"], (d, d)),
            (ours + "attention_norm", [f"layer_norm1.{at}"], (d,)),
            (ours + "feed_forward.expand", [f"ffns.{at}.lin1"], (inner, d)),
            (ours + "feed_forward.contract", [f"ffns.{at}.lin2"], (d, inner)),
            (ours + "feed_forward_norm", [f"layer_norm2.{at}"], (d,)),
        ]
        if cross:
            theirs = f"encoder_attn.{at}."
            modules += [
                (ours + "cross_attention.query", [theirs + "q_lin"], (d, d)),
                (ours + "cross_attention.key_value", [f"{theirs}{p}_lin" for p in "kv"], (d, d)),
                (ours + "cross_attention.output", [theirs + "out_lin"], (d, d)),
                (ours + "cross_attention_norm", [f"layer_norm15.{at}"], (d,)),
            ]
    for name, parts, weight in modules:
        for kind, size in (("weight", weight), ("bias", weight[:1])):
            yield f"{name}.{kind}", [f"{part}.{kind}" for part in parts], [size] * len(parts)


def _rename(
    path: Path, side: str, tensors: dict[str, Tensor], config: ModelConfig, model: Transformer
) -> dict[str, Tensor]:
    """Return the tensors of one side by our names, in float32; empties ``tensors`` on the way."""
    if config.tied_output:
        _drop_tied_copy(path, side, tensors)
    shape = (model.vocab_size, config.max_positions, model.num_languages)
    parts = list(_parts(config, side == "decoder", shape))
    expected = {
        old: size for _, names, sizes in parts for old, size in zip(names, sizes, strict=True)
    }
    complaints = [f"{name} is missing" for name in expected if name not in tensors]
    complaints += [f"{ascii(name[:60])} is unknown" for name in tensors if name not in expected]
    complaints += [
        f"{name} is {list(tensors[name].shape)}, expected {list(size)}"
        for name, size in expected.items()
        if name in tensors and tuple(tensors[name].shape) != size
    ]
    if complaints:
        more = f" and {len(complaints) - 5} more" if len(complaints) > 5 else ""
        raise CheckpointError(
            f"{path}: {side} does not fit its params: {'; '.join(complaints[:5])}{more}"
        )
    # concatenate even a single part: the copy makes sure that no two tensors share memory
    return {
        new: torch.cat([tensors.pop(old).to(torch.float32) for old in names])
        for new, names, _ in parts
    }


def _drop_tied_copy(path: Path, side: str, tensors: dict[str, Tensor]) -> None:
    """Drop the copy of the tied output matrix that is also stored under its own name."""
    copy, words = tensors.pop("pred_layer.proj.weight", None), tensors["embeddings.weight"]
    if copy is not None and not torch.equal(copy, words):
        raise CheckpointError(
            f"{path}: {side} pred_layer.proj.weight differs from embeddings.weight, but "
            "params.share_inout_emb says they are shared: the file contradicts itself"
        )


def _list_lost(content: Mapping[str, Any], sides: Collection[str], params: _Params) -> list[str]:
    """Return a line for each thing in the file that the model has no place for."""
    lost = []
    if any(name in content for name in OPTIMIZERS):
        lost.append("optimizer state: training goes on with a fresh optimizer")
    if params.get("sinusoidal_embeddings", bool, False):
        lost.append("sinusoidal positions: the same values, but training would change them")
    kinds = {str(tensor.dtype) for name in _keys(sides) for tensor in content[name].values()}
    if others := sorted(kinds - {"torch.float32"}):
        lost.append(f"precision: stored as {', '.join(others)}, read as torch.float32")
    read = {*_keys(sides), *OPTIMIZERS, *_PROGRESS, "params"}
    read |= {f"dico_{name}" for name in ("id2word", "word2id", "counts")}
    lost += [f"{ascii(name)[:60]}: not part of a model" for name in content if name not in read]
    return lost
