from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from xlm.errors import ConfigError
from xlm.text.tokenizers.tokenizer import Tokenizer


class Letters(Tokenizer):
    vocab_size, end_id, pad_id, unk_id, mask_id = 256, 1, 2, 3, 4
    special_ids = frozenset(range(5))
    digest = "letters"

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


A, B = np.array([10, 11]), np.array([20, 21, 22])


@pytest.mark.parametrize(
    ("layout", "tokens", "positions", "segments"),
    [
        ("tlm", [1, 10, 11, 1, 1, 20, 21, 22, 1], [0, 1, 2, 3, 0, 1, 2, 3, 4], [0] * 4 + [1] * 5),
        ("tlm-run-on", [1, 10, 11, 1, 1, 20, 21, 22, 1], [*range(9)], [0] * 4 + [1] * 5),
        ("merged", [1, 10, 11, 1, 20, 21, 22, 1], [*range(8)], [0] * 3 + [1] * 5),
    ],
)
def test_pairs(layout: str, tokens: list[int], positions: list[int], segments: list[int]) -> None:
    wrapped = Letters().wrap(A, B, layout)
    assert [array.tolist() for array in wrapped] == [tokens, positions, segments]
    assert {array.dtype for array in wrapped} == {np.dtype(np.int64)}
    assert len(wrapped.tokens) == len(A) + len(B) + Letters().num_specials(layout, pair=True)


@pytest.mark.parametrize("layout", ["xlm", "merged"])
def test_one_sentence(layout: str) -> None:
    wrapped = Letters().wrap(A, layout=layout)
    assert [array.tolist() for array in wrapped] == [[1, 10, 11, 1], [0, 1, 2, 3], [0] * 4]
    assert len(wrapped.tokens) == len(A) + Letters().num_specials(layout, pair=False)


def test_layouts_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="unknown layout 'bert'"):
        Letters().wrap(A, B, "bert")
    with pytest.raises(ConfigError, match="'xlm' does not take a pair"):
        Letters().wrap(A, B, "xlm")
    with pytest.raises(ConfigError, match="'tlm' does not take one sentence"):
        Letters().wrap(A, None, "tlm")
