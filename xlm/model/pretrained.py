"""A model with all it takes to use it, and its directory: self-contained, never a pickle.

model.safetensors   every parameter once (the tied matrix is stored as the word embeddings)
config.json         format version, ModelConfig, vocabulary size, padding id, caller's extras
languages.json      language -> row of the language table
tokenizer/          the tokenizer, if there is one
heads.safetensors   the heads of a fine-tuned model, and
tasks.yaml          the tasks that they are of
SHA256SUMS          the SHA-256 of every file above, written last
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.digests import SUMS, check_digest, digests, read_sums, render_sums
from xlm.errors import CheckpointError, ConfigError, one_line
from xlm.languages import match_languages
from xlm.model.config import ModelConfig
from xlm.model.tensor_files import read_tensors, values_not_finite, write_tensors
from xlm.model.transformer import Transformer
from xlm.model.uses import Uses
from xlm.storage import make_folder, read_json, write_json, write_whole
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

log = logging.getLogger("xlm")

FORMAT = "xlm-pretrain model"
FORMAT_VERSION = 1
WEIGHTS, CONFIG, LANGUAGES = "model.safetensors", "config.json", "languages.json"
TOKENIZER = "tokenizer"
HEADS, TASKS = "heads.safetensors", "tasks.yaml"


@dataclass(frozen=True)
class PretrainedModel(Uses):
    """A transformer, its tokenizer and its languages: what ``xlm.load`` returns."""

    transformer: Transformer
    tokenizer: Tokenizer
    languages: dict[str, int]
    """The row of each language in the language table; empty if the model has no such table and so
    makes no difference between languages."""
    extra: dict[str, Any] = field(default_factory=dict)
    """The origin of the model and other extras of the caller, kept in config.json."""
    heads: dict[str, Tensor] = field(default_factory=dict)
    """The tensors of a fine-tuned model's heads, by their names in a run (``heads.nli....``)."""
    tasks: str = ""
    """The tasks of those heads, as the ``objectives`` of a recipe."""
    source: str = "the model"
    """The name of the model in messages: the path it was loaded from."""

    @classmethod
    def open(cls, folder: str | Path) -> PretrainedModel:
        """Load a model that ``save_pretrained`` wrote, in evaluation mode.

        Raises CheckpointError or DataError. Every file is verified; for a directory of an older
        version, without sums, the log says that it is not.
        """
        verify_model(folder)
        transformer, languages = load_model(folder)
        tokenizer = load_tokenizer(Path(folder) / TOKENIZER)
        extra = _read_description(Path(folder)).get("extra", {})
        if tokenizer.vocab_size != transformer.vocab_size:
            raise CheckpointError(
                f"{folder}: the model has a vocabulary of {transformer.vocab_size} ids, the "
                f"tokenizer beside it {tokenizer.vocab_size}: one of the two was replaced"
            )
        heads, tasks = _read_heads(Path(folder))
        return cls(transformer.eval(), tokenizer, languages, extra, heads, tasks, str(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a self-contained directory, which ``xlm.load`` opens on any machine."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(Path(folder) / TOKENIZER)
        save_model(self.transformer, folder, self.languages, self.extra)
        _write_heads(Path(folder), self.heads, self.tasks)
        write_sums(folder)

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Upload the directory of ``save_pretrained`` as ``OWNER/NAME`` and return its address.

        The repository is made if need be. Raises ConfigError if ``huggingface_hub`` (the extra hf)
        is missing, CheckpointError if the hub refuses or cannot be reached.
        """
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise ConfigError(
                f"uploading {name} needs the extra hf: pip install 'xlm-pretrain[hf]'"
            ) from error
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            try:
                hub = HfApi()
                address = hub.create_repo(name, private=private, exist_ok=True)
                hub.upload_folder(repo_id=name, folder_path=folder)
            except Exception as error:  # the network, the hub, a name, a missing login ...
                reason = one_line(error)
                raise CheckpointError(
                    f"{name} was not uploaded: {reason}; log in with `hf auth login`, or save the "
                    "model and upload its folder by hand"
                ) from error
        return str(address)

    @property
    def has_languages(self) -> bool:
        """True if the encoder has a table of languages, so that a language must be named."""
        return self.transformer.encoder.languages is not None

    def language_id(self, language: str | None) -> int:
        """Return the row of ``language``, 0 for a model without a table of languages.

        Raises ConfigError for a language that the model does not know, and for none. A model
        without a table makes no difference between languages: it takes any.
        """
        if not self.has_languages:
            return 0
        if language is None:
            raise ConfigError(
                f"the model tells languages apart: name one of {', '.join(self.languages)}"
            )
        otherwise = "take a model that does"
        return match_languages(self.languages, [language], otherwise=otherwise)[language]

    def batch(
        self,
        lines: Sequence[str],
        language: str | None = None,
        seconds: Sequence[str] | None = None,
        second_language: str | None = None,
        *,
        layout: str | None = None,
    ) -> Batch:
        """Return sentences or pairs (``merged`` or another layout) as a batch without targets.

        Lines are normalized and tokenized here. Rows longer than the model's positions raise
        ConfigError.
        """
        for what, given in (("lines", lines), ("seconds", seconds)):
            if isinstance(given, str):  # whose letters would pass for lines
                raise ConfigError(f"{what} is the string {given[:40]!r}: give a list of strings")
        layout = layout or ("xlm" if seconds is None else "merged")
        encoded = self._encoded(lines, language)
        if seconds is None:
            rows = [self.tokenizer.wrap(first, None, layout) for first in encoded]
        else:
            others = self._encoded(seconds, second_language or language)
            pairs = zip(encoded, others, strict=True)
            rows = [self.tokenizer.wrap(first, second, layout) for first, second in pairs]
        return self.batch_rows(rows, language, second_language)

    def _encoded(self, lines: Sequence[str], language: str | None) -> list[Ids]:
        tokenizer = self.tokenizer.in_language(language)
        return [np.array(tokenizer.encode(tokenizer.normalize(line)), np.int64) for line in lines]

    def batch_rows(
        self,
        rows: Sequence[Wrapped],
        language: str | None = None,
        second_language: str | None = None,
    ) -> Batch:
        """Return rows that already have their special tokens as a batch, as ``batch`` does."""
        lengths = torch.tensor([len(row.tokens) for row in rows])
        shape = (len(rows), int(lengths.max()) if len(rows) else 0)
        if shape[1] > self.transformer.config.max_positions:
            raise ConfigError(
                f"a row of {shape[1]} tokens does not fit the model's "
                f"{self.transformer.config.max_positions} positions: shorten it"
            )
        tokens = torch.full(shape, self.tokenizer.pad_id)
        positions, segments = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape).long()
        for at, row in enumerate(rows):
            for padded, values in zip((tokens, positions, segments), row, strict=True):
                padded[at, : len(values)] = torch.from_numpy(values)
        ids = [self.language_id(language), self.language_id(second_language or language)]
        nothing = torch.zeros(0, dtype=torch.int64)
        return Batch(
            tokens=tokens, positions=positions, langs=torch.tensor(ids)[segments],
            segments=segments, lengths=lengths, rows=torch.arange(len(rows)), predict=nothing,
            targets=nothing,
        )  # fmt: skip

    def encode(self, batch: Batch, *, causal: bool = False) -> Tensor:
        """Return the last layer's hidden states ``[B, T, D]`` of a batch, zero at padding."""
        return self.transformer.encode(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments, causal=causal
        )


def model_files(folder: Path) -> list[str]:
    """Return the names of the files of a model directory that its sums are of."""
    own = (WEIGHTS, CONFIG, LANGUAGES, HEADS, TASKS)
    names = [name for name in own if (folder / name).is_file()]
    inside = (path for path in (folder / TOKENIZER).rglob("*") if path.is_file())
    return [*names, *(path.relative_to(folder).as_posix() for path in inside)]


def write_sums(folder: str | Path) -> None:
    """Write the SHA-256 of every file of a model directory as they are now."""
    folder = Path(folder)
    found = digests(folder, model_files(folder))
    write_whole(folder / SUMS, render_sums(found), error=CheckpointError)


def verify_model(folder: str | Path) -> bool:
    """Verify a model directory; return whether it has sums at all, and warn if it has none.

    Raises CheckpointError, which names the file, if one is missing or was changed.
    """
    folder = Path(folder)
    if not (folder / SUMS).exists():
        if (folder / CONFIG).exists():
            log.warning(
                "%s is not verified: it has no %s, as it was written by an older version",
                folder, SUMS,
            )  # fmt: skip
        return False
    sums = read_sums(folder / SUMS, CheckpointError)
    advice = "take another copy, or, if you changed it on purpose, xlm check FOLDER --accept true"
    for name, digest in sums.items():
        try:
            check_digest(folder / name, digest, CheckpointError, advice)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{values_not_finite(folder / name)}") from error
    if unlisted := sorted(set(model_files(folder)) - set(sums)):
        raise CheckpointError(f"{folder / SUMS} does not list {', '.join(unlisted)}: {advice}")
    return True


def save_model(
    model: Transformer,
    folder: str | Path,
    languages: Mapping[str, int],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the model into ``folder``, which is made if need be; each file appears whole or not.

    ``languages`` gives each language's id, 0 .. ``model.num_languages`` - 1, or is empty for a
    model without a language table; ``extra`` is kept in config.json for the caller. Raises
    ConfigError for a language map that does not fit the model, CheckpointError if the disk refuses.
    """
    known = sorted(languages.values()) == list(range(model.num_languages))
    if not known and (languages or model.encoder.languages is not None):
        raise ConfigError(
            f"language ids {dict(languages)} do not fit a model of {model.num_languages} "
            f"languages: expected the ids 0 to {model.num_languages - 1}, each once"
        )
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": dataclasses.asdict(model.config),
        "vocab_size": model.vocab_size,
        "num_languages": model.num_languages,
        "pad_id": model.pad_id,
        "extra": dict(extra or {}),
    }
    folder = Path(folder)
    make_folder(folder, error=CheckpointError)
    write_tensors(folder / WEIGHTS, model.state_dict(), metadata={"format": "pt"})
    for name, content in ((LANGUAGES, languages), (CONFIG, config)):
        write_json(folder / name, content, indent=2, error=CheckpointError)


def load_model(
    folder: str | Path,
    *,
    wanted_languages: Iterable[str] = (),
    vocab_size: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Transformer, dict[str, int]]:
    """Return the model in ``folder``, in training mode and the precision it was saved in.

    With it comes the id of each of its languages. ``wanted_languages`` and ``vocab_size`` are what
    the caller will feed it. Raises CheckpointError if a file is missing or damaged, a tensor does
    not fit, or the model has another vocabulary; ConfigError if it lacks a wanted language.
    """
    folder = Path(folder)
    described = _read_description(folder)
    languages = _read_languages(folder, described)
    otherwise = "leave it out, or start from a model that has it"
    match_languages(languages, wanted_languages, where=str(folder), otherwise=otherwise)
    if vocab_size is not None and vocab_size != described["vocab_size"]:
        raise CheckpointError(
            f"{folder} has a vocabulary of {described['vocab_size']} ids, the tokenizer in use has "
            f"{vocab_size}: use the tokenizer that the model was trained with"
        )
    tensors = read_tensors(folder / WEIGHTS, device=device)
    try:
        config = ModelConfig(**described["model"])
        if config.num_layers + config.num_decoder_layers > len(tensors):
            raise ConfigError(f"{config.num_layers} layers of {len(tensors)} tensors")
        with torch.device("meta"):
            # no memory and no random numbers for values that are about to be replaced
            model = Transformer(
                config,
                vocab_size=described["vocab_size"],
                num_languages=described["num_languages"],
                pad_id=described["pad_id"],
            )
    except (TypeError, ConfigError, RuntimeError) as error:  # of torch: numbers beyond all tensors
        raise CheckpointError(
            f"{folder / CONFIG}: not a model that this version can build ({error})"
        ) from error
    _check_tensors(folder / WEIGHTS, tensors, model.state_dict())
    model.load_state_dict(tensors, assign=True)
    return model, languages


def _write_heads(folder: Path, heads: Mapping[str, Tensor], tasks: str) -> None:
    """Write the heads and their tasks in place of those of a model that lay there, if any."""
    for name in (HEADS, TASKS):
        (folder / name).unlink(missing_ok=True)
    if heads:
        write_whole(folder / TASKS, tasks, error=CheckpointError)
        write_tensors(folder / HEADS, heads)


def _read_heads(folder: Path) -> tuple[dict[str, Tensor], str]:
    if not (folder / HEADS).exists():
        return {}, ""
    heads = read_tensors(folder / HEADS)
    try:
        return heads, (folder / TASKS).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / TASKS}: cannot be read ({error})") from error


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    described = read_json(path)
    if described.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a model directory of this library (format "
            f"{described.get('format')!r}, expected {FORMAT!r})"
        )
    if described.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {described.get('format_version')}, expected "
            f"{FORMAT_VERSION}: install a version of xlm-pretrain that reads it"
        )
    kinds = {"model": dict, "vocab_size": int, "num_languages": int, "pad_id": int}
    for name, kind in kinds.items():
        if not isinstance(described.get(name), kind):
            raise CheckpointError(
                f"{path}: {name} is {described.get(name)!r}, expected {kind.__name__}"
            )
    return described


def _read_languages(folder: Path, described: Mapping[str, Any]) -> dict[str, int]:
    path = folder / LANGUAGES
    num_languages = described["num_languages"]
    languages = read_json(path)
    ids = list(languages.values())
    if not ids and not (described["model"].get("language_embeddings") and num_languages > 1):
        return {}
    if not all(type(i) is int for i in ids) or sorted(ids) != list(range(num_languages)):
        raise CheckpointError(
            f"{path}: {languages} does not fit a model of {num_languages} languages: expected "
            f"the ids 0 to {num_languages - 1}, each once"
        )
    return languages


def _check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError naming what is missing, extra, or of another shape."""
    complaints = []
    if missing := sorted(set(expected) - set(found)):
        complaints.append(f"missing {_some(missing)}")
    if extra := sorted(set(found) - set(expected)):
        complaints.append(f"not part of the model {_some(extra)}")
    misfits = [
        f"{name} {list(found[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(set(found) & set(expected))
        if found[name].shape != expected[name].shape
    ]
    if misfits:
        complaints.append(f"of another shape {_some(misfits)}")
    if complaints:
        raise CheckpointError(f"{path} does not fit {CONFIG} beside it: {'; '.join(complaints)}")


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
