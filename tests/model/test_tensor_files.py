"""Safetensors files: every bit comes back, and a file that cannot be read or written is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from xlm.errors import CheckpointError
from xlm.model.tensor_files import check_finite, not_finite, read_tensors, write_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_every_bit_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    whole = torch.arange(12).reshape(3, 4).to(dtype)
    tensors = {"whole": whole, "turned": whole.T, "none": torch.zeros(0, dtype=dtype)}
    write_tensors(path, tensors, metadata={"format": "pt"})
    found = read_tensors(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype and torch.equal(found[name], tensor)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_gradients_are_left_behind(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    write_tensors(tmp_path / "a", {"p": parameter})
    assert not read_tensors(tmp_path / "a")["p"].requires_grad


def test_a_file_that_is_cut_afterwards_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"a": torch.arange(100_000)})
    found = read_tensors(path)["a"]
    path.write_bytes(b"")
    assert torch.equal(found, torch.arange(100_000))


@pytest.mark.parametrize("size", [0, 7, 60])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"a": torch.arange(10)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="none"):
        read_tensors(tmp_path / "none")


def test_what_was_there_stays_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"a": torch.ones(1)})
    before = path.read_bytes()
    shared = torch.ones(4)
    with pytest.raises((CheckpointError, RuntimeError)):  # tensors that share memory
        write_tensors(path, {"a": shared, "b": shared})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("value", "what"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "inf")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_tensor_that_is_not_finite_is_named(
    value: float, what: str, dtype: torch.dtype
) -> None:
    tensors = {"ids": torch.arange(3), "none": torch.zeros(0, dtype=dtype)}
    assert not_finite(tensors) == "" and not_finite({}) == ""
    tensors["a.weight"] = torch.ones(5, 1000, dtype=dtype)
    check_finite("here", tensors)
    tensors["a.weight"][3, 7] = tensors["a.weight"][4, 7] = value
    found = not_finite(tensors)
    assert found.startswith(f"the tensor a.weight holds {what}") and "2 of 5,000 values" in found
    with pytest.raises(CheckpointError, match="here: the tensor a.weight holds"):
        check_finite("here", tensors)
