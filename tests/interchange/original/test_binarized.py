"""Binarized text of the original XLM, against its own arrays and against files made here."""

import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.errors import DataError
from xlm.interchange.original.binarized import read_binarized

BESIDE = Path(__file__).parents[3].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", BESIDE))
golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)
SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{at}>" for at in range(10))]
PIECES = [*SPECIALS, "the", "cat", "sat"]


@pytest.fixture(params=["xlm.data.dictionary", "src.data.dictionary"])
def content(request, monkeypatch):
    """Three sentences, the second of them empty, as the original's preprocess.py pickles them."""
    module = types.ModuleType(request.param)
    module.Dictionary = type("Dictionary", (), {"__module__": request.param})
    monkeypatch.setitem(sys.modules, request.param, module)
    for parent in ("src", "src.data"):
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    dictionary = module.Dictionary()
    dictionary.id2word = dict(enumerate(PIECES))
    dictionary.word2id = {piece: at for at, piece in enumerate(PIECES)}
    dictionary.counts = {**dict.fromkeys(SPECIALS, 0), "the": 5, "cat": 2, "sat": 2}
    dictionary.bos_index = 0
    return {
        "dico": dictionary,
        "sentences": np.array([14, 15, 3, 1, 1, 16, 1], np.uint16),
        "positions": np.array([[0, 3], [4, 4], [5, 6]], np.int64),
        "unk_words": {"dog": 1},
    }


def save(content, path, protocol=4):
    torch.save(content, path, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_sentences_and_dictionary(tmp_path, content, protocol):
    found = read_binarized(save(content, tmp_path / "train.en.pth", protocol))
    assert [row.tolist() for row in found.sentences()] == [[14, 15, 3], [], [16]]
    assert all(row.dtype == np.int64 for row in found.sentences())
    assert found.ids.dtype == np.uint16 and found.ids.tolist() == [14, 15, 3, 1, 1, 16, 1]
    assert found.lengths.dtype == np.int64 and found.lengths.tolist() == [4, 1, 2]
    assert len(found) == 3 and found.num_empty == 1
    assert list(found.pieces) == PIECES and found.counts == (*[0] * 14, 5, 2, 2)
    assert found.unknown_words == {"dog": 1}


def test_larger_ids_and_no_text(tmp_path, content):
    content["sentences"] = content["sentences"].astype(np.int32)
    assert read_binarized(save(content, tmp_path / "a.pth")).ids.dtype == np.int32
    content["sentences"] = content["sentences"][:0]
    content["positions"] = np.zeros((0, 2), np.int64)
    found = read_binarized(save(content, tmp_path / "a.pth"))
    assert len(found) == 0 and list(found.sentences()) == [] and found.num_empty == 0


def put(array, at, value):
    array[at] = value


DAMAGE = {
    "sentence 1 runs from 5 to 4, expected from 4": lambda c: put(c["positions"], (1, 0), 5),
    "sentence 2 runs from 5 to 7, expected from 5 to less than 7": lambda c: put(
        c["positions"], (2, 1), 7
    ),
    "sentence 1 runs from 4 to -1": lambda c: put(c["positions"], (1, 1), -1),
    "sentence 0 runs from 0 to 9223372036854775807": lambda c: put(
        c["positions"], (0, 1), 2**63 - 1
    ),
    "its sentences end after 5 ids of 7": lambda c: c.update(positions=c["positions"][:2]),
    "id 3 is 14, expected the end symbol 1": lambda c: put(c["sentences"], 3, 14),
    "id 0 is 1, expected one inside a sentence": lambda c: put(c["sentences"], 0, 1),
    "ids run from 1 to 17, but the dictionary has 17": lambda c: put(c["sentences"], 0, 17),
    "sentences is [7] float32": lambda c: c.update(sentences=c["sentences"].astype(np.float32)),
    "sentences is [7, 1] uint16": lambda c: c.update(sentences=c["sentences"][:, None]),
    "sentences is Tensor": lambda c: c.update(sentences=torch.zeros(7)),
    "positions is [3, 1], expected [n, 2]": lambda c: c.update(positions=c["positions"][:, :1]),
    "positions is [3, 2] int32": lambda c: c.update(positions=c["positions"].astype(np.int32)),
    "unk_words does not": lambda c: c.update(unk_words={"dog": "many"}),
    "dico is dict": lambda c: c.update(dico=dict(vars(c["dico"]))),
    "lacks id2word, word2id or counts": lambda c: vars(c["dico"]).pop("counts"),
    "item 15 of its dictionary is 'the', but its id is 14": lambda c: put(
        c["dico"].id2word, 15, "the"
    ),
    "holds 'dico', 'positions', 'unk_words', expected dico, sentences": lambda c: c.pop(
        "sentences"
    ),
}


@pytest.mark.parametrize("named", DAMAGE)
def test_what_contradicts_itself_is_named(tmp_path, content, named):
    DAMAGE[named](content)
    path = save(content, tmp_path / "train.en.pth")
    with pytest.raises(DataError) as caught:
        read_binarized(path)
    message = str(caught.value)
    assert named in message and str(path) in message and "\n" not in message


@pytest.mark.parametrize("value", [[1, 2], None, torch.ones(2), {}])
def test_other_files(tmp_path, value):
    with pytest.raises(DataError, match="holds .*, expected dico, sentences"):
        read_binarized(save(value, tmp_path / "other.pth"))
    with pytest.raises(DataError, match="cannot be read"):
        read_binarized(tmp_path / "absent.pth")


@golden
@pytest.mark.parametrize("folder", ["data", "data_seen"])
def test_the_originals_files(folder):
    expected = json.loads((GOLDEN / "data/dictionary.json").read_text())
    paths = sorted((GOLDEN / folder).glob("*.pth"))
    assert len(paths) == {"data": 23, "data_seen": 8}[folder]
    with np.load(GOLDEN / "data/binarised.npz") as arrays:
        for path in paths:
            found = read_binarized(path)
            assert list(found.pieces) == expected["id2word"], path
            assert list(found.counts) == expected["counts"], path
            name = path.name.replace(".legacy", "")
            text = (path.parent / name.removesuffix(".pth")).read_text().split("\n")[:-1]
            assert len(found) == len(text)
            # text is pieces already: each has its id, or 3; special strings were dropped
            ids = {piece: at for at, piece in enumerate(expected["id2word"])}
            for line, row in zip(text, found.sentences(), strict=True):
                kept = [ids.get(p, 3) for p in line.split() if p == "<unk>" or p not in SPECIALS]
                assert row.tolist() == kept, (path, line)
            if folder == "data":
                assert found.unknown_words == expected["unk_words"][name]
                assert np.array_equal(found.ids, arrays[f"{name}.sentences"])
                assert found.ids.dtype == arrays[f"{name}.sentences"].dtype
                positions = arrays[f"{name}.positions"]
                assert np.array_equal(found.lengths, positions[:, 1] - positions[:, 0] + 1)
