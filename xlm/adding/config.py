"""``AddLanguage``: the model, the language, its text, and how its table is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from xlm.adding.selection import Select
from xlm.config.hints import check_types
from xlm.errors import ConfigError
from xlm.languages import is_language_name
from xlm.model.adapters import AdapterConfig
from xlm.preparation.config import Vocabulary
from xlm.run.convergence import Guard
from xlm.run.language_tables import PARTS, LanguageTable, Rule
from xlm.training.optimizers.config import Optimizer
from xlm.training.precision import PrecisionSetting
from xlm.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class NewText:
    """Text of the new language, a sentence a line; sources as ``xlm prepare`` takes them."""

    train: str | list[str] = field(default_factory=list)
    """Training text: a source, or several."""
    valid: str | list[str] = field(default_factory=list)
    """Held-out text; none: the last 1 % of the lines of train, at least 200."""


@dataclass(frozen=True, kw_only=True)
class AddLanguage:
    """Teach a model a further language; everything else stays the same, bit for bit."""

    model: str
    """The pretrained model: anything that xlm.load takes, such as a run's folder."""
    folder: str
    """The folder for the run, the new model, the language's module and the report; an interrupted
    call resumes from here."""
    language: str
    """Name of the new language, such as ne; its table gets this name too."""
    text: NewText = field(default_factory=NewText)
    """The language's text."""
    known: list[str] = field(default_factory=list)
    """Languages that the model knows, if its files do not say so (as those of XLM-R)."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    """The language's vocabulary: learned on its text with the model's layout of rows, or taken from
    a folder."""
    positions: Literal["shared", "copy", "random"] = "shared"
    """shared: use the model's positions. copy, random: positions for this language alone
    (MonoTrans, section 2.2), which start as a copy of the model's or at random; useful for a
    different word order."""
    words: Literal["own", "shared"] = "own"
    """own: a vocabulary and words for this language. shared: those of the model, which covers the
    language; its adapters (and its positions and vector, if there are any) are all that is
    learned."""
    adapters: AdapterConfig | None = None
    """Adapters inside the layers, used for the new language only; null: none."""
    start: Rule | None = None
    """Rule for the first rows of the table: random, copy, pieces, focus, aligned, mapped or oracle
    (null: aligned if there are pairs or a dictionary, else focus)."""
    pairs: dict[str, list[str]] = field(default_factory=dict)
    """Aligned sentences with a language of the model, such as {en-ne: [train.en, train.ne]}; used
    by start aligned, and by the guard, which counts the new pieces that are nearest to their
    translation."""
    dictionary: str | None = None
    """A dictionary: on each line a new word, a tab (or space) and a word in one of the model's
    languages; used as pairs are."""
    oracle: str | None = None
    """With start oracle: a file with a new piece, a tab and one of the model's pieces on each
    line."""
    shuffled: bool = False
    """Permute the first rows: the control that a start is compared with."""
    old_text: dict[str, str] = field(default_factory=dict)
    """Held-out text of the model's languages, such as {en: valid.en}: measured before and after,
    and used to prove that nothing changed (none: random ids are used)."""
    steps: int = 2000
    """Updates."""
    rows: int = 16
    """Rows in a micro-batch."""
    length: int = 128
    """Tokens in a row."""
    group_size: int = 2
    """Micro-batches in an update, over all processes."""
    mask_rate: float = 0.15
    """Share of the tokens that are predicted; a causal model predicts all."""
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            betas=(0.9, 0.98), weight_decay=0.01, decay_norms_and_biases=False, max_grad_norm=1.0
        )
    )
    """The update rule."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(kind="linear", peak_lr=2e-3, warmup_steps=100)
    )
    """The learning rate; a table alone needs a higher one than a whole model."""
    evaluate_every: int = 200
    """Updates between two evaluations on held-out text."""
    seed: int = 0
    """The seed of everything random."""
    tries: int = 1
    """Number of seeds to try, from seed on; the best by held-out nats is kept, and all are reported
    (MonoTrans, section 5.2, restarts runs that do not converge)."""
    select: Select | None = None
    """Keep the seed that is best at a task in the new language, whose result on that task is then
    not zero-shot; null: keep the one with the fewest held-out nats."""
    guard: Guard | None = field(default_factory=Guard)
    """Thresholds of the convergence guard, which compares with old text; null: only the nats are
    measured, and there are no warnings."""
    precision: PrecisionSetting = "fp32"
    """fp32, bf16, fp16 with a dynamic loss scale, or auto: bf16 if it is faster on the device."""
    tensorboard: bool = False
    """Write TensorBoard files too."""
    workers: int | None = None
    """Number of tokenizing processes; null: one per core."""
    restart: bool = False
    """Restart a run at step 0 if it has checkpoints but none of them can be read."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""

    def __post_init__(self) -> None:
        check_types(self)
        if not is_language_name(self.language) or self.language in PARTS:
            raise ConfigError(
                f"language is {self.language!r}: expected a name such as ne "
                f"or zh-Hans that is not one of {', '.join(PARTS)}"
            )
        if not self.text.train:
            raise ConfigError(
                "text.train is missing: give the new language's text, one sentence per line"
            )
        for name in ("model", "folder"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty: give one")
        for name in ("steps", "rows", "length", "group_size", "evaluate_every", "tries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        if self.select is not None and self.tries < 2:
            raise ConfigError(
                f"select chooses among several tries, and tries is {self.tries}: set it to 2 or "
                "more, or leave select out"
            )
        if self.words == "shared" and self.vocabulary != Vocabulary():
            raise ConfigError(
                "words is shared, so the vocabulary is the model's, but vocabulary is given: leave "
                "it out, or set words to own"
            )
        self.table("")

    def table(self, data: str) -> LanguageTable:
        """Return the settings of the table in a run on prepared text in ``data``."""
        start = self.start
        if start is None and self.words == "shared":
            start = "copy"
        if start is None:
            start = "aligned" if self.pairs or self.dictionary is not None else "focus"
        by_translations = start == "aligned"
        return LanguageTable(
            data=data, positions=self.positions, words=self.words, adapters=self.adapters,
            start=start,
            pairs=self.pairs if by_translations else {},
            dictionary=self.dictionary if by_translations else None,
            oracle=self.oracle, shuffled=self.shuffled,
        )  # fmt: skip
