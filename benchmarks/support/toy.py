"""Task files made from the corpus that ships, where the real ones would lie: for ``--quick``.

They try a script, in less than a minute and without any other data; their figures mean nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from xlm import sample
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Run, Schedule

TOPICS = ("business", "entertainment", "politics", "sport", "tech")
NAMES = {"en": ("PER", "LOC", "ORG"), "hi": ("PERSON", "LOCATION", "NUMBER")}


def text(split: str, language: str) -> list[str]:
    """The sentences of the corpus that ships."""
    return sample.path(f"{split}.{language}.txt").read_text(encoding="utf-8").splitlines()


def data(folder: Path) -> Path:
    """Files of every task in the layout of the real data; returns their root."""
    root = folder / "toy"
    for split in ("train", "valid"):
        for language in sample.LANGUAGES:
            lines = text(split, language)[:60]
            for name in (split, "test") if split == "valid" else (split,):
                _write(root / f"mono/{language}/{name}.txt", lines)
                _labeled(root, name, language, lines)
                _words(root, name, language, lines)
    _questions(root)
    _pairs(root)
    return root


def _pairs(root: Path) -> None:
    """Sentences of two languages side by side, in the files that held-out pairs have."""
    for pair in ("en-ne", "hi-ne"):
        _pair(root, pair)
    for language in ("en", "ne"):
        name = f"parallel/en-ne/train.globalvoices_noisy.{language}"
        _write(root / name, text("train", language)[60:80])
    words = [f"{one.split()[0]} {other.split()[0]}" for one, other in zip(
        text("train", "en")[:20], text("train", "ne")[:20], strict=True
    )]  # fmt: skip
    for name in ("ui_terms", "eng_nep"):
        _write(root / f"dict/{name}.en-ne.txt", words)


def _pair(root: Path, pair: str) -> None:
    names = {"train": ("train",), "valid": ("valid.ui", "valid", "test.ui", "test")}
    for split, files in names.items():
        for name in files:
            for language in pair.split("-"):
                _write(root / f"parallel/{pair}/{name}.{language}", text(split, language)[:60])


def pairs(folder: Path) -> Path:
    """Files of the pairs of three languages, in the layout of the real data; returns their root."""
    root = folder / "toy-pairs"
    for pair in ("en-hi", "en-ne", "hi-ne"):
        _pair(root, pair)
    return root


def _labeled(root: Path, split: str, language: str, lines: list[str]) -> None:
    topics = [f"{TOPICS[at % 5]}\t{line}" for at, line in enumerate(lines)]
    _write(root / f"classify/topic5/{language}.{split}.tsv", ["label\ttext", *topics])
    labels = ("contradiction", "entailment", "neutral")
    pairs = [
        f"{line}\t{lines[at - at % 2]}\t{labels[at % 3]}"
        for at, line in enumerate(lines)
    ]  # fmt: skip
    head = "premise\thypothesis\tlabel"
    if language == "en" and split == "train":
        _write(root / "nli/mnli10k/en.train.tsv", [head, *pairs])
    elif language == "en":
        for spoken in ("en", "sw"):
            name = "dev" if split == "valid" else split
            _write(root / f"nli/xnli/{spoken}.{name}.tsv", [head, *pairs])


def _words(root: Path, split: str, language: str, lines: list[str]) -> None:
    tags = {0: "PUNCT", 1: "NOUN", 2: "VERB", 3: "CONJ" if language == "hi" else "CCONJ"}
    trees: list[str] = []
    tagged: list[str] = []
    entities: list[str] = []
    kinds = NAMES.get(language, NAMES["en"])
    for line in lines:
        for at, word in enumerate(line.split(), 1):
            tag = tags[len(word) % 4]
            label = "root" if at == 1 else "dep"
            trees.append(f"{at}\t{word}\t_\t{tag}\t_\t_\t{at - 1}\t{label}\t_\t_")
            tagged.append(f"{word}\t{tag}")
            entities.append(f"{word}\tB-{kinds[len(word) % 3]}" if at % 5 == 0 else f"{word}\tO")
        for block in (trees, tagged, entities):
            block.append("")
    banks = {"en": "en_ewt", "hi": "hi_hdtb_v1.2"}
    if language in banks:
        name = "dev" if split == "valid" else split
        _write(root / f"ud/{banks[language]}/{name}.conllu", trees)
    if language == "ne":
        _write(root / f"tagging/ne_pos/{split}.tsv", tagged)
    of_names = {"en": "wikiann_en", "hi": "ijnlp2008_hi", "ne": "ebiquity_ne"}[language]
    _write(root / f"ner/{of_names}/{split}.tsv", entities)


def _questions(root: Path) -> None:
    """A question on each paragraph of three sentences: its first words ask for its last."""
    titles: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for language in ("en", "hi"):
        articles = []
        lines = text("train", language)
        for at in range(0, 45, 3):
            context = " ".join(lines[at : at + 3])
            word = context.split()[-1]
            answer = {"text": word, "answer_start": context.rindex(word)}
            asked = {"id": f"{at}", "question": " ".join(context.split()[:4]), "answers": [answer]}
            title = f"article-{at}"
            articles.append({"title": title, "paragraphs": [{"context": context, "qas": [asked]}]})
            if language == "en":
                titles["train" if at < 30 else "valid" if at < 39 else "test"].append(title)
        content = json.dumps({"version": "1.1", "data": articles}, ensure_ascii=False, indent=1)
        _write(root / f"qa/xquad/xquad.{language}.json", content.split("\n"))
    _write(root / "qa/xquad/article_split.json", [json.dumps(titles)])


def corpora(folder: Path) -> Path:
    """Prepare the corpus that ships in ``folder/data``, if it is not there; return the path."""
    prepared = folder / "data"
    languages = sample.LANGUAGES
    if not prepared.exists():
        prepare(
            Prepare(
                folder=str(prepared),
                text=Texts(
                    train={lang: f"sample:train.{lang}.txt" for lang in languages},
                    valid={lang: f"sample:valid.{lang}.txt" for lang in languages},
                ),
                pairs=Aligned(train={"en-ne": ["sample:train.en.txt", "sample:train.ne.txt"]}),
                vocabulary=Vocabulary(kind="unigram", size=1500),
                workers=1,
            )
        )
    return prepared


def models(folder: Path) -> Path:
    """Train the runs ``clm``, ``mlm`` and ``mlm+tlm`` of recipes/small for a few updates."""
    prepared, languages = corpora(folder), sample.LANGUAGES
    mlm = MaskedLM(languages=list(languages), rows=8, length=32, evaluation_folds=1)
    tlm = MaskedLM(pairs=["en-ne"], tokens=512, length=128, num_lengths=4)
    objectives: dict[str, dict[str, Objective]] = {
        "clm": {"clm": CausalLM(languages=list(languages), rows=8, length=32)},
        "mlm": {"mlm": mlm},
        "mlm+tlm": {"mlm": mlm, "tlm": tlm},
    }
    for name, own in objectives.items():
        pretrain(
            Run(
                data=str(prepared), folder=str(folder / name), objectives=own,
                model=ModelConfig(preset="rotary-tiny", dim=32, num_layers=2, num_heads=2),
                steps=12, group_size=1,
                schedule=Schedule(kind="constant", peak_lr=1e-3, warmup_steps=0),
                evaluate_every=12, save_every=12, tensorboard=False, device="cpu",
            )
        )  # fmt: skip
    return folder


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
