"""Model directories, tokenizers and prepared text that do not hold what they should."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

import xlm
from benchmarks.support.malformed import Case
from xlm.data.corpora import Corpora
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

CODE = b"cos\nsystem\n(S'x'\ntR."
CODES, VOCABULARY = b"a b 3\nab c</w> 2\n", b"ab@@ 5\nc 3\nabc 2\n"
JSON: dict[str, bytes] = {
    "nothing": b"",
    "cut": b'{"model_type": ',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a key twice": b'{"a": 1, "a": 2}',
    "a long key": b'{"' + b"k" * 100_000 + b'": 1, "model_type": "bert"}',
    "an empty object": b"{}",
    "a comment": b'{"a": 1} // x',
    "NaN": b"NaN",
}
BERT: dict[str, Any] = {
    "model_type": "bert", "vocab_size": 7, "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16,
    "type_vocab_size": 2, "hidden_act": "gelu",
}  # fmt: skip
WORDS = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n"
STRANGE: tuple[Any, ...] = (-1, 0, 1.5, "x", None, [], {}, True, 10**30, float("inf"))


@functools.cache
def _prepared() -> Mapping[str, bytes]:
    """The files of prepared text, by their paths."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "en.txt").write_text("the hill is green\nwe saw a goat\n" * 20)
        source = str(folder / "en.txt")
        prepare(
            Prepare(
                folder=str(folder / "data"),
                text=Texts(train={"en": source}, valid={"en": source}),
                vocabulary=Vocabulary(size=276),
                workers=1,
            )
        )
        data = folder / "data"
        files = [path for path in data.rglob("*") if path.is_file()]
        return {f"data/{path.relative_to(data)}": path.read_bytes() for path in files}


def cases() -> Iterator[Case]:
    """Sources of ``xlm.load``, tokenizers, and folders of prepared text."""
    yield from _sources()
    yield from _configs()
    yield from _weights()
    yield from _tokenizers()
    yield from _corpora()


def load(source: str) -> Callable[[Path], Any]:
    return lambda folder: xlm.load(source)


def _sources() -> Iterator[Case]:
    yield Case("load, missing", {}, load("./none"), r"^\./none does not exist")
    yield Case("load, a missing .pth", {}, load("none.pth"), "^none.pth does not exist")
    yield Case("load, a NUL", {}, load("a\0b"), "a name cannot contain a NUL character")
    yield Case("load, a long name", {}, load("n" * 5000), "^nnn")
    yield Case("load, an empty folder", {}, load("."), "holds no model")
    yield Case("load, a text", {"a.txt": b"x"}, load("a.txt"), "a.txt is a file, but not a model")
    yield Case("load, a folder of text", {"m/a.txt": b"x"}, load("m"), r"m holds no model \(a.txt")
    yield Case("load, prepared text", _prepared(), load("data"), "data holds prepared text")
    yield Case("load, an empty .pth", {"a.pth": b""}, load("a.pth"), "a.pth")
    yield Case(
        "load, a pickle of code", {"a.pth": b"cos\nsystem\n(S'x'\ntR."}, load("a.pth"), "a.pth"
    )
    yield Case("load, a text as .pth", {"a.pth": b"words\n" * 99}, load("a.pth"), "a.pth")
    yield Case("load, a pipe", {}, load("m"), "named pipe|no model", make=_pipe("m"))
    pipe = _pipe("m/config.json")
    yield Case("load, a pipe as config", {"m/x": b""}, load("m"), "config.json|no model", make=pipe)
    loop = functools.partial(_link, "m", "m")
    yield Case("load, a link to itself", {}, load("./m"), "m", make=loop)


def _pipe(name: str) -> Callable[[Path], None]:
    return lambda folder: os.mkfifo(folder / name)


def _link(target: str, name: str, folder: Path) -> None:
    os.symlink(target, folder / name)


def _configs() -> Iterator[Case]:
    for name, content in JSON.items():
        yield Case(f"config.json, {name}", {"m/config.json": content}, load("m"), "m")
        files = {"m/config.json": json.dumps(BERT).encode(), "m/vocab.txt": WORDS}
        index = {**files, "m/model.safetensors.index.json": content}
        yield Case(f"index of weights, {name}", index, load("m"), "m/")
        settings = {**files, "m/tokenizer_config.json": content}
        yield Case(f"tokenizer_config.json, {name}", settings, load("m"), "m")
        own = {"m/vocab.txt": WORDS, "m/config.json": files["m/config.json"]}
        yield Case(f"tokenizer.json, {name}", {**own, "m/tokenizer.json": content}, load("m"), "m")
    for key in BERT:
        for value in STRANGE:
            content = json.dumps({**BERT, key: value}).encode()
            files = {"m/config.json": content, "m/vocab.txt": WORDS}
            yield Case(f"BERT's {key} is {str(value)[:9]}", files, load("m"), "m")


def _weights() -> Iterator[Case]:
    files = {
        "m/config.json": json.dumps(BERT).encode(), "m/vocab.txt": WORDS,
        "m/tokenizer_config.json": b'{"do_lower_case": false}',
    }  # fmt: skip

    def case(name: str, content: bytes, file: str = "model.safetensors") -> Case:
        return Case(f"weights, {name}", {**files, f"m/{file}": content}, load("m"), "m")

    yield case("nothing", b"")
    yield case("words", b"words " * 99)
    yield case("a header that is too long", (10**12).to_bytes(8, "little") + b"{}")
    yield case("a header of nested lists", (10**5).to_bytes(8, "little") + b"[" * 10**5)
    yield case("no tensor", save({}))
    yield case("another tensor", save({"x": torch.ones(2)}))
    yield case("another shape", save({"bert.embeddings.word_embeddings.weight": torch.ones(3, 3)}))
    yield case("a pickle of code", b"cos\nsystem\n(S'x'\ntR.", "pytorch_model.bin")
    yield case("words in .bin", b"words " * 99, "pytorch_model.bin")
    many = {f"layer.{at}": torch.zeros(1) for at in range(20_000)}
    yield case("20,000 tensors", save(many))


def _tokenizers() -> Iterator[Case]:
    def fastbpe(name: str, codes: bytes, vocabulary: bytes, refused: str) -> Case:
        return Case(f"codes, {name}", {}, lambda _: FastBpeTokenizer(codes, vocabulary), refused)

    yield fastbpe("two columns", b"a b\n", VOCABULARY, "codes:1: found 'a b'")
    yield fastbpe("four columns", b"a b c 1\n", VOCABULARY, "codes:1: found")
    yield fastbpe("no number", b"a b c\n", VOCABULARY, "codes:1: found 'a b c'")
    yield fastbpe("not UTF-8", b"a \xff 1\n", VOCABULARY, "codes:1: invalid UTF-8")
    yield fastbpe("a long line", b"a" * 100_000 + b"\n", VOCABULARY, "codes:1: found 'aaa")
    yield fastbpe("subword-nmt 0.1", b"#version: 0.1\na b\n", VOCABULARY, "codes:1: .*0.1")
    yield fastbpe("bytes", "#version: 0.2\nĠ a\n".encode(), VOCABULARY, "codes:1: no merge ends")
    yield fastbpe("no vocabulary", CODES, b"", "vocabulary: no usable line")
    yield fastbpe("an order of its own", CODES, b"a 1\nb 2\n", "vocabulary:2: 'b' has count 2")
    yield fastbpe(
        "a vocabulary in UTF-16", CODES, VOCABULARY.decode().encode("utf-16"), "vocabulary"
    )
    for name, content in {**JSON, "words": b"words " * 99, "zeros": bytes(99)}.items():
        refused = "SentencePiece|model|expected"
        yield Case(
            f"SentencePiece, {name}", {}, functools.partial(_sentencepiece, content), refused
        )
        files = {"t/tokenizer.json": content}
        yield Case(f"tokenizer folder, {name}", files, lambda _: load_tokenizer("t"), "t/tokenizer")


def _sentencepiece(content: bytes, folder: Path) -> Any:
    return SentencePieceTokenizer(content)


def _corpora() -> Iterator[Case]:
    whole = _prepared()

    def opened(folder: Path) -> Any:
        corpora = Corpora.open("data")
        return [list(corpora.text(split, "en").ids[:3]) for split in ("train", "valid")]

    yield Case("prepared text", whole, opened)
    headers = [path for path in whole if path.endswith(".json") and "report" not in path]
    for path in headers:
        for name, content in JSON.items():
            yield Case(f"{path}, {name}", {**whole, path: content}, opened, "data/")
        yield Case(f"{path}, missing", _without(whole, path), opened, "data")
        make = functools.partial(_as_pipe, path)
        yield Case(f"{path}, a pipe", whole, opened, "named pipe|data", make=make)
    for path in whole:
        if not path.endswith(".json"):
            yield Case(f"{path}, missing", _without(whole, path), opened, "data", either=True)
            cut = {**whole, path: whole[path][:-1]}
            yield Case(f"{path}, cut", cut, opened, "data", either=True)


def _without(files: Mapping[str, bytes], path: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != path}


def _as_pipe(path: str, folder: Path) -> None:
    (folder / path).unlink()
    os.mkfifo(folder / path)
