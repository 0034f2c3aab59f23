"""The report of a tiny model: every analysis, its page, and what stands in its way."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.analysis.models import lines, tiny
from tests.analysis.reports import NUM, SMALL, everything, fill, settings, write
from xlm.analysis.definitions import DEFINITIONS
from xlm.analysis.intervals import FEWEST_RESAMPLED
from xlm.analysis.nulls import untrained
from xlm.analysis.page import summary
from xlm.analysis.sections import SECTIONS
from xlm.analyze import Analyze, analyze, main
from xlm.errors import ConfigError, DataError
from xlm.model.language_modules import Further
from xlm.model.language_tables import roles_of

pytest.importorskip("sklearn", reason="probes need scikit-learn, of the extra analysis")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("analyze"))


@pytest.fixture(scope="module")
def report(root: Path) -> dict[str, Any]:
    analyze(settings(root, root / "report", **everything(root)))
    result: dict[str, Any] = json.loads((root / "report/analysis.json").read_text("utf-8"))
    return result


def test_every_analysis_is_in_the_report(report: dict[str, Any]) -> None:
    assert list(report["analyses"]) == list(SECTIONS) == list(DEFINITIONS)
    assert report["missing"] == []
    for name, own in report["analyses"].items():
        assert own["figures"], name
        shown = {row["measure"] for row in own["figures"]} & set(DEFINITIONS[name].shown)
        assert shown, f"{name}: no figure that the page shows first"


def test_figures_are_numbers_or_have_a_reason(report: dict[str, Any]) -> None:
    for name, own in report["analyses"].items():
        for row in own["figures"]:
            assert (row["value"] is None) == ("reason" in row), (name, row)
            assert all(value == value for value in row.values() if isinstance(value, float))


def test_figures_stand_beside_random_weights(report: dict[str, Any]) -> None:
    without = {"mining", "overlap", "transfer"}  # of vocabularies and of files
    for name in set(SECTIONS) - without:
        having = [row for row in report["analyses"][name]["figures"] if "untrained" in row["nulls"]]
        assert having, name


def test_the_page_is_one_file_without_requests(root: Path, report: dict[str, Any]) -> None:
    text = (root / "report/report.html").read_text("utf-8")
    assert len(text) < 5_000_000
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Reader().feed(text)
    assert {tag for tag, _ in found} & {"script", "link", "img", "iframe"} == set()
    links = [a.get("href") or "" for _, a in found] + [a.get("src") or "" for _, a in found]
    assert all(link.startswith("#") for link in links if link)
    assert "url(http" not in text
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 10
    for picture in pictures:
        ElementTree.fromstring(picture)
    names = {path.name for path in (root / "report").glob("*.png")}
    assert {"retrieval-1.png", "spectra-2.png", "separability-2.png"} <= names
    assert len(names) == len(pictures)
    assert html.escape(lines("en", 1)[0]) in text  # sentences stand in tables


def test_text_is_escaped(root: Path, tmp_path: Path) -> None:
    text = [f"<b>{at}</b> {line}" for at, line in enumerate(lines("en", 6))]
    write(tmp_path / "en.txt", text)
    write(tmp_path / "hi.txt", lines("hi", 6))
    pairs = {"en-hi": [str(tmp_path / "en.txt"), str(tmp_path / "hi.txt")]}
    config = settings(
        root, tmp_path / "out", texts={}, parallel={}, pairs=pairs, only=["retrieval"],
        untrained=False,
    )  # fmt: skip
    report = analyze(config)
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "&lt;b&gt;0&lt;/b&gt;" in page and "<b>0</b>" not in page
    rows = report["analyses"]["retrieval"]["figures"]
    assert all("untrained" not in row["nulls"] for row in rows)
    assert "random weights were not measured (untrained is false)" in summary(report)[-1]


def test_the_tsv_has_every_figure(root: Path, report: dict[str, Any]) -> None:
    head, *rows = (root / "report/figures.tsv").read_text("utf-8").splitlines()
    assert head.startswith("analysis\tmodel\tof\tmeasure\tlayer\tvalue\tlow\thigh\tnum\treason\t")
    assert len(rows) == sum(len(own["figures"]) for own in report["analyses"].values())


def test_a_model_with_itself_differs_in_nothing(report: dict[str, Any]) -> None:
    def values(name: str, measure: str) -> set[float]:
        rows = report["analyses"][name]["figures"]
        return {row["value"] for row in rows if row["measure"] == measure}

    assert values("spectra", "d") == {0.0}  # dropout is no weight
    assert values("retrieval", "best layer, centered @1, difference") == {0.0}
    assert all(value == pytest.approx(1) for value in values("CKA", "debiased, same text"))


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("minimal pairs", "accuracy"),
        ("probes", "accuracy"),
        ("language probe", "raw accuracy"),
        ("language probe", "centered accuracy"),
        ("WiC", "words, accuracy"),
        ("word translation", "table, raw nearest P@1"),
        ("word translation", "centered CSLS P@1"),
        ("word alignment", "argmax F1"),
        ("word alignment", "itermax F1, words"),
        ("TLM gap", "gain"),
        ("TLM gap", "accuracy, gap"),
    ],
)
def test_equal_models_differ_by_0_in_every_resample(
    report: dict[str, Any], name: str, measure: str
) -> None:
    rows = [
        row for row in report["analyses"][name]["figures"]
        if row["measure"] == f"{measure}, difference"
    ]  # fmt: skip
    assert rows
    for row in rows:
        assert row["model"] == "model - other" and row["num"] > 0
        ends = (0.0, 0.0) if row["num"] >= FEWEST_RESAMPLED else (None, None)
        assert row["value"] == 0.0 and (row.get("low"), row.get("high")) == ends


def test_one_language_under_two_names_lies_on_itself(root: Path, tmp_path: Path) -> None:
    """The truth is known: everything is found, and nothing tells the two apart."""
    tiny(language_embeddings=False).save_pretrained(tmp_path / "model")
    config = settings(
        root, tmp_path / "a", model=str(tmp_path / "model"), untrained=False,
        texts={}, parallel={}, pairs={"en-hi": ["en.txt", "en.txt"]},
        dictionaries={"en-hi": str(tmp_path / "same.txt")},
        only=["retrieval", "CKA", "language probe", "separability", "word translation", "mining"],
    )  # fmt: skip
    words = dict.fromkeys(line.split()[0] for line in lines("en", NUM))
    write(tmp_path / "same.txt", [f"{word} {word}" for word in words])
    found = analyze(config)["analyses"]

    def values(name: str, measure: str) -> set[float]:
        return {
            round(row["value"], 6) for row in found[name]["figures"] if row["measure"] == measure
        }

    assert values("retrieval", "centered @1") == values("mining", "best F1") == {1.0}
    assert values("CKA", "debiased") == {1.0}
    assert values("separability", "language") == {0.0}
    assert values("separability", "sentence without language") == {1.0}
    assert values("language probe", "raw accuracy") == {0.5}
    assert values("word translation", "table, raw nearest P@1") == {1.0}
    head, first, *_ = (tmp_path / "a/mined-1.tsv").read_text("utf-8").splitlines()
    assert head == "score\ten\thi\tright\tprecision\trecall\tf1"
    assert "\tyes\t1.0000\t" in first


def test_tables_of_a_report(report: dict[str, Any]) -> None:
    tables = {
        table["title"]: table for own in report["analyses"].values() for table in own["tables"]
    }
    layers = tables["debiased CKA, layers of en in rows, of hi in columns"]
    assert layers["kind"] == "matrix" and layers["columns"] == ["", "0", "1", "2"]
    values = {
        (row["of"], row["layer"]): row["value"] for row in report["analyses"]["CKA"]["figures"]
        if (row["measure"], row["model"]) == ("debiased", "model")
    }  # fmt: skip
    for at, row in enumerate(layers["rows"]):
        assert row[0] == str(at)
        assert float(row[1 + at]) == pytest.approx(values["en-hi", at], rel=1e-3)
    same = tables["debiased CKA on en, layers of model in rows, of other in columns"]
    assert [float(row[1 + at]) for at, row in enumerate(same["rows"])] == pytest.approx([1] * 3)
    ranked = tables["source languages of each target, best first, by each indicator"]
    assert ranked["columns"] == ["target", "p_token", "retrieval", "CKA"]
    assert [row[2:] for row in ranked["rows"] if row[0] == "hi"] == [["en", "en"]]
    told = tables["raw, layer 2: gold in rows, probe in columns"]
    assert [sum(map(int, row[1:])) for row in told["rows"]] == [6, 6, 6]
    assert len(tables["principal components of parallel sentences, layer 2"]["rows"]) == 3 * NUM


def test_the_summary_is_short(report: dict[str, Any]) -> None:
    own = summary(report)
    assert 8 <= len(own) <= 21
    assert any(line.startswith("retrieval en-hi, centered @1 by layer: ") for line in own)


def test_the_same_command_goes_on_and_gives_the_same_bytes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = analyze(settings(root, tmp_path / "a", **SMALL))
    again = analyze(settings(root, tmp_path / "b", **SMALL))
    assert json.dumps(first) == json.dumps(again)
    for name in ("report.html", "figures.tsv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    (tmp_path / "a/parts/anisotropy.json").unlink()
    ran: list[str] = []
    monkeypatch.setattr(
        "xlm.analyze.SECTIONS",
        {name: noted(name, own, ran) for name, own in SECTIONS.items()},
    )
    resumed = analyze(settings(root, tmp_path / "a", **SMALL))
    assert ran == ["anisotropy"] and json.dumps(resumed) == json.dumps(first)
    assert not (tmp_path / "a/states").exists()


def noted(name: str, own: Callable[..., Any], ran: list[str]) -> Callable[..., Any]:
    def run(material: Any) -> Any:
        ran.append(name)
        return own(material)

    return run


def test_other_settings_in_a_used_folder_are_refused(root: Path, tmp_path: Path) -> None:
    analyze(settings(root, tmp_path / "a", **SMALL))
    with pytest.raises(
        ConfigError, match="a holds an analysis with different settings, seed: give another"
    ):
        analyze(settings(root, tmp_path / "a", **SMALL, seed=4))
    write(tmp_path / "en.txt", lines("en", 9))
    with pytest.raises(ConfigError, match="an analysis with different .*texts"):
        analyze(settings(root, tmp_path / "a", **SMALL, texts={"en": str(tmp_path / "en.txt")}))


def test_a_model_alone_is_analyzed_on_the_corpus_that_ships(root: Path, tmp_path: Path) -> None:
    config = Analyze(
        model=str(root / "model"), folder=str(tmp_path / "a"), only=["overlap", "retrieval"],
        sentences=10, untrained=False, device="cpu",
    )  # fmt: skip
    figures = analyze(config)["analyses"]
    pairs = {row["of"] for row in figures["retrieval"]["figures"]}
    assert pairs == {"en-hi", "en-ne", "hi-ne"}
    assert config.path("sample:valid.en.txt").is_file()  # whatever the root


@pytest.mark.parametrize(
    ("fields", "error", "what"),
    [
        ({"only": ["kernels"]}, ConfigError, "only names 'kernels': expected some of retrieval"),
        ({"pairs": {"en-hi": ["en.txt"]}}, ConfigError, "pairs.en-hi names 1 files: expected 2"),
        ({"layers": [3]}, ConfigError, "layers has 3, but the layers of .*model are 0 to 2"),
        ({"texts": {"de": "en.txt"}}, ConfigError, "does not know the language de.*stand_in"),
        ({"compare": {"model": "x"}}, ConfigError, "choose another for the model"),
        ({"wic": {"train": ["a", "b"]}}, ConfigError, "expected train and dev"),
        ({"probes": {"parity": {}}}, ConfigError, "probes: a task names no file"),
        ({"texts": {"en": "sample:en.txt"}}, DataError, "no file 'en.txt' in the sample corpus"),
        ({"sentences": 3}, ConfigError, "sentences is 3: expected 4 or more"),
        ({"layers": []}, ConfigError, "layers is empty: name some"),
        ({"only": []}, ConfigError, "only is empty: name some"),
        ({"dictionaries": {"en-de": "dictionary.txt"}}, ConfigError, "the language de"),
        ({"texts": {"en": "blank.txt"}}, DataError, "blank.txt has no text, only empty lines"),
        (
            {"embeddings": {"en": "vectors.vec", "hi": "narrow.vec"}},
            DataError,
            "vectors.vec has 3 numbers, narrow.vec has 2 numbers a word",
        ),
        (
            {"parallel": {"en": "en.txt", "hi": "scores.tsv"}},
            DataError,
            "expected the same number of lines",
        ),
        (
            {"alignments": {"en-hi": ["en.txt", "scores.tsv", "links.txt"]}},
            DataError,
            "en.txt has 24 lines and .*scores.tsv 3",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    root: Path, tmp_path: Path, fields: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what) as raised:
        analyze(settings(root, tmp_path / "a", **fields))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "a").exists()


def test_models_of_a_study_are_compared(root: Path, tmp_path: Path) -> None:
    rows = [
        {"arm": arm, "seed": 0, "parent": parent, "directions": [], "updates": 1, "folder": folder}
        for arm, parent, folder in (("base", None, "../other"), ("more", "base", "../model"))
    ]
    study = root / "study/models.json"
    study.parent.mkdir(exist_ok=True)
    study.write_text(json.dumps(rows), encoding="utf-8")
    report = analyze(
        settings(root, tmp_path / "a", study=str(study), only=["spectra"], untrained=False)
    )
    assert set(report["models"]) == {"model", "base, seed 0"}
    assert any(row["measure"] == "d" for row in report["analyses"]["spectra"]["figures"])


def test_models_are_read_in_less_precision(root: Path, tmp_path: Path) -> None:
    """States differ by the rounding of bf16, while the products of figures stay exact."""
    found = {}
    for precision in ("fp32", "bf16"):
        config = settings(
            root, tmp_path / precision, precision=precision, only=["anisotropy", "retrieval"],
            untrained=False,
        )  # fmt: skip
        rows = analyze(config)["analyses"]["anisotropy"]["figures"]
        found[precision] = [row["value"] for row in rows if row["measure"] == "mean cosine"]
    assert found["fp32"] != found["bf16"]
    assert found["bf16"] == pytest.approx(found["fp32"], abs=0.03)


def test_progress_is_lines_where_there_is_no_terminal(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="xlm"):
        analyze(settings(root, tmp_path / "a", **SMALL))
    said = [line for line in caplog.messages if " left)" in line]
    assert [line.partition(":")[0] for line in said] == ["overlap", "anisotropy"]
    assert "(1 of 2, about " in said[0] and said[1].endswith("(2 of 2, about 0 s left)")


def test_the_command_writes_a_report(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sentences", "10", "--only", '["overlap", "WiC"]', "--untrained", "false"]
    main([str(root / "model"), "--folder", str(tmp_path / "a"), *words])
    output = capsys.readouterr().out
    assert "not run, since their input is missing: WiC" in output
    assert output.endswith(f"report: {tmp_path / 'a/report.html'}\n")
    with pytest.raises(SystemExit):
        main([str(root / "model"), "--folder", str(tmp_path / "b"), "--layers", "[9]"])
    assert "layers has 9" in capsys.readouterr().err


def test_a_language_with_a_vocabulary_of_its_own(root: Path, tmp_path: Path) -> None:
    """A table of the model's own rows, for ne: every figure is that of the model without it."""
    plain = tiny()
    transformer, roles = copy.deepcopy(plain.transformer), roles_of(plain.tokenizer)
    table = transformer.add_table(
        "ne", vocab_size=plain.tokenizer.vocab_size, roles=roles, own_positions=False, seed=0
    )
    assert table.language is not None and isinstance(transformer.encoder.languages, nn.Embedding)
    with torch.no_grad():
        table.words.weight.copy_(transformer.encoder.words.weight)
        table.output_bias.copy_(transformer.encoder.output_bias)
        table.language.weight.copy_(transformer.encoder.languages.weight[2])
    grown = dataclasses.replace(
        plain, transformer=transformer, languages={"en": 0, "hi": 1, "xx": 2},
        tables={"ne": Further(plain.tokenizer)},
    )  # fmt: skip
    grown.save_pretrained(tmp_path / "grown")
    texts = {language: f"{language}.txt" for language in ("en", "ne")}
    wanted = ["retrieval", "mining", "language probe", "overlap", "word translation"]
    reports = []
    for name, model in (("plain", root / "model"), ("grown", tmp_path / "grown")):
        config = settings(
            root, tmp_path / name, model=str(model), texts=texts, parallel=texts, only=wanted,
            pairs={"en-ne": ["en.txt", "ne.txt"]}, dictionaries={"en-ne": "dictionary.txt"},
            untrained=False,
        )  # fmt: skip
        reports.append(analyze(config)["analyses"])
    assert list(reports[0]) == list(reports[1]) and len(reports[0]) >= 4
    assert reports[0] == reports[1]
    fresh = untrained(grown, 1)
    assert fresh.encode(fresh.batch(lines("ne")[:2], "ne")).isfinite().all()
    with pytest.raises(ConfigError, match="does not know the language sw"):
        analyze(settings(root, tmp_path / "sw", model=str(tmp_path / "grown"),
                         texts={"sw": "en.txt"}, pairs={}, parallel={}))  # fmt: skip
