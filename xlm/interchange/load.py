"""Load a model in any known format, from this machine or from the Hugging Face hub.

model directory    config.json of this library           PretrainedModel.open
run, checkpoint    checkpoints/step-00001234, config.yaml; without checkpoints its model
transformers       config.json with model_type           see TRANSFORMERS
fairseq            model.pt and dict.txt
original XLM       a file .pth
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from xlm.config import strict_yaml
from xlm.data.corpora import DESCRIPTION
from xlm.errors import CheckpointError, ConfigError, clipped, first_line, one_line
from xlm.interchange.transformers.sentence_transformers import read_embedding
from xlm.model.adapters import AdapterConfig
from xlm.model.asking import DIRECTIONS, LAYOUT, NO_HEAD, OBJECTIVES
from xlm.model.config import ModelConfig
from xlm.model.embed import EMBEDDING
from xlm.model.facts import TOKENS_SEEN
from xlm.model.language_modules import BODIES, KNOWN, Further, is_module
from xlm.model.language_tables import folded_symbols, roles_of
from xlm.model.model_directory import CONFIG, FORMAT, TABLES, TOKENIZER
from xlm.model.pretrained import PretrainedModel
from xlm.model.tensor_files import check_finite
from xlm.model.transformer import Transformer
from xlm.storage import read_json
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import SETTINGS_FILE, Tokenizer
from xlm.training import checkpoint
from xlm.training.restore import CHECKPOINTS, find_checkpoint

log = logging.getLogger("xlm")

TRANSFORMERS = {
    "xlm": "xlm.interchange.transformers.xlm.read_transformers_xlm",
    "xlm-roberta": "xlm.interchange.transformers.roberta.read_transformers_roberta",
    "roberta": "xlm.interchange.transformers.roberta.read_transformers_roberta",
    "camembert": "xlm.interchange.transformers.roberta.read_transformers_roberta",
    "bert": "xlm.interchange.transformers.bert.read_transformers_bert",
    "modernbert": "xlm.interchange.transformers.modernbert.read_transformers_modernbert",
    "eurobert": "xlm.interchange.transformers.eurobert.read_transformers_eurobert",
    "roformer": "xlm.interchange.transformers.roformer.read_transformers_roformer",
    "mbart": "xlm.interchange.transformers.mbart.read_transformers_mbart",
    "m2m_100": "xlm.interchange.transformers.mbart.read_transformers_mbart",
}
"""Reader of each ``model_type`` of transformers."""

EXPECTED = (
    "a model directory of this library, a run's folder or one of its checkpoints, a transformers "
    f"folder (config.json with model_type {', '.join(TRANSFORMERS)}), a fairseq folder (model.pt "
    "and dict.txt), a file .pth of the original XLM, or OWNER/NAME on the Hugging Face hub"
)
MOST_LISTED = 8
DESCENT = (BODIES, KNOWN, NO_HEAD)
"""Keys of a checkpoint's state, and of ``extra``, for what a run keeps of the model it began as."""
MODEL = "model"
"""Folder of a run that holds its best weights as a model directory."""

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
HUB_FILES = [
    "*.json", "1_Pooling/*", "tokenizer/*", "tables/*", "merges.txt", "vocab.txt", "codes", "vocab",
    "sentencepiece.*", "*.model", "dict.txt", "model*.safetensors", "heads.safetensors",
    "tasks.yaml", "signs.safetensors", "SHA256SUMS",
]  # fmt: skip
"""Files that are fetched from the hub: no pictures, no weights of other frameworks."""
HUB_PICKLED = ["pytorch_model*.bin", "model.pt"]
"""Files fetched only if the repository has no safetensors; read without unpickling code."""


def load(
    source: str | Path,
    *,
    codes: str | Path | None = None,
    vocabulary: str | Path | None = None,
    which: Literal["best", "latest"] = "best",
) -> PretrainedModel:
    """Return the model at ``source`` with its tokenizer and languages, in evaluation mode.

    ``codes`` and ``vocabulary`` are the files of an original ``.pth``; ``which`` chooses the
    checkpoint of a run's folder (its averaged weights, if the run kept any). No file can run code.
    Raises ConfigError for a source of no known format, CheckpointError or DataError for a source
    that is damaged or holds a weight that is not finite.
    """
    model = _opened(source, codes, vocabulary, which)
    check_finite(model.source, {**model.transformer.state_dict(), **model.heads})
    warn_of_tables(model.source, model.tables)
    return model


def warn_of_tables(source: str, tables: Mapping[str, Further]) -> None:
    """Log which of a model's further languages did not converge, and why."""
    for name, further in tables.items():
        if further.description.get("converged") is False:
            fired = "; ".join(map(str, further.description.get("fired", [])))
            log.warning("%s: the table of %s did not converge: %s", source, name, fired)


def _opened(
    source: str | Path,
    codes: str | Path | None,
    vocabulary: str | Path | None,
    which: Literal["best", "latest"],
) -> PretrainedModel:
    path, given = Path(source).expanduser(), {"codes": codes, "vocabulary": vocabulary}
    if "\0" in str(source):
        raise ConfigError(
            f"{str(source)!r}: a name cannot contain a NUL character: expected {EXPECTED}"
        )
    is_name = HUB_NAME.fullmatch(str(source)) and path.suffix not in (".pth", ".pt")
    if not os.path.exists(path) and (any(given.values()) or not is_name):
        raise ConfigError(f"{clipped(str(source))} does not exist: expected {EXPECTED}")
    if path.suffix == ".pth" and path.is_file():
        files = {name: Path(value) for name, value in given.items() if value is not None}
        read_original = _reader("xlm.interchange.original.checkpoint.read_original")
        return replace(read_original(path, **files), source=str(source))
    if path.suffix == ".pt" and path.is_file() and not any(given.values()):
        read_fairseq = _reader("xlm.interchange.fairseq.read_fairseq")
        return replace(_widened(read_fairseq(path)), source=str(source))
    if unasked := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"{source}: {' and '.join(unasked)} only apply to a .pth file of the original "
            "XLM, since every other source has its own tokenizer; leave them out"
        )
    if not os.path.exists(path):
        path = fetch(str(source))
    if not path.is_dir():
        raise ConfigError(f"{source} is a file, but not a model: expected {EXPECTED}")
    if (path / checkpoint.MANIFEST).exists() or (path / CHECKPOINTS).is_dir():
        return read_checkpoint(find_checkpoint(path, which))
    if (path / MODEL / CONFIG).is_file() and not (path / CONFIG).exists():
        path = path / MODEL  # a finished run that kept no checkpoint
    return replace(_widened(_read_folder(path, str(source))), source=str(source))


def usable_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device of that name; auto: CUDA if available. ConfigError if it is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no GPU: give cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _widened(model: PretrainedModel) -> PretrainedModel:
    """Return the model in float32; note it in ``extra`` if the weights were stored in less."""
    narrow = {p.dtype for p in model.transformer.parameters()} & {torch.float16, torch.bfloat16}
    if narrow:
        model.transformer.float()
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in narrow))
        line = f"nothing: weights that were stored in {names} are float32 now"
        model.extra["lost"] = [*model.extra.get("lost", []), line]
    return model


def read_checkpoint(
    loaded: checkpoint.Loaded,
    tokenizer: Tokenizer | None = None,
    *,
    tables: Mapping[str, Tokenizer] | None = None,
    prefer_averaged: bool = True,
) -> PretrainedModel:
    """Return the model of a run's checkpoint with its heads; averaged weights if it has them.

    ``tokenizer``, and those of further ``tables``, save loading the checkpoint's own; with
    ``prefer_averaged`` False, the model has the trained weights. The classes of the run's
    objectives need not be installed. Raises CheckpointError if the files do not fit each other.
    """
    shape = checkpoint_shape(loaded)
    tensors = loaded.tensors("model")
    averaged = prefer_averaged and loaded.has_tensors("averaged")
    if averaged:
        averages = loaded.tensors("averaged")
        tensors.update((name, value) for name, value in averages.items() if name in tensors)
    tokenizer = tokenizer or load_tokenizer(loaded.directory(TOKENIZER))
    languages: dict[str, int] = loaded.state["languages"]
    if tables is None:
        names: dict[str, str] = loaded.state.get("tables", {})
        tables = {name: load_tokenizer(loaded.directory(f"{TABLES}/{name}")) for name in names}
    with torch.device("meta"):
        transformer = Transformer(
            shape,
            vocab_size=tokenizer.vocab_size,
            num_languages=max(len(languages), 1),
            pad_id=tokenizer.pad_id,
        )
        for name, own_tokenizer in tables.items():
            transformer.add_table(
                name, vocab_size=own_tokenizer.vocab_size, roles=roles_of(own_tokenizer), seed=0,
                own_positions=f"model.encoder.tables.{name}.positions.weight" in tensors,
                adapters=_adapters(loaded, name),
            )  # fmt: skip
    # copied: a mapped tensor would crash the process if its file were truncated later
    own = {
        name.removeprefix("model."): tensor.clone()
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    try:
        own = folded_symbols(own, {"": tokenizer, **tables})
        transformer.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{loaded.path}: its tensors do not fit its config.yaml ({one_line(error)})"
        ) from error
    transformer.encoder.begin_id = tokenizer.begin_id
    heads: dict[str, Tensor] = {n: t for n, t in tensors.items() if n.startswith("heads.")}
    return PretrainedModel(
        transformer.eval(), tokenizer, languages, _facts(loaded, averaged), heads,
        _tasks(loaded, heads),
        source=str(loaded.path), tables={name: Further(own) for name, own in tables.items()},
    )  # fmt: skip


def _facts(loaded: checkpoint.Loaded, averaged: bool) -> dict[str, Any]:
    """Return the facts about a run that its model keeps."""
    seen: dict[str, int] = loaded.state.get("train_state", {}).get("tokens", {})
    facts = {
        "step": loaded.step, "averaged": averaged, OBJECTIVES: _class_names(loaded),
        TOKENS_SEEN: sum(seen.values()),
    }  # fmt: skip
    kept = (LAYOUT, DIRECTIONS, *DESCENT)
    return facts | {name: loaded.state[name] for name in kept if name in loaded.state}


def _adapters(loaded: checkpoint.Loaded, table: str) -> AdapterConfig | None:
    """Return the adapters of a table from a checkpoint's resolved config."""
    own = strict_yaml.load(loaded.text("config.yaml")).get("tables", {}).get(table) or {}
    return AdapterConfig(**own["adapters"]) if own.get("adapters") else None


def _class_names(loaded: checkpoint.Loaded) -> list[str]:
    """Return the class names of a run's objectives, without their modules."""
    objectives = strict_yaml.load(loaded.text("config.yaml")).get("objectives", {})
    paths = {str(own.get("class_path", "")) for own in objectives.values()}
    return sorted({path.rpartition(".")[2] for path in paths if path})


def _tasks(loaded: checkpoint.Loaded, heads: Mapping[str, Tensor]) -> str:
    """Return those objectives of a run that have heads, as its config writes them."""
    having = {name.split(".")[1] for name in heads}
    objectives = strict_yaml.load(loaded.text("config.yaml")).get("objectives", {})
    own = {name: value for name, value in objectives.items() if name in having}
    return strict_yaml.dump({"objectives": own}) if own else ""


def checkpoint_shape(loaded: checkpoint.Loaded) -> ModelConfig:
    """Return the model's shape from a checkpoint's resolved config, for any objectives."""
    try:
        return ModelConfig(**strict_yaml.load(loaded.text("config.yaml"))["model"])
    except (yaml.YAMLError, TypeError, KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{loaded.path / 'config.yaml'}: its model settings cannot be built by this "
            f"version ({one_line(error)})"
        ) from error


def open_tokenizer(source: str | Path) -> Tokenizer:
    """Return the tokenizer of prepared text, or of anything that ``load`` takes."""
    path = Path(source).expanduser()
    if (path / CHECKPOINTS).is_dir() and not (path / TOKENIZER / SETTINGS_FILE).exists():
        path = find_checkpoint(path, "best").path
    if (path / TOKENIZER).is_dir() or (path / DESCRIPTION).exists():
        return load_tokenizer(path / TOKENIZER)
    return load(source).tokenizer


def _read_folder(folder: Path, source: str) -> PretrainedModel:
    """Read a model directory of this library, transformers or fairseq."""
    if (folder / CONFIG).is_file():
        described = read_json(folder / CONFIG)
        if described.get("format") == FORMAT:
            return PretrainedModel.open(folder)
        kind = described.get("model_type")
        if isinstance(kind, str) and kind in TRANSFORMERS:
            return _with_embedding(_reader(TRANSFORMERS[kind])(folder), folder)
        raise ConfigError(
            f"{folder / CONFIG}: found format {described.get('format')!r} and model_type {kind!r}, "
            f"expected the format {FORMAT!r} or a model_type of {', '.join(TRANSFORMERS)}"
        )
    if (folder / "model.pt").is_file() and (folder / "dict.txt").is_file():
        return _reader("xlm.interchange.fairseq.read_fairseq")(folder)
    if is_module(folder):
        raise ConfigError(
            f"{source} is a language module: put it into a model of its body by xlm plug, or by "
            "model.plugged"
        )
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    found = ", ".join(names[:MOST_LISTED]) or "nothing"
    what = "prepared text" if (folder / DESCRIPTION).exists() else "no model"
    raise ConfigError(f"{source} holds {what} ({found}{more}): expected {EXPECTED}")


def _with_embedding(model: PretrainedModel, folder: Path) -> PretrainedModel:
    """Return the model, with its embedding settings if sentence-transformers wrote ``folder``."""
    said = read_embedding(folder)
    return replace(model, extra={**model.extra, EMBEDDING: said}) if said else model


def _reader(dotted: str) -> Callable[..., PretrainedModel]:
    """Return the reader of a foreign format, imported only when such a file is read."""
    module, _, name = dotted.rpartition(".")
    reader: Callable[..., PretrainedModel] = getattr(import_module(module), name)
    return reader


def fetch(name: str) -> Path:
    """Return the local copy of a model on the Hugging Face hub, fetched once and cached.

    Raises ConfigError if ``name`` is neither a path nor the name of a model, or if
    ``huggingface_hub`` is not installed; CheckpointError if the hub refuses or cannot be reached.
    """
    if not HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name} does not exist: expected {EXPECTED}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ConfigError(
            f"{name} does not exist here, and fetching it from the Hugging Face hub needs "
            "the extra hf: pip install 'xlm-pretrain[hf]'"
        ) from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*HUB_FILES, *HUB_PICKLED]))
    except Exception as error:  # the network, the hub, a name that does not exist ...
        raise CheckpointError(
            f"{name} does not exist here, and the Hugging Face hub has no model of that name "
            f"that can be fetched ({clipped(first_line(error))}); correct the path or the "
            "name, or download it yourself and give its folder"
        ) from error
    return folder
