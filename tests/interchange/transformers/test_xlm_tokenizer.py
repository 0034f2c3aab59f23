"""vocab.json and merges.txt: the same ids as XLMTokenizer gives, and byte-identical both ways."""

import itertools
import json
import re

import pytest

from xlm import sample
from xlm.errors import ConfigError, DataError
from xlm.interchange.transformers.xlm_tokenizer import read_xlm_tokenizer, xlm_tokenizer_files
from xlm.text.normalize import normalize
from xlm.text.tokenizers.fastbpe import SPECIALS, FastBpeTokenizer
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer
from xlm.text.tokenizers.loading import load_tokenizer

LANGUAGES = {"en": 0, "hi": 1, "ne": 2}
CODES = b"t h 9\nth e</w> 7\nl o 5\nlo w</w> 4\n"
VOCABULARY = b"the 9\nth@@ 8\nlow 7\ne 6\nl@@ 5\no@@ 4\nw 3\no 2\nt@@ 2\n"


def lines(split):
    for language in sample.LANGUAGES:
        text = sample.path(f"{split}.{language}.txt").read_text(encoding="utf-8")
        yield from map(normalize, text.splitlines())


@pytest.fixture(scope="module")
def learnt():
    return learn_fastbpe_tokenizer(lines("train"), 1500)


def write(tokenizer, folder):
    files, lost = xlm_tokenizer_files(tokenizer, LANGUAGES, 64)
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return lost


def peer(folder):
    return pytest.importorskip("transformers").XLMTokenizer.from_pretrained(folder)


def pieces_of_peer(tokenizer, text, **options):
    return tokenizer.convert_tokens_to_ids(tokenizer._tokenize(text, **options))


def message(call, *arguments, error=DataError):
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_stands_in_the_files(tmp_path):
    write(FastBpeTokenizer(CODES, VOCABULARY), tmp_path)
    assert (tmp_path / "merges.txt").read_text() == "t h\nth e</w>\nl o\nlo w</w>\n"
    ids = json.loads((tmp_path / "vocab.json").read_text())
    assert {piece: ids[piece] for piece in SPECIALS} == {p: i for i, p in enumerate(SPECIALS)}
    words = {"the</w>": 14, "th": 15, "low</w>": 16, "e</w>": 17, "l": 18, "o": 19, "w</w>": 20}
    assert {key: at for key, at in ids.items() if at >= 14} == {**words, "o</w>": 21, "t": 22}
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] == "XLMTokenizer"
    assert told["do_lowercase_and_remove_accent"] is False
    assert told["lang2id"] == LANGUAGES and told["id2lang"] == {"0": "en", "1": "hi", "2": "ne"}


def test_ids_are_those_of_xlm_tokenizer_without_moses(learnt, tmp_path):
    write(learnt, tmp_path)
    found = peer(tmp_path)
    assert (found.vocab_size, len(found)) == (learnt.vocab_size, learnt.vocab_size)
    num_unknown = 0
    for line in [*lines("train"), *lines("valid")]:
        ids, theirs = learnt.encode(line), pieces_of_peer(found, line, bypass_tokenizer=True)
        if ids == theirs:
            continue
        # it is not restricted to the vocabulary: pieces that fastBPE takes apart are unknown there
        num_unknown += 1
        assert learnt.unk_id in theirs
        assert learnt.decode(ids) == line
    assert num_unknown <= 8, num_unknown


def test_real_lines_have_the_same_ids(shared, tmp_path):
    """A few of the lines that benchmarks/equality/tokenization.py compares."""
    folder = shared / "data" / "mono"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared/data/mono' beside the checkout")
    texts = []
    for language in LANGUAGES:
        with open(folder / language / "train.txt", encoding="utf-8") as file:
            texts.append([normalize(line) for line in itertools.islice(file, 800)])
    tokenizer = learn_fastbpe_tokenizer(itertools.chain(*(text[:400] for text in texts)), 2000)
    write(tokenizer, tmp_path)
    found, again = peer(tmp_path), read_xlm_tokenizer(tmp_path)[0]
    for text in texts:
        num_identical = 0
        for line in text[400:]:
            ids, theirs = tokenizer.encode(line), pieces_of_peer(found, line, bypass_tokenizer=True)
            assert again.encode(line) == ids
            assert ids == theirs or theirs.count(tokenizer.unk_id) > ids.count(tokenizer.unk_id)
            num_identical += ids == theirs
        assert num_identical >= 340, num_identical


def test_rows_are_opened_by_the_end_symbol(learnt, tmp_path):
    write(learnt, tmp_path)
    found = peer(tmp_path)
    first, second = (pieces_of_peer(found, text) for text in ("a house", "the house"))
    pair = found.build_inputs_with_special_tokens(first, second)
    import numpy as np

    rows = [np.array(ids) for ids in (first, second)]
    assert pair == learnt.wrap(*rows, layout="merged").tokens.tolist()
    assert found.build_inputs_with_special_tokens(first) == learnt.wrap(rows[0]).tokens.tolist()
    assert (found.mask_token_id, found.pad_token_id, found.unk_token_id) == (5, 2, 3)
    assert "token_type_ids" not in found("a house")  # which would be added as *words*
    assert found.lang2id == LANGUAGES


def test_text_that_spells_special_tokens_is_text(learnt, tmp_path):
    write(learnt, tmp_path)
    found = peer(tmp_path)
    inner = found("</s> a <special1>", split_special_tokens=True)["input_ids"][1:-1]
    assert not {1, 5} & set(inner) and not {1, 5} & set(learnt.encode("</s> a <special1>"))
    chosen = found("</s> a <special1>")["input_ids"][1:-1]
    assert chosen[0] == 1 and chosen[-1] == 5  # what `lost` says of it


def test_moses_is_what_changes_plain_text(learnt, tmp_path):
    lost = write(learnt, tmp_path)
    found = peer(tmp_path)
    text = "You know, you know."
    assert pieces_of_peer(found, text) != learnt.encode(text)
    text = "You know , you know ."
    assert pieces_of_peer(found, text) == learnt.encode(text)
    assert any("Moses" in line for line in lost)


def test_a_round_trip_through_xlm_tokenizer_is_byte_identical(learnt, tmp_path):
    write(learnt, tmp_path / "a")
    peer(tmp_path / "a").save_pretrained(tmp_path / "b")
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again, _ = read_xlm_tokenizer(tmp_path / "b")  # transformers' own tokenizer_config.json
    assert again.pieces == learnt.pieces


def test_read_again_it_gives_the_same_ids_and_files(learnt, tmp_path):
    write(learnt, tmp_path / "a")
    again, different = read_xlm_tokenizer(tmp_path / "a")
    assert again.pieces == learnt.pieces
    for line in [*lines("train"), *lines("valid")]:
        assert again.encode(line) == learnt.encode(line)
    write(again, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert not any("lowercases" in line or "opens" in line for line in different)


def test_codes_and_vocabulary_stay_byte_identical_in_our_folder(learnt, tmp_path):
    learnt.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.codes, again.vocabulary) == (learnt.codes, learnt.vocabulary)
    again.save(tmp_path / "b")
    for name in ("codes", "vocab"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_of_a_released_model_are_told_apart(tmp_path):
    write(FastBpeTokenizer(CODES, VOCABULARY), tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()  # the defaults of XLMTokenizer hold
    (tmp_path / "merges.txt").write_bytes(CODES)  # the released ones have the counts
    found, different = read_xlm_tokenizer(tmp_path)
    assert found.codes == CODES
    assert any("lowercases" in line for line in different)
    assert any("opens a sentence with <s>" in line for line in different)
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": {"content": "<special0>"}}')
    assert "mask_token is '<special0>'" in message(read_xlm_tokenizer, tmp_path)


def test_what_is_lost_is_counted(tmp_path):
    vocabulary = VOCABULARY.replace(b"th@@ 8\n", b"") + b"lo@@ 1\n"
    lost = " ".join(write(FastBpeTokenizer(CODES, vocabulary), tmp_path))
    assert "1 of 4 codes make a piece that the vocabulary lacks" in lost
    assert "no id" not in lost and "repeated" not in lost and "hold white space" not in lost
    codes = CODES + b"t h 9\n\xc2\xa0 e 1\n< s> 1\n"
    lost = " ".join(write(FastBpeTokenizer(codes, VOCABULARY, max_vocab=20), tmp_path))
    assert "3 of 7 codes make" in lost
    assert "3 pieces of the vocabulary file that have no id" in lost
    assert "1 codes are repeated" in lost
    assert "1 codes hold white space" in lost
    assert "codes make <s> inside a word" in lost


@pytest.mark.parametrize("piece, spelled", [(b"<s>@@", "'<s>'"), (b"the</w>@@", "'the</w>'")])
def test_pieces_that_would_become_one_are_refused(piece, spelled):
    tokenizer = FastBpeTokenizer(CODES, VOCABULARY + piece + b" 1\n")
    said = message(xlm_tokenizer_files, tokenizer, LANGUAGES, 64, error=ConfigError)
    assert f"{piece.decode()!r} (id 23): as {spelled}" in said


def test_the_sign_of_a_piece_inside_a_word_may_be_a_word(tmp_path):
    tokenizer = FastBpeTokenizer(CODES + b"@ @</w> 1\n", VOCABULARY + b"@@ 1\n")
    write(tokenizer, tmp_path)
    assert tokenizer.encode("the @@") == [14, 23]
    assert pieces_of_peer(peer(tmp_path), "the @@", bypass_tokenizer=True) == [14, 23]
    assert read_xlm_tokenizer(tmp_path)[0].pieces[-1] == "@@"


def changed(folder, change):
    write(FastBpeTokenizer(CODES, VOCABULARY), folder)
    ids = json.loads((folder / "vocab.json").read_text())
    change(ids)
    (folder / "vocab.json").write_text(json.dumps(ids, indent=2), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda ids: ids.update({"low</w>": 99}), "vocab.json:18: 'low</w>' has id 99"),
        (lambda ids: ids.update({"low</w>": -1}), "'low</w>' has id -1: expected 0 to 22"),
        (lambda ids: ids.update({"low</w>": True}), "'low</w>' has id True"),
        (lambda ids: ids.update({"low</w>": "16"}), "'low</w>' has id '16'"),
        (lambda ids: ids.update({"low</w>": 14}), "has id 14, which"),
        (lambda ids: ids.pop("low</w>"), "has id 22: expected 0 to 21"),
        (lambda ids: ids.update({"<s>": 1, "</s>": 0}), "id 0 is '</s>': expected <s>"),
        (lambda ids: ids.update({"a b": 23}), "'a b' cannot be a piece"),
        (lambda ids: ids.update({"a\u2028": 23}), "'a\\u2028' cannot be a piece"),
        (lambda ids: ids.update({"\ud800": 23}), "cannot be a piece"),
        (lambda ids: ids.update({"</w>": 23}), "'</w>' cannot be a piece"),
        (lambda ids: ids.update({"a@@</w>": 23}), "'a@@</w>' cannot be a piece"),
        (lambda ids: [ids.pop(key) for key in list(ids) if ids[key] > 13], "14 pieces, expected"),
        (lambda ids: ids.clear(), "0 pieces, expected"),
    ],
)
def test_a_vocabulary_that_cannot_be_read(tmp_path, change, expected):
    assert expected in message(read_xlm_tokenizer, changed(tmp_path, change))


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"t h\nthe\n", "merges.txt:2: found 'the'"),
        (b"t h\n\nl o\n", "merges.txt:2: found ''"),
        (b"t h x\n", "merges.txt:1: found 't h x'"),
        (b"t h 1 2\n", "merges.txt:1: found 't h 1 2'"),
        (b"t h\n\xff h\n", "merges.txt:2: found"),
    ],
)
def test_merges_that_cannot_be_read(tmp_path, content, expected):
    write(FastBpeTokenizer(CODES, VOCABULARY), tmp_path)
    (tmp_path / "merges.txt").write_bytes(content)
    assert expected in message(read_xlm_tokenizer, tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_json_that_is_none(tmp_path, name, content):
    write(FastBpeTokenizer(CODES, VOCABULARY), tmp_path)
    (tmp_path / name).write_text(content)
    assert re.search(rf"{name}(:1)?: ", message(read_xlm_tokenizer, tmp_path))


def test_files_that_are_missing_or_huge(tmp_path, monkeypatch):
    assert "vocab.json: cannot be read (No such file" in message(read_xlm_tokenizer, tmp_path)
    write(FastBpeTokenizer(CODES, VOCABULARY), tmp_path)
    monkeypatch.setattr("xlm.interchange.transformers.xlm_tokenizer.MAX_BYTES", 100)
    assert "vocab.json: " in message(read_xlm_tokenizer, tmp_path)
