"""What the original's models compute, against what xlm computes with the same weights.

The files and their conventions are described in the README of the golden folder: time first there,
batch first here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.equality.golden_data import corpus_of, read_json, tokenizer_of
from benchmarks.support.agreement import Table
from xlm.interchange.load import load
from xlm.interchange.original.binarized import read_binarized
from xlm.interchange.safe_torch.files import read_torch_file
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Side, Transformer
from xlm.training.initialization import Initialization, initialize
from xlm.training.learner import Learner


def load_model(golden: Path, file: str) -> PretrainedModel:
    """A checkpoint of the folder."""
    return load(
        golden / file, codes=golden / "data" / "codes", vocabulary=golden / "data" / "vocab"
    )


def translator_file(golden: Path) -> str:
    """Return the name of the folder's one translation model."""
    (file,) = (path for path in (golden / "mt").glob("*.pth") if ".legacy" not in path.name)
    return f"mt/{file.name}"


# Files.


def binarized(golden: Path, table: Table) -> None:
    """The original's binarized text, read without running anything that it pickles."""
    tokenizer = tokenizer_of(golden)
    with np.load(golden / "data" / "binarised.npz") as arrays:
        expected = {name: arrays[name] for name in arrays.files}
    unknown = read_json(golden, "data/dictionary.json")["unk_words"]
    for folder in ("data", "data_seen"):
        ids, borders, words = [], [], []
        for path in sorted((golden / folder).glob("*.pth")):
            found = read_binarized(path)
            name = path.name.replace(".legacy", "")
            if folder == "data_seen":
                text = path.with_suffix("")
                corpus = corpus_of(text, text.suffix[1:], tokenizer)
                ids.append((found.ids, corpus.ids))
                borders.append((found.lengths, np.diff(corpus.offsets)))
                continue
            ends = np.cumsum(found.lengths)
            ids.append((found.ids, expected[f"{name}.sentences"]))
            positions = np.stack([ends - found.lengths, ends - 1], axis=1)
            borders.append((positions, expected[f"{name}.positions"]))
            words.append((found.unknown_words, unknown[name]))
            words.append((found.pieces, tokenizer.pieces))
        what = f"{len(ids)} files read, legacy ones too" if words else f"{len(ids)} files read"
        table.exact(f"{folder}/*.pth", f"{what}: ids", ids)
        table.exact(f"{folder}/*.pth", f"{what}: sentence borders", borders)
        if words:
            table.exact(f"{folder}/*.pth", f"{what}: pieces and unknown words", words)


def contents(golden: Path, table: Table) -> None:
    """Keys, tensors and settings of a checkpoint; its languages."""
    described = read_json(golden, "mlm/contents.json")
    content = read_torch_file(golden / "mlm" / "checkpoint.pth")
    table.exact(
        "mlm/contents.json", "keys of checkpoint.pth", [(list(content), list(described["keys"]))]
    )
    shown = {
        name: f"tensor {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for name, tensor in content["model"].items()
    }
    table.exact("mlm/contents.json", "type and shape of each tensor", [(shown, described["model"])])
    settings = {
        name: value
        for name, value in described["params"].items()
        if not isinstance(value, str) or not value.startswith(("list", "dict", "tensor", "array"))
    }
    found = {name: content["params"][name] for name in settings}
    table.exact("mlm/contents.json", "settings (params)", [(found, settings)])
    model = load_model(golden, "mlm/checkpoint.pth")
    table.exact(
        "mlm/contents.json",
        "row of each language",
        [(model.languages, {"en": 0, "fr": 1, "hi": 2})],
    )


def legacy(golden: Path, table: Table) -> None:
    """The files re-saved in PyTorch's older format hold the same weights."""
    for file in sorted(golden.glob("m*/*.legacy.pth")):
        name = str(file.relative_to(golden))
        new = load_model(golden, name.replace(".legacy", "")).transformer.state_dict()
        old = load_model(golden, name).transformer.state_dict()
        compared = [(old[key].numpy(), tensor.numpy()) for key, tensor in new.items()]
        table.exact(name, "weights, with those of the zip file", compared)


# Forward passes.


class Batch:
    """One batch of a file of figures, turned batch-first."""

    def __init__(self, arrays: Any, name: str):
        prefix = name + "."
        self._arrays = {
            key.removeprefix(prefix): torch.from_numpy(arrays[key])
            for key in arrays.files
            if key.startswith(prefix)
        }

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> Tensor:
        value = self._arrays[name]
        return value.transpose(0, 1) if value.ndim > 1 and name != "logits" else value

    def inputs(self, side: str = "") -> dict[str, Tensor]:
        """What ``encode`` and ``decode`` take."""
        names = {"tokens": side or "tokens", "lengths": f"{side}_lengths" if side else "lengths"}
        for name in ("positions", "langs"):
            names[name] = f"{side}_{name}" if side else name
        return {new: self[old] for new, old in names.items() if old in self}

    def flat(self, cells: str) -> Tensor:
        """Flat cells (row * T + position), in the time-major order of logits and targets."""
        position, row = torch.nonzero(self._arrays[cells], as_tuple=True)
        return row * self._arrays[cells].shape[0] + position

    def all_targets(self) -> Tensor:
        """Those of every cell that the original predicts; in MLM what was masked there."""
        if "all_targets" in self:
            return self["all_targets"]
        return self["unmasked"].flatten()[self.flat("all_cells")]


Arrays = dict[str, list[tuple[Any, Any]]]


def _outputs(
    model: Transformer, batch: Batch, hidden: Tensor, name: str, side: Side = "encoder"
) -> Arrays:
    logits = model.predict(hidden, batch.flat("cells"), side=side)
    every = model.predict(hidden, batch.flat("all_cells"), side=side)
    targets = batch.all_targets()
    losses = [
        (float(sum_cross_entropy(logits, batch["targets"])) / len(logits), float(batch["loss"])),
        (float(sum_cross_entropy(every, targets)) / len(every), float(batch["loss_all_cells"])),
    ]
    return {
        name: [(hidden.numpy(), batch[name].numpy())],
        "logits": [(logits.numpy(), batch["logits"].numpy())],
        "loss": losses,
    }


def _encoder_batch(model: Transformer, batch: Batch, causal: bool) -> Arrays:
    hidden = model.encode(**batch.inputs(), causal=causal)
    found = _outputs(model, batch, hidden, "hidden")
    if "after_embeddings" in batch:
        layers = model.encode_layers(**batch.inputs(), causal=causal)
        names = ["after_embeddings", *(f"after_layer_{k}" for k in range(len(layers) - 1))]
        real = (torch.arange(hidden.shape[1]) < batch["lengths"][:, None]).numpy()
        found["each layer (real cells)"] = [
            (own.numpy()[real], batch[name].numpy()[real])
            for name, own in zip(names, layers, strict=True)
        ]
    return found


def _translation_batch(model: Transformer, batch: Batch) -> Arrays:
    source = batch.inputs("source")
    memory = model.encode(**source)
    hidden = model.decode(
        source_hidden=memory, source_lengths=source["lengths"], **batch.inputs("target")
    )
    found = _outputs(model, batch, hidden, "decoder_hidden", "decoder")
    return {"encoder_hidden": [(memory.numpy(), batch["encoder_hidden"].numpy())], **found}


FORWARD = {
    "mlm/forward.npz": "mlm/best-valid_mlm_ppl.pth",
    "mlm/forward_checkpoint.npz": "mlm/checkpoint.pth",
    "mlm/forward_relu.npz": "mlm/relu.best-valid_mlm_ppl.pth",
    "mlm/forward_nolang.npz": "mlm/nolang.best-valid_mlm_ppl.pth",
    "clm/forward.npz": "clm/best-valid_clm_ppl.pth",
}
"""Which checkpoint each file of figures was computed with; the translation model's comes last."""


@torch.no_grad()
def forward(golden: Path, table: Table) -> None:
    """Hidden states, logits and losses of every model, from its file on."""
    for file, weights in {**FORWARD, "mt/forward_and_decode.npz": translator_file(golden)}.items():
        pretrained = load_model(golden, weights)
        found: Arrays = {}
        with np.load(golden / file) as arrays:
            batches = dict.fromkeys(name.partition(".")[0] for name in arrays.files)
            for name in batches:
                batch = Batch(arrays, name)
                if file.startswith("mt"):
                    own = _translation_batch(pretrained.transformer, batch)
                else:
                    own = _encoder_batch(pretrained.transformer, batch, file.startswith("clm"))
                for key, values in own.items():
                    found.setdefault(key, []).extend(values)
        tolerance = 2e-5 if file.startswith("mt") else 1e-5
        for name, compared in found.items():
            num = f"{len(batches)} batches" if len(batches) > 1 else "1 batch"
            what = f"{name.replace('_', ' ')}, {num} of {Path(weights).name}"
            table.close(file, what, compared, tolerance)


ORIGINAL_NAMES = (
    ("words.weight", ["embeddings.weight"]),
    ("positions.weight", ["position_embeddings.weight"]),
    ("languages.weight", ["lang_embeddings.weight"]),
    ("output_bias", ["pred_layer.proj.bias"]),
    ("embedding_norm", ["layer_norm_emb"]),
    ("cross_attention_norm", ["layer_norm15.{}"]),
    ("cross_attention.query", ["encoder_attn.{}.q_lin"]),
    ("cross_attention.key_value", ["encoder_attn.{}.k_lin", "encoder_attn.{}.v_lin"]),
    ("cross_attention.output", ["encoder_attn.{}.out_lin"]),
    ("attention_norm", ["layer_norm1.{}"]),
    ("attention.query_key_value", [f"attentions.{{}}.{part}_lin" for part in "qkv"]),
    ("attention.output", ["attentions.{}.out_lin"]),
    ("feed_forward_norm", ["layer_norm2.{}"]),
    ("feed_forward.expand", ["ffns.{}.lin1"]),
    ("feed_forward.contract", ["ffns.{}.lin2"]),
)
"""What a tensor of a stack is called in the original's files."""


def original_names(name: str) -> list[str]:
    """The original's names of the tensors that ``decoder.layers.0...`` is made of."""
    name = name.partition("decoder.")[2]
    layer = ""
    if name.startswith("layers."):
        _, layer, name = name.split(".", 2)
    for ours, theirs in ORIGINAL_NAMES:
        if name == ours or name.startswith(ours + "."):
            return [one.format(layer) + name.removeprefix(ours) for one in theirs]
    raise KeyError(name)


def initialization(golden: Path, table: Table) -> None:
    """Which tensors of a decoder keep their own first values where it starts from an encoder."""
    expected = read_json(golden, "mt/initialisation.json")
    weights = golden / "mlm" / "best-valid_mlm_ppl.pth"
    files = {"codes": golden / "data" / "codes", "vocabulary": golden / "data" / "vocab"}
    source = load(weights, **files)
    translator = load_model(golden, translator_file(golden))
    shape, tokenizer = translator.transformer.config, translator.tokenizer
    model = Transformer(
        shape,
        vocab_size=tokenizer.vocab_size,
        num_languages=len(translator.languages),
        pad_id=tokenizer.pad_id,
    )
    report = initialize(
        Learner(model, {}, shape),
        Initialization(encoder=str(weights), decoder=str(weights)),
        encoder=source,
        decoder=source,
        tokenizer=source.tokenizer,
        languages=source.languages,
    )
    for kind, names in (("left_random", report.left), ("copied", report.copied)):
        found = [
            original for name in names if "decoder." in name for original in original_names(name)
        ]
        own = [n for n in expected[f"decoder_tensors_{kind}"] if n != "pred_layer.proj.weight"]
        what = f"decoder tensors {kind.replace('_', ' ')}"
        table.exact("mt/initialisation.json", what, [(sorted(found), sorted(own))])


def families() -> Iterator[Any]:
    """Everything of this module, in the order of the table."""
    yield from (binarized, contents, legacy, forward, initialization)
