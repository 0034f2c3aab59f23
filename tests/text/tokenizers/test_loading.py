"""A tokenizer's folder gives it back; a folder that is not as it was written is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from xlm.errors import DataError
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

LINES = ["the cat sat on the mat", "नमस्ते संसार", "a dog ran"] * 5

Make = Callable[[], Tokenizer]


def _sentencepiece() -> Tokenizer:
    return learn_sentencepiece(LINES, 285)


def _fastbpe() -> Tokenizer:
    return FastBpeTokenizer(b"t h 2\nth e</w> 2\n", b"the 2\nc@@ 1\nat 1\n", max_vocab=16)


@pytest.mark.parametrize("make", [_sentencepiece, _fastbpe])
def test_save_and_load(make: Make, tmp_path: Path) -> None:
    tokenizer = make()
    tokenizer.save(tmp_path / "made" / "here")
    loaded = load_tokenizer(str(tmp_path / "made" / "here"))
    assert type(loaded) is type(tokenizer)
    assert loaded.digest == tokenizer.digest
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode_lines(LINES) == tokenizer.encode_lines(LINES)


@pytest.mark.parametrize("make", [_sentencepiece, _fastbpe])
def test_a_changed_file_is_refused(make: Make, tmp_path: Path) -> None:
    make().save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        if path.name == "tokenizer.json":
            continue
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        expected = json.loads((tmp_path / "tokenizer.json").read_text())["files"][path.name]
        with pytest.raises(
            DataError, match=rf"{path.name}: digest \w+ found, but .* says {expected}"
        ):
            load_tokenizer(tmp_path)
        path.write_bytes(content)
    load_tokenizer(tmp_path)


def test_changed_settings_are_refused(tmp_path: Path) -> None:
    _fastbpe().save(tmp_path)
    at = tmp_path / "tokenizer.json"
    text = at.read_text()
    at.write_text(text.replace('"max_vocab": 16', '"max_vocab": 17'))
    with pytest.raises(DataError, match=r"digest \w+ found"):
        load_tokenizer(tmp_path)
    for new, message in [
        (text.replace('"fastbpe"', '"wordpiece"'), "unknown kind 'wordpiece'"),
        (text.replace('"max_vocab"', '"most"'), "does not fit a tokenizer of kind 'fastbpe'"),
        (text.replace('"format": 1', '"format": 2'), "format 2, expected 1"),
        ("{", "does not describe a tokenizer"),
        ("[]", "does not describe a tokenizer"),
    ]:
        at.write_text(new)
        with pytest.raises(DataError, match=message):
            load_tokenizer(tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read \(No such file"):
        load_tokenizer(tmp_path)
    _fastbpe().save(tmp_path)
    (tmp_path / "codes").unlink()
    with pytest.raises(DataError, match=r"codes: cannot be read \(No such file"):
        load_tokenizer(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="^cannot write .*file: "):
        _fastbpe().save(tmp_path / "file")
