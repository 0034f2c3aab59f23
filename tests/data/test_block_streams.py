"""Blocks: whole sentences that follow each other, each sentence in one block of an epoch."""

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer, random_sentences
from xlm.data.block_streams import BlockStream, cut_blocks
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.errors import DataError

TOKENIZER = WordTokenizer()
END = TOKENIZER.end_id


def stream(sizes: list[int], length: int, **settings) -> tuple[BlockStream, list[np.ndarray]]:
    sentences = random_sentences(sizes)
    text = Corpus.from_sentences(sentences, language="en", tokenizer=TOKENIZER)
    made = Corpora(TOKENIZER, ["en"], texts={("train", "en"): text})
    arguments = {"tokens_per_batch": 4 * length, "num_specials": 2, **settings}
    return BlockStream(made, "en", objective="ae", max_length=length, **arguments), sentences


def by_hand(sizes: list[int], longest: int) -> list[tuple[int, int]]:
    """One sentence after the other."""
    found, first, filled = [], 0, 0
    for at, size in enumerate([*sizes, longest + 1]):
        if at > first and filled + size > longest:
            found.append((first, at))
            first, filled = at, 0
        filled += size + 1
        if size > longest:
            first, filled = at + 1, 0
    return found


@pytest.mark.parametrize("seed", range(5))
def test_as_many_sentences_as_fit(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 15, 300).tolist()
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes) + 1)])
    for longest in (1, 6, 12, 30, 10_000):
        firsts, ends, num_long = cut_blocks(offsets, longest)
        found = list(zip(firsts.tolist(), ends.tolist(), strict=True))
        assert found == by_hand(sizes, longest)
        assert num_long == sum(size > longest for size in sizes)
        for first, end in found:
            assert sum(sizes[first:end]) + end - first - 1 <= longest


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_serves_each_sentence_once(shuffle: bool) -> None:
    sizes = np.random.default_rng(1).integers(1, 12, 200).tolist()
    sizes[17] = sizes[90] = 40
    sizes[5] = sizes[18] = 0
    made, sentences = stream(sizes, 32, num_lengths=3, shuffle=shuffle)
    seen: list[tuple[int, ...]] = []
    for k in range(made.num_batches):
        examples = made.examples(k)
        assert len(examples.first) * examples.length <= 4 * 32
        for block in examples.first:
            assert 0 < len(block) <= examples.length - 2 and END not in (block[0], block[-1])
            parts = np.split(block, np.flatnonzero(block == END))
            seen += [tuple(part[part != END].tolist()) for part in parts]
    expected = [tuple(own.tolist()) for own in sentences if 0 < len(own) <= 30]
    assert sorted(seen) == sorted(expected)
    assert made.num_dropped == 2 and made.num_sentences == len(sizes) - 2


def test_sentences_of_a_block_stand_in_the_order_of_the_text() -> None:
    made, sentences = stream([3, 4, 5, 2], 16, shuffle=False)
    blocks = {row: block for k in range(made.num_batches) for row, block in zip(
        made.examples(k).rows.tolist(), made.examples(k).first, strict=True)}  # fmt: skip
    end = np.array([END])
    first = np.concatenate([sentences[0], end, sentences[1], end, sentences[2]])
    assert np.array_equal(blocks[0], first) and np.array_equal(blocks[1], sentences[3])
    assert len(blocks) == 2 and made.padding < 0.5


def test_no_sentence_fits() -> None:
    with pytest.raises(DataError, match="none of the 2 sentences of the train text fits in len"):
        stream([9, 12], 8)
