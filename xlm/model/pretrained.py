"""A model with all it takes to use it, and its directory: self-contained, never a pickle.

model.safetensors   every parameter once (the tied matrix is stored as the word embeddings)
config.json         format version, ModelConfig, vocabulary size, padding id, caller's extras
languages.json      language -> row of the language table
tokenizer/          the tokenizer, if there is one
heads.safetensors   the heads of a fine-tuned model, and
tasks.yaml          the tasks that they are of
signs.safetensors   signs of a language that it learned, if its run recorded them
tables/NAME/        a module for each further language; see ``xlm.model.language_modules``
SHA256SUMS          the SHA-256 of every file above, written last
README.md           a card of the model, for people to complete
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import CheckpointError, ConfigError, one_line
from xlm.languages import match_languages
from xlm.model.card import write_card
from xlm.model.language_modules import (
    BODIES,
    KNOWN,
    Further,
    body_digest,
    check_body,
    folded,
    put_in,
    read_module,
    read_tables,
    write_tables,
)
from xlm.model.model_directory import (
    SIGNS,
    TOKENIZER,
    load_model,
    read_description,
    read_heads,
    save_model,
    verify_model,
    write_heads,
    write_sums,
)
from xlm.model.tensor_files import read_tensors, write_tensors
from xlm.model.transformer import Transformer
from xlm.model.uses import Uses
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

__all__ = ["PretrainedModel"]


@dataclass(frozen=True)
class PretrainedModel(Uses):
    """A transformer, its tokenizer and its languages; ``xlm.load`` returns one."""

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
    tables: dict[str, Further] = field(default_factory=dict)
    """The languages that have a vocabulary of their own, by name."""
    signs: dict[str, Tensor] = field(default_factory=dict)
    """Signs of a language that the model learned (``xlm.analysis.convergence.to_tensors``), which
    the guard of ``xlm add-language`` compares a new one with; empty if none were recorded."""

    @classmethod
    def open(cls, folder: str | Path) -> PretrainedModel:
        """Load a model that ``save_pretrained`` wrote, in evaluation mode.

        Raises CheckpointError or DataError. Every file is verified; for a directory of an older
        version, without sums, the log says that it is not.
        """
        verify_model(folder)
        transformer, languages = load_model(folder)
        tokenizer = load_tokenizer(Path(folder) / TOKENIZER)
        extra = read_description(Path(folder)).get("extra", {})
        if tokenizer.vocab_size != transformer.vocab_size:
            raise CheckpointError(
                f"{folder}: the model has a vocabulary of {transformer.vocab_size} ids, but "
                f"the tokenizer beside it has {tokenizer.vocab_size}: one of the two was "
                "replaced"
            )
        transformer.encoder.begin_id = tokenizer.begin_id
        heads, tasks = read_heads(Path(folder))
        tables = read_tables(Path(folder), transformer, tokenizer)
        signs = read_tensors(Path(folder) / SIGNS) if (Path(folder) / SIGNS).exists() else {}
        return cls(
            transformer.eval(), tokenizer, languages, extra, heads, tasks, str(folder), tables,
            signs,
        )  # fmt: skip

    def save_pretrained(self, folder: str | Path, details: Mapping[str, str] | None = None) -> None:
        """Write a self-contained directory, which ``xlm.load`` opens on any machine.

        README.md is a card of the model; ``details`` gives it further sections, Markdown by
        heading.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(Path(folder) / TOKENIZER)
        save_model(self.transformer, folder, self.languages, self.extra)
        write_heads(Path(folder), self.heads, self.tasks)
        if self.signs:
            write_tensors(Path(folder) / SIGNS, self.signs)
        write_tables(Path(folder), self.transformer, self.tokenizer, self.tables)
        write_card(
            Path(folder), self.transformer, self.tokenizer, self.languages, self.extra,
            details or {},
        )  # fmt: skip
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

    def table_of(self, language: str | None) -> str:
        """Return the table of a language, "" for the model's own.

        Raises ConfigError if the model has several and no language is named, or one that it does
        not know.
        """
        if not self.tables or language in self.known_languages:
            return ""
        known = [*self.known_languages, *self.tables]
        if language is None:
            raise ConfigError(
                f"the model has {len(self.tables) + 1} vocabularies: name the language, one of "
                f"{', '.join(known)}"
            )
        match_languages(
            dict.fromkeys(known, 0), [language],
            otherwise="add it with xlm add-language, or plug in its module",
        )  # fmt: skip
        return language

    @property
    def known_languages(self) -> list[str]:
        """The languages of the model's own vocabulary, as far as the model says."""
        said = self.extra.get(KNOWN) or self.extra.get("languages") or []
        return [*self.languages] or [str(name) for name in said]

    def reading(self, language: str | None) -> PretrainedModel:
        """Return the model as it reads a language, with the table of that in place of its own.

        No weight is copied. A model without further tables is returned as it is; otherwise
        ConfigError is raised as by ``table_of``.
        """
        table = self.table_of(language)
        if not table:
            return self
        return replace(
            self,
            transformer=self.transformer.reading(table),
            tokenizer=self.tables[table].tokenizer,
            languages={table: 0} if self.has_languages else {},
            tables={},
        )

    @property
    def bodies(self) -> list[str]:
        """The digests of the bodies that the model descends from, its own the last."""
        own = body_digest(self.transformer, self.tokenizer)
        return [*(body for body in self.extra.get(BODIES, []) if body != own), own]

    def plugged(self, folder: str | Path, *, unrelated: bool = False) -> PretrainedModel:
        """Return the model with a module's language; its own weights are shared, not copied.

        The module must have been learned on the model's body, or on one that it descends from
        (``unrelated`` insists on another). Raises ConfigError for another body, width or layout,
        and for a language that is there; CheckpointError for a module that is damaged.
        """
        module = read_module(folder)
        name = module.language
        if name in (*self.tables, *self.known_languages):
            raise ConfigError(
                f"{folder}: {self.source} already has the language {name}: remove it with "
                "model.without, or give another module"
            )
        if not unrelated:
            check_body(module, self.bodies, folder, self.source)
        transformer = self.transformer.with_own_tables()
        put_in(transformer, self.tokenizer, module, folder)
        tables = {**self.tables, name: Further(module.tokenizer, module.description)}
        return replace(self, transformer=transformer, tables=tables)

    def without(self, language: str) -> PretrainedModel:
        """Return the model without a language that has a vocabulary of its own.

        Raises ConfigError if it has no such language.
        """
        match_languages(
            dict.fromkeys(self.tables, 0), [language], where="the list of the model's tables",
            otherwise="name one that has a vocabulary of its own",
        )  # fmt: skip
        transformer = self.transformer.with_own_tables()
        del transformer.encoder.tables._modules[language]
        tables = {name: own for name, own in self.tables.items() if name != language}
        return replace(self, transformer=transformer, tables=tables)

    def without_tables(self) -> PretrainedModel:
        """Return the model with its first vocabulary alone."""
        transformer = self.transformer.with_own_tables()
        transformer.encoder.tables._modules.clear()
        return replace(self, transformer=transformer, tables={})

    def only(self, language: str) -> PretrainedModel:
        """Return a plain model of one vocabulary, that of ``language``.

        Its results are equal, bit for bit unless a language vector had to be folded into another
        table. Raises ConfigError for a language that is not known, and for what a plain model
        cannot hold.
        """
        table = self.table_of(language)
        if not table:
            return self.without_tables()
        return replace(
            self,
            transformer=folded(self.transformer.reading(table), language),
            tokenizer=self.tables[table].tokenizer,
            languages={},
            extra={**self.extra, "language": language},
            tables={},
        )

    @property
    def has_languages(self) -> bool:
        """True if the encoder has a table of languages, so that a language must be named."""
        return self.transformer.encoder.languages is not None

    def language_id(self, language: str | None) -> int:
        """Return the row of ``language``, 0 for a model without a table of languages.

        Raises ConfigError for a language that the model does not know, and for none. A model
        without a table makes no difference between languages: it takes any.
        """
        if self.tables:
            self.reading(language)
        if not self.has_languages or language in self.tables:
            return 0
        if language is None:
            raise ConfigError(
                f"the model distinguishes languages: name one of {', '.join(self.languages)}"
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
        ConfigError, and so does a pair over two vocabularies.
        """
        if self.tables:
            of_pair = {self.table_of(language), self.table_of(second_language or language)}
            if len(of_pair) > 1:
                raise ConfigError(
                    f"{language} and {second_language} have separate vocabularies, and a row "
                    "can only use one: give a pair that shares a vocabulary"
                )
            (table,) = of_pair
            if table:
                own = self.reading(table)
                batch = own.batch(lines, table, seconds, table, layout=layout)
                return batch.of_table(table)
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
        for name in (language, second_language or language) if self.tables else ():
            if self.table_of(name):
                raise ConfigError(
                    f"{name} has its own vocabulary, in which these ids mean other pieces: "
                    f"call model.reading({name!r})"
                )
        lengths = torch.tensor([len(row.tokens) for row in rows])
        shape = (len(rows), int(lengths.max()) if len(rows) else 0)
        if shape[1] > self.transformer.config.max_positions:
            raise ConfigError(
                f"a row of {shape[1]} tokens does not fit the model's "
                f"{self.transformer.config.max_positions} positions: shorten it"
            )
        real = torch.arange(shape[1]) < lengths[:, None]
        tokens, positions, segments = (
            torch.full(shape, filler) for filler in (self.tokenizer.pad_id, 0, 0)
        )
        if len(rows):
            for padded, values in zip(
                (tokens, positions, segments), zip(*rows, strict=True), strict=True
            ):
                padded[real] = torch.from_numpy(np.concatenate(values))
        ids = [self.language_id(language), self.language_id(second_language or language)]
        nothing = torch.zeros(0, dtype=torch.int64)
        return Batch(
            tokens=tokens, positions=positions, langs=torch.tensor(ids)[segments],
            segments=segments, lengths=lengths, rows=torch.arange(len(rows)), predict=nothing,
            targets=nothing,
        )  # fmt: skip

    def encode(self, batch: Batch, *, causal: bool = False) -> Tensor:
        """Return the last layer's hidden states ``[B, T, D]`` of a batch, zero at padding."""
        return self.transformer.reading(batch.table).encode(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments, causal=causal
        )
