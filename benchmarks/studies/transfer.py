"""What brings English over to Hindi and Nepali in small models: the pairs, their share, the noise.

    python -m benchmarks.studies.transfer --corpora runs/small/data --data data

Each arm pretrains the shape of recipes/small for equally many updates and is asked for translations
(retrieval by mean states of held-out sentences, the layer chosen on even rows and measured on odd
ones) and for parts of speech of Hindi after fine-tuning on English alone. Pairs are the user
interfaces of ``--corpora``; with running text the verses and news of ``--data`` beside them; with
dictionaries each of their entries as a pair. Random weights and tf-idf over the shared subwords
show what nothing gives. Everything that is finished is not run again; ``--quick`` tries it on the
corpus that ships.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.finetuning_real import parts_of_speech
from benchmarks.studies.learning import kept
from benchmarks.support import downstream, toy
from xlm.analysis import retrieval
from xlm.analysis.states import sentence_states
from xlm.data.corpora import Corpora
from xlm.finetune import Finetune
from xlm.interchange.load import MODEL
from xlm.objective import Objective
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import MaskedLM, ModelConfig, Optimizer, Run, Schedule, pretrain
from xlm.run.selection import mean_of

LANGUAGES = ["en", "hi", "ne"]
PAIRS = ("en-hi", "en-ne", "hi-ne")
ROWS, GROUP = 8, 4
RUNNING = {"en-hi": "quran", "en-ne": "train.globalvoices_noisy"}
DICTIONARIES = {
    "en-hi": ("ui_terms", "swadesh110", "swadesh207"), "en-ne": ("ui_terms", "eng_nep"),
}  # fmt: skip
HELD_OUT = {
    "user interfaces en-hi": ("en-hi", "test.ui"),
    "Tatoeba en-hi": ("en-hi", "test"),
    "user interfaces en-ne": ("en-ne", "test.ui"),
    "Wikipedia en-ne": ("en-ne", "test"),
}


@dataclass(frozen=True)
class Arm:
    """What a model is pretrained on, and how."""

    pairs: str = ""
    """Which pairs: none, ``ui``, ``running`` or ``dictionaries``, each beside those before it."""
    shares: tuple[int, int] = (4, 4)
    """Micro-batches of MLM and of TLM in an update, of 512 tokens each."""
    noise: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Of the targets, those that are hidden, kept and replaced by a random token."""
    masks: float = 0.3
    """Share of the tokens of pairs that are targets."""
    dim: int = 128
    language_embeddings: bool = False


ARMS = {
    "MLM": Arm(shares=(8, 0)),
    "MLM+TLM": Arm("ui"),
    "MLM+TLM, language vectors": Arm("ui", language_embeddings=True),
    "running text too": Arm("running"),
    "dictionaries too": Arm("dictionaries"),
    "dictionaries too, three quarters TLM": Arm("dictionaries", shares=(2, 6)),
    "dictionaries too, half of the targets replaced": Arm("dictionaries", noise=(0.4, 0.1, 0.5)),
    "dictionaries too, 60 % of the pairs masked": Arm("dictionaries", masks=0.6),
    "dictionaries too, language vectors": Arm("dictionaries", language_embeddings=True),
    "dictionaries too, 64 wide": Arm("dictionaries", dim=64),
}


def pairs_of(data: Path, kind: str, folder: Path) -> dict[str, list[str]]:
    """Return the files of each pair, with those of further kinds written behind one another."""
    found = {}
    for pair in PAIRS:
        if not (data / f"parallel/{pair}").exists():
            continue  # the corpus that ships has no en-hi
        sides: tuple[list[str], list[str]] = ([], [])
        names = ["train"] + ([RUNNING[pair]] if pair in RUNNING else [])
        for name in names:
            for language, side in zip(pair.split("-"), sides, strict=True):
                path = data / f"parallel/{pair}/{name}.{language}"
                side += downstream.lines_of(path, sys.maxsize)
        for name in DICTIONARIES.get(pair, ()) if kind == "dictionaries" else ():
            for line in downstream.lines_of(data / f"dict/{name}.{pair}.txt", sys.maxsize):
                for word, side in zip(line.split(), sides, strict=True):
                    side.append(word)
        own = [folder / f"pairs-{kind}/{pair}.{language}" for language in pair.split("-")]
        own[0].parent.mkdir(parents=True, exist_ok=True)
        for path, side in zip(own, sides, strict=True):
            path.write_text("\n".join(side) + "\n", encoding="utf-8")
        found[pair] = [str(path) for path in own]
    return found


def corpora_of(arm: Arm, arguments: argparse.Namespace) -> Path:
    """Return the prepared text of an arm, in the vocabulary of ``--corpora``."""
    if arm.pairs in ("", "ui"):
        return Path(arguments.corpora)
    folder = Path(arguments.folder / f"corpora-{arm.pairs}")
    if not (folder / "corpora.json").exists():
        data = arguments.data
        mono = {
            split: {name: str(data / f"mono/{name}/{split}.txt") for name in LANGUAGES}
            for split in ("train", "valid")
        }
        held_out = {
            pair: [str(data / f"parallel/{pair}/valid.ui.{name}") for name in pair.split("-")]
            for pair in PAIRS
            if (data / f"parallel/{pair}").exists()
        }
        prepare(
            Prepare(
                folder=str(folder), text=Texts(**mono),
                pairs=Aligned(
                    train=pairs_of(data, arm.pairs, arguments.folder), valid=held_out
                ),
                vocabulary=Vocabulary(folder=str(arguments.corpora)), max_valid_sentences=500,
            )
        )  # fmt: skip
    return folder


def recipe(arm: Arm, corpora: Path, folder: Path, steps: int, seed: int) -> Run:
    """Return the run of an arm: that of recipes/small/mlm+tlm but for what the arm changes."""
    hidden, unchanged, replaced = arm.noise
    common = {
        "frequency_exponent": 0.0, "evaluation_mask_rate": 0.15, "evaluation_folds": 1,
        "mask": hidden, "keep": unchanged, "random": replaced,
    }  # fmt: skip
    num_mlm, num_tlm = arm.shares
    known = Corpora.open(corpora).names("train")["pairs"]
    pairs = [pair for pair in PAIRS if pair in known]
    mlm = MaskedLM(
        languages=LANGUAGES, rows=ROWS * num_mlm // GROUP, length=64, mask_rate=0.3, **common
    )
    objectives: dict[str, Objective] = {"mlm": mlm}
    if num_tlm:
        tokens = 512 * num_tlm // GROUP
        objectives["tlm"] = MaskedLM(
            pairs=pairs, tokens=tokens, length=128, mask_rate=arm.masks, **common
        )
    return Run(
        data=str(corpora), folder=str(folder), objectives=objectives, order="together",
        model=ModelConfig(
            preset="rotary-tiny", dim=arm.dim, dropout=0.0, attention_dropout=0.0,
            language_embeddings=arm.language_embeddings,
        ),
        steps=steps, group_size=GROUP, seed=seed,
        optimizer=Optimizer(
            kind="muon", betas=(0.9, 0.98), weight_decay=0.01, max_grad_norm=1.0
        ),
        schedule=Schedule(kind="linear", peak_lr=4e-3, warmup_steps=min(100, steps // 4)),
        precision="auto", average=0.99, report_every=100, evaluate_every=steps,
        save_every=max(1, steps // 3), keep_last=1, tensorboard=False, device="cpu",
    )  # fmt: skip


def found(model: xlm.PretrainedModel, data: Path, most: int) -> dict[str, Any]:
    """Return the accuracy of retrieval, its layer and its number of rows, by held-out text."""
    figures = {}
    for name, (pair, split) in HELD_OUT.items():
        languages = pair.split("-")
        paths = [data / f"parallel/{pair}/{split}.{language}" for language in languages]
        if not paths[0].exists():
            continue
        lines = [path.read_text(encoding="utf-8").split("\n") for path in paths]
        pairs = retrieval.distinct(*lines, most)
        sides = [
            sentence_states(model, own, language)
            for own, language in zip((pairs.first, pairs.second), languages, strict=True)
        ]
        layer, share = retrieval.best_layer(*sides)
        pieces = retrieval.lexical(model.tokenizer, pairs.first[1::2], pairs.second[1::2])
        figures[name] = {
            "accuracy": share.value, "layer": layer, "rows": share.num,
            "tf-idf": pieces["@1"].value,
        }  # fmt: skip
    return figures


def tags(model: str, name: str, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the accuracy of parts of speech by language, after fine-tuning on English."""
    job = Finetune(
        folder=str(arguments.folder / "pos" / f"{name}-{seed}"), seeds=[seed], model=model,
        tasks={"pos": parts_of_speech(arguments.data, arguments.folder / "files")},
        random_weights=name == "random", epochs=1 if arguments.quick else 3,
        evaluate_every=downstream.AT_THE_END, keep=False, **downstream.settings(1e-3),
    )  # fmt: skip
    report = downstream.run({name: job})[name]
    return {stream.split("/")[1]: own["mean"] for stream, own in downstream.means(report).items()}


def measure(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Pretrain an arm and measure it; ``random`` measures first values."""
    arm = ARMS.get(name, Arm("ui"))
    label = name.replace(",", "").replace(" ", "-")
    folder = arguments.folder / label / str(seed)
    steps = 1 if name == "random" else arguments.steps
    run = recipe(arm, corpora_of(arm, arguments), folder, steps, seed)
    if name == "random":  # one update at next to no rate leaves first values
        run = replace(run, schedule=Schedule(kind="constant", peak_lr=1e-12, warmup_steps=0))
    started = time.process_time()
    result = pretrain(run)
    if result.state.step < steps:
        raise SystemExit(f"stopped at update {result.state.step}; the same command resumes")
    seconds = time.process_time() - started
    path = folder / MODEL
    return {
        "retrieval": found(xlm.load(path), arguments.data, 60 if arguments.quick else 2000),
        "tags": tags(str(path), label, seed, arguments),
        "perplexity": {name: own["perplexity"] for name, own in result.figures.items()},
        "seconds": seconds,
    }  # fmt: skip


def row(name: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the line of an arm: means in percent over its seeds."""

    def percent(values: Sequence[float]) -> str:
        mean = mean_of([100 * value for value in values])
        return f"{mean.mean:.1f}" + ("" if mean.interval is None else f" ±{mean.interval:.1f}")

    texts = results[0]["retrieval"]
    return {
        "pretrained with": name,
        **{
            text: percent([own["retrieval"][text]["accuracy"] for own in results])
            for text in texts
        },
        **{
            f"tags {language}": percent([own["tags"][language] for own in results])
            for language in results[0]["tags"]
        },
        "processor s": round(sum(own["seconds"] for own in results) / len(results)),
        "seeds": len(results),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("runs/small/data"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--only", nargs="+", help="arms, or how their names begin")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    if arguments.quick:
        arguments.steps, arguments.data = 2, toy.data(arguments.folder)
        arguments.corpora = toy.corpora(arguments.folder)
    rows: list[dict[str, Any]] = []
    for name in downstream.chosen(arguments.only, ("random", *ARMS)):
        results = []
        for seed in arguments.seeds:
            sys.stderr.write(f"== {name}, seed {seed}\n")
            path = arguments.folder / "figures" / f"{name.replace(' ', '-')}-{seed}.json"
            results.append(kept(path, lambda: measure(name, seed, arguments)))  # noqa: B023
        if not rows:
            texts = results[0]["retrieval"]
            rows.append(
                {"pretrained with": "tf-idf of shared subwords"}
                | {text: f"{100 * own['tf-idf']:.1f}" for text, own in texts.items()}
            )
        rows.append(row(name, results))
    figures = {"rows": rows, "steps": arguments.steps}
    trial = arguments.quick or bool(arguments.only)
    path = downstream.write("transfer", figures, trial=trial, folder=arguments.folder)
    downstream.show("transfer", path)


if __name__ == "__main__":
    main()
