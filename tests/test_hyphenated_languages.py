"""Languages called zh-Hans and pt-BR, and pairs of them, from text to translations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import xlm
from tests.data.fakes import WordTokenizer
from xlm import evaluate, finetune, predict, prepare, pretrain, translate
from xlm.data.corpora import Corpora, write_header
from xlm.digests import sealed
from xlm.errors import ConfigError
from xlm.prepare import Aligned, Prepare, Texts

LANGUAGES = ["en", "pt-BR", "zh-Hans"]
PREPARE = """
folder: data
text:
  train: {en: en.txt, zh-Hans: zh.txt, pt-BR: pt.txt}
  valid: {en: en.txt, zh-Hans: zh.txt, pt-BR: pt.txt}
pairs:
  train: {en-zh-Hans: [en.txt, zh.txt], pt-BR-zh-Hans: [pt.txt, zh.txt]}
  valid: {en-zh-Hans: [en.txt, zh.txt], pt-BR-zh-Hans: [pt.txt, zh.txt]}
max_sentences: {zh-Hans: 50, en-zh-Hans: 40}
vocabulary: {kind: fastbpe, size: 40}
workers: 1
"""
PRETRAIN = """
data: data
folder: run
objectives:
  mlm:
    class_path: MaskedLM
    init_args:
      languages: [en, pt-BR, zh-Hans]
      rows: 4
      length: 12
      sampling: {rule: shares, shares: {en: 1, pt-BR: 1, zh-Hans: 2}}
  tlm:
    class_path: MaskedLM
    init_args: {pairs: [zh-Hans-en, pt-BR-zh-Hans], tokens: 128, length: 32}
  as_original:
    class_path: OriginalMaskedLM
    init_args: {pairs: [en-zh-Hans], rows: 4, length: 32, evaluation: original}
  ae: {class_path: Denoising, init_args: {languages: [zh-Hans, pt-BR], tokens: 128, length: 32}}
  mt:
    class_path: Translation
    init_args: {pairs: [en-zh-Hans, zh-Hans-pt-BR], tokens: 128, length: 32, decode: {extra: 2}}
  bt:
    class_path: BackTranslation
    init_args: {pairs: [zh-Hans-en, en-pt-BR], tokens: 128, length: 32}
model: {dim: 8, num_layers: 1, num_heads: 2, num_decoder_layers: 1, max_positions: 64}
steps: 2
group_size: 2
order: together
schedule: {kind: constant, peak_lr: 1.0e-3}
report_every: 1
evaluate_every: 2
save_every: 2
"""
FINETUNE = """
model: run
folder: tuned
tasks:
  topic:
    class_path: Classification
    init_args:
      files: {train: {zh-Hans: rows.tsv}, valid: {zh-Hans: rows.tsv}, test: {zh-Hant: rows.tsv}}
      stand_in: {zh-Hant: zh-Hans}
      rows: 4
      length: 16
group_size: 2
steps: 2
schedule: {kind: constant, peak_lr: 1.0e-3}
"""
LINES = {
    "en.txt": [f"one two {'three ' * (at % 3)}four" for at in range(60)],
    "zh.txt": [f"yi er {'san ' * (at % 3)}si" for at in range(60)],
    "pt.txt": [f"um dois {'tres ' * (at % 3)}quatro" for at in range(60)],
    "rows.tsv": [f"{at % 2}\t{'yi er' if at % 2 else 'san si'}" for at in range(16)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything in turn: prepared text, a run of every kind of objective, a fine-tuned model."""
    folder = tmp_path_factory.mktemp("hyphens")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, lines in LINES.items():
            Path(name).write_text("".join(f"{line}\n" for line in lines))
        for name, content in (("prepare", PREPARE), ("run", PRETRAIN), ("tune", FINETUNE)):
            Path(f"{name}.yaml").write_text(content)
        prepare.main(["--config", "prepare.yaml"])
        pretrain.main(["--config", "run.yaml"])
        finetune.main(["--config", "tune.yaml"])
    return folder


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_prepared_text(folder: Path) -> None:
    corpora = Corpora.open(folder / "data")
    assert corpora.languages == {name: at for at, name in enumerate(LANGUAGES)}
    names = {"texts": LANGUAGES, "pairs": ["en-zh-Hans", "pt-BR-zh-Hans"]}
    assert corpora.names("train") == corpora.names("valid") == names
    assert len(corpora.text("train", "zh-Hans")) == 50
    assert corpora.pairs("train", "zh-Hans-en").languages == ("zh-Hans", "en")
    assert len(corpora.pairs("train", "en-zh-Hans")) == 40


def test_figures_of_every_stream_and_the_score_of_single_languages(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").open()]
    (valid,) = [line for line in lines if line["event"] == "valid"]
    single = {f"mlm/{name}" for name in LANGUAGES} | {"ae/zh-Hans", "ae/pt-BR"}
    pairs = {"tlm/zh-Hans-en", "tlm/pt-BR-zh-Hans", "as_original/en-zh-Hans"}
    pairs |= {
        "mt/en-zh-Hans",
        "mt/zh-Hans-pt-BR",
        "bt/zh-Hans-en",
    }  # there are no pairs of en-pt-BR
    assert {name for name in valid if "/" in name} == single | pairs
    assert set(valid["streams"]) == single
    assert valid["score"] == pytest.approx(
        sum(valid[name]["perplexity"] for name in single) / len(single)
    )


@pytest.mark.usefixtures("there")
def test_evaluation_and_translation(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main(["run"])
    said = capsys.readouterr().out
    assert "mlm/zh-Hans " in said and "mt/zh-Hans-pt-BR " in said
    Path("lines").write_text("um dois\nquatro\n")
    translate.main(["run", "lines", "--source=pt-BR", "--target=zh-Hans", "--output=translated"])
    model = xlm.load("run")
    assert model.languages == {name: at for at, name in enumerate(LANGUAGES)}
    found = model.translate(["um dois", "quatro"], source="pt-BR", target="zh-Hans")
    assert Path("translated").read_text().splitlines() == found
    with pytest.raises(ConfigError, match=r"the language zh-Hant: .* did you mean zh-Hans for zh-"):
        model.translate(["yi er"], source="zh-Hant", target="en")


@pytest.mark.usefixtures("there")
def test_a_task_is_learnt_and_answered(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(Path("tuned/report.json").read_text())
    assert "zh-Hant" in json.dumps(report)
    predict.main(["tuned/seed-0/model", "lines", "--language=zh-Hans"])
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 2 and set(answers) <= {"0", "1"}


def test_pairs_alone_need_the_names_of_their_languages() -> None:
    pairs = Aligned(train={"en-zh-Hans": ["a", "b"]})
    with pytest.raises(ConfigError, match="pairs: 'en-zh-Hans' is not a pair .* in languages"):
        Prepare(folder="x", pairs=pairs)
    named = Prepare(folder="x", pairs=pairs, languages=["en", "zh-Hans"])
    assert named.known == {"en": 0, "zh-Hans": 1}
    with pytest.raises(ConfigError, match="languages has fr, for which there is neither text nor"):
        Prepare(folder="x", pairs=pairs, languages=["en", "fr", "zh-Hans"])
    by_text = Prepare(folder="x", pairs=pairs, text=Texts(train={"en": "a", "zh-Hans": "b"}))
    assert by_text.known == named.known
    with pytest.raises(
        ConfigError, match="can be read as the pair of en and zh-Hans or as that of en-zh and"
    ):
        Prepare(folder="x", pairs=pairs, languages=["en", "zh-Hans", "en-zh", "Hans"])


def test_names_that_cannot_be_told_apart_are_refused_when_corpora_are_opened(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="en-hi has the same name as the pair of en and hi"):
        write_header(tmp_path, WordTokenizer(), ["en", "hi", "en-hi"])
    write_header(tmp_path, WordTokenizer(), ["en", "hi", "en-x"])
    content = json.loads((tmp_path / "corpora.json").read_text().replace("en-x", "en-hi"))
    (tmp_path / "corpora.json").write_text(json.dumps(sealed(content)))
    with pytest.raises(ConfigError, match="en-hi has the same name as the pair of en and hi"):
        Corpora.open(tmp_path, WordTokenizer())
