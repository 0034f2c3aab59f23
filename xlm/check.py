"""Check files against what was written: every hash, every number, every recipe.

Use as ``check(Check(path=...))``, ``xlm check PATH`` or ``python -m xlm.check``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from xlm.config import recipes, strict_yaml
from xlm.config.cli import read, run_verb
from xlm.config.trust import Trust
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.data.verification import is_corpora, lacks_description, reseal_corpora, verify_corpora
from xlm.errors import ConfigError, DataError, XlmError
from xlm.finetune import Finetune
from xlm.interchange.load import MODEL, load
from xlm.model.language_modules import is_module, read_module, reseal_module, reseal_tables
from xlm.model.model_directory import CONFIG, write_sums
from xlm.model.tensor_files import check_finite
from xlm.preparation.config import Prepare
from xlm.preparation.report import REPORT, read_report
from xlm.run.config import Run, read_run
from xlm.storage import read_json
from xlm.training import checkpoint
from xlm.training.journal import METRICS, read_metrics
from xlm.training.restore import CHECKPOINTS

__all__ = ["Check", "Finding", "check", "main"]

CHECKABLE = "prepared text, a run, a checkpoint, a model, a language module or a recipe"
RECIPES = {"pretrain": Run, "finetune": Finetune, "prepare": Prepare}


@dataclass(frozen=True, kw_only=True)
class Check:
    """Verify text, a run, a checkpoint, a model, a module or a recipe; status 2 if one is bad."""

    path: str
    """A folder of prepared text, a run's folder, a checkpoint, a model, a language module, or a
    recipe (YAML)."""
    accept: bool = False
    """Accept the files as they are now, after an intended change: compute and write the hashes of a
    checkpoint, a model directory, a language module or prepared text again."""
    trust: str | None = None
    """The folder of your own objectives that a run names."""


@dataclass(frozen=True)
class Finding:
    """The result of checking one thing."""

    path: Path
    line: str
    is_sound: bool = True


def check(config: Check) -> list[Finding]:
    """Return a finding for each thing at ``config.path``, in their order.

    Raises ConfigError if nothing at the path can be checked.
    """
    path = Path(recipes.found(config.path)).expanduser()
    if not path.exists():
        raise ConfigError(f"{path} does not exist: expected {CHECKABLE}")
    if config.accept:
        return [Finding(path, accept(path))]
    return [_tried(one, function) for one, function in _parts(path, Trust(config.trust))]


def _tried(path: Path, function: Callable[[], str]) -> Finding:
    try:
        return Finding(path, function())
    except XlmError as error:
        line = str(error)
        return Finding(path, line.removeprefix(f"{path}: "), is_sound=False)


def _parts(path: Path, trust: Trust) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield everything that can be checked at ``path``, each with the function that checks it."""
    if is_corpora(path):
        yield path, lambda: _corpora(path)
        if (path / REPORT).exists():
            yield path / REPORT, lambda: f"{len(read_report(path)['read'])} texts were read"
    elif (path / checkpoint.MANIFEST).exists():
        yield path, lambda: _checkpoint(path, trust)
    elif (path / CHECKPOINTS).is_dir() or (path / METRICS).exists():
        yield from _of_run(path, trust)
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        yield path, lambda: _recipe(path, trust)
    elif is_module(path):
        yield path, lambda: _module(path)
    elif may_be_model(path):
        yield path, lambda: _model(path)
    else:
        raise ConfigError(f"{path} {unknown(path)}: expected {CHECKABLE}")


def may_be_model(path: Path) -> bool:
    """Return whether a path is a file of weights, or a folder that a model may lie in."""
    if path.is_file():
        return path.suffix in (".pth", ".pt")
    return any((path / name).exists() for name in (CONFIG, "model.pt", MODEL))


def unknown(path: Path) -> str:
    """Describe a path at which there is neither prepared text nor a model, as a predicate."""
    if path.is_file():
        return "is a file, but no recipe (.yaml) and no model (.pth, .pt)"
    if lacks_description(path):
        return (
            f"looks like prepared text, but its {DESCRIPTION} is missing: restore that file from "
            "a copy, or prepare the text again"
        )
    return "holds no prepared text, run, checkpoint or model"


def _of_run(path: Path, trust: Trust) -> Iterator[tuple[Path, Callable[[], str]]]:
    if (path / "config.yaml").exists():
        yield path / "config.yaml", lambda: f"a run of {read_run(path, trust).steps} steps"
    if (path / METRICS).exists():
        yield path / METRICS, lambda: f"{len(read_metrics(path / METRICS)):,} lines"
    found = sorted(checkpoint.candidates(path / CHECKPOINTS))
    for _, _, one in found:
        yield one, lambda one=one: _checkpoint(one, trust)  # type: ignore[misc]
    if not found:
        yield path / CHECKPOINTS, lambda: "no checkpoint"
    if (path / MODEL / CONFIG).exists():
        yield path / MODEL, lambda: _model(path / MODEL)


def _corpora(path: Path) -> str:
    corpora = Corpora.open(path)
    found = verify_corpora(path)
    sizes = corpora.describe().splitlines()  # opens all of them
    if line := found.line(path):
        return f"not verified: {line}"
    return (
        f"{len(sizes)} corpora, {found.num_files} files, {found.num_bytes / 1e6:,.1f} MB: every "
        "hash is right"
    )


def _checkpoint(path: Path, trust: Trust) -> str:
    loaded = checkpoint.load(path)
    for name in loaded.names:
        check_finite(path / f"{name}.safetensors", loaded.tensors(name))
    read_run(path, trust)
    return f"step {loaded.step}, {len(loaded.files)} files: every hash is right"


def _model(path: Path) -> str:
    model = load(path)
    num = sum(p.numel() for p in model.transformer.parameters())
    return f"a model of {num:,} parameters, all finite"


def _module(path: Path) -> str:
    module = read_module(path)
    num = sum(tensor.numel() for tensor in module.tensors.values())
    return f"the language {module.language}, {num:,} parameters: every hash is right"


def _recipe(path: Path, trust: Trust) -> str:
    """Read a recipe as the verb whose fields it has; its own code runs only if it is trusted."""
    node = strict_yaml.compose_file(str(path))
    keys = {key.value for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    having = {verb: keys & {f.name for f in fields(cls)} for verb, cls in RECIPES.items()}
    verb = max(having, key=lambda one: len(having[one]))
    read(RECIPES[verb], path, trust)
    return f"a recipe of xlm {verb}"


def accept(path: Path) -> str:
    """Write the hashes of a checkpoint, a model, a module or prepared text anew; return a summary.

    Raises ConfigError for anything else, CheckpointError or DataError if it cannot be read.
    """
    if is_corpora(path):
        changed = reseal_corpora(path)
        _corpora(path)
    elif (path / checkpoint.MANIFEST).exists():
        changed = checkpoint.reseal(path)
        _checkpoint(path, Trust())
    elif is_module(path):
        reseal_module(path)
        _module(path)
        changed = ["every file"]
    elif (path / CONFIG).exists() and "format" in read_json(path / CONFIG):
        reseal_tables(path)
        write_sums(path)
        _model(path)
        changed = ["every file"]
    else:
        raise ConfigError(
            f"{path} has no hashes to update: give a checkpoint (step-XXXXXXXX), a model "
            "directory, a language module or prepared text"
        )
    return f"accepted as they are now: {', '.join(changed) or 'nothing had changed'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm check``: see ``Check``."""

    def act(config: Check) -> None:
        found = check(config)
        for one in found:
            sys.stdout.write(f"{'sound' if one.is_sound else 'DAMAGED'}  {one.path}: {one.line}\n")
        damaged = [one for one in found if not one.is_sound]
        if damaged:
            raise DataError(
                f"{len(damaged)} of {len(found)} cannot be used, the first is {damaged[0].path}"
            )

    run_verb(Check, "check", act, arguments, positional="path")


if __name__ == "__main__":
    main()
