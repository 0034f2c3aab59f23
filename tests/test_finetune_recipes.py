"""The recipes of fine-tuning say what the papers say, and can be built from files of that shape.

The files are made here, in the published formats, under the names that a recipe gives.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from xlm import sample
from xlm.config.cli import read, to_yaml
from xlm.data.corpora import Corpora
from xlm.errors import DataError
from xlm.finetune import Finetune, chosen_on, finetune, metrics, rooted, to_runs
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification, Sentences
from xlm.tasks.parsing import Parsing
from xlm.tasks.readers.labeled import LAYOUTS
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.tokenizer import Tokenizer

RECIPES = Path(__file__).parents[1] / "recipes"
STUDIES = (
    "xnli", "mldoc", "pos", "ner", "parsing", "xquad", "paws-x", "intent", "xglue", "freezing",
)  # fmt: skip
NAMES = sorted(
    f"{study}/{path.stem}"
    for study, pattern in (*((study, "*.yaml") for study in STUDIES), ("monotrans", "step-3*.yaml"))
    for path in (RECIPES / study).glob(pattern)
)
TINY = ModelConfig(dim=16, num_layers=2, num_heads=2, max_positions=512)

WU = {  # Wu and Dredze (2019), section 5
    "model": "google-bert/bert-base-multilingual-cased",
    "optimizer.kind": "adamw",
    "optimizer.betas": [0.9, 0.999],
    "optimizer.weight_decay": 0.01,
    "schedule.kind": "linear",
    "schedule.final_lr": 0.0,
    "warmup": 0.1,
    "grid.learning_rates": [2e-5, 3e-5, 5e-5],
    "grid.batches": [16, 32],
    "grid.epochs": [3, 4],
    "choose_on": ["en"],
    "group_size": 1,
}
FEATURES = {  # section 5.2
    "optimizer.kind": "adam",
    "optimizer.weight_decay": 0.0,
    "schedule.kind": "constant",
    "schedule.peak_lr": 1e-3,
    "warmup": 0,
    "task.rows": 32,
    "task.readout.features": True,
    "task.readout.lstm_size": 768,
    "halve_on_plateau": True,
    "lowest_lr": 1e-5,
    "choose_on": ["en"],
}
XLM = {  # Lample and Conneau (2019), section 5.1
    "optimizer.kind": "adam",
    "optimizer.max_grad_norm": 0,
    "schedule.kind": "constant",
    "schedule.peak_lr": 5e-6,
    "warmup": 0,
    "task.longest_words": 256,
    "task.rows": 8,
    "task.readout.kind": "linear",
    "task.readout.pooling": "first",
    "evaluate_every": 20000,
}
MONO = {  # Artetxe, Ruder and Yogatama (2020), appendix A; the rest is BERT's
    "optimizer.kind": "adamw",
    "optimizer.weight_decay": 0.01,
    "schedule.kind": "linear",
    "schedule.peak_lr": 2e-5,
    "warmup": 0.1,
    "task.rows": 32,
    "epochs": 2,
    "grid.learning_rates": [],
}
STEP_3 = MONO | {"frozen": ["words", "positions"], "embedding_noise": 0.075}  # section 2
JI = {  # Ji et al. (2024), section 2.3
    "optimizer.kind": "adamw",
    "schedule.kind": "linear",
    "schedule.peak_lr": 5e-6,
    "task.length": 256,
    "epochs": 10,
}


def mmte(scale: float, warmup: int) -> dict[str, Any]:
    """Siddhant et al. (2020): (scale, warm-up) as footnote 2 has it."""
    return {
        "optimizer.kind": "lingvo-adafactor",
        "optimizer.max_tensor_grad_norm": 1.0,
        "optimizer.update_clip": 1.0,
        "schedule.kind": "inverse-sqrt",
        "schedule.exponent": 0.5,
        "schedule.peak_lr": pytest.approx(scale / math.sqrt(warmup), rel=1e-6),
        "schedule.warmup_steps": warmup,
        "schedule.warmup_init_lr": pytest.approx(scale * warmup**-1.5, rel=1e-6),
        "warmup": 0,
    }


SENTENCES = {"task.readout.kind": "feed-forward", "task.readout.pooling": "max",
             "task.readout.size": 64}  # fmt: skip
WORDS = {"task.readout.kind": "feed-forward", "task.readout.size": 784}
PAPERS: dict[str, dict[str, Any]] = {
    "xnli/xlm": XLM
    | {"grid.batches": [8, 16], "grid.learning_rates": [2e-6, 5e-6, 1e-5], "choose_on": ["en"]},
    "xnli/xlm-translate-train": XLM,
    "xnli/xlm-translate-test": XLM,
    "xnli/mbert": WU | {"task.length": 128, "task.readout.pooling": "first"},
    "xnli/mmte": mmte(0.2, 90_000) | SENTENCES,
    "xnli/monotrans": MONO | {"frozen_layers": None, "embedding_noise": 0.0},
    "xnli/ji": JI,
    "mldoc/mbert": WU | {"task.length": 128, "task.format": "plain-pair"},
    "mldoc/mmte": mmte(0.2, 5000) | SENTENCES | {"task.length": 202},
    "mldoc/monotrans": MONO,
    "pos/mbert": WU | {"task.length": 128, "task.context": 64, "task.spans": False},
    "pos/mmte": mmte(0.1, 40_000) | WORDS,
    "pos/mmte-few-shot": mmte(0.1, 40_000) | WORDS | {"task.upsampled_to": 1000},
    "pos/mmte-all": mmte(0.1, 40_000) | WORDS | {"task.sampling.alpha": 1.0},
    "pos/mmte-features": mmte(0.1, 40_000) | WORDS | {"frozen_layers": 6},
    "pos/ji": JI | {"schedule.peak_lr": 2e-5},
    "ner/mbert": WU | {"task.length": 128, "task.context": 64, "task.spans": True},
    "ner/mmte": mmte(0.1, 40_000) | WORDS | {"task.spans": True},
    "ner/ji": JI | {"task.spans": True},
    "parsing/mbert": WU
    | {
        "task.longest_words": 140,
        "task.length": 512,
        "task.arc_size": 512,
        "task.label_size": 128,
        "task.upos_size": 100,
        "task.readout.dropout": 0.33,
        "task.upos": False,
    },
    "xquad/monotrans": MONO | {"task.length": 384, "task.stride": 128, "task.rules": "squad1"},
    "paws-x/monotrans": MONO,
    "paws-x/ji": JI,
    "intent/mmte": mmte(0.1, 100_000) | SENTENCES,
    "xglue/nc": JI,
    "xglue/qam": JI,
    "xglue/qadsm": JI,
    "xglue/wpr": JI,
    "freezing/sentences": WU | {"frozen_layers": 6, "task.length": 128},
    "freezing/words": WU | {"frozen_layers": 3, "task.length": 128, "task.context": 64},
    "freezing/features-sentences": FEATURES | {"task.readout.pooling": "max"},
    "freezing/features-words": FEATURES,
    "monotrans/step-3-xnli": STEP_3,
    "monotrans/step-3-mldoc": STEP_3,
    "monotrans/step-3-paws-x": STEP_3,
    "monotrans/step-3-xquad": STEP_3 | {"task.length": 384, "task.stride": 128},
}
XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh"
UD = "ar bg ca cs da de en es et fi fr he hi hr id it ja ko la lv nl no pl pt ro ru sk sl sv uk zh"
TESTED = {
    "xnli/xlm": XNLI,
    "xnli/xlm-translate-train": "fr",
    "xnli/xlm-translate-test": XNLI.replace("en ", ""),
    "xnli/mbert": XNLI,
    "xnli/mmte": XNLI,
    "xnli/monotrans": XNLI,
    "xnli/ji": XNLI,
    "mldoc/mbert": "de en es fr it ja ru zh",
    "mldoc/mmte": "de en es fr it ja ru zh",
    "mldoc/monotrans": "de en es fr ru zh",  # their Table 2 leaves two out
    "pos/mbert": "bg da de en es fa hu it nl pl pt ro sk sl sv",
    "pos/mmte": "ar bg de en es fr hi mr nl pt ro sv te ur zh",
    "pos/mmte-few-shot": "ar bg de en es fr hi mr nl pt ro sv te ur zh",
    "pos/mmte-features": "ar bg de en es fr hi mr nl pt ro sv te ur zh",
    "pos/ji": "ar bg de el en es fr hi it nl pl pt ru th tr ur vi zh",
    "ner/mbert": "de en es nl zh",
    "ner/mmte": "de en es nl",
    "ner/ji": "de en es nl",
    "parsing/mbert": UD,
    "xquad/monotrans": "ar de el en es hi ru th tr vi zh",
    "paws-x/monotrans": "de en es fr zh",
    "paws-x/ji": "de en es fr",
    "intent/mmte": "en es th",
    "xglue/nc": "de en es fr ru",
    "xglue/qam": "de en fr",
    "xglue/qadsm": "de en fr",
    "xglue/wpr": "de en es fr it pt zh",
    "freezing/sentences": "de en es fr it ja ru zh",
    "freezing/words": "bg da de en es fa hu it nl pl pt ro sk sl sv",
    "freezing/features-sentences": "de en es fr it ja ru zh",
    "freezing/features-words": "bg da de en es fa hu it nl pl pt ro sk sl sv",
    "monotrans/step-3-xnli": "en",
    "monotrans/step-3-mldoc": "en",
    "monotrans/step-3-paws-x": "en",
    "monotrans/step-3-xquad": "en",
}


@cache
def recipe(name: str) -> Finetune:
    return read(Finetune, RECIPES / f"{name}.yaml")


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below the mappings, by its dotted path."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from flat(below, f"{path}.{key}" if path else key)
    yield path, value


def settings(config: Finetune) -> dict[str, Any]:
    """The fields by dotted path; those of the one task begin with ``task``."""
    tree = yaml.safe_load(to_yaml(config))
    ((_, task),) = tree["tasks"].items()
    return dict(flat({**tree, "task": task["init_args"]}))


def test_every_recipe_is_compared_with_its_paper() -> None:
    assert set(NAMES) == set(PAPERS) and set(NAMES) - set(TESTED) == {"pos/mmte-all"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_the_settings_of_its_paper(name: str) -> None:
    found = settings(recipe(name))
    different = {key: found[key] for key, value in PAPERS[name].items() if found[key] != value}
    assert not different
    assert found["schedule.peak_lr"] <= 2.5e-5 or found["optimizer.kind"] != "adamw"
    assert not found["frozen_layers"] or found["frozen_layers"] < 12


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_the_languages_of_its_paper(name: str) -> None:
    ((_, task),) = recipe(name).tasks.items()
    wanted = TESTED.get(name, "").split()
    assert sorted(task.files.test) == wanted
    if name in ("pos/mmte-few-shot", "pos/mmte-all"):
        assert len(task.files.train) == 15
        assert task.few_shot == {} or task.few_shot == dict.fromkeys(set(wanted) - {"en"}, 10)
    else:
        assert list(task.files.train) == (["fr"] if name.endswith("translate-train") else ["en"])


# Files in the published formats.


def sentence_lines(layout: str, labels: list[str], languages: list[str]) -> list[str]:
    """A header where there is one, and each label twice for each language."""
    rows = [(lang, label) for lang in languages for label in labels * 2]
    if layout == "xnli":
        header = "language\tgold_label\tsentence1\tsentence2"
        return [header, *(f"{lang}\t{label}\tone {label}\ttwo" for lang, label in rows)]
    if layout == "xnli-train":
        own = {"contradiction": "contradictory"}
        return ["premise\thypo\tlabel", *(f"one {a}\ttwo\t{own.get(a, a)}" for _, a in rows)]
    if layout == "nli":
        return ["premise\thypothesis\tlabel", *(f"one {a}\ttwo\t{a}" for _, a in rows)]
    if layout == "paws-x":
        header = "id\tsentence1\tsentence2\tlabel"
        return [header, *(f"{n}\tone {a}\ttwo\t{a}" for n, (_, a) in enumerate(rows))]
    if layout == "intent":
        locales = {"en": "en_XX", "es": "es_XX", "th": "th_TH"}
        return [f"{a}\t0:3:x\twake {a}\t{locales[lang]}\t{{}}" for lang, a in rows]
    columns = {"plain-pair": "{a}\tone {a}\ttwo", "mldoc": "{a}\tone {a} two"}
    columns |= dict.fromkeys(("xglue-nc", "xglue-qam"), "one {a}\ttwo\t{a}")
    columns |= dict.fromkeys(("xglue-qadsm", "xglue-wpr"), "one\ttwo {a}\tthree\t{a}")
    return [columns[layout].format(a=a) for _, a in rows]


def word_lines(format: str, spans: bool) -> list[str]:
    """Three words, a dozen times."""
    tags = ["B-PER", "I-PER", "O"] if spans else ["NOUN", "VERB", "PUNCT"]
    if format == "conllu":
        heads, labels = (2, 0, 2), ("nsubj:pass", "root", "punct")
        rows = [
            f"{n + 1}\tword{n}\t_\t{tags[n]}\t_\t_\t{heads[n]}\t{labels[n]}\t_\t_" for n in range(3)
        ]
    else:
        rows = [f"word{n} X {tags[n]}" if spans else f"word{n}\t{tags[n]}" for n in range(3)]
    return [*rows, ""] * 12


def question_text() -> str:
    answer = {"text": "in spring", "answer_start": 14}
    asked = [{"id": str(n), "question": f"when {n}?", "answers": [answer]} for n in range(3)]
    paragraph = {"context": "The rain came in spring.", "qas": asked}
    return json.dumps({"data": [{"title": "rain", "paragraphs": [paragraph]}], "version": "1.1"})


def write_files(task: Task, root: Path) -> None:
    """What the task's files would hold, at the places where it looks for them."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for split in ("train", "valid", "test"):
        for language, path in getattr(task.files, split).items():
            layout = task.formats.get(split, task.format) if isinstance(task, Sentences) else ""
            places[path, layout].append(language)
    for (path, layout), languages in places.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(task, Answering):
            text = question_text()
        elif isinstance(task, Tagging):
            text = "\n".join(word_lines(task.format, task.spans))
        elif isinstance(task, Parsing):
            text = "\n".join(word_lines("conllu", False))
        else:
            assert isinstance(task, Classification)
            labels = task.labels or ["0", "1", "4"]
            text = "\n".join(sentence_lines(layout, labels, languages))
        (root / path).write_text(text + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    lines = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()
    return learn_sentencepiece(lines, 600)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_built_from_files_of_its_formats(
    name: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = recipe(name)
    ((key, task),) = config.tasks.items()
    write_files(task, tmp_path)
    task = rooted(task, str(tmp_path)).resolved()
    languages = {*task.files.train, *task.files.valid, *task.files.test}
    corpora = Corpora(tokenizer, {own for own in languages if own not in task.stand_in})
    model = Transformer(
        TINY, vocab_size=tokenizer.vocab_size, num_languages=len(corpora.languages),
        pad_id=tokenizer.pad_id,
    )  # fmt: skip
    head = task.head(TINY)
    for split in ("train", "valid", "test"):
        streams = task.streams(key, corpora, seed=0, split=split)
        assert [stream.id for stream in streams] == [
            f"{key}/{language}" for language in getattr(task.files, split)
        ]
        for stream in streams[:1]:  # pos/mmte-all has no test files
            batch = task.collate(stream.examples(0), Random(0, split), train=split == "train")
            loss = task.loss(model, head, batch)
            assert loss.count > 0 and math.isfinite(loss.total.item())
    runs = list(to_runs(config, {key: task}, corpora))
    grid = config.grid
    sizes = [len(own) or 1 for own in (grid.learning_rates, grid.batches, grid.epochs)]
    assert len(runs) == math.prod(sizes) == len({run.folder for _, _, run in runs})
    assert metrics(config, {key: task})[key] == runs[0][2].stopping.metric
    assert chosen_on(config, {key: task}) == runs[0][2].stopping.streams
    for cell, _, run in runs:
        built = run.objectives[key]
        assert isinstance(built, Task) and built.rows == (batch_of(cell) or task.rows)


def batch_of(cell: str) -> int:
    words = cell.split()
    return int(words[words.index("batch") + 1]) if "batch" in words else 0


def test_every_layout_of_a_recipe_is_published() -> None:
    used = set()
    for name in NAMES:
        for task in recipe(name).tasks.values():
            if isinstance(task, Sentences):
                used |= {task.format, *task.formats.values()}
    assert used <= set(LAYOUTS) and {"xnli", "intent", "mldoc", "xglue-wpr"} <= used


@pytest.mark.parametrize(
    "name", ["pos/mmte-few-shot", "freezing/features-sentences", "xnli/xlm-translate-test"]
)
def test_a_recipe_trains_a_small_model(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Adafactor and upsampling, a frozen encoder that is read by an LSTM, a stand-in."""
    config = recipe(name)
    ((key, task),) = config.tasks.items()
    write_files(task, tmp_path)
    narrow = min(task.readout.lstm_size, 8)
    small_task = dataclasses.replace(
        task, readout=dataclasses.replace(task.readout, lstm_size=narrow)
    )
    torch.manual_seed(0)
    languages = sorted({"en", *task.files.test} - set(task.stand_in))
    ids = {language: row for row, language in enumerate(languages)}
    small = dataclasses.replace(TINY, language_embeddings=True)
    transformer = Transformer(
        small, vocab_size=tokenizer.vocab_size, num_languages=len(ids), pad_id=tokenizer.pad_id
    )
    PretrainedModel(transformer, tokenizer, ids).save_pretrained(tmp_path / "model")
    here = dataclasses.replace(
        config, model=str(tmp_path / "model"), folder=str(tmp_path / "run"), root=str(tmp_path),
        steps=4, evaluate_every=0, device="cpu", tasks={key: small_task},
    )  # fmt: skip
    report = finetune(here)
    assert set(report.streams) == {f"{key}/{language}" for language in task.files.test}
    for figures in report.streams.values():
        assert 0 <= figures["chosen"].mean <= 1


def test_relative_files_start_at_the_root(tmp_path: Path) -> None:
    files = Files(
        train={"en": "a/b.tsv"},
        valid={"en": str(tmp_path / "c.tsv"), "ne": "datasets:x?split=test"},
        test={"en": "sample:follows.valid.en.tsv"},
    )
    task = rooted(Classification(files=files, rows=3), "data")
    assert task.files.train == {"en": "data/a/b.tsv"}
    assert task.files.valid == files.valid
    assert task.files.test == {"en": str(sample.path("follows.valid.en.tsv"))}
    assert task == Classification(files=task.files, rows=3)
    wrong = Files(train={"en": "sample:follows.en"})
    with pytest.raises(DataError, match="no file 'follows.en' in the sample corpus"):
        rooted(Classification(files=wrong), ".")
