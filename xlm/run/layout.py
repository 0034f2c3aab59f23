"""The layout of a run's translators: one for all objectives, that of the model it starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from xlm.batch import Batch
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.languages import Languages
from xlm.model.asking import DIRECTIONS, LAYOUT, layout_of
from xlm.model.pretrained import PretrainedModel
from xlm.objective import Objective
from xlm.objectives.teacher_forcing import TeacherForced
from xlm.objectives.translation import Translation
from xlm.rng import Random
from xlm.run.config import Run
from xlm.text.tokenizers.layouts import LAYOUTS, shown


def with_layout(run: Run, found: str | None, where: str = "", *, binding: bool = True) -> Run:
    """Return ``run`` with a layout in each objective of encoder and decoder.

    ``found`` is that of the model it starts from, ``where`` the model's name; a layout that is not
    ``binding`` gives way to that of an objective. A run whose layout is ``xlm`` is returned as it
    is. Raises ConfigError for objectives that differ from each other or from the model.
    """
    given = {
        name: own.layout
        for name, own in run.objectives.items()
        if isinstance(own, TeacherForced) and own.layout is not None
    }
    if given and not binding:
        found = None
    named: set[str] = {*given.values(), *([found] if found is not None else [])}
    if len(named) > 1:
        said = [f"objectives.{name}.layout is {own}" for name, own in given.items()]
        if found is not None:
            said.append(f"{where} was trained with {found}")
        raise ConfigError(
            f"{', '.join(said)}: expected one layout for all rows of a model; leave layout "
            "out to use the model's"
        )
    wanted = named.pop() if named else "xlm"
    if wanted == "xlm":
        return run
    objectives: dict[str, Objective] = {
        name: dataclasses.replace(own, layout=LAYOUTS[wanted].name)  # type: ignore[index]
        if isinstance(own, TeacherForced)
        else own
        for name, own in run.objectives.items()
    }
    return dataclasses.replace(run, objectives=objectives)


def layout_of_start(
    run: Run, encoder: PretrainedModel | None, decoder: PretrainedModel | None
) -> Run:
    """Return ``run`` with the layout of the models that it starts from.

    A decoder that was trained with a layout keeps it; the encoder of a translator alone, which may
    learn to read another, proposes its own if that places tokens.
    """
    if decoder is not None and decoder.transformer.decoder is not None:
        return with_layout(run, layout_of(decoder).name, decoder.source)
    if encoder is not None and encoder.transformer.decoder is not None:
        layout = layout_of(encoder)
        if layout.has_tokens:
            return with_layout(run, layout.name, encoder.source, binding=False)
    return with_layout(run, None)


def translator_facts(run: Run, languages: Languages) -> dict[str, object]:
    """Return a checkpoint's record of a translator: its layout and its trained directions.

    Empty if no objective has a decoder's rows.
    """
    forced = [own for own in run.objectives.values() if isinstance(own, TeacherForced)]
    if not forced:
        return {}
    ways = {
        str(way): None
        for own in forced
        if isinstance(own, Translation)
        for way in own.ways(languages)
    }
    return {LAYOUT: forced[0].arrangement.name, DIRECTIONS: list(ways)}


def example_rows(run: Run, streams: Mapping[str, Sequence[Stream]]) -> Iterator[str]:
    """Yield a line for each objective of encoder and decoder: one training row, ids and pieces."""
    for name, objective in run.objectives.items():
        if not isinstance(objective, TeacherForced):
            continue
        stream = streams[name][0]
        random = Random(run.seed, "example", stream.id)
        batch = objective.at_step(0).collate(stream.examples(0), random, train=True)
        assert batch.source is not None
        read = shown(stream.tokenizer, _first_row(batch.source))
        apart = batch.source.source
        if apart is not None:
            read += f", and apart {shown(stream.tokenizer, _first_row(apart))}"
        given = shown(stream.tokenizer, _first_row(batch))
        own = int((batch.predict < batch.tokens.shape[1]).logical_and(batch.targets >= 0).sum())
        said = shown(stream.tokenizer, batch.targets[:own].tolist())
        yield (
            f"{stream.id}, layout {objective.arrangement.name}: the encoder reads {read}; the "
            f"decoder reads {given} and predicts {said}"
        )


def _first_row(batch: Batch) -> list[int]:
    row: list[int] = batch.tokens[0, : int(batch.lengths[0])].tolist()
    return row
