"""The newer shapes for interchange.py: RoFormer, ModernBERT and EuroBERT, in and out.

Both ways the model has weights at random. What comes in is transformers' own class, saved by its
own ``save_pretrained``, beside a tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from xlm.convert import Export, export_model
from xlm.model.pretrained import PretrainedModel

Shake = Callable[[Any, int, float], Any]
SCALE = 0.1
"""Size of random weights: a pre-norm model adds its layers up, and logits grow with them."""
ROFORMER: list[dict[str, Any]] = [
    {"preset": "rotary-tiny"},
    {"preset": "rotary-tiny", "num_segments": 2},
    {"preset": "rotary-tiny", "tied_output": False},
]
MODERNBERT: list[dict[str, Any]] = [
    {"preset": "modernbert-tiny", "num_layers": 5, "window": 16, "global_every": 3},
    {"preset": "modernbert-tiny", "window": None, "global_every": 1, "local_rotary_base": None},
    {"preset": "modernbert-tiny", "num_layers": 5, "window": 16, "tied_output": False},
]
"""Layers that see a row and layers that see a window, with two rotary bases or one."""
FIXED = "embed_positions"
"""RoFormer's sines and cosines, which are no weights."""
SYMBOLS = ["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"]


def peers_of(
    format: str, mine: list[PretrainedModel], shake: Shake, folder: Path
) -> Iterator[Path]:
    """Yield folders of transformers' class in the shape of our exports, with weights of its own."""
    for at, model in enumerate(mine):
        source, donor, path = (folder / f"{format}-{at}{end}" for end in ("", "-donor", "-peer"))
        model.save_pretrained(source)
        settings = Export(source=str(source), folder=str(donor), format=format, parity=False)  # type: ignore[arg-type]
        export_model(settings)
        config = transformers.AutoConfig.from_pretrained(donor)
        peer = transformers.AutoModelForMaskedLM.from_config(config)
        kept = {name: value.clone() for name, value in peer.state_dict().items() if FIXED in name}
        peer = shake(peer, at, SCALE)
        peer.load_state_dict(kept, strict=False)
        peer.save_pretrained(path)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(donor / name, path / name)
        yield path


def eurobert_peers(lines: tuple[str, ...], shake: Shake, folder: Path) -> Iterator[Path]:
    """Yield folders of EuroBertForMaskedLM, with keys and values of each head and shared ones."""
    backend = byte_level(lines)
    for at, num_shared in enumerate((4, 2, 1)):
        config = transformers.EuroBertConfig(
            vocab_size=backend.get_vocab_size(), hidden_size=32, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=num_shared, intermediate_size=48,
            max_position_embeddings=200, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            mask_token_id=2, tie_word_embeddings=bool(at),
        )  # fmt: skip
        path = folder / f"eurobert-{at}"
        shake(transformers.EuroBertForMaskedLM(config), at, SCALE).save_pretrained(path)
        backend.save(str(path / "tokenizer.json"))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SYMBOLS[0],
            "eos_token": SYMBOLS[1], "pad_token": SYMBOLS[1], "mask_token": SYMBOLS[2],
        }  # fmt: skip
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
        yield path


def byte_level(lines: tuple[str, ...]) -> Backend:
    """Return BPE of bytes without an unknown token, as EuroBERT has it."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=SYMBOLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(lines, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{SYMBOLS[0]} $A {SYMBOLS[1]}",
        pair=f"{SYMBOLS[0]} $A {SYMBOLS[1]} {SYMBOLS[0]}:1 $B:1 {SYMBOLS[1]}:1",
        special_tokens=[(name, at) for at, name in enumerate(SYMBOLS)],
    )
    return backend
