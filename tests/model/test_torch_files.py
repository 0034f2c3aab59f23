"""Foreign torch files: equal to what torch itself reads, and nothing of them is ever run."""

import argparse

import numpy as np
import pytest
import torch

from xlm.model.torch_files import read_torch_file

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def save(content, path, is_zip=True, protocol=2):
    torch.save(content, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    return path


@FORMATS
def test_reads_what_torch_reads(tmp_path, is_zip):
    weight = torch.arange(12.0).reshape(3, 4)
    content = {
        "weight": weight,
        "tied": weight.t()[1:],
        "array": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "scalar": np.float64(0.5),
        "params": argparse.Namespace(emb_dim=4, pairs={("en", "fr"): [None, True]}),
        "state": torch.nn.Linear(2, 2).state_dict(),
    }
    found = read_torch_file(save(content, tmp_path / "f.pth", is_zip))
    assert found.keys() == content.keys()
    assert torch.equal(found["weight"], weight) and torch.equal(found["tied"], weight.t()[1:])
    assert found["tied"].data_ptr() == found["weight"].data_ptr() + 4
    assert found["array"].dtype == np.uint16 and (found["array"] == content["array"]).all()
    assert found["scalar"] == 0.5
    assert found["params"] == content["params"]
    assert all(torch.equal(found["state"][k], v) for k, v in content["state"].items())
