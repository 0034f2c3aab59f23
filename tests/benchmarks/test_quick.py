"""Every benchmark script runs: its smallest case, on the corpus that ships."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.equality import fastbpe_equality
from benchmarks.speed import allocator, finetuning_speed, memory, translation_speed
from benchmarks.support import (
    analysis_tables,
    cold_text,
    grammar,
    many_languages_lab,
    many_languages_tasks,
)
from benchmarks.support.growth_tables import growth
from benchmarks.support.language_tables import laboratory, laboratory_tasks
from xlm.analysis.study import read_study
from xlm.text.tokenizers.fastbpe import Segmenter

ROOT = Path(__file__).parents[2]
Run = Callable[..., object]
Output = pytest.CaptureFixture[str]


def printed_rows(text: str) -> list[dict[str, Any]]:
    """Return the dicts that a script printed, one a line."""
    return [ast.literal_eval(line) for line in text.splitlines() if line.startswith("{")]


def read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def test_every_script_is_run_by_a_test() -> None:
    scripts = {
        str(path.relative_to(ROOT / "benchmarks").with_suffix("")).replace("/", ".")
        for path in (ROOT / "benchmarks").rglob("*.py")
        if "def main()" in path.read_text(encoding="utf-8")
    }
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    run = set(re.findall(r'"((?:studies|speed|equality)\.\w+)"', "".join(tests)))
    run |= {f"studies.{name}" for name in re.findall(r'"(monotrans_\w+)", \(', "".join(tests))}
    own = {"demo", "faults", "support.tables"}  # these have tests of their own
    assert scripts - own == run


# Studies.


@pytest.mark.parametrize("words", [[], ["--only", "tlm"]])
def test_what_tlm_takes_from_the_other_sentence(
    run_quick: Run, tmp_path: Path, words: list[str]
) -> None:
    run_quick("studies.tlm_shifted", "--folder", tmp_path, *words)
    if words:
        (row,) = read(tmp_path / "tlm_time.json")["rows"]
        assert row["updates"] == 2 and {"true pair, %", "wrong pair, %"} <= set(row)
        return
    variants = read(tmp_path / "tlm_shifted.json")["variants"]
    assert [len(own["curve"]) for own in variants.values()] == [2, 2, 2]
    assert set(variants["mlm+tlm"]["curve"][0]) == {"step", "true pair", "wrong pair", "alone"}
    assert (tmp_path / "tlm_shifted.png").stat().st_size > 1000


def test_what_analyses_find_where_the_truth_is_known(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.analysis_shifted", "--folder", tmp_path)
    result = read(tmp_path / "analysis_shifted.json")
    assert [row["figure"] for row in result["rows"]] == [
        "centered retrieval @1", "alignment F1", "sentence / (sentence + rest)", "gap in accuracy",
        "word table P@1, CSLS",
    ]  # fmt: skip
    assert len(result["seeds"]["0"]["curve"]) == 2
    assert (tmp_path / "analysis_shifted.png").stat().st_size > 1000


def test_agreement_is_asked_of_causal_and_masked_models(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.grammar", "--folder", tmp_path)
    rows = read(tmp_path / "grammar.json")["rows"]
    assert [row["construction"] for row in rows] == list(grammar.CONSTRUCTIONS)
    assert all(row["coverage"] == "1.00" for row in rows)


def test_small_models_are_analyzed(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.analysis_real", "--folder", tmp_path, "--only", "mlm+tlm")
    result = read(tmp_path / "analysis_real.json")
    found = {(row["model"], row["of"], row["figure"].partition(":")[0]) for row in result["rows"]}
    for model in ("mlm+tlm", "mlm", "mlm+tlm - mlm"):
        assert (model, "en-ne", "retrieval") in found and (model, "hi-ne", "TLM gap") in found
    assert ("mlm+tlm - clm", "en-hi", "mining") in found
    words = {row["of"] for row in result["rows"] if row["figure"].startswith("word")}
    assert words == {"en-ne"}
    assert "anisotropy" in result["reports"]["mlm+tlm, XQuAD"]["made"]
    assert "SCWS" in result["reports"]["mlm+tlm, held-out pairs"]["missing"]
    tables = [analysis_tables.small_models(result), analysis_tables.overlap(result)]
    assert "| mining: best F1 | XQuAD | en-hi |" in tables[0]
    assert "| held-out text | p_token from en, % |" in tables[1]


def test_sentences_of_the_grammar() -> None:
    """Pairs differ in the verb alone; nouns that are kept back never meet in training."""
    singular = {a: a for a, _ in grammar.NOUNS} | {b: a for a, b in grammar.NOUNS}
    number = {
        form: at for forms in (*grammar.NOUNS, *grammar.VERBS) for at, form in enumerate(forms)
    }

    def nouns_of(words: list[str]) -> tuple[str, list[str]]:
        subject, *others = [word for word in words if word in singular]
        return subject, others

    met = set()
    for line in grammar.training_lines(400):
        subject, others = nouns_of(line.split())
        met |= {(singular[subject], singular[other]) for other in others}
    pairs = grammar.minimal_pairs(30)
    assert len(set(pairs)) == len(pairs) == 120
    for pair in pairs:
        right, wrong = pair.right.split(), pair.wrong.split()
        ((one, two),) = [(a, b) for a, b in zip(right, wrong, strict=True) if a != b]
        assert any({one, two} == set(forms) for forms in grammar.VERBS)
        subject, others = nouns_of(right)
        assert number[one] == number[subject]
        assert all(number[other] != number[subject] for other in others)
        assert not others or {(singular[subject], singular[other]) for other in others} - met


def test_what_makes_a_small_model_learn(run_quick: Run, tmp_path: Path) -> None:
    only = ("learned positions (2019)", "rotary-tiny, pre", "transformers'")
    run_quick("studies.learning", "--folder", tmp_path, "--only", *only)
    result = read(tmp_path / "learning.json")
    assert [row["shape"][:11] for row in result["rows"]] == [
        "learned pos", "rotary-tiny", "transformer", "transformer",
    ]  # fmt: skip
    assert all(float(row["nats below unigram"]) < 0 for row in result["rows"])  # of 4 updates


def test_what_brings_english_over_to_other_languages(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.transfer", "--folder", tmp_path, "--only", "MLM", "dictionaries too, 64")
    pieces, *rows = read(tmp_path / "transfer.json")["rows"]
    assert pieces["pretrained with"] == "tf-idf of shared subwords"
    assert [row["pretrained with"] for row in rows] == [
        "MLM", "MLM+TLM", "MLM+TLM, language vectors", "dictionaries too, 64 wide"
    ]  # fmt: skip
    assert all(0 <= float(row["tags hi"]) <= 100 and row["seeds"] == 1 for row in rows)


def test_how_good_the_small_models_are(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.small", "--folder", tmp_path)
    rows = read(tmp_path / "small.json")["rows"]
    assert {row["run"] for row in rows} == {"mlm", "mlm+tlm", "clm"}
    assert all(row["perplexity"] > 0 and row["tokens seen, million"] >= 0 for row in rows)


def test_what_other_languages_give_to_nepali(
    run_quick: Run, tmp_path: Path, capsys: Output
) -> None:
    run_quick("studies.nepali", "--folder", tmp_path)
    result = read(tmp_path / "recorded" / "nepali.json")
    assert result["command"].startswith("python -m benchmarks.studies.nepali --quick")
    assert list(result["shapes"]["rotary"]) == ["ne", "ne+en", "ne+hi", "ne+en+hi", "ne+hi shifted"]
    assert result["finished"] == result["planned"] == 5
    said = capsys.readouterr().out
    assert "| rotary | ne+hi | 1 of 1 |" in said
    assert "- `ne+hi`, rotary positions, small normal first values:" in said


def test_how_the_rows_of_nepali_are_trained_best(
    run_quick: Run, tmp_path: Path, capsys: Output
) -> None:
    run_quick("studies.nepali_search", "--folder", tmp_path, "--only", "rotary-ne-")
    rows = read(tmp_path / "nepali_search.json")["rows"]
    assert {row["row"] for row in rows} == {"ne"}
    nats = [row["validation nats"] for row in rows]
    assert len(nats) > 1 and nats == sorted(nats)
    assert "| validation nats |" in capsys.readouterr().out


def test_starts_are_compared_on_real_text(run_quick: Run, tmp_path: Path, capsys: Output) -> None:
    run_quick("studies.finetuning_real", "--folder", tmp_path, "--only", "ner/random")
    starts = read(tmp_path / "finetuning_real.json")["tasks"]["ner"]["starts"]
    assert list(starts) == ["random"] and len(starts["random"]) == 3
    assert "ner, hi" in capsys.readouterr().out


def test_starts_are_compared_on_shifted_ids(run_quick: Run, tmp_path: Path, capsys: Output) -> None:
    jobs = ("tagging-random", "tagging-mlm")
    run_quick("studies.finetuning_shifted", "--folder", tmp_path, "--only", *jobs)
    result = read(tmp_path / "finetuning_shifted.json")
    assert result["seeds"] == 2
    assert "tagging, xx" in capsys.readouterr().out


def test_the_guard_is_sabotaged(run_quick: Run, tmp_path: Path, capsys: Output) -> None:
    run_quick("studies.guard", "--folder", tmp_path, "--only", "0/sound", "0/rows")
    result = read(tmp_path / "guard.json")
    assert [row["kind"] for row in result["tables"]] == ["sound", "rows permuted"]
    assert result["tables"][1]["fired"] and result["thresholds"]["least_gain"] > 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["expected"] for row in rows] == ["no alarm", "not learnt"]


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("monotrans_lab", ("rotary, adapters", "two of v")),
        ("monotrans_search", ("learned positions, rows",)),
        ("monotrans_starts", ("random",)),
        pytest.param(
            "monotrans_real", ("en, table of hi", "en, all trained on to ne", "task topics"),
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_modules_are_studied(run_quick: Run, tmp_path: Path, name: str, only: list[str]) -> None:
    run_quick(f"studies.{name}", "--folder", tmp_path, "--only", *only)
    found = read(tmp_path / f"{name}.json")
    if name == "monotrans_lab":
        assert {len(own) for own in found["tables"].values()} == {1}
        assert "entailment, noise" in found["tables"]["rotary, adapters, reversed"][0]
        assert len(laboratory(found).splitlines()) == len(laboratory_tasks(found).splitlines())
    assert len(found.get("rows", found.get("tables"))) == len(only)
    finished = sorted((tmp_path / "figures").iterdir())
    if name == "monotrans_starts":
        before = [path.stat().st_mtime_ns for path in finished]
        run_quick(f"studies.{name}", "--folder", tmp_path, "--only", *only)  # finished already
        assert [path.stat().st_mtime_ns for path in finished] == before


@pytest.mark.parametrize(
    ("name", "only", "lists"),
    [
        ("studies.language_token", ["target, own", "decoder"], "token"),
        ("studies.continued", ["o2m"], ""),
        ("studies.translation_encoders", ["target-apart, names copied, 2"], ""),
    ],
)
def test_translators_are_studied(
    run_quick: Run, tmp_path: Path, name: str, only: list[str], lists: str, capsys: Output
) -> None:
    run_quick(name, "--folder", tmp_path, "--only", *only)
    result = read(tmp_path / f"{name.removeprefix('studies.')}.json")
    arms = result["arms"]
    assert all(0 <= own["tags, x"]["mean"] <= 1 and own["tags, en"] for own in arms.values())
    assert result["size"]["updates"] == 2 and 0 < result["commonest"]["tags"] < 1
    assert "One seed: no order is claimed." in capsys.readouterr().out
    models = read_study(tmp_path / lists)
    assert all((model.source / "config.json").exists() for model in models)
    children = {model.name: model.parent for model in models if model.parent}
    assert set(children) == ({"o2m, seed 0"} if name == "studies.continued" else set())
    if children:
        run_quick("studies.continued_analysis", "--folder", tmp_path)
        found = read(tmp_path / "continued_analysis.json")
        ((row,), (mean,)) = (found[name] for name in ("models", "rows"))
        assert row["child"] == "o2m, seed 0" and 0 <= abs(row["Δ‖σ‖"]) <= row["d"] <= row["‖ΔW‖"]
        assert 0 < row["sentence"] < 1 and row["CKA, layer 0"] <= 1
        assert mean["child"] == "o2m" and mean["d"] == f"{row['d']:.2f}"


def test_translators_are_studied_on_real_text(
    run_quick: Run, tmp_path: Path, capsys: Output
) -> None:
    run_quick("studies.translation_encoders_real", "--folder", tmp_path, "--only", "target")
    result = read(tmp_path / "translation_encoders_real.json")
    figures = result["arms"]["target-apart"]
    assert set(figures) == set(result["commonest"]) and "ner, ne" in figures
    assert all(0 <= own["mean"] <= 1 for own in figures.values())
    assert {row["text"] for row in result["rows"]} == {
        "mt/en-hi", "mt/hi-en", "mt/en-ne", "mt/ne-en"
    }  # fmt: skip
    assert all(row["chrF of the source"] > 0 < row["perplexity"] for row in result["rows"])
    (model,) = read_study(tmp_path)
    assert (model.source / "config.json").exists()
    run_quick("studies.zero_shot_real", "--folder", tmp_path)
    rows = read(tmp_path / "zero_shot_real.json")["rows"]
    assert [row["system"] for row in rows[:5]] == [
        "copied", "direct, zero-shot", "by way of English", "supervised", "reference"
    ]  # fmt: skip
    assert [rows[at]["copied, %"] for at in (0, 5)] == ["100", "100"]
    assert rows[0]["in the target language, %"] == "0"  # Hindi is recognized beside Nepali
    assert rows[4]["in the target language, %"] == "100"
    assert "One seed: no order is claimed." in capsys.readouterr().out


def test_temperatures_by_the_size_of_a_pair(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.temperature", "--folder", tmp_path, "--temperatures", 100)
    rows = read(tmp_path / "temperature.json")["rows"]
    assert [row["pairs"] for row in rows] == [40, 20, 8, 2]
    assert float(rows[-1]["T 100: due, %"]) == pytest.approx(25, abs=0.5)  # all but uniform
    assert sum(float(row["drawn, %, T 100"]) for row in rows) == pytest.approx(100, abs=0.3)


def test_two_readings_of_a_rate(run_quick: Run, tmp_path: Path) -> None:
    run_quick("studies.adafactor_readings", "--folder", tmp_path, "--only", "scaled")
    rows = read(tmp_path / "adafactor_readings.json")["rows"]
    assert [row["peak"] for row in rows] == ["0.015", "0.0028"]
    assert all(row["nats, en-x01"] > 0 < row["nats, x01-en"] for row in rows)


def test_the_languages_of_the_laboratory(tmp_path: Path) -> None:
    """Every word has one twin, tags go with their words, and no test name is met in training."""
    lab = many_languages_lab.Lab(tmp_path, many_languages_lab.QUICK)
    assert lab.say("Anna hides the old drum".split(), "x01").split()[0] == "Anna"
    assert many_languages_lab.order_of(5, "x02") == [1, 0, 3, 2, 4]
    assert many_languages_lab.order_of(5, "x03") == many_languages_lab.order_of(5, "en")
    many_languages_tasks.make_tasks(lab)

    def rows(name: str) -> list[tuple[str, str]]:
        lines = (lab.tasks / name).read_text(encoding="utf-8").splitlines()
        return [(word, label) for word, _, label in (line.partition("\t") for line in lines)]

    english, other = rows("tags.test.en"), rows("tags.test.x02")
    assert english != other
    assert sorted((lab.word(word, "x02"), tag) for word, tag in english) == sorted(other)
    met, kept = (
        {word for word, label in rows(f"names.{split}.en") if label.startswith("B")}
        for split in ("train", "test")
    )
    assert met and kept and not met & kept
    assert lab.word("drum", "x01") != lab.word("drum", "x02") != "drum"
    assert (
        many_languages_lab.in_alphabet(["Anna " + lab.word("drum", "x01") + " drum"], "x01") == 0.5
    )


def test_frozen_layers_are_compared(run_quick: Run, tmp_path: Path, capsys: Output) -> None:
    run_quick("studies.freezing", "--folder", tmp_path, "--only", "pos/full", "pos/layer 1")
    tasks = read(tmp_path / "freezing.json")["tasks"]
    assert list(tasks["pos"]["starts"]) == ["full", "layer 1 frozen"]
    assert (tmp_path / "freezing.png").stat().st_size > 1000
    assert "pos, hi" in capsys.readouterr().out


def test_starts_of_an_unsupervised_translator_are_compared(
    run_quick: Run, tmp_path: Path, capsys: Output
) -> None:
    words = ("--folder", tmp_path, "--only", "mlm-none")
    run_quick("studies.unsupervised_shifted", *words)
    (cell,) = read(tmp_path / "unsupervised_shifted.json")["cells"].values()
    assert len(cell["figures"]["en-xx"]["bleu"]["values"]) == 2  # seeds
    assert "| encoder" in capsys.readouterr().out


# Speed.


def test_how_fast_analyses_are(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.analysis")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["figure"] for row in rows] == [
        "neighbors", "states", "memory of states", "states, MiniLM", "CKA"
    ]  # fmt: skip
    assert rows[2]["growth"] == pytest.approx(rows[2]["MiB"] / rows[2]["MiB of a tenth"] - 1)
    del rows[2]
    assert all(row.get("seconds", row.get("tokens/s", "peer" in row)) > 0 for row in rows)


def test_what_analyses_cost(run_quick: Run, capsys: Output, debug_data: Path) -> None:
    recipe = ROOT / "recipes/debug/mlm+tlm.yaml"
    run_quick("speed.reports", "--corpora", debug_data, "--recipe", recipe)
    watch, report = printed_rows(capsys.readouterr().out)
    assert watch["figure"] == "watch of en-ne" and 0 < watch["share of a run, %"] < 100
    assert report["figure"] == "report of mlm+tlm" and report["s"] > 0


def test_memory_kept_and_given_back(
    run_quick: Run, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(allocator, "in_a_process", allocator.measured)
    run_quick("speed.allocator")
    (row,) = printed_rows(capsys.readouterr().out)
    assert row["objective"] == "clm" and row["seconds_ratio"] > 0 and row["resident_mib_kept"] > 10


def test_an_epoch_against_the_trainer_of_transformers(
    run_quick: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def theirs(rows: list[dict[str, Any]], *others: object) -> finetuning_speed.Timed:
        assert set(rows[0]) == {"input_ids", "labels"}
        return finetuning_speed.Timed(2.0, 1.0, 0.5)

    try:
        import accelerate  # type: ignore[import-not-found] # noqa: F401
    except ImportError:  # which Trainer needs, and nothing else here does
        monkeypatch.setattr(finetuning_speed, "theirs", theirs)
    run_quick("speed.finetuning_speed", "--folder", tmp_path, "--limit", 40)
    result = read(tmp_path / "finetuning_speed.json")
    assert result["examples"] == 40 and len(result["rows"]) == 3
    assert all(row["real_tokens_per_second"] > 0 for row in result["rows"])


def test_the_loader(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.data")
    rows = printed_rows(capsys.readouterr().out)
    assert len(rows) == 4
    assert all(row["million tokens/s"] > 0.001 for row in rows)


def test_how_preparing_scales(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.preparing", "--workers", 1)
    (row,) = printed_rows(capsys.readouterr().out)
    assert row["of the speed of one for each"] == 1 and row["MB/s"] > 0


def test_bytes_read_of_text_in_no_cache(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.data", "--cold", 0.1)
    rows = printed_rows(capsys.readouterr().out)
    assert [row["micro-batches"] for row in rows] == list(cold_text.OBJECTIVES)
    assert all(row["ids needed, KiB"] > 1 for row in rows)


def test_how_long_a_save_stops_the_loop(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.saving")
    waited, behind = printed_rows(capsys.readouterr().out)
    assert (waited["save"], behind["save"]) == ("waited for", "in the background")
    assert behind["stall_ms"] > 0 and behind["copy_ms"] > 0


def test_memory_of_preparing(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.memory")
    *runs, last = printed_rows(capsys.readouterr().out)
    assert [run["what"] for run in runs] == list(last["rise"])
    assert all(run["peak_anonymous_mib"] > 10 for run in runs)
    assert memory.anonymous_kib(0) > 0


def test_many_directions(run_quick: Run, capsys: Output, debug_data: Path) -> None:
    run_quick("speed.many_directions", "--corpora", debug_data)
    opened, own, shared, parts, tlm = printed_rows(capsys.readouterr().out)
    assert (opened["directions"], opened["files open"]) == (12, 0)
    assert opened["train, s"] > 0 and opened["probe, s"] > 0
    assert own["en-ne, %"] == shared["en-ne, %"] > parts["en-ne, %"] > 0  # one pair shares nothing
    assert tlm["what"] == "TLM" and 0 < tlm["en-ne, %"] < 30


def test_directions_are_mixed(
    run_quick: Run, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(translation_speed, "SHAPE", dict(translation_speed.SHAPE))
    run_quick("speed.mixed_directions")
    rows = printed_rows(capsys.readouterr().out)
    assert [row["the peer's batches"] for row in rows] == ["by length", "at random", "the same"]
    assert all(row["xlm_tokens_per_second"] > 0 and row["ratio"] > 0 for row in rows)


def test_text_verbs_import_no_torch(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.imports", "--against", ROOT)
    (row,) = printed_rows(capsys.readouterr().out)
    assert (row["module"], row["torch"]) == ("xlm.bleu", "no")
    assert row["s"] > 0 and row["ratio"] > 0


def test_updates_against_transformers(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.speed")
    (row,) = printed_rows(capsys.readouterr().out)
    assert row["shape"] == "quick" and row["ratio"] > 0


def test_pretraining_against_transformers(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.pretrain", "--objectives", "mlm", "tlm")
    *steps, whole = printed_rows(capsys.readouterr().out)
    assert [row["shape"] for row in steps] == ["quick, 2019", "quick, modern"] * 2
    assert all(row["ms"] > 0 and row["share of the ceiling, %"] > 0 for row in steps)
    assert "times as fast as XLM" in steps[0] and "times as fast as ModernBERT" in steps[1]
    assert whole["ms"] > 0 and whole["ms of the bare step"] > 0


def test_how_time_and_memory_grow(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.growth")
    rows = printed_rows(capsys.readouterr().out)
    assert {row["axis"] for row in rows} == {"dim", "languages", "tokens"}
    assert len(rows) == 4 + 4 + 8 and all(row["ms"] >= 0 for row in rows)
    table = growth({"rows": rows}).splitlines()
    assert table[2].startswith("| dim | mlm | 16 | 32 | ")
    assert [line.split(" | ")[6] for line in growth({"rows": POWERS}).splitlines()[2:4]] == [
        "2.00", "0.00",
    ]  # fmt: skip


POWERS = [
    {"axis": "length", "of": of, "value": value, "ms": ms}
    for of, times in (("mlm", (1.0, 4.0)), ("clm", (3.0, 3.0)))
    for value, ms in zip((10, 20), times, strict=True)
]


def test_an_update_by_adafactor(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.adafactor")
    rows = printed_rows(capsys.readouterr().out)
    assert [row["state of AdamW, %"] for row in rows] == [pytest.approx(200, abs=0.1)] * 2
    assert all(row["ms"] > 0 and row["times as long"] > 0 for row in rows)


def test_updates_of_the_newer_shapes(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.shapes")
    rows = printed_rows(capsys.readouterr().out)
    assert [row["goal"] for row in rows] == ["0.9", "1.5", ""]
    assert all(row["ms"] > 0 and row["times as fast"] > 0 for row in rows)


def test_an_update_of_a_table_alone(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.language_modules")
    rows = printed_rows(capsys.readouterr().out)
    assert [row["goal"] for row in rows] == ["", "0.75", "1.2"]
    assert all(row["moments, over trained"] == 2 and row["ms"] > 0 for row in rows)
    assert rows[0]["trained numbers"] > rows[1]["trained numbers"]


def test_one_table_beside_the_version_before(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.one_table")  # beside itself
    (row,) = printed_rows(capsys.readouterr().out)
    assert row["equal weights"] == row["equal losses"] == "yes"
    assert row["ms"] > 0 and row["before, ms"] > 0 and row["speed, over that before"] > 0


@pytest.mark.parametrize("verb", ["score", pytest.param("predict", marks=pytest.mark.slow)])
def test_lines_through_a_pipe_stay_in_place(run_quick: Run, capsys: Output, verb: str) -> None:
    run_quick("speed.pipes", "--verbs", verb)
    first, last = printed_rows(capsys.readouterr().out)
    assert first["verb"] == verb and first["lines out"] == first["in their places"] == 600
    assert last["killed and gone on"] == "same bytes" and last["head"] == "quiet"
    assert last["different answers"] > {"score": 15, "predict": 5}[verb]


def test_what_a_model_is_asked_against_transformers(run_quick: Run, capsys: Output) -> None:
    run_quick("speed.using")
    *rows, search = printed_rows(capsys.readouterr().out)
    assert [row["verb"] for row in rows] == [
        "fill", "generate", "score, masked", "score, causal", "embed",
    ]  # fmt: skip
    assert all(row["transformers, batches of 8"] > 0 for row in rows)
    assert search["over the product"] > 0


def test_translators_against_transformers(
    run_quick: Run, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(translation_speed, "SHAPE", dict(translation_speed.SHAPE))
    run_quick("speed.translation_speed", "--threads", 1)
    rows = printed_rows(capsys.readouterr().out)
    assert len(rows) == 4 and all(row["ratio"] > 0 for row in rows)


# Equality.


class FakeFastBpe:
    """The interface of the compiled package over our own segmentation."""

    def __init__(self, codes: str, vocabulary: str):
        read_bytes = [Path(path).read_bytes() if path else None for path in (codes, vocabulary)]
        self.segment = Segmenter(read_bytes[0] or b"", read_bytes[1])

    def apply(self, words: list[str]) -> list[str]:
        # One word in a hundred comes back otherwise: such words must be counted.
        return [
            " ".join(self.segment(word)) if at % 100 else "otherwise"
            for at, word in enumerate(words)
        ]


def test_words_are_compared_with_those_of_fastbpe(
    run_quick: Run, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setitem(sys.modules, "fastBPE", SimpleNamespace(fastBPE=FakeFastBpe))  # type: ignore[arg-type]
    monkeypatch.setattr(fastbpe_equality, "version", lambda name: "none")
    run_quick("equality.fastbpe_equality", "--languages", "en")
    *runs, closing = capsys.readouterr().out.splitlines()
    for line in (line for line in runs if line.startswith("{")):
        run = json.loads(line)
        assert run["words"] - run["identical"] == -(-run["words"] // 100) > 0
    assert json.loads(closing)["all_identical"] is False


@pytest.mark.fastbpe
def test_words_are_segmented_as_fastbpe_does(run_quick: Run, capsys: Output) -> None:
    run_quick("equality.fastbpe_equality")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["all_identical"]


def test_figures_are_compared_with_the_original(run_quick: Run, capsys: Output) -> None:
    assert run_quick("equality.golden", "--golden", ROOT / "tests/golden") == 0
    assert "0 do not" in capsys.readouterr().out


def test_models_go_through_every_format(run_quick: Run, capsys: Output) -> None:
    assert run_quick("equality.interchange") == 0
    rows = printed_rows(capsys.readouterr().out)
    assert len(rows) == 20 and all(row["identical"] == row["lines"] for row in rows)


def test_lines_are_compared_with_those_of_transformers(run_quick: Run, capsys: Output) -> None:
    run_quick("equality.tokenization")
    rows = printed_rows(capsys.readouterr().out)
    assert len(rows) == 3 * (4 + 2 + 2)
    own = [row for row in rows if row["tokenizer"].endswith("read again by xlm")]
    assert all(row["identical"] == row["lines"] == 10 for row in own) and len(own) == 9
