"""Models and data in and out: what is said, what is measured, and hostile files at the verbs."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.interchange.original_data import LANGUAGES, learn, lines_of, write_data
from xlm import convert
from xlm.__main__ import VERBS, run
from xlm.convert import Export, Import, export_model, import_model
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.bit_parity import compare_bits
from xlm.interchange.parity import TOLERANCE, Parity
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

GOLDEN = Path(os.environ.get("XLM_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)
NUM_LINES = 3 * 2 * 20
"""Lines that tokenizers are compared on in these tests."""


@pytest.fixture(autouse=True)
def few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lines of the sample instead of all."""
    from xlm.interchange import tokenizer_parity

    def first() -> list[str]:
        names = [f"{split}.{name}.txt" for name in LANGUAGES for split in ("train", "valid")]
        return [line for name in names for line in lines_of(name)[:20]]

    monkeypatch.setattr(tokenizer_parity, "_sample_lines", first)


@pytest.fixture(scope="module")
def fast() -> FastBpeTokenizer:
    return learn()


@pytest.fixture
def data(fast: FastBpeTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_data(tmp_path, monkeypatch, fast)


@pytest.fixture(scope="module")
def unigram() -> Tokenizer:
    lines = [line for name in LANGUAGES for line in lines_of(f"valid.{name}.txt")]
    return learn_sentencepiece(lines, 500)


def made(tokenizer: Tokenizer, languages: dict[str, int], **shape: Any) -> PretrainedModel:
    """A random model, every parameter away from where it starts."""
    config = ModelConfig(
        **{"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 48, **shape}
    )
    model = Transformer(
        config,
        vocab_size=tokenizer.vocab_size,
        num_languages=len(languages) or 1,
        pad_id=tokenizer.pad_id,
    )
    shake(model)
    return PretrainedModel(model.eval(), tokenizer, languages)


@torch.no_grad()
def shake(model: torch.nn.Module) -> None:
    random = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        noise = 0.2 * torch.randn(value.shape, generator=random)
        value.copy_(noise + 1 if "norm" in name.lower() and name.endswith("weight") else noise)


@pytest.fixture
def mine(fast: FastBpeTokenizer, tmp_path: Path) -> Path:
    """A model directory of ours, in XLM's shape."""
    made(fast, LANGUAGES).save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def fails(capsys: pytest.CaptureFixture[str], verb: str, *arguments: object) -> str:
    """The one line that a verb says when it exits with 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(verb, [str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == "", err
    assert err.startswith(f"xlm {verb}: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err


# Models.


@pytest.mark.parametrize("causal", [False, True])
def test_out_and_in_again(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], causal: bool
) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    run("export", [str(mine), str(out), "--format", "xlm", "--causal", str(causal).lower()])
    said = capsys.readouterr().out
    assert "model: 2 layers, 16 wide, 2 heads, 48 positions, " in said
    assert "languages: en, hi, ne\n" in said and "tokenizer: FastBpe, " in said
    assert "parity with XLMWithLMHeadModel of transformers" in said and "lost: " in said
    assert f"with bypass_tokenizer: {NUM_LINES} of {NUM_LINES} lines identical" in said
    run("import", [str(out), str(back)])
    said = capsys.readouterr().out
    assert said.endswith(f"written: {back}\n") and "parity with XLMWithLMHeadModel" in said
    model = PretrainedModel.open(back)
    weights = PretrainedModel.open(mine).transformer.state_dict()
    assert all(torch.equal(weights[n], t) for n, t in model.transformer.state_dict().items())
    assert model.languages == LANGUAGES and model.extra["causal"] is causal
    for folder in (out, back):
        content = json.loads((folder / "parity.json").read_text())
        assert 0 < content["logits"] < 1e-5 and 0 < content["hidden"] < 1e-5
        assert content["agrees"] and content["tolerance"] == TOLERANCE
        assert content["batches"] == ["full rows", "padding", "pairs", "a whole window"]
        assert content["tokenizer"][1]["identical"] == NUM_LINES
    assert str(tmp_path) not in (out / "parity.json").read_text()
    # what transformers was given it loads by itself: a peer of the peer
    config = transformers.AutoConfig.from_pretrained(out)
    assert config.causal is causal and config.lang2id == LANGUAGES


def test_a_vocabulary_that_is_reordered(unigram: Tokenizer, tmp_path: Path) -> None:
    shape = {"num_segments": 1, "output_transform": True, "layer_norm_eps": 1e-5}
    model = made(unigram, {}, **shape)
    model.save_pretrained(tmp_path / "mine")
    out, mine = tmp_path / "out", str(tmp_path / "mine")
    result = export_model(Export(source=mine, folder=str(out), format="xlm-roberta"))
    assert result.parity.logits is not None and 0 < result.parity.logits < 1e-5
    lines, raw = result.parity.tokenizer
    assert (lines.lines, lines.identical) == (NUM_LINES, NUM_LINES)
    assert raw.identical < raw.lines and any("normal form" in line for line in result.lost)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(out).get_input_embeddings().weight
    assert not torch.equal(theirs[: unigram.vocab_size], model.transformer.encoder.words.weight)


def test_bert_out_and_in(unigram: Tokenizer, tmp_path: Path) -> None:
    shape = {"num_segments": 2, "output_transform": True}
    made(unigram, {}, **shape).save_pretrained(tmp_path / "mine")
    out = str(tmp_path / "out")
    first = export_model(Export(source=str(tmp_path / "mine"), folder=out, format="bert"))
    second = import_model(Import(source=out, folder=str(tmp_path / "back")))
    for result in (first, second):
        assert result.parity.peer is not None and "BertForMaskedLM" in result.parity.peer
        assert result.parity.logits is not None and 0 < result.parity.logits < 1e-5


def test_an_original_file_is_judged_by_transformers(fast: FastBpeTokenizer, tmp_path: Path) -> None:
    peer, path = original(fast, tmp_path)
    result = import_model(Import(source=str(path), folder=str(tmp_path / "new")))
    assert result.parity.logits is not None and 0 < result.parity.logits < 1e-5
    assert any(line.startswith("optimizer state") for line in result.lost)
    batch = result.model.batch([lines_of("valid.hi.txt")[0]], "hi")
    given = {"input_ids": batch.tokens, "langs": batch.langs, "lengths": batch.lengths}
    with torch.no_grad():  # the tensors' own model: not what we wrote
        expected = peer(**given).logits[0]
        hidden = result.model.encode(batch)
        found = result.model.transformer.predict(hidden, torch.arange(hidden.shape[1]))
    assert float(expected.std()) > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def original(tokenizer: FastBpeTokenizer, folder: Path) -> tuple[Any, Path]:
    """A .pth in the original's layout, with the tensors of a model of transformers."""
    config = transformers.XLMConfig(
        vocab_size=tokenizer.vocab_size, emb_dim=16, n_layers=1, n_heads=2, n_langs=3, pad_index=2,
        max_position_embeddings=512,
    )  # fmt: skip
    peer = transformers.XLMWithLMHeadModel(config).eval()
    shake(peer)
    words = list(tokenizer.pieces)
    params = {
        "emb_dim": 16, "n_layers": 1, "n_heads": 2, "dropout": 0.1, "attention_dropout": 0.1,
        "gelu_activation": True, "share_inout_emb": True, "sinusoidal_embeddings": False,
        "use_lang_emb": True, "use_memory": False, "asm": False, "encoder_only": True, "n_langs": 3,
        "lang2id": LANGUAGES, "id2lang": {v: k for k, v in LANGUAGES.items()},
        "n_words": len(words), "bos_index": 0, "eos_index": 1, "pad_index": 2, "unk_index": 3,
        "mask_index": 5,
    }  # fmt: skip
    state = {name.removeprefix("transformer."): t for name, t in peer.state_dict().items()}
    state.pop("position_ids", None)
    content = {
        "model": state, "model_optimizer": {"state": {}}, "params": params,
        "dico_id2word": dict(enumerate(words)),
        "dico_word2id": {word: at for at, word in enumerate(words)},
        "dico_counts": dict(zip(words, tokenizer.counts, strict=True)),
    }  # fmt: skip
    path = folder / "model.pth"
    torch.save(content, path)
    (folder / "codes").write_bytes(tokenizer.codes)
    return peer, path


def test_languages_without_a_table_are_named(fast: FastBpeTokenizer) -> None:
    model = made(fast, {}, language_embeddings=False)
    assert convert.describe(model)[1] == "languages: not told apart"
    model.extra["languages"] = {"en": 0, "hi": 1}
    assert convert.describe(model)[1] == "languages: not told apart (trained on en, hi)"


@golden
def test_no_peer_holds_an_encoder_and_decoder(tmp_path: Path) -> None:
    files = {"codes": str(GOLDEN / "data/codes"), "vocabulary": str(GOLDEN / "data/vocab")}
    source = str(GOLDEN / "mt/periodic-8.pth")
    result = import_model(Import(source=source, folder=str(tmp_path / "mt"), **files))
    assert result.parity.peer is None and result.parity.agrees
    assert "no peer holds this shape" in result.parity.notes[0]
    assert "decoder of 2 layers" in result.describe()[0]


def test_a_directory_of_ours_comes_back_bit_for_bit(mine: Path, tmp_path: Path) -> None:
    result = import_model(Import(source=str(mine), folder=str(tmp_path / "copy")))
    assert result.parity.peer is None and "bit for bit" in result.parity.notes[0]
    other = PretrainedModel.open(mine)
    with torch.no_grad():
        other.transformer.encoder.output_bias[3] += 1e-3
    with pytest.raises(
        CheckpointError, match="read back differ in encoder.output_bias \\(of 30 tensors"
    ):
        compare_bits(result.model, other)


def test_a_difference_is_told_and_ends_with_1(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xlm.interchange.transformers import xlm as transformers_xlm

    write = transformers_xlm.write_transformers_xlm

    def wrong(model: PretrainedModel, folder: Path, **given: Any) -> list[str]:
        """Writes another bias than the model has."""
        lost = write(model, folder, **given)
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors["pred_layer.proj.bias"][7] += 1e-3
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return lost

    monkeypatch.setattr(transformers_xlm, "write_transformers_xlm", wrong)
    with pytest.raises(SystemExit) as caught:
        run("export", [str(mine), str(tmp_path / "out"), "--format=xlm"])
    said = capsys.readouterr()
    assert caught.value.code == 1 and said.err.count("\n") == 1
    assert "is not the same model" in said.err and "written: " not in said.out
    content = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert not content["agrees"] and content["logits"] == pytest.approx(1e-3, rel=0.02)


def test_an_export_that_transformers_rejects_ends_with_1(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the note of a parity that nobody measured, and success."""
    import transformers

    def rejected(*given: Any, **named: Any) -> Any:
        raise ValueError("what is this?")

    monkeypatch.setattr(transformers.XLMWithLMHeadModel, "from_pretrained", rejected)
    with pytest.raises(SystemExit) as caught:
        run("export", [str(mine), str(tmp_path / "out"), "--format=xlm"])
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert "cannot open" in out and "what is this?" in out and "written" not in out
    assert "transformers rejects it" in err


def test_without_transformers_nothing_is_claimed(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = export_model(Export(source=str(mine), folder=str(tmp_path / "out"), format="xlm"))
    assert result.parity.peer is None and result.parity.logits is None
    assert "not measured" in result.parity.notes[0] and "extra hf" in result.parity.notes[0]


def test_parity_can_be_left_out(mine: Path, tmp_path: Path) -> None:
    config = Export(source=str(mine), folder=str(tmp_path / "out"), format="xlm", parity=False)
    assert export_model(config).parity == Parity()


def test_what_differs_is_not_hidden() -> None:
    far = Parity(peer="p", logits=float("inf"), hidden=0.0, cells=1, batches=("full rows",))
    assert not far.agrees and far.to_json()["logits"] is None and not far.to_json()["agrees"]
    assert Parity(hidden=2e-4).agrees is False and Parity(logits=9e-5, hidden=0.0).agrees


def test_what_is_in_the_way_is_refused(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(taken)
    file.write_text("")
    for folder in (taken, link, file):
        said = fails(capsys, "export", mine, folder, "--format=xlm")
        assert str(folder) in said and "Traceback" not in said
        fails(capsys, "import", mine, folder)
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]
    (tmp_path / "scratch").mkdir()
    (tmp_path / "free").symlink_to(tmp_path / "scratch")
    export_model(
        Export(source=str(mine), folder=str(tmp_path / "free"), format="xlm", parity=False)
    )
    assert (tmp_path / "free").is_symlink() and (tmp_path / "scratch/config.json").exists()
    assert "has no causal models" in fails(
        capsys, "export", mine, tmp_path / "out", "--format=bert", "--causal=true"
    )
    said = fails(capsys, "export", mine, tmp_path / "out", "--format=xlm-roberta")
    assert "language" in said and "output_transform" in said
    said = fails(capsys, "export", mine, tmp_path / "out", "--format=gpt")
    assert "xlm-roberta" in said
    said = fails(capsys, "export", mine, tmp_path / "out")
    assert "format" in said
    fails(capsys, "import", tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_an_empty_folder_is_room(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_model(Export(source=str(mine), folder=str(tmp_path / "out"), format="xlm", parity=False))
    assert (tmp_path / "out" / "config.json").is_file()


@pytest.mark.parametrize("verb", ["import", "export"])
def test_help_and_the_module(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(verb, ["--help"])
    assert caught.value.code == 0 and verb in VERBS
    shown = capsys.readouterr().out
    cls = {"import": Import, "export": Export}[verb]
    assert all(f"--{name}" in shown for name in cls.__dataclass_fields__)


def test_the_module_is_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xlm.convert", "imprt"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == (
        "xlm.convert: found 'imprt', expected import or export\n"
    )


# Hostile files: whatever comes in, one line, nothing run, nothing written outside.


class Payload:
    """Writes the sentinel when it is unpickled."""

    def __init__(self, command: str):
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


Hostile = Callable[[Path, Path, str], Path]
"""Makes the source from a good model directory, a scratch folder and a command to be run."""


def pickled_model(mine: Path, folder: Path, command: str) -> Path:
    torch.save({"model": Payload(command)}, folder / "model.pth")
    return folder / "model.pth"


def pickled_legacy(mine: Path, folder: Path, command: str) -> Path:
    path = folder / "model.pth"
    torch.save({"model": Payload(command)}, path, _use_new_zipfile_serialization=False)
    return path


def pickled_weights(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "foreign"
    export_model(Export(source=str(mine), folder=str(out), format="xlm", parity=False))
    (out / "model.safetensors").unlink()
    torch.save({"transformer.embeddings.weight": Payload(command)}, out / "pytorch_model.bin")
    return out


def pickled_data(mine: Path, folder: Path, command: str) -> Path:
    (folder / "data").mkdir()
    torch.save({"dico": Payload(command)}, folder / "data" / "train.en.pth")
    (folder / "data" / "codes").write_text("a b 1\n")
    return folder / "data"


def pickled_fairseq(mine: Path, folder: Path, command: str) -> Path:
    (folder / "fairseq").mkdir()
    torch.save({"args": Payload(command), "model": {}}, folder / "fairseq" / "model.pt")
    (folder / "fairseq" / "dict.txt").write_text("a 1\n")
    return folder / "fairseq"


def tokenizer_outside(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "mine"
    shutil.copytree(mine, out)
    path = out / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["files"]["../../secret"] = content["files"].pop("codes")
    path.write_text(json.dumps(content))
    shutil.copy(out / "tokenizer" / "codes", folder / "secret")
    return out


def shards_outside(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "foreign"
    export_model(Export(source=str(mine), folder=str(out), format="xlm", parity=False))
    (out / "model.safetensors").rename(folder / "secret.safetensors")
    index = {"weight_map": {"transformer.embeddings.weight": "../secret.safetensors"}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    return out


def manifest_outside(mine: Path, folder: Path, command: str) -> Path:
    (folder / "run").mkdir()
    shutil.copy(mine / "config.json", folder / "secret")
    manifest = {"format_version": 1, "files": {"../secret": {"size": 1, "sha256": "0" * 64}}}
    (folder / "run" / "manifest.json").write_text(json.dumps(manifest))
    return folder / "run"


def zip_bomb(mine: Path, folder: Path, command: str) -> Path:
    path = folder / "model.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("model/data.pkl", "w") as entry:
            for _ in range(64):
                entry.write(bytes(1 << 20))
    return path


def zip_outside(mine: Path, folder: Path, command: str) -> Path:
    path = folder / "model.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../secret", "x")
        file.writestr("model/data.pkl", b"\x80\x02}.")
    return path


def linked_away(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "mine"
    shutil.copytree(mine, out)
    (out / "tokenizer" / "codes").unlink()
    (out / "tokenizer" / "codes").symlink_to(mine / "tokenizer" / "vocab")
    return out


def deep_json(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "mine"
    shutil.copytree(mine, out)
    (out / "config.json").write_text('{"format": ' + "[" * 200_000)
    return out


def deep_tokenizer(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "mine"
    shutil.copytree(mine, out)
    (out / "tokenizer" / "tokenizer.json").write_text("[" * 200_000)
    return out


def huge_json(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "foreign"
    out.mkdir()
    with open(out / "config.json", "wb") as file:
        file.truncate(1 << 34)  # a hole, of no bytes on the disk
    return out


def huge_header(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "mine"
    shutil.copytree(mine, out)
    (out / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    return out


def huge_numbers(mine: Path, folder: Path, command: str) -> Path:
    out = folder / "mine"
    shutil.copytree(mine, out)
    content = json.loads((out / "config.json").read_text())
    content["model"] |= {"dim": 1 << 40, "num_layers": 3}
    (out / "config.json").write_text(json.dumps(content))
    return out


HOSTILE: list[Hostile] = [
    pickled_model, pickled_legacy, pickled_weights, pickled_data, pickled_fairseq,
    tokenizer_outside, shards_outside, manifest_outside, zip_bomb, zip_outside, linked_away,
    deep_json, deep_tokenizer, huge_json, huge_header, huge_numbers,
]  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_files(
    make: Hostile, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentinel, scratch = tmp_path / "sentinel", tmp_path / "scratch"
    scratch.mkdir()
    source = make(mine, scratch, f"touch {sentinel}")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    said = fails(capsys, "import", source, tmp_path / "out")
    assert len(said) < 2000
    assert not sentinel.exists() and not (tmp_path / "out").exists()
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_payloads_would_do_it(mine: Path, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    for at, make in enumerate((pickled_model, pickled_data)):
        (tmp_path / str(at)).mkdir()
        sentinel = tmp_path / f"sentinel-{at}"
        path = make(mine, tmp_path / str(at), f"touch {sentinel}")
        torch.load(path / "train.en.pth" if path.is_dir() else path, weights_only=False)
        assert sentinel.exists()


def test_config_errors_are_errors_of_the_library() -> None:
    assert issubclass(ConfigError, ValueError)
