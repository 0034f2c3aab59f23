"""Random tiny mBART, mBART-50, M2M-100 and NLLB of transformers, with tokenizers of the sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from benchmarks.equality.random_models import lines, unigram
from xlm.interchange.load import load
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.published_tokens import MBART

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
KINDS = {
    # model_type, layout, two languages as transformers and as this library names them
    "mbart": ("mbart", "mbart", {"en_XX": "en", "ne_NP": "ne"}),
    "mbart-50": ("mbart", "source-first", {"en_XX": "en", "ne_NP": "ne"}),
    "m2m-100": ("m2m_100", "source-first", {"en": "en", "ne": "ne"}),
    "nllb": ("m2m_100", "source-first", {"eng_Latn": "eng_Latn", "npi_Deva": "npi_Deva"}),
}
SIZES: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "max_position_embeddings": 96, "scale_embedding": True, "init_std": 0.3,
}  # fmt: skip


def _scored() -> list[tuple[str, float]]:
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(unigram())
    return [(processor.id_to_piece(at), processor.get_score(at)) for at in range(len(processor))]


def translator_tokenizer(kind: str, folder: Path) -> Any:
    """Return the tokenizer of transformers, learnt on the sample, and save it in ``folder``."""
    pieces = _scored()
    if kind == "mbart":
        ends = [(name, 0.0) for name in (*MBART, "<mask>")]
        opening = [(name, 0.0) for name in SPECIALS]
        made = transformers.MBartTokenizer(vocab=[*opening, *pieces[3:], *ends])
    elif kind == "mbart-50":
        made = transformers.MBart50Tokenizer(vocab=pieces)
    elif kind == "nllb":
        backend = Backend(models.BPE(unk_token="<unk>", fuse_unk=True))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIALS, show_progress=False)
        backend.train_from_iterator(lines(), trainer)
        model = json.loads(backend.to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        made = transformers.NllbTokenizer(vocab=model["vocab"], merges=merges)
    else:
        folder.mkdir(exist_ok=True)
        (folder / "sentencepiece.bpe.model").write_bytes(unigram())
        listed = {piece: at for at, piece in enumerate([*SPECIALS, *(p for p, _ in pieces[3:])])}
        (folder / "vocab.json").write_text(json.dumps(listed), encoding="utf-8")
        made = transformers.M2M100Tokenizer(
            str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model")
        )
    made.save_pretrained(folder)
    return made


def translator(kind: str, folder: Path) -> tuple[Any, Any]:
    """Return a random model of a kind and its tokenizer, saved in ``folder``."""
    tokenizer = translator_tokenizer(kind, folder)
    name = "MBart" if KINDS[kind][0] == "mbart" else "M2M100"
    activation = "gelu" if name == "MBart" else "relu"
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tokenizer.encoder_size + 108 if kind == "m2m-100" else len(tokenizer),
        activation_function=activation, **SIZES,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    if name == "MBart":
        model.final_logits_bias.normal_()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or parameter_name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.model.decoder.layer_norm.weight.mul_(0.4)  # logits of a usual size
    model.save_pretrained(folder)
    return model, tokenizer


def translators(folder: Path, model_type: str) -> Iterator[Path]:
    """Yield a random model of each kind of a ``model_type``."""
    for kind, (own, _, _) in KINDS.items():
        if own == model_type:
            translator(kind, folder / kind)
            yield folder / kind


def came_in(folder: Path, *kinds: str) -> list[PretrainedModel]:
    """Return the translators of some kinds that were made in ``folder``."""
    return [load(folder / kind) for kind in kinds if (folder / kind).exists()]
