"""The run that learns a new language's table: everything else is frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xlm.adding.config import AddLanguage
from xlm.adding.reference import REFERENCE, translations_file
from xlm.adding.text import DATA
from xlm.config import strict_yaml
from xlm.errors import ConfigError
from xlm.model.asking import CAUSAL, NO_HEAD, trained_with
from xlm.model.pretrained import PretrainedModel
from xlm.objectives.causal import CausalLM
from xlm.objectives.language_model import LanguageModel
from xlm.objectives.masked import MaskedLM
from xlm.objectives.next_sentence import NextSentence
from xlm.run.config import Run
from xlm.run.language_tables import BODY, HEADS, POSITIONS, SYMBOLS, WORDS
from xlm.run.stopping import Stopping
from xlm.training.initialization import Initialization

OBJECTIVE = "lm"
"""Name of the objective in the run, its figures and its streams."""


def check_model(config: AddLanguage, model: PretrainedModel) -> None:
    """Raise ConfigError for a model that takes no further language, or not this one."""
    if model.transformer.decoder is not None:
        raise ConfigError(
            f"{config.model} has a decoder, and a language can only be added to an encoder: "
            "give a model without a decoder"
        )
    if model.heads and _next_sentence(model) is None:
        raise ConfigError(
            f"{config.model} was fine-tuned: add the language to the pretrained model it was "
            "fine-tuned from, then plug the module into this one (xlm plug)"
        )
    if model.extra.get(NO_HEAD):
        raise ConfigError(
            f"{config.model} has no output layer over its vocabulary, so nothing can be "
            "learned through it: give a language model"
        )
    known = [*model.known_languages, *model.tables]
    if config.language in (*known, *config.known):
        raise ConfigError(
            f"{config.model} already has the language {config.language}: it knows "
            f"{', '.join([*known, *config.known])}; give another name"
        )
    if not known and not config.known:
        raise ConfigError(
            f"{config.model} does not name its languages, which a second vocabulary needs: list "
            "them, such as --known [en,hi]"
        )
    most = model.transformer.config.max_positions
    if config.length > most:
        raise ConfigError(
            f"length is {config.length}, but the model has {most} positions: give {most} or less"
        )


def build_run(
    config: AddLanguage, model: PretrainedModel, number: int, *, reference: bool = False
) -> Run:
    """Return the run of one try, which trains the new table alone.

    ``reference`` tells whether the signs of an old language were measured.
    """
    folder, seed = Path(config.folder), config.seed + number
    learned = model.transformer.config.positions == "learned"
    return Run(
        data=None,
        folder=str(folder / f"seed-{seed}"),
        objectives={objective_name(model): objective(config, model)},
        tables={config.language: config.table(str(folder / DATA))},
        frozen=[BODY, WORDS, SYMBOLS, HEADS, *([POSITIONS] if learned else [])],
        initialize=Initialization(encoder=config.model),
        steps=config.steps,
        seed=seed,
        group_size=config.group_size,
        optimizer=config.optimizer,
        schedule=replace(
            config.schedule, warmup_steps=min(config.schedule.warmup_steps, config.steps // 4)
        ),
        precision=config.precision,
        guard=config.guard
        and replace(
            config.guard,
            reference=str(folder / REFERENCE) if reference else None,
            translations=translations_file(config),
        ),  # fmt: skip
        stopping=Stopping(metric="nats", streams=[f"{objective_name(model)}/{config.language}"]),
        evaluate_every=min(config.evaluate_every, config.steps),
        save_every=min(config.evaluate_every, config.steps),
        keep_last=1,
        tensorboard=config.tensorboard,
        restart=config.restart,
        device=config.device,
    )


def objective_name(model: PretrainedModel) -> str:
    """Return the objective's name in the run: that of the model's head, if it has one."""
    return _next_sentence(model) or OBJECTIVE


def _next_sentence(model: PretrainedModel) -> str | None:
    """Return the name of the only head, if it is that of next-sentence prediction."""
    own = strict_yaml.load(model.tasks).get("objectives", {}) if model.tasks else {}
    found = [n for n, one in own.items() if str(one.get("class_path")).endswith("NextSentence")]
    return found[0] if found and len(own) == 1 else None


def objective(config: AddLanguage, model: PretrainedModel) -> LanguageModel:
    """Return the model's own objective on the new language: masked, or causal.

    A model pretrained with next-sentence prediction continues with it, in its own head.
    """
    shared = {"languages": [config.language], "rows": config.rows, "length": config.length}
    if _next_sentence(model) is not None:
        return NextSentence(**shared, mask_rate=config.mask_rate)  # type: ignore[arg-type]
    names = trained_with(model)
    causal = any("Causal" in name for name in names) and not any("Masked" in n for n in names)
    if causal or (not names and model.extra.get(CAUSAL)):
        return CausalLM(**shared)  # type: ignore[arg-type]
    return MaskedLM(**shared, mask_rate=config.mask_rate)  # type: ignore[arg-type]
