"""``xlm.load``: every source, and one line for what is none."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import xlm
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange import load as loading
from xlm.interchange.load import fetch, load, open_tokenizer
from xlm.model.pretrained import PretrainedModel
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import Result, pretrain
from xlm.run.config import ModelConfig, Run, Schedule
from xlm.training import retention
from xlm.training.restore import find_checkpoint

BESIDE = Path(__file__).parents[2].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", BESIDE))


def recipe(data: Path, folder: Path, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "data": str(data),
        "folder": str(folder),
        "objectives": {"mlm": MaskedLM(languages=["en", "ne"], rows=4, length=32)},
        "model": ModelConfig(dim=16, num_layers=1, num_heads=2, max_positions=64),
        "steps": 4,
        "group_size": 1,
        "schedule": Schedule(peak_lr=1e-2, warmup_steps=1),
        "evaluate_every": 2,
        "save_every": 2,
        "tensorboard": False,
        "device": "cpu",
    }
    return Run(**{**settings, **changes})


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, debug_data: Path) -> Result:
    return pretrain(recipe(debug_data, tmp_path_factory.mktemp("loaded") / "run", average=0.5))


@pytest.fixture
def run(result: Result, tmp_path: Path) -> Path:
    """A copy of the run's folder, to be damaged."""
    return Path(shutil.copytree(result.folder, tmp_path / "run"))


def same(first: PretrainedModel, second: PretrainedModel) -> bool:
    tensors = first.transformer.state_dict(), second.transformer.state_dict()
    assert list(tensors[0]) == list(tensors[1])
    assert first.languages == second.languages
    assert first.tokenizer.digest == second.tokenizer.digest
    return all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


# Our own.


def test_importing_xlm_does_not_import_torch(root: Path) -> None:
    code = (
        "import sys, xlm; assert 'torch' not in sys.modules; assert callable(xlm.load); "
        "assert 'torch' in sys.modules\n"
        "try: xlm.lod\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("module 'xlm' has no attribute 'lod'\n", "")


def test_a_run_s_averaged_weights_are_loaded(run: Path, result: Result) -> None:
    model = xlm.load(run)
    best = find_checkpoint(run, "best")
    assert best.step == result.state.best_step
    averages = best.tensors("averaged")
    assert not model.transformer.training and model.languages == {"en": 0, "ne": 1}
    for name, value in model.transformer.state_dict().items():
        assert torch.equal(value, averages[f"model.{name}"]), name
    assert model.extra == {
        "step": best.step,
        "averaged": True,
        "objectives": ["MaskedLM"],
        "tokens_seen": sum(best.state["train_state"]["tokens"].values()),
    }
    assert same(load(best.path), model)


def test_the_latest_checkpoint_on_demand(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = load(run / "checkpoints" / "step-00000002")
    monkeypatch.setattr(retention, "best_step", lambda folder: 2)
    assert same(load(run), oldest)
    assert load(run, which="latest").extra["step"] == 4
    assert not same(load(run, which="latest"), oldest)


def test_a_finished_run_leaves_a_model_directory(run: Path) -> None:
    model = load(run / "model")
    assert same(model, load(run))
    batch = model.batch(["one two"], "en")
    assert torch.equal(model.encode(batch), load(run).encode(batch))
    description = json.loads((run / "model" / "config.json").read_text())
    assert description["extra"]["averaged"] is True
    assert str(run) not in (run / "model" / "config.json").read_text()


def test_heads_of_a_model_directory_are_there_too(run: Path) -> None:
    model = load(run)
    model.heads["heads.nli.bias"] = torch.ones(3)
    model.save_pretrained(run / "tuned")
    heads = load(run / "tuned").heads
    assert list(heads) == ["heads.nli.bias"] and torch.equal(heads["heads.nli.bias"], torch.ones(3))


def test_a_run_of_classes_that_are_gone_can_be_loaded(run: Path) -> None:
    """The objectives are nobody's business here."""
    loaded = find_checkpoint(run, "best")
    expected = loading.read_checkpoint(loaded)
    path = loaded.path / "config.yaml"
    assert "xlm.objectives.masked.MaskedLM" in path.read_text()
    path.write_text(path.read_text().replace("xlm.objectives.masked.MaskedLM", "gone.Away"))
    assert same(loading.read_checkpoint(loaded), expected)


@pytest.mark.parametrize(
    "find, put, expected",
    [
        ("dim: 16", "dim: 32", "its tensors do not fit its config.yaml"),
        ("dim: 16", "dimension: 16", "model settings cannot be built by this version"),
        ("dim: 16", "dim: [", "model settings cannot be built"),
    ],
)
def test_a_checkpoint_whose_config_is_another_s(
    run: Path, find: str, put: str, expected: str
) -> None:
    loaded = find_checkpoint(run, "best")
    path = loaded.path / "config.yaml"
    path.write_text(path.read_text().replace(find, put))
    with pytest.raises(CheckpointError, match=expected):
        loading.read_checkpoint(loaded)


def test_a_damaged_best_checkpoint_is_passed_over(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "checkpoints" / "best.json").write_text('{"step": 4, "score": 1.0}')
    weights = run / "checkpoints" / "step-00000004" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    model = load(run)
    assert model.extra["step"] == 2
    assert "the best checkpoint is skipped, the newest is used" in caplog.text
    (run / "checkpoints" / "step-00000002" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load(run)


# The tokenizer alone.


def test_the_tokenizer_of_everything(run: Path, debug_data: Path, monkeypatch: Any) -> None:
    expected = open_tokenizer(debug_data).digest
    monkeypatch.setattr(loading, "load", None)  # no weights are read
    sources = [run, run / "model", run / "checkpoints" / "step-00000002"]
    assert [open_tokenizer(source).digest for source in sources] == [expected] * 3
    made = object()
    monkeypatch.setattr(loading, "load", lambda source: type("M", (), {"tokenizer": made}))
    assert open_tokenizer(run.parent) is made


# What others wrote.


def test_every_reader_is_there() -> None:
    names = {*loading.TRANSFORMERS.values(), "xlm.interchange.fairseq.read_fairseq"}
    for name in sorted(names | {"xlm.interchange.original.checkpoint.read_original"}):
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), name


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the readers are asked for."""
    asked: list[tuple[Any, ...]] = []

    def reader(dotted: str) -> Any:
        def read(path: Path, **given: Any) -> Any:
            asked.append((dotted.rpartition(".")[2], path, given))
            return PretrainedModel(torch.nn.Linear(1, 1), None, {})  # type: ignore[arg-type]

        return read

    monkeypatch.setattr(loading, "_reader", reader)
    return asked


@pytest.mark.parametrize(
    "kind, reader",
    [
        ("xlm", "read_transformers_xlm"),
        ("xlm-roberta", "read_transformers_roberta"),
        ("roberta", "read_transformers_roberta"),
        ("bert", "read_transformers_bert"),
    ],
)
def test_a_transformers_directory(
    tmp_path: Path, readers: list[tuple[Any, ...]], kind: str, reader: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    load(tmp_path)
    assert readers == [(reader, tmp_path, {})]


def test_fairseq_and_the_original(tmp_path: Path, readers: list[tuple[Any, ...]]) -> None:
    (tmp_path / "model.pt").touch()
    (tmp_path / "dict.txt").touch()
    (tmp_path / "m.pth").touch()
    load(tmp_path)
    load(tmp_path / "model.pt")
    load(tmp_path / "m.pth")
    load(str(tmp_path / "m.pth"), codes="codes", vocabulary=tmp_path / "vocab")
    assert readers == [
        ("read_fairseq", tmp_path, {}),
        ("read_fairseq", tmp_path / "model.pt", {}),
        ("read_original", tmp_path / "m.pth", {}),
        (
            "read_original",
            tmp_path / "m.pth",
            {"codes": Path("codes"), "vocabulary": tmp_path / "vocab"},
        ),
    ]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the original's figures (XLM_GOLDEN)")
def test_a_checkpoint_of_the_original() -> None:
    data = GOLDEN / "data"
    path = GOLDEN / "mlm" / "best-valid_mlm_ppl.pth"
    model = load(path, codes=data / "codes", vocabulary=data / "vocab")
    assert model.languages == {"en": 0, "fr": 1, "hi": 2}
    assert model.transformer.vocab_size == model.tokenizer.vocab_size == 442


# What is nothing.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_low_precision_are_widened(run: Path, tmp_path: Path, dtype: Any) -> None:
    """What is computed with them is then what was measured, and training starts in float32."""
    stored = PretrainedModel.open(run / "model")
    stored.transformer.to(dtype).float()
    expected = {name: value.clone() for name, value in stored.transformer.state_dict().items()}
    stored.transformer.to(dtype)
    stored.save_pretrained(tmp_path / "narrow")
    found = load(tmp_path / "narrow")
    for name, value in found.transformer.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name])
    name = str(dtype).removeprefix("torch.")
    assert f"stored in {name} are float32" in found.extra["lost"][-1]
    assert "lost" not in load(run / "model").extra


@pytest.mark.parametrize("name", ["nowhere.pth", "models/nowhere.pth", "nowhere.pt"])
def test_a_checkpoint_that_is_not_there_does_not_exist(name: str) -> None:
    for given in ({}, {"codes": "codes", "vocabulary": "vocab"}):
        with pytest.raises(ConfigError, match=f"^{name} does not exist: expected a model dir"):
            load(name, **given)


def test_codes_go_with_the_original_alone(run: Path) -> None:
    with pytest.raises(ConfigError, match="codes only apply to a .pth file of the original"):
        load(run, codes="codes")


def test_what_is_no_model_is_listed(tmp_path: Path, debug_data: Path) -> None:
    for name in "abcdefghij":
        (tmp_path / f"{name}.txt").touch()
    (tmp_path / "0").mkdir()
    found = r"holds no model \(0/, a.txt, b.txt, .*, g.txt and 3 more\): expected a model directory"
    with pytest.raises(ConfigError, match=found):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"holds prepared text \(corpora.json, .*expected"):
        load(debug_data)
    with pytest.raises(ConfigError, match="a.txt is a file, but not a model: expected"):
        load(tmp_path / "a.txt")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="found format None and model_type 'gpt2', expected"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="expected a JSON object, found list"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json:1: is not JSON"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./here", "a/b/c", "runs/", "word", "~/nothing/here"]
)
def test_a_path_that_is_not_there_is_not_looked_for_elsewhere(
    name: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # the demo leaves a folder runs in the checkout
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="does not exist: expected a model directory"):
        load(name)


# The hub.


class Hub:
    """Stands for ``huggingface_hub``: a folder for a name."""

    def __init__(self, folder: Path, content: dict[str, str]) -> None:
        self.folder, self.content = folder, content
        self.calls: list[tuple[str, list[str]]] = []

    def snapshot_download(self, name: str, *, allow_patterns: list[str]) -> str:
        from fnmatch import fnmatch

        self.calls.append((name, allow_patterns))
        for file, text in self.content.items():
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / file).write_text(text)
        return str(self.folder)


ROBERTA = {
    "config.json": '{"model_type": "xlm-roberta"}', "tokenizer.json": "{}", "README.md": "",
    "sentencepiece.bpe.model": "", "flax_model.msgpack": "", "tf_model.h5": "",
    "onnx/model.onnx": "", "pytorch_model.bin": "", "special_tokens_map.json": "{}",
}  # fmt: skip


@pytest.mark.parametrize("safe", [True, False])
def test_a_name_is_fetched_from_the_hub(
    tmp_path: Path, monkeypatch: Any, readers: list[tuple[Any, ...]], safe: bool
) -> None:
    pytest.importorskip("huggingface_hub")
    hub = Hub(tmp_path, {**ROBERTA, **({"model.safetensors": ""} if safe else {})})
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    source = load("FacebookAI/xlm-roberta-base")
    assert source.source == "FacebookAI/xlm-roberta-base"
    assert readers == [("read_transformers_roberta", tmp_path, {})]
    weights = "model.safetensors" if safe else "pytorch_model.bin"
    expected = {"config.json", "tokenizer.json", "sentencepiece.bpe.model", weights}
    assert {path.name for path in tmp_path.rglob("*")} == expected | {"special_tokens_map.json"}
    assert [name for name, _ in hub.calls] == ["FacebookAI/xlm-roberta-base"] * (1 if safe else 2)


def test_a_hub_that_refuses_or_is_missing(monkeypatch: Any) -> None:
    pytest.importorskip("huggingface_hub")

    def refuse(name: str, **_: Any) -> str:
        raise OSError("401 Client Error.\nRepository Not Found for url: ...")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(CheckpointError) as caught:
        load("nobody/nothing")
    assert "nobody/nothing does not exist here, and the Hugging Face hub has no" in str(
        caught.value
    )
    assert "(401 Client Error.)" in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"needs the extra hf: pip install 'xlm-pretrain\[hf\]'"):
        fetch("nobody/nothing")


def test_a_model_directory_is_uploaded(run: Path, monkeypatch: Any, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    kept = tmp_path / "kept"

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            assert private and exist_ok
            return f"hub/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
            if repo_id == "no/body":
                raise OSError("403 Forbidden\nnot yours")
            shutil.copytree(folder_path, kept)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    model = load(run)
    assert model.push_to_hub("me/mine", private=True) == "hub/me/mine"
    assert same(load(kept), model)
    with pytest.raises(CheckpointError, match="no/body was not uploaded: 403 Forbidden not yours"):
        model.push_to_hub("no/body", private=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="needs the extra hf"):
        model.push_to_hub("me/mine")
