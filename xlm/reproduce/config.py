"""The settings of a study: languages, text, seeds, and which of its parts are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from xlm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Ask which languages help one that has little text, as Table 4 of the XLM paper does.

    Every row is a causal language model of the target language's text: alone, with a related
    language, with an unrelated one, with both. Give other languages to ask it of your own.
    """

    study: Literal["nepali"]
    """The study: nepali (Table 4 of XLM, section 5.3)."""
    folder: str
    """Folder for text, models and the page; an interrupted study resumes from here."""
    text: str | None = None
    """A folder that holds LANG/train.txt for each language, and valid.txt and test.txt for the
    target, with one sentence per line."""
    target: str = "ne"
    """The language with little text."""
    related: str = "hi"
    """The language that may help: of the same family, or of the same script."""
    unrelated: str = "en"
    """A language that should help little, with as many tokens as the related one: the control."""
    sentences: int = 3000
    """Training sentences of the target."""
    other_sentences: int = 18_000
    """Training sentences of each other language."""
    vocabulary: int = 8000
    """Entries of the vocabulary that all rows share; it is learned on their training text."""
    dim: int = 128
    """Width of the models, which have four layers and four heads; wider models are better and
    slower: 256 takes twice the time."""
    tests: dict[str, str] = field(default_factory=dict)
    """Further test texts of the target by name, such as {wiki: wiki.ne.txt}."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """Seeds of every row; differences are taken between rows of the same seed."""
    old_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds of every row in the shape of 2019 (learned positions); empty: leave it out."""
    shifted_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds of the control that moves the related language's ids to a separate range, so that no
    subword is shared; empty: leave it out."""
    sizes: list[int] = field(default_factory=lambda: [10_000, 30_000, 100_000])
    """Further numbers of target sentences, alone and with the related language, with the first
    seed; numbers larger than the text are left out."""
    quick: bool = False
    """Try it in a minute: a tiny model and a few updates, on the corpus that ships with xlm unless
    text is given. The figures mean nothing."""
    report: bool = False
    """Train nothing: rebuild the page and the figures from the finished models."""
    keep_models: bool = False
    """Keep every model (20 MB each), in a form that xlm.load opens."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""

    def __post_init__(self) -> None:
        languages = self.languages
        if len(set(languages)) < len(languages):
            raise ConfigError(
                f"target {self.target}, related {self.related}, unrelated {self.unrelated}: "
                "expected three different languages"
            )
        for name in ("sentences", "other_sentences", "vocabulary", "dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        for name in ("seeds", "old_seeds", "shifted_seeds"):
            _check_different(name, getattr(self, name), least=0)
        _check_different("sizes", self.sizes, least=1)
        if not self.seeds:
            raise ConfigError("seeds is empty: give at least one, such as [0]")
        if small := [size for size in self.sizes if size <= self.sentences]:
            raise ConfigError(
                f"sizes has {small[0]}: expected sizes above sentences, which is {self.sentences}"
            )
        if "test" in self.tests:
            raise ConfigError(
                "tests names a text test, but test.txt has that name already: give another name"
            )
        if self.text is None and not self.quick:
            raise ConfigError(
                "text is missing: give a directory that holds LANG/train.txt for "
                f"{', '.join(languages)}, and {self.target}/valid.txt and "
                f"{self.target}/test.txt; --quick=true tries it on the corpus that ships "
                "with xlm"
            )

    @property
    def languages(self) -> tuple[str, str, str]:
        """The target, the related and the unrelated language."""
        return self.target, self.related, self.unrelated

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The languages of each row of the table, the target first."""
        target, related, unrelated = self.languages
        return [(target,), (target, unrelated), (target, related), (target, unrelated, related)]


def _check_different(name: str, values: Sequence[int], least: int) -> None:
    if len(set(values)) < len(values) or any(value < least for value in values):
        raise ConfigError(f"{name} must be distinct numbers, each at least {least}: found {values}")
