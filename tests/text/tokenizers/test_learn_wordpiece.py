"""WordPiece vocabularies that are learned here."""

from __future__ import annotations

import pytest

from xlm import sample
from xlm.errors import ConfigError, DataError
from xlm.text.tokenizers.learn_wordpiece import SYMBOLS, learn_wordpiece
from xlm.text.tokenizers.loading import load_tokenizer


def lines(*languages: str) -> list[str]:
    files = [sample.path(f"train.{language}.txt") for language in languages]
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def both():
    return learn_wordpiece(lines("en", "ne"), 900)


def test_a_vocabulary_of_its_size_with_berts_symbols_and_layout(both):
    assert both.vocab_size == len(both.pieces) == 900
    assert list(both.pieces[:5]) == SYMBOLS
    ids = [both.pad_id, both.unk_id, both.begin_id, both.end_id, both.mask_id]
    assert ids == [0, 1, 2, 3, 4] and both.special_ids == frozenset(range(5))
    row = both.wrap([10, 11], [12], "merged")
    assert row.tokens.tolist() == [2, 10, 11, 3, 12, 3]
    assert row.segments.tolist() == [0, 0, 0, 0, 1, 1]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 5]


def test_case_and_vowel_signs_are_kept(both):
    for line in (*lines("en")[:40], *lines("ne")[:40]):
        ids = both.encode(line)
        assert both.unk_id not in ids
        # BERT's normalizer drops joiners
        assert both.decode(ids).replace(" ", "") == line.replace(" ", "").replace("\u200d", "")


def test_the_same_lines_give_the_same_vocabulary_and_it_is_saved(both, tmp_path):
    for _ in range(3):
        assert learn_wordpiece(lines("en", "ne"), 900).digest == both.digest
    both.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").digest == both.digest


def test_transformers_cuts_text_alike(both, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_bytes(both.content)
    peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for line in (*lines("en")[:20], *lines("ne")[:20]):
        assert peer(line, add_special_tokens=False)["input_ids"] == both.encode(line)


def test_sizes_that_the_text_cannot_give_are_refused():
    with pytest.raises(ConfigError, match=r"vocabulary.size 30: characters .* alone take \d+"):
        learn_wordpiece(lines("en"), 30)
    with pytest.raises(ConfigError, match=r"vocabulary.size 90000: the text yields at most \d+"):
        learn_wordpiece(lines("en"), 90_000)
    with pytest.raises(DataError, match="no line"):
        learn_wordpiece([], 100)
