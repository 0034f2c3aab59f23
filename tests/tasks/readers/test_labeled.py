"""Tiny files in the published layouts; every malformed row is one line with file and line."""

import gzip
import json

import pytest

from xlm.errors import ConfigError, DataError
from xlm.tasks.readers.labeled import LAYOUTS, Columns, SentenceRow, read_rows
from xlm.text.readers import ReadReport


def write(path, *lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def rows(path, layout, **settings):
    return [(row.label, row.first, row.second) for row in read_rows(path, layout, **settings)]


XNLI = "language\tgold_label\tsentence1_binary_parse\tsentence1\tsentence2\tpromptID"


def test_xnli_keeps_the_rows_of_a_language(tmp_path):
    path = write(
        tmp_path / "xnli.dev.tsv",
        XNLI,
        "sw\tneutral\t(a)\tHabari  yako\tNzuri\t1",
        'en\tentailment\t(b)\t"Quoted\tfine "so"\t2',
        "en\tcontradiction\t(c)\tA\tB\t3",
    )
    report = ReadReport()
    english = list(read_rows(path, "xnli", language="en", report=report))
    assert english[0] == SentenceRow("entailment", '"Quoted', 'fine "so"', "en", f"{path}:3")
    assert [row.label for row in english] == ["entailment", "contradiction"]
    assert (report.num_kept, report.dropped) == (2, {"another language": 1})
    assert [row.language for row in read_rows(path, "xnli")] == ["sw", "en", "en"]
    assert rows(path, "xnli", language="sw") == [("neutral", "Habari yako", "Nzuri")]
    with pytest.raises(DataError, match="found rows of en, sw, expected at least one of ur"):
        rows(path, "xnli", language="ur")


def test_xnli_jsonl_and_its_translated_training_files(tmp_path):
    objects = [
        {"gold_label": "neutral", "language": "hi", "sentence1": "क", "sentence2": "ख"},
        {"gold_label": "-", "language": "hi", "sentence1": "ग", "sentence2": "घ"},
    ]
    path = tmp_path / "xnli.dev.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(json.dumps(one) for one in objects))
    assert rows(path, "xnli", language="hi")[0] == ("neutral", "क", "ख")
    train = write(tmp_path / "multinli.train.fr.tsv", "premise\thypo\tlabel", "a\tb\tcontradictory")
    assert rows(train, "xnli-train") == [("contradiction", "a", "b")]
    report = ReadReport()
    assert len(list(read_rows(path, "mnli", report=report))) == 1
    assert report.dropped == {"no gold label": 1}
    (tmp_path / "mnli.txt").write_bytes(
        b"sentence1\tsentence2\tgold_label\r\na\tb\tneutral\r\na\tc\t-\r\n"
    )
    assert rows(tmp_path / "mnli.txt", "mnli") == [("neutral", "a", "b")]


@pytest.mark.parametrize(
    ("layout", "lines", "expected"),
    [
        ("label-text", ["label\ttext", "sport\ta b"], ("sport", "a b", None)),
        ("nli", ["premise\thypothesis\tlabel", "a\tb\tneutral"], ("neutral", "a", "b")),
        ("plain", ["topic\ta sentence"], ("topic", "a sentence", None)),
        ("plain-pair", ["yes\tone\ttwo"], ("yes", "one", "two")),
        ("mldoc", ["CCAT\tsome text"], ("CCAT", "some text", None)),
        ("paws-x", ["id\tsentence1\tsentence2\tlabel", "7\ta\tb\t0"], ("0", "a", "b")),
        (
            "intent",
            ["alarm/set\t0:3:x\twake me\ten_XX\t{}"],
            ("alarm/set", "wake me", None),
        ),
        ("xglue-nc", ["title\tbody\tsports"], ("sports", "title", "body")),
        ("xglue-qam", ["question\tanswer\t1"], ("1", "question", "answer")),
        ("xglue-qadsm", ["query\ttitle\ttext\t0"], ("0", "query", "title text")),
        ("xglue-wpr", ["query\ttitle\tsnippet\t3"], ("3", "query", "title snippet")),
        (
            "mnli",
            ["gold_label\tsentence1\tsentence2\tlabel1\tlabel2", "neutral\ta\tb\tneutral"],
            ("neutral", "a", "b"),
        ),
    ],
)
def test_every_layout(tmp_path, layout, lines, expected):
    path = write(tmp_path / "file.tsv", *lines)
    assert rows(path, layout) == [expected]
    # CR LF, a byte order mark and empty lines change nothing
    (tmp_path / "file.tsv").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\r\n")
    assert rows(path, layout) == [expected]


def test_every_layout_has_a_test():
    here = test_every_layout.pytestmark[0].args[1]
    assert {case[0] for case in here} | {"xnli", "xnli-train"} == set(LAYOUTS)


def test_the_language_of_a_row(tmp_path):
    path = write(tmp_path / "train.tsv", "alarm\t\twake me\tth_TH\t{}")
    assert next(read_rows(path, "intent")).language == "th_TH"
    assert next(read_rows(path, "intent", language="th")).first == "wake me"
    for other in ("t", "TH", "th_T", "en"):
        with pytest.raises(DataError, match="found rows of th_TH, expected at least one of"):
            list(read_rows(path, "intent", language=other))
    path = write(tmp_path / "nc.tsv", "a\tb\tc")
    assert next(read_rows(path, "xglue-nc", language="de")).language == "de"
    assert next(read_rows(path, "xglue-nc")).language == ""


def test_columns_of_ones_own_and_no_labels(tmp_path):
    path = write(tmp_path / "own.tsv", "x\ta\tY\tb", "x\tc\tN\td")
    columns = Columns(label=2, first=(3,), second=(1,), rename={"Y": "yes"})
    assert rows(path, columns) == [("yes", "b", "a"), ("N", "d", "c")]
    plain = write(tmp_path / "plain.tsv", "premise\thypothesis", "a\tb")
    assert rows(plain, "nli", labeled=False) == [("", "a", "b")]
    with pytest.raises(ConfigError, match="all names or all numbers"):
        Columns(label="label", first=(0,))


@pytest.mark.parametrize(
    ("layout", "lines", "message"),
    [
        ("nli", ["premise\tlabel", "a\tb"], r":1: found the columns premise, label, .*hypothesis"),
        ("nli", ["premise\thypothesis\tlabel", "a\tb"], r":2: found 2 columns .* expected 3"),
        ("nli", ["premise\thypothesis\tlabel", "", "a\tb\tc\td"], r":3: found 4 .* expected 3"),
        ("nli", ["premise\thypothesis\tlabel", "a\tb\t "], r":2: the label is empty"),
        ("nli", ["premise\thypothesis\tlabel"], r"found no row, expected at least one"),
        ("mnli", ["gold_label\tsentence1\tsentence2", "neutral\ta"], r":2: found 2 columns"),
        ("mldoc", ["CCAT text"], r":1: found 1 columns .* expected 2"),
        ("xglue-wpr", ["a\tb\t1"], r":1: found 3 columns .* expected 4"),
        ("unheard-of", ["a"], r"layout 'unheard-of': expected one of .*xglue-wpr"),
    ],
)
def test_malformed_tables(tmp_path, layout, lines, message):
    path = write(tmp_path / "bad.tsv", *lines)
    with pytest.raises((DataError, ConfigError), match=message) as error:
        rows(path, layout)
    assert "\n" not in str(error.value)
    assert layout == "unheard-of" or "bad.tsv" in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"label": ', r":2: found no JSON .* expected one object a line"),
        ('["a"]', r":2: found JSON of list, expected an object"),
        ('{"label": "x"}', r":2: found label, expected text in the column 'text'"),
        ('{"label": null, "text": "a"}', r":2: found NoneType in 'label'"),
        ('{"label": true, "text": "a"}', r":2: found bool in 'label'"),
        ("[" * 100_000, r":2: found no JSON"),
    ],
)
def test_malformed_objects(tmp_path, line, message):
    path = write(tmp_path / "bad.jsonl", '{"label": 1, "text": "a"}', line)
    with pytest.raises(DataError, match=message):
        rows(path, "label-text")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "bad.tsv"
    path.write_bytes(b"label\ttext\nx\tabc\xff\n")
    with pytest.raises(DataError, match=r"bad.tsv:2: byte 0xff at offset 5"):
        rows(path, "label-text")
    with pytest.raises(DataError, match="does not exist"):
        rows(tmp_path / "none.tsv", "label-text")


def test_rows_of_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        }
    )
    cells = {"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [2, 0]}
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict(cells, features=features).save_to_disk(str(folder))
    assert rows(f"datasets:{folder}", "nli") == [
        ("contradiction", "a", "b"),
        ("entailment", "c", "d"),
    ]
    cells["label"][1] = -1  # how data sets say that a row has no label
    datasets.Dataset.from_dict(cells, features=features).save_to_disk(str(tmp_path / "hidden"))
    with pytest.raises(DataError, match=r":2: found NoneType in 'label'"):
        rows(f"datasets:{tmp_path / 'hidden'}", "nli")
    with pytest.raises(ConfigError, match="found setting 'splitt'"):
        rows(f"datasets:{folder}?splitt=train", "nli")
    with pytest.raises(ConfigError, match="column is 0, but this source names"):
        rows(f"datasets:{folder}", "mldoc")
