"""Write focus.json: rows that the package ``deepfocus`` (1.0.1, Apache-2.0) gives to new pieces.

    python -m venv focus && focus/bin/pip install torch transformers datasets
    focus/bin/pip install tqdm entmax fastdist print-on-steroids
    focus/bin/pip install --no-deps deepfocus==1.0.1
    focus/bin/python tests/golden/make_focus.py

The package's function for mixtures is called on drawn vectors. fastText, which needs a compiler,
only learns vectors there and is stood in for.
"""

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.modules["fasttext"] = types.ModuleType("fasttext")
from deepfocus.focus import focus_additional_token_initialization  # noqa: E402

NUM_ANCHORS, NUM_NEW, WIDTH, DIM = 12, 5, 8, 4


def main() -> None:
    """Write the file."""
    random = np.random.RandomState(16)
    vectors = random.standard_normal((NUM_ANCHORS + NUM_NEW, WIDTH)).astype(np.float32)
    table = random.standard_normal((NUM_ANCHORS, DIM)).astype(np.float32)
    anchors = {
        str(at): types.SimpleNamespace(
            auxiliary_embedding=vectors[at], source_embedding=torch.from_numpy(table[at])
        )
        for at in range(NUM_ANCHORS)
    }
    new = {
        str(at): types.SimpleNamespace(
            auxiliary_embedding=vectors[NUM_ANCHORS + at], target=types.SimpleNamespace(id=at)
        )
        for at in range(NUM_NEW)
    }
    rows = focus_additional_token_initialization(anchors, new, torch.zeros(NUM_NEW, DIM), "cpu")
    found = {"vectors": vectors.tolist(), "table": table.tolist(), "rows": rows.tolist()}
    Path(__file__).with_name("focus.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
