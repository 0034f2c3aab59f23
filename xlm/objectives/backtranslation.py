"""Online back-translation (Lample et al. 2018; XLM section 5.2; docs/fidelity.md, A1, B9).

    sentence t of the target language --model, no gradient--> s --> train s -> t

The predicted text is always real; the text that is read is the model's own, of this very step.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from xlm.batch import Batch, Loss
from xlm.data.corpora import Corpora
from xlm.data.sentence_streams import SentenceStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.languages import LanguagePair
from xlm.model.generate import Generation, generate
from xlm.model.transformer import Transformer
from xlm.objectives.teacher_forcing import pad_sentences, source_batch, teacher_forced
from xlm.objectives.translation import Translation
from xlm.rng import Random


class BackTranslatedStream(SentenceStream):
    """Sentences of a pair's second language, with the id of the first to translate them into."""

    is_pair = True

    def __init__(self, corpora: Corpora, pair: str, **settings: object) -> None:
        source, target = corpora.languages.pair(pair)
        super().__init__(corpora, target, name=pair, **settings)  # type: ignore[arg-type]
        self.source_language_id = corpora.languages[source]


@dataclass(frozen=True, kw_only=True)
class BackTranslation(Translation):
    """Learn ``ne-en``, from ne into en, from text of en alone: the model writes the ne.

    The generated rows count with their real lengths. Held-out pairs, if there are any, are
    translated and measured as those of ``Translation``.
    """

    length: int = 100
    """Tokens of the longest sentence that is used, special ones included; the original's max_len is
    100 too, and a translation may be ``generation.ratio`` as long."""
    generation: Generation = field(default_factory=lambda: Generation(ratio=1.3, extra=5))
    """Search that makes the translations to learn from (the original: greedy)."""

    def __post_init__(self) -> None:
        Translation.__post_init__(self)
        for pair in self.pairs:
            if any(reading.first == reading.second for reading in LanguagePair.readings(pair)):
                raise ConfigError(
                    f"pairs names {pair!r}: expected two languages as FROM-INTO, such as en-ne; "
                    "Denoising is the objective within one"
                )

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return the sentences of each direction's second language for training, else its pairs."""
        if split != "train":
            return Translation.streams(self, name, corpora, seed=seed, split=split)
        return [
            BackTranslatedStream(
                corpora,
                pair,
                objective=name,
                tokens_per_batch=self.tokens,
                num_specials=2,
                num_lengths=self.num_lengths,
                max_length=self.length,
                seed=seed,
            )
            for pair in self.pairs
        ]

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return a batch; in training its source is the very sentences to be translated.

        There ``source.langs`` is the language to translate into, ``langs`` their own.
        """
        if examples.second is not None:
            return Translation.collate(self, examples, random, train=train)
        stream = examples.stream
        assert isinstance(stream, BackTranslatedStream)
        cells = pad_sentences(examples.first, stream.language_ids[0], examples)
        asked = dataclasses.replace(
            cells, langs=np.full_like(cells.tokens, stream.source_language_id)
        )
        return teacher_forced(cells, examples.rows, source=source_batch(asked, examples.rows))

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the loss of ``Translation``, in training with a source that is generated here."""
        if model.training:
            batch = dataclasses.replace(batch, source=self._translated(model, batch))
        return Translation.loss(self, model, head, batch)

    def _translated(self, model: Transformer, batch: Batch) -> Batch:
        """Return the encoder's rows: ``batch.source`` translated in evaluation mode."""
        asked = batch.source
        assert asked is not None, "collate gives what is to be translated"
        own_langs = batch.langs[:, :1].expand_as(asked.tokens)
        generated = generate(
            model,
            dataclasses.replace(asked, langs=own_langs),
            asked.langs[:, 0],
            end_id=int(batch.tokens[0, 0]),
            settings=self.generation,
        )
        tokens, lengths = generated.tokens[:, 0], generated.lengths[:, 0]
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        langs = asked.langs[:, :1].expand_as(tokens)
        return dataclasses.replace(
            asked, tokens=tokens, lengths=lengths, positions=positions, langs=langs,
            segments=torch.zeros_like(tokens),
        )  # fmt: skip
