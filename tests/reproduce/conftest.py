"""A study on the corpus that ships, prepared once, and one that is run to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xlm.reproduce import Reproduce, reproduce
from xlm.reproduce.text import StudyText, open_text


def settings(folder: Path, **changed: Any) -> Reproduce:
    """Return the smallest study: the paper's rows, one seed, one shifted model, one larger size."""
    few: dict[str, Any] = {
        "seeds": [0], "old_seeds": [], "shifted_seeds": [0], "sentences": 40, "sizes": [60],
    }  # fmt: skip
    return Reproduce(study="nepali", folder=str(folder), quick=True, **{**few, **changed})


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduce, dict[str, Any]]:
    """The smallest study at its end, and its figures."""
    config = settings(tmp_path_factory.mktemp("study"))
    return config, reproduce(config)


@pytest.fixture(scope="session")
def text(study: tuple[Reproduce, dict[str, Any]]) -> StudyText:
    return open_text(study[0])
