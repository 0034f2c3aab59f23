import json

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer, corpus, random_sentences
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus, count_ids, id_type
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.streams import TextStream
from xlm.errors import DataError
from xlm.metrics.scores import TextSize

TOKENIZER = WordTokenizer()


def write(path, sentences, tokenizer=TOKENIZER, **settings):
    with CorpusWriter(path, language="ne", tokenizer=tokenizer, **settings) as writer:
        for start in range(0, len(sentences), 2):
            chunk = sentences[start : start + 2]
            ids = np.concatenate([[*sentence, tokenizer.end_id] for sentence in chunk])
            lengths = np.array([len(sentence) + 1 for sentence in chunk])
            writer.add(ids.astype(np.int64), lengths, TextSize(0, 0, 3, 20, 40))
    return Corpus.open(path, tokenizer)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_what_is_written_is_read(tmp_path, vocab_size, dtype):
    tokenizer = WordTokenizer(vocab_size)
    sentences = random_sentences([3, 0, 5, 1, 7], vocab_size=vocab_size)
    sentences[2][0] = vocab_size - 1
    found = write(tmp_path / "ne", sentences, tokenizer)
    assert found.ids.dtype == dtype
    assert (tmp_path / "ne" / "ids.bin").stat().st_size == 21 * np.dtype(dtype).itemsize
    assert len(found) == 5 and found.language == "ne"
    for index, sentence in enumerate(sentences):
        assert found[index].tolist() == sentence.tolist()
        assert found[index].dtype == np.int64
    assert found.text_size == TextSize(5, 21, 9, 60, 120)
    assert found.counts.tolist() == np.bincount(found.ids, minlength=vocab_size).tolist()
    assert found.lengths().tolist() == [3, 0, 5, 1, 7]
    assert found.lengths(1, 3).tolist() == [0, 5]


def test_a_corpus_in_memory_is_the_same_as_on_disk(tmp_path):
    sentences = random_sentences([3, 0, 5, 1])
    memory = Corpus.from_sentences(
        sentences, language="ne", tokenizer=TOKENIZER, words=6, characters=40, bytes=80
    )
    disk = write(tmp_path / "ne", sentences)
    assert memory.ids.tolist() == disk.ids.tolist() and memory.ids.dtype == disk.ids.dtype
    assert memory.offsets.tolist() == disk.offsets.tolist()
    assert memory.counts.tolist() == disk.counts.tolist()
    assert memory.text_size == disk.text_size
    assert memory.tokenizer_digest == disk.tokenizer_digest


def test_several_sentences_by_one_gather():
    found = corpus([3, 0, 5, 1, 7])
    indices = np.array([4, 1, 1, 0, 3])
    gathered = found.sentences(indices)
    assert [row.tolist() for row in gathered] == [found[i].tolist() for i in indices]
    assert all(row.dtype == np.int64 for row in gathered)
    assert found.sentences(np.zeros(0, dtype=np.int64)) == []
    with pytest.raises(IndexError):
        found[5]


def test_an_empty_corpus(tmp_path):
    found = write(tmp_path / "ne", [])
    assert len(found) == 0 and found.text_size.tokens == 0 and not found.counts.any()
    assert len(corpus([])) == 0


def test_another_tokenizer_is_named(tmp_path):
    write(tmp_path / "ne", random_sentences([3]))
    other = WordTokenizer(name="other")
    with pytest.raises(DataError) as error:
        Corpus.open(tmp_path / "ne", other)
    assert TOKENIZER.digest[:12] in str(error.value) and other.digest[:12] in str(error.value)
    assert Corpus.open(tmp_path / "ne").tokenizer_digest == TOKENIZER.digest


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "counts.bin"])
def test_truncated_and_missing_files_are_one_line(tmp_path, name):
    write(tmp_path / "ne", random_sentences([3, 4]))
    file = tmp_path / "ne" / name
    with open(file, "r+b") as handle:
        handle.truncate(file.stat().st_size - 2)
    with pytest.raises(DataError, match=rf"^[^\n]*{name} has \d+ bytes[^\n]*$"):
        Corpus.open(tmp_path / "ne")
    file.unlink()
    with pytest.raises(DataError, match=rf"^[^\n]*{name} is missing[^\n]*$"):
        Corpus.open(tmp_path / "ne")


def test_a_header_that_does_not_fit_is_one_line(tmp_path):
    write(tmp_path / "ne", random_sentences([3, 4]))
    file = tmp_path / "ne" / "header.json"
    header = json.loads(file.read_text())

    def old(content):
        """As a version wrote it whose headers had no hashes."""
        return json.dumps({k: v for k, v in content.items() if k not in ("files", "digest")})

    def error(content):
        file.write_text(content)
        with pytest.raises(DataError) as caught:
            Corpus.open(tmp_path / "ne")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "damaged" in error("{")
    assert "damaged" in error("[]")
    assert "format version 2, this library reads 1" in error(
        json.dumps({**header, "format_version": 2})
    )
    assert "lacks tokens" in error(json.dumps({k: v for k, v in header.items() if k != "tokens"}))
    assert "dtype uint8" in error(old({**header, "dtype": "uint8"}))
    assert "counts.bin has" in error(old({**header, "vocab_size": 9}))
    assert "offsets.bin runs from 0 to 9, expected 0 to 8" in error(old({**header, "tokens": 8}))
    assert "header.json was changed after it was written" in error(
        json.dumps({**header, "words": 77})
    )
    assert "was changed" in error(json.dumps({k: v for k, v in header.items() if k != "digest"}))
    file.write_text(old(header))
    Corpus.open(tmp_path / "ne")
    with pytest.raises(DataError, match="no corpus at"):
        Corpus.open(tmp_path / "none")
    with pytest.raises(DataError, match="not a folder"):
        Corpus.open(file)


def test_nothing_is_left_of_a_corpus_that_failed(tmp_path):
    with (
        pytest.raises(RuntimeError),
        CorpusWriter(tmp_path / "ne", language="ne", tokenizer=TOKENIZER),
    ):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_ids_outside_the_vocabulary_are_refused(tmp_path):
    with pytest.raises(DataError, match="ids from 3 to 200, but the tokenizer's are 0 to 199"):
        count_ids(np.array([3, 200]), 200)
    with pytest.raises(DataError):
        Corpus.from_sentences([[-1]], language="ne", tokenizer=TOKENIZER)
    assert id_type(200) == np.uint16


def test_a_damaged_id_on_disk_is_one_line(tmp_path, monkeypatch):
    """Its size is right: found where it is read, whichever way."""
    with CorpusWriter(tmp_path / "en", language="en", tokenizer=TOKENIZER) as writer:
        ids = np.array([20, 21, 1, 22, 1])
        writer.add(ids, np.array([3, 2]), TextSize(0, 0, 3, 9, 11))
    path = tmp_path / "en" / "ids.bin"
    content = np.fromfile(path, np.uint16)
    content[3] = 200
    content.tofile(path)
    with pytest.raises(
        DataError, match="ids.bin holds the id 200, but its vocabulary ends with 199"
    ):
        Corpus.open(tmp_path / "en", TOKENIZER)
    monkeypatch.setattr("xlm.data.corpus.CHECKED_AT_OPENING", 0)  # as of a large corpus
    corpus = Corpus.open(tmp_path / "en", TOKENIZER)
    assert corpus[0].tolist() == [20, 21]
    reads = [lambda: corpus[1], lambda: corpus.sentences(np.array([0, 1]))]
    corpora = Corpora(TOKENIZER, ["en"], texts={("train", "en"): corpus})
    stream = TextStream(corpora, "en", objective="mlm", rows=2, length=2)
    for read in (*reads, lambda: [stream.examples(k) for k in range(3)]):
        with pytest.raises(
            DataError, match=r"ids.bin holds the id 200, but its vocabulary ends with 199"
        ):
            read()


def test_runs_of_ids_from_any_place():
    """Inside, across both borders, and outside, where end symbols stand."""
    made = corpus([3, 2, 4])
    ids = made.ids.astype(np.int64).tolist()
    starts = np.array([0, 3, -2, len(ids) - 1, -9, len(ids) + 2, -1])
    found = made.runs(starts, 4)
    for row, start in zip(found.tolist(), starts.tolist(), strict=True):
        assert row == [ids[at] if 0 <= at < len(ids) else 1 for at in range(start, start + 4)]
