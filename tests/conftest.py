"""What every test shares: data beside the checkout, and marks that skip with a reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import hypothesis
import pytest
import torch

# On a busy machine any example can take long; pytest-timeout bounds the whole test.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and say why, what this machine cannot run."""
    absent = {}
    if not torch.cuda.is_available():
        absent["gpu"] = "needs a CUDA device"
    if importlib.util.find_spec("fastBPE") is None:
        absent["fastbpe"] = "needs the compiled fastBPE package"
    for item in items:
        for mark, reason in absent.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Local data and golden figures in a folder beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder 'shared' beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def debug_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What recipes/debug/prepare.yaml prepares, for every recipe of that folder."""
    from xlm.config.cli import parse
    from xlm.prepare import Prepare, prepare

    folder = tmp_path_factory.mktemp("debug") / "data"
    recipe = ROOT / "recipes/debug/prepare.yaml"
    prepare(parse(Prepare, "prepare", [f"--config={recipe}", f"--folder={folder}"]))
    return folder
