"""The text of a study: prepared once, and put together anew for each of its models."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlm import sample
from xlm.data.corpora import DESCRIPTION, Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.reproduce.config import Reproduce
from xlm.reproduce.shifted import ShiftedTokenizer, moved
from xlm.storage import read_json, write_json
from xlm.text.tokenizers.tokenizer import Tokenizer

log = logging.getLogger("xlm.reproduce")

ORIGIN = "text.json"
"""The origin of a study's text: settings, and a digest of each file."""
QUICK_VOCABULARY = 400
TEST = "test"
"""The name of the target's test.txt."""


@dataclass(frozen=True)
class StudyText:
    """The corpora of a study, all by one tokenizer."""

    config: Reproduce
    base: Corpora
    """Training text of all languages, and the target's held-out text."""
    larger: Mapping[int, Corpus]
    """The target's training text by its number of sentences, beyond ``config.sentences``."""
    tests: Mapping[str, Corpus]
    """The target's test texts by name, ``test`` first."""

    @property
    def sentences(self) -> int:
        """Training sentences of the target that there are, at most ``config.sentences``."""
        return len(self.base.text("train", self.config.target))

    def corpora(self, languages: Sequence[str], sentences: int, *, shifted: bool) -> Corpora:
        """Return the corpora of one model: training text, the target's validation text and tests.

        ``shifted`` moves the ids of all languages but the target to a range of their own.
        """
        target = self.config.target
        texts = {("train", name): self.base.text("train", name) for name in languages}
        texts["valid", target] = self.base.text("valid", target)
        if sentences != self.sentences:
            texts["train", target] = self.larger[sentences]
        tokenizer: Tokenizer = self.base.tokenizer
        if shifted:
            tokenizer = larger = ShiftedTokenizer(tokenizer)
            texts = {
                (split, name): moved(corpus, larger, shift=name != target)
                for (split, name), corpus in texts.items()
            }
        return Corpora(tokenizer, languages, texts=texts)

    def with_test(self, corpora: Corpora, name: str) -> Corpora:
        """Return a model's training text of the target with the test text ``name``."""
        target, test = self.config.target, self.tests[name]
        if isinstance(corpora.tokenizer, ShiftedTokenizer):
            test = moved(test, corpora.tokenizer, shift=False)
        texts = {("train", target): corpora.text("train", target), ("test", target): test}
        return Corpora(corpora.tokenizer, corpora.languages, texts=texts)


def open_text(config: Reproduce) -> StudyText:
    """Prepare the text of a study in its folder, what is there already excepted, and open it.

    Raises ConfigError if the folder holds the text of other settings or files, DataError if a file
    is missing.
    """
    folder = Path(config.folder) / "text"
    sources = _sources(config)
    _check_origin(config, sources, folder)
    base = folder / "base"
    if not (base / DESCRIPTION).exists():
        log.info("preparing the text of %s", ", ".join(config.languages))
        prepare(_base(config, sources, base))
    corpora = Corpora.open(base)
    tests = {TEST: corpora.text("test", config.target)}
    for name, source in config.tests.items():
        own = _prepared(config, folder / f"test-{name}", "test", source, base, None)
        tests[name] = own.text("test", config.target)
    larger = {}
    for size in sorted(config.sizes):
        source = sources["train", config.target]
        own = _prepared(config, folder / str(size), "train", source, base, size)
        corpus = own.text("train", config.target)
        if len(corpus) < size:
            log.warning(
                "%s has %d sentences: the sizes from %d on are left out", source, len(corpus), size
            )
            break
        larger[size] = corpus
    return StudyText(config, corpora, larger, tests)


def _sources(config: Reproduce) -> dict[tuple[str, str], str]:
    """Return the file of each split and language. Raises DataError if one is missing."""
    wanted = [("train", name) for name in config.languages]
    wanted += [(split, config.target) for split in ("valid", "test")]
    if config.text is None:
        own = sorted(set(config.languages) - set(sample.LANGUAGES))
        if own:
            raise ConfigError(
                f"the corpus that ships with xlm has no {', '.join(own)}: expected some of "
                f"{', '.join(sample.LANGUAGES)}; give text"
            )
        held_out = {"train": "train", "valid": "valid", "test": "valid"}
        return {
            (split, name): str(sample.path(f"{held_out[split]}.{name}.txt"))
            for split, name in wanted
        }
    files = {(split, name): Path(config.text) / name / f"{split}.txt" for split, name in wanted}
    for path in [*files.values(), *map(Path, config.tests.values())]:
        if not path.is_file():
            raise DataError(
                f"{path} does not exist: expected a file with one sentence per line; text is "
                f"the folder that holds {config.target}/train.txt and the others"
            )
    return {key: str(path.resolve()) for key, path in files.items()}


def _check_origin(config: Reproduce, sources: Mapping[tuple[str, str], str], folder: Path) -> None:
    """Record the text's origin, or raise ConfigError if the folder's is of another origin.

    Tests and sizes may be added later.
    """
    names = {f"{name}/{split}.txt": path for (split, name), path in sources.items()}
    names |= {f"tests.{name}": path for name, path in config.tests.items()}
    now: dict[str, str | int] = {
        "sentences": config.sentences,
        "other_sentences": config.other_sentences,
        "vocabulary": _vocabulary_size(config),
    }
    for name, path in names.items():
        with open(path, "rb") as file:
            now[name] = hashlib.file_digest(file, "sha256").hexdigest()
    noted = folder / ORIGIN
    before = read_json(noted, error=ConfigError) if noted.exists() else {}
    changed = [name for name, own in now.items() if before.get(name, own) != own]
    if set(config.languages) != set(before.get("languages", config.languages)):
        changed.append("languages")
    if changed:
        raise ConfigError(
            f"{config.folder} holds a study of other text ({', '.join(changed)} differ): "
            "give another folder, or remove this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(noted, {**before, **now, "languages": list(config.languages)}, error=ConfigError)


def _vocabulary_size(config: Reproduce) -> int:
    return min(config.vocabulary, QUICK_VOCABULARY) if config.quick else config.vocabulary


def _base(config: Reproduce, sources: Mapping[tuple[str, str], str], folder: Path) -> Prepare:
    target = config.target
    limits = dict.fromkeys(config.languages, config.other_sentences)
    return Prepare(
        folder=str(folder),
        text=Texts(
            train={name: sources["train", name] for name in config.languages},
            valid={target: sources["valid", target]},
            test={target: sources["test", target]},
        ),
        max_sentences={**limits, target: config.sentences},
        max_valid_sentences=1000,
        vocabulary=Vocabulary(size=_vocabulary_size(config)),
        workers=1,
    )


def _prepared(
    config: Reproduce, folder: Path, split: str, source: str, base: Path, most: int | None
) -> Corpora:
    """Open one text of the target by the tokenizer of ``base``, prepared if it is not there."""
    if not (folder / DESCRIPTION).exists():
        log.info("preparing %s%s", source, f", {most} sentences" if most else "")
        sources: dict[str, str | list[str]] = {config.target: source}
        prepare(
            Prepare(
                folder=str(folder),
                text=Texts(**{split: sources}),
                max_sentences={config.target: most} if most else {},
                vocabulary=Vocabulary(folder=str(base)),
                workers=1,
            )
        )
    return Corpora.open(folder)
