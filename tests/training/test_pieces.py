"""Checkpoints in pieces: any layout reads any other's, and nothing that is missing is read."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.training import checkpoint
from xlm.training.checkpoint import Draft, latest, load, reseal
from xlm.training.manifest import MANIFEST
from xlm.training.pieces import Rows, metadata_of, piece_name

TENSORS = {
    "model": {
        "words": torch.arange(70.0).view(7, 10), "bias": torch.arange(5).bfloat16(),
        "norm": torch.tensor([3.0]),
    },
    "optimizer": {"exp_avg/words": torch.randn(7, 10), "step/words": torch.tensor(9.0)},
}  # fmt: skip


def rows_of(total: int, rank: int, world: int) -> Rows:
    """As torch.chunk parts them: the last ranks may have fewer, or none."""
    size = -(-total // world)
    first = min(rank * size, total)
    return Rows(first, min(size, total - first), total)


def in_pieces(folder: Path, step: int, world: int) -> Path:
    """Write TENSORS as ``world`` ranks do."""
    drafts = [Draft(folder, step, writer=1) for _ in range(world)]
    drafts[0].open(0)
    entries, pieces = {}, {}
    for rank, draft in enumerate(drafts):
        own: dict[str, dict[str, Tensor]] = {}
        rows: dict[str, dict[str, Rows]] = {}
        for name, named in TENSORS.items():
            own[name], rows[name] = {}, {}
            for key, tensor in named.items():
                if not tensor.ndim:
                    if rank == 0:
                        own[name][key] = tensor
                    continue
                part = rows_of(len(tensor), rank, world)
                if part.num:
                    own[name][key] = tensor[part.first : part.first + part.num]
                    rows[name][key] = part
        entries |= draft.write(own, rows, (rank, world))
    for name in TENSORS:
        pieces[name] = [piece_name(name, rank, world) for rank in range(world)]
    return drafts[0].commit({"step": step}, entries=entries, pieces=pieces)


@pytest.mark.parametrize("written", [1, 2, 3, 8])
def test_any_number_of_processes_reads_what_any_other_wrote(tmp_path: Path, written: int) -> None:
    loaded = load(in_pieces(tmp_path, 3, written))
    assert loaded.state == {"step": 3}
    assert loaded.names == ["model", "optimizer"]
    assert not loaded.has_tensors("averaged")
    for name, named in TENSORS.items():
        whole = loaded.tensors(name)
        assert whole.keys() == named.keys()
        assert all(torch.equal(whole[key], named[key]) for key in named)
        for read in (1, 2, 3, 8):
            for rank in range(read):
                found = loaded.tensors(
                    name,
                    wanted=lambda _, shape, at=rank, of=read: (
                        rows_of(shape[0], at, of) if shape else None
                    ),
                )
                for key, tensor in named.items():
                    if not tensor.ndim:
                        assert torch.equal(found[key], tensor)
                        continue
                    part = rows_of(len(tensor), rank, read)
                    expected = tensor[part.first : part.first + part.num]
                    assert torch.equal(found[key], expected) and found[key].dtype == tensor.dtype


def test_rows_of_the_first_format(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, TENSORS, {})
    assert json.loads((path / MANIFEST).read_text())["format_version"] == 1
    found = load(path).tensors("model", wanted=lambda _, shape: rows_of(shape[0], 1, 2))
    assert torch.equal(found["words"], TENSORS["model"]["words"][4:])
    assert len(found["norm"]) == 0


def _missing(path: Path, other: Path) -> None:
    path.unlink()


def _swapped(path: Path, other: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def _cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flipped(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(1).randrange(len(content))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("piece", [0, 1, 2])
@pytest.mark.parametrize("damage", [_missing, _swapped, _cut, _flipped])
def test_a_damaged_piece_is_named_and_the_checkpoint_before_is_taken(
    tmp_path: Path, damage: Callable[[Path, Path], None], piece: int
) -> None:
    in_pieces(tmp_path, 1, 2)
    path = in_pieces(tmp_path, 2, 3)
    names = [piece_name("model", number, 3) for number in range(3)]
    damage(path / names[piece], path / names[(piece + 1) % 3])
    with pytest.raises(CheckpointError, match=r"model-0000\d-of-00003") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    found = latest(tmp_path)
    assert found.loaded is not None and found.loaded.step == 1
    assert len(found.skipped) == 1


def test_no_row_is_left_unfilled_though_the_hashes_agree(tmp_path: Path) -> None:
    """Rows that a piece was sealed without, and those that it took from another checkpoint."""
    path = in_pieces(tmp_path, 2, 3)
    first, middle, last = (path / piece_name("optimizer", number, 3) for number in range(3))
    name, tensors = "exp_avg/words", load_file(first)
    middle.unlink()
    with pytest.raises(CheckpointError, match="optimizer-00002-of-00003.safetensors: is missing"):
        reseal(path)
    shutil.copy(first, middle)
    assert reseal(path) == [middle.name]
    with pytest.raises(CheckpointError, match="begins at row 0 of .*, expected 3.*there twice"):
        load(path).tensors("optimizer")
    for file, num, rows, message in (
        (middle, 3, Rows(3, 3, 6), "of a tensor exp_avg/words of 6 rows.* two checkpoints"),
        (middle, 1, Rows(3, 1, 7), "begins at row 6 of exp_avg/words, expected 4.* missing"),
        (last, 0, Rows(4, 0, 7), "ends at row 4 of exp_avg/words, which has 7"),
        (last, 3, Rows(6, 3, 7), "optimizer-00003.*rows 6 and on of 7"),
    ):
        own = {name: tensors[name][:num]} if num else {}
        save_file(own, file, metadata_of({name: rows} if num else {}))
        reseal(path)
        with pytest.raises(CheckpointError, match=message):
            load(path).tensors("optimizer")


def test_a_piece_that_another_machine_wrote_elsewhere(tmp_path: Path) -> None:
    """A folder that the ranks do not share: nothing is given the checkpoint's name."""
    draft = Draft(tmp_path / "one", 1)
    elsewhere = Draft(tmp_path / "other", 1)
    draft.open(0)
    elsewhere.open(0)
    entries = elsewhere.write(TENSORS, {}, (1, 2))
    with pytest.raises(CheckpointError, match="not in this rank's folder"):
        draft.commit({}, entries=entries, pieces={"model": ["model-00002-of-00002.safetensors"]})
    draft.discard()
    assert list((tmp_path / "one").iterdir()) == []
