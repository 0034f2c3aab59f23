"""Tiny files in SQuAD's format, right and wrong."""

import copy
import gzip
import json

import pytest

from xlm.errors import ConfigError, DataError
from xlm.tasks.readers.questions import GoldAnswer, read_questions
from xlm.text.readers import ReadReport

CONTEXT = "पैंथर्स ने  𝄞 308 अंक"
START = CONTEXT.index("308")


def squad():
    return {
        "version": "1.1",
        "data": [
            {
                "title": "One",
                "paragraphs": [
                    {
                        "context": CONTEXT,
                        "qas": [
                            {
                                "id": "q1",
                                "question": " कितने\u00a0अंक? ",
                                "answers": [
                                    {"text": "308", "answer_start": START},
                                    {"text": "308 अंक", "answer_start": START},
                                ],
                            }
                        ],
                    }
                ],
            },
            {
                "title": "Two",
                "paragraphs": [
                    {
                        "context": "a cat",
                        "qas": [
                            {
                                "id": "q2",
                                "question": "what?",
                                "answers": [{"text": "cat", "answer_start": 2}],
                            }
                        ],
                    }
                ],
            },
        ],
    }


def write(path, data, **settings):
    path.write_text(json.dumps(data, **settings), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("settings", [{}, {"indent": 1}, {"ensure_ascii": False, "indent": 1}])
def test_questions_and_offsets_in_characters(tmp_path, settings):
    path = write(tmp_path / "a.json", squad(), **settings)
    report = ReadReport()
    first, second = read_questions(path, language="hi", report=report)
    assert (first.id, first.question, first.title, first.language) == (
        "q1", "कितने अंक?", "One", "hi",
    )  # fmt: skip
    assert first.context == CONTEXT
    assert first.answers == (GoldAnswer("308", START), GoldAnswer("308 अंक", START))
    for text, start in first.answers + second.answers:
        context = first.context if text != "cat" else second.context
        assert context[start : start + len(text)] == text
    lines = (tmp_path / "a.json").read_text(encoding="utf-8").split("\n")
    number = int(first.place.split(":")[-2])
    assert first.place.endswith("question q1") and '"q1"' in lines[number - 1]
    assert report.num_kept == 2


def test_compressed_and_by_article(tmp_path):
    path = tmp_path / "a.json.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        json.dump(squad(), stream)
    assert [one.id for one in read_questions(path, articles=["Two"])] == ["q2"]
    with pytest.raises(ConfigError, match="no article 'Three', expected titles such as One, Two"):
        list(read_questions(path, articles=["Two", "Three"]))


def test_questions_without_an_answer(tmp_path):
    data = squad()
    row = data["data"][1]["paragraphs"][0]["qas"][0]
    row.update(is_impossible=True, plausible_answers=row["answers"], answers=[])
    path = write(tmp_path / "v2.json", data)
    assert [len(one.answers) for one in read_questions(path)] == [2, 0]
    row.update(is_impossible=False)
    path = write(tmp_path / "none.json", data)
    with pytest.raises(DataError, match=r"none.json:1: question q2: found no answer, expected one"):
        list(read_questions(path))
    assert [one.answers for one in read_questions(path, labeled=False)] == [(), ()]


def test_misplaced_answers(tmp_path):
    data = squad()
    data["data"][1]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 1
    path = write(tmp_path / "a.json", data, indent=1)
    with pytest.raises(
        DataError, match=r"a.json:\d+: question q2: found ' ca' at character 1, .*'cat'"
    ):
        list(read_questions(path))
    report = ReadReport()
    kept = list(read_questions(path, misplaced="drop", report=report))
    assert [one.id for one in kept] == ["q1"]
    assert report.dropped == {"an answer that is not in the text": 1}
    with pytest.raises(ConfigError, match="misplaced='ignore'"):
        list(read_questions(path, misplaced="ignore"))


def change(path, value):
    """SQuAD's data with the value at a path of keys replaced."""
    data = squad()
    *keys, last = path
    place = data
    for key in keys:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return data


PARAGRAPH = ["data", 0, "paragraphs", 0]
QUESTION = [*PARAGRAPH, "qas", 0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["data"], KeyError, r"found version, expected an object with a list 'data'"),
        (["data"], {}, r"expected an object with a list 'data'"),
        (["data", 0], [], r"data\[0\]: found list, expected an object with a list 'paragraphs'"),
        ([*PARAGRAPH, "qas"], None, r"data\[0\].paragraphs\[0\]: .* list 'qas'"),
        ([*PARAGRAPH, "context"], None, r"data\[0\].paragraphs\[0\]: found no text in context"),
        (QUESTION, "q1", r"data\[0\].paragraphs\[0\].qas: found str"),
        ([*QUESTION, "id"], None, r"found no text in id or question"),
        ([*QUESTION, "question"], 3, r"question q1: found no text in id or question"),
        ([*QUESTION, "id"], "q2", r"question q2: found this id twice"),
        ([*QUESTION, "answers"], [], r"question q1: found no answer"),
        (
            [*QUESTION, "answers"],
            ["308"],
            r"question q1: found answers .*expected a list of objects",
        ),
        ([*QUESTION, "is_impossible"], True, r"question q1: found answers and is_impossible"),
        ([*QUESTION, "answers", 0, "text"], " ", r"question q1: found an answer ' '"),
        ([*QUESTION, "answers", 0, "answer_start"], "3", r"found an answer '308' at '3'"),
        ([*QUESTION, "answers", 0, "answer_start"], START - len(CONTEXT), r"at character -7"),
        ([*QUESTION, "answers", 0, "answer_start"], 999, r"found '' at character 999"),
        (["data"], [], r"found no question"),
    ],
)
def test_malformed_questions(tmp_path, path, value, message):
    with pytest.raises(DataError, match=message) as error:
        list(read_questions(write(tmp_path / "bad.json", change(path, value))))
    assert "\n" not in str(error.value) and "bad.json" in str(error.value)


def test_files_that_are_no_json(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('{"data": [\n  {"title": }\n]}')
    with pytest.raises(DataError, match=r"bad.json:2: found no JSON \(.* in column 13\)"):
        list(read_questions(path))
    path.write_bytes(b'{"data":\n"\xff"}')
    with pytest.raises(DataError, match=r"bad.json:2: byte 0xff is not valid UTF-8"):
        list(read_questions(path))
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="found no JSON .*nested too deep"):
        list(read_questions(path))
    with pytest.raises(DataError, match="does not exist"):
        list(read_questions(tmp_path / "none.json"))


def test_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                key: [answer[key] for answer in question["answers"]]
                for key in ("text", "answer_start")
            },
        }
        for article in squad()["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    unanswered = copy.deepcopy(rows[1])
    unanswered.update(id="q3", answers={"text": [], "answer_start": []})
    folder = tmp_path / "saved"
    datasets.Dataset.from_list([*rows, unanswered]).save_to_disk(str(folder))
    found = list(read_questions(f"datasets:{folder}"))
    file = list(read_questions(write(tmp_path / "a.json", squad())))
    assert [one.answers for one in found] == [*(one.answers for one in file), ()]
    assert [one.context for one in found[:2]] == [one.context for one in file]
    assert found[0].place == f"datasets:{folder}:1: question q1"
