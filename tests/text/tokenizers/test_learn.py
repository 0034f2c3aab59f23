from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError
from xlm.text.tokenizers.learn import allocate_draws, count_lines, learn_sentencepiece, sample_lines

LINES = [
    "the cat sat on the mat and the dog ran to the river",
    "she opened the window , then closed the door again",
    "नमस्ते संसार , यो एउटा सानो परीक्षण हो ।",
] * 10


@given(
    st.dictionaries(st.text("abc", min_size=2), st.integers(1, 10**9), min_size=1, max_size=6),
    st.floats(0, 2),
    st.integers(1, 10**6),
)
def test_allocation(counts: dict[str, int], alpha: float, num_draws: int) -> None:
    draws = allocate_draws(counts, alpha, num_draws)
    assert sum(draws.values()) == num_draws
    total = sum(counts.values())
    weights = {language: (count / total) ** alpha for language, count in counts.items()}
    for language, number in draws.items():
        expected = num_draws * weights[language] / sum(weights.values())
        assert abs(number - expected) < 1 + 1e-6


def test_allocation_by_hand() -> None:
    # sqrt(1) : sqrt(9) : sqrt(36) = 1 : 3 : 6
    counts = {"ne": 100, "hi": 900, "en": 3600}
    assert allocate_draws(counts, 0.5, 1000) == {"ne": 100, "hi": 300, "en": 600}
    assert allocate_draws(counts, 1.0, 46) == {"ne": 1, "hi": 9, "en": 36}
    assert allocate_draws(counts, 0.0, 8) == {"en": 3, "hi": 3, "ne": 2}
    with pytest.raises(ConfigError, match="num_draws 0"):
        allocate_draws(counts, 0.5, 0)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, list[str]]:
    sizes = {"big": [900, 100], "small": [40]}
    paths: dict[str, list[str]] = {}
    for language, parts in sizes.items():
        for part, size in enumerate(parts):
            path = tmp_path / f"{language}.{part}"
            path.write_text("".join(f"{language} {part} {k}\n\n" for k in range(size)))
            paths.setdefault(language, []).append(str(path))
    return paths


def test_sampling(sources: dict[str, list[str]]) -> None:
    assert count_lines(sources) == {"big": 1000, "small": 40}
    drawn = Counter(sample_lines(sources, num_draws=600, seed=3))
    by_language = Counter[str]()
    for line, number in drawn.items():
        by_language[line.split()[0]] += number
    # sqrt(1000) : sqrt(40) = 5 : 1; 100 draws of 40 lines: two passes and 20 lines a third time
    assert by_language == {"big": 500, "small": 100}
    assert {number for line, number in drawn.items() if line.startswith("big")} == {1}
    small = Counter(number for line, number in drawn.items() if line.startswith("small"))
    assert small == {2: 20, 3: 20}
    both_parts = Counter(line.split()[1] for line in drawn if line.startswith("big"))
    assert 20 < both_parts["1"] < 80  # hypergeometric, mean 50, sd 4.7


def test_draws_are_fixed_by_the_seed(sources: dict[str, list[str]]) -> None:
    def draw(seed: int) -> list[str]:
        return list(sample_lines(sources, num_draws=300, seed=seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    alone = {line for line in draw(1) if line.startswith("small")}
    again = sample_lines({"small": sources["small"]}, num_draws=10, seed=1)
    assert set(again) <= {f"small 0 {k}" for k in range(40)} and len(alone) > 10


def test_no_more_draws_than_sentences(sources: dict[str, list[str]]) -> None:
    assert len(list(sample_lines(sources, num_draws=10**9))) == 1040
    assert len(list(sample_lines(sources))) == 1040


def test_functions_as_sources() -> None:
    def lines() -> Iterator[str]:
        yield from (f"line {k}" for k in range(50))

    assert sorted(sample_lines({"xx": [lines, lines]})) == sorted([*lines(), *lines()])


def test_text_that_is_not_there_or_changes(tmp_path: Path) -> None:
    (tmp_path / "blank").write_text("\n \n")
    with pytest.raises(DataError, match="language 'xx' has no usable line.*2 dropped"):
        list(sample_lines({"xx": [str(tmp_path / "blank")]}))
    (tmp_path / "a").write_text("a\nb\n")
    for number in (1, 3):
        with pytest.raises(DataError, match="text of language 'xx' changed"):
            list(sample_lines({"xx": [str(tmp_path / "a")]}, counts={"xx": number}))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_learning_is_deterministic(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = (learn_sentencepiece(iter(LINES), 310, kind=kind) for _ in range(2))
    assert first.model == second.model
    assert first.vocab_size == 310
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sizes_that_cannot_be(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"vocabulary.size 5000: the text yields at most (\d+)"
    ) as caught:
        learn_sentencepiece(LINES, 5000, kind=kind)
    largest = int(str(caught.value).split("at most ")[1].split(":")[0])
    assert learn_sentencepiece(LINES, largest, kind=kind).vocab_size == largest
    with pytest.raises(ConfigError, match=r"vocabulary.size 20: .* alone take \d+"):
        learn_sentencepiece(LINES, 20, kind=kind)
    assert capfd.readouterr() == ("", "")


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="kind 'wordpiece'"):
        learn_sentencepiece(LINES, 300, kind="wordpiece")
    with pytest.raises(DataError, match="no line"):
        learn_sentencepiece([], 300)


def test_without_byte_fallback() -> None:
    tokenizer = learn_sentencepiece(LINES, 60, byte_fallback=False)
    assert tokenizer.unk_id in tokenizer.encode("🦜")


def test_rare_characters_are_bytes_below_full_coverage() -> None:
    rare = [chr(0x4E00 + at) for at in range(20)]
    lines = [*["abcd dcba bcda cabd adbc"] * 600, *(f"abcd {character}" for character in rare)]
    full = learn_sentencepiece(lines, 288)
    cut = learn_sentencepiece(lines, 270, character_coverage=0.998)
    for character in rare:
        text = f"abcd {character}"
        assert full.decode(full.encode(text)) == cut.decode(cut.encode(text)) == text
    num_bytes = [len(cut.encode(one)) - len(full.encode(one)) for one in rare]
    assert sum(extra >= 2 for extra in num_bytes) >= 10 and max(num_bytes) == 3 - 1
