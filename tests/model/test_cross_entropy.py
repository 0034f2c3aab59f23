"""The loss in chunks and with a filled-up vocabulary: that of the scores in one piece."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tests.training import tiny
from xlm.batch import IGNORED
from xlm.model import cross_entropy
from xlm.model.cross_entropy import evenly, linear_cross_entropy, padded, sum_cross_entropy
from xlm.run import build as building

N, D, V = 150, 8, 70


@pytest.fixture
def in_chunks(monkeypatch):
    """Chunks of 64 cells: 64, 64 and 22."""
    monkeypatch.setattr(cross_entropy, "MOST_BYTES", 1)
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 64 * V * 6)
    assert cross_entropy.cells_at_once(V, N) == 64


def leaves(dtype=torch.float64):
    torch.manual_seed(0)
    made = [torch.randn(shape, dtype=dtype) for shape in ((N, D), (V, D), (V,))]
    targets = torch.randint(V, (N,))
    targets[[0, 70, 71, 149]] = IGNORED
    return [tensor.requires_grad_() for tensor in made], targets


def plain(x, weight, bias, targets, smoothing):
    return F.cross_entropy(
        F.linear(x, weight, bias).to(torch.promote_types(x.dtype, torch.float32)), targets,
        ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing,
    )  # fmt: skip


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_chunks_have_the_sum_and_the_gradients_of_one_piece(smoothing):
    expected, targets = leaves()
    loss = plain(*expected, targets, smoothing)
    (loss * 0.25).backward()
    found, _ = leaves()
    own = linear_cross_entropy(*found, targets, label_smoothing=smoothing)
    (own * 0.25).backward()
    torch.testing.assert_close(own, loss, rtol=1e-13, atol=0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("in_chunks")
def test_chunks_under_autocast_are_as_near_as_one_piece():
    """Against float64: the error of chunks is no larger than that of the plain way."""
    exact, targets = leaves()
    plain(*exact, targets, 0.0).backward()
    errors = {}
    for name in ("chunks", "plain"):
        own, _ = leaves()
        own = [tensor.detach().float().requires_grad_() for tensor in own]
        with torch.autocast("cpu", torch.bfloat16):
            loss = linear_cross_entropy(*own, targets) if name == "chunks" else plain(
                *own, targets, 0.0
            )  # fmt: skip
        assert loss.dtype == torch.float32
        loss.backward()
        errors[name] = [
            float((one.grad.double() - other.grad).norm() / other.grad.norm())
            for one, other in zip(own, exact, strict=True)
        ]
        assert all(tensor.grad.dtype == torch.float32 for tensor in own)
    for chunk, one_piece in zip(errors["chunks"], errors["plain"], strict=True):
        assert chunk < max(1.5 * one_piece, 1e-3)


@pytest.mark.parametrize("most", [1, 64, 149, 150])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_update_on_a_cpu_has_the_sum_and_the_gradients_of_one_piece(
    monkeypatch, most, smoothing
):
    monkeypatch.setattr(cross_entropy, "CELLS_ON_CPU", most)
    expected, targets = leaves()
    loss = plain(*expected, targets, smoothing)
    (loss * 0.25).backward()
    found, _ = leaves()
    own = linear_cross_entropy(*found, targets, label_smoothing=smoothing)
    (own * 0.25).backward(retain_graph=True)
    torch.testing.assert_close(own, loss, rtol=1e-13, atol=0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)
    (own * 0.75).backward()  # what is kept stays as it is
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, 4 * other.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "learnt", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_gradients_that_nobody_needs_are_not_made(monkeypatch, learnt):
    monkeypatch.setattr(cross_entropy, "CELLS_ON_CPU", 64)
    expected, targets = leaves()
    plain(*expected, targets, 0.0).backward()
    found = [one.detach().requires_grad_(own) for one, own in zip(expected, learnt, strict=True)]
    linear_cross_entropy(*found, targets).backward()
    for one, other, own in zip(found, expected, learnt, strict=True):
        assert (one.grad is not None) == own
        if own:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


def test_no_cell_at_all_has_gradients_of_zero():
    found, targets = leaves()
    loss = linear_cross_entropy(found[0][:0], *found[1:], targets[:0])
    loss.backward()
    assert loss.item() == 0.0 and not found[1].grad.any() and not found[2].grad.any()


def test_chunks_are_even():
    for total in range(1, 60):
        for most in range(1, 65):
            size = evenly(total, most)
            num = -(-total // size)
            assert size <= most and num == -(-total // most)
            assert all(-(-total // less) > num for less in range(1, size))


def test_large_scores_are_finite_and_damage_is_seen():
    x, weight = torch.tensor([[1e4], [-1e4]], requires_grad=True), torch.tensor([[1.0], [2.0]])
    loss = linear_cross_entropy(x, weight, torch.zeros(2), torch.tensor([0, 0]))
    assert loss.item() == 1e4  # the first is wrong by 10,000 nats, the second right
    damaged = linear_cross_entropy(x * float("nan"), weight, torch.zeros(2), torch.tensor([0, 0]))
    assert damaged.isnan()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_filled_vocabulary_changes_nothing(monkeypatch, smoothing, on_gpu):
    expected, targets = leaves()
    reference = plain(*expected, targets, smoothing)
    reference.backward()
    found, _ = leaves()
    monkeypatch.setattr(cross_entropy, "pads", lambda x, size: True)
    rows, bias = padded(found[1], found[2], torch.float64)
    assert rows.shape == (128, D) and torch.isneginf(bias[V:]).all()
    summed = partial(sum_cross_entropy) if on_gpu else sum_cross_entropy
    loss = linear_cross_entropy(*found, targets, label_smoothing=smoothing, summed=summed)
    loss.backward()
    torch.testing.assert_close(loss, reference, rtol=1e-13, atol=0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("pads", [False, True])
def test_a_filled_vocabulary_in_chunks(monkeypatch, pads, smoothing):
    monkeypatch.setattr(cross_entropy, "MOST_BYTES", 1)
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1)
    monkeypatch.setattr(cross_entropy, "pads", lambda x, size: pads)
    expected, targets = leaves()
    plain(*expected, targets, smoothing).backward()
    found, _ = leaves()
    linear_cross_entropy(*found, targets, label_smoothing=smoothing).backward()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


def test_evaluation_in_parts_has_the_same_sums(monkeypatch):
    run = tiny.recipe("", dtype="float64")
    made = tiny.corpora(20)
    learner = building.build_learner(run, made).eval()
    stream = building.held_out_streams(run, made, "valid")["mlm"][0]
    batch = next(iter(run.objectives["mlm"].evaluation_batches(stream, 0)))
    whole = learner("mlm", batch)
    monkeypatch.setattr("xlm.objective.cells_at_once", lambda vocab, cells: 8)
    assert len(batch.predict) > 8
    parts = learner("mlm", batch)
    assert parts.count == whole.count
    assert parts.scores.keys() == whole.scores.keys()
    for name, score in {**whole.scores, "total": whole.total}.items():
        found = parts.scores.get(name, parts.total)
        assert float(found.detach()) == pytest.approx(float(score.detach()), rel=1e-12), name
