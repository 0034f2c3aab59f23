"""Put a language module into a model that descends from the body it was learned on.

Use as ``xlm.plug.plug(Plug(...))`` or ``xlm plug MODEL MODULE FOLDER``: a table that was learned
on the pretrained body goes into a model that was fine-tuned from it (MonoTrans, section 2, step 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import ConfigError
from xlm.interchange.load import load, warn_of_tables
from xlm.model.language_modules import KNOWN
from xlm.model.pretrained import PretrainedModel
from xlm.storage import check_folder

__all__ = ["Plug", "main", "plug"]


@dataclass(frozen=True, kw_only=True)
class Plug:
    """Put a language module into a model."""

    model: str
    """The model: anything that xlm.load takes."""
    module: str
    """The folder `module` that xlm add-language leaves, or one below `tables` of a model."""
    folder: str
    """The folder of the new model; nothing is overwritten."""
    known: list[str] = field(default_factory=list)
    """Languages that the model knows, if its files do not say so."""
    unrelated: bool = False
    """Accept a module that was learned on another body; its language will hardly be understood."""

    def __post_init__(self) -> None:
        for name in ("model", "module", "folder"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty: give one")


def plug(config: Plug) -> PretrainedModel:
    """Write the model with the module's language into ``config.folder`` and return it.

    Raises ConfigError for a module of another body, CheckpointError for a damaged one.
    """
    check_folder(config.folder)
    model = load(config.model)
    if not model.known_languages:
        if not config.known:
            raise ConfigError(
                f"{config.model} does not say which languages it knows, and a model with a "
                "second vocabulary must know their names: list them, such as --known [en,hi]"
            )
        model = replace(model, extra={**model.extra, KNOWN: config.known})
    plugged = model.plugged(config.module, unrelated=config.unrelated)
    plugged.save_pretrained(config.folder)
    new = {name: own for name, own in plugged.tables.items() if name not in model.tables}
    warn_of_tables(config.module, new)
    return plugged


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm plug``: see ``Plug``."""

    def act(config: Plug) -> None:
        model = plug(config)
        names = ", ".join([*model.known_languages, *model.tables])
        say(f"{config.folder} knows {names}")

    run_verb(Plug, "plug", act, arguments, positional="model module folder")


if __name__ == "__main__":
    main()
