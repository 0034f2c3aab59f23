"""Measure how the languages of a model relate to each other, each figure beside its nulls.

    models, texts --> Material --sections, one by one--> parts/NAME.json --> analysis.json, page

Use as ``xlm.analyze.analyze(Analyze(...))``, ``xlm analyze MODEL`` or ``python -m xlm.analyze``.
Each section is written as soon as it is done, so the same command resumes after a kill.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from xlm import sample
from xlm.analysis import loading, nulls, page, readers
from xlm.analysis.origin import claim, finished, origin_of, versions_beside
from xlm.analysis.progress import Progress
from xlm.analysis.retrieval import FEWEST_ROWS
from xlm.analysis.sections import CHECKS, SECTIONS, Lacks, Material
from xlm.analysis.sections.material import MODEL, UNTRAINED
from xlm.analysis.states import Reading
from xlm.analysis.study import compared_with, read_study
from xlm.config import strict_yaml
from xlm.config.cli import run_verb
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.errors import ConfigError, DataError, NotInstalled
from xlm.interchange.load import load, usable_device
from xlm.interchange.marvin_linzen import read_marvin_linzen
from xlm.languages import LanguagePair
from xlm.model.pooling import Pooling
from xlm.run.folder import locked
from xlm.storage import make_folder, write_json, write_whole
from xlm.training.precision import Precision, autocast
from xlm.training.restore import CHECKPOINTS

__all__ = ["Analyze", "analyze", "main"]

log = logging.getLogger("xlm")

RESULT, TSV, PAGE = "analysis.json", "figures.tsv", "report.html"
PARTS, STATES, SETTINGS = "parts", "states", "settings.json"
RESERVED = (MODEL, UNTRAINED, "parent", "embeddings")
"""Names of models that the report gives itself."""


@dataclass(frozen=True, kw_only=True)
class Analyze:
    """Report how a model's languages relate to each other, each figure beside its nulls.

    Without texts, a run is analyzed on its prepared held-out text, and any other model on the
    corpus that ships, in the languages that it knows.
    """

    model: str
    """A run's folder, a checkpoint, a model directory, or anything else that xlm.load opens."""
    folder: str = "analysis"
    """The folder of the report: analysis.json, figures.tsv, report.html and pictures."""
    compare: dict[str, str] = field(default_factory=dict)
    """Further models by name, measured on the same texts."""
    study: str | None = None
    """The models.json of a study: its models are compared too, and the parent is taken from it."""
    parent: str | None = None
    """The model that this one was initialized from; distances of spectra and CKA are added."""
    data: str | None = None
    """Prepared text: its held-out part is analyzed, and its training part is used to count
    overlap."""
    texts: dict[str, str] = field(default_factory=dict)
    """A file of lines for each language."""
    pairs: dict[str, list[str]] = field(default_factory=dict)
    """Two aligned files for each pair, such as {en-hi: [valid.en, valid.hi]}."""
    parallel: dict[str, str] = field(default_factory=dict)
    """Translated files, one for each language, aligned line by line (null: the first of pairs)."""
    dictionaries: dict[str, str] = field(default_factory=dict)
    """A dictionary for each pair: a word and a translation on each line."""
    similarity: dict[str, str] = field(default_factory=dict)
    """Scored pairs of words for each pair of languages: two words and a number, separated by
    tabs."""
    alignments: dict[str, list[str]] = field(default_factory=dict)
    """Three files for each pair: two of sentences, one of links such as 0-1 (sure) or 0p1."""
    first_index: Literal[0, 1] = 0
    """The number of the first word in link files."""
    wic: dict[str, list[str]] = field(default_factory=dict)
    """WiC files: {train: [data, gold], dev: [data, gold]}."""
    scws: str | None = None
    """The file ratings.txt of SCWS."""
    english: str = "en"
    """The language of wic and scws."""
    minimal_pairs: dict[str, str] = field(default_factory=dict)
    """Minimal pairs for each language: a file with a construction, the right sentence and the wrong
    one, or Marvin and Linzen's folder of pickles, which are read without running any code."""
    probes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labeled texts for each task, by language: a label and a text on each line."""
    scores: dict[str, str] = field(default_factory=dict)
    """Scores by language: a report.json of xlm finetune, or a TSV of languages and numbers."""
    indicators: dict[str, str] = field(default_factory=dict)
    """Numbers by language to compare scores with, such as distances: a TSV file each."""
    distances: list[str] = field(default_factory=list)
    """Indicators in which the smallest number is the best source, when they rank sources."""
    embeddings: dict[str, str | dict[str, str]] = field(default_factory=dict)
    """A .vec file for each language, measured beside the model's word table; or several such sets
    by name, such as {MUSE: {en: en.vec, hi: hi.vec}}."""
    root: str = "."
    """The folder that the paths above are relative to; sample:NAME is a file of the corpus that
    ships."""
    stand_in: dict[str, str] = field(default_factory=dict)
    """For a language the model lacks, the known language whose vectors are used instead."""
    only: list[str] | None = None
    """The analyses to run (null: all)."""
    layers: list[int] | None = None
    """The layers to analyze; 0 is the embeddings (null: all)."""
    pooling: Pooling = "mean"
    """One vector for each sentence: mean or max over its tokens, or the first."""
    specials: bool = False
    """Count the special tokens around a sentence among its tokens."""
    sentences: int = 1000
    """Largest number of lines or pairs taken from each text."""
    seed: int = 0
    """The seed of random weights, permutations and resamples."""
    untrained: bool = True
    """Also measure random weights, the null of nearly every figure."""
    tokens: int = 4000
    """Tokens in a batch, padding included."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""
    precision: Precision = "fp32"
    """fp32, bf16 or fp16 (autocast), in which models are read; figures are computed in fp32."""
    keep_states: bool = False
    """Keep the files of states after the report."""

    def __post_init__(self) -> None:
        for name, least in (("sentences", FEWEST_ROWS), ("tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected {least} or more")
        for name in ("only", "layers"):
            if getattr(self, name) == []:
                raise ConfigError(f"{name} is empty: name some, or leave it out for all")
        if unknown := [name for name in self.only or () if name not in SECTIONS]:
            raise ConfigError(f"only names {unknown[0]!r}: expected some of {', '.join(SECTIONS)}")
        if taken := [name for name in RESERVED if name in self.compare]:
            raise ConfigError(
                f"compare: the name {taken[0]} is reserved: choose another for the model"
            )
        if unknown := [name for name in self.distances if name not in self.indicators]:
            raise ConfigError(
                f"distances names {unknown[0]!r}: expected some of indicators "
                f"({', '.join(self.indicators) or 'none'})"
            )
        for name, num in (("pairs", 2), ("alignments", 3)):
            for pair, files in getattr(self, name).items():
                if len(files) != num:
                    raise ConfigError(f"{name}.{pair} names {len(files)} files: expected {num}")

    @property
    def wanted(self) -> list[str]:
        """The analyses to run, in the order of the report."""
        return [name for name in SECTIONS if self.only is None or name in self.only]

    def path(self, name: str) -> Path:
        """Return a path of the settings, relative to ``root``; ``sample:NAME`` is of the sample.

        Raises DataError for a name that the sample does not have.
        """
        if name.startswith(sample.PREFIX):
            return Path(sample.resolved(name))
        return Path(self.root).expanduser() / Path(name).expanduser()


def analyze(config: Analyze) -> dict[str, Any]:
    """Write the report and return the content of ``analysis.json``.

    Raises ConfigError, DataError or CheckpointError, each in one line.
    """
    started = time.monotonic()
    folder = Path(config.folder)
    material = gather(config)
    given = dataclasses.asdict(config)
    for name in ("folder", "device", "keep_states"):  # settings that change no figure
        del given[name]
    for name, default in (("study", None), ("precision", "fp32"), ("distances", [])):
        if given[name] == default:  # newer than some folders
            del given[name]
    settings = origin_of(given, material)
    with locked(folder):
        make_folder(folder / PARTS, error=ConfigError)
        claim(folder / SETTINGS, settings)
        try:
            report = {**settings, **_measure(config, material, folder / PARTS)}
        finally:
            if not config.keep_states:
                shutil.rmtree(folder / STATES, ignore_errors=True)
        report["versions"] |= versions_beside(report["analyses"])
        if config.only is not None:
            report["settings"]["only"] = _names(report)
        _write(folder, report)
    log.info("%s: %.0f s in all", folder / PAGE, time.monotonic() - started)
    return report


def _measure(config: Analyze, material: Material, parts: Path) -> dict[str, Any]:
    """Return the analyses that are wanted or were made before, and those that lack something.

    Each is kept as a file when it is done.
    """
    analyses: dict[str, Any] = {}
    missing: list[dict[str, str]] = []
    wanted = config.wanted
    progress = Progress(len(wanted))
    for name in SECTIONS:
        part = parts / f"{name.replace(' ', '-')}.json"
        content = finished(part)
        if name in wanted:
            progress.begin(name)
            if content is None:
                content, is_final = _section(config, material, name)
                if is_final:
                    write_json(part, content)
            progress.end()
        if content is not None and "lacks" in content:
            missing.append({"analysis": name, "lacks": content["lacks"]})
        elif content is not None:
            analyses[name] = content["analysis"]
    progress.close()
    return {"analyses": analyses, "missing": missing}


def _names(report: Mapping[str, Any]) -> list[str]:
    """Return the analyses of a report, and those that lack something."""
    there = {*report["analyses"], *(own["analysis"] for own in report["missing"])}
    return [name for name in SECTIONS if name in there]


def _section(config: Analyze, material: Material, name: str) -> tuple[dict[str, Any], bool]:
    """Return one analysis, or what it lacks, and whether the same command gives the same again."""
    try:
        with autocast(material.device, config.precision):
            found = SECTIONS[name](material)
    except Lacks as lacks:
        return {"lacks": str(lacks)}, True
    except NotInstalled as lacks:
        return {"lacks": str(lacks)}, False
    finally:
        notes = material.notes()
    found.notes += notes
    return {"analysis": found.as_json()}, found.is_final


def gather(config: Analyze) -> Material:
    """Load the models and texts of a report."""
    device = usable_device(config.device)
    models = {MODEL: load(config.model)}
    compare, parent_of = dict(config.compare), config.parent
    if config.study:
        study = read_study(config.path(config.study))
        compare, parent_of = compared_with(study, Path(config.model), compare, parent_of)
    models.update({name: load(source) for name, source in compare.items()})
    parent = None if parent_of is None else load(parent_of)
    for model in [*models.values(), *([parent] if parent else [])]:
        model.transformer.to(device)
    material = Material(
        models, parent=parent, english=config.english, stand_in=dict(config.stand_in),
        reading=Reading(
            pooling=config.pooling, specials=config.specials, tokens=config.tokens
        ),
        layers=config.layers, seed=config.seed, folder=Path(config.folder) / STATES,
    )  # fmt: skip
    if config.untrained:
        material.fresh = nulls.untrained_of(models, config.seed)
    _add_texts(config, material)
    _add_labels(config, material)
    material.check()  # fail before anything is measured
    for name in config.wanted:
        if name in CHECKS:
            CHECKS[name](material)
    return material


def _add_texts(config: Analyze, material: Material) -> None:
    """Add lines and pairs: the given ones, else prepared text, else the sample."""
    most = config.sentences
    named = {*config.texts, *config.parallel, *loading.known_to(material.model), *config.stand_in}
    if config.texts:
        material.texts = {
            language: loading.lines_of(config.path(path), most)
            for language, path in config.texts.items()
        }
    for name, files in config.pairs.items():
        paths = [config.path(path) for path in files]
        material.pairs[loading.pair_of(name, named)] = loading.pairs_of(paths, most)
    if config.parallel:
        paths_by_name = {name: config.path(path) for name, path in config.parallel.items()}
        material.parallel = loading.parallel_of(paths_by_name, most)
    given = bool(config.texts or config.pairs or config.parallel)
    data = config.path(config.data) if config.data else None
    if data is None and not given:
        data = _data_of(Path(config.model).expanduser())
    if data is not None:
        _add_prepared(config, material, data)
    elif not given:
        loading.add_sample(material, most)
    loading.fill_up(material)


def _data_of(folder: Path) -> Path | None:
    """Return the prepared text of a run's folder; None if it is no run or the text is gone."""
    recipe = folder / "config.yaml"
    if not recipe.is_file() or not (folder / CHECKPOINTS).is_dir():
        return None
    settings = strict_yaml.load(recipe.read_text(encoding="utf-8"))
    data = Path(str(settings.get("data", "")))
    if (data / DESCRIPTION).is_file():
        return data
    log.warning(
        "%s: its prepared text %s does not exist; the corpus that ships is used", folder, data
    )
    return None


def _add_prepared(config: Analyze, material: Material, data: Path) -> None:
    corpora = Corpora.open(data)
    most = config.sentences
    texts = loading.prepared_texts(corpora, "valid", most)
    if not texts and not corpora.names("valid")["pairs"]:
        raise DataError(f"{data} has no held-out text: expected some in valid")
    material.texts = material.texts or texts
    material.train = loading.prepared_texts(corpora, "train", loading.MOST_TRAINING)
    for pair, own in loading.prepared_pairs(corpora, "valid", most).items():
        material.pairs.setdefault(pair, own)


def _add_labels(config: Analyze, material: Material) -> None:
    named = {*material.texts, *loading.known_to(material.model), *config.stand_in}

    def by_pair(files: Mapping[str, Any]) -> dict[LanguagePair, Any]:
        return {loading.pair_of(name, named): own for name, own in files.items()}

    for pair, path in by_pair(config.dictionaries).items():
        material.dictionaries[pair] = readers.read_dictionary(config.path(path))
        material.files[f"dictionaries.{pair}"] = str(config.path(path))
    for pair, path in by_pair(config.similarity).items():
        material.similarity[pair] = readers.read_scored_pairs(config.path(path))
    for pair, files in by_pair(config.alignments).items():
        paths = [config.path(path) for path in files]
        material.alignments[pair] = loading.aligned_of(paths, config.first_index)
    if config.wic:
        material.wic = loading.wic_of(
            {name: [config.path(path) for path in files] for name, files in config.wic.items()}
        )
    if config.scws:
        material.scws = readers.read_scws(config.path(config.scws))
    for language, path in config.minimal_pairs.items():
        read = read_marvin_linzen if config.path(path).is_dir() else readers.read_minimal_pairs
        material.minimal_pairs[language] = read(config.path(path))
    for task, by_language in config.probes.items():
        files_by_name = {name: config.path(path) for name, path in by_language.items()}
        material.labeled[task] = loading.labeled_of(files_by_name, config.sentences)
    for name, path in config.scores.items():
        material.scores[name] = readers.read_scores(config.path(path))
    for name, path in config.indicators.items():
        material.indicators[name] = readers.read_scores(config.path(path))
    material.distances = list(config.distances)
    loading.add_embeddings(material, config.embeddings, config.path)


def _write(folder: Path, report: Mapping[str, Any]) -> None:
    text = page.write_page(report, folder)
    dated = {**report, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(folder / RESULT, dated)
    write_whole(folder / TSV, page.as_tsv(report))
    write_whole(folder / PAGE, text)
    for number, table in enumerate(report["analyses"].get("mining", {}).get("tables", ()), 1):
        lines = ["\t".join(row) for row in (table["columns"], *table["rows"])]
        write_whole(folder / f"mined-{number}.tsv", "\n".join(lines) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm analyze``: see ``Analyze``."""

    def act(config: Analyze) -> None:
        report = analyze(config)
        sys.stdout.write("\n".join(page.summary(report)) + "\n")
        sys.stdout.write(f"report: {Path(config.folder) / PAGE}\n")

    run_verb(Analyze, "analyze", act, arguments, positional="model")


if __name__ == "__main__":
    main()
