"""A language module: the parts that belong to one language, in a folder that travels.

table.safetensors   words, output bias and the rest of ``Table``, without the rows of symbols; of
                    a table that shares the model's words, the rest alone
table.json          format version, language, shape, ids of the symbols, digest of the body
tokenizer/          the language's tokenizer
SHA256SUMS          the SHA-256 of every file above, written last

A model directory has one below ``tables`` for each further language. A module fits the body that it
was learned on, and every one that was fine-tuned from it: a model records the digests of the bodies
that it descends from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.digests import SUMS, check_digest, digests, read_sums, render_sums
from xlm.errors import CheckpointError, ConfigError
from xlm.languages import is_language_name
from xlm.model.adapters import AdapterConfig
from xlm.model.config import ModelConfig
from xlm.model.language_tables import (
    OF_VOCABULARY,
    ROLES,
    Table,
    has_words_of,
    layout_of,
    roles_of,
    symbol_rows,
)
from xlm.model.model_directory import TABLES, TOKENIZER
from xlm.model.tensor_files import check_finite, read_tensors, write_tensors
from xlm.model.transformer import Transformer
from xlm.storage import make_folder, read_json, write_json, write_whole
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

FORMAT = "xlm-pretrain language module"
FORMAT_VERSION = 1
TENSORS, DESCRIPTION = "table.safetensors", "table.json"
BODIES = "bodies"
"""Key of a model's ``extra`` for the digests of the bodies that it descends from."""
KNOWN = "known_languages"
"""Key of a model's ``extra`` for the languages of its own vocabulary, if no table names them."""
WORDS, SHARED_WORDS = "words", "shared"
"""Key of a module's description, and its value if words and output are the model's own."""
_OF_TABLE = (*OF_VOCABULARY, "languages.weight", "positions.weight")
_WIDTHS = (
    "dim", "num_layers", "num_heads", "positions", "max_positions", "num_segments", "tied_output",
    "output_transform", "embedding_scale", "plain_first",
)  # fmt: skip
"""Fields of a shape that a module was learned for."""


@dataclass(frozen=True)
class Further:
    """A language with a vocabulary of its own, beside its table in the transformer."""

    tokenizer: Tokenizer
    description: dict[str, Any] = field(default_factory=dict)
    """What table.json says of its origin: how it was started and trained, and on which body."""


@dataclass(frozen=True)
class Module:
    """A module that was read: its name, tensors (symbols left out), tokenizer and description."""

    language: str
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer
    description: dict[str, Any]


def body_digest(transformer: Transformer, tokenizer: Tokenizer) -> str:
    """Return the SHA-256 (hex) of all that a table is read by: the body and the symbols.

    The words, the output onto them, and the tables of positions and languages are not part of it.
    """
    state = transformer.encoder.state_dict()
    symbols = list(dict.fromkeys(roles_of(tokenizer)))
    body = {
        name: tensor
        for name, tensor in state.items()
        if name not in _OF_TABLE and not name.startswith("tables.")
    }
    body["symbols"] = state["words.weight"][symbols]
    digest = hashlib.sha256(json.dumps(_shape(transformer.config), sort_keys=True).encode())
    for name, tensor in sorted(body.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return every byte of a tensor."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def write_tables(
    folder: Path, transformer: Transformer, tokenizer: Tokenizer, tables: Mapping[str, Further]
) -> None:
    """Write a module for each further language below ``folder``, in place of those that lie there.

    Raises CheckpointError if the disk refuses.
    """
    if (folder / TABLES).is_dir():
        shutil.rmtree(folder / TABLES)
    for name, further in tables.items():
        write_module(folder / TABLES / name, name, transformer, tokenizer, further)


def write_module(
    folder: str | Path,
    name: str,
    transformer: Transformer,
    tokenizer: Tokenizer,
    further: Further,
) -> None:
    """Write one of a model's further languages as a module; raise CheckpointError if it cannot.

    ``tokenizer`` is the model's own. A body that the description names stays the module's.
    """
    folder, table = Path(folder), transformer.encoder.table(name)
    make_folder(folder, error=CheckpointError)
    further.tokenizer.save(folder / TOKENIZER)
    tensors, described = without_symbols(table), dict(further.description)
    if described.get(WORDS) == SHARED_WORDS:
        if has_words_of(table, transformer.encoder):
            tensors = {n: own for n, own in tensors.items() if n not in OF_VOCABULARY}
        else:  # it was trained on
            del described[WORDS]
    write_tensors(folder / TENSORS, tensors)
    description = {
        "language": name,
        "vocab_size": len(table.words.weight),
        "roles": dict(zip(ROLES, table.roles, strict=True)),
        "shape": _shape(transformer.config),
        "layout": layout_of(tokenizer),
        "with_language": table.language is not None,
        "own_positions": table.positions is not None,
        "adapters": None if table.adapters is None else dataclasses.asdict(table.adapters.config),
        **described,
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
    }
    if "body" not in description:
        description["body"] = body_digest(transformer, tokenizer)
    write_json(folder / DESCRIPTION, description, indent=2, error=CheckpointError)
    reseal_module(folder)


def is_module(folder: Path) -> bool:
    """Return whether a folder holds the description of a language module."""
    return (folder / DESCRIPTION).is_file()


def reseal_module(folder: Path) -> None:
    """Write the SHA-256 of every file of a module as they are now."""
    write_whole(folder / SUMS, render_sums(digests(folder, _files(folder))), error=CheckpointError)


def reseal_tables(folder: Path) -> None:
    """Write those of every module below a model directory."""
    for place in _modules(folder):
        reseal_module(place)


def _modules(folder: Path) -> list[Path]:
    """Return the folders of the modules of a model directory, by name."""
    if not (folder / TABLES).is_dir():
        return []
    return sorted(path for path in (folder / TABLES).iterdir() if path.is_dir())


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return [path.relative_to(folder).as_posix() for path in paths]


def without_symbols(table: Table) -> dict[str, Tensor]:
    """Return the tensors of a table by name; those with a row a piece lack the symbols' rows."""
    tensors = dict(table.state_dict())
    keep = torch.ones(len(table.words.weight), dtype=torch.bool)
    keep[list(table.roles)] = False
    for name in ("words.weight", "output_weight"):
        if name in tensors:
            tensors[name] = tensors[name][keep.to(tensors[name].device)]
    return tensors


def read_module(folder: str | Path) -> Module:
    """Return the module in ``folder``, every file of it verified.

    Raises CheckpointError for a folder that is none, or one that is damaged, DataError for its
    tokenizer.
    """
    folder = Path(folder)
    if not is_module(folder):
        raise CheckpointError(
            f"{folder} holds no {DESCRIPTION}: expected a language module, the folder `module` "
            "that xlm add-language leaves, or one below `tables` of a model"
        )
    described = read_json(folder / DESCRIPTION)
    if described.get("format") != FORMAT or described.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder / DESCRIPTION}: found format {described.get('format')!r}, version "
            f"{described.get('format_version')!r}; expected {FORMAT!r}, version "
            f"{FORMAT_VERSION}, as in the folder `module` that xlm add-language leaves"
        )
    advice = "take another copy"
    accepted = f"{advice}, or, if you changed it on purpose, xlm check FOLDER --accept true"
    for name, digest in read_sums(folder / SUMS, CheckpointError).items():
        check_digest(folder / name, digest, CheckpointError, accepted)
    language, kinds = described.get("language"), {"vocab_size": int, "shape": dict, "roles": dict}
    for name, kind in kinds.items():
        if not isinstance(described.get(name), kind):
            raise CheckpointError(
                f"{folder / DESCRIPTION}: {name} is {described.get(name)!r}, expected "
                f"{kind.__name__}: {advice}"
            )
    if not isinstance(language, str) or not is_language_name(language):
        raise CheckpointError(
            f"{folder / DESCRIPTION}: language {language!r} is not a valid name: {advice}"
        )
    tokenizer = load_tokenizer(folder / TOKENIZER)
    tensors = read_tensors(folder / TENSORS)
    check_finite(folder / TENSORS, tensors)
    if described["vocab_size"] != tokenizer.vocab_size:
        raise CheckpointError(
            f"{folder}: the table has {described['vocab_size']} rows, but the tokenizer has "
            f"{tokenizer.vocab_size} pieces: one of the two was replaced; {advice}"
        )
    return Module(language, tensors, tokenizer, described)


def read_tables(folder: Path, transformer: Transformer, tokenizer: Tokenizer) -> dict[str, Further]:
    """Add the tables below a model directory to its transformer; return their tokenizers."""
    found = {}
    for place in _modules(folder):
        module = read_module(place)
        if module.language != place.name:
            raise CheckpointError(
                f"{place} holds {module.language}, not the language it is named after: the "
                "folder was renamed"
            )
        put_in(transformer, tokenizer, module, place)
        found[module.language] = Further(module.tokenizer, module.description)
    return found


def put_in(transformer: Transformer, tokenizer: Tokenizer, module: Module, place: object) -> None:
    """Add a module's table to a transformer, in place.

    Raises ConfigError for a module of another shape or layout, CheckpointError if its tensors are
    not those that it describes; ``place`` names it.
    """
    described = module.description
    _check_fit(transformer.config, tokenizer, module, place)
    if bool(described.get("with_language")) != (transformer.encoder.languages is not None):
        raise ConfigError(
            f"{place}: only one of module and model has language vectors: take a module that "
            "was learned on this model"
        )
    roles, weight = roles_of(module.tokenizer), transformer.encoder.words.weight
    with torch.device("meta"):
        table = transformer.add_table(
            module.language, vocab_size=module.tokenizer.vocab_size, roles=roles,
            own_positions=bool(described.get("own_positions")), seed=0,
            adapters=_adapters(described.get("adapters"), place),
        )  # fmt: skip
    tensors = {name: tensor.to(weight) for name, tensor in module.tensors.items()}
    if described.get(WORDS) == SHARED_WORDS:
        state = transformer.encoder.state_dict()
        tensors |= {name: state[name].clone() for name in OF_VOCABULARY if name in state}
    shared = symbol_rows(roles, roles_of(tokenizer))
    own = {"words.weight": weight, "output_weight": transformer.encoder.output_weight}
    keep = torch.ones(module.tokenizer.vocab_size, dtype=torch.bool)
    keep[list(roles)] = False
    at = list(dict.fromkeys(roles_of(tokenizer)))
    for name, matrix in own.items():
        if name in tensors and matrix is not None and len(tensors[name]) == int(keep.sum()):
            whole = torch.empty(len(keep), *tensors[name].shape[1:], dtype=weight.dtype)
            whole[keep] = tensors[name].cpu()
            whole[list(shared)] = matrix.detach()[at][list(shared.values())].cpu()
            tensors[name] = whole.to(weight.device)
    expected = {name: tuple(tensor.shape) for name, tensor in table.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(
            name for name in {**expected, **found} if expected.get(name) != found.get(name)
        )
        del transformer.encoder.tables._modules[module.language]
        raise CheckpointError(
            f"{place}: {wrong[0]} is {found.get(wrong[0], 'missing')}, expected "
            f"{expected.get(wrong[0], 'no such tensor')}: the module does not fit its description; "
            "take another copy"
        )
    table.load_state_dict(tensors, assign=True)
    table.eval()


def _adapters(described: Any, place: object) -> AdapterConfig | None:
    if described is None:
        return None
    try:
        return AdapterConfig(**described)
    except (TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{place}: adapters {described}: {error}; take another copy"
        ) from None


def _check_fit(config: ModelConfig, tokenizer: Tokenizer, module: Module, place: object) -> None:
    here, there = _shape(config), module.description["shape"]
    if wrong := [n for n in (*_WIDTHS, "word_size") if here.get(n) != there.get(n)]:
        raise ConfigError(
            f"{place}: the module was learned for {wrong[0]} {there.get(wrong[0])}, but the "
            f"model has {here.get(wrong[0])}: take one that was learned on this model"
        )
    if module.description.get(WORDS) == SHARED_WORDS and (
        module.tokenizer.digest != tokenizer.digest
    ):
        raise ConfigError(
            f"{place}: the module shares its model's words, but this model has another "
            "vocabulary: take one that was learned on this model"
        )
    if (layout := module.description.get("layout")) != layout_of(tokenizer):
        raise ConfigError(
            f"{place}: the module arranges rows as {layout}, but the model as "
            f"{layout_of(tokenizer)}: take one that was learned on this model"
        )


def _shape(config: ModelConfig) -> dict[str, Any]:
    shape = {name: getattr(config, name) for name in _WIDTHS}
    # newer than the first modules, whose digests are without it
    return shape if config.word_size is None else {**shape, "word_size": config.word_size}


def check_body(module: Module, line: Sequence[str], place: object, source: str) -> None:
    """Raise ConfigError unless a module was learned on one of the bodies of a ``line`` of descent.

    The last of the line is the model's own; ``source`` names the model, ``place`` the module.
    """
    body = str(module.description.get("body"))
    if body not in line:
        older = f" and descends from {', '.join(b[:12] for b in line[:-1])}" if line[1:] else ""
        raise ConfigError(
            f"{place} was learned on the body {body[:12]}, but {source} has "
            f"{line[-1][:12]}{older}: give a model trained from the same body, or insist "
            "with unrelated: true"
        )


def folded(reading: Transformer, language: str) -> Transformer:
    """Return a plain transformer of its own that computes what a reading of a table does.

    A language vector is folded into the table of positions or that of segments, so that the result
    is equal up to rounding; without one it is equal bit for bit. Raises ConfigError if a vector can
    be folded into nothing.
    """
    if reading.encoder.adapters is not None:
        raise ConfigError(
            f"{language} has adapters, which act inside the layers, so no plain model "
            "computes the same: keep the model with its tables"
        )
    config = dataclasses.replace(reading.config, preset=None, language_embeddings=False)
    with torch.device("meta"):
        plain = Transformer(
            config, vocab_size=reading.vocab_size, num_languages=1, pad_id=reading.pad_id
        )
    tensors = {name: tensor.detach().clone() for name, tensor in reading.state_dict().items()}
    vector = tensors.pop("encoder.languages.weight", None)
    if vector is not None:
        places = [f"encoder.{name}.weight" for name in ("positions", "segments")]
        into = next((name for name in places if name in tensors and not config.plain_first), None)
        if into is None:
            raise ConfigError(
                f"{language} has its own vector, which a plain model would keep in its "
                "position or segment table, but this model has neither: keep the model with "
                "its tables"
            )
        tensors[into] += vector
    plain.load_state_dict(tensors, assign=True)
    return plain.train(reading.training)
