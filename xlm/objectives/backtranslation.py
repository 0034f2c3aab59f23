"""Online back-translation (Lample et al. 2018; XLM section 5.2; docs/fidelity.md, A1, B9).

    sentence t of the target language --model, no gradient--> s --> train s -> t

The predicted text is always real; the text that is read is the model's own, of this very step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.corpora import Corpora
from xlm.data.sentence_streams import SentenceStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.languages import LanguagePair
from xlm.model.generate import Generation, generate
from xlm.model.transformer import Transformer
from xlm.objectives.teacher_forcing import source_batch, teacher_forced
from xlm.objectives.translation import Translation
from xlm.rng import Random


class BackTranslatedStream(SentenceStream):
    """Sentences of a pair's second language, and the first, to translate them into."""

    is_pair = True

    def __init__(self, corpora: Corpora, pair: str, **settings: object) -> None:
        source, target = corpora.languages.pair(pair)
        super().__init__(corpora, target, name=pair, **settings)  # type: ignore[arg-type]
        self.source_language, self.source_language_id = source, self.id_of(source)


@dataclass(frozen=True, kw_only=True)
class BackTranslation(Translation):
    """Learn ``ne-en``, from ne into en, from text of en alone: the model writes the ne.

    The generated rows count with their real lengths. Held-out pairs, if there are any, are
    translated and measured as those of ``Translation``.
    """

    length: int = 100
    """Longest sentence that is used, in tokens with special ones; the original's max_len is 100
    too, and a translation may be ``generation.ratio`` times as long."""
    generation: Generation = field(default_factory=lambda: Generation(ratio=1.3, extra=5))
    """Search that makes the translations to learn from (the original: greedy)."""

    def __post_init__(self) -> None:
        Translation.__post_init__(self)
        if self.shared_lengths or self.bucket_parts > 1:
            raise ConfigError(
                f"shared_lengths is {str(self.shared_lengths).lower()} and bucket_parts is "
                f"{self.bucket_parts}, but BackTranslation reads single sentences: leave "
                "them out"
            )
        for pair in self.pairs:
            if any(reading.first == reading.second for reading in LanguagePair.readings(pair)):
                raise ConfigError(
                    f"pairs names {pair!r}: expected two languages as FROM-INTO, such as "
                    "en-ne; Denoising is the objective within one language"
                )

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return the sentences of each direction's second language for training, else its pairs."""
        if split != "train":
            return Translation.streams(self, name, corpora, seed=seed, split=split)
        ways = self.ways(corpora.languages)
        self.check_tokens(name, corpora, [*ways, *(way.reversed for way in ways)])
        return [
            BackTranslatedStream(
                corpora,
                str(way),
                objective=name,
                tokens_per_batch=self.tokens,
                num_specials=2,
                num_lengths=self.num_lengths,
                max_length=self.length,
                seed=seed,
            )
            for way in ways
        ]

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return a batch; in training its source is ``Asked``, the sentences to be translated."""
        if examples.second is not None:
            return Translation.collate(self, examples, random, train=train)
        stream, layout = examples.stream, self.arrangement
        assert isinstance(stream, BackTranslatedStream)
        (own,) = stream.languages
        other = stream.source_language
        read = source_batch(layout, examples.first, own, other, examples)
        nothing = [examples.first[0][:0]] * len(examples.first)
        empty = source_batch(layout, nothing, other, own, dataclasses.replace(examples, length=0))
        opening = torch.tensor(layout.opening(stream.tokenizer, other))
        asked = Asked(
            **{field.name: getattr(read, field.name) for field in dataclasses.fields(Batch)},
            begin=opening.expand(len(nothing), -1),
            into=torch.full((len(nothing),), stream.id_of(other)),
            empty=empty,
            longest=int(read.lengths.max()),
            end_id=stream.tokenizer.end_id,
        )
        return teacher_forced(layout, examples.first, own, examples, asked)

    def prepared(self, model: Transformer, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return the micro-batches with sources that are generated for all of them together.

        Unless they are drawn: each micro-batch has draws of its own.
        """
        if self.generation.sample:
            return batches
        sources = self._translated(model, batches)
        return [
            dataclasses.replace(batch, source=source)
            for batch, source in zip(batches, sources, strict=True)
        ]

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the loss of ``Translation``, in training with a source that is generated here.

        Unless it was already, by ``prepared``.
        """
        if isinstance(batch.source, Asked):
            (source,) = self._translated(model, [batch])
            batch = dataclasses.replace(batch, source=source)
        return Translation.loss(self, model, head, batch)

    def _translated(self, model: Transformer, batches: Sequence[Batch]) -> list[Batch]:
        """Return the encoder's rows: each ``batch.source`` translated in evaluation mode.

        The search waits for the device to find rows that have ended and the longest translation;
        here only the longest of each batch does.
        """
        every = [batch.source for batch in batches]
        asked = [source for source in every if isinstance(source, Asked)]
        assert len(asked) == len(every), "collate gives what is to be translated"
        positions = model.config.max_positions
        generated = generate(
            model, joined(asked, model.pad_id), torch.cat([own.into for own in asked]),
            end_id=asked[0].end_id, settings=self.generation,
            largest=max(self.generation.limit(own.longest, positions) for own in asked),
            begin=torch.cat([own.begin for own in asked]),
        )  # fmt: skip
        num_opening = generated.num_opening
        sizes = [len(own.into) for own in asked]
        ids = torch.split(generated.tokens[:, 0, num_opening:], sizes)
        lengths = torch.split(generated.lengths[:, 0] - num_opening - 1, sizes)
        longest = torch.stack([own.max() for own in lengths]).tolist()
        num_before = len(self.arrangement.source_opens)
        return [
            filled(own.empty, written, num, most, num_before, model.pad_id)
            for own, written, num, most in zip(asked, ids, lengths, longest, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Asked(Batch):
    """Sentences for the model to translate, and how it reads the translations then."""

    begin: Tensor = field(kw_only=True)
    """int64 ``[B, K]``: the ids that the translations open with."""
    into: Tensor = field(kw_only=True)
    """int64 ``[B]``: the language to translate into."""
    empty: Batch = field(kw_only=True)
    """The encoder's rows of empty translations: the special tokens alone."""
    longest: int = field(kw_only=True)
    """The largest of ``lengths``."""
    end_id: int = field(kw_only=True)
    """The id that ends a translation."""


def joined(batches: Sequence[Batch], pad_id: int) -> Batch:
    """Return the encoder's rows of several batches as one, padded to the longest.

    A part that is read apart is that of the first: all have the same.
    """
    longest = max(batch.tokens.shape[1] for batch in batches)

    def cells(name: str, filler: int) -> Tensor:
        rows = [getattr(batch, name) for batch in batches]
        return torch.cat([F.pad(own, (0, longest - own.shape[1]), value=filler) for own in rows])

    first = batches[0]
    return Batch(
        tokens=cells("tokens", pad_id), positions=cells("positions", 0), langs=cells("langs", 0),
        segments=cells("segments", 0), lengths=torch.cat([batch.lengths for batch in batches]),
        rows=torch.cat([batch.rows for batch in batches]), predict=first.predict,
        targets=first.targets, source=first.source, count=sum(batch.count for batch in batches),
        num_tokens=sum(batch.num_tokens for batch in batches),
    )  # fmt: skip


def filled(
    empty: Batch, ids: Tensor, lengths: Tensor, longest: int, num_before: int, pad_id: int
) -> Batch:
    """Return rows like those of ``empty``, with sentences between their special tokens.

    ``ids`` int64 ``[B, L]`` hold ``lengths`` (int64 ``[B]``, at most ``longest``) ids each, and
    anything behind them; ``num_before`` of the special tokens stand before the sentence.
    """
    special = empty.tokens
    num_rows, num_special = special.shape
    size = longest + num_special
    at = torch.arange(size, device=ids.device).expand(num_rows, size)
    tokens = torch.full((num_rows, size), pad_id, device=ids.device)
    width = min(ids.shape[1], size - num_before)
    tokens[:, num_before : num_before + width] = ids[:, :width]
    tokens[:, :num_before] = special[:, :num_before]
    behind = at - num_before - lengths[:, None]  # 0 at the first token behind the sentence
    for number in range(num_special - num_before):
        own = special[:, num_before + number]
        tokens = torch.where(behind == number, own[:, None], tokens)
    tokens = tokens.masked_fill(behind >= num_special - num_before, pad_id)
    return dataclasses.replace(
        empty, tokens=tokens, lengths=lengths + num_special, positions=at,
        langs=empty.langs[:, :1].expand_as(tokens), segments=torch.zeros_like(tokens),
    )  # fmt: skip
