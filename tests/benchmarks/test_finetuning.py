"""What the measurements of fine-tuning rest on: labels, shifted ids, maps of tags, tables."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import finetuning_shifted, parsing
from benchmarks.support import downstream, entailment, shifted, tables, toy
from xlm.errors import ConfigError
from xlm.tasks.readers.tagged import ParsedSentence, read_tagged
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer
from xlm.text.tokenizers.loading import load_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that finetuning_shifted.py makes before it trains."""
    folder = tmp_path_factory.mktemp("shifted")
    finetuning_shifted.files(folder, toy.data(folder), 40, 60, 200)
    return folder


# Entailment.

SENTENCES = {
    "all {} are {}": lambda noun, quality: noun <= quality,
    "no {} are {}": lambda noun, quality: not noun & quality,
    "some {} are {}": lambda noun, quality: bool(noun & quality),
    "some {} are not {}": lambda noun, quality: bool(noun - quality),
    "not all {} are {}": lambda noun, quality: not noun <= quality,
}
SETS = [frozenset(s) for n in range(4) for s in itertools.combinations(range(3), n)]


def looked_up(first: str, second: str, relation: str) -> str:
    """The label by every choice of three sets among three things, nouns not empty."""
    found = set()
    for one, other, quality in itertools.product(SETS, repeat=3):
        related = {"same": one == other, "above": one <= other, "below": other <= one}[relation]
        if one and other and related and SENTENCES[first](one, quality):
            found.add(SENTENCES[second](other, quality))
    return "neutral" if len(found) == 2 else "entailment" if True in found else "contradiction"


def test_labels_are_those_of_every_world_of_three_things() -> None:
    assert tuple(SENTENCES) == entailment.FORMS
    nouns = {"same": ("dogs", "dogs"), "above": ("dogs", "animals"), "below": ("animals", "dogs")}
    seen = Counter()
    for (one, first), (two, second) in itertools.product(enumerate(SENTENCES), repeat=2):
        for relation, (noun, other) in nouns.items():
            premise = entailment.Statement(one, noun, "old")
            label = entailment.label(premise, entailment.Statement(two, other, "old"))
            assert label == looked_up(first, second, relation), (first, second, relation)
            seen[label] += 1
            assert entailment.label(premise, entailment.Statement(two, other, "wet")) == "neutral"
        apart = entailment.Statement(two, "hats", "old")
        assert entailment.label(entailment.Statement(one, "dogs", "old"), apart) == "neutral"
    assert min(seen.values()) >= 10


def test_pairs_are_balanced_different_and_the_same_every_time() -> None:
    pairs = entailment.pairs(300, seed=3)
    assert Counter(label for label, *_ in pairs) == dict.fromkeys(entailment.LABELS, 100)
    assert len({both for _, *both in map(tuple, pairs) for both in [tuple(both)]}) == 300
    assert pairs == entailment.pairs(300, seed=3) != entailment.pairs(300, seed=4)
    members = [noun for own in entailment.KINDS.values() for noun in own.split()]
    assert len(set(members)) == len(members)  # or a noun would have two kinds


# Shifted ids.


def test_a_respelled_text_has_the_ids_of_the_text_plus_one() -> None:
    lines = toy.text("train", "en")
    tokenizer = shifted.with_twins(learn_fastbpe_tokenizer(lines, 150))
    for line in [*toy.text("valid", "en"), "a🙂b unseenword", "x@y 3.5%"]:
        first = np.array(tokenizer.encode(line))
        second = np.array(tokenizer.encode(shifted.respelled(line)))
        special = np.isin(first, list(tokenizer.special_ids))
        assert second.tolist() == np.where(special, first, first + 1).tolist()
    assert set(first[~special] % 2) != set(second[~special] % 2)
    assert shifted.check_twins(tokenizer, lines) > 1000
    with pytest.raises(ConfigError, match="not shifted"):
        shifted.check_twins(learn_fastbpe_tokenizer(lines, 150), lines)


@pytest.mark.parametrize("name", ["entailment", "tagging"])
def test_the_tasks_of_the_shifted_language_are_those_of_english_plus_one(
    made: Path, name: str
) -> None:
    from xlm.data.corpora import Corpora

    task = finetuning_shifted.task(made, name, 0).resolved()
    corpora = Corpora(load_tokenizer(made / "tokenizer"), ["en", "xx"])
    english, shifted = task.streams(name, corpora, seed=0, split="test")
    assert (english.name, shifted.name) == ("en", "xx") and len(english.items) >= 60
    for one, other in zip(english.items, shifted.items, strict=True):
        special = np.isin(one.wrapped.tokens, list(corpora.tokenizer.special_ids))
        moved = np.where(special, one.wrapped.tokens, one.wrapped.tokens + 1)
        assert other.wrapped.tokens.tolist() == moved.tolist() and other.answer == one.answer
    assert english.language_ids[0] != shifted.language_ids[0]


def test_pretraining_reads_no_sentence_that_is_tested(made: Path) -> None:
    text = set((made / "text/train.en").read_text(encoding="utf-8").splitlines())
    tested = read_tagged(str(made / "tasks/tagging.test.en"), "tsv")
    assert text and not text & {" ".join(sentence.words) for sentence in tested}
    both = [(made / f"text/train.{spoken}").read_text(encoding="utf-8") for spoken in ("en", "xx")]
    assert shifted.respelled(both[0].replace("\n", " ")) == both[1].replace("\n", " ")


# Parts of speech of version 1.


def test_tags_of_version_1_become_those_of_version_2(tmp_path: Path) -> None:
    rows = [("VERB", "root"), ("VERB", "cop"), ("CONJ", "cc"), ("AUX", "aux"), ("NOUN", "conj")]
    lines = [f"{n}\tw\t_\t{tag}\t_\t_\t0\t{label}\t_\t_" for n, (tag, label) in enumerate(rows, 1)]
    source = tmp_path / "bank" / "test.conllu"
    source.parent.mkdir()
    source.write_text("# CONJ\tVERB\n" + "\n".join(lines) + "\n\n", encoding="utf-8")
    target = downstream.version_2(source, tmp_path / "made")
    converted = target.read_text(encoding="utf-8")
    tags = [line.split("\t")[3] for line in converted.splitlines() if line.count("\t") == 9]
    assert tags == ["VERB", "AUX", "CCONJ", "AUX", "NOUN"]
    assert converted.startswith("# CONJ\tVERB\n") and converted.count("\n") == 7
    assert converted.replace("CCONJ", "CONJ").replace(
        "AUX\t_\t_\t0\tcop", "VERB\t_\t_\t0\tcop"
    ) == (source.read_text(encoding="utf-8"))


def test_hindi_has_no_tag_that_english_lacks(shared: Path, tmp_path: Path) -> None:
    banks = shared / "data/ud"
    if not banks.is_dir():
        pytest.skip("needs the treebanks in 'shared/data'")
    before = banks / "hi_hdtb_v1.2/test.conllu"
    hindi = downstream.version_2(before, tmp_path)

    def tags(path: Path) -> Counter[str]:
        return Counter(tag for tree in read_tagged(str(path), "conllu") for tag in tree.tags)

    was, now = tags(before), tags(hindi)
    assert was["CONJ"] == now["CCONJ"] > 0 and "CONJ" not in now
    assert now["AUX"] > was["AUX"] and sum(now.values()) == sum(was.values())
    assert set(now) <= set(tags(banks / "en_ewt/dev.conllu"))


# Figures and tables.


def test_differences_are_paired_and_intervals_apart() -> None:
    found = downstream.paired([0.9, 0.7, 0.8], [0.5, 0.4, 0.3])
    assert found["mean"] == pytest.approx(0.4)
    # t(2, 97.5 %) = 4.303, standard deviation 0.1, three seeds
    assert found["interval"] == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    low, high = {"mean": 0.5, "interval": 0.1}, {"mean": 0.7, "interval": 0.05}
    assert downstream.apart(high, low) and not downstream.apart(low, high)
    assert not downstream.apart({**high, "interval": 0.11}, low)


def test_jobs_are_chosen_by_how_they_begin() -> None:
    names = ["pos/mlm", "pos/random", "ner/mlm"]
    assert downstream.chosen(["pos"], names) == names[:2]
    assert downstream.chosen(None, names) == names
    with pytest.raises(ConfigError, match="qa.*pos/mlm"):
        downstream.chosen(["qa"], names)


def test_the_baseline_of_parsing_by_hand() -> None:
    def tree(words: str, heads: list[int], labels: str) -> ParsedSentence:
        upos = tuple("PUNCT" if word == "." else "X" for word in words.split())
        return ParsedSentence(
            tuple(words.split()), upos, tuple(heads), tuple(labels.split()), "", ""
        )

    train = [tree("a b c .", [2, 0, 2, 3], "det root obj punct")] * 2
    test = [tree("b a c .", [0, 1, 1, 3], "root det obj punct")]
    found = parsing.head_left(train, test)
    # heads 0 1 2 3: right but for the third word; relations root det obj punct, all right
    assert found == {"las": 2 / 3, "uas": 2 / 3, "las_all": 3 / 4, "uas_all": 3 / 4}


def test_tables_of_fine_tuning() -> None:
    starts = {
        "random": {"pos/hi": {"mean": 0.3, "interval": 0.0123}},
        "mlm": {"pos/hi": {"mean": 0.456, "interval": None}},
    }
    above = {"random": {"mean": 0.1, "interval": 0.02, "apart": True}}
    result = {
        "tasks": {"pos": {"starts": starts, "mlm+tlm above": above}},
        "collapsed": ["pos/random, seed 0: pos/en gives 99% of its rows one answer"],
    }
    made = tables.finetuning_shifted(result)
    assert "| % | random | mlm |" in made
    assert "| pos, hi (accuracy) | 30.0 ±1.2 | 45.6 |" in made
    assert "10.0 ±2.0 points above random, seed by seed; their intervals are apart." in made
    assert "collapsed to one answer: pos/random, seed 0" in tables.by_start(result)


def test_a_measurement_runs_and_resumes(
    run_quick: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("studies.parsing", "--folder", tmp_path, "--only", "random")
    run_quick(*words)
    result = json.loads((tmp_path / "parsing.json").read_text(encoding="utf-8"))
    assert [row[""] for row in result["rows"]] == ["head to the left", "random"]
    assert result["rows"][0]["UAS"] == 100.0 and 0 < result["rows"][1]["UAS"] < 60
    log = (tmp_path / "random/seed-0/metrics.jsonl").read_bytes()
    run_quick(*words)  # finished runs are not run again
    assert (tmp_path / "random/seed-0/metrics.jsonl").read_bytes() == log
    assert "head to the left" in capsys.readouterr().out
