"""Import models and binarized data of other libraries, export models, and measure the parity.

    SOURCE --load--> PretrainedModel --write, open anew--> FOLDER --peer--> parity.json

Use as ``import_model``, ``export_model``, ``import_corpora``, or as the verbs ``xlm import`` and
``xlm export`` (``python -m xlm.convert import ...``).
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import ConfigError, XlmError
from xlm.interchange.bit_parity import compare_bits
from xlm.interchange.finetuned import FineTuned, chosen_task
from xlm.interchange.load import fetch, load
from xlm.interchange.original.corpora import ImportedCorpora, import_binarized, is_binarized
from xlm.interchange.parity import TOLERANCE, Parity, TaskScores, measure
from xlm.interchange.transformers.heads import class_name, write_with_head
from xlm.interchange.transformers.tasks import scores_of, to_task_head
from xlm.interchange.vector_parity import Vectors, measure_vectors
from xlm.model.embed import EMBEDDING, Embedding
from xlm.model.model_directory import CONFIG
from xlm.model.pooling import Pooling
from xlm.model.pretrained import PretrainedModel
from xlm.storage import atomic_directory, check_folder, read_json, write_json
from xlm.text.rules import as_json

__all__ = [
    "Converted", "Export", "Import", "export_model", "import_corpora", "import_model", "main",
]  # fmt: skip

PARITY = "parity.json"
"""File beside every model that a verb has written: the measured parity, and the losses."""

Format = Literal[
    "xlm", "xlm-roberta", "bert", "roformer", "modernbert", "sentence-transformers", "mbart",
    "m2m_100",
]  # fmt: skip
Writer = Callable[[PretrainedModel, Path], list[str]]


@dataclass(frozen=True, kw_only=True)
class Import:
    """Import a model, or the original's binarized data, and report how close it is."""

    source: str
    """A transformers or fairseq folder, an original .pth, a hub name, a run or a checkpoint; or a
    folder of the original's binarized data, such as train.en.pth and valid.en-fr.en.pth."""
    folder: str
    """The folder to write; it must be empty or missing."""
    codes: str | None = None
    """fastBPE codes of an original .pth or of binarized data (null: the file beside it)."""
    vocabulary: str | None = None
    """fastBPE vocabulary of an original .pth (null: the file beside it, else the one inside it)."""
    parity: bool = True
    """Compare with the model in transformers, if installed; this loads the model twice."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model as a transformers directory, and report how close the two are."""

    source: str
    """A model directory, a run's folder or a checkpoint; or any source that import takes."""
    folder: str
    """The folder to write; it must be empty or missing."""
    format: Format
    """The architecture that the model was trained with: xlm, xlm-roberta, bert, roformer or
    modernbert; for encoder-decoders, mbart or m2m_100; or sentence-transformers, for encoders with
    a pooling that turns states into a vector."""
    task: str | None = None
    """For fine-tuned models: the task whose head is exported too (null: the only one; "": none, the
    language model alone)."""
    causal: bool | None = None
    """xlm only: export a causal model (null: as the model records, else masked)."""
    pooling: Pooling | None = None
    """sentence-transformers only: mean, max or first (null: as the model records, else mean)."""
    normalize: bool | None = None
    """sentence-transformers only: vectors of length 1 (null: as the model records, else true)."""
    language: str | None = None
    """For models with several vocabularies: the language whose vocabulary is exported (null: the
    first); the others are left out."""
    parity: bool = True
    """Compare with the model in transformers, if installed; this loads the model twice."""


@dataclass(frozen=True)
class Converted:
    """The source and the target of a conversion, its parity and its losses."""

    model: PretrainedModel
    folder: Path
    lost: tuple[str, ...] = ()
    parity: Parity = field(default_factory=Parity)
    vectors: Vectors | None = None
    """The parity of an export's vectors; None for formats without pooling."""

    @property
    def agrees(self) -> bool:
        """Return True if nothing that was compared differs by more than ``TOLERANCE``."""
        worst = self.vectors.difference if self.vectors else None
        return self.parity.agrees and (worst is None or worst <= TOLERANCE)

    def describe(self) -> list[str]:
        """Return shape, parameters, languages, tokenizer, parity and losses, a line each."""
        return [
            *describe(self.model),
            *self.parity.describe(),
            *([self.vectors.describe()] if self.vectors else []),
            *(f"lost: {line}" for line in self.lost),
        ]


def describe(model: PretrainedModel) -> list[str]:
    """Return shape, parameters, languages and tokenizer of a model, a line each."""
    transformer, config = model.transformer, model.transformer.config
    num = sum(p.numel() for p in transformer.parameters())
    shape = f"{config.num_layers} layers, {config.dim} wide, {config.num_heads} heads"
    if config.num_decoder_layers:
        shape += f", decoder of {config.num_decoder_layers} layers"
    kind = type(model.tokenizer).__name__.removesuffix("Tokenizer")
    positions = "positions" if config.positions == "learned" else f"{config.positions} positions"
    return [
        f"model: {shape}, {config.max_positions} {positions}, {num:,} parameters",
        f"languages: {', '.join(model.languages) or 'not told apart'}{_trained(model)}",
        f"tokenizer: {kind}, {model.tokenizer.vocab_size:,} entries",
        *(
            f"{name}: a vocabulary of its own, {further.tokenizer.vocab_size:,} entries"
            + ("" if further.description.get("converged", True) else ", NOT CONVERGED")
            for name, further in model.tables.items()
        ),
    ]


def _trained(model: PretrainedModel) -> str:
    """Return the languages that a model without a table of them records from its training."""
    names = {} if model.languages else model.extra.get("languages") or {}
    return f" (trained on {', '.join(names)})" if names else ""


def import_model(config: Import) -> Converted:
    """Write ``config.source`` as a self-contained directory of this library.

    The folder appears whole or not at all. The written model is opened again and compared with the
    source. Raises CheckpointError, ConfigError or DataError in one line.
    """
    check_folder(config.folder)
    path = Path(config.source).expanduser()
    if is_binarized(path):
        raise ConfigError(f"{path} holds binarized data, not a model: call import_corpora instead")
    if not path.exists():
        path = fetch(config.source)
    model = load(path, codes=config.codes, vocabulary=config.vocabulary)
    lost = tuple(map(str, model.extra.get("lost", ())))
    with atomic_directory(config.folder) as staging:
        model.save_pretrained(staging)
        written = PretrainedModel.open(staging)
        parity = compare_bits(model, written)
        if config.parity:
            parity = _import_parity(written, path) or parity
        _write_parity(staging, config.source, parity, lost)
    return Converted(written, Path(config.folder), lost, parity)


def export_model(config: Export) -> Converted:
    """Write ``config.source`` as a transformers directory of ``config.format``.

    The folder appears whole or not at all. Raises ConfigError if the format cannot hold the model
    (naming the obstacle), CheckpointError or DataError in one line.
    """
    if config.causal is not None and config.format != "xlm":
        raise ConfigError(
            f"causal only applies to format xlm, since {config.format} has no causal models; "
            "leave it out"
        )
    to_vectors = config.format == "sentence-transformers"
    if not to_vectors and (config.pooling is not None or config.normalize is not None):
        raise ConfigError(
            "pooling and normalize only apply to format sentence-transformers, found "
            f"{config.format}: leave them out"
        )
    check_folder(config.folder)
    model, left_out = _of_one_vocabulary(load(config.source), config.language)
    if to_vectors:
        model = _with_vectors(model, config)
    tuned = chosen_task(model, config.source, "" if to_vectors else config.task)
    with atomic_directory(config.folder) as staging:
        if tuned is None:
            lost, scores = writer(config.format, config.causal)(model, staging), None
        else:
            lost, scores = _write_task(tuned, config, staging)
        lost = [*lost, *left_out]
        if model.tokenizer.rules:
            lost = [
                *lost,
                "rules of normalization by language "
                f"({as_json(model.tokenizer.rules)}): apply them to text beforehand",
            ]
        parity = measure(model, staging, scores) if config.parity else Parity()
        vectors = measure_vectors(model, staging) if to_vectors and config.parity else None
        _write_parity(staging, config.source, parity, lost, vectors)
    return Converted(model, Path(config.folder), tuple(lost), parity, vectors)


def _of_one_vocabulary(
    model: PretrainedModel, language: str | None
) -> tuple[PretrainedModel, list[str]]:
    """Return the model with the vocabulary of one language, and a line on the parts left out."""
    if language is None and not model.tables:
        return model, []
    plain = model.without_tables() if language is None else model.only(language)
    if language is not None and not model.tables:
        return model, []
    chosen = "the first" if language is None else f"that of {language}"
    others = ", ".join(name for name in model.tables if name != language)
    return plain, [f"every vocabulary but {chosen}" + (f" (also {others})" if others else "")]


def _with_vectors(model: PretrainedModel, config: Export) -> PretrainedModel:
    """Return the model with the settings by which it makes vectors."""
    if config.task:
        raise ConfigError(
            f"task is {config.task}, but sentence-transformers takes no head: leave it out"
        )
    own = Embedding(pooling=config.pooling, normalize=config.normalize).settled(model)
    said = {"pooling": own.pooling, "normalize": own.normalize, "length": own.length}
    return replace(model, extra={**model.extra, EMBEDDING: said})


def _write_task(tuned: FineTuned, config: Export, folder: Path) -> tuple[list[str], TaskScores]:
    """Write a model with the head of a task; return the losses, and the scores to compare."""
    head = to_task_head(tuned.task, tuned.head)
    if config.causal is not None and config.causal != head.causal:
        raise ConfigError(
            f"causal is {config.causal}, but the task {tuned.name} was fine-tuned with "
            f"readout.causal {head.causal}: leave it out"
        )
    if config.format == "mbart" or config.format == "m2m_100":
        raise ConfigError(
            f"the format {config.format} cannot hold the head of the task {tuned.name}: give "
            "task '' to export the translator alone"
        )
    write = writer(config.format, head.causal)
    assert config.format != "sentence-transformers", "which takes no task"
    lost = write_with_head(tuned.model, head, folder, config.format, write)
    scores = TaskScores(
        class_name(read_json(folder / CONFIG)["model_type"], head.reads),
        scores_of(tuned.task, tuned.head.float()),
        of_rows=head.reads == "sentence",
    )
    return lost, scores


def writer(format: Format, causal: bool | None = None) -> Writer:
    """Return the function that writes a model in a format; it returns a line for each loss."""
    if format == "xlm":
        from xlm.interchange.transformers.xlm import write_transformers_xlm

        def write_xlm(model: PretrainedModel, folder: Path) -> list[str]:
            return write_transformers_xlm(model, folder, causal=causal)

        return write_xlm
    if format == "sentence-transformers":
        from xlm.interchange.transformers import sentence_transformers

        def write_vectors(model: PretrainedModel, folder: Path) -> list[str]:
            return sentence_transformers.write_sentence_transformers(
                model, folder, lambda name: writer(cast(Format, name))
            )

        return write_vectors
    if format == "xlm-roberta":
        from xlm.interchange.transformers.roberta import write_transformers_roberta

        return write_transformers_roberta
    if format == "modernbert":
        from xlm.interchange.transformers.modernbert import write_transformers_modernbert

        return write_transformers_modernbert
    if format in ("mbart", "m2m_100"):
        from xlm.interchange.transformers.mbart import write_transformers_mbart

        def write_translator(model: PretrainedModel, folder: Path) -> list[str]:
            return write_transformers_mbart(model, folder, format)

        return write_translator
    if format == "roformer":
        from xlm.interchange.transformers.roformer import write_transformers_roformer

        return write_transformers_roformer
    from xlm.interchange.transformers.bert import write_transformers_bert

    return write_transformers_bert


def _import_parity(written: PretrainedModel, source: Path) -> Parity | None:
    """Return the parity with the source itself, or with transformers; None for our own models."""
    if (source / CONFIG).is_file():
        return measure(written, source) if "model_type" in read_json(source / CONFIG) else None
    if source.is_dir() and not (source / "model.pt").exists():
        return None  # a run or a checkpoint: compared bit for bit
    # Nobody else reads these files any more: exported, transformers' own class judges the weights.
    format: Format = "xlm-roberta" if source.is_dir() else "xlm"
    with tempfile.TemporaryDirectory() as folder:
        try:
            writer(format)(written, Path(folder))
        except XlmError as error:
            return Parity(notes=(f"parity was not measured: no peer holds this shape ({error})",))
        return measure(written, folder)


def _write_parity(
    folder: Path, source: str, parity: Parity, lost: Sequence[str], vectors: Vectors | None = None
) -> None:
    content = {"source": Path(source).name, **parity.to_json(), "lost": list(lost)}
    if vectors is not None:
        worst = vectors.difference
        finite = worst if worst is not None and math.isfinite(worst) else None
        content["vectors"] = {**asdict(vectors), "difference": finite}
        content["agrees"] = parity.agrees and (worst is None or worst <= TOLERANCE)
    write_json(folder / PARITY, content)


def _say(verb: str, result: Converted) -> None:
    """Print the result; exit with 1 if the two differ, or if transformers rejects an export."""
    say("\n".join(result.describe()))
    if verb == "export" and not result.parity.opened:
        sys.stderr.write(f"xlm export: {result.folder} was written, but transformers rejects it\n")
        raise SystemExit(1)
    if not result.agrees:
        sys.stderr.write(
            f"xlm {verb}: {result.folder} was written, but is not the same model: it differs by "
            f"more than {TOLERANCE:g} (see {PARITY})\n"
        )
        raise SystemExit(1)
    say(f"written: {result.folder}")


def import_corpora(config: Import) -> ImportedCorpora:
    """Write the original's binarized data as a folder of corpora; see ``import_binarized``.

    Raises ConfigError for a folder that is not empty.
    """
    check_folder(config.folder)
    return import_binarized(
        config.source, config.folder, codes=config.codes, vocabulary=config.vocabulary
    )


# The verbs.


def import_main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm import``: see ``Import``."""

    def act(config: Import) -> None:
        if is_binarized(config.source):
            result = import_corpora(config)
            lines = ["binarized data of the original", *result.describe()]
            say("\n".join(lines))
            say(f"written: {result.folder}")
        else:
            _say("import", import_model(config))

    run_verb(Import, "import", act, arguments, positional="source folder")


def export_main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm export``: see ``Export``."""

    def act(config: Export) -> None:
        _say("export", export_model(config))

    run_verb(Export, "export", act, arguments, positional="source folder")


def main() -> None:
    """Run ``python -m xlm.convert import ...`` or ``export ...``."""
    mains = {"import": import_main, "export": export_main}
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in mains:
        sys.stderr.write(f"xlm.convert: found {verb!r}, expected import or export\n")
        raise SystemExit(2)
    mains[verb](sys.argv[2:])


if __name__ == "__main__":
    main()
