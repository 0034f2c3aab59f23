"""Heads of tasks against transformers' own classes, both ways, for three shapes of bodies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tuned
from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.convert import writer
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.finetuned import FineTuned, open_finetuned, with_task
from xlm.interchange.parity import TaskScores, measure
from xlm.interchange.transformers.heads import class_name, read_head, write_with_head
from xlm.interchange.transformers.tasks import from_task_head, scores_of, to_task_head
from xlm.model.pretrained import PretrainedModel
from xlm.tasks.heads import Readout
from xlm.tasks.task import Task

transformers = pytest.importorskip("transformers")

AUTO = {
    "nli": "AutoModelForSequenceClassification",
    "likeness": "AutoModelForSequenceClassification",
    "pages": "AutoModelForSequenceClassification",
    "names": "AutoModelForTokenClassification",
    "quiz": "AutoModelForQuestionAnswering",
}
CLASSES = {
    ("xlm", "nli"): "XLMForSequenceClassification",
    ("xlm", "names"): "XLMForTokenClassification",
    ("xlm", "quiz"): "XLMForQuestionAnsweringSimple",
    ("xlm-roberta", "nli"): "XLMRobertaForSequenceClassification",
    ("xlm-roberta", "names"): "XLMRobertaForTokenClassification",
    ("xlm-roberta", "quiz"): "XLMRobertaForQuestionAnswering",
    ("bert", "nli"): "BertForSequenceClassification",
    ("bert", "names"): "BertForTokenClassification",
    ("bert", "quiz"): "BertForQuestionAnswering",
    ("roformer", "nli"): "RoFormerForSequenceClassification",
    ("roformer", "names"): "RoFormerForTokenClassification",
    ("roformer", "quiz"): "RoFormerForQuestionAnswering",
    ("modernbert", "nli"): "ModernBertForSequenceClassification",
    ("modernbert", "names"): "ModernBertForTokenClassification",
    ("modernbert", "quiz"): "ModernBertForQuestionAnswering",
}
BODIES = ("transformer.", "bert.", "roberta.", "roformer.", "model.")
SENTENCES = ("nli", "likeness", "pages")


def fitting(shape: str, name: str, **readout: Any) -> FineTuned:
    """A random model with a head that the class of transformers has."""
    task = tuned.with_readout(
        name, **{"kind": tuned.kind_of(shape, name), "dropout": 0.3, **readout}
    )
    return with_task(tuned.tuned(shape=shape, tasks={name: task}), "here")


def written(found: FineTuned, shape: Any, folder: Path) -> list[str]:
    head = to_task_head(found.task, found.head)
    return write_with_head(found.model, head, folder, shape, writer(shape, head.causal))


def opened(folder: Path, auto: str) -> Any:
    """What transformers makes of a folder; nothing may be missing or left over."""
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model.eval()


@torch.no_grad()
def difference(found: FineTuned, peer: Any, shape: str) -> float:
    """The largest difference of a score on padded pairs, of two languages where there are some."""
    lines = [peers.lines()[at] for at in (0, 1, 2, 310, 311, 312)]
    firsts, seconds = [line[: 20 + 10 * at] for at, line in enumerate(lines[:3])], lines[3:]
    languages = ("en", [line[:30] for line in seconds], "hi")
    if shape != "xlm":
        languages = (None, languages[1], None)
    batch = found.model.batch(firsts, *languages)
    assert len(set(batch.lengths.tolist())) > 1, "nothing is padded"
    real = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    batch = replace(batch, predict=real.flatten().nonzero()[:, 0])
    inputs = peers.feed(batch, token_types=shape in ("bert", "roformer"))
    if shape == "xlm":
        inputs["langs"] = batch.langs
    given = peer(**inputs)
    ours = scores_of(found.task, found.head)(found.model.transformer, batch)
    if hasattr(given, "start_logits"):
        theirs = torch.stack([given.start_logits, given.end_logits], -1)[real]
    else:
        theirs = given.logits[real] if given.logits.ndim == 3 else given.logits
    assert ours.shape == theirs.shape
    assert float((theirs - theirs[0]).abs().max()) > 0.01, "too weak to tell models apart"
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("name", AUTO)
@pytest.mark.parametrize("shape", tuned.SHAPES)
def test_the_same_scores_there_and_back(shape: str, name: str, tmp_path: Path) -> None:
    found = fitting(shape, name)
    lost = written(found, shape, tmp_path)
    peer = opened(tmp_path, AUTO[name])
    kind = "nli" if name in SENTENCES else name
    assert type(peer).__name__ == CLASSES[shape, kind]
    assert difference(found, peer, shape) <= TOLERANCE
    assert f"the output onto the vocabulary: {CLASSES[shape, kind]} has none" in lost
    assert ("languages: give langs" in "\n".join(lost)) == (shape == "xlm")
    assert not (tmp_path / "generation_config.json").exists()
    back = open_finetuned(tmp_path)
    assert back.name == "task"
    worst = difference(
        replace(back, model=replace(back.model, languages=tuned.LANGUAGES)), peer, shape
    )
    assert worst <= TOLERANCE


def test_names_of_classes_and_their_order(tmp_path: Path) -> None:
    for shape in tuned.SHAPES:
        for name, labels in (
            ("nli", tuned.LABELS),
            ("names", tuned.TAGS),
            ("pages", ["0", "1", "4"]),
        ):
            folder = tmp_path / shape / name
            written(fitting(shape, name), shape, folder)
            config = transformers.AutoConfig.from_pretrained(folder)
            assert [config.id2label[at] for at in range(config.num_labels)] == labels
            assert config.label2id == {label: at for at, label in enumerate(labels)}
    assert config.problem_type == "single_label_classification"
    written(fitting("bert", "likeness"), "bert", tmp_path / "number")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "number")
    assert (config.num_labels, config.problem_type) == (1, "regression")


@pytest.mark.parametrize("shape", tuned.SHAPES)
def test_rates_of_dropout_are_those_of_training(shape: str, tmp_path: Path) -> None:
    """Or what is other there is said."""
    said = written(fitting(shape, "nli"), shape, tmp_path / "nli")
    peer = opened(tmp_path / "nli", AUTO["nli"])
    heads = [
        module
        for name, module in peer.named_modules()
        if isinstance(module, torch.nn.Dropout) and not name.startswith(BODIES)
    ]
    assert [module.p for module in heads] == [0.1 if shape == "roformer" else 0.3]
    before = "training it further: the dropout before the layer with tanh is not there"
    assert (before in said) == (shape == "bert")
    said = written(fitting(shape, "names"), shape, tmp_path / "names")
    peer = opened(tmp_path / "names", AUTO["names"])
    rate = (peer.drop if shape == "modernbert" else peer.dropout).p
    other = "training it further: dropout 0.3 before the last layer is the model's 0.1 there"
    of_body = shape in ("xlm", "roformer")
    assert (rate, other in said) == ((0.1, True) if of_body else (0.3, False))
    said = written(fitting(shape, "quiz"), shape, tmp_path / "quiz")
    none = "training it further: dropout 0.3 before the last layer is none there"
    assert (none in said) == (shape != "modernbert")


def test_a_causal_task_goes_to_xlm_alone(tmp_path: Path) -> None:
    found = fitting("xlm", "names", causal=True)
    written(found, "xlm", tmp_path / "causal")
    peer = opened(tmp_path / "causal", AUTO["names"])
    assert peer.config.causal
    assert difference(found, peer, "xlm") <= TOLERANCE
    back = open_finetuned(tmp_path / "causal")
    assert back.task.readout.causal
    for shape in tuned.SHAPES[1:]:
        with pytest.raises(
            ConfigError, match=r"causally.*readout.causal false, or export it as xlm"
        ):
            written(fitting(shape, "names", causal=True), shape, tmp_path / shape)
        assert not (tmp_path / shape).exists()


REFUSED = {
    "linear to XLM-R": ("xlm-roberta", {"kind": "linear"}, "XLMRoberta.* has a layer .*kind tanh"),
    "linear to BERT": ("bert", {"kind": "linear"}, "has a layer with tanh .*readout.kind tanh"),
    "tanh to RoFormer": ("roformer", {"kind": "tanh"}, "with the model's activation .*kind dense"),
    "linear to ModernBERT": ("modernbert", {"kind": "linear"}, "a normalization .*kind transform"),
    "mean to RoFormer": ("roformer", {"pooling": "mean"}, "pooling mean .*readout.pooling first"),
    "max to ModernBERT": ("modernbert", {"pooling": "max"}, "pooling max .*readout.pooling first"),
    "tanh to XLM": ("xlm", {"kind": "tanh"}, "has no layer with tanh .*readout.kind linear"),
    "mean": ("xlm", {"pooling": "mean"}, "with readout.pooling mean .*pooling first"),
    "feed-forward": ("xlm", {"kind": "feed-forward"}, "readout.kind feed-forward .*linear or tanh"),
    "features": ("xlm", {"features": True}, "readout.features true .*readout.features false"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_class_has_is_refused_by_name(name: str, tmp_path: Path) -> None:
    shape, readout, expected = REFUSED[name]
    with pytest.raises(ConfigError, match=expected) as caught:
        written(fitting(shape, "nli", **readout), shape, tmp_path / "new")
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()


def test_tasks_that_no_class_is_for() -> None:
    for name, readout, expected in (
        ("trees", Readout(), "Parsing cannot go to transformers, which has classes for"),
        ("names", Readout(kind="tanh"), "Tagging with readout.kind tanh"),
        ("quiz", Readout(features=True), "Answering with readout.features true"),
    ):
        task = replace(tuned.TASKS[name], readout=readout)
        found = with_task(tuned.tuned(tasks={name: task}), "here")
        with pytest.raises(ConfigError, match=expected):
            to_task_head(found.task, found.head)


def test_a_body_of_another_shape_is_refused_by_its_own_writer(tmp_path: Path) -> None:
    found = fitting("bert", "names")
    deep = tuned.body("bert", num_segments=3)
    with pytest.raises(ConfigError, match=r"cannot become a BERT model.*num_segments 3 \(give 2\)"):
        written(replace(found, model=deep), "bert", tmp_path)


def test_modernbert_reads_the_mean_too(tmp_path: Path) -> None:
    found = fitting("modernbert", "nli", pooling="mean")
    written(found, "modernbert", tmp_path)
    peer = opened(tmp_path, AUTO["nli"])
    assert peer.config.classifier_pooling == "mean"
    assert difference(found, peer, "modernbert") <= TOLERANCE
    back = open_finetuned(tmp_path)
    assert back.task.readout.pooling == "mean"
    assert difference(back, peer, "modernbert") <= TOLERANCE


@pytest.mark.parametrize("shape", ["xlm-roberta", "bert", "roformer", "modernbert"])
def test_a_bare_body_goes_too(shape: str, tmp_path: Path) -> None:
    """Its output has no transform, as after fine-tuning a model that came without an output."""
    plain = tuned.body(shape, output_transform=False)
    found = replace(fitting(shape, "nli"), model=plain)
    lost = written(found, shape, tmp_path)
    peer = opened(tmp_path, AUTO["nli"])
    assert difference(found, peer, shape) <= TOLERANCE
    assert not any("output bias" in line for line in lost)


KINDS = ["XLMRoberta", "Roberta", "Camembert", "Bert", "XLM", "RoFormer", "ModernBert"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "end", ["SequenceClassification", "TokenClassification", "QuestionAnswering"]
)
def test_heads_that_transformers_made(kind: str, end: str, tmp_path: Path) -> None:
    """A classifier of the hub, say: read here, the same scores."""
    name = {"Q": "quiz", "T": "names", "S": "nli"}[end[0]]
    shape = {"Bert": "bert", "XLM": "xlm", "RoFormer": "roformer", "ModernBert": "modernbert"}.get(
        kind, "xlm-roberta"
    )
    end += "Simple" if (kind, end[0]) == ("XLM", "Q") else ""
    peer = foreign(kind, end, shape, tmp_path)
    found = open_finetuned(tmp_path)
    if name != "quiz":
        labels = found.task.labels if name == "nli" else found.task.tags  # type: ignore[attr-defined]
        assert labels == ["alpha", "beta", "gamma"]
        assert found.task.readout.dropout == (0.1 if kind in ("XLM", "RoFormer") else 0.25)
    assert difference(found, peer, shape) <= TOLERANCE
    assert not any("head" in line for line in found.model.extra["lost"])


def foreign(kind: str, end: str, shape: str, folder: Path, **changes: Any) -> Any:
    """A random peer with a head in ``folder``, beside a tokenizer."""
    written(fitting(shape, "nli"), shape, folder)  # for the tokenizer
    settings = {"num_labels": 3, "id2label": {0: "alpha", 1: "beta", 2: "gamma"}}
    settings |= {"label2id": {"alpha": 0, "beta": 1, "gamma": 2}}
    if end.startswith("Question"):
        settings = {}
    own = json.loads((folder / "config.json").read_text())
    sizes = {**peers.SIZES, "vocab_size": own["vocab_size"], "classifier_dropout": 0.25}
    sizes |= {"max_position_embeddings": 80, "type_vocab_size": 1 + (shape in ("bert", "roformer"))}
    if kind == "XLM":
        sizes = {name: own[name] for name in (*OF_XLM, "vocab_size", "max_position_embeddings")}
    if kind == "ModernBert":
        sizes |= {"pad_token_id": own["pad_token_id"], "local_attention": 8}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **settings, **changes})
    peer = getattr(transformers, f"{kind}For{end}")(config)
    kept = {n: p.clone() for n, p in peer.named_parameters() if "embed_positions" in n}  # sinusoids
    peers.shake(peer).load_state_dict(kept, strict=False)
    peer.save_pretrained(folder)
    return peer


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


OF_XLM = (
    "emb_dim", "n_layers", "n_heads", "n_langs", "lang2id", "id2lang", "bos_token_id",
    "eos_token_id", "pad_token_id",
)  # fmt: skip
WRONG = {
    "a pooling": ("modernbert", {"classifier_pooling": "max"}, "is 'max', expected 'cls' or"),
    "many labels": ("xlm", {"problem_type": "multi_label_classification"}, "multi_label"),
    "mean": ("xlm", {"summary_type": "mean"}, "summary_type is 'mean', expected 'first'"),
    "activation": ("xlm", {"summary_activation": "tanh"}, "is 'tanh', expected None"),
    "two labels": ("bert", {"id2label": {"0": "a", "1": "b"}}, "expected 3 different names"),
    "one twice": ("bert", {"id2label": {"0": "a", "1": "b", "2": "a"}}, "expected 3 diff"),
    "no text": ("bert", {"id2label": {"0": "a", "1": "b", "2": 3}}, "expected 3 different names"),
    "a list": ("bert", {"id2label": ["a", "b", "c"]}, "expected 3 different names"),
    "a rate": ("bert", {"classifier_dropout": "much"}, "is 'much', expected a probability"),
    "a rate of 1": ("xlm", {"summary_first_dropout": 1}, "is 1, expected a probability"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_are_no_head_of_ours(name: str, tmp_path: Path) -> None:
    shape, changes, expected = WRONG[name]
    written(fitting(shape, "nli"), shape, tmp_path)
    edited(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_head(tmp_path)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_tensors_that_are_missing_or_misfit(tmp_path: Path) -> None:
    written(fitting("bert", "nli"), "bert", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for changed, expected in (
        ({"classifier.bias": None}, "the tensor classifier.bias is missing, but BertForSeq"),
        ({"bert.pooler.dense.weight": torch.zeros(3, 32)}, r"dense layer .* \[3, 32\], expected"),
        ({"classifier.weight": torch.zeros(2, 32)}, r"\[2, 32\], expected \[3, 32\]"),
        ({"classifier.bias": torch.zeros(())}, "expected"),
    ):  # fmt: skip
        mixed = {**{n: t.clone() for n, t in tensors.items()}, **changed}
        save_file({n: t for n, t in mixed.items() if t is not None}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=expected):
            read_head(tmp_path)


def test_labels_without_names_are_transformers_own(tmp_path: Path) -> None:
    written(fitting("bert", "nli"), "bert", tmp_path)
    edited(tmp_path, id2label=None)
    head = read_head(tmp_path)
    assert head is not None and head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    edited(tmp_path, architectures=["BertForMaskedLM"])
    assert read_head(tmp_path) is None
    for strange in ([], None, "BertForSequenceClassification", [3]):
        edited(tmp_path, architectures=strange)
        assert read_head(tmp_path) is None


@pytest.mark.parametrize("name", ["nli", "names", "quiz"])
def test_rows_of_a_foreign_task_fit_the_model(name: str) -> None:
    """Whatever the model's length: the defaults of the tasks are cut to it."""
    found = fitting("xlm", name)
    head = to_task_head(found.task, found.head)
    for most in (16, 64, 512):
        task, tensors = from_task_head(head, most)
        assert isinstance(task, Task) and task.length == min(type(task).length, most)
        assert set(tensors) == set(found.head.state_dict())


def test_parity_sees_a_head_that_differs(tmp_path: Path) -> None:
    """What is measured at the verb: near zero, and not when a bias is another."""
    found = fitting("bert", "names")
    written(found, "bert", tmp_path)
    score = scores_of(found.task, found.head)
    scores = TaskScores(class_name("bert", "word"), score, of_rows=False)
    assert same(found.model, tmp_path, scores) <= TOLERANCE
    with torch.no_grad():
        found.head.output.bias[1] += 0.5  # type: ignore[union-attr, index]
    assert same(found.model, tmp_path, scores) == pytest.approx(0.5, abs=1e-3)


def same(model: PretrainedModel, folder: Path, scores: TaskScores) -> float:
    parity = measure(model, folder, scores)
    assert parity.logits is not None and parity.hidden is not None and not parity.notes
    assert parity.peer is not None and parity.peer.startswith("BertForTokenClassification of ")
    return parity.logits
