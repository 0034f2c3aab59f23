"""Teach a pretrained model a further language, with a vocabulary of its own.

Use as ``xlm.add_language.add_language(AddLanguage(...))``, ``xlm add-language MODEL FOLDER
--language ne --text.train ne.txt`` or with torchrun. The model's tensors stay as they are, bit for
bit; the language's own parts are a module that travels (MonoTrans, Artetxe et al. 2020, section 2).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from xlm.adding.config import AddLanguage, NewText
from xlm.adding.old_text import figures_of, old_texts, rows_of
from xlm.adding.proof import compare
from xlm.adding.reference import reference_file, write_reference, write_translations
from xlm.adding.selection import check_select, choose
from xlm.adding.text import prepare_text
from xlm.adding.training import build_run, check_model, objective
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError
from xlm.interchange.load import MODEL, load
from xlm.model.language_modules import KNOWN, SHARED_WORDS, WORDS, Further, write_module
from xlm.model.model_directory import TABLES
from xlm.model.pretrained import PretrainedModel
from xlm.model.tensor_files import read_tensors
from xlm.objectives.next_sentence import NextSentence
from xlm.run.config import Run
from xlm.run.convergence import judge, load_reference
from xlm.run.folder import origin_of
from xlm.run.launch import finish_run, of_main, sole_training
from xlm.run.selection import History, best_step
from xlm.run.text import open_corpora
from xlm.storage import read_json, write_json
from xlm.strict_json import finite
from xlm.training.journal import METRICS, read_metrics

__all__ = ["AddLanguage", "NewText", "add_language"]

log = logging.getLogger("xlm")

MODULE, REPORT = "module", "report.json"
SIGNS = ("gain", "order", "word_order", "unlikeness", "translated", "translated_by_chance")
"""Figures of the convergence guard."""


def add_language(config: AddLanguage) -> dict[str, Any]:
    """Train the language's table, leave model, module and report in ``config.folder``; return it.

    A call that is repeated resumes, and does nothing that is done. Raises ConfigError, DataError,
    CheckpointError or TrainingError, each in one line.
    """
    started = time.monotonic()
    model = load(config.model)
    check_model(config, model)
    if config.select is not None:
        check_select(config.select, model, config.language)
    with sole_training(build_run(config, model, 0)) as parallel:
        origin = of_main(parallel, lambda: _prepared(config, model))
        prepared = time.monotonic()
        reference = reference_file(config) is not None
        runs = [
            build_run(config, model, number, reference=reference) for number in range(config.tries)
        ]
        corpora = open_corpora(runs[0])
        histories = [
            finish_run(run, corpora, parallel, origin, f"seed {run.seed}: training") for run in runs
        ]
        report: dict[str, Any] = of_main(
            parallel,
            lambda: _leave(config, model, runs, histories, prepared - started),
        )
    return report


def _prepared(config: AddLanguage, model: PretrainedModel) -> dict[str, str]:
    """Prepare the text; return digests that tell runs of equal settings apart."""
    reads_documents = isinstance(objective(config, model), NextSentence)
    prepare_text(config, model.tokenizer, documents=reads_documents)
    if config.guard is not None:
        write_reference(config, model, objective(config, model))
        write_translations(config, model)
    files = [config.dictionary, config.oracle, *chain.from_iterable(config.pairs.values())]
    for source in (config.text.train, config.text.valid):
        files += [source] if isinstance(source, str) else source
    return origin_of(model, [name for name in files if name])


def _leave(
    config: AddLanguage,
    model: PretrainedModel,
    runs: Sequence[Run],
    histories: Sequence[History],
    seconds: float,
) -> dict[str, Any]:
    """Write module, model and report of the best try, unless they are there; return the report."""
    folder, name = Path(config.folder), config.language
    tries = [_of_try(run, history) for run, history in zip(runs, histories, strict=True)]
    asked = None if config.select is None else asdict(config.select)
    if (folder / REPORT).exists():
        found = read_json(folder / REPORT)
        if found.get("tries") == finite(tries) and found.get("select") == asked:
            log.info("finished already: the report is %s", folder / REPORT)
            return found
    modules = [Path(run.folder) / MODEL / TABLES / name for run in runs]
    choice = choose(tries, config.select, modules)
    best = choice.best
    trained = load(Path(runs[best].folder) / MODEL)
    own_positions = _own_positions(config, model)
    description = _description(config, tries[best], runs[best], own_positions)
    further = Further(trained.tables[name].tokenizer, finite(description))
    write_module(folder / MODULE, name, trained.transformer, trained.tokenizer, further)
    grown = _grown(config, model, runs[best])
    grown.save_pretrained(folder / MODEL)
    texts, left = old_texts(config, model), load(folder / MODEL)
    proof = compare(model, left, rows_of(texts))
    report: dict[str, Any] = finite(
        {
            "language": name,
            "model": config.model,
            "bodies": grown.bodies,
            "tries": tries,
            "select": asked,
            "chosen": {"seed": runs[best].seed, **choice.to_json()},
            "converged": not tries[best]["fired"],
            "guarded": config.guard is not None,
            "likeness_measured": reference_file(config) is not None,
            "old": _old(runs[best]),
            "languages": _languages(config, model, left, texts, tries[best]),
            "positions": own_positions,
            "mean_nats": sum(one["nats"] for one in tries) / len(tries),
            "seconds": {
                "preparation": seconds,
                "training": histories[best].seconds,
                "to_the_best": histories[best].seconds * tries[best]["step"] / runs[best].steps,
            },
            "module_bytes": _bytes_of(folder / MODULE),
            "proof": proof,
        }
    )
    write_json(folder / REPORT, report, indent=1, error=CheckpointError)
    if not proof["unchanged"]:
        raise CheckpointError(
            f"{folder / MODEL} differs from the model it was made from: the first difference is "
            f"{proof['changed'][0]}; see {folder / REPORT}, and report this as a bug in xlm"
        )
    return report


def _description(
    config: AddLanguage,
    tried: Mapping[str, Any],
    run: Run,
    own_positions: dict[str, int] | None,
) -> dict[str, Any]:
    """Return the facts about the chosen try that the module keeps."""
    own = {name: tried[name] for name in ("start", "nats", "unigram_nats", "fired")}
    found = {
        **own, "seed": run.seed, "steps": run.steps, "best_step": tried["step"],
        "converged": not tried["fired"],
    }  # fmt: skip
    if config.words == SHARED_WORDS:
        found[WORDS] = SHARED_WORDS
    return found if own_positions is None else {**found, "positions": own_positions}


def _own_positions(config: AddLanguage, model: PretrainedModel) -> dict[str, int] | None:
    """Return how many positions training reaches, and of how many; None if they are the model's."""
    if config.positions == "shared":
        return None
    return {"reached": config.length, "of": model.transformer.config.max_positions}


def _languages(
    config: AddLanguage,
    before: PretrainedModel,
    after: PretrainedModel,
    texts: dict[str, Corpora],
    best: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the figures of every language with held-out text, before and after."""
    own = objective(config, before)
    old = [figures_of(model, texts, own, config.seed) for model in (before, after)]
    found = {name: {"before": old[0][name], "after": old[1][name]} for name in old[0]}
    names = ("nats", "bits_per_byte", "unigram_nats")
    new = {"before": best["before"], "after": {name: best[name] for name in names}}
    return {**found, config.language: new}


def _grown(config: AddLanguage, model: PretrainedModel, run: Run) -> PretrainedModel:
    """Return the model with the module, and the signs that the next language is compared with."""
    extra, signs = dict(model.extra), model.signs
    if config.known and not model.known_languages:
        extra[KNOWN] = config.known
    if not signs and run.guard is not None and run.guard.reference is not None:
        signs = read_tensors(run.guard.reference)
    return replace(model, extra=extra, signs=signs).plugged(Path(config.folder) / MODULE)


def _old(run: Run) -> dict[str, Any] | None:
    """Return the old language's figures, the same before and after; None if it was not measured."""
    found = None if run.guard is None else load_reference(run.guard)
    if found is None:
        return None
    own = {"nats": found.nats, "gain": found.gain, "order": found.order}
    return {**own, "word_order": found.word_order}


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _of_try(run: Run, history: History) -> dict[str, Any]:
    """Return the figures of one try: those of its best step, and how it was started."""
    stream = f"{next(iter(run.objectives))}/{next(iter(run.tables))}"
    lines = read_metrics(Path(run.folder) / METRICS)
    before = next((line for line in lines if line["event"] == "before"), {}).get(stream, {})
    started = next((line for line in lines if line["event"] == "initialized"), {})
    step = best_step(history, [stream], "nats")
    figures = history.valid[step][stream]
    valid = {at: own.get(stream, {}) for at, own in sorted(history.valid.items())}
    signs = {n: v for n, v in valid[max(valid)].items() if n in SIGNS}
    return {
        "seed": run.seed,
        "step": step,
        "nats": figures["nats"],
        "unigram_nats": _log(figures.get("unigram_perplexity")),
        "bits_per_byte": figures.get("bits_per_byte"),
        "before": {"nats": before.get("nats"), "bits_per_byte": before.get("bits_per_byte")},
        "start": started.get("rows", {}).get(next(iter(run.tables)), {}),
        "signs": signs,
        "fired": judge(valid, run.steps, run.guard, load_reference(run.guard))
        if run.guard is not None
        else [],
        "start_rule": next(iter(run.tables.values())).start,
    }


def _log(value: float | None) -> float | None:
    return None if value is None or value <= 0 else math.log(value)


def _shown(figures: Mapping[str, Any]) -> str:
    """Return nats a piece, those of a unigram model and bits a byte in words."""
    nats, bits, unigram = (figures[name] for name in ("nats", "bits_per_byte", "unigram_nats"))
    beside = "" if unigram is None else f" (unigram model: {unigram:.3f})"
    return f"{nats:.3f} nats a piece{beside}" + (
        "" if bits is None else f", {bits:.3f} bits a byte"
    )


def render(report: Mapping[str, Any], folder: str | Path) -> str:
    """Return the report in a few lines."""
    proof, seed = report["proof"], report["chosen"]["seed"]
    best = next(one for one in report["tries"] if one["seed"] == seed)
    rows = sum(own["rows"] for own in proof["rows"].values())
    lines = [f"{report['language']}: {_shown(best)}, at step {best['step']}"]
    if len(report["tries"]) > 1:
        chosen = report["chosen"]
        shown = ", ".join(f"{value:.3f}" for value in chosen["figures"])
        lines.append(
            f"seed {seed} of {len(report['tries'])}, by the {chosen['rule']}, guard permitting: "
            f"{shown}; their mean is {chosen['mean']:.3f}"
        )
        if not chosen["zero_shot"]:
            lines.append(
                f"labels of {report['language']} chose it: its figure on that task is not zero-shot"
            )
    if (found := best["signs"].get("translated")) is not None:
        lines.append(
            f"{found:.1%} of the new pieces with a known translation lie nearest to it (by chance "
            f"{best['signs']['translated_by_chance']:.2%})"
        )
    for name, found in report.get("languages", {}).items():
        if name != report["language"]:
            lines.append(f"{name}: {_shown(found['before'])}, before and after")
    if not report["likeness_measured"]:
        why = "for want of its text" if report.get("guarded", True) else "for guard is null"
        lines.append(f"likeness to an old language: not measured, {why}")
    positions = report.get("positions")
    if positions is not None and positions["reached"] < positions["of"]:
        lines.append(
            f"positions {positions['reached']} to {positions['of'] - 1} were reached by no row of "
            f"training: read no text of more than {positions['reached']} tokens, or train with a "
            "larger length"
        )
    lines += [f"NOT CONVERGED, {line}" for line in best["fired"]]
    lines += [
        f"unchanged: {len(proof['tensors'])} tensors by SHA-256, {rows} rows by every state and "
        "score",
        f"the model is in {Path(folder) / MODEL}, the language alone ({report['module_bytes']:,} "
        f"bytes) in {Path(folder) / MODULE}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm add-language``: see ``AddLanguage``."""

    def act(config: AddLanguage) -> None:
        report = add_language(config)
        say(render(report, config.folder))
        if not report["converged"]:
            raise SystemExit(1)

    run_verb(AddLanguage, "add-language", act, arguments, positional="model folder")


if __name__ == "__main__":
    main()
