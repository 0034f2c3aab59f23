import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from subword_nmt.learn_bpe import learn_bpe  # type: ignore[import-untyped]

from xlm.errors import ConfigError
from xlm.text.tokenizers.learn_fastbpe import (
    _hash,
    _hash_order,
    count_words,
    fastbpe_vocabulary,
    learn_fastbpe,
    learn_fastbpe_tokenizer,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "bpe.json").read_text("utf-8"))


def test_golden_codes_and_vocabulary(shared: Path) -> None:
    """What the fastBPE program learnt on the golden training texts, byte for byte."""
    folder = shared / "golden" / "data"
    names = ("train.en", "train.en-fr.fr", "train.en-hi.hi")
    texts = [(folder / name).read_text("utf-8").replace("@@ ", "") for name in names]
    words = count_words(line for text in texts for line in text.split("\n"))
    codes = learn_fastbpe(words, 300)
    assert codes == (folder / "codes").read_bytes()
    assert fastbpe_vocabulary(words, codes) == (folder / "vocab").read_bytes()


def test_hash() -> None:
    """As a C++ program prints ``std::hash<std::string>`` (g++ 12)."""
    assert _hash(b"") == 6142509188972423790
    assert _hash(b"a") == 4993892634952068459
    assert _hash("नमस्ते संसार".encode()) == 11330876813709498505


def _naive_order(words: list[str]) -> list[int]:
    """The hash table itself, node by node, as the GNU library links and grows it."""
    sizes = iter([13, 29, 59, 127, 257, 541, 1109, 2357])
    size, nodes = next(sizes), list[int]()

    def insert(into: list[int], at: int) -> None:
        bucket = _hash(words[at].encode()) % size
        same = [k for k, other in enumerate(into) if _hash(words[other].encode()) % size == bucket]
        into.insert(same[0] if same else 0, at)

    for at in range(len(words)):
        if len(nodes) == size:
            size = next(sizes)
            grown: list[int] = []
            for node in nodes:
                insert(grown, node)
            nodes = grown
        insert(nodes, at)
    return nodes


@pytest.mark.parametrize("num", [1, 2, 13, 14, 29, 30, 150])
def test_order_of_the_hash_table(num: int) -> None:
    words = [f"word{k * k % 9973}x" for k in range(num)]
    assert list(_hash_order(words)) == _naive_order(words)


def test_order_as_a_compiler_has_it() -> None:
    """As a C++ program iterates over a ``std::unordered_map`` of these words (g++ 12)."""
    assert list(_hash_order([f"w{k}" for k in range(40)])) == [
        *(38, 36, 35, 34, 33, 32, 29, 10, 37, 14, 11, 16, 6, 5, 24, 19, 4, 39, 3, 8),
        *(22, 27, 7, 12, 13, 1, 9, 26, 0, 21, 15, 30, 18, 17, 20, 23, 31, 28, 2, 25),
    ]


def _naive_learner(counts: dict[str, int], num_merges: int) -> list[tuple[str, str, int]]:
    """Count all pairs anew for every merge; ties by the numbers of the symbols."""
    names: dict[str, int] = {}
    words = []
    items = list(counts.items())
    for at in _hash_order(list(counts)):
        word, number = items[at]
        symbols = [*word[:-1], word[-1] + "</w>"]
        words.append(([names.setdefault(s, len(names)) for s in symbols], number))
    spelled = list(names)
    learnt = []
    for _ in range(num_merges):
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, number in words:
            for pair in zip(ids, ids[1:], strict=False):
                pairs[pair] += number
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learnt.append((spelled[best[0]], spelled[best[1]], pairs[best]))
        spelled.append(spelled[best[0]] + spelled[best[1]])
        for ids, _ in words:
            at = 0
            while at < len(ids) - 1:
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [len(spelled) - 1]
                at += 1
    return learnt


@pytest.mark.parametrize("seed", range(4))
def test_against_counting_anew(seed: int) -> None:
    chance = random.Random(seed)
    words = {
        "".join(chance.choices("abcआ", k=chance.randint(1, 9))): chance.randint(1, 5)
        for _ in range(150)
    }
    codes = learn_fastbpe(words, 120).decode().splitlines()
    expected = _naive_learner(words, 120)
    assert codes == [f"{left} {right} {number}" for left, right, number in expected]


def test_against_subword_nmt(tmp_path: Path) -> None:
    """Where no two pairs are equally frequent, every learner agrees."""
    words = {"hugs": 1001, "hug": 5003, "pug": 2011, "pun": 7019, "bun": 409, "pugs": 53}
    peer: list[str] = []

    class Out:
        def write(self, line: str) -> None:
            peer.append(line)

    learn_bpe([f"{w} {n}\n" for w, n in words.items()], Out(), 7, min_frequency=1, is_dict=True)
    codes = learn_fastbpe(words, 7).decode().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in codes] == [line.strip() for line in peer[1:]]


def test_vocabulary_by_hand() -> None:
    words = {"aab": 3, "ab": 2, "b": 2}
    assert fastbpe_vocabulary(words, b"a b</w> 5\n") == b"ab 5\na@@ 3\nb 2\n"


def test_stops_where_nothing_is_left() -> None:
    assert learn_fastbpe({"ab": 2, "c": 1}, 50) == b"a b</w> 2\n"
    assert learn_fastbpe({"a": 2}, 50) == b""
    with pytest.raises(ConfigError, match="0 merges"):
        learn_fastbpe({"ab": 2}, 0)
    with pytest.raises(ConfigError, match="from 0 words"):
        learn_fastbpe({}, 5)


def test_tokenizer_knows_all_it_learnt_on() -> None:
    lines = [item["text"] for item in GOLDEN["items"]]
    tokenizer = learn_fastbpe_tokenizer(lines, 200)
    assert not any(tokenizer.unk_id in ids for ids in tokenizer.encode_lines(lines))
    assert [tokenizer.decode(tokenizer.encode(line)) for line in lines] == lines


def test_fast_enough() -> None:
    chance = random.Random(0)
    parts = ["".join(chance.choices("abcdefghij", k=3)) for _ in range(300)]
    words = {"".join(chance.choices(parts, k=3)): chance.randint(1, 99) for _ in range(10_000)}
    start = time.process_time()
    assert learn_fastbpe(words, 1000).count(b"\n") == 1000
    assert time.process_time() - start < 10
