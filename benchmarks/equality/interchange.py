"""Random tiny models through every format, both ways.

    python -m benchmarks.equality.interchange

Measures the parity that ``xlm import`` and ``xlm export`` report with transformers as the peer, and
compares the ids that both tokenizers give to lines of the sample.

Needs transformers and sacremoses (``pip install -e .[dev]``); a minute on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

from benchmarks.equality.random_models import (
    LANGUAGES,
    fast,
    lines,
    ours,
    pieces,
    shake,
    unigram,
    word_pieces,
)
from benchmarks.equality.rotary_models import (
    MODERNBERT,
    ROFORMER,
    SCALE,
    eurobert_peers,
    peers_of,
)
from benchmarks.equality.translator_models import came_in, translators
from benchmarks.support import record
from xlm import sample
from xlm.convert import Converted, Export, Import, export_model, import_corpora, import_model
from xlm.data.corpora import Corpora
from xlm.interchange.parity import TOLERANCE
from xlm.model.pretrained import PretrainedModel
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.text.normalize import normalize
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FAIRSEQ = {
    "roberta.embeddings.word_embeddings.": "encoder.sentence_encoder.embed_tokens.",
    "roberta.embeddings.position_embeddings.": "encoder.sentence_encoder.embed_positions.",
    "roberta.embeddings.LayerNorm.": "encoder.sentence_encoder.layernorm_embedding.",
    "roberta.encoder.layer.": "encoder.sentence_encoder.layers.",
    "attention.self.query.": "self_attn.q_proj.",
    "attention.self.key.": "self_attn.k_proj.",
    "attention.self.value.": "self_attn.v_proj.",
    "attention.output.dense.": "self_attn.out_proj.",
    "attention.output.LayerNorm.": "self_attn_layer_norm.",
    "intermediate.dense.": "fc1.",
    "output.dense.": "fc2.",
    "output.LayerNorm.": "final_layer_norm.",
    "lm_head.": "encoder.lm_head.",
}


# Models of others, one a folder.


def xlm_peers(folder: Path) -> Iterator[Path]:
    """XLMWithLMHeadModel: masked and causal, 1 and 3 languages, GELU and ReLU, tied and not."""
    donor = folder / "donor"
    ours(fast(), LANGUAGES).save_pretrained(folder / "mine")
    export_model(Export(source=str(folder / "mine"), folder=str(donor), format="xlm", parity=False))
    settings = itertools.product((False, True), (1, 3), (True, False), (True, False))
    for at, (causal, num, gelu, tied) in enumerate(settings):
        languages = dict(itertools.islice(LANGUAGES.items(), num))
        config = transformers.XLMConfig(
            vocab_size=fast().vocab_size, emb_dim=32, n_layers=2, n_heads=4, causal=causal,
            n_langs=num, use_lang_emb=at % 4 != 3, gelu_activation=gelu, tie_word_embeddings=tied,
            max_position_embeddings=96, lang2id=languages, bos_index=0, eos_index=1, pad_index=2,
            unk_index=3, mask_index=5,
        )  # fmt: skip
        path = folder / f"xlm-{at}"
        shake(transformers.XLMWithLMHeadModel(config), at).save_pretrained(path)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            shutil.copy(donor / name, path / name)
        yield path


def roberta_peers(folder: Path) -> Iterator[Path]:
    """XLMRobertaForMaskedLM with SentencePiece, RobertaForMaskedLM with byte-level BPE."""
    path = folder / "xlm-roberta"
    roberta("XLMRoberta", XlmRobertaTokenizer(unigram()).vocab_size, 0).save_pretrained(path)
    (path / "sentencepiece.bpe.model").write_bytes(unigram())
    settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    yield path
    path = folder / "roberta"
    backend = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(
        lines(), vocab_size=700, show_progress=False, special_tokens=specials
    )
    roberta("Roberta", backend.get_vocab_size(), 1).save_pretrained(path)
    backend.save_model(str(path))
    settings = {"tokenizer_class": "RobertaTokenizer"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    yield path


def roberta(kind: str, vocab_size: int, seed: int) -> Any:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocab_size, max_position_embeddings=98, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, intermediate_size=48, **SIZES,
    )  # fmt: skip
    return shake(getattr(transformers, f"{kind}ForMaskedLM")(config), seed)


def bert_peers(folder: Path) -> Iterator[Path]:
    """BertForMaskedLM and BertForPreTraining, cased and not."""
    kinds = (("MaskedLM", "gelu", False), ("PreTraining", "relu", True))
    for at, (kind, activation, lowercase) in enumerate(kinds):
        path = folder / f"bert-{at}"
        vocabulary = word_pieces(lowercase)
        config = transformers.BertConfig(
            vocab_size=vocabulary.count(b"\n"), max_position_embeddings=96, hidden_act=activation,
            intermediate_size=48, **SIZES,
        )  # fmt: skip
        shake(getattr(transformers, f"BertFor{kind}")(config), at).save_pretrained(path)
        (path / "vocab.txt").write_bytes(vocabulary)
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
        yield path


def fairseq_peers(folder: Path) -> Iterator[Path]:
    """model.pt and dict.txt as fairseq writes them, from an XLMRobertaForMaskedLM."""
    path = folder / "fairseq"
    path.mkdir()
    peer = roberta("XLMRoberta", XlmRobertaTokenizer(unigram()).vocab_size, 7)
    with torch.no_grad():  # fairseq has no token types
        peer.roberta.embeddings.token_type_embeddings.weight.zero_()
    tensors = {}
    for name, tensor in peer.state_dict().items():
        if "token_type" not in name and "lm_head.decoder" not in name:
            for theirs, fairseq in FAIRSEQ.items():
                name = name.replace(theirs, fairseq)
            tensors[name] = tensor.clone()
    tensors["encoder.lm_head.weight"] = tensors["encoder.sentence_encoder.embed_tokens.weight"]
    settings = Namespace(
        encoder_layers=2, encoder_attention_heads=4, encoder_embed_dim=32, dropout=0.1,
        attention_dropout=0.1, activation_fn="gelu", max_positions=96, arch="roberta_base",
        untie_weights_roberta=False,
    )  # fmt: skip
    torch.save({"args": settings, "model": tensors}, path / "model.pt")
    (path / "sentencepiece.bpe.model").write_bytes(unigram())
    entries = XlmRobertaTokenizer(unigram()).pieces[4:-1]
    text = "".join(f"{piece} {900 - at}\n" for at, piece in enumerate(entries))
    (path / "dict.txt").write_text(text, encoding="utf-8")
    yield path


def original_peers(folder: Path) -> Iterator[Path]:
    """A .pth of the original's layout, its tensors those of an XLMWithLMHeadModel; zip and not."""
    tokenizer = fast()
    for at, (causal, zipped) in enumerate(itertools.product((False, True), (True, False))):
        config = transformers.XLMConfig(
            vocab_size=tokenizer.vocab_size, emb_dim=32, n_layers=2, n_heads=4, n_langs=3,
            pad_index=2, max_position_embeddings=512,
        )  # fmt: skip
        peer = shake(transformers.XLMWithLMHeadModel(config), at)
        tensors = {n.removeprefix("transformer."): t for n, t in peer.state_dict().items()}
        tensors.pop("position_ids", None)
        words = list(tokenizer.pieces)
        params = {
            "emb_dim": 32, "n_layers": 2, "n_heads": 4, "dropout": 0.1, "attention_dropout": 0.1,
            "gelu_activation": True, "share_inout_emb": True, "sinusoidal_embeddings": False,
            "use_lang_emb": True, "use_memory": False, "asm": False, "encoder_only": True,
            "n_langs": 3, "lang2id": LANGUAGES, "id2lang": {v: k for k, v in LANGUAGES.items()},
            "n_words": len(words), "pad_index": 2, "eos_index": 1, "mask_index": 5, "bos_index": 0,
            "unk_index": 3, "clm_steps": [("en", None)] if causal else [],
            "mlm_steps": [] if causal else [("en", None)],
        }  # fmt: skip
        path = folder / f"original-{at}"
        path.mkdir()
        content = {
            "epoch": 1, "model": tensors, "params": params, "dico_id2word": dict(enumerate(words)),
            "dico_word2id": {word: n for n, word in enumerate(words)},
            "dico_counts": dict(zip(words, tokenizer.counts, strict=True)),
        }  # fmt: skip
        torch.save(content, path / "model.pth", _use_new_zipfile_serialization=zipped)
        (path / "codes").write_bytes(tokenizer.codes)
        (path / "vocab").write_bytes(tokenizer.vocabulary)
        yield path / "model.pth"


def rotary(shapes: list[dict[str, Any]]) -> list[PretrainedModel]:
    """Models of ours in the newer shapes."""
    found = [ours(pieces("unigram"), {}, **shape) for shape in shapes]
    for model in found:
        shake(model.transformer, scale=SCALE)
    return found


DROPPED = "layer drop, dropout inside of feed-forward layers"
IMPORTS = {
    "transformers XLM": (
        xlm_peers,
        "task heads; XLMTokenizer's Moses rules (prepare text as the model's was)",
    ),
    "transformers XLM-R, RoBERTa": (roberta_peers, "task heads, pooler; two unused position rows"),
    "transformers BERT": (bert_peers, "task heads"),
    "transformers RoFormer": (
        lambda folder: peers_of("roformer", rotary(ROFORMER), shake, folder),
        "task heads, pooler",
    ),
    "transformers ModernBERT": (
        lambda folder: peers_of("modernbert", rotary(MODERNBERT), shake, folder),
        "task heads",
    ),
    "transformers EuroBERT": (
        lambda folder: eurobert_peers(lines(), shake, folder),
        "task heads; keys and values that heads share become a copy each",
    ),
    "transformers mBART, mBART-50": (lambda folder: translators(folder, "mbart"), DROPPED),
    "transformers M2M-100, NLLB": (lambda folder: translators(folder, "m2m_100"), DROPPED),
    "fairseq XLM-R (model.pt, dict.txt)": (fairseq_peers, "optimizer state"),
    "original XLM (.pth)": (original_peers, "optimizer state"),
}
"""What comes in: where the models come from, and what is lost."""

FAST = "counts of codes and vocabulary; XLMTokenizer runs Moses' rules unless told not to"
SPECIAL = "text that spells a special token, unless split_special_tokens is set"


def exports(folder: Path) -> dict[str, tuple[str, list[PretrainedModel], str]]:
    """What goes out: format, models of ours that have its shape, and what is lost.

    Translators are those that came in, in ``folder``: their tokenizers are not learnt by xlm.
    """
    bert, roberta = {"num_segments": 2}, {"num_segments": 1}
    head: dict[str, Any] = {"output_transform": True, "layer_norm_eps": 1e-5}
    shapes: list[dict[str, Any]] = [
        {}, {"activation": "relu"}, {"tied_output": False}, {"language_embeddings": False}
    ]  # fmt: skip
    unigrams = pieces("unigram")
    return {
        "transformers XLM, fastBPE": (
            "xlm",
            [ours(fast(), {} if "language_embeddings" in s else LANGUAGES, **s) for s in shapes],
            FAST,
        ),
        "transformers XLM, SentencePiece unigram": (
            "xlm", [ours(unigrams, LANGUAGES), ours(unigrams, {})], SPECIAL
        ),
        "transformers XLM, SentencePiece BPE": ("xlm", [ours(pieces("bpe"), LANGUAGES)], SPECIAL),
        "transformers XLM-R, SentencePiece unigram": (
            "xlm-roberta", [ours(unigrams, {}, **roberta, **head)],
            f"pairs have two symbols between; {SPECIAL}",
        ),
        "transformers BERT, SentencePiece unigram": (
            "bert", [ours(unigrams, {}, **bert, **head)], SPECIAL
        ),
        "transformers RoFormer, SentencePiece unigram": (
            "roformer", rotary(ROFORMER),
            f"positions that start anew at a pair's second sentence; {SPECIAL}",
        ),
        "transformers ModernBERT, SentencePiece unigram": (
            "modernbert", rotary(MODERNBERT), SPECIAL
        ),
        "transformers mBART, mBART-50": (
            "mbart", came_in(folder, "mbart", "mbart-50"), SPECIAL
        ),
        "transformers M2M-100, NLLB": (
            "m2m_100", came_in(folder, "m2m-100", "nllb"), SPECIAL
        ),
    }  # fmt: skip


def row(name: str, direction: str, results: list[Converted], lost: str) -> dict[str, Any]:
    """The worst of some conversions."""
    parities = [result.parity for result in results]
    assert all(parity.logits is not None for parity in parities), [p.notes for p in parities]
    first = [parity.tokenizer[0] for parity in parities]
    # where there are several, the last is of text that xlm normalizes
    last = [parity.tokenizer[-2:][0] for parity in parities]
    found = {
        "format": name,
        "direction": direction,
        "models": len(results),
        "logits": max(parity.logits or 0.0 for parity in parities),
        "lines": sum(part.lines for part in last),
        "identical": sum(part.identical for part in last),
        "tokenizers": ", ".join(dict.fromkeys(part.what for part in last)),
        "lost": lost,
    }
    if first != last:
        found["identical_as_called"] = sum(part.identical for part in first)
    return found


def binarized(folder: Path) -> dict[str, Any]:
    """The original's data: the sentences of corpora that are those which preparing makes."""
    module = ModuleType("xlm.data.dictionary")
    sys.modules[module.__name__] = module
    module.Dictionary = type("Dictionary", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    dictionary, tokenizer = module.Dictionary(), fast()
    dictionary.id2word = dict(enumerate(tokenizer.pieces))
    dictionary.word2id = {piece: at for at, piece in enumerate(tokenizer.pieces)}
    dictionary.counts = dict(zip(tokenizer.pieces, tokenizer.counts, strict=True))
    source, prepared, imported = (folder / name for name in ("data", "prepared", "imported"))
    source.mkdir()
    (source / "codes").write_bytes(tokenizer.codes)
    (source / "vocab").write_bytes(tokenizer.vocabulary)
    for language in LANGUAGES:
        ids, positions, unknown = [], [], Counter[str]()
        for line in sample.path(f"train.{language}.txt").read_text(encoding="utf-8").splitlines():
            start = len(ids)
            for piece in tokenizer.segment.line(normalize(line)):
                ids.append(dictionary.word2id.get(piece, 3))
                unknown.update([piece] if ids[-1] == 3 else [])
            positions.append([start, len(ids)])
            ids.append(1)
        content = {
            "dico": dictionary, "sentences": np.array(ids, np.uint16),
            "positions": np.array(positions, np.int64), "unk_words": dict(unknown),
        }  # fmt: skip
        torch.save(content, source / f"train.{language}.pth")
    del sys.modules[module.__name__]  # the reader must not find the class
    import_corpora(Import(source=str(source), folder=str(imported)))
    text = Texts(train={name: f"sample:train.{name}.txt" for name in LANGUAGES})
    vocabulary = Vocabulary(codes=str(source / "codes"), vocab=str(source / "vocab"))
    prepare(Prepare(folder=str(prepared), text=text, vocabulary=vocabulary, workers=1))
    both = [Corpora.open(folder) for folder in (imported, prepared)]
    pairs = [tuple(corpora.text("train", name) for corpora in both) for name in LANGUAGES]
    same = [list(map(list, one)) == list(map(list, other)) for one, other in pairs]
    sizes = [len(one) for one, _ in pairs]
    return {
        "format": "original XLM's binarized data (.pth)",
        "direction": "in",
        "models": 0,
        "lines": sum(sizes),
        "identical": sum(size for size, equal in zip(sizes, same, strict=True) if equal),
        "tokenizers": "as prepared from the text",
        "lost": "which unknown word stood where, as in the files themselves",
    }


def measure(folder: Path, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield every row of the table, each from at most ``most`` models."""
    for number, (name, (peers, lost)) in enumerate(IMPORTS.items()):
        results = []
        for at, source in enumerate(itertools.islice(peers(folder), most)):
            target = folder / f"in-{number}-{at}"
            results.append(import_model(Import(source=str(source), folder=str(target))))
        yield row(name, "in", results, lost)
    for name, (format, mine, lost) in exports(folder).items():
        results = []
        for at, model in enumerate(mine[:most]):
            source, target = folder / f"{name}-{at}", folder / f"{name}-{at}-out"
            model.save_pretrained(source)
            results.append(
                export_model(Export(source=str(source), folder=str(target), format=format))  # type: ignore[arg-type]
            )
        yield row(name, "out", results, lost)
    yield binarized(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one model a format; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for found in measure(Path(folder), 1 if arguments.quick else None):
            rows.append(found)
            sys.stdout.write(f"{found}\n")
    if not arguments.quick:
        record.write("interchange", {"transformers": transformers.__version__, "rows": rows})
    return int(any(found.get("logits", 0.0) > TOLERANCE for found in rows))


if __name__ == "__main__":
    sys.exit(main())
