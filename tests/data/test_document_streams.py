"""Rows of two parts of documents."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.document_streams import FOLLOWS, RANDOM, DocumentStream
from xlm.errors import ConfigError, DataError

LENGTHS = (4, 7, 2, 9, 5, 6, 3, 8)
TOKENIZER = WordTokenizer(10_000)


def corpora(num_documents: int = 40, bordered: bool = True) -> Corpora:
    """Return documents of one to eight sentences; no token occurs twice."""
    sentences, starts, at = [], [], 14
    for document in range(num_documents):
        starts.append(len(sentences))
        for sentence in range(1 + document % 8):
            size = LENGTHS[(document + sentence) % 8]
            sentences.append(np.arange(at, at + size))
            at += size
    made = Corpus.from_sentences(
        sentences,
        language="en",
        tokenizer=TOKENIZER,
        documents=np.array(starts) if bordered else None,
    )
    return Corpora(TOKENIZER, ["en"], texts={("train", "en"): made})


def stream(made: Corpora, **changes: object) -> DocumentStream:
    settings = {"objective": "nsp", "rows": 6, "length": 27, "num_specials": 3, **changes}
    return DocumentStream(made, "en", **settings)


def place(made: Corpora, token: int) -> tuple[int, int]:
    """Return document and sentence of a token."""
    text = made.text("train", "en")
    # tokens ascend from 14 on, and each sentence has an end symbol
    before = text.offsets - np.arange(len(text.offsets))
    sentence = int(np.searchsorted(before, token - 14, side="right")) - 1
    return int(np.searchsorted(text.documents, sentence, side="right")) - 1, sentence


def epoch(one: DocumentStream, number: int = 0) -> list[tuple[np.ndarray, np.ndarray, int, int]]:
    """Return the rows of an epoch, which begins where a whole number of batches has passed."""
    found = []
    first = number * one.num_rows
    for k in range(first // one.rows, (first + one.num_rows) // one.rows + 1):
        examples = one.examples(k)
        for at, row in enumerate(
            zip(examples.first, examples.second, examples.labels, examples.rows, strict=True)
        ):
            if first <= k * one.rows + at < first + one.num_rows:
                found.append(row)
    return found


def test_parts_are_whole_sentences_and_labels_are_true():
    made = corpora()
    text = made.text("train", "en")
    whole = {tuple(text.sentence(s)) for s in range(len(text))}
    rows = epoch(stream(made, short=0.0))
    for first, second, label, _ in rows:
        assert 2 <= len(first) + len(second) <= 24
        (own, last), (other, begins) = place(made, first[-1]), place(made, second[0])
        assert (label == FOLLOWS) == (own == other)
        if label == FOLLOWS:
            assert begins == last + 1
        for part in (first, second):
            places = [place(made, token) for token in part]
            assert len({document for document, _ in places}) == 1
            assert (np.diff(part) == 1).all()
            several = sorted({sentence for _, sentence in places})
            assert all(tuple(text.sentence(s)) in whole for s in several)
            assert len(part) == sum(len(text.sentence(s)) for s in several)


def test_an_epoch_has_every_chunk_once_and_divides_it_anew():
    one = stream(corpora())
    first, second = epoch(one, 0), epoch(one, 1)
    assert sorted(row for *_, row in first) == list(range(one.num_rows))
    assert sorted(row for *_, row in second) == list(range(one.num_rows))
    by_row = {row: (len(a), label) for a, _, label, row in first}
    assert any(by_row[row] != (len(a), label) for a, _, label, row in second)
    assert [row for *_, row in first] != [row for *_, row in second]


def test_half_of_the_rows_follow():
    one = stream(corpora(400))
    labels = Counter(label for e in range(5) for *_, label, _ in epoch(one, e))
    total = sum(labels.values())
    # 4 deviations of a fair coin
    assert abs(labels[FOLLOWS] / total - 0.5) < 2 / total**0.5
    assert set(labels) == {FOLLOWS, RANDOM}


def test_a_share_of_the_rows_is_shorter():
    """Sentences of one token fill every chunk to what it may have."""
    made = Corpus.from_sentences(
        np.arange(14, 10_000)[:, None],
        language="en",
        tokenizer=TOKENIZER,
        documents=np.array([0, 5_000]),
    )
    one = stream(Corpora(TOKENIZER, ["en"], texts={("train", "en"): made}), short=0.3, length=23)
    sizes = np.array([len(a) + len(b) for a, b, label, _ in epoch(one) if label == FOLLOWS])
    shorter = sizes[sizes < 20]
    assert set(sizes) <= set(range(2, 21)) and len(set(shorter)) > 12
    # a random length of 2 to 20 is shorter in 18 of 19 cases
    assert abs(len(shorter) / len(sizes) - 0.3 * 18 / 19) < 0.06
    assert abs(shorter.mean() - 10.5) < 1.5


def test_parts_that_do_not_fit_lose_their_outer_ends():
    made = corpora()
    for first, second, label, _ in epoch(stream(made, length=9)):
        assert 2 <= len(first) + len(second) <= 6 and len(first) and len(second)
        text = made.text("train", "en")
        _, last = place(made, first[-1])
        _, begins = place(made, second[0])
        assert first[-1] == text.sentence(last)[-1] and second[0] == text.sentence(begins)[0]
        if label == FOLLOWS:
            assert second[0] == first[-1] + 1


def test_batches_are_functions_of_their_number():
    made = corpora()
    one, other = stream(made, seed=3), stream(made, seed=3)
    other.examples(0)
    for k in (11, 2):
        a, b = one.examples(k), other.examples(k)
        assert all(np.array_equal(x, y) for x, y in zip(a.first, b.first, strict=True))
        assert all(np.array_equal(x, y) for x, y in zip(a.second, b.second, strict=True))
        assert np.array_equal(a.labels, b.labels) and np.array_equal(a.rows, b.rows)
    assert not np.array_equal(stream(made, seed=4).examples(0).rows, one.examples(0).rows)


def test_held_out_text_is_read_once_and_in_order():
    one = stream(corpora(), shuffle=False)
    rows = np.concatenate([one.examples(k).rows for k in range(one.num_batches)])
    assert rows.tolist() == list(range(one.num_rows))
    with pytest.raises(IndexError):
        one.examples(one.num_batches)


def test_text_without_borders_and_rows_without_room_are_refused():
    with pytest.raises(DataError, match="put an empty line between documents and prepare"):
        stream(corpora(bordered=False))
    with pytest.raises(ConfigError, match="and at least 5 tokens, 3 of them special"):
        stream(corpora(), length=4)
